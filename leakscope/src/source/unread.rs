//! Processes that are there and cannot be read: each counts once for as long as it lives, however often it is tried.
//!
//! What may not be read is told apart from what ended: under `hidepid` a user who is not root sees every pid and the
//! files of none, and a report that calls them ended would be wrong by the whole host.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::units::Pid;

/// Why a process that is there was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its files may not be read: `hidepid`, or another user's process in a restricted mount.
    Forbidden,
    /// Its files could not be read or understood.
    Unreadable,
}

impl Why {
    const ALL: [Self; 2] = [Self::Forbidden, Self::Unreadable];

    const fn cause(self) -> &'static str {
        match self {
            Self::Forbidden => {
                "processes whose files in /proc may not be read (hidepid): needs root, or CAP_SYS_PTRACE"
            }
            Self::Unreadable => "processes whose files in /proc could not be read",
        }
    }
}

/// Who could not be read, bounded by the processes alive.
#[derive(Debug, Default)]
pub(super) struct Unread {
    now: BTreeMap<Pid, Why>,
    counts: [u64; Why::ALL.len()],
}

impl Unread {
    /// A process could not be read.
    pub(super) fn note(&mut self, pid: Pid, why: Why) {
        if self.now.insert(pid, why) != Some(why) {
            self.counts[why as usize] += 1;
        }
    }

    /// It was read, or is gone.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.now.remove(&pid);
    }

    /// Only these are there.
    pub(super) fn keep(&mut self, is_here: impl Fn(Pid) -> bool) {
        self.now.retain(|pid, _| is_here(*pid));
    }

    /// The causes, and how many processes each kept from being read.
    pub(super) fn causes(&self) -> impl Iterator<Item = (Cow<'static, str>, u64)> {
        let counted = Why::ALL.map(|why| (Cow::from(why.cause()), self.counts[why as usize]));
        counted.into_iter().filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(unread: &Unread) -> Vec<u64> {
        unread.causes().map(|(_, count)| count).collect()
    }

    #[test]
    fn a_process_counts_once_however_often_it_is_tried_and_again_when_its_pid_is_another_s() {
        let mut unread = Unread::default();
        for _ in 0..360 {
            unread.note(Pid(1), Why::Forbidden);
            unread.note(Pid(2), Why::Forbidden);
            unread.note(Pid(3), Why::Unreadable);
        }
        assert_eq!(counts(&unread), [2, 1]);
        unread.keep(|pid| pid != Pid(2));
        unread.note(Pid(2), Why::Forbidden);
        unread.forget(Pid(3));
        assert_eq!(counts(&unread), [3, 1], "what was not seen stays told");
    }
}
