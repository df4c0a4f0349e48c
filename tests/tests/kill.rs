//! `leakscope kill` on processes that these tests started.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use leakscope::action::{KillOptions, Outcome, OutcomeKind, end};
use leakscope::process::{Identity, ProcRoot};
use leakscope::units::Pid;
use leakscope_tests::bystander::Bystander;
use leakscope_tests::command::{Workload, file, folder, require_root, run};

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
    let mut twin = Bystander::of(deaf.pid(), ready("deaf.py", DEAF));
    let ran = run(&["kill", "--json", "--grace", "500ms", &deaf.pid_text()]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let json = ran.json();
    assert_eq!(
        (json["signal"].as_str(), json["escalated"].as_bool()),
        (Some("SIGKILL"), Some(true)),
        "{json:#}"
    );
    assert!(!deaf.lives());
    twin.assert_unhurt();
}

#[test]
fn without_escalation_a_process_that_ignores_sigterm_lives_and_that_is_said() {
    let mut deaf = ready("deaf.py", DEAF);
    let mut twin = Bystander::of(deaf.pid(), ready("deaf.py", DEAF));
    let ran = run(&["kill", "--json", "--grace", "500ms", "--no-escalate", &deaf.pid_text()]);
    assert_eq!(ran.code(), 1, "{}", ran.stderr);
    assert_eq!(ran.json()["outcome"], "failed");
    assert!(deaf.lives());
    twin.assert_unhurt();
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

#[test]
fn the_kernel_s_exit_event_is_one_of_the_proofs() {
    require_root();
    let victim = ready("app.py", QUIET);
    let ran = run(&["kill", "--json", &victim.pid_text()]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let json = ran.json();
    let checks = json["checks"].as_array().unwrap();
    let event = checks.iter().find(|check| check["check"] == "exit-event");
    let event = event.unwrap_or_else(|| panic!("no exit event: {json:#}"));
    assert_eq!(event["passed"], true, "{json:#}");
    assert!(event["detail"].as_str().unwrap().contains("signal 15"), "{json:#}");
}

#[test]
fn a_service_that_its_keeper_starts_again_is_reported_with_its_new_pid() {
    let folder = folder();
    file(folder.path(), "app.py", QUIET);
    file(
        folder.path(),
        "keeper.sh",
        "for i in 1 2; do python3 app.py & echo $! > pid$i; wait; sleep 1; done\n",
    );
    let mut command = Command::new("sh");
    command.arg("keeper.sh").current_dir(folder.path());
    let mut keeper = Workload::start(command, folder);
    assert_eq!(keeper.wait_for_line(), "ready");
    let pid = |name: &str| std::fs::read_to_string(keeper.folder().join(name)).unwrap().trim().to_owned();
    let ran = run(&["kill", "--json", &pid("pid1")]);
    let second = pid("pid2");
    let newcomer = ProcRoot::default().identify(Pid(second.parse().unwrap()));
    // The keeper ends with what it started last.
    let _ = Command::new("kill").arg(&second).status();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert_eq!(ran.json()["respawned_as"].to_string(), second, "{}", ran.stdout);
    let newcomer = newcomer.expect("what is reported as the newcomer is there");
    assert!(!newcomer.zombie && newcomer.cmdline.ends_with(&["app.py".to_owned()]), "{newcomer:?}");
}

#[test]
fn memory_that_a_parent_still_holds_is_not_said_to_have_come_back() {
    const FORKED: &str = "import os, time\nheld = bytearray(b'x') * (768 << 20)\nif os.fork() == 0:\n    print(os.getpid(), flush=True)\ntime.sleep(1000)\n";
    // Others may free as much in the same half second, though hardly again and again.
    for attempt in 1.. {
        let mut parent = Workload::python("forked.py", FORKED);
        let child = parent.wait_for_line();
        let ran = run(&["kill", "--json", &child]);
        let json = ran.json();
        assert_eq!(json["outcome"], "killed", "{json:#}");
        assert_eq!(ran.code(), 0, "a death that is verified is no failure: {json:#}");
        let held = json["memory"]["footprint_before_bytes"].as_u64().unwrap();
        assert!(held > 700 << 20, "the child shares what its parent holds: {json:#}");
        let back = json["memory_returned_bytes"].as_u64().unwrap();
        let check =
            json["checks"].as_array().unwrap().iter().find(|check| check["check"] == "memory").unwrap();
        if check["passed"] == false && back < held / 2 {
            return;
        }
        assert!(attempt < 4, "{back} of {held} bytes are said to have come back: {json:#}");
    }
}

/// A process of the test's own; it does not outlive the test.
struct Spawned(Child);

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Spawned {
    fn sleep(change: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        Self(change(Command::new("sleep").arg("1000")).spawn().expect("sleep can be started"))
    }

    fn identity(&self) -> Identity {
        ProcRoot::default().identify(Pid(self.0.id())).expect("it was just started")
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().expect("a child can be waited for").is_none()
    }
}

async fn end_now(victim: &Identity, how: &KillOptions) -> Outcome {
    end(&ProcRoot::default(), victim, how, std::future::pending()).await
}

#[tokio::test]
async fn a_pid_that_is_used_again_is_not_the_process_that_had_it() {
    require_root();
    let last_pid = "/proc/sys/kernel/ns_last_pid";
    for _ in 0..1000 {
        let mut first = Spawned::sleep(|command| command);
        let expected = first.identity();
        first.0.kill().unwrap();
        first.0.wait().unwrap();
        std::fs::write(last_pid, (expected.key.pid.0 - 1).to_string()).unwrap_or_else(|error| {
            panic!("{last_pid}: {error} (it needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN, and a writable /proc/sys)")
        });
        let mut second = Spawned::sleep(|command| command);
        if Pid(second.0.id()) != expected.key.pid {
            continue;
        }
        let how = KillOptions { dry_run: true, ..KillOptions::default() };
        let outcome = end_now(&expected, &how).await;
        assert_eq!((outcome.kind, outcome.signal), (OutcomeKind::Refused, None), "{}", outcome.detail);
        assert!(second.lives());
        return;
    }
    panic!("other processes took the pid first, a thousand times: run it on a quieter machine");
}

#[tokio::test]
async fn without_the_right_to_signal_the_outcome_says_what_is_missing() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    require_root();
    let own = capabilities(None).unwrap();
    assert!(own.effective.contains(CapabilitySet::KILL), "it needs CAP_KILL to give up");
    let mut victim = Spawned::sleep(|command| command.uid(65_534));
    // Capabilities are a thread's own, and this runtime has no other thread.
    let mut without = own;
    without.effective.remove(CapabilitySet::KILL);
    set_capabilities(None, without).unwrap();
    let outcome = end_now(&victim.identity(), &KillOptions::default()).await;
    set_capabilities(None, own).unwrap();
    assert_eq!((outcome.kind, outcome.signal), (OutcomeKind::Failed, None), "{}", outcome.detail);
    assert!(outcome.remedy.unwrap().contains("CAP_KILL"));
    assert!(victim.lives());
}
