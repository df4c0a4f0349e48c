//! A leak that was found and not ended is a result as well: the report says what was found and why nothing was done.

use super::fixtures::*;
use crate::action::OutcomeKind;
use crate::report::*;
use crate::source::ExitStatus;

/// What a reader sees of the decision: the summary, and what was done.
fn told(incident: &Incident) -> String {
    let text = incident.render(ReportFormat::Text).unwrap();
    let part = |from: &str, to: &str| {
        let begin = text.find(&format!("\n{from}\n")).unwrap() + 1;
        text[begin..begin + text[begin..].find(&format!("\n{to}\n")).unwrap()].trim_end().to_owned()
    };
    format!("{}\n\n{}", part("Summary", "Impact"), part("Resolution", "Prevention"))
}

fn refused(check_name: &'static str, detail: &str) -> Incident {
    with_action(OutcomeKind::Refused, |action| action.checks = vec![check(check_name, false, detail)])
}

#[test]
fn a_protection_forbade_it() {
    let mut incident = with_action(OutcomeKind::Refused, |action| {
        action.checks = vec![
            check("identity", true, "the process is the one that was judged"),
            check("protect-pidfile", false, "/run/cache.pid names it"),
        ];
    });
    insta::assert_snapshot!(told(&incident));
    incident.hunt.suspects[0].owner.unit = Some("cache.service".to_owned());
    assert!(told(&incident).contains("    systemctl restart cache.service"), "its own keeper can");
}

#[test]
fn somebody_said_no() {
    let mut incident = refused("consent", "the answer was no");
    incident.told = Told::Ask;
    insta::assert_snapshot!(told(&incident));
}

#[test]
fn the_verdict_no_longer_held() {
    let why = "the leak was confirmed and no longer is: now warming-up";
    insta::assert_snapshot!(told(&refused("verdict", why)));
}

#[test]
fn it_was_another_program_by_then() {
    let why = "not the process that was judged: program was /usr/bin/python3.11, is /usr/bin/sleep";
    insta::assert_snapshot!(told(&refused("identity", why)));
}

#[test]
fn the_kernel_did_not_allow_the_signal() {
    let incident = with_action(OutcomeKind::Failed, |action| {
        action.checks = vec![check("identity", true, "the process is the one that was judged")];
        action.detail = "sending SIGTERM to pid 4242: Operation not permitted (os error 1)".to_owned();
        action.remedy = Some("run leakscope as root, as the process's own user, or with CAP_KILL".to_owned());
    });
    insta::assert_snapshot!(told(&incident));
}

#[test]
fn it_was_a_dry_run() {
    let mut incident = with_action(OutcomeKind::DryRun, |action| {
        action.checks = vec![
            check("identity", true, "the process is the one that was judged"),
            check("init", true, "not the first process of a pid namespace"),
        ];
        action.detail = "dry run: SIGTERM would have been sent to pid 4242".to_owned();
    });
    incident.told = Told::DryRun;
    insta::assert_snapshot!(told(&incident));
}

#[test]
fn it_had_ended_by_itself() {
    let incident = with_action(OutcomeKind::AlreadyGone, |action| action.exit = Some(ExitStatus::Code(0)));
    insta::assert_snapshot!(told(&incident));
}

#[test]
fn nobody_asked_for_a_kill() {
    insta::assert_snapshot!(told(&procfs_observed()));
}

#[test]
fn a_report_of_a_leak_that_lives_never_speaks_of_it_as_dead() {
    let alive = [
        refused("consent", "the answer was no"),
        refused("verdict", "no longer"),
        refused("init", "pid 1"),
        with_action(OutcomeKind::DryRun, |_| ()),
        with_action(OutcomeKind::Failed, |action| action.detail = "EPERM".to_owned()),
        procfs_observed(),
    ];
    for incident in alive {
        for format in [ReportFormat::Text, ReportFormat::Markdown, ReportFormat::Html] {
            let text = incident.render(format).unwrap();
            for word in ["would have been used up", "dead:", "given back</text>", "was ended", ">killed<"] {
                assert!(!text.contains(word), "{word}: {text}");
            }
        }
    }
}
