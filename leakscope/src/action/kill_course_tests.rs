//! What may happen while a kill is under way, and who is there after it.

use super::*;

#[tokio::test]
async fn a_process_that_is_put_under_protection_in_the_grace_gets_no_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let pidfile = dir.path().join("app.pid");
    // Somebody else's until the victim takes it on SIGTERM.
    std::fs::write(&pidfile, std::process::id().to_string()).unwrap();
    let take = format!("trap 'echo $$ > {}' TERM; echo ready; while :; do read x; done", pidfile.display());
    let mut victim = Spawned::shell(&take);
    let protections = Protections::default().pidfiles([pidfile]);
    let how = KillOptions { protections, grace: Duration::from_secs(1), ..options() };
    let outcome = end_now(&victim.identity(), &how).await;
    assert_eq!((outcome.kind, outcome.signal), (OutcomeKind::Failed, Some("SIGTERM")), "{}", outcome.detail);
    assert!(
        outcome.detail.contains("no SIGKILL") && outcome.detail.contains("app.pid"),
        "{}",
        outcome.detail
    );
    assert_eq!(failed_checks(&outcome), ["protect-pidfile"]);
    assert!(victim.lives());
}

#[tokio::test]
async fn a_kill_that_is_called_off_in_the_grace_says_what_was_sent_and_that_it_lives() {
    let (mut victim, twin) = (Spawned::shell("trap '' TERM; echo ready; read x"), Spawned::sleep());
    let how = KillOptions {
        grace: Duration::from_secs(600),
        bystanders: vec![twin.identity()].into(),
        ..options()
    };
    let cancel = tokio::time::sleep(Duration::from_millis(300));
    let outcome = end(&ProcRoot::default(), &victim.identity(), &how, cancel).await;
    assert_eq!((outcome.kind, outcome.signal), (OutcomeKind::Failed, Some("SIGTERM")));
    assert!(outcome.detail.contains("interrupted after SIGTERM"), "{}", outcome.detail);
    assert!(outcome.detail.contains("still alive"), "{}", outcome.detail);
    assert!(outcome.checks.iter().any(|check| check.check == "identity"), "{:?}", outcome.checks);
    assert_eq!(outcome.bystanders, [Bystander { pid: twin.pid(), alive: true, same_process: true }]);
    assert!(victim.lives());
}

#[tokio::test]
async fn a_kill_that_is_called_off_while_the_victim_dies_is_still_verified() {
    let victim = Spawned::shell("trap 'exit 3' TERM; echo ready; while :; do read x; done");
    let identity = victim.identity();
    let how = KillOptions { grace: Duration::from_secs(600), ..options() };
    let outcome = end(&ProcRoot::default(), &identity, &how, std::future::ready(())).await;
    assert_eq!(outcome.kind, OutcomeKind::Killed, "{}", outcome.detail);
    assert_eq!(outcome.exit, Some(ExitStatus::Code(3)));
}

#[tokio::test]
async fn a_keeper_that_starts_it_again_a_second_later_is_seen() {
    let script = "sleep 1000 & echo $!; wait; sleep 1; sleep 1000 & echo $!; read x; kill $!";
    let mut keeper = Spawned::command(Command::new("sh").args(["-c", script]));
    let mut lines = BufReader::new(keeper.0.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        Pid(line.trim().parse().unwrap())
    };
    let first = next();
    let who = loop {
        let who = ProcRoot::default().identify(first).unwrap();
        if who.cmdline == ["sleep", "1000"] {
            break who;
        }
        tokio::task::yield_now().await;
    };
    let how = KillOptions { successor_within: Duration::from_secs(20), ..options() };
    let outcome = end_now(&who, &how).await;
    let second = next();
    keeper.go_on();
    assert_eq!(
        (outcome.kind, outcome.respawned_as),
        (OutcomeKind::Killed, Some(second)),
        "{}",
        outcome.detail
    );
    keeper.0.wait().unwrap();
}

#[tokio::test]
async fn a_bystander_that_died_is_reported_dead() {
    let (victim, mut other) = (Spawned::sleep(), Spawned::sleep());
    let options = KillOptions { bystanders: vec![other.identity()].into(), ..options() };
    other.0.kill().unwrap();
    other.wait_until(|now| now.zombie);
    let outcome = end_now(&victim.identity(), &options).await;
    assert_eq!(outcome.bystanders, [Bystander { pid: other.pid(), alive: false, same_process: false }]);
    assert_eq!((outcome.kind, failed_checks(&outcome)), (OutcomeKind::Killed, vec!["bystanders"]));
}
