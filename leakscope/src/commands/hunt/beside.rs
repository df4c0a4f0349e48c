//! Look-alikes of suspects, followed from the suspicion on: the monitor keeps but the newest of who does not grow, and a
//! report is to show that they were flat, or rose and fell, all the while.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::thinned::Thinned;
use crate::monitor::Finding;
use crate::units::{Bytes, ProcKey};

/// So many are followed.
const FOLLOWED: usize = 8;

/// The footprints of some processes over time.
#[derive(Debug, Default)]
pub(super) struct Beside {
    followed: BTreeMap<ProcKey, Thinned>,
}

impl Beside {
    pub(super) fn is_full(&self) -> bool {
        self.followed.len() >= FOLLOWED
    }

    /// Follows a process from here on, with what is left of its past.
    pub(super) fn follow(&mut self, other: &Finding) {
        if self.is_full() || self.followed.contains_key(&other.key) {
            return;
        }
        let mut past = Thinned::default();
        for point in &other.history {
            past.push(other.wall - other.at.since(point.at), point.memory.footprint());
        }
        self.followed.insert(other.key, past);
    }

    /// Notes what each of them holds; one that is gone holds nothing that could be drawn.
    pub(super) fn note(&mut self, at: Timestamp, holds: impl Fn(ProcKey) -> Option<Bytes>) {
        for (key, past) in &mut self.followed {
            if let Some(bytes) = holds(*key) {
                past.push(at, bytes);
            }
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = ProcKey> {
        self.followed.keys().copied()
    }

    pub(super) fn finish(self) -> BTreeMap<ProcKey, Vec<(Timestamp, Bytes)>> {
        self.followed.into_iter().map(|(key, mut past)| (key, past.finish())).collect()
    }
}
