//! /proc alone: no privilege, no kernel side, and the price of reading every process each time.
//!
//! An exec shows as a program or stack that begins elsewhere; where those may not be read (another user's process,
//! without privilege) it goes unseen. An end shows as a pid that is missing, without a status.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::host::Host;
use super::process::{Glance, ProcRoot, Seen};
use super::unread::Unread;
use super::{Batch, Event, Lost, Reading, Source, SourceKind};
use crate::units::{Pid, ProcKey};

/// Reads all of /proc at each tick.
#[derive(Debug)]
pub struct ProcfsSource {
    proc_root: ProcRoot,
    host: Host,
    period: Duration,
    ticks: Option<Interval>,
    known: BTreeMap<Pid, Glance>,
    vanished: u64,
    unread: Unread,
}

impl ProcfsSource {
    /// How often it reads unless told otherwise: each time costs a look at every process.
    pub const PERIOD: Duration = Duration::from_secs(1);

    /// Opens the proc file system at `root` (`/proc`), to be read every `period`.
    ///
    /// # Errors
    /// When `root` cannot be listed, or `period` is zero.
    pub fn open(root: &Path, period: Duration) -> Result<Self> {
        anyhow::ensure!(!period.is_zero(), "the sampling period must be longer than zero");
        let proc_root = ProcRoot::new(root);
        proc_root.pids()?;
        Ok(Self {
            proc_root,
            host: Host::new(root),
            period,
            ticks: None,
            known: BTreeMap::new(),
            vanished: 0,
            unread: Unread::default(),
        })
    }

    fn scan(&mut self) -> Result<(Vec<Reading>, Vec<Event>)> {
        let mut readings = Vec::new();
        let mut events = Vec::new();
        let mut here = BTreeMap::new();
        let pids: BTreeSet<Pid> = self.proc_root.pids()?.into_iter().collect();
        self.unread.keep(|pid| pids.contains(&pid));
        for pid in pids {
            match self.proc_root.look(pid) {
                Seen::Gone => self.vanished += 1,
                Seen::Unread(why) => self.unread.note(pid, why),
                Seen::WithoutMemory | Seen::Zombie => {}
                // It is still there, and stays as it was last seen until it is gone.
                Seen::Ending(key) => {
                    here.extend(
                        self.known.get(&pid).filter(|before| before.key == key).map(|before| (pid, *before)),
                    );
                }
                Seen::Here(glance) => {
                    here.insert(pid, glance);
                }
            }
        }
        for before in self.known.values() {
            if here.get(&before.key.pid).is_none_or(|now| now.key != before.key) {
                events.push(Event::Exit { key: before.key, status: None });
            }
        }
        for now in here.values() {
            let before = self.known.get(&now.key.pid).filter(|before| before.key == now.key);
            if before.is_some_and(|before| before.image != now.image) {
                events.push(Event::Exec { key: now.key });
            }
            if before.is_none_or(|before| before.memory != now.memory) {
                readings.push(Reading { key: now.key, memory: now.memory, kernel: None, faults: Vec::new() });
            }
        }
        self.known = here;
        Ok((readings, events))
    }
}

impl Source for ProcfsSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Procfs
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>> {
        let period = self.period;
        let ticks = self.ticks.get_or_insert_with(|| ticking(period));
        ticks.tick().await;
        let (at, wall) = Host::now();
        let (readings, events) = self.scan()?;
        let host = self.host.memory(at)?;
        let lost = Lost { causes: self.unread.causes().collect(), vanished: self.vanished };
        Ok(Some(Batch { at, wall, host, readings, events, lost }))
    }

    fn inspect(&mut self, _suspects: &[ProcKey]) -> Result<()> {
        // /proc has no closer look at syscalls or faults.
        Ok(())
    }
}

/// A clock that never hurries to make up for a late tick.
pub(super) fn ticking(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Bytes, Ticks};

    /// A proc file system of our own, whose processes are copies of this one's files.
    struct FakeProc(tempfile::TempDir);

    impl FakeProc {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            std::fs::copy("/proc/meminfo", root.path().join("meminfo")).unwrap();
            Self(root)
        }

        fn put(&self, pid: u32, start: u64, stack: u64, anon_kib: u64) {
            let folder = self.0.path().join(pid.to_string());
            std::fs::create_dir_all(&folder).unwrap();
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let status: String = status
                .lines()
                .map(|line| match line.split_once(':') {
                    Some(("RssAnon", _)) => format!("RssAnon:\t{anon_kib} kB\n"),
                    _ => format!("{line}\n"),
                })
                .collect();
            std::fs::write(folder.join("status"), status).unwrap();
            let mut fields = vec![pid.to_string(), "(a program)".to_owned(), "S".to_owned()];
            // Fields 4 to 52 of proc(5): start time is the 22nd, the beginning of the stack the 28th.
            fields.extend((4..=52).map(|field| match field {
                22 => start.to_string(),
                28 => stack.to_string(),
                _ => "0".to_owned(),
            }));
            std::fs::write(folder.join("stat"), fields.join(" ")).unwrap();
        }

        /// Somebody has sent it SIGKILL.
        fn kill(&self, pid: u32) {
            let path = self.0.path().join(pid.to_string()).join("status");
            let status = std::fs::read_to_string(&path).unwrap();
            let pending = status.lines().find(|line| line.starts_with("SigPnd:")).unwrap();
            std::fs::write(&path, status.replace(pending, "SigPnd:\t0000000000000100")).unwrap();
        }

        fn remove(&self, pid: u32) {
            std::fs::remove_dir_all(self.0.path().join(pid.to_string())).unwrap();
        }

        fn open(&self) -> ProcfsSource {
            ProcfsSource::open(self.0.path(), Duration::from_millis(1)).unwrap()
        }
    }

    fn key(pid: u32, start: u64) -> ProcKey {
        ProcKey { pid: Pid(pid), start: Ticks(start) }
    }

    #[test]
    fn only_what_changed_is_read_again() {
        let proc = FakeProc::new();
        proc.put(10, 5, 100, 1000);
        proc.put(11, 6, 100, 2000);
        let mut source = proc.open();
        assert_eq!(source.scan().unwrap().0.len(), 2);
        proc.put(11, 6, 100, 2004);
        let (readings, events) = source.scan().unwrap();
        assert_eq!(readings.len(), 1);
        assert_eq!(readings[0].key, key(11, 6));
        assert_eq!(readings[0].memory.anon, Bytes::from_kib(2004));
        assert_eq!(events, []);
    }

    #[test]
    fn a_stack_that_begins_elsewhere_is_an_exec() {
        let proc = FakeProc::new();
        proc.put(10, 5, 100, 1000);
        let mut source = proc.open();
        source.scan().unwrap();
        proc.put(10, 5, 200, 1000);
        assert_eq!(source.scan().unwrap().1, [Event::Exec { key: key(10, 5) }]);
    }

    #[test]
    fn a_pid_that_is_used_again_is_an_end_and_a_new_process() {
        let proc = FakeProc::new();
        proc.put(10, 5, 100, 1000);
        let mut source = proc.open();
        source.scan().unwrap();
        proc.put(10, 9, 100, 1000);
        let (readings, events) = source.scan().unwrap();
        assert_eq!(events, [Event::Exit { key: key(10, 5), status: None }]);
        assert_eq!(readings[0].key, key(10, 9));
        proc.remove(10);
        assert_eq!(source.scan().unwrap().1, [Event::Exit { key: key(10, 9), status: None }]);
    }

    #[test]
    fn a_killed_process_keeps_what_it_held_until_it_is_gone() {
        let proc = FakeProc::new();
        proc.put(10, 5, 100, 500_000);
        let mut source = proc.open();
        source.scan().unwrap();
        // The OOM reaper is at work.
        for anon_kib in [300_000, 100_000] {
            proc.put(10, 5, 100, anon_kib);
            proc.kill(10);
            assert_eq!(
                source.scan().unwrap(),
                (Vec::new(), Vec::new()),
                "no fall, and no end as long as it is there"
            );
        }
        proc.remove(10);
        let (readings, events) = source.scan().unwrap();
        assert_eq!((readings.len(), events), (0, vec![Event::Exit { key: key(10, 5), status: None }]));
        // Whoever was killed before it was ever seen, or has the pid of another one, stays unseen.
        proc.put(11, 6, 100, 1000);
        proc.kill(11);
        assert_eq!(source.scan().unwrap(), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_folder_without_processes_is_no_error_and_a_missing_one_is() {
        let proc = FakeProc::new();
        assert!(proc.open().scan().unwrap().0.is_empty());
        assert!(ProcfsSource::open(&proc.0.path().join("nowhere"), ProcfsSource::PERIOD).is_err());
    }
}
