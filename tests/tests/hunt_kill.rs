//! `leakscope hunt --kill` where more than one process, or another one, could be killed: each time exactly the leaker dies,
//! and only while it leaks.

use std::process::{Command, Stdio};
use std::time::Duration;

use leakscope_tests::bystander::Bystander;
use leakscope_tests::command::{
    Ran, Terminal, Workload, file, folder, leakscope, passed, pause, require_root, run,
};
use serde_json::Value;

/// 20 KB, five times a second, kept for ever, until there is a file `stop`; without growth where there is one already.
const SERVICE: &str = "import os, time\nkept = []\nprint('ready', flush=True)\nwhile True:\n    \
                       if not os.path.exists('stop'):\n        kept.append('x' * 20480)\n    time.sleep(0.2)\n";

/// A service that leaks, or one that looks just like it and does not.
fn service(leaks: bool) -> Workload {
    let folder = folder();
    file(folder.path(), "service.py", SERVICE);
    if !leaks {
        file(folder.path(), "stop", "");
    }
    let mut command = Command::new("python3");
    command.arg("service.py").current_dir(folder.path());
    let mut workload = Workload::start(command, folder);
    assert_eq!(workload.wait_for_line(), "ready");
    workload
}

fn action(hunt: &Value, pid: u32) -> Option<&Value> {
    hunt["actions"].as_array()?.iter().find(|action| action["pid"] == pid)
}

const KILL: [&str; 7] = ["hunt", "--json", "--no-report", "--kill", "--yes", "--confirm", "10s"];

#[test]
fn of_two_leakers_both_are_killed_one_after_the_other_and_the_look_alike_lives() {
    require_root();
    let (mut one, mut other) = (service(true), service(true));
    let mut twin = Bystander::of(one.pid(), service(false));
    let pids = [one.pid_text(), other.pid_text(), twin.pid().to_string()];
    let mut arguments = KILL.to_vec();
    arguments.extend(["--all", "--timeout", "40s"]);
    pids.iter().for_each(|pid| arguments.extend(["--pid", pid]));
    let ran = run(&arguments);
    let json = ran.json();
    assert_eq!(ran.code(), 0, "{json:#}");
    assert_eq!(json["actions"].as_array().unwrap().len(), 2, "{json:#}");
    let mut spans = Vec::new();
    for leaker in [&mut one, &mut other] {
        let action = action(&json, leaker.pid()).unwrap_or_else(|| panic!("{json:#}"));
        assert_eq!(action["outcome"], "killed", "{action:#}");
        assert!(passed(action, "identity") && passed(action, "death"), "{action:#}");
        // Of all Python programs of the host some may have ended by themselves meanwhile.
        let followed = action["bystanders"].as_array().unwrap();
        assert!(followed.iter().any(|who| who["pid"] == twin.pid() && who["same_process"] == true));
        let at = |value: &Value| format!("{:0<29}", value.as_str().unwrap().trim_end_matches('Z'));
        spans.push((at(&action["signals"][0]["at"]), at(&action["died_at"])));
        assert!(!leaker.lives());
    }
    spans.sort();
    assert!(
        spans[0].1 < spans[1].0,
        "the second was signalled before the first was known to be dead: {spans:?}"
    );
    twin.assert_unhurt();
}

#[test]
fn of_two_leakers_one_is_killed_where_not_all_are_asked_for() {
    require_root();
    let (mut one, mut other) = (service(true), service(true));
    let mut twin = Bystander::of(one.pid(), service(false));
    let pids = [one.pid_text(), other.pid_text(), twin.pid().to_string()];
    let mut arguments = KILL.to_vec();
    arguments.extend(["--timeout", "40s"]);
    pids.iter().for_each(|pid| arguments.extend(["--pid", pid]));
    let json = run(&arguments).json();
    let [action] = &json["actions"].as_array().unwrap()[..] else { panic!("{json:#}") };
    assert_eq!(action["outcome"], "killed", "{action:#}");
    let (victim, survivor) =
        if action["pid"] == one.pid() { (&mut one, &mut other) } else { (&mut other, &mut one) };
    assert_eq!(action["pid"], victim.pid(), "{action:#}");
    assert!(!victim.lives() && survivor.lives());
    twin.assert_unhurt();
}

#[test]
fn the_pid_file_of_a_healthy_service_leads_to_nobody_s_death() {
    require_root();
    let mut leaker = service(true);
    let mut healthy = Bystander::of(leaker.pid(), service(false));
    let folder = folder();
    let pidfile = file(folder.path(), "service.pid", &healthy.pid().to_string());
    let mut arguments = KILL.to_vec();
    arguments.extend(["--timeout", "25s", "--pidfile", &pidfile]);
    let ran = run(&arguments);
    let json = ran.json();
    assert_eq!((json["verdict"].as_str(), ran.code()), (Some("clean"), 0), "{json:#}");
    assert_eq!(json["actions"].as_array().unwrap().len(), 0, "{json:#}");
    assert!(leaker.lives(), "it was not asked for");
    healthy.assert_unhurt();
}

#[test]
fn a_leak_that_stops_shortly_before_it_is_confirmed_is_not_killed() {
    require_root();
    let mut leaker = service(true);
    let mut twin = Bystander::of(leaker.pid(), service(false));
    let pid = leaker.pid_text();
    let mut arguments = KILL[..5].to_vec();
    arguments.extend(["--confirm", "15s", "--timeout", "45s", "--all", "--pid", &pid]);
    let mut command = leakscope();
    command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("leakscope starts");
    pause(Duration::from_secs(12));
    file(leaker.folder(), "stop", "");
    let ran: Ran = child.wait_with_output().expect("leakscope ends").into();
    ran.assert_no_panic();
    let json = ran.json();
    assert!(ran.stderr.contains("now suspect"), "it was never seen: {}", ran.stderr);
    let killed = action(&json, leaker.pid()).is_some_and(|action| action["signal"].is_string());
    assert!(!killed && leaker.lives(), "{json:#}");
    twin.assert_unhurt();
}

#[test]
fn a_leak_that_stopped_while_somebody_thought_about_it_is_not_killed() {
    require_root();
    let mut leaker = service(true);
    let mut twin = Bystander::of(leaker.pid(), service(false));
    let mut terminal = Terminal::open();
    let child = leakscope()
        .args(["hunt", "--json", "--no-report", "--confirm", "8s", "--timeout", "5m", "--kill"])
        .args(["--pid", &leaker.pid_text()])
        .stdin(terminal.line())
        .stderr(terminal.line())
        .stdout(Stdio::piped())
        .spawn()
        .expect("leakscope starts");
    terminal.wait_for("[y/N]");
    file(leaker.folder(), "stop", "");
    pause(Duration::from_secs(30));
    terminal.type_in("y\n");
    let ran: Ran = child.wait_with_output().expect("leakscope ends").into();
    let json = ran.json();
    let action = action(&json, leaker.pid()).unwrap_or_else(|| panic!("{json:#}"));
    assert_eq!(
        (&action["outcome"], &action["signal"]),
        (&Value::from("refused"), &Value::Null),
        "{action:#}"
    );
    assert!(action["detail"].as_str().unwrap().contains("no longer"), "{action:#}");
    assert!(leaker.lives());
    twin.assert_unhurt();
}
