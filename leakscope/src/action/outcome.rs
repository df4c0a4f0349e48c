//! What came of an action, with everything that was checked on the way: the `actions[]` of the JSON.
//!
//! What was not measured is `None`. The caller completes what only it can know: how the kernel's exit event says the
//! process ended ([`Outcome::confirm_exit`]), or that there was none to be had ([`Outcome::without_exit_event`]).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::memory::MemoryReturn;
use crate::leak::State;
use crate::source::ExitStatus;
use crate::units::{Bytes, Pid, ProcKey, Ticks};

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
    /// It is stopped, and that is verified.
    Frozen,
    /// Its growth is held back, and that is verified.
    Throttled,
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
            Self::Frozen => "frozen",
            Self::Throttled => "throttled",
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

/// A signal that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Its name.
    pub signal: &'static str,
    /// When.
    pub at: Timestamp,
}

/// What was seen of the process that was started in a victim's place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Followed {
    /// For how long it was watched, in seconds.
    pub for_s: f64,
    /// Whether it lived until then.
    pub alive: bool,
    /// What was thought of it at the end.
    pub verdict: State,
    /// How fast it grew, while it grew.
    pub rate_bytes_per_s: Option<f64>,
}

impl Followed {
    /// Whether it is on its way to leak again.
    pub const fn grows_again(&self) -> bool {
        self.verdict.severity() >= State::Suspect.severity()
    }
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
    /// What its owner was asked to do instead of a signal, such as `systemctl stop cache.service`.
    pub via: Option<String>,
    /// Every signal that was sent to end it, in order.
    pub signals: Vec<Sent>,
    /// Whether SIGKILL followed SIGTERM.
    pub escalated: bool,
    /// From the first signal to the verified death.
    #[serde(serialize_with = "seconds")]
    pub died_after_s: Option<Duration>,
    /// When its death was seen.
    pub died_at: Option<Timestamp>,
    /// How it ended, by the kernel.
    #[serde(serialize_with = "shown")]
    pub exit: Option<ExitStatus>,
    /// Whether its parent has collected it; `false` is a zombie: dead, its memory returned, its pid still taken.
    pub reaped: Option<bool>,
    /// What was checked, in order.
    pub checks: Vec<Check>,
    /// How much came back, once the death is verified: the footprint (anonymous resident and swapped bytes) right before
    /// the signal, an estimate; where what was measured of host and cgroup contradicts it, what was measured.
    pub memory_returned_bytes: Option<Bytes>,
    /// The figures around it.
    pub memory: MemoryReturn,
    /// The process that somebody started in its place.
    pub respawned_as: Option<Pid>,
    /// What became of that process while it was watched; `None` where that was not asked for.
    pub followed: Option<Followed>,
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
            via: None,
            signals: Vec::new(),
            escalated: false,
            died_after_s: None,
            died_at: None,
            exit: None,
            reaped: None,
            checks: Vec::new(),
            memory_returned_bytes: None,
            memory: MemoryReturn::default(),
            respawned_as: None,
            followed: None,
            bystanders: Vec::new(),
        }
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

    /// Notes a signal that was sent just now.
    pub(super) fn sent(&mut self, signal: &'static str, at: Timestamp) {
        self.signal = Some(signal);
        self.signals.push(Sent { signal, at });
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
        if self.kind == OutcomeKind::Killed {
            self.tell_death();
        }
        self.checks.push(Check::new("exit-event", passed, detail));
    }

    /// Says, where the death was verified, that it rests on the pidfd alone, and why.
    pub fn without_exit_event(&mut self, why: &str) {
        if let Some(death) = self.checks.iter_mut().find(|check| check.check == "death") {
            death.detail.push_str(&format!("; without the kernel's exit event ({why})"));
        }
    }

    /// The sentence about a death that was verified: a program that exits by itself on a signal did not die of it.
    pub(super) fn tell_death(&mut self) {
        let pid = self.pid;
        let signal = self.signal.or(self.via.as_deref()).unwrap_or("a signal");
        let number = match self.signal {
            Some("SIGTERM") => Some(15),
            Some("SIGKILL") => Some(9),
            _ => None,
        };
        self.detail = match self.exit {
            Some(ExitStatus::Signal(own)) if Some(own) == number => format!("pid {pid} died of {signal}"),
            Some(ExitStatus::Signal(other)) => format!("pid {pid} died of signal {other} after {signal}"),
            Some(ExitStatus::Code(code)) => {
                format!("pid {pid} exited with status {code} after {signal}")
            }
            None => format!("pid {pid} ended after {signal}"),
        };
        if self.reaped == Some(false) {
            self.detail.push_str("; it stays a zombie until its parent collects it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for kind in [K::Killed, K::AlreadyGone, K::Refused, K::Failed, K::Frozen, K::Throttled, K::DryRun] {
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
    fn a_program_that_exits_by_itself_on_a_signal_did_not_die_of_it() {
        use ExitStatus::{Code, Signal};
        for (sent, exit, words) in [
            ("SIGTERM", Some(Signal(15)), "died of SIGTERM"),
            ("SIGKILL", Some(Signal(9)), "died of SIGKILL"),
            ("SIGTERM", Some(Signal(9)), "died of signal 9 after SIGTERM"),
            ("SIGTERM", Some(Code(7)), "exited with status 7 after SIGTERM"),
            ("SIGTERM", None, "ended after SIGTERM"),
        ] {
            let mut outcome = Outcome::new(KEY, OutcomeKind::Killed, "");
            outcome.sent(sent, Timestamp::UNIX_EPOCH);
            outcome.tell_death();
            assert_eq!(outcome.detail, format!("pid 42 ended after {sent}"), "how is not known yet");
            if let Some(exit) = exit {
                outcome.confirm_exit(KEY, exit);
            }
            assert_eq!(outcome.detail, format!("pid 42 {words}"));
        }
    }

    #[test]
    fn a_death_without_an_exit_event_says_so_in_its_check() {
        let mut outcome = Outcome::new(KEY, OutcomeKind::Killed, "");
        outcome.checks.push(Check::new("death", true, "the pidfd reports it"));
        outcome.without_exit_event("no root");
        assert!(outcome.checks[0].detail.ends_with("without the kernel's exit event (no root)"));
    }
}
