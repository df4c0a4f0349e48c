//! The journal of a judgement: each change of verdict of each process, with what was known then.
//!
//! It is fed with the ticks of a [`Monitor`], live or replayed, and closed into a report for each process.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::leak::{State, TimeToOom, Verdict};
use crate::monitor::{Monitor, Tick, Tracked};
use crate::process::{Directory, Identity};
use crate::report::{RateLine, SeriesReport, TransitionLine};
use crate::source::Source;
use crate::units::{Pid, ProcKey};

/// Changes of verdict that are kept of one series.
const MOST_TRANSITIONS: usize = 10_000;
/// Changes of verdict that are kept of all series together.
const MOST_TRANSITIONS_IN_ALL: usize = 500_000;
/// Processes that ended, of which no more are listed; suspects have a list of the same length for themselves.
const MOST_ENDED: usize = 10_000;

/// Keeps the transitions of everything a monitor watches.
pub struct Journal {
    file: String,
    open: HashMap<ProcKey, Changes>,
    done: Vec<SeriesReport>,
    /// How many of them had ended, without and with ever having been suspects.
    ended: [usize; 2],
    /// Transitions that are kept.
    transitions: usize,
    left_out: u64,
}

/// The transitions of one series.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) kept: Vec<TransitionLine>,
    pub(super) more: u64,
}

impl Changes {
    pub(super) fn add(
        &mut self,
        at_s: f64,
        at: Option<Timestamp>,
        verdict: &Verdict,
        oom: Option<TimeToOom>,
    ) {
        if self.kept.len() == MOST_TRANSITIONS {
            self.more += 1;
            return;
        }
        self.kept.push(TransitionLine {
            at_s,
            at,
            verdict: verdict.state,
            confirmed: verdict.confirmed,
            rate: RateLine::from_verdict(verdict),
            oom_eta: oom.map(|oom| oom.eta),
        });
    }
}

impl Journal {
    /// A journal of what is called `file`.
    pub fn new(file: String) -> Self {
        Self { file, open: HashMap::new(), done: Vec::new(), ended: [0; 2], transitions: 0, left_out: 0 }
    }

    /// Notes what a step brought.
    pub fn note<S: Source, D: Directory>(&mut self, monitor: &mut Monitor<S, D>, tick: Tick) {
        for (key, tracked) in tick.ended {
            let identity = tracked.identity.clone().or_else(|| monitor.directory().identify(key));
            self.close(key, &tracked, identity, true);
        }
        let at_s = monitor.elapsed().as_secs_f64();
        for transition in tick.transitions {
            let oom = monitor.time_to_oom(transition.key);
            // Read now: it may be gone when the journal is closed.
            monitor.identity(transition.key);
            let Some(tracked) = monitor.process(transition.key) else { continue };
            let changes = self.open.entry(transition.key).or_default();
            if self.transitions == MOST_TRANSITIONS_IN_ALL {
                changes.more += 1;
                continue;
            }
            let before = changes.kept.len();
            changes.add(at_s, Some(tick.wall), &tracked.verdict, oom);
            self.transitions += changes.kept.len() - before;
        }
    }

    fn close(&mut self, key: ProcKey, tracked: &Tracked, identity: Option<Identity>, ended: bool) {
        let Changes { kept, more } = self.open.remove(&key).unwrap_or_default();
        if ended {
            // `growing` alone is what every process says while it starts.
            let suspect = kept.iter().any(|change| change.verdict.severity() >= State::Suspect.severity());
            let listed = &mut self.ended[usize::from(suspect)];
            if *listed >= MOST_ENDED {
                self.left_out += 1;
                self.transitions -= kept.len();
                return;
            }
            *listed += 1;
        }
        let name = Named {
            pid: Some(key.pid),
            start: Some(key),
            comm: identity.as_ref().map(|identity| identity.comm.clone()),
            cmdline: identity.map(|identity| identity.cmdline),
        };
        let changes = Changes { kept, more };
        self.done.push(name.report(&self.file, tracked.samples, &tracked.verdict, changes, ended));
    }

    /// Closes the journal: what is still watched is reported as it stands.
    /// The series, and how many were left out because they had ended, as so many others had.
    pub fn finish<S: Source, D: Directory>(
        mut self,
        monitor: &mut Monitor<S, D>,
    ) -> (Vec<SeriesReport>, u64) {
        let keys: Vec<ProcKey> = monitor.keys_by_growth();
        for key in keys {
            let identity = monitor.identity(key).cloned();
            let Some(tracked) = monitor.process(key).cloned() else { continue };
            self.close(key, &tracked, identity, false);
        }
        (self.done, self.left_out)
    }
}

/// What a series is called.
pub(super) struct Named {
    pub(super) pid: Option<Pid>,
    pub(super) start: Option<ProcKey>,
    pub(super) comm: Option<String>,
    pub(super) cmdline: Option<Vec<String>>,
}

impl Named {
    /// Its report, as it stands.
    pub(super) fn report(
        self,
        file: &str,
        samples: u64,
        verdict: &Verdict,
        changes: Changes,
        ended: bool,
    ) -> SeriesReport {
        SeriesReport {
            file: file.to_owned(),
            pid: self.pid,
            start_time_ticks: self.start.map(|key| key.start),
            comm: self.comm,
            cmdline: self.cmdline,
            samples,
            verdict: verdict.state,
            confirmed: verdict.confirmed,
            ended,
            rate: RateLine::from_verdict(verdict),
            clean_growth: verdict.clean_growth,
            reasons: verdict.reasons(),
            transitions: changes.kept,
            transitions_left_out: changes.more,
        }
    }
}
