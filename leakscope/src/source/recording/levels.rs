//! What a recording says of limits: how often those are read that nobody asks for, and which changes are worth a line.
//!
//! What is left under an outer limit changes with whatever goes on below it, at each look. A change by less than a
//! [`NOTABLE`]th would not move an estimate that anybody acts on, and is not told: not to the recording, and not to
//! whoever judges while it is made, so that a replay says the same.

use std::collections::HashMap;
use std::time::Duration;

use crate::leak::{Limit, Room};
use crate::units::{Bytes, Moment};

/// How often the limits above a cgroup are read that nobody asks for.
const PERIOD: Duration = Duration::from_secs(10);
/// Cgroups of which it is remembered when that was, and limits of which it is remembered what was told.
const MAX_KNOWN: usize = 1 << 16;
/// The part of what is left by which it must have changed.
const NOTABLE: u64 = 256;

/// What was read and told of limits.
#[derive(Debug, Default)]
pub(super) struct Levels {
    read: HashMap<String, Moment>,
    /// What was last told of each limit: its size, and what is left.
    told: HashMap<String, (Bytes, Bytes)>,
}

impl Levels {
    /// Whether it is time to look at the limits above a cgroup; they count as looked at then.
    pub(super) fn due(&mut self, cgroup: &str, at: Moment) -> bool {
        if self.read.get(cgroup).is_some_and(|last| at.since(*last) < PERIOD) {
            return false;
        }
        if self.read.len() >= MAX_KNOWN {
            self.read.clear();
        }
        self.read.insert(cgroup.to_owned(), at);
        true
    }

    /// Makes of what was read what is told.
    pub(super) fn as_told(&mut self, room: &mut Room) {
        let Limit::Cgroup(path) = &room.limit else { return };
        match self.told.get_mut(path) {
            Some((size, left)) if *size == room.size && !is_notable(*left, room.left) => room.left = *left,
            Some(told) => *told = (room.size, room.left),
            None => {
                if self.told.len() >= MAX_KNOWN {
                    self.told.clear();
                }
                self.told.insert(path.clone(), (room.size, room.left));
            }
        }
    }
}

fn is_notable(before: Bytes, now: Bytes) -> bool {
    before.0.abs_diff(now.0) > before.0.min(now.0) / NOTABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_change_is_not_told_and_small_changes_add_up() {
        let mut levels = Levels::default();
        let mut told = |left| {
            let limit = Limit::Cgroup("/a".to_owned());
            let mut room = Room { limit, size: Bytes(1 << 30), left: Bytes(left) };
            levels.as_told(&mut room);
            room.left.0
        };
        assert_eq!([256_000, 255_500, 255_000, 254_900].map(&mut told), [256_000, 256_000, 255_000, 255_000]);
        // Near the end everything counts.
        assert_eq!([200, 199, 1, 0].map(&mut told), [200, 199, 1, 0]);
    }

    #[test]
    fn what_nobody_asks_for_is_read_each_ten_seconds() {
        let mut levels = Levels::default();
        let at = |second: u64| Moment(second * 1_000_000_000);
        assert_eq!(
            [0, 3, 9, 10, 11].map(|second| levels.due("/a", at(second))),
            [true, false, false, true, false]
        );
        assert!(levels.due("/b", at(11)));
    }
}
