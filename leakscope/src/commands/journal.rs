//! The journal of a judgement: each change of verdict of each process and each service, with what was known then.
//!
//! It is fed with the ticks of a [`Monitor`], live or replayed, and closed into a report for each process and for each
//! service that is worth one.

use std::collections::HashMap;

use jiff::Timestamp;

use super::present;
use crate::leak::{State, TimeToOom, Verdict};
use crate::monitor::{Group, Monitor, Tick, Tracked};
use crate::process::{Directory, Identity};
use crate::report::{RateLine, SeriesReport, ServiceReport, TransitionLine};
use crate::source::Source;
use crate::units::{Pid, ProcKey};

/// Changes of verdict that are kept of one series.
const MOST_TRANSITIONS: usize = 10_000;
/// Changes of verdict that are kept of all series together.
const MOST_TRANSITIONS_IN_ALL: usize = 500_000;
/// Processes that ended, of which no more are listed; suspects have a list of the same length for themselves.
const MOST_ENDED: usize = 10_000;
/// Services that are listed.
const MOST_SERVICES: usize = 10_000;

/// Keeps the transitions of everything a monitor watches.
pub struct Journal {
    file: String,
    open: HashMap<ProcKey, Changes>,
    /// By [`Group::number`].
    services: HashMap<u64, ServiceChanges>,
    done: Closed,
    /// How many of them had ended, without and with ever having been suspects.
    ended: [usize; 2],
    /// Transitions that are kept.
    transitions: usize,
}

/// What a journal comes to.
#[derive(Debug, Default)]
pub struct Closed {
    /// A report for each process.
    pub series: Vec<SeriesReport>,
    /// Services whose workers grow together, or once did like a leak, and none of which was told alone.
    pub services: Vec<ServiceReport>,
    /// Processes and services that are not listed, because so many others are.
    pub left_out: u64,
}

/// The transitions of one service.
#[derive(Debug, Default)]
struct ServiceChanges {
    changes: Changes,
    /// Whether the sum was ever leaking while none of the workers was told alone.
    told: bool,
}

/// The transitions of one series.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) kept: Vec<TransitionLine>,
    pub(super) more: u64,
}

impl Changes {
    /// Adds a change unless `kept` of all series together are enough; how many it added.
    fn add_within(
        &mut self,
        kept: usize,
        (at_s, at): (f64, Timestamp),
        verdict: &Verdict,
        oom: Option<TimeToOom>,
    ) -> usize {
        let before = self.kept.len();
        if kept == MOST_TRANSITIONS_IN_ALL {
            self.more += 1;
        } else {
            self.add(at_s, Some(at), verdict, oom);
        }
        self.kept.len() - before
    }

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
        Self {
            file,
            open: HashMap::new(),
            services: HashMap::new(),
            done: Closed::default(),
            ended: [0; 2],
            transitions: 0,
        }
    }

    /// Notes what a step brought.
    pub fn note<S: Source, D: Directory>(&mut self, monitor: &mut Monitor<S, D>, tick: Tick) {
        for (key, tracked) in tick.ended {
            let identity = tracked.identity().cloned().or_else(|| monitor.directory().identify(key));
            self.close(key, &tracked, identity, true);
        }
        let at_s = monitor.elapsed().as_secs_f64();
        for transition in tick.transitions {
            let oom = monitor.time_to_oom(transition.key);
            // Read now: it may be gone when the journal is closed.
            monitor.identity(transition.key);
            let Some(tracked) = monitor.process(transition.key) else { continue };
            let changes = self.open.entry(transition.key).or_default();
            self.transitions +=
                changes.add_within(self.transitions, (at_s, tick.wall), tracked.verdict(), oom);
        }
        for group in tick.ended_groups {
            self.close_service(&group);
        }
        for transition in tick.group_transitions {
            let Some(group) = monitor.group(transition.number) else { continue };
            let service = self.services.entry(transition.number).or_default();
            let alone = || monitor.services().all(|group| group.number != transition.number);
            service.told |= transition.to == State::Leaking && !alone();
            self.transitions +=
                service.changes.add_within(self.transitions, (at_s, tick.wall), &group.verdict, None);
        }
    }

    fn close_service(&mut self, group: &Group) {
        let ServiceChanges { changes, told } = self.services.remove(&group.number).unwrap_or_default();
        let grows = group.verdict.state.severity() > 0 && group.len() > 1;
        let worth = told || grows;
        if !worth || self.done.services.len() >= MOST_SERVICES {
            self.done.left_out += u64::from(worth);
            self.transitions -= changes.kept.len();
            return;
        }
        self.done.services.push(ServiceReport {
            file: self.file.clone(),
            service: present::service(group),
            ended: group.is_empty(),
            transitions: changes.kept,
            transitions_left_out: changes.more,
        });
    }

    fn close(&mut self, key: ProcKey, tracked: &Tracked, identity: Option<Identity>, ended: bool) {
        let Changes { kept, more } = self.open.remove(&key).unwrap_or_default();
        if ended {
            // `growing` alone is what every process says while it starts.
            let suspect = kept.iter().any(|change| change.verdict.severity() >= State::Suspect.severity());
            let listed = &mut self.ended[usize::from(suspect)];
            if *listed >= MOST_ENDED {
                self.done.left_out += 1;
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
        self.done.series.push(name.report(&self.file, tracked.samples(), tracked.verdict(), changes, ended));
    }

    /// Closes the journal: what is still watched is reported as it stands.
    pub fn finish<S: Source, D: Directory>(mut self, monitor: &mut Monitor<S, D>) -> Closed {
        let keys: Vec<ProcKey> = monitor.keys_by_growth().collect();
        for key in keys {
            let identity = monitor.identity(key).cloned();
            let Some(tracked) = monitor.process(key).cloned() else { continue };
            self.close(key, &tracked, identity, false);
        }
        let mut groups: Vec<&Group> = monitor.services().collect();
        groups.sort_by(|one, other| other.verdict.cmp_by_concern(&one.verdict));
        groups.into_iter().for_each(|group| self.close_service(group));
        self.done
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

#[cfg(test)]
mod tests;
