//! `leakscope kill` where it may not, cannot, or must not: each time the right reason is told and nobody is signalled.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use leakscope_tests::bystander::Bystander;
use leakscope_tests::command::{Ran, Workload, file, folder, leakscope, require_root, run};

const QUIET: &str = "import time\nprint('ready', flush=True)\nwhile True:\n    time.sleep(60)\n";

/// A victim and a bystander, both of which must be there at the end.
struct Pair {
    victim: Bystander,
    twin: Bystander,
}

impl Pair {
    fn start() -> Self {
        let start = || {
            let mut workload = Workload::python("app.py", QUIET);
            assert_eq!(workload.wait_for_line(), "ready");
            workload
        };
        let (victim, twin) = (start(), start());
        let (its, own) = (twin.pid(), victim.pid());
        Self { victim: Bystander::of(its, victim), twin: Bystander::of(own, twin) }
    }

    fn victim(&self) -> String {
        self.victim.pid().to_string()
    }

    fn assert_nobody_was_hurt(&mut self) {
        self.victim.assert_unhurt();
        self.twin.assert_unhurt();
    }
}

/// Runs a shell script in a mount namespace of its own, with a leakscope that everybody may run as $0 and then `arguments`.
fn run_apart(script: &str, arguments: &[&str]) -> Ran {
    require_root();
    let folder = folder();
    let lent = folder.path().join("leakscope");
    std::fs::copy(leakscope().get_program(), &lent).expect("leakscope can be lent");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("leakscope can be lent");
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-e", "-c", script]).arg(&lent).args(arguments);
    let ran: Ran = command.stdin(Stdio::null()).output().expect("unshare (util-linux) runs").into();
    ran.assert_no_panic();
    ran
}

const AS_NOBODY: &str = "exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$0\" \"$@\"";

fn assert_says(ran: &Ran, names: &[&str]) {
    for name in names {
        assert!(ran.stderr.contains(name), "no `{name}` in: {}", ran.stderr);
    }
}

#[test]
fn a_process_that_hidepid_hides_is_not_said_to_have_ended() {
    let mut pair = Pair::start();
    let folder = folder();
    let pidfile = file(folder.path(), "app.pid", &pair.victim());
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    for hidepid in [1, 2] {
        let script = format!("mount -t proc -o hidepid={hidepid} proc /proc; cd /; {AS_NOBODY}");
        for target in [&["kill", &pair.victim()][..], &["kill", "--pidfile", &pidfile]] {
            let ran = run_apart(&script, target);
            assert_eq!(ran.code(), 2, "{hidepid}, {target:?}: {}", ran.stderr);
            assert_says(&ran, &["error:", &pair.victim(), "fix:", "hidepid"]);
            assert!(!ran.stderr.contains("no such process"), "{}", ran.stderr);
        }
    }
    pair.assert_nobody_was_hurt();
}

#[test]
fn a_process_of_somebody_else_is_not_signalled_and_what_is_missing_is_named() {
    let mut pair = Pair::start();
    // Somebody without any privilege, and a root that gave up the right to signal others' processes.
    let ran = run_apart(AS_NOBODY, &["kill", "--json", &pair.victim()]);
    assert_eq!(ran.json()["outcome"], "failed", "{}", ran.stdout);
    assert!(ran.json()["remedy"].as_str().unwrap().contains("CAP_KILL"), "{}", ran.stdout);
    assert_eq!(ran.json()["signals"].as_array().unwrap().len(), 0, "{}", ran.stdout);
    assert_eq!(ran.code(), 2, "a privilege is missing: {}", ran.stdout);
    pair.assert_nobody_was_hurt();
}

#[test]
fn a_root_without_the_right_to_signal_is_told_so() {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--clear-groups", "sleep", "1000"]);
    let mut other = Workload::start(command, folder());
    let pid = other.pid_text();
    let sleeps = || std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n");
    leakscope_tests::command::wait_until("sleep", sleeps);
    let script = "exec setpriv --inh-caps=-kill --bounding-set=-kill \"$0\" \"$@\"";
    let ran = run_apart(script, &["kill", "--json", &pid]);
    let json = ran.json();
    assert_eq!(json["outcome"], "failed", "{json:#}");
    assert!(json["remedy"].as_str().unwrap().contains("CAP_KILL"), "{json:#}");
    assert_eq!((json["signal"].is_null(), ran.code()), (true, 2), "{json:#}");
    assert!(other.lives());
}

#[test]
fn a_pid_file_that_is_older_than_the_process_it_names_kills_nobody() {
    let mut pair = Pair::start();
    let folder = folder();
    let pidfile = file(folder.path(), "app.pid", &pair.victim());
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options().write(true).open(&pidfile).unwrap().set_modified(long_ago).unwrap();
    for command in [&["kill", "--pidfile", &pidfile][..], &["hunt", "--no-report", "--pidfile", &pidfile]] {
        let ran = run(command);
        assert_eq!(ran.code(), 2, "{}", ran.stderr);
        assert_says(&ran, &["error:", &pidfile, "stale", "after the file was written", "fix:"]);
    }
    // A process under protection by such a file is not known; whoever may be it is not killed.
    let ran = run(&["kill", "--json", "--protect-pidfile", &pidfile, &pair.victim()]);
    assert_eq!((ran.json()["outcome"].as_str(), ran.code()), (Some("refused"), 1), "{}", ran.stdout);
    pair.assert_nobody_was_hurt();
}

#[test]
fn what_a_protected_pid_file_names_is_not_killed_by_the_same_file() {
    let mut pair = Pair::start();
    let folder = folder();
    let pidfile = file(folder.path(), "app.pid", &pair.victim());
    let ran = run(&["kill", "--json", "--protect-pidfile", &pidfile, "--pidfile", &pidfile]);
    let json = ran.json();
    assert_eq!((json["outcome"].as_str(), ran.code()), (Some("refused"), 1), "{json:#}");
    assert!(json["detail"].as_str().unwrap().contains("names it"), "{json:#}");
    pair.assert_nobody_was_hurt();
}
