//! The corpus: kinds of processes that leak, that do not, and that do not but rise like a leak for a while.
//!
//! The kinds in `leaks`, `healthy` and `ramps` may be looked at while the detector is changed. Those in
//! `held_out` may not: they were written before any detector was run on them, and measure what the tuning is worth.
//! A *ramp* is, while it lasts, the same line as a leak; whoever gives a verdict within its length calls it one, and
//! it is counted apart. Start reading at [`kinds`].

mod healthy;
mod held_out;
mod leaks;
mod ramps;

use crate::dice::Dice;
use crate::process::{Process, Trace};

/// What a kind is, by the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It leaks.
    Leak,
    /// It does not, and never rises straight for longer than a minute.
    Healthy,
    /// It does not, but for longer than a minute it rises as straight as a leak.
    Ramp,
}

/// Whether the detector may be fitted to a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// It may.
    Tune,
    /// It may not.
    HeldOut,
}

impl Split {
    /// The word that tables use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tune => "tune",
            Self::HeldOut => "held out",
        }
    }
}

/// A kind of process.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name, unique in the corpus.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// What it is by the truth.
    pub class: Class,
    /// Which half of the corpus it belongs to.
    pub split: Split,
    make: fn(&mut Dice) -> Process,
}

/// A kind before it is put on a side.
type Entry = (&'static str, &'static str, fn(&mut Dice) -> Process);

impl Kind {
    /// The trace of this kind that `seed` gives.
    pub fn trace(&self, seed: u64) -> Trace {
        let mut dice = Dice::of(self.name, seed);
        let process = (self.make)(&mut dice);
        process.run(&mut dice, self.class == Class::Leak)
    }
}

/// All kinds, in the order of the tables.
pub fn kinds() -> Vec<Kind> {
    let side = |entries: &[Entry], class, split| -> Vec<Kind> {
        let kind = |(name, about, make): &Entry| Kind { name, about, class, split, make: *make };
        entries.iter().map(kind).collect()
    };
    [
        side(leaks::KINDS, Class::Leak, Split::Tune),
        side(healthy::KINDS, Class::Healthy, Split::Tune),
        side(ramps::KINDS, Class::Ramp, Split::Tune),
        side(held_out::LEAKS, Class::Leak, Split::HeldOut),
        side(held_out::HEALTHY, Class::Healthy, Split::HeldOut),
        side(held_out::RAMPS, Class::Ramp, Split::HeldOut),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_third_of_the_kinds_is_held_out_and_every_name_is_its_own() {
        let kinds = kinds();
        let held_out = kinds.iter().filter(|kind| kind.split == Split::HeldOut).count();
        assert!(kinds.len() >= 60 && 3 * held_out >= kinds.len(), "{held_out} of {}", kinds.len());
        let names: BTreeSet<&str> = kinds.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), kinds.len());
    }

    #[test]
    fn a_trace_is_the_same_each_time_and_lasts_a_minute_to_some_hours() {
        for kind in kinds() {
            let trace = kind.trace(1);
            assert!((15.0..8.0 * 3600.0).contains(&trace.seconds()), "{}", kind.name);
            let last = trace.ticks() - 1;
            assert_eq!(trace.memory(last), kind.trace(1).memory(last), "{}", kind.name);
        }
    }

    #[test]
    fn a_leak_leaks_to_its_end_and_nothing_else_leaks() {
        for kind in kinds() {
            let trace = kind.trace(2);
            let (from, to) = trace.leaking_from_to();
            let rate = trace.true_rate(from, to);
            assert_eq!(rate > 0.0, kind.class == Class::Leak, "{}: {rate}", kind.name);
            assert!(from < to, "{}", kind.name);
        }
    }
}
