//! From the ring's records to readings and events: what a batch is made of.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use anyhow::{Context, Result};
use leakscope_common::{Process, Record, Tally, record};

use super::{KernelSource, maps};
use crate::leak::Memory;
use crate::source::process::{Glance, Seen};
use crate::source::{Event, ExitStatus, ProcfsSource, Reading, TracepointKind};
use crate::units::{Moment, Pid, ProcKey, Ticks};

/// Known processes that each batch reads although nothing was said of them: at four batches a second, two hundred
/// processes are seen again every minute. More would be most of what an idle host pays for leakscope.
const WALK: usize = 1;

/// How often all of /proc may be read for what was lost: as often as the source without a kernel side does.
const RESCAN_PERIOD: Duration = ProcfsSource::PERIOD;

/// How often pids are compared with what is kept: entries of processes that are gone go, and lost exits are found. One
/// listing of /proc, without a look at any process.
const SWEEP_PERIOD: Duration = Duration::from_secs(20);

/// What was last reported of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    key: ProcKey,
    memory: Memory,
    execs: u32,
    /// It was not found; if it is still missing in the next batch, its exit was lost.
    missing: bool,
}

/// Why a process is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The kernel side says that it changed.
    Changed,
    /// All of /proc is read.
    Scan,
    /// It is its turn in the walk.
    Walk,
}

/// A batch in the making.
#[derive(Default)]
struct Draft {
    readings: Vec<Reading>,
    events: Vec<Event>,
    /// Processes whose exit was told in this batch: /proc may show them for a moment longer.
    ended: Vec<(Pid, Option<Ticks>)>,
    epoch: u32,
}

impl KernelSource {
    /// Everything that happened since the call before.
    pub(super) fn observe(&mut self, at: Moment) -> Result<(Vec<Reading>, Vec<Event>)> {
        let epoch = self.maps.begin_epoch().context("writing the map .bss")?;
        let mut draft = Draft { epoch, ..Draft::default() };
        self.held.next_round();
        let mut changed = std::mem::take(&mut self.deferred);
        for record in self.maps.drain() {
            self.take_in(record, &mut changed, &mut draft)?;
        }
        let missing = std::mem::take(&mut self.missing);
        for pid in &changed {
            self.read(*pid, Why::Changed, &mut draft)?;
        }
        for pid in missing.difference(&changed) {
            self.read(*pid, Why::Walk, &mut draft)?;
        }
        if self.must_rescan(at)? {
            self.scan(&changed, &mut draft)?;
        } else {
            self.walk(&changed, &mut draft)?;
        }
        if self.swept_at.is_none_or(|last| at.since(last) >= SWEEP_PERIOD) {
            self.swept_at = Some(at);
            self.sweep(&mut draft)?;
        }
        Ok((draft.readings, draft.events))
    }

    fn take_in(&mut self, record: Record, changed: &mut BTreeSet<Pid>, draft: &mut Draft) -> Result<()> {
        let pid = Pid(record.tgid);
        match record.kind {
            record::CHANGED if record.detail == draft.epoch => {
                self.deferred.insert(pid);
            }
            record::CHANGED => {
                changed.insert(pid);
            }
            record::EXITED => {
                changed.remove(&pid);
                self.deferred.remove(&pid);
                self.unread.forget(pid);
                self.held.forget(pid);
                let start =
                    (record.start_boottime > 0).then(|| Ticks::from_boottime_nanos(record.start_boottime));
                draft.ended.push((pid, start));
                let told =
                    (record.flags & record::HAS_CODE != 0).then(|| ExitStatus::from_exit_code(record.detail));
                self.end(pid, told, draft)?;
            }
            record::OOM_VICTIM => draft.events.push(Event::OomVictim { pid }),
            // No other kind is sent; a newer kernel side cannot be loaded by this build.
            _ => {}
        }
        Ok(())
    }

    /// A process is gone; one that was never reported needs no end.
    fn end(&mut self, pid: Pid, status: Option<ExitStatus>, draft: &mut Draft) -> Result<()> {
        if let Some(known) = self.known.remove(&pid) {
            draft.events.push(Event::Exit { key: known.key, status });
        }
        if self.inspected.remove(&pid).is_some() {
            self.maps.end_suspect(pid).context("writing the map SUSPECTS")?;
            self.switch_inspection()?;
        }
        Ok(())
    }

    fn read(&mut self, pid: Pid, why: Why, draft: &mut Draft) -> Result<()> {
        // The counts first: what changes between the two reads is reported again, and read again.
        let counted = self.maps.process(pid).context("reading the map PROCESSES")?;
        let seen = match why {
            Why::Changed => self.held.look(&self.proc_root, pid),
            // Seldom: not worth an open file.
            Why::Scan | Why::Walk => self.proc_root.look(pid),
        };
        match seen {
            Seen::Gone => {
                self.vanished += u64::from(why != Why::Walk);
                self.unread.forget(pid);
                self.miss(pid, draft)
            }
            // Its end was told, or lost: memory it has none any more.
            Seen::Zombie => self.miss(pid, draft),
            Seen::Unread(reason) => {
                self.unread.note(pid, reason);
                Ok(())
            }
            // Its end will be told; a fall before it would be the kernel's doing.
            Seen::WithoutMemory | Seen::Ending(_) => Ok(()),
            Seen::Here(glance) => self.report(glance, counted, why, draft),
        }
    }

    /// There is nothing where a process was reported. Its exit may still be in the ring: the next batch looks again.
    fn miss(&mut self, pid: Pid, draft: &mut Draft) -> Result<()> {
        match self.known.get_mut(&pid) {
            // Said to be missing by this very batch: too soon.
            Some(_) if self.missing.contains(&pid) => Ok(()),
            Some(known) if known.missing => self.end(pid, None, draft),
            Some(known) => {
                known.missing = true;
                self.missing.insert(pid);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn report(
        &mut self,
        glance: Glance,
        counted: Option<Process>,
        why: Why,
        draft: &mut Draft,
    ) -> Result<()> {
        let key = glance.key;
        if draft
            .ended
            .iter()
            .any(|(pid, start)| *pid == key.pid && start.is_none_or(|start| start == key.start))
        {
            return Ok(());
        }
        // Another process than the counts are of: the pid was used again between the two reads.
        if counted.as_ref().is_some_and(|counted| !same_start(counted, key)) {
            self.vanished += 1;
            return Ok(());
        }
        if self.known.get(&key.pid).is_some_and(|known| known.key != key) {
            self.end(key.pid, None, draft)?;
        }
        let before = self.known.get(&key.pid).copied();
        if why != Why::Changed && before.is_some_and(|before| before.memory == glance.memory) {
            self.known.entry(key.pid).and_modify(|known| known.missing = false);
            return Ok(());
        }
        if why == Why::Walk && counted.as_ref().is_none_or(|counted| counted.epoch != draft.epoch) {
            self.corrections += 1;
        }
        let execs = counted.as_ref().map_or(0, |counted| counted.execs);
        if before.is_some_and(|before| execs > before.execs) {
            draft.events.push(Event::Exec { key });
            self.forget_program(key)?;
        }
        self.known.insert(key.pid, Known { key, memory: glance.memory, execs, missing: false });
        let reading = self.reading(glance, counted)?;
        draft.readings.push(reading);
        Ok(())
    }

    fn reading(&mut self, glance: Glance, counted: Option<Process>) -> Result<Reading> {
        let pid = glance.key.pid;
        let mut faults = Vec::new();
        let mut suspect = None;
        if let Some((_, trail)) = self.inspected.get_mut(&pid) {
            suspect = self.maps.suspect(pid).context("reading the map SUSPECTS")?;
            faults = suspect.as_ref().map(|suspect| trail.follow(suspect)).unwrap_or_default();
        }
        // Without an entry nothing was counted: that is a zero, unless an entry found no room.
        let counted = counted.or_else(|| (!self.map_was_full).then(|| Process::new(0)));
        let forks_are_seen = self.programs.kind() == TracepointKind::Btf;
        // While its calls are not traced they are not counted, which is not the same as none.
        let traced = suspect.as_ref().filter(|_| self.programs.is_inspecting());
        let kernel = counted.map(|counted| maps::counts(&counted, traced, forks_are_seen));
        Ok(Reading { key: glance.key, memory: glance.memory, kernel, faults })
    }

    /// After an exec the closer record begins again, as the counts do.
    fn forget_program(&mut self, key: ProcKey) -> Result<()> {
        if let Some((_, trail)) = self.inspected.get_mut(&key.pid) {
            *trail = super::FaultTrail::default();
            self.maps.begin_suspect(key.pid).context("writing the map SUSPECTS")?;
        }
        Ok(())
    }

    /// At first, and whenever records found no room: what they would have said is in /proc.
    fn must_rescan(&mut self, at: Moment) -> Result<bool> {
        self.tallies = self.maps.tallies().context("reading the map TALLIES")?;
        let unplaced = self.tallies.get(Tally::ProcessesFull);
        self.map_was_full = unplaced > 0;
        let losses =
            self.tallies.get(Tally::ChangeRingFull) + self.tallies.get(Tally::ExitRingFull) + unplaced;
        self.rescan |= losses != self.ring_losses;
        self.ring_losses = losses;
        // A map that stays full loses something in every batch.
        let due = self.rescanned_at.is_none_or(|last| at.since(last) >= RESCAN_PERIOD);
        if !(self.rescan && due) {
            return Ok(false);
        }
        self.rescan = false;
        self.rescanned_at = Some(at);
        Ok(true)
    }

    /// Reads all of /proc.
    fn scan(&mut self, changed: &BTreeSet<Pid>, draft: &mut Draft) -> Result<()> {
        let here: BTreeSet<Pid> = self.proc_root.pids()?.into_iter().collect();
        self.unread.keep(|pid| here.contains(&pid));
        for pid in here.difference(changed) {
            self.read(*pid, Why::Scan, draft)?;
        }
        let gone: Vec<Pid> = self.known.keys().filter(|pid| !here.contains(pid)).copied().collect();
        for pid in gone {
            self.miss(pid, draft)?;
        }
        Ok(())
    }

    /// Finds what nobody told of: ends that were lost, and entries of the dead, whose counts would be the next process'
    /// of that pid. (Before 6.16 a classic exit is the leader's; threads that outlive it make an entry again.)
    fn sweep(&mut self, draft: &mut Draft) -> Result<()> {
        // In this order: who is born in between has no entry in the first list.
        let kept = self.maps.pids();
        let here: BTreeSet<Pid> = self.proc_root.pids()?.into_iter().collect();
        let (alive, over): (Vec<Pid>, Vec<Pid>) = kept.into_iter().partition(|pid| here.contains(pid));
        self.kept = u32::try_from(alive.len()).unwrap_or(u32::MAX);
        for pid in over {
            self.maps.forget(pid).context("writing the map PROCESSES")?;
        }
        let gone: Vec<Pid> = self.known.keys().filter(|pid| !here.contains(pid)).copied().collect();
        for pid in gone {
            self.miss(pid, draft)?;
        }
        self.unread.keep(|pid| here.contains(&pid));
        Ok(())
    }

    /// Reads the next few known processes, round and round.
    fn walk(&mut self, changed: &BTreeSet<Pid>, draft: &mut Draft) -> Result<()> {
        let after = (Bound::Excluded(self.walked_to), Bound::Unbounded);
        let turn: Vec<Pid> = self.known.range(after).map(|(pid, _)| *pid).take(WALK).collect();
        self.walked_to = if turn.len() < WALK { Pid(0) } else { turn.last().copied().unwrap_or(Pid(0)) };
        for pid in turn {
            if !changed.contains(&pid) {
                self.read(pid, Why::Walk, draft)?;
            }
        }
        Ok(())
    }
}

/// Whether the counts are of this process, as far as the kernel side can tell.
fn same_start(counted: &Process, key: ProcKey) -> bool {
    counted.start_boottime == 0 || Ticks::from_boottime_nanos(counted.start_boottime) == key.start
}
