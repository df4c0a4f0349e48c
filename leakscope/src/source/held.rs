//! Files of /proc that stay open between two looks: to open and close them is more than half of what a look costs.
//!
//! A file of /proc belongs to one process, not to a pid. Once that process has ended it tells of nobody, and the pid is
//! looked up anew.

use std::collections::HashMap;

use super::process::{Files, ProcRoot, Seen};
use crate::units::Pid;

/// Processes whose files stay open at most, three files each.
const MOST: u64 = 100;

/// Which part of the files that this process may open is used for it.
const SHARE_OF_LIMIT: u64 = 4;

/// After so many rounds in which nobody looked at it a process may give way to another: ten seconds at four a second.
const PATIENCE: u64 = 40;

/// The files of processes that are looked at again and again.
#[derive(Debug)]
pub(super) struct HeldFiles {
    held: HashMap<Pid, Held>,
    most: usize,
    round: u64,
    /// When the forsaken were last sent away: a second look in the same round finds no more.
    cleared: u64,
}

#[derive(Debug)]
struct Held {
    files: Files,
    /// When they were last read.
    round: u64,
}

impl HeldFiles {
    /// None yet; the more this process may open, the more they can be, up to a hundred processes.
    pub(super) fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = limit.map_or(MOST, |limit| limit / SHARE_OF_LIMIT / 3).min(MOST);
        Self::of_at_most(usize::try_from(most).unwrap_or(0))
    }

    fn of_at_most(most: usize) -> Self {
        Self { held: HashMap::new(), most, round: 0, cleared: 0 }
    }

    /// Begins a round of looks.
    pub(super) fn next_round(&mut self) {
        self.round += 1;
    }

    /// Looks at a process through its open files, or opens them and keeps them where there is room.
    pub(super) fn look(&mut self, root: &ProcRoot, pid: Pid) -> Seen {
        if let Some(held) = self.held.get_mut(&pid) {
            held.round = self.round;
            match held.files.look(pid) {
                Seen::Gone => _ = self.held.remove(&pid),
                seen => return seen,
            }
        }
        let files = match root.open(pid) {
            Ok(files) => files,
            Err(seen) => return seen,
        };
        let seen = files.look(pid);
        if matches!(seen, Seen::Here(_)) && self.has_room() {
            self.held.insert(pid, Held { files, round: self.round });
        }
        seen
    }

    /// Closes the files of a process that has ended.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.held.remove(&pid);
    }

    /// Whether there is room for one more, made at the cost of those whom nobody looked at for long.
    fn has_room(&mut self) -> bool {
        if self.held.len() < self.most {
            return true;
        }
        if self.cleared != self.round {
            self.cleared = self.round;
            let oldest = self.round.saturating_sub(PATIENCE);
            self.held.retain(|_, held| held.round >= oldest);
        }
        self.held.len() < self.most
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Child, Command};

    use super::*;

    struct Sleeper(Child);

    impl Sleeper {
        fn new() -> Self {
            Self(Command::new("sleep").arg("60").spawn().unwrap())
        }

        fn pid(&self) -> Pid {
            Pid(self.0.id())
        }

        fn end(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn there_are_never_more_than_the_most_and_the_forsaken_give_way() {
        let root = ProcRoot::new(Path::new("/proc"));
        let mut files = HeldFiles::of_at_most(2);
        let sleepers = [Sleeper::new(), Sleeper::new(), Sleeper::new()];
        for _ in 0..3 {
            files.next_round();
            for sleeper in &sleepers {
                assert!(matches!(files.look(&root, sleeper.pid()), Seen::Here(_)));
            }
        }
        assert_eq!(files.held.len(), 2);
        assert!(!files.held.contains_key(&sleepers[2].pid()), "the others were looked at a moment ago");
        for _ in 0..=PATIENCE {
            files.next_round();
        }
        assert!(matches!(files.look(&root, sleepers[2].pid()), Seen::Here(_)));
        assert_eq!(files.held.keys().collect::<Vec<_>>(), [&sleepers[2].pid()]);
    }

    #[test]
    fn whoever_ended_is_gone_and_its_files_are_closed() {
        let root = ProcRoot::new(Path::new("/proc"));
        let mut files = HeldFiles::of_at_most(2);
        let mut sleeper = Sleeper::new();
        assert!(matches!(files.look(&root, sleeper.pid()), Seen::Here(_)));
        sleeper.end();
        assert_eq!(files.look(&root, sleeper.pid()), Seen::Gone);
        assert!(files.held.is_empty());
        let other = Sleeper::new();
        assert!(matches!(files.look(&root, other.pid()), Seen::Here(_)));
        files.forget(other.pid());
        assert!(files.held.is_empty());
    }
}
