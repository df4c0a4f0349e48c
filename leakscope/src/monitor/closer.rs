//! Who is worth a closer look, and for how long: on some kernels what traces calls makes every system call of the host
//! dearer, and many healthy processes are suspected for a while.
//!
//! A look begins with `suspect` at a rate that can show something, and lasts a minute: a rhythm shows within seconds, and
//! the calls of a minute say how the memory was asked for. After it the process rests for twice as long as it was looked
//! at altogether, so that a healthy one that is suspected again and again costs less and less. A process that is thought
//! to leak is looked at until it no longer is.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Monitor;
use crate::leak::{State, Verdict};
use crate::process::Directory;
use crate::source::Source;
use crate::units::{Moment, ProcKey};

/// How many suspects are looked at closely at a time.
const MAX_INSPECTED: usize = 64;

/// A page a second: below it the eight steps that a rhythm takes do not come within a suspicion's first seconds.
const LEAST_RATE: f64 = 4096.0;

/// How long a suspect is looked at in one go.
const LOOK: Duration = Duration::from_secs(60);

/// How much longer than all looks so far the rest after one is.
const REST: u32 = 2;

/// The closer looks at one process.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks {
    began: Option<Moment>,
    total: Duration,
    rest_until: Moment,
}

impl Looks {
    /// Whether the process is to be looked at closely from now on.
    pub(super) fn wanted(&mut self, at: Moment, verdict: &Verdict) -> bool {
        let Some(began) = self.began else {
            if self.is_due(at, verdict) {
                self.began = Some(at);
            }
            return self.began.is_some();
        };
        let looked = at.since(began);
        let over = match verdict.state {
            State::Leaking => false,
            state => state.severity() == 0 || looked >= LOOK,
        };
        if over {
            self.began = None;
            self.total += looked;
            let rest = u64::try_from((self.total * REST).as_nanos()).unwrap_or(u64::MAX);
            self.rest_until = Moment(at.0.saturating_add(rest));
        }
        !over
    }

    /// It was not looked at after all: there was no room.
    pub(super) fn refuse(&mut self) {
        self.began = None;
    }

    fn is_due(&self, at: Moment, verdict: &Verdict) -> bool {
        match verdict.state {
            State::Leaking => true,
            State::Suspect => {
                at >= self.rest_until && verdict.rate.is_some_and(|rate| rate.mean.0 >= LEAST_RATE)
            }
            _ => false,
        }
    }
}

impl<S: Source, D: Directory> Monitor<S, D> {
    /// Keeps the closer look on those who are worth it, whoever is looked at already first.
    pub(super) fn inspect_suspects(&mut self, at: Moment) -> anyhow::Result<()> {
        let mut wanted = BTreeSet::new();
        for key in self.inspected.iter().chain(self.unsettled.difference(&self.inspected)) {
            let looks = self.processes.get_mut(key).and_then(|tracked| tracked.looks());
            let Some((looks, verdict)) = looks else { continue };
            if looks.wanted(at, verdict) {
                if wanted.len() < MAX_INSPECTED {
                    wanted.insert(*key);
                } else {
                    looks.refuse();
                }
            }
        }
        if wanted != self.inspected {
            let list: Vec<ProcKey> = wanted.iter().copied().collect();
            self.source.inspect(&list)?;
            self.inspected = wanted;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leak::{Evidence, Rate};
    use crate::units::BytesPerSec;

    fn verdict(state: State, rate: f64) -> Verdict {
        let rate = Rate { mean: BytesPerSec(rate), low: BytesPerSec(rate), high: BytesPerSec(rate) };
        Verdict {
            state,
            confirmed: false,
            clean_growth: Duration::from_secs(6),
            rate: Some(rate),
            evidence: Evidence::default(),
        }
    }

    /// Seconds of each hour in which a process that always looks like this is looked at closely.
    fn looked_at(verdict: &Verdict, hours: u64) -> Vec<u64> {
        let mut looks = Looks::default();
        let hour = |hour: u64| {
            let seconds = hour * 3600..(hour + 1) * 3600;
            seconds.filter(|second| looks.wanted(Moment(second * 1_000_000_000), verdict)).count() as u64
        };
        (0..hours).map(hour).collect()
    }

    #[test]
    fn the_lab_s_leak_is_looked_at_as_soon_as_it_is_suspected() {
        assert!(Looks::default().wanted(Moment(6_000_000_000), &verdict(State::Suspect, 51_200.0)));
    }

    #[test]
    fn a_suspect_is_looked_at_for_a_minute_and_ever_less_often_after() {
        let hours = looked_at(&verdict(State::Suspect, 51_200.0), 8);
        assert!((60..=480).contains(&hours[0]), "{hours:?}");
        assert!(hours.iter().skip(2).all(|seconds| *seconds <= 240), "{hours:?}");
        assert!(hours[7] <= 120, "{hours:?}");
    }

    #[test]
    fn a_leak_is_looked_at_all_the_time_and_growth_too_slow_to_show_a_rhythm_never() {
        assert_eq!(looked_at(&verdict(State::Leaking, 51_200.0), 1), [3600]);
        assert_eq!(looked_at(&verdict(State::Suspect, 1000.0), 1), [0]);
        assert_eq!(looked_at(&verdict(State::Growing, 51_200.0), 1), [0]);
    }

    #[test]
    fn a_look_ends_when_the_process_no_longer_grows() {
        let mut looks = Looks::default();
        assert!(looks.wanted(Moment(1_000_000_000), &verdict(State::Suspect, 51_200.0)));
        assert!(looks.wanted(Moment(2_000_000_000), &verdict(State::Growing, 51_200.0)));
        assert!(!looks.wanted(Moment(3_000_000_000), &verdict(State::Sawtooth, 0.0)));
        assert!(!looks.wanted(Moment(4_000_000_000), &verdict(State::Suspect, 51_200.0)), "it rests");
        assert!(looks.wanted(Moment(7_000_000_000), &verdict(State::Suspect, 51_200.0)));
    }
}
