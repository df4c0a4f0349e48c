//! Bad input and bad days: each gets a clear message or the obvious right behaviour, none a panic or half a file.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use leakscope_tests::command::{Ran, Workload, file, folder, leakscope, pause, require_root, run};

const QUIET: &str = "import time\nprint('ready', flush=True)\nwhile True:\n    time.sleep(60)\n";

/// Fails unless leakscope refused with status 2 and named all of this.
fn assert_refused(ran: &Ran, names: &[&str]) {
    assert_eq!(ran.code(), 2, "stdout: {}\nstderr: {}", ran.stdout, ran.stderr);
    for name in names {
        assert!(ran.stderr.contains(name), "no '{name}' in: {}", ran.stderr);
    }
}

/// Runs leakscope as a user without any privilege.
fn run_as_nobody(args: &[&str]) -> Ran {
    require_root();
    // The build folder may lie where nobody may look, so the binary is lent to them.
    let folder = folder();
    let lent = folder.path().join("leakscope");
    std::fs::copy(leakscope().get_program(), &lent).expect("leakscope can be lent and run");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("leakscope can be lent and run");
    let ran: Ran = std::process::Command::new(&lent)
        .args(args)
        .current_dir("/")
        .stdin(Stdio::null())
        .uid(65534)
        .gid(65534)
        .output()
        .expect("leakscope can be lent and run")
        .into();
    ran.assert_no_panic();
    ran
}

#[test]
fn a_regex_that_does_not_parse_is_shown_with_its_place() {
    assert_refused(
        &run(&["hunt", "--cmd", "cache_(service", "--no-report"]),
        &["cache_(service", "unclosed group"],
    );
    assert_refused(&run(&["kill", "1", "--protect", "["]), &["unclosed character class"]);
}

#[test]
fn an_interval_of_zero_is_refused_with_the_limits() {
    assert_refused(&run(&["watch", "--interval", "0"]), &["--interval", "100ms"]);
    assert_refused(&run(&["watch", "--duration", "0s"]), &["--duration"]);
    assert_refused(&run(&["hunt", "--confirm", "soon"]), &["--confirm", "10s"]);
}

#[test]
fn pid_files_that_cannot_be_meant_are_named_with_the_reason() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    let stale_pid = ended.id().to_string();
    ended.wait().unwrap();
    for (file, reason) in [
        (path("missing.pid"), "no such file"),
        (file(folder.path(), "empty.pid", ""), "empty"),
        (file(folder.path(), "words.pid", "cache service\n"), "no number"),
        (file(folder.path(), "zero.pid", "0\n"), "0"),
        (file(folder.path(), "negative.pid", "-1\n"), "-1"),
        (file(folder.path(), "stale.pid", &stale_pid), "no such process"),
        (folder.path().to_string_lossy().into_owned(), "not a regular file"),
    ] {
        let ran = run(&["kill", "--pidfile", &file]);
        assert_refused(&ran, &["error:", &file, reason]);
        let ran = run(&["hunt", "--no-report", "--source", "procfs", "--pidfile", &file]);
        assert_refused(&ran, &["error:", &file, reason]);
    }
}

#[test]
fn a_pid_that_nobody_has_is_an_error_and_not_a_clean_host() {
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    let pid = ended.id().to_string();
    ended.wait().unwrap();
    assert_refused(&run(&["hunt", "--no-report", "--source", "procfs", "--pid", &pid]), &[&pid, "fix:"]);
    assert_refused(&run(&["kill", &pid]), &[&pid, "fix:"]);
}

#[test]
fn a_report_that_cannot_be_written_is_said_before_the_hunt_begins() {
    let folder = folder();
    let missing = folder.path().join("no/such/folder/report.txt").to_string_lossy().into_owned();
    assert_refused(
        &run(&["hunt", "--source", "procfs", "--report", &missing]),
        &["error:", &missing, "fix:"],
    );
    let directory = folder.path().to_string_lossy().into_owned();
    assert_refused(
        &run(&["hunt", "--source", "procfs", "--report", &directory]),
        &["error:", &directory, "fix:"],
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn an_older_report_that_only_its_owner_may_move_is_said_before_the_hunt_begins() {
    let folder = folder();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let report = file(folder.path(), "report.txt", "root's\n");
    let ran = run_as_nobody(&["hunt", "--source", "procfs", "--timeout", "1s", "--report", &report]);
    assert_refused(&ran, &["error:", &report, "only the owner", "fix:"]);
    let own = folder.path().join("other.txt").to_string_lossy().into_owned();
    let ran = run_as_nobody(&["hunt", "--source", "procfs", "--timeout", "1s", "--report", &own]);
    assert_eq!(ran.code(), 0, "a name that is free is no reason to refuse: {}", ran.stderr);
}

#[test]
fn without_root_auto_falls_back_to_proc_and_says_what_is_lost() {
    let ran = run_as_nobody(&["watch", "--json", "--duration", "2s"]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("procfs"), "{}", ran.stderr);
    assert!(ran.stdout.lines().count() >= 2, "{}", ran.stdout);
}

#[test]
fn without_root_the_kernel_side_is_refused_with_the_capabilities_it_needs() {
    let ran = run_as_nobody(&["hunt", "--source", "ebpf", "--no-report"]);
    assert_refused(&ran, &["error:", "fix:", "CAP_BPF"]);
}

#[test]
fn without_root_doctor_still_says_what_is_missing() {
    let ran = run_as_nobody(&["doctor"]);
    // The kernel side does not work for them: that is what the status says.
    assert_eq!(ran.code(), 1, "{}", ran.stderr);
    assert!(ran.stdout.contains("CAP_BPF"), "{}", ran.stdout);
}

#[test]
fn for_root_doctor_shows_the_kernel_side_at_work_and_what_an_event_costs() {
    require_root();
    let ran = run(&["doctor", "--json"]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let json = ran.json();
    assert_eq!(json["source"], "ebpf");
    let items = json["items"].as_array().unwrap();
    let detail = |name: &str| {
        let item = items.iter().find(|item| item["item"].as_str().unwrap().trim() == name);
        let item = item.unwrap_or_else(|| panic!("no {name} in {json:#}"));
        assert_eq!(item["state"], "works", "{item:#}");
        item["detail"].as_str().unwrap()
    };
    assert!(detail("kernel side").contains("loaded and attached"));
    for tracepoint in ["kmem:rss_stat", "exceptions:page_fault_user"] {
        let detail = detail(tracepoint);
        let cost = detail.split(", ").find_map(|part| part.split_once(" ns an event")).map(|(ns, _)| ns);
        let cost: u64 = cost.unwrap_or_else(|| panic!("no cost in `{detail}`")).parse().unwrap();
        assert!((1..100_000).contains(&cost), "{detail}");
    }
}

#[test]
fn without_root_a_recording_by_the_kernel_side_leaves_no_empty_file() {
    let folder = folder();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let file = folder.path().join("host.leakscope").to_string_lossy().into_owned();
    assert_refused(&run_as_nobody(&["record", "-o", &file, "--source", "ebpf"]), &["error:", "CAP_BPF"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
}

/// Runs a shell script in a mount namespace of its own, with leakscope as $0.
fn run_apart(binary: &std::path::Path, script: &str) -> Ran {
    require_root();
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-e", "-c", script]).arg(binary);
    let ran: Ran = command.stdin(Stdio::null()).output().expect("unshare (util-linux) runs").into();
    ran.assert_no_panic();
    ran
}

#[test]
fn where_files_may_not_be_read_that_is_said_and_nobody_is_said_to_have_ended() {
    let folder = folder();
    let lent = folder.path().join("leakscope");
    std::fs::copy(leakscope().get_program(), &lent).expect("leakscope can be lent and run");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("leakscope can be lent and run");
    let ran = run_apart(
        &lent,
        "mount -t proc -o hidepid=1 proc /proc; cd /; exec setpriv --reuid=65534 --regid=65534 --clear-groups \
         \"$0\" watch --json --source procfs --interval 200ms --duration 3s",
    );
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let lines: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counts = |line: &serde_json::Value| {
        let causes = line["lost"].as_array().unwrap();
        let forbidden =
            causes.iter().find(|lost| lost["cause"].as_str().unwrap().contains("may not be read"));
        forbidden.map_or(0, |lost| lost["count"].as_u64().unwrap())
    };
    let (first, last) = (counts(&lines[0]), counts(lines.last().unwrap()));
    assert!(first > 3, "the host has more processes than that: {first}");
    assert!(
        last < 2 * first,
        "each counts once, not in each of {} samples: {first}, then {last}",
        lines.len()
    );
}

#[test]
fn where_tracefs_is_not_mounted_root_mounts_it_and_says_so() {
    let binary = leakscope().get_program().to_owned();
    let ran = run_apart(
        std::path::Path::new(&binary),
        "for place in /sys/kernel/debug/tracing /sys/kernel/tracing; do \
           while mountpoint -q $place; do umount $place; done; done; \
         exec \"$0\" watch --json --source ebpf --duration 1s",
    );
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("mounted it at /sys/kernel/tracing"), "{}", ran.stderr);
    assert!(ran.stdout.contains("leakscope.watch/1"), "{}", ran.stdout);
}

#[test]
fn a_reader_that_goes_away_ends_the_watch_quietly() {
    let mut child = leakscope()
        .args(["watch", "--json", "--source", "procfs", "--interval", "100ms", "--duration", "30s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let ran: Ran = child.wait_with_output().unwrap().into();
    ran.assert_no_panic();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("error").count(), 0, "{}", ran.stderr);
}

#[test]
fn ctrl_c_ends_a_watch_cleanly_with_status_0() {
    for source in ["procfs", "ebpf"] {
        let child = leakscope()
            .args(["watch", "--source", source])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        pause(Duration::from_secs(3));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let ran: Ran = child.wait_with_output().unwrap().into();
        assert_eq!(ran.code(), 0, "{source}: {}", ran.stderr);
        assert!(ran.stdout.contains("PID"), "{source}: {}", ran.stdout);
    }
}

#[test]
fn a_hunt_whose_processes_have_all_gone_ends_early() {
    let mut quiet = Workload::python("short.py", "import time\nprint('ready', flush=True)\ntime.sleep(3)\n");
    quiet.wait_for_line();
    let (began, _) = leakscope::source::now();
    let ran =
        run(&["hunt", "--no-report", "--source", "procfs", "--timeout", "10m", "--pid", &quiet.pid_text()]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let took = leakscope::source::now().0.since(began);
    assert!(took < Duration::from_secs(60), "it lived for 3 s, and the hunt for {took:?}");
}

#[test]
fn control_characters_of_a_command_line_do_not_reach_the_terminal() {
    let folder = folder();
    let name = "evil\u{1b}]0;owned\u{7}\n.py";
    std::fs::write(folder.path().join(name), QUIET).unwrap();
    let mut command = std::process::Command::new("python3");
    command.arg(name).current_dir(folder.path());
    let mut evil = Workload::start(command, folder);
    evil.wait_for_line();
    let ran = run(&["watch", "--source", "procfs", "--duration", "1s", "--pid", &evil.pid_text()]);
    assert!(ran.stdout.contains("evil"), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stdout.contains('\u{7}'), "{:?}", ran.stdout);
}

#[test]
fn results_that_find_no_room_are_a_failure_and_not_a_success() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full can be written");
    let mut command = leakscope();
    let ran: Ran = command
        .args(["watch", "--source", "procfs", "--json"])
        .stdin(Stdio::null())
        .stdout(full)
        .output()
        .expect("leakscope runs")
        .into();
    ran.assert_no_panic();
    assert_refused(&ran, &["standard output", "No space left"]);
}
