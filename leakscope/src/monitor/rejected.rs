//! Who was looked at and is not selected. Not for good: a process that has just begun may not be yet what it will be.
//!
//! A backend that is forked and not executed sets its title some time after its start, a daemon changes its user or is
//! put into its cgroup; an exec is an event, these are not. So a young process is looked at again a few times, each time
//! that it changes and twice as long has passed; one that was old when it was first seen is what it is.

use std::collections::HashMap;
use std::time::Duration;

use crate::units::{Moment, ProcKey};

/// Bound: when it is reached everybody is forgotten, and whoever lives is looked at once more.
const MOST: usize = 65_536;

/// A process this old has found its title, its user and its cgroup.
const YOUNG: Duration = Duration::from_secs(20);

/// When a young process is looked at again; each time twice as long after.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// How often: after 0.5, 1.5, 3.5, 7.5 and 15.5 seconds.
const RETRIES: u32 = 5;

#[derive(Clone, Copy, Debug)]
struct Rejection {
    retries: u32,
    again_at: Moment,
}

/// Processes that are not selected.
#[derive(Debug, Default)]
pub(super) struct Rejected(HashMap<ProcKey, Rejection>);

impl Rejected {
    /// Whether the process was rejected, and is not to be looked at again yet.
    pub(super) fn holds(&self, key: ProcKey, at: Moment) -> bool {
        self.0.get(&key).is_some_and(|rejection| {
            rejection.retries >= RETRIES || at < rejection.again_at || at.since(key.start.moment()) > YOUNG
        })
    }

    /// It was looked at, and is not selected.
    pub(super) fn insert(&mut self, key: ProcKey, at: Moment) {
        let retries = self.0.get(&key).map_or(0, |before| before.retries + 1);
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            self.0.clear();
        }
        let wait = FIRST_RETRY * 2_u32.pow(retries.min(RETRIES));
        let again_at = Moment(at.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)));
        self.0.insert(key, Rejection { retries, again_at });
    }

    /// It is gone, became another program, or is selected after all.
    pub(super) fn remove(&mut self, key: ProcKey) {
        self.0.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Pid, Ticks};

    fn looks(age_at_first: u64) -> usize {
        let key = ProcKey { pid: Pid(7), start: Ticks(100) };
        let began = key.start.moment().0 + age_at_first * 1_000_000_000;
        let mut rejected = Rejected::default();
        let mut looks = 0;
        // Ten minutes in which it changes in every batch.
        for batch in 0..2400 {
            let at = Moment(began + batch * 250_000_000);
            if !rejected.holds(key, at) {
                looks += 1;
                rejected.insert(key, at);
            }
        }
        looks
    }

    #[test]
    fn a_young_process_is_looked_at_a_few_times_and_an_old_one_once() {
        assert_eq!(looks(0), 1 + RETRIES as usize);
        assert_eq!(looks(60), 1);
    }
}
