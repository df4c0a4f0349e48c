//! Kills of real processes, all of them spawned here and ended when the test is over.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::action::Bystander;
use crate::process::vanished;
use crate::source::ExitStatus;
use crate::units::{Bytes, Pid, Ticks};

/// A process of the test's own; it does not outlive the test.
struct Spawned(Child);

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Spawned {
    fn command(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn sleep() -> Self {
        Self::command(Command::new("sleep").arg("1000"))
    }

    /// A shell that has run `script` up to its `echo`.
    fn shell(script: &str) -> Self {
        let mut spawned = Self::command(Command::new("sh").args(["-c", script]));
        let mut line = String::new();
        BufReader::new(spawned.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        spawned
    }

    fn pid(&self) -> Pid {
        Pid(self.0.id())
    }

    fn identity(&self) -> Identity {
        ProcRoot::default().identify(self.pid()).unwrap()
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Lets the shell go on from its `read`.
    fn go_on(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "a test waits for a process that it started")]
    fn wait_until(&self, reached: impl Fn(&Identity) -> bool) {
        for _ in 0..4000 {
            if ProcRoot::default().identify(self.pid()).is_ok_and(|now| reached(&now)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("pid {} did not get there: {:?}", self.pid(), ProcRoot::default().identify(self.pid()));
    }
}

fn options() -> KillOptions {
    KillOptions {
        grace: Duration::from_millis(300),
        successor_within: Duration::from_millis(50),
        ..KillOptions::default()
    }
}

async fn end_now(expected: &Identity, options: &KillOptions) -> Outcome {
    end(&ProcRoot::default(), expected, options, std::future::pending()).await
}

async fn kill_now(held: Victim, options: &KillOptions) -> Outcome {
    kill(held, options, std::future::pending()).await
}

fn failed_checks(outcome: &Outcome) -> Vec<&'static str> {
    outcome.checks.iter().filter(|check| !check.passed).map(|check| check.check).collect()
}

#[tokio::test]
async fn a_process_dies_of_sigterm_and_its_twin_lives() {
    let (victim, mut twin) = (Spawned::sleep(), Spawned::sleep());
    assert_eq!(victim.identity().cmdline, twin.identity().cmdline);
    let options =
        KillOptions { bystanders: vec![twin.identity()].into(), grace: Duration::from_secs(60), ..options() };
    let outcome = end_now(&victim.identity(), &options).await;
    assert_eq!(
        (outcome.kind, outcome.signal, outcome.escalated),
        (OutcomeKind::Killed, Some("SIGTERM"), false)
    );
    assert_eq!(outcome.exit, Some(ExitStatus::Signal(15)));
    assert_eq!(outcome.reaped, Some(false), "the test has not collected it");
    assert!(outcome.died_after_s.is_some() && outcome.memory_returned_bytes > Some(Bytes::ZERO));
    assert!(outcome.memory.host_available_after_bytes.is_some());
    assert!(failed_checks(&outcome).is_empty(), "{:?}", outcome.checks);
    let names: Vec<_> = outcome.checks.iter().map(|check| check.check).collect();
    assert_eq!(names.first(), Some(&"identity"));
    assert_eq!(names[names.len() - 3..], ["death", "memory", "bystanders"]);
    assert_eq!(outcome.bystanders, [Bystander { pid: twin.pid(), alive: true, same_process: true }]);
    assert!(twin.lives());
}

#[tokio::test]
async fn a_process_that_its_parent_collects_is_no_zombie() {
    let mut victim = Spawned::sleep();
    let identity = victim.identity();
    let parent = std::thread::spawn(move || victim.0.wait().unwrap());
    let outcome = end_now(&identity, &KillOptions { grace: Duration::from_secs(60), ..options() }).await;
    if !outcome.is_dead() {
        // The thread would wait for it for good; it has not collected it, so the pid is still its own.
        let pid = rustix::process::Pid::from_raw(i32::try_from(identity.key.pid.0).unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
    assert_eq!((outcome.kind, outcome.reaped), (OutcomeKind::Killed, Some(true)), "{}", outcome.detail);
    // Before Linux 6.15 nobody but the parent is told.
    assert!(matches!(outcome.exit, None | Some(ExitStatus::Signal(15))), "{:?}", outcome.exit);
    assert!(!parent.join().unwrap().success());
}

#[tokio::test]
async fn a_process_that_exits_by_itself_on_sigterm_shows_its_status() {
    let victim = Spawned::shell("trap 'exit 7' TERM; echo ready; while :; do read x; done");
    let outcome =
        end_now(&victim.identity(), &KillOptions { grace: Duration::from_secs(60), ..options() }).await;
    assert_eq!((outcome.kind, outcome.exit), (OutcomeKind::Killed, Some(ExitStatus::Code(7))));
    assert!(outcome.detail.contains("exited with status 7"), "{}", outcome.detail);
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_dies_of_sigkill_after_the_grace() {
    let victim = Spawned::shell("trap '' TERM; echo ready; read x");
    let outcome = end_now(&victim.identity(), &options()).await;
    assert_eq!(
        (outcome.kind, outcome.signal, outcome.escalated),
        (OutcomeKind::Killed, Some("SIGKILL"), true)
    );
    assert_eq!(outcome.exit, Some(ExitStatus::Signal(9)));
    assert!(outcome.died_after_s >= Some(options().grace));
    let [term, kill] = outcome.signals[..] else { panic!("{:?}", outcome.signals) };
    assert_eq!((term.signal, kill.signal), ("SIGTERM", "SIGKILL"));
    assert!(Duration::try_from(kill.at.duration_since(term.at)).unwrap() >= options().grace);
    assert!(outcome.died_at >= Some(kill.at));
}

#[tokio::test]
async fn without_escalation_a_process_that_ignores_sigterm_is_left_alone() {
    let mut victim = Spawned::shell("trap '' TERM; echo ready; read x");
    let outcome = end_now(&victim.identity(), &KillOptions { escalate: false, ..options() }).await;
    assert_eq!(
        (outcome.kind, outcome.signal, outcome.escalated),
        (OutcomeKind::Failed, Some("SIGTERM"), false)
    );
    assert!(outcome.detail.contains("still alive"), "{}", outcome.detail);
    assert_eq!((outcome.died_after_s, outcome.memory_returned_bytes, outcome.exit), (None, None, None));
    assert!(victim.lives());
}

#[tokio::test]
async fn a_process_that_becomes_another_program_on_sigterm_is_not_killed_after_it() {
    let mut victim = Spawned::shell("trap 'exec sleep 1000' TERM; echo ready; while :; do read x; done");
    let outcome =
        end_now(&victim.identity(), &KillOptions { grace: Duration::from_secs(2), ..options() }).await;
    assert_eq!((outcome.kind, outcome.signal), (OutcomeKind::Failed, Some("SIGTERM")));
    assert!(
        outcome.detail.contains("no SIGKILL") && outcome.detail.contains("program"),
        "{}",
        outcome.detail
    );
    assert!(victim.lives());
}

#[tokio::test]
async fn a_stopped_process_is_woken_to_die_of_sigterm() {
    let victim = Spawned::sleep();
    let identity = victim.identity();
    victim.signal(Signal::STOP);
    victim.wait_until(|now| now.state == 'T');
    let outcome = end_now(&identity, &KillOptions { grace: Duration::from_secs(60), ..options() }).await;
    assert_eq!((outcome.kind, outcome.exit), (OutcomeKind::Killed, Some(ExitStatus::Signal(15))));
    assert!(outcome.checks.iter().any(|check| check.check == "stopped" && check.passed));
}

#[tokio::test]
async fn any_part_of_the_identity_that_is_not_as_expected_refuses() {
    let mut victim = Spawned::sleep();
    type Change = fn(&mut Identity);
    let table: [(&str, Change); 6] = [
        ("start time", |who| who.key.start = Ticks(who.key.start.0 + 1)),
        ("boot", |who| who.boot_id = Some("yesterday".into())),
        ("program", |who| who.exe.as_mut().unwrap().ino += 1),
        ("user id", |who| who.uid += 1),
        ("cgroup", |who| who.owner.cgroup = Some("/elsewhere".to_owned())),
        ("called exec", |who| who.image = who.image.map(|image| image + 16)),
    ];
    for (part, change) in table {
        let mut expected = victim.identity();
        change(&mut expected);
        let outcome = end_now(&expected, &options()).await;
        assert_eq!((outcome.kind, outcome.signal), (OutcomeKind::Refused, None), "{part}");
        assert!(outcome.detail.contains(part), "{part}: {}", outcome.detail);
        assert_eq!(failed_checks(&outcome), ["identity"]);
    }
    assert!(victim.lives());
}

#[tokio::test]
async fn a_process_that_executed_another_program_since_is_refused() {
    let mut victim = Spawned::shell("echo ready; read x; exec sleep 1000");
    let expected = victim.identity();
    victim.go_on();
    victim.wait_until(|now| now.cmdline == ["sleep", "1000"]);
    let outcome = end_now(&expected, &options()).await;
    assert_eq!(outcome.kind, OutcomeKind::Refused);
    assert!(
        outcome.detail.contains("program was") && outcome.detail.contains("sleep 1000"),
        "{}",
        outcome.detail
    );
    assert!(victim.lives());
}

#[tokio::test]
async fn a_process_that_executed_itself_again_between_check_and_signal_is_refused() {
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), "echo ready; read x; exec sh \"$0\"\n").unwrap();
    let mut victim = Spawned::command(Command::new("sh").arg(script.path()));
    victim.wait_until(|now| now.state == 'S');
    let expected = victim.identity();
    let held = Victim::open(&ProcRoot::default(), &expected).unwrap();
    victim.go_on();
    victim.wait_until(|now| now.image != expected.image && now.state == 'S');
    assert_eq!(victim.identity().cmdline, expected.cmdline);
    let outcome = kill_now(held, &options()).await;
    assert_eq!((outcome.kind, outcome.signal), (OutcomeKind::Refused, None));
    assert!(outcome.detail.contains("called exec"), "{}", outcome.detail);
    assert!(victim.lives());
}

#[tokio::test]
async fn a_process_that_ends_between_verdict_and_kill_is_already_gone() {
    let (mut early, mut late) = (Spawned::sleep(), Spawned::sleep());
    let (expected, held) = (early.identity(), Victim::open(&ProcRoot::default(), &late.identity()).unwrap());
    for victim in [&mut early, &mut late] {
        victim.0.kill().unwrap();
        victim.0.wait().unwrap();
    }
    let before_open = end_now(&expected, &options()).await;
    let after_open = kill_now(held, &options()).await;
    for outcome in [before_open, after_open] {
        assert_eq!((outcome.kind, outcome.signal), (OutcomeKind::AlreadyGone, None), "{}", outcome.detail);
        assert!(outcome.is_dead() && outcome.died_after_s.is_none());
    }
}

#[tokio::test]
async fn a_zombie_is_already_gone_and_called_a_zombie() {
    let mut victim = Spawned::sleep();
    let expected = victim.identity();
    victim.0.kill().unwrap();
    victim.wait_until(|now| now.zombie);
    let outcome = end_now(&expected, &options()).await;
    assert_eq!(outcome.kind, OutcomeKind::AlreadyGone);
    assert!(outcome.detail.contains("zombie"), "{}", outcome.detail);
}

#[tokio::test]
async fn a_protected_process_is_refused_by_the_rules_name() {
    let mut victim = Spawned::sleep();
    let dir = tempfile::tempdir().unwrap();
    let pidfile = dir.path().join("app.pid");
    std::fs::write(&pidfile, format!("{}\n", victim.pid())).unwrap();
    let pattern = regex::Regex::new("^sleep 1000$").unwrap();
    for (protections, rule) in [
        (Protections::default().patterns([pattern]), "protect"),
        (Protections::default().pidfiles([pidfile]), "protect-pidfile"),
        (Protections::default().pidfiles([dir.path().join("missing.pid")]), "protect-pidfile"),
    ] {
        let outcome = end_now(&victim.identity(), &KillOptions { protections, ..options() }).await;
        assert_eq!((outcome.kind, outcome.signal), (OutcomeKind::Refused, None), "{rule}");
        assert_eq!(failed_checks(&outcome), [rule]);
    }
    assert!(victim.lives());
}

#[tokio::test]
async fn leakscope_its_parents_and_the_first_process_are_refused() {
    let proc = ProcRoot::default();
    let own = proc.own_pid().unwrap();
    let parent = proc.identify(own).unwrap().ppid;
    // Dry, so that a broken guard fails the test instead of ending it.
    let options = KillOptions { dry_run: true, ..options() };
    for (pid, rule) in [(own, "self"), (parent, "ancestor"), (Pid(1), "init")] {
        let outcome = end_now(&proc.identify(pid).unwrap(), &options).await;
        assert_eq!(outcome.kind, OutcomeKind::Refused, "{pid}: {}", outcome.detail);
        assert!(failed_checks(&outcome).contains(&rule), "{pid}: {:?}", outcome.checks);
    }
}

#[tokio::test]
async fn a_dry_run_checks_everything_and_signals_nobody() {
    let (mut victim, twin) = (Spawned::sleep(), Spawned::sleep());
    let options = KillOptions { dry_run: true, bystanders: vec![twin.identity()].into(), ..options() };
    let outcome = end_now(&victim.identity(), &options).await;
    assert_eq!((outcome.kind, outcome.signal, outcome.exit), (OutcomeKind::DryRun, None, None));
    assert!(failed_checks(&outcome).is_empty() && outcome.checks.len() >= 7);
    assert_eq!(outcome.bystanders.len(), 1);
    assert!(victim.lives());
}

#[tokio::test]
async fn a_thread_is_not_taken_for_a_process() {
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid()).unwrap();
        let _ = ended.recv();
    });
    let tid = Pid(u32::try_from(told.recv().unwrap().as_raw_nonzero().get()).unwrap());
    let error = ProcRoot::default().identify(tid).unwrap_err();
    assert!(!vanished(&error) && error.to_string().contains("thread of process"), "{error}");
    let mut expected = ProcRoot::default().identify(Pid(std::process::id())).unwrap();
    expected.key.pid = tid;
    let outcome = end_now(&expected, &KillOptions { dry_run: true, ..options() }).await;
    assert_eq!(outcome.kind, OutcomeKind::Refused, "{}", outcome.detail);
    drop(end);
    thread.join().unwrap();
}

#[tokio::test]
async fn a_proc_of_another_pid_namespace_refuses() {
    let mut victim = Spawned::sleep();
    let fake = crate::process::testing::FakeProc::new();
    fake.process(victim.pid().0, 1, 1000, std::path::Path::new("/nowhere"));
    let expected = fake.root().identify(victim.pid()).unwrap();
    let unseen = end(&fake.root(), &expected, &options(), std::future::pending()).await;
    assert_eq!((unseen.kind, unseen.signal), (OutcomeKind::Refused, None), "leakscope is not in that /proc");
    for fd in 0..4096 {
        fake.write(&format!("self/fdinfo/{fd}"), "pos:\t0\nPid:\t7\n");
    }
    let other = end(&fake.root(), &expected, &options(), std::future::pending()).await;
    assert_eq!((other.kind, other.signal), (OutcomeKind::Refused, None));
    assert!(other.detail.contains("another pid namespace"), "{}", other.detail);
    assert!(victim.lives());
}

#[path = "kill_course_tests.rs"]
mod course;
