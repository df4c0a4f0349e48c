//! The processes in the order in which they are shown: kept as they are judged, so that a look at the first of them costs
//! nothing for the rest.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Tracked;
use crate::units::{Bytes, ProcKey};

/// Where a process stands: the fastest growing first, and the largest first among those that do not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    rate: Reverse<Rate>,
    footprint: Reverse<Bytes>,
    key: ProcKey,
}

/// Bytes a second, in the order of [`f64::total_cmp`].
#[derive(Clone, Copy, Debug)]
struct Rate(f64);

impl PartialEq for Rate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rate {}

impl PartialOrd for Rate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Place {
    /// That of a process as it is judged now.
    pub(super) fn of(key: ProcKey, tracked: &Tracked) -> Self {
        let rate = tracked.verdict().rate.map_or(0.0, |rate| rate.mean.0);
        let footprint = tracked.memory().footprint();
        Self { rate: Reverse(Rate(rate)), footprint: Reverse(footprint), key }
    }
}

/// Everybody's place.
#[derive(Debug, Default)]
pub(super) struct Ranking(BTreeSet<Place>);

impl Ranking {
    pub(super) fn add(&mut self, place: Place) {
        self.0.insert(place);
    }

    pub(super) fn remove(&mut self, place: &Place) {
        self.0.remove(place);
    }

    /// The place that a process had is another now.
    pub(super) fn change(&mut self, from: &Place, to: Place) {
        if *from != to {
            self.remove(from);
            self.add(to);
        }
    }

    /// All, the first first.
    pub(super) fn keys(&self) -> impl Iterator<Item = ProcKey> {
        self.0.iter().map(|place| place.key)
    }
}
