//! `leakscope hunt` on leakers that a person would start by hand, with the kernel side at work.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use leakscope_tests::command::{
    Ran, Terminal, Workload, file, folder, leakscope, pause, require_root, run, suspect,
};
use serde_json::Value;

/// 10 KB, five times a second, kept for ever: 51.2 KB/s.
const PYTHON_LEAK: &str =
    "import time\nkept = []\nwhile True:\n    kept.append('x' * 10240)\n    time.sleep(0.2)\n";
/// Twelve workers, each of which keeps 64 KB every six seconds: too seldom to be told alone in a minute. They end with their
/// parent.
const PYTHON_WORKERS: &str = r"
import ctypes, os, signal, time
for worker in range(12):
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        kept = []
        time.sleep(worker * 0.5)
        while True:
            kept.append(b'x' * 65536)
            time.sleep(6)
print('started', flush=True)
signal.pause()
";
const PYTHON_QUIET: &str = "import time\nwhile True:\n    time.sleep(60)\n";
/// A quarter of a megabyte, four times a second: about 1.05 MB/s, enough to stand out of V8's own young generation.
const NODE_LEAK: &str = "const kept = [];\nsetInterval(() => kept.push(Buffer.alloc(262144, 1)), 250);\n";
const C_LEAK: &str = r"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    for (;;) {
        char *kept = malloc(20480);
        if (kept) memset(kept, 1, 20480);
        usleep(200000);
    }
}
";
/// Grows for three seconds and then stays: a warm-up.
const C_WARM_UP: &str = r"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    for (int i = 0; i < 30; i++) {
        char *kept = malloc(200000);
        if (kept) memset(kept, 1, 200000);
        usleep(100000);
    }
    for (;;) pause();
}
";

/// Hunts for the first confirmed leak among `pids` and leaves it alone.
fn hunt(pids: &[String], more: &[&str]) -> Ran {
    let mut args = vec!["hunt", "--json", "--no-report", "--confirm", "10s", "--timeout", "60s"];
    for pid in pids {
        args.extend(["--pid", pid]);
    }
    args.extend(more);
    run(&args)
}

/// What every confirmed leak must carry when the kernel side is at work.
fn assert_proven(hunt: &Value, pid: u32) -> &Value {
    assert_eq!(hunt["schema"], "leakscope.hunt/1");
    assert_eq!(hunt["source"], "ebpf");
    assert_eq!(hunt["verdict"], "leak", "{hunt:#}");
    let found = suspect(hunt, pid).unwrap_or_else(|| panic!("pid {pid} is no suspect: {hunt:#}"));
    assert_eq!(found["verdict"], "leaking", "{found:#}");
    assert_eq!(found["confirmed"], true, "{found:#}");
    assert!(found["kernel"]["page_faults"].as_u64().expect("measured") > 10, "{found:#}");
    let explained = found["kernel"]["explained"].as_f64().expect("measured");
    assert!((0.8..=1.0).contains(&explained), "explained {explained}: {found:#}");
    assert!(!found["reasons"].as_array().expect("measured").is_empty(), "{found:#}");
    found
}

fn assert_rate(found: &Value, expected: f64, tolerance: f64) {
    let rate = found["rate_bytes_per_s"].as_f64().expect("measured");
    assert!((rate - expected).abs() <= tolerance * expected, "rate {rate}, expected {expected}: {found:#}");
}

#[test]
fn a_leaking_python_service_is_named_and_its_look_alike_is_not() {
    require_root();
    let leaker = Workload::python("service.py", PYTHON_LEAK);
    let quiet = Workload::python("service.py", PYTHON_QUIET);
    let ran = hunt(&[leaker.pid_text(), quiet.pid_text()], &[]);
    assert_eq!(ran.code(), 1, "found and left alone\n{}", ran.stderr);
    let json = ran.json();
    assert_rate(assert_proven(&json, leaker.pid()), 51_200.0, 0.1);
    assert!(suspect(&json, quiet.pid()).is_none(), "{json:#}");
}

#[test]
fn workers_that_leak_too_slowly_to_be_told_alone_are_told_together_and_nobody_is_killed() {
    require_root();
    let mut parent = Workload::python("twelve_workers.py", PYTHON_WORKERS);
    parent.wait_for_line();
    let report = parent.folder().join("report.txt").display().to_string();
    let ran = run(&[
        "hunt",
        "--json",
        "--confirm",
        "15s",
        "--timeout",
        "90s",
        "--kill",
        "--yes",
        "--cmd",
        "twelve_workers.py",
        "--report",
        &report,
    ]);
    assert_eq!(ran.code(), 1, "found and left alone\n{}", ran.stderr);
    let json = ran.json();
    assert_eq!(json["verdict"], "leak", "{json:#}");
    let services = json["services"].as_array().unwrap();
    let service =
        services.iter().find(|service| service["confirmed"] == true).unwrap_or_else(|| panic!("{json:#}"));
    assert_eq!(service["parent_pid"], parent.pid(), "{json:#}");
    assert_eq!(service["processes"], 12, "{json:#}");
    assert_rate(service, 12.0 * 65_536.0 / 6.0, 0.25);
    assert_eq!(json["actions"].as_array().unwrap().len(), 0, "a service is not killed: {json:#}");
    assert!(parent.lives());
    let report = std::fs::read_to_string(report).unwrap();
    assert!(
        report.contains("workers of one service") && report.contains("Nothing was done about"),
        "{report}"
    );
}

#[test]
fn a_leaking_node_program_is_named() {
    require_root();
    let leaker = Workload::node("server.js", NODE_LEAK);
    let quiet = Workload::node("server.js", "setInterval(() => {}, 60000);\n");
    let ran = hunt(&[leaker.pid_text(), quiet.pid_text()], &[]);
    let json = ran.json();
    assert_rate(assert_proven(&json, leaker.pid()), 1_048_576.0, 0.1);
    assert!(suspect(&json, quiet.pid()).is_none(), "{json:#}");
}

#[test]
fn a_leaking_c_program_is_named() {
    require_root();
    let leaker = Workload::c("leaker", C_LEAK);
    let ran = hunt(&[leaker.pid_text()], &[]);
    let json = ran.json();
    let found = assert_proven(&json, leaker.pid());
    assert_rate(found, 102_400.0, 0.1);
    let brk =
        found["kernel"]["brk_bytes"].as_u64().expect("the heap grows by brk, seen while it was a suspect");
    assert!(brk > 0, "{found:#}");
}

#[test]
fn a_leak_is_found_without_the_kernel_side_and_says_what_was_not_measured() {
    let leaker = Workload::python("service.py", PYTHON_LEAK);
    let ran = hunt(&[leaker.pid_text()], &["--source", "procfs"]);
    let json = ran.json();
    assert_eq!(json["source"], "procfs");
    let found = suspect(&json, leaker.pid()).unwrap_or_else(|| panic!("{json:#}"));
    assert_eq!(found["confirmed"], true, "{found:#}");
    assert_rate(found, 51_200.0, 0.1);
    assert!(found["kernel"]["page_faults"].is_null(), "nothing counted faults: {found:#}");
}

#[test]
fn a_warm_up_that_ends_is_not_a_leak() {
    require_root();
    let warm = Workload::c("warm", C_WARM_UP);
    let ran = run(&[
        "hunt",
        "--json",
        "--no-report",
        "--confirm",
        "10s",
        "--timeout",
        "20s",
        "--pid",
        &warm.pid_text(),
    ]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let json = ran.json();
    assert_eq!(json["verdict"], "clean", "{json:#}");
}

#[test]
fn a_hunt_that_may_kill_ends_the_leaker_and_leaves_the_look_alike() {
    require_root();
    let mut leaker = Workload::python("service.py", PYTHON_LEAK);
    let mut quiet = Workload::python("service.py", PYTHON_QUIET);
    let folder = folder();
    let report = folder.path().join("report.md");
    let ran = run(&[
        "hunt",
        "--json",
        "--confirm",
        "10s",
        "--kill",
        "--yes",
        "--grace",
        "5s",
        "--pidfile",
        &file(folder.path(), "leaky.pid", &leaker.pid_text()),
        "--report",
        report.to_str().unwrap(),
    ]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let json = ran.json();
    let action = &json["actions"][0];
    assert_eq!(action["outcome"], "killed", "{action:#}");
    assert_eq!(action["pid"], leaker.pid());
    assert_eq!(action["exit"], "signal 15", "{action:#}");
    assert!(action["checks"].as_array().unwrap().iter().all(|check| check["passed"] == true), "{action:#}");
    let bystander = action["bystanders"]
        .as_array()
        .unwrap()
        .iter()
        .find(|bystander| bystander["pid"] == quiet.pid())
        .unwrap_or_else(|| panic!("the look-alike, which nobody selected, is no bystander: {action:#}"));
    assert_eq!((&bystander["alive"], &bystander["same_process"]), (&Value::Bool(true), &Value::Bool(true)));
    assert!(!leaker.lives());
    assert!(quiet.lives());
    let text = std::fs::read_to_string(&report).unwrap();
    let headings: Vec<_> =
        ["Summary", "Impact", "Timeline", "Root Cause", "Identification", "Resolution", "Prevention"]
            .iter()
            .map(|heading| text.find(heading).unwrap_or_else(|| panic!("no {heading} in\n{text}")))
            .collect();
    assert!(headings.is_sorted(), "{text}");
    let signal = text.find("SIGTERM was sent to").unwrap_or_else(|| panic!("no signal in\n{text}"));
    assert!(text.find("leak confirmed").expect("in the timeline") < signal, "{text}");
    assert!(text.contains("right before the signal"), "memory was not measured around it:\n{text}");
    let memory = &action["memory"];
    assert!(memory["host_available_after_bytes"].as_u64() > Some(0), "{memory:#}");
    let names: Vec<_> = action["checks"].as_array().unwrap().iter().map(|check| &check["check"]).collect();
    for name in ["death", "memory", "bystanders", "exit-event"] {
        assert!(names.iter().any(|check| *check == name), "no check {name}: {action:#}");
    }
}

#[test]
fn a_yes_that_takes_half_a_minute_still_kills_what_still_leaks() {
    require_root();
    let mut leaker = Workload::python("service.py", PYTHON_LEAK);
    let mut terminal = Terminal::open();
    let child = leakscope()
        .args(["hunt", "--json", "--no-report", "--confirm", "8s", "--timeout", "5m", "--kill"])
        .args(["--pid", &leaker.pid_text()])
        .stdin(terminal.line())
        .stderr(terminal.line())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    terminal.wait_for("[y/N]");
    pause(Duration::from_secs(35));
    terminal.type_in("y\n");
    let ran: Ran = child.wait_with_output().unwrap().into();
    let json = ran.json();
    assert_eq!(json["actions"][0]["outcome"], "killed", "{json:#}");
    assert_eq!(ran.code(), 0);
    assert!(!leaker.lives());
}

#[test]
fn a_leak_that_waits_for_the_grace_of_another_one_is_killed_after_it() {
    require_root();
    // Deaf to SIGTERM, so that all of its grace goes by; the other one gives up root before it is confirmed.
    let deaf = format!("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{PYTHON_LEAK}");
    let dropping = PYTHON_LEAK.replace(
        "    kept.append",
        "    if len(kept) == 38:\n        import os; os.setuid(65534)\n    kept.append",
    );
    let mut first = Workload::python("deaf.py", &deaf);
    let mut second = Workload::python("dropping.py", &dropping);
    let mut args = vec!["hunt", "--json", "--no-report", "--all", "--kill", "--yes", "--confirm", "10s"];
    let (one, other) = (first.pid_text(), second.pid_text());
    args.extend(["--grace", "20s", "--timeout", "2m", "--pid", &one, "--pid", &other]);
    let ran = run(&args);
    let json = ran.json();
    for workload in [&first, &second] {
        let actions = json["actions"].as_array().unwrap();
        let action = actions.iter().find(|action| action["pid"] == workload.pid());
        assert_eq!(action.map(|action| &action["outcome"]), Some(&Value::from("killed")), "{json:#}");
    }
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(!first.lives() && !second.lives());
}

#[test]
fn a_leak_that_becomes_another_program_does_not_remain() {
    require_root();
    let leaves = "import os, time\nkept = []\nfor _ in range(85):\n    kept.append('x' * 20480)\n    time.sleep(0.2)\nos.execvp('sleep', ['sleep', '1000'])\n";
    let mut leaker = Workload::python("leaves.py", leaves);
    let ran = run(&[
        "hunt",
        "--json",
        "--no-report",
        "--all",
        "--confirm",
        "8s",
        "--timeout",
        "25s",
        "--pid",
        &leaker.pid_text(),
    ]);
    assert_eq!(ran.json()["verdict"], "leak", "{}", ran.stdout);
    assert!(ran.stderr.contains("became another program"), "{}", ran.stderr);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(leaker.lives());
}

#[test]
fn a_protected_leaker_is_refused_by_name_and_lives() {
    require_root();
    let mut leaker = Workload::python("precious.py", PYTHON_LEAK);
    let folder = folder();
    let pidfile = file(folder.path(), "precious.pid", &leaker.pid_text());
    let ran = run(&[
        "hunt",
        "--json",
        "--no-report",
        "--confirm",
        "10s",
        "--kill",
        "--yes",
        "--pid",
        &leaker.pid_text(),
        "--protect-pidfile",
        &pidfile,
    ]);
    assert_eq!(ran.code(), 1, "{}", ran.stderr);
    let json = ran.json();
    assert_eq!(json["actions"][0]["outcome"], "refused", "{json:#}");
    assert!(leaker.lives());
}

#[test]
fn a_dry_run_checks_everything_and_signals_nobody() {
    require_root();
    let mut leaker = Workload::python("service.py", PYTHON_LEAK);
    let ran = run(&[
        "hunt",
        "--json",
        "--no-report",
        "--confirm",
        "10s",
        "--kill",
        "--yes",
        "--dry-run",
        "--pid",
        &leaker.pid_text(),
    ]);
    assert_eq!(ran.code(), 1, "{}", ran.stderr);
    assert_eq!(ran.json()["actions"][0]["outcome"], "dry-run");
    assert!(leaker.lives());
}

#[test]
fn ctrl_c_in_the_grace_stops_the_escalation_and_the_process_lives() {
    require_root();
    let deaf = format!("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{PYTHON_LEAK}");
    let mut leaker = Workload::python("deaf.py", &deaf);
    let mut child = leakscope()
        .args(["hunt", "--json", "--no-report", "--confirm", "8s", "--kill", "--yes", "--grace", "60s"])
        .args(["--pid", &leaker.pid_text()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("leak confirmed") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "no leak was confirmed");
    }
    pause(Duration::from_secs(2));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ran.code(), 2, "{}", ran.stdout);
    let json = ran.json();
    let action = &json["actions"][0];
    assert_eq!(action["outcome"], "failed", "{json:#}");
    assert_eq!(action["signal"], "SIGTERM", "what was sent is said: {action:#}");
    assert!(action["detail"].as_str().unwrap().contains("interrupted after SIGTERM"), "{action:#}");
    assert!(action["checks"].as_array().unwrap().len() > 5, "what was checked is said: {action:#}");
    assert!(leaker.lives(), "SIGKILL followed an interruption");
}

#[test]
fn a_leaker_that_ends_by_itself_leaves_nothing_leaking() {
    require_root();
    let short =
        "import time\nkept = []\nfor _ in range(80):\n    kept.append('x' * 20480)\n    time.sleep(0.2)\n";
    let leaker = Workload::python("short.py", short);
    let ran =
        run(&["hunt", "--json", "--no-report", "--all", "--confirm", "8s", "--pid", &leaker.pid_text()]);
    let json = ran.json();
    assert_eq!(json["verdict"], "leak", "{json:#}");
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("ended by itself"), "{}", ran.stderr);
}

#[test]
fn a_leaker_that_its_keeper_starts_again_is_reported_with_its_new_pid() {
    require_root();
    let folder = folder();
    file(folder.path(), "service.py", PYTHON_LEAK);
    file(folder.path(), "keeper.sh", "while :; do python3 service.py & echo $! > pid; wait; sleep 1; done\n");
    let mut command = Command::new("sh");
    command.arg("keeper.sh").current_dir(folder.path());
    let keeper = Workload::start(command, folder);
    let pidfile = keeper.folder().join("pid");
    pause(Duration::from_secs(1));
    let first = std::fs::read_to_string(&pidfile).unwrap().trim().to_owned();
    let ran = run(&["hunt", "--json", "--no-report", "--confirm", "8s", "--kill", "--yes", "--pid", &first]);
    let second = std::fs::read_to_string(&pidfile).unwrap().trim().to_owned();
    let newcomer = std::fs::read(format!("/proc/{second}/cmdline")).unwrap_or_default();
    drop(keeper);
    // The keeper is gone; what it started last is this test's to end, by the pid that it wrote.
    let _ = Command::new("kill").arg(&second).status();
    let json = ran.json();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert_eq!(json["actions"][0]["respawned_as"].to_string(), second, "{json:#}");
    assert!(newcomer.ends_with(b"service.py\0"), "the newcomer is alive: {newcomer:?}");
}
