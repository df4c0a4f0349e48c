//! What came of an action, with everything that was checked on the way: the `actions[]` of the JSON.
//!
//! What was not measured is `None`. The caller completes what only it can know: how the kernel's exit event says the
//! process ended ([`Outcome::confirm_exit`]), and whether somebody started it again ([`Outcome::respawned_as`]).

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::process::{Identity, ProcRoot};
use crate::source::ExitStatus;
use crate::units::{Bytes, Moment, Pid, ProcKey, Ticks};

/// One thing that was checked before, or after, a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The rule's name.
    pub check: &'static str,
    /// Whether it allows the kill, or confirms it.
    pub passed: bool,
    /// What was found.
    pub detail: String,
}

impl Check {
    pub(super) fn new(check: &'static str, passed: bool, detail: impl Into<String>) -> Self {
        Self { check, passed, detail: detail.into() }
    }
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeKind {
    /// Its death is verified, after a signal of ours.
    Killed,
    /// It was dead before a signal was sent.
    AlreadyGone,
    /// A check spoke against it; no signal was sent.
    Refused,
    /// It could not be done, or the process did not die in time.
    Failed,
    /// Every check passed, and a signal would have been sent.
    DryRun,
}

impl OutcomeKind {
    /// The word that tables, reports and JSON use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::AlreadyGone => "already-gone",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::DryRun => "dry-run",
        }
    }
}

/// A process that had to live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bystander {
    /// Its pid.
    pub pid: Pid,
    /// Whether a living process has the pid.
    pub alive: bool,
    /// Whether that is the process from before, and not another one under its pid.
    pub same_process: bool,
}

/// Memory before the signal and after the death.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryReturn {
    /// What the victim had resident right before the signal.
    pub rss_before_bytes: Option<Bytes>,
    /// Its anonymous resident and swapped bytes right before the signal.
    pub footprint_before_bytes: Option<Bytes>,
    /// The host's `MemAvailable` before; other processes move it too.
    pub host_available_before_bytes: Option<Bytes>,
    /// The host's `MemAvailable` after the death.
    pub host_available_after_bytes: Option<Bytes>,
    /// What the victim's cgroup was charged for before, page cache and all.
    pub cgroup_before_bytes: Option<Bytes>,
    /// The same after the death.
    pub cgroup_after_bytes: Option<Bytes>,
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Whom it was about.
    pub pid: Pid,
    /// The start time that makes the pid unique.
    pub start_time_ticks: Ticks,
    /// How it ended.
    #[serde(rename = "outcome")]
    pub kind: OutcomeKind,
    /// One sentence about it.
    pub detail: String,
    /// What the reader can do, where something can be done.
    pub remedy: Option<String>,
    /// The last signal that was sent (a `SIGCONT` to wake a stopped process not counted).
    pub signal: Option<&'static str>,
    /// Whether SIGKILL followed SIGTERM.
    pub escalated: bool,
    /// From the first signal to the verified death.
    #[serde(serialize_with = "seconds")]
    pub died_after_s: Option<Duration>,
    /// How it ended, by the kernel.
    #[serde(serialize_with = "shown")]
    pub exit: Option<ExitStatus>,
    /// Whether its parent has collected it; `false` is a zombie: dead, its memory returned, its pid still taken.
    pub reaped: Option<bool>,
    /// What was checked, in order.
    pub checks: Vec<Check>,
    /// The footprint (anonymous resident and swapped bytes) right before the signal, once the death is verified: with
    /// the address space these pages went back, but for those that a forked relative still shares.
    pub memory_returned_bytes: Option<Bytes>,
    /// The figures around it.
    pub memory: MemoryReturn,
    /// The process that somebody started in its place.
    pub respawned_as: Option<Pid>,
    /// Who had to live on.
    pub bystanders: Vec<Bystander>,
}

fn seconds<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    span.map(|span| span.as_secs_f64()).serialize(to)
}

fn shown<S: Serializer>(exit: &Option<ExitStatus>, to: S) -> Result<S::Ok, S::Error> {
    exit.map(|exit| exit.to_string()).serialize(to)
}

impl Outcome {
    pub(super) fn new(key: ProcKey, kind: OutcomeKind, detail: impl Into<String>) -> Self {
        Self {
            pid: key.pid,
            start_time_ticks: key.start,
            kind,
            detail: detail.into(),
            remedy: None,
            signal: None,
            escalated: false,
            died_after_s: None,
            exit: None,
            reaped: None,
            checks: Vec::new(),
            memory_returned_bytes: None,
            memory: MemoryReturn::default(),
            respawned_as: None,
            bystanders: Vec::new(),
        }
    }

    /// A kill that the caller gave up while it was under way.
    pub fn interrupted(key: ProcKey) -> Self {
        let detail = format!(
            "interrupted: no further signal is sent to pid {}; whether it ends of what was sent is not known",
            key.pid
        );
        Self::new(key, OutcomeKind::Failed, detail)
    }

    /// A kill that the caller decided against, by the name of the check that spoke against it.
    pub fn refused(key: ProcKey, check: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let mut outcome = Self::new(key, OutcomeKind::Refused, detail.clone());
        outcome.checks.push(Check::new(check, false, detail));
        outcome
    }

    /// Whom it was about.
    pub fn key(&self) -> ProcKey {
        ProcKey { pid: self.pid, start: self.start_time_ticks }
    }

    /// Whether the process is known to be dead.
    pub fn is_dead(&self) -> bool {
        matches!(self.kind, OutcomeKind::Killed | OutcomeKind::AlreadyGone)
    }

    /// Adds what the kernel's exit event says. Where the exit was known already, whether both agree becomes a check.
    /// An event of another process is not taken.
    pub fn confirm_exit(&mut self, key: ProcKey, status: ExitStatus) {
        if key != self.key() {
            return;
        }
        let (passed, detail) = match self.exit {
            None => (self.is_dead(), format!("the kernel's exit event: {status}")),
            Some(known) if known == status => (true, format!("the kernel's exit event agrees: {status}")),
            Some(known) => (false, format!("the kernel's exit event says {status}, the pidfd said {known}")),
        };
        self.exit.get_or_insert(status);
        self.checks.push(Check::new("exit-event", passed, detail));
    }
}

/// The process that was started in the place of one that died at `died` or later: the same command line, user and
/// cgroup, and a later start. The oldest such process, where there are several. A process that ran before is none.
pub fn find_successor(proc: &ProcRoot, victim: &Identity, died: Moment) -> Option<Pid> {
    // A start time is rounded down to its tick.
    let earliest = Ticks::from_boottime_nanos(died.0);
    let pids = proc.pids().ok()?.into_iter();
    let successors = pids.filter_map(|pid| proc.identify(pid).ok()).filter(|who| {
        who.key.start >= earliest
            && who.key != victim.key
            && !who.zombie
            && who.cmdline == victim.cmdline
            && who.uid == victim.uid
            && who.owner.cgroup == victim.owner.cgroup
    });
    successors.map(|who| who.key).min_by_key(|key| (key.start, key.pid)).map(|key| key.pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::testing::FakeProc;
    use std::path::Path;

    const KEY: ProcKey = ProcKey { pid: Pid(42), start: Ticks(7) };

    #[test]
    fn the_json_has_the_fields_of_the_interface_and_null_for_what_was_not_measured() {
        let mut outcome = Outcome::new(KEY, OutcomeKind::AlreadyGone, "gone");
        outcome.died_after_s = Some(Duration::from_millis(250));
        outcome.exit = Some(ExitStatus::Signal(15));
        outcome.checks.push(Check::new("identity", true, "the same"));
        outcome.bystanders.push(Bystander { pid: Pid(43), alive: true, same_process: true });
        let json = serde_json::to_value(&outcome).unwrap();
        for (field, value) in [
            ("pid", "42"),
            ("outcome", "\"already-gone\""),
            ("signal", "null"),
            ("escalated", "false"),
            ("died_after_s", "0.25"),
            ("exit", "\"signal 15\""),
            ("checks", r#"[{"check":"identity","detail":"the same","passed":true}]"#),
            ("memory_returned_bytes", "null"),
            ("respawned_as", "null"),
            ("bystanders", r#"[{"alive":true,"pid":43,"same_process":true}]"#),
        ] {
            assert_eq!(json[field].to_string(), value, "{field}");
            assert!(json.get(field).is_some(), "{field}");
        }
    }

    #[test]
    fn each_kind_has_the_same_name_in_words_and_in_json() {
        use OutcomeKind as K;
        for kind in [K::Killed, K::AlreadyGone, K::Refused, K::Failed, K::DryRun] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn an_exit_event_completes_the_outcome_or_must_agree_with_it() {
        let mut outcome = Outcome::new(KEY, OutcomeKind::Killed, "killed");
        let stranger = ProcKey { pid: Pid(42), start: Ticks(8) };
        outcome.confirm_exit(stranger, ExitStatus::Code(1));
        assert_eq!((outcome.exit, outcome.checks.len()), (None, 0));
        for (status, passed) in
            [(ExitStatus::Signal(15), true), (ExitStatus::Signal(15), true), (ExitStatus::Code(0), false)]
        {
            outcome.confirm_exit(KEY, status);
            assert_eq!(outcome.exit, Some(ExitStatus::Signal(15)));
            assert_eq!(outcome.checks.last().unwrap().passed, passed);
        }
    }

    #[test]
    fn a_successor_started_later_and_a_twin_from_before_is_none() {
        let fake = FakeProc::new();
        for (pid, ticks) in [(40, 900), (41, 1500), (42, 1000), (43, 1400)] {
            fake.process(pid, 1, ticks, Path::new("/nowhere"));
        }
        let victim = fake.root().identify(Pid(42)).unwrap();
        assert_eq!(find_successor(&fake.root(), &victim, Ticks(1200).moment()), Some(Pid(43)));
        assert_eq!(find_successor(&fake.root(), &victim, Ticks(1501).moment()), None);
        fake.write("43/cmdline", "other\0");
        assert_eq!(find_successor(&fake.root(), &victim, Ticks(1200).moment()), Some(Pid(41)));
    }
}
