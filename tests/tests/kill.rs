//! `leakscope kill` on processes that these tests started.

use leakscope_tests::command::{Workload, file, folder, run};

const QUIET: &str = "import time\nprint('ready', flush=True)\nwhile True:\n    time.sleep(60)\n";
const DEAF: &str = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\nwhile True:\n    time.sleep(60)\n";

fn ready(name: &str, program: &str) -> Workload {
    let mut workload = Workload::python(name, program);
    assert_eq!(workload.wait_for_line(), "ready");
    workload
}

#[test]
fn a_kill_by_pid_file_is_verified_and_spares_the_look_alike() {
    let mut victim = ready("app.py", QUIET);
    let mut twin = ready("app.py", QUIET);
    let folder = folder();
    let pidfile = file(folder.path(), "app.pid", &victim.pid_text());
    let ran = run(&["kill", "--json", "--pidfile", &pidfile]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let json = ran.json();
    assert_eq!(json["outcome"], "killed", "{json:#}");
    assert_eq!(json["signal"], "SIGTERM");
    assert_eq!(json["escalated"], false);
    assert!(!victim.lives());
    assert!(twin.lives());
    let bystanders = json["bystanders"].as_array().unwrap();
    assert!(bystanders.iter().any(|bystander| bystander["pid"] == twin.pid()), "{json:#}");
}

#[test]
fn a_process_that_ignores_sigterm_is_killed_after_the_grace() {
    let mut deaf = ready("deaf.py", DEAF);
    let ran = run(&["kill", "--json", "--grace", "500ms", &deaf.pid_text()]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let json = ran.json();
    assert_eq!(
        (json["signal"].as_str(), json["escalated"].as_bool()),
        (Some("SIGKILL"), Some(true)),
        "{json:#}"
    );
    assert!(!deaf.lives());
}

#[test]
fn without_escalation_a_process_that_ignores_sigterm_lives_and_that_is_said() {
    let mut deaf = ready("deaf.py", DEAF);
    let ran = run(&["kill", "--json", "--grace", "500ms", "--no-escalate", &deaf.pid_text()]);
    assert_eq!(ran.code(), 1, "{}", ran.stderr);
    assert_eq!(ran.json()["outcome"], "failed");
    assert!(deaf.lives());
}

#[test]
fn init_kernel_threads_and_the_callers_ancestors_are_refused() {
    let own = std::process::id().to_string();
    for pid in ["1", "2", &own] {
        let ran = run(&["kill", "--json", "--dry-run", pid]);
        assert_eq!(ran.code(), 1, "pid {pid}: {}", ran.stderr);
        let json = ran.json();
        assert_eq!(json["outcome"], "refused", "pid {pid}: {json:#}");
        assert!(json["checks"].as_array().unwrap().iter().any(|check| check["passed"] == false), "{json:#}");
    }
}

#[test]
fn a_protected_command_line_is_refused() {
    let mut precious = ready("precious.py", QUIET);
    let ran = run(&["kill", "--json", "--protect", r"precious\.py$", &precious.pid_text()]);
    assert_eq!(ran.code(), 1, "{}", ran.stderr);
    assert_eq!(ran.json()["outcome"], "refused");
    assert!(precious.lives());
}
