//! The kernel side's maps as user space reads them, and the words for what was lost. With `programs`, the only place that
//! knows aya.

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use leakscope_common::{
    Control, Process, RSS_ANON, RSS_FILE, RSS_SHMEM, RSS_SWAP, Record, RssKind, Slot, Suspect, Tallies, Tally,
};

use super::error::OpenError;
use super::programs::page_size;
use crate::source::{Calls, Flow, KernelCounts, SyscallCounts};
use crate::units::{Bytes, Pid};

/// [`Control`] is a variable of the kernel side's, which finds it without a lookup: the only one in this map.
const CONTROL: &str = ".bss";

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// The map's name.
    pub name: &'static str,
    /// Entries that it can hold.
    pub capacity: u32,
    /// Entries that it holds.
    pub used: u32,
}

/// The maps that user space reads and writes.
pub(super) struct Maps {
    processes: HashMap<MapData, u32, Process>,
    slots: Array<MapData, Slot>,
    suspects: HashMap<MapData, u32, Suspect>,
    records: RingBuf<MapData>,
    control: Array<MapData, Control>,
    tallies: PerCpuArray<MapData, Tallies>,
    now: Control,
    processes_capacity: u32,
    /// Records that the ring can hold: more are not drained in one go, however fast they come.
    drain_at_most: usize,
}

impl Maps {
    pub(super) fn take(ebpf: &mut Ebpf, processes_capacity: u32, ring_bytes: u32) -> Result<Self, OpenError> {
        // A record and the ring's header of 8 bytes.
        let drain_at_most = ring_bytes as usize / (size_of::<Record>() + 8);
        let mut maps = Self {
            processes: take(ebpf, "PROCESSES")?,
            slots: take(ebpf, "SLOTS")?,
            suspects: take(ebpf, "SUSPECTS")?,
            records: take(ebpf, "RECORDS")?,
            control: take(ebpf, CONTROL)?,
            tallies: take(ebpf, "TALLIES")?,
            now: Control { epoch: 1, suspects: 0 },
            processes_capacity,
            drain_at_most,
        };
        maps.tell().map_err(|error| OpenError::while_doing("writing the map .bss", &error))?;
        Ok(maps)
    }

    /// Begins the next epoch and returns it: whoever changes from now on is reported again.
    pub(super) fn begin_epoch(&mut self) -> Result<u32, MapError> {
        // 0 is what an entry has that was never reported.
        self.now.epoch = self.now.epoch.checked_add(1).unwrap_or(1);
        self.tell()?;
        Ok(self.now.epoch)
    }

    /// Takes what the ring holds, oldest first.
    pub(super) fn drain(&mut self) -> Vec<Record> {
        let mut drained = Vec::new();
        while drained.len() < self.drain_at_most
            && let Some(item) = self.records.next()
        {
            drained.extend(decode(&item));
        }
        drained
    }

    /// What the kernel side keeps for a process; `None` if it keeps nothing.
    pub(super) fn process(&self, pid: Pid) -> Result<Option<Process>, MapError> {
        let Some(entry) = absent_is_none(self.processes.get(&pid.0, 0))? else { return Ok(None) };
        let slot = self.slots.get(&Slot::index(pid.0), 0)?;
        Ok(Some(if slot.tag == Slot::tag(pid.0) { sum(slot.process, &entry) } else { entry }))
    }

    /// What the kernel side keeps for a suspect.
    pub(super) fn suspect(&self, pid: Pid) -> Result<Option<Suspect>, MapError> {
        absent_is_none(self.suspects.get(&pid.0, 0))
    }

    /// The pids that the kernel side keeps something for.
    pub(super) fn pids(&self) -> Vec<Pid> {
        // A key that is taken away meanwhile sends the walk back to the beginning: it ends all the same.
        let most = 2 * self.processes_capacity as usize;
        self.processes.keys().take(most).map_while(Result::ok).map(Pid).collect()
    }

    /// Drops what the kernel side keeps for a process that is gone.
    pub(super) fn forget(&mut self, pid: Pid) -> Result<(), MapError> {
        absent_is_none(self.processes.remove(&pid.0))?;
        let index = Slot::index(pid.0);
        if self.slots.get(&index, 0)?.tag == Slot::tag(pid.0) {
            self.slots.set(index, Slot::FREE, 0)?;
        }
        Ok(())
    }

    /// Begins to keep a closer record of a process, from nothing.
    pub(super) fn begin_suspect(&mut self, pid: Pid) -> Result<(), MapError> {
        self.suspects.insert(pid.0, Suspect::NEW, 0)
    }

    /// Ends it.
    pub(super) fn end_suspect(&mut self, pid: Pid) -> Result<(), MapError> {
        absent_is_none(self.suspects.remove(&pid.0)).map(|_| ())
    }

    /// Tells the kernel side how many suspects there are.
    pub(super) fn set_suspects(&mut self, count: u32) -> Result<(), MapError> {
        self.now.suspects = count;
        self.tell()
    }

    /// The tallies, summed over the CPUs.
    pub(super) fn tallies(&self) -> Result<Tallies, MapError> {
        let mut sum = Tallies::ZERO;
        for cpu in self.tallies.get(&0, 0)?.iter() {
            for (sum, count) in sum.counts.iter_mut().zip(cpu.counts) {
                *sum += count;
            }
        }
        Ok(sum)
    }

    pub(super) fn processes_capacity(&self) -> u32 {
        self.processes_capacity
    }

    /// How full the maps are. Walks them: for `doctor` and the like, not for every batch.
    pub(super) fn fill(&self) -> Vec<MapFill> {
        let count = |used: usize| u32::try_from(used).unwrap_or(u32::MAX);
        vec![
            MapFill {
                name: "PROCESSES",
                capacity: self.processes_capacity,
                used: count(self.processes.keys().filter_map(Result::ok).count()),
            },
            MapFill { name: "SUSPECTS", capacity: leakscope_common::SUSPECTS_MAX, used: self.now.suspects },
        ]
    }

    fn tell(&mut self) -> Result<(), MapError> {
        self.control.set(0, self.now, 0)
    }
}

/// What was counted in a process' place, and in its entry before it had one.
fn sum(mut place: Process, entry: &Process) -> Process {
    place.forks += entry.forks;
    place.first_touch += entry.first_touch;
    place.protection += entry.protection;
    for (place, entry) in place.rss.iter_mut().zip(entry.rss) {
        place.grown += entry.grown;
        place.shrunk += entry.shrunk;
        if place.pages == RssKind::NO_VALUE {
            place.pages = entry.pages;
        }
    }
    place
}

fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, OpenError> {
    let map = ebpf.take_map(name).ok_or_else(|| {
        OpenError::new(format!("the kernel side has no map {name}"), "this build is broken: build it again")
    })?;
    T::try_from(map).map_err(|error| OpenError::while_doing(&format!("opening the map {name}"), &error))
}

fn absent_is_none<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A record as the ring carries it; `None` if it is not of this build's size.
fn decode(bytes: &[u8]) -> Option<Record> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    if bytes.len() != size_of::<Record>() {
        return None;
    }
    Some(Record {
        kind: word(0)?,
        tgid: word(4)?,
        start_boottime: u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?),
        detail: word(16)?,
        flags: word(20)?,
    })
}

/// What a tally means to a reader; `None` if it is no loss.
pub(super) const fn cause(tally: Tally) -> Option<&'static str> {
    match tally {
        Tally::ProcessesFull => Some("no room for a process in the kernel's map"),
        Tally::ChangeRingFull => Some("no room in the ring: a change was seen later"),
        Tally::ExitRingFull => Some("no room in the ring: an exit was not seen"),
        Tally::ReadFailed => Some("kernel memory could not be read"),
        Tally::CallUnmatched => Some("a call began before its process was inspected"),
        Tally::CallsFull => Some("no room for a call's arguments"),
        // Not losses: nobody's event, one of a kind that is not read, or one that user space makes up
        // for by reading /proc.
        Tally::RemoteUnknown | Tally::NotYetKnown | Tally::UnknownKind => None,
    }
}

/// The counts in the units of the user side.
pub(super) fn counts(process: &Process, suspect: Option<&Suspect>, forks_are_seen: bool) -> KernelCounts {
    let pages = |pages: u64| Bytes(pages.saturating_mul(page_size()));
    let flow = |kind: usize| {
        let rss = process.rss[kind];
        (rss.pages != RssKind::NO_VALUE).then(|| Flow { grown: pages(rss.grown), shrunk: pages(rss.shrunk) })
    };
    KernelCounts {
        first_touch_faults: process.first_touch,
        protection_faults: process.protection,
        rss_anon: flow(RSS_ANON),
        rss_file: flow(RSS_FILE),
        rss_shmem: flow(RSS_SHMEM),
        rss_swap: flow(RSS_SWAP),
        forks: forks_are_seen.then_some(process.forks),
        execs: Some(u64::from(process.execs)),
        syscalls: suspect.map(syscalls),
    }
}

fn syscalls(suspect: &Suspect) -> SyscallCounts {
    let calls = |count: leakscope_common::CallCount| Calls { count: count.calls, bytes: Bytes(count.bytes) };
    let flow =
        |flow: leakscope_common::FlowCount| Flow { grown: Bytes(flow.grown), shrunk: Bytes(flow.shrunk) };
    SyscallCounts {
        brk: flow(suspect.brk),
        mmap_anon: calls(suspect.mmap_anon),
        mmap_file: calls(suspect.mmap_file),
        munmap: calls(suspect.munmap),
        mremap: flow(suspect.mremap),
        mremap_calls: Some(suspect.mremap_calls),
        madvise_free: calls(suspect.madvise_free),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_decoded_field_by_field() {
        let mut bytes = Vec::new();
        bytes.extend(2u32.to_ne_bytes());
        bytes.extend(4242u32.to_ne_bytes());
        bytes.extend(77_000_000_001u64.to_ne_bytes());
        bytes.extend(9u32.to_ne_bytes());
        bytes.extend(1u32.to_ne_bytes());
        let record = Record { kind: 2, tgid: 4242, start_boottime: 77_000_000_001, detail: 9, flags: 1 };
        assert_eq!(decode(&bytes), Some(record));
        assert_eq!(decode(&bytes[..20]), None);
        bytes.push(0);
        assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn what_was_counted_before_a_process_had_its_place_is_added() {
        let mut place = Process::new(7);
        (place.first_touch, place.execs, place.epoch, place.rss[RSS_ANON].grown) = (100, 2, 9, 40);
        place.rss[RSS_ANON].pages = 41;
        let mut entry = Process::new(7);
        (entry.first_touch, entry.protection, entry.forks) = (1, 2, 3);
        (entry.rss[RSS_ANON].pages, entry.rss[RSS_ANON].shrunk, entry.rss[RSS_FILE].pages) = (1, 4, 5);
        let sum = sum(place, &entry);
        assert_eq!((sum.first_touch, sum.protection, sum.forks), (101, 2, 3));
        assert_eq!(sum.rss[RSS_ANON], RssKind { pages: 41, grown: 40, shrunk: 4 });
        assert_eq!(sum.rss[RSS_FILE].pages, 5, "seen, if only there");
        assert_eq!((sum.execs, sum.epoch, sum.start_boottime), (2, 9, 7));
    }

    #[test]
    fn pages_become_bytes_and_a_counter_that_was_never_shown_is_absent() {
        let mut process = Process::new(1);
        process.first_touch = 3;
        assert_eq!(counts(&process, None, true).rss_anon, None);
        for (kind, pages) in [(RSS_FILE, 1), (RSS_ANON, 5), (RSS_SWAP, 7), (RSS_SHMEM, 9)] {
            process.rss[kind].pages = 2;
            process.rss[kind].grown = pages;
            process.rss[kind].shrunk = pages - 1;
        }
        process.forks = 4;
        process.execs = 2;
        let counted = counts(&process, None, true);
        let flow = |pages: u64| {
            Some(Flow { grown: Bytes(pages * page_size()), shrunk: Bytes((pages - 1) * page_size()) })
        };
        let flows = (counted.rss_file, counted.rss_anon, counted.rss_swap, counted.rss_shmem);
        assert_eq!(flows, (flow(1), flow(5), flow(7), flow(9)));
        assert_eq!((counted.forks, counted.execs), (Some(4), Some(2)));
        assert_eq!(counts(&process, None, false).forks, None, "nobody counted them");
        assert_eq!(counted.first_touch_faults, 3);
        assert_eq!(counted.syscalls, None);
    }
}
