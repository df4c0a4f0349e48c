//! From frames to the columns of a block and back: each reading is told by what changed since that process's last one.
//!
//! Encoder and decoder keep the same [`Known`], so a block can be read only after those before it, back to one that
//! begins anew. What rss_stat added is compared with what /proc shows as grown, and the page faults with what was added:
//! where nothing odd goes on these agree, and the differences are zeros. Start reading at [`Encoder::push`].

use std::collections::HashMap;

use super::block::{Block, Ended, Happened, LostLine, RoomIs, What, flag};
use super::column::{Column, Short};
use super::who::Who;
use super::{Answer, MAX_PROCESSES, Place, RoomNews};
use crate::leak::{FaultStep, Limit, Memory, Room};
use crate::process::MAX_LEVELS;
use crate::source::{
    Batch, Calls, Event, ExitStatus, Flow, HostMemory, KernelCounts, Lost, Reading, SyscallCounts,
};
use crate::units::{Bytes, Pid, ProcKey, Ticks};

/// Processes that are remembered at the end of a block, at most, and limits; past it, both sides begin anew.
const MAX_KNOWN: usize = MAX_PROCESSES;
/// The same within a block, which may bring as many new ones as it has readings.
const MAX_KNOWN_WITHIN: usize = 4 * MAX_KNOWN;
/// Bytes of the paths of limits that are remembered, in the same way.
const MAX_PATHS: usize = 8 << 20;
/// The same within a block, which cannot hold more than that.
const MAX_PATHS_WITHIN: usize = MAX_PATHS + super::file::MAX_HELD;
/// Bytes in a page, for predictions; a host with other pages is recorded exactly as well.
const PAGE: u64 = 4096;

/// What both sides know at the same point of a recording.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    at: u64,
    step: u64,
    wall: u64,
    host: [u64; 5],
    lost: Lost,
    processes: HashMap<Pid, Last>,
    /// Format 1.
    cgroups: Vec<(String, Option<Room>)>,
    limits: Vec<Room>,
    /// Bytes of the paths of the two above.
    paths: usize,
}

impl Known {
    /// Whether it is time to begin anew.
    fn is_full(&self) -> bool {
        self.processes.len() > MAX_KNOWN || self.limits.len() > MAX_KNOWN || self.paths > MAX_PATHS
    }
}

/// The last reading of a process.
#[derive(Clone, Copy, Debug)]
struct Last {
    start: Ticks,
    memory: [u64; 4],
    counts: [u64; 4],
}

impl Last {
    const fn nothing(start: Ticks) -> Self {
        Self { start, memory: [0; 4], counts: [0; 4] }
    }

    /// What first touches, protection faults, bytes shrunk and bytes grown are compared with, given the values before
    /// in that order.
    fn expected(&self, anon_now: u64, so_far: &[u64]) -> u64 {
        let since = |index: usize| so_far[index].wrapping_sub(self.counts[index]);
        match so_far.len() {
            // Shrunk, and protection faults.
            0 => self.counts[0],
            1 => self.counts[1],
            // Grown: what /proc shows as grown, and what was given back meanwhile.
            2 => self.counts[2].wrapping_add(anon_now.wrapping_sub(self.memory[0])).wrapping_add(since(0)),
            // First touches: one for each page that was added.
            _ => {
                let pages = since(2).cast_signed() / PAGE.cast_signed();
                self.counts[3].wrapping_add(pages.cast_unsigned())
            }
        }
    }
}

fn memory_of(memory: &Memory) -> [u64; 4] {
    let Memory { anon, file, shmem, swap } = *memory;
    [anon.0, file.0, shmem.0, swap.0]
}

/// Shrunk, protection faults, grown, first touches: in the order in which they explain each other.
fn counts_of(counts: &KernelCounts) -> [u64; 4] {
    let flow = counts.rss_anon.unwrap_or_default();
    [flow.shrunk.0, counts.protection_faults, flow.grown.0, counts.first_touch_faults]
}

fn host_of(host: &HostMemory) -> [u64; 5] {
    // Pressure is not kept: the format has no place for it.
    let HostMemory { total, available, swap_total, swap_free, shmem, pressure: _ } = *host;
    [total.0, available.0, swap_total.0, swap_free.0, shmem.0]
}

/// Writes frames into blocks.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    known: Known,
    /// The number of each limit, by its path and size.
    limit_numbers: HashMap<(String, Bytes), u32>,
    places: HashMap<Pid, (Ticks, Place)>,
    block: Block,
    count: usize,
    /// The last pid that a difference was written to.
    pid: u32,
}

impl Encoder {
    /// An encoder whose first block compares with nothing.
    pub(super) fn new() -> Self {
        Self { block: Block { reset: true, ..Block::default() }, ..Self::default() }
    }

    /// Adds identities that belong to the next frame to this block, which may be written before that.
    pub(super) fn ahead(&mut self, identities: impl IntoIterator<Item = Who>) {
        let number = self.block.len();
        let before = self.block.identities.len();
        self.block.identities.extend(identities.into_iter().map(|who| (number, who)));
        self.count += self.block.identities.len() - before;
    }

    /// Adds a frame to the block: a batch, who is new in it, and what the directory said of rooms.
    pub(super) fn push(&mut self, batch: &Batch, identities: Vec<Who>, answers: &[Answer]) {
        let number = self.block.len();
        self.ahead(identities);
        let Batch { at, wall, host, readings, events, lost } = batch;
        let step = at.0.wrapping_sub(self.known.at);
        self.block.at.push(step, self.known.step);
        // A date after the year 2262 would be kept as that year's.
        let nanos = u64::try_from(wall.as_nanosecond()).unwrap_or_default();
        let ahead = nanos.wrapping_sub(at.0);
        self.block.wall.push(ahead, self.known.wall);
        let host = host_of(host);
        for (index, column) in self.block.host.iter_mut().enumerate() {
            column.push(host[index], self.known.host[index]);
        }
        (self.known.at, self.known.step, self.known.wall, self.known.host) = (at.0, step, ahead, host);

        self.block.readings.push(u32::try_from(readings.len()).unwrap_or(u32::MAX));
        for reading in readings {
            self.reading(reading);
        }
        self.block.events.extend(events.iter().map(|event| happened(number, event)));
        if *lost != self.known.lost {
            let causes = lost.causes.iter().map(|(cause, count)| (cause.to_string(), *count)).collect();
            self.block.lost.push(LostLine { frame: number, vanished: lost.vanished, causes });
            self.known.lost = lost.clone();
        }
        for answer in answers {
            self.answer(number, answer);
        }
        self.count += readings.len() + events.len() + answers.len() + 1;
    }

    fn reading(&mut self, reading: &Reading) {
        let Reading { key, memory, kernel, faults } = reading;
        let block = &mut self.block;
        block.pids.push(u64::from(key.pid.0), u64::from(self.pid));
        self.pid = key.pid.0;
        let mut flags = 0;
        let known = self.known.processes.entry(key.pid).or_insert_with(|| {
            flags = flag::NEW;
            Last::nothing(key.start)
        });
        if known.start != key.start {
            flags = flag::NEW;
            *known = Last::nothing(key.start);
        }
        if flags == flag::NEW {
            block.starts.push(key.start.0);
        }
        let memory = memory_of(memory);
        for (index, bit) in flag::MEMORY.into_iter().enumerate() {
            if memory[index] != known.memory[index] {
                flags |= bit;
                block.memory[index].push(memory[index], known.memory[index]);
            }
        }
        if let Some(kernel) = kernel {
            flags |= flag::KERNEL;
            let counts = counts_of(kernel);
            for (index, column) in block.counts.iter_mut().enumerate() {
                column.push(counts[index], known.expected(memory[0], &counts[..index]));
            }
            if kernel.rss_anon.is_none() || kernel.syscalls.is_some() {
                flags |= flag::UNUSUAL;
                let syscalls = kernel.syscalls.as_ref().map(|counts| Box::new(syscalls_of(counts)));
                block.unusual.push((kernel.rss_anon.is_some(), syscalls));
            }
            known.counts = counts;
        }
        known.memory = memory;
        if !faults.is_empty() {
            flags |= flag::FAULTS;
            block.fault_counts.push(u32::try_from(faults.len()).unwrap_or(u32::MAX));
            for step in faults {
                let FaultStep { after, address_delta, page_aligned, after_gap } = *step;
                block.fault_after.push(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
                block.fault_delta.push_raw(address_delta);
                block.fault_bits.push(u8::from(page_aligned) | u8::from(after_gap) << 1);
            }
            self.count += faults.len();
        }
        block.flags.push(flags);
    }

    /// Writes which limits are above a process and what is left under them, as far as that is news.
    fn answer(&mut self, frame: u32, Answer { key, rooms }: &Answer) {
        let place = rooms.as_ref().map_or(Place::Unread, |rooms| {
            let numbers = rooms.iter().take(MAX_LEVELS).filter_map(|room| match &room.limit {
                Limit::Cgroup(path) => Some(self.limit(frame, path, room.size, room.left)),
                // Each batch has it.
                Limit::Host => None,
            });
            Place::Under(numbers.collect())
        });
        let known = self.places.get(&key.pid);
        if known.is_some_and(|(start, known)| *start == key.start && *known == place) {
            return;
        }
        let is = match &place {
            Place::Unread => RoomIs::Unread,
            Place::Under(numbers) => match **numbers {
                [] => RoomIs::UnderHost,
                [number] => RoomIs::Under(number),
                _ => RoomIs::UnderAll(numbers.to_vec()),
            },
        };
        self.block.rooms.push((frame, key.pid.0, is));
        self.places.insert(key.pid, (key.start, place));
    }

    /// The number of a limit, of which what is left is written where it changed.
    fn limit(&mut self, frame: u32, path: &str, size: Bytes, left: Bytes) -> u32 {
        let known = &mut self.known;
        let number = *self.limit_numbers.entry((path.to_owned(), size)).or_insert_with(|| {
            let number = u32::try_from(known.limits.len()).unwrap_or(u32::MAX);
            known.limits.push(Room { limit: Limit::Cgroup(path.to_owned()), size, left });
            known.paths += path.len();
            self.block.rooms.push((frame, number, RoomIs::Limit(path.to_owned(), size.0, left.0)));
            number
        });
        if let Some(room) = known.limits.get_mut(number as usize)
            && room.left != left
        {
            self.block.left.push(left.0, room.left.0);
            self.block.rooms.push((frame, number, RoomIs::LimitLeft));
            room.left = left;
        }
        number
    }

    /// How much the block holds, in readings, events and the like.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// The block so far, ready to be written; the next one is begun.
    pub(super) fn take(&mut self) -> Block {
        let anew = self.known.is_full() || self.places.len() > MAX_KNOWN;
        if anew {
            self.known = Known::default();
            self.limit_numbers.clear();
            self.places.clear();
        }
        self.count = 0;
        self.pid = 0;
        let next = Block { reset: anew, ..Block::default() };
        let mut block = std::mem::replace(&mut self.block, next);
        block.pack();
        block
    }
}

fn happened(frame: u32, event: &Event) -> Happened {
    let (pid, what) = match *event {
        Event::Exec { key } => (key.pid, What::Exec(key.start.0)),
        Event::Exit { key, status } => {
            let ended = status.map(|status| match status {
                ExitStatus::Code(code) => Ended::Code(code),
                ExitStatus::Signal(signal) => Ended::Signal(signal),
            });
            (key.pid, What::Exit(key.start.0, ended))
        }
        Event::OomVictim { pid } => (pid, What::OomVictim),
    };
    Happened { frame, pid: pid.0, what }
}

fn event(happened: &Happened) -> Event {
    let pid = Pid(happened.pid);
    let key = |start| ProcKey { pid, start: Ticks(start) };
    match happened.what {
        What::Exec(start) => Event::Exec { key: key(start) },
        What::Exit(start, ended) => {
            let status = ended.map(|ended| match ended {
                Ended::Code(code) => ExitStatus::Code(code),
                Ended::Signal(signal) => ExitStatus::Signal(signal),
            });
            Event::Exit { key: key(start), status }
        }
        What::OomVictim => Event::OomVictim { pid },
    }
}

fn syscalls_of(counts: &SyscallCounts) -> [u64; 12] {
    // Calls of mremap are not kept: the format has no place for them.
    let SyscallCounts { brk, mmap_anon, mmap_file, munmap, mremap, madvise_free, mremap_calls: _ } = *counts;
    let flow = |Flow { grown, shrunk }| [grown.0, shrunk.0];
    let calls = |Calls { count, bytes }| [count, bytes.0];
    let pairs =
        [flow(brk), calls(mmap_anon), calls(mmap_file), calls(munmap), flow(mremap), calls(madvise_free)];
    let mut all = [0; 12];
    for (index, value) in pairs.into_iter().flatten().enumerate() {
        all[index] = value;
    }
    all
}

fn syscalls(all: &[u64; 12]) -> SyscallCounts {
    let flow = |at: usize| Flow { grown: Bytes(all[at]), shrunk: Bytes(all[at + 1]) };
    let calls = |at: usize| Calls { count: all[at], bytes: Bytes(all[at + 1]) };
    SyscallCounts {
        brk: flow(0),
        mmap_anon: calls(2),
        mmap_file: calls(4),
        munmap: calls(6),
        mremap: flow(8),
        mremap_calls: None,
        madvise_free: calls(10),
    }
}

mod decode;
pub(super) use decode::Decoder;
