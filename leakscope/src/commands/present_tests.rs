//! Findings as a hunt hands them over, to the values of the report.

use jiff::Timestamp;

use super::*;
use crate::action::OutcomeKind;
use crate::leak::{Evidence, Memory, State, Verdict};
use crate::monitor::Point;
use crate::process::testing::identity;
use crate::source::{Lost, SourceKind};
use crate::units::Moment;

fn date(second: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(second)
}

/// Confirmed at second 100, its last point a second older: the history is thinned.
fn finding() -> Finding {
    let point = |second: u64| Point {
        at: Moment(second * 1_000_000_000),
        memory: Memory { anon: Bytes(second * 1000), ..Memory::default() },
        populated: None,
        given_back: Bytes::ZERO,
    };
    Finding {
        key: identity(42).key,
        at: Moment(100_000_000_000),
        wall: date(1100),
        identity: identity(42),
        verdict: Verdict {
            state: State::Leaking,
            confirmed: true,
            clean_growth: Duration::from_secs(60),
            rate: None,
            evidence: Evidence::default(),
        },
        memory: Memory { anon: Bytes(100_000), ..Memory::default() },
        host: HostMemory { available: Bytes(77), ..HostMemory::default() },
        kernel: None,
        explained: None,
        cadence: Err("too few page faults seen"),
        oom: None,
        pressure: None,
        suspected_after: None,
        confirmed_after: None,
        first: Some(Bytes(4_000)),
        steady: Some(Bytes(5_000)),
        given_back: Bytes(300),
        history: vec![point(40), point(99)],
    }
}

fn hunted(actions: Vec<Outcome>) -> Hunted {
    Hunted {
        anatomies: Default::default(),
        started: date(1000),
        finished: date(1200),
        observed: Duration::from_secs(200),
        host_before: HostMemory::default(),
        host_after: HostMemory::default(),
        source: SourceKind::Ebpf,
        lost: Lost::default(),
        findings: vec![finding()],
        groups: Vec::new(),
        actions: actions.into_iter().map(|outcome| (outcome.key(), outcome)).collect(),
        ended: Vec::new(),
        cleared: Vec::new(),
        beside: std::collections::BTreeMap::new(),
        watched: 12,
        host_available: Vec::new(),
        oom_choice: None,
        timeline: Vec::new(),
        timeline_left_out: 0,
        interrupted: false,
    }
}

fn killed_at(second: u64) -> Outcome {
    let mut outcome = Outcome::refused(identity(42).key, "consent", "");
    outcome.kind = OutcomeKind::Killed;
    outcome.signals = vec![crate::action::Sent { signal: "SIGTERM", at: date(second) }];
    outcome
}

#[test]
fn a_story_has_the_dates_of_its_own_moments() {
    let hunted = hunted(vec![killed_at(1130)]);
    let story = story::of(&hunted.findings[0], &hunted);
    assert_eq!(story.footprint, [(date(1040), Bytes(40_000)), (date(1099), Bytes(99_000))]);
    assert_eq!(story.killed_at, Some(date(1130)), "when it was signalled, not when it was confirmed");
    assert_eq!((story.given_back, story.steady), (Some(Bytes(300)), Some(Bytes(5_000))));
}

#[test]
fn a_look_alike_is_drawn_up_to_the_end_and_whoever_looks_otherwise_is_not() {
    let mut hunted = hunted(Vec::new());
    let mut other = |pid: u32, program: &str, comm: &str| {
        let mut other = Finding { identity: identity(pid), key: identity(pid).key, ..finding() };
        other.identity.exe.as_mut().unwrap().path = program.into();
        other.identity.comm = comm.to_owned();
        hunted.cleared.push(other);
    };
    let comm = identity(42).comm;
    other(43, "/another", &comm);
    other(44, "/another", "another");
    let story = story::of(&hunted.findings[0], &hunted);
    assert_eq!(story.beside.len(), 1);
    assert_eq!(story.beside[0].pid, crate::units::Pid(43));
    assert_eq!(story.beside[0].footprint.last(), Some(&(date(1100), Bytes(100_000))), "silent since 1099");
    hunted.actions = vec![(identity(42).key, {
        let mut outcome = killed_at(1130);
        outcome.bystanders =
            vec![crate::action::Bystander { pid: crate::units::Pid(44), alive: true, same_process: true }];
        outcome
    })];
    let pids: Vec<_> =
        story::of(&hunted.findings[0], &hunted).beside.iter().map(|other| other.pid.0).collect();
    hunted.beside.insert(identity(43).key, vec![(date(1000), Bytes(5)), (date(1100), Bytes(6))]);
    let followed = &story::of(&hunted.findings[0], &hunted).beside[0].footprint;
    assert_eq!(followed[..], [(date(1000), Bytes(5)), (date(1100), Bytes(6))], "from the suspicion on");
    assert_eq!(pids, [43, 44], "a bystander of the kill belongs to them");
}

#[test]
fn growth_counts_from_the_first_reading_and_not_from_what_is_left_of_the_past() {
    assert_eq!(candidate(&finding(), true).growth, Some(Bytes(96_000)));
}

#[test]
fn a_leak_that_became_another_program_does_not_remain() {
    let mut hunted = hunted(Vec::new());
    assert!(hunted.leak_remains());
    hunted.ended.push(identity(42).key);
    assert!(!hunted.leak_remains());
}
