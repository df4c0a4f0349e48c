use crate::action::OutcomeKind;
use crate::source::ExitStatus;
use std::time::Duration;

use super::fixtures::*;
use crate::report::*;
use crate::units::{Bytes, BytesPerSec, Pid, Ticks};

fn text(incident: &Incident) -> String {
    incident.render(ReportFormat::Text).unwrap()
}

/// Without line breaks, so that a sentence is found wherever it was wrapped.
fn prose(incident: &Incident) -> String {
    text(incident).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_lab_s_leak_was_found_and_killed() {
    insta::assert_snapshot!(text(&lab()));
}

#[test]
fn a_kill_was_refused() {
    let incident = with_action(OutcomeKind::Refused, |action| {
        action.checks = vec![
            check("identity", true, "the process is the one that was judged"),
            check("protected", false, "/run/cache.pid protects it (--protect-pidfile)"),
        ];
    });
    insta::assert_snapshot!(text(&incident));
}

#[test]
fn a_leak_was_seen_through_proc_alone_and_left_alone() {
    insta::assert_snapshot!(text(&procfs_observed()));
}

#[test]
fn the_lab_s_report_in_markdown() {
    insta::assert_snapshot!(lab().render(ReportFormat::Markdown).unwrap());
}

#[test]
fn the_headings_stand_in_the_order_of_the_contract() {
    for incident in [lab(), procfs_observed(), nothing_found()] {
        let headings: Vec<&str> = compose(&incident).sections.iter().map(|section| section.heading).collect();
        let contract =
            ["Summary", "Impact", "Timeline", "Root Cause", "Identification", "Resolution", "Prevention"];
        assert_eq!(headings, contract);
    }
}

#[test]
fn a_failed_kill_says_what_failed_and_claims_no_death() {
    let incident = with_action(OutcomeKind::Failed, |action| {
        action.signal = Some("SIGKILL");
        action.checks = vec![check("death", false, "still in state D 5 s after SIGKILL")];
    });
    let prose = prose(&incident);
    assert!(prose.contains(
        "SIGKILL was sent, but its death was not verified (death: still in state D 5 s after SIGKILL)."
    ));
    assert!(!prose.contains("was ended"), "{prose}");
    assert!(prose.contains("will be used up"), "a process that lives goes on growing: {prose}");
}

#[test]
fn a_process_that_was_already_gone_was_not_killed() {
    let incident = with_action(OutcomeKind::AlreadyGone, |action| action.exit = Some(ExitStatus::Code(0)));
    let prose = prose(&incident);
    assert!(prose.contains("It had ended before a signal was sent (status 0); leakscope sent none."));
    assert!(!prose.contains("killed"), "{prose}");
}

#[test]
fn an_escalation_is_told() {
    let mut incident = lab();
    incident.hunt.actions[0].signal = Some("SIGKILL");
    incident.hunt.actions[0].escalated = true;
    incident.hunt.actions[0].died_after_s = Some(Duration::from_millis(10_020));
    incident.hunt.actions[0].respawned_as = Some(Pid(5001));
    let prose = prose(&incident);
    assert!(prose.contains(
        "SIGTERM did not end it in time; SIGKILL did, and its death was verified 10 s after the first signal"
    ));
    assert!(prose.contains("started again, as process 5001"));
}

#[test]
fn memory_that_was_not_seen_to_come_back_is_not_said_to_have() {
    let mut incident = lab();
    let action = &mut incident.hunt.actions[0];
    action.memory.footprint_before_bytes = Some(Bytes(512_000_000));
    action.memory_returned_bytes = Some(Bytes(3_000_000));
    action.checks.push(check("memory", false, "its pages are shared"));
    let prose = prose(&incident);
    let said = "Of its footprint of 512 MB only 3.00 MB were seen to come back to the host.";
    assert!(prose.contains(said), "{prose}");
    assert!(!prose.contains("went with it"), "{prose}");
}

#[test]
fn a_program_that_exited_on_sigterm_is_not_said_to_have_died_of_it() {
    let mut incident = lab();
    incident.hunt.actions[0].exit = Some(ExitStatus::Code(0));
    let prose = prose(&incident);
    assert!(prose.contains("It exited by itself on SIGTERM"), "{prose}");
    assert!(!prose.contains("ended with SIGTERM"), "{prose}");
}

#[test]
fn entries_that_the_timeline_had_no_room_for_are_counted_where_they_are_missing() {
    let mut incident = lab();
    incident.timeline = (0..200).map(|i| TimelineEntry { at: at(i), text: format!("news {i}") }).collect();
    incident.timeline_left_out = 1000;
    let prose = prose(&incident);
    assert!(prose.contains("news 59 ... 1080 entries left out here"), "{prose}");
}

#[test]
fn a_limit_that_several_use_up_is_said_to_be_used_up_by_all_of_them() {
    let mut incident = lab();
    let oom = incident.hunt.suspects[0].oom.as_mut().unwrap();
    (oom.limit, oom.growers, oom.growth_bytes_per_s) = ("/pods".to_owned(), 11, BytesPerSec(563_200.0));
    let prose = prose(&incident);
    assert!(
        prose.contains("if the growth of all 11 processes that grow under it (+563 KB/s) had gone on"),
        "{prose}"
    );
}

#[test]
fn pressure_is_told_where_it_was_counted_and_nothing_is_said_where_it_was_not() {
    let mut incident = lab();
    incident.hunt.suspects[0].pressure = Some(pressure());
    let told = prose(&incident);
    let figures =
        "for want of memory some task stood still 3.25 % of the last 10 s and 0.80 % of the last minute";
    assert!(told.contains(&format!("When the leak was confirmed, {figures}")), "{told}");
    assert!(told.contains(&format!("In its cgroup, when it was last read, {figures}")), "{told}");
    incident.hunt.suspects[0].pressure = None;
    incident.hunt.host.pressure = None;
    let prose = prose(&incident);
    assert!(!prose.contains("stood still") && !prose.contains("PSI"), "{prose}");
}

#[test]
fn several_leaks_are_told_one_by_one() {
    let mut incident = lab();
    let mut second = suspect();
    second.pid = Pid(77);
    second.start_time_ticks = Ticks(1);
    second.cmdline = vec!["java".to_owned(), "-jar".to_owned(), "shop.jar".to_owned()];
    second.exe = Some("/opt/jdk/bin/java".to_owned());
    second.owner.unit = Some("shop.service".to_owned());
    incident.hunt.suspects.push(second);
    let text = text(&incident);
    let prose = prose(&incident);
    assert!(prose.starts_with("Incident report: 2 memory leaks on app-1"));
    assert!(text.contains("* Process 77 (java -jar shop.jar)\n"));
    assert!(prose.contains("jcmd 77 GC.class_histogram"), "{text}");
    assert!(prose.contains("systemctl set-property shop.service MemoryHigh=48M MemoryMax=64M"), "{text}");
    assert!(prose.contains("without a break. It was left alone: no kill was carried out."), "{text}");
}

#[test]
fn a_sentence_without_its_evidence_is_not_there() {
    let mut incident = procfs_observed();
    incident.stories.clear();
    incident.hunt.suspects[0].oom = None;
    incident.hunt.suspects[0].rate = RateLine::default();
    incident.hunt.suspects[0].cmdline = vec!["/usr/sbin/daemon".to_owned()];
    incident.hunt.suspects[0].exe = None;
    let prose = prose(&incident);
    for absent in [
        "gave nothing back",
        "entries of about",
        "used up",
        "confidence interval",
        "alert:",
        "tracemalloc",
        "Give the cache",
        "oom_score",
    ] {
        assert!(!prose.contains(absent), "{absent}: {prose}");
    }
    assert!(prose.contains("was not looked at."));
}

#[test]
fn a_suspicion_is_not_told_as_a_leak_and_no_kill_is_proposed() {
    let mut incident = procfs_observed();
    incident.hunt.suspects[0].confirmed = false;
    incident.hunt.suspects[0].verdict = crate::leak::State::Suspect;
    let prose = prose(&incident);
    assert!(prose.starts_with("Incident report: suspected memory leak in python3 (pid 4242)"));
    assert!(prose.contains("is suspected of leaking memory"));
    assert!(!prose.contains("leakscope kill") && !prose.contains("leaked memory"), "{prose}");
}

#[test]
fn a_hostile_unit_name_cannot_leave_the_command_that_is_proposed() {
    let mut incident = lab();
    incident.hunt.suspects[0].owner.unit = Some("a;reboot '$(id)'.service".to_owned());
    let text = text(&incident);
    assert!(
        text.contains(
            "systemctl set-property 'a;reboot '\\''$(id)'\\''.service' MemoryHigh=48M MemoryMax=64M\n"
        ),
        "{text}"
    );
}

#[test]
fn what_was_given_back_is_told_as_a_figure() {
    let mut incident = lab();
    incident.stories[0].given_back = Some(Bytes(4096));
    assert!(prose(&incident).contains("without a break and gave 4.10 KB back in all."));
}

#[test]
fn a_container_gets_its_own_kind_of_limit() {
    let mut incident = lab();
    let owner = &mut incident.hunt.suspects[0].owner;
    owner.container = Some("ab12".repeat(16));
    assert!(text(&incident).contains("docker run --memory=64m ..."));
    incident.hunt.suspects[0].owner.cgroup = Some("/kubepods/burstable/pod1".to_owned());
    assert!(text(&incident).contains("    memory: 64Mi"));
}

#[test]
fn a_cgroup_that_has_a_limit_is_not_given_another() {
    let mut incident = lab();
    let oom = incident.hunt.suspects[0].oom.as_mut().unwrap();
    oom.limit = "/system.slice/shop.service".to_owned();
    oom.limit_bytes = Bytes(512_000_000);
    oom.runaway = true;
    oom.eta = Duration::from_secs(90);
    let prose = prose(&incident);
    assert!(prose.contains("Keep the limit of 512 MB on the cgroup /system.slice/shop.service"));
    assert!(prose.contains("The limit of its cgroup /system.slice/shop.service (512 MB"));
    assert!(prose.contains("a runaway"));
    assert!(!prose.contains("MemoryMax"));
}

#[test]
fn the_part_that_others_have_in_the_time_to_a_limit_is_told() {
    let mut incident = lab();
    let alone = "by itself it would take about";
    assert!(!prose(&incident).contains(alone), "6.09 GB at 51.2 KB/s is what the lab's report says");
    incident.hunt.suspects[0].oom.as_mut().unwrap().eta = Duration::from_secs(50_000);
    assert!(prose(&incident).contains(&format!("{alone} 1 d 9 h.")), "{}", prose(&incident));
}

#[test]
fn a_hunt_without_a_leak_says_so() {
    let prose = prose(&nothing_found());
    assert!(prose.contains("No process was found leaking among 143 processes in 1 min 12 s of observation."));
    assert!(!prose.contains("Process 4242 ("), "{prose}");
}

#[test]
fn losses_are_counted_in_the_report() {
    let mut incident = lab();
    incident.hunt.lost_events = 3;
    incident.lost.causes = vec![("the ring buffer was full".into(), 3)];
    let prose = prose(&incident);
    assert!(prose.contains("3 events lost"));
    assert!(prose.contains("the ring buffer was full: 3"));
}

fn nothing_found() -> Incident {
    let mut incident = lab();
    incident.hunt.verdict = HostVerdict::Clean;
    incident.hunt.suspects.clear();
    incident.hunt.actions.clear();
    incident.stories.clear();
    incident.candidates.clear();
    incident.timeline.clear();
    incident.told = Told::Observe;
    incident
}

/// To look at a report as a reader does: `LEAKSCOPE_SAMPLES=DIR cargo test -p leakscope report::`.
#[test]
fn every_form_of_every_case_is_written() {
    let keep = std::env::var_os("LEAKSCOPE_SAMPLES");
    let temporary = tempfile::tempdir().unwrap();
    let dir = keep.as_ref().map_or(temporary.path(), std::path::Path::new);
    for (case, incident) in [("killed", lab()), ("observed", procfs_observed()), ("clean", nothing_found())] {
        for (ending, format) in ReportFormat::NAMES {
            let path = dir.join(format!("{case}.{ending}"));
            let text = incident.render(format).unwrap();
            write_report(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
