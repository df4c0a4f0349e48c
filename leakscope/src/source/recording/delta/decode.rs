//! The way back: the frames of a block, one after the other, so that no more than one is held at a time.

use std::iter::Peekable;
use std::time::Duration;
use std::vec::IntoIter;

use jiff::Timestamp;

use super::{
    Block, Column, Happened, Known, Last, LostLine, MAX_KNOWN_WITHIN, MAX_PATHS_WITHIN, Place, RoomIs,
    RoomNews, Short, event, flag, syscalls,
};
use crate::leak::{FaultStep, Limit, Memory, Room};
use crate::process::MAX_LEVELS;
use crate::source::recording::column::Reader;
use crate::source::recording::who::Who;
use crate::source::recording::{Frame, MAX_PROCESSES, path_bytes};
use crate::source::{Batch, Flow, HostMemory, KernelCounts, Lost, Reading};
use crate::units::{Bytes, Moment, Pid, ProcKey, Ticks};

/// Fault steps of a reading, at most: the kernel side keeps fewer.
const MAX_FAULTS: u32 = 1 << 16;
/// Bytes of identities that wait for their frame.
const MAX_WAITING: usize = 64 << 20;

/// Bytes of what a frame says of rooms: a path can be named again for a byte.
const MAX_NEWS: usize = 32 << 20;

/// Reads the blocks of a recording in their order.
#[derive(Default)]
pub(in super::super) struct Decoder {
    known: Known,
    block: Option<Columns>,
    /// Identities of the next frame that stood in blocks before it.
    waiting: Vec<Who>,
    waiting_bytes: usize,
    /// The next frame is the first since everything began anew.
    anew: bool,
}

/// The columns of a block while they are read.
struct Columns {
    number: u32,
    readings: IntoIter<u32>,
    at: Reader,
    wall: Reader,
    host: [Reader; 5],
    pids: Reader,
    flags: IntoIter<u8>,
    starts: IntoIter<u64>,
    memory: [Reader; 4],
    counts: [Reader; 4],
    unusual: IntoIter<(bool, Option<Box<[u64; 12]>>)>,
    fault_counts: IntoIter<u32>,
    fault_after: IntoIter<u64>,
    fault_delta: Reader,
    fault_bits: IntoIter<u8>,
    left: Reader,
    events: Peekable<IntoIter<Happened>>,
    lost: Peekable<IntoIter<LostLine>>,
    identities: Peekable<IntoIter<(u32, Who)>>,
    rooms: Peekable<IntoIter<(u32, u32, RoomIs)>>,
    pid: u32,
}

impl Decoder {
    /// Takes the next block, of which the frames are asked for with [`Self::next`].
    ///
    /// # Errors
    /// When there is more in it than a writer would write.
    pub(in super::super) fn begin(&mut self, mut block: Block) -> Result<(), Short> {
        if block.reset {
            self.known = Known::default();
            self.anew = true;
        }
        let known = &mut self.known;
        let new = std::mem::take(&mut block.cgroups);
        known.paths += new.iter().map(String::len).sum::<usize>();
        known.cgroups.extend(new.into_iter().map(|cgroup| (cgroup, None)));
        if known.cgroups.len() > MAX_KNOWN_WITHIN || known.paths > MAX_PATHS_WITHIN {
            return Err(Short);
        }
        self.block = Some(Columns::of(block));
        Ok(())
    }

    /// The next frame of the block; `None` at its end.
    ///
    /// # Errors
    /// When the block is not whole, although its checksum is right.
    pub(in super::super) fn next(&mut self) -> Result<Option<Frame>, Short> {
        let Some(mut columns) = self.block.take() else { return Ok(None) };
        let Some(readings) = columns.readings.next() else {
            for (_, who) in columns.identities {
                self.wait(who)?;
            }
            return Ok(None);
        };
        let frame = self.frame(readings, &mut columns)?;
        columns.number += 1;
        self.block = Some(columns);
        Ok(Some(frame))
    }

    fn wait(&mut self, who: Who) -> Result<(), Short> {
        self.waiting_bytes += who.size() + size_of::<Who>();
        if self.waiting_bytes > MAX_WAITING || !who.is_possible() {
            return Err(Short);
        }
        self.waiting.push(who);
        Ok(())
    }

    fn frame(&mut self, readings: u32, columns: &mut Columns) -> Result<Frame, Short> {
        if readings as usize > MAX_PROCESSES {
            return Err(Short);
        }
        let number = columns.number;
        let known = &mut self.known;
        known.step = columns.at.next_after(known.step)?;
        known.at = known.at.wrapping_add(known.step);
        known.wall = columns.wall.next_after(known.wall)?;
        for (column, value) in columns.host.iter_mut().zip(&mut known.host) {
            *value = column.next_after(*value)?;
        }
        let nanos = i128::from(known.at.wrapping_add(known.wall));
        let [total, available, swap_total, swap_free, shmem] = known.host.map(Bytes);
        // Not reserved: what a block promises is believed when it is there.
        let mut read = Vec::new();
        for _ in 0..readings {
            read.push(self.reading(columns)?);
        }
        let mut events = Vec::new();
        while let Some(happened) = columns.events.next_if(|happened| happened.frame == number) {
            events.push(event(&happened));
        }
        if let Some(LostLine { vanished, causes, .. }) = columns.lost.next_if(|lost| lost.frame == number) {
            let causes = causes.into_iter().map(|(cause, count)| (cause.into(), count)).collect();
            self.known.lost = Lost { causes, vanished };
        }
        let batch = Batch {
            at: Moment(self.known.at),
            wall: Timestamp::from_nanosecond(nanos).map_err(|_| Short)?,
            host: HostMemory { total, available, swap_total, swap_free, shmem, pressure: None },
            readings: read,
            events,
            lost: self.known.lost.clone(),
        };
        let mut frame = Frame { batch, anew: self.anew, identities: Vec::new(), rooms: Vec::new() };
        self.anew = false;
        while let Some((_, who)) = columns.identities.next_if(|(frame, _)| *frame == number) {
            self.wait(who)?;
        }
        self.waiting_bytes = 0;
        frame.identities = std::mem::take(&mut self.waiting);
        let mut bytes = 0;
        while let Some((_, whose, is)) = columns.rooms.next_if(|room| room.0 == number) {
            let news = self.room(whose, is, columns)?;
            bytes += news.bytes();
            if bytes > MAX_NEWS {
                return Err(Short);
            }
            frame.rooms.push(news);
        }
        Ok(frame)
    }

    fn reading(&mut self, columns: &mut Columns) -> Result<Reading, Short> {
        let pid = columns.pids.next_after(u64::from(columns.pid))?;
        columns.pid = u32::try_from(pid).map_err(|_| Short)?;
        let pid = Pid(columns.pid);
        let flags = columns.flags.next().ok_or(Short)?;
        let has = |bit| flags & bit != 0;
        if has(flag::NEW) {
            let start = Ticks(columns.starts.next().ok_or(Short)?);
            if self.known.processes.len() > MAX_KNOWN_WITHIN {
                return Err(Short);
            }
            self.known.processes.insert(pid, Last::nothing(start));
        }
        let known = self.known.processes.get_mut(&pid).ok_or(Short)?;
        let mut memory = known.memory;
        for (index, bit) in flag::MEMORY.into_iter().enumerate() {
            if has(bit) {
                memory[index] = columns.memory[index].next_after(memory[index])?;
            }
        }
        let mut kernel = None;
        if has(flag::KERNEL) {
            let mut counts = [0; 4];
            for index in 0..counts.len() {
                let expected = known.expected(memory[0], &counts[..index]);
                counts[index] = columns.counts[index].next_after(expected)?;
            }
            known.counts = counts;
            let unusual =
                if has(flag::UNUSUAL) { columns.unusual.next().ok_or(Short)? } else { (true, None) };
            let [shrunk, protection_faults, grown, first_touch_faults] = counts;
            kernel = Some(KernelCounts {
                first_touch_faults,
                protection_faults,
                rss_anon: unusual.0.then_some(Flow { grown: Bytes(grown), shrunk: Bytes(shrunk) }),
                syscalls: unusual.1.as_deref().map(syscalls),
                // What recordings do not keep was not measured.
                ..KernelCounts::default()
            });
        }
        known.memory = memory;
        let key = ProcKey { pid, start: known.start };
        let [anon, file, shmem, swap] = memory.map(Bytes);
        let faults = if has(flag::FAULTS) { columns.faults()? } else { Vec::new() };
        Ok(Reading { key, memory: Memory { anon, file, shmem, swap }, kernel, faults })
    }

    fn room(&mut self, whose: u32, is: RoomIs, columns: &mut Columns) -> Result<RoomNews, Short> {
        let known = &mut self.known;
        Ok(match is {
            RoomIs::Host | RoomIs::Left | RoomIs::Cgroup(..) => {
                let (cgroup, room) = known.cgroups.get_mut(whose as usize).ok_or(Short)?;
                let path = |room: &Option<Room>| room.as_ref().map_or(0, path_bytes);
                known.paths -= path(room);
                cgroup_room(room, is, columns)?;
                known.paths += path(room);
                if known.paths > MAX_PATHS_WITHIN {
                    return Err(Short);
                }
                RoomNews::Cgroup(cgroup.clone(), room.clone())
            }
            RoomIs::Limit(path, size, left) => {
                known.paths += path.len();
                if known.paths > MAX_PATHS_WITHIN || known.limits.len() > MAX_KNOWN_WITHIN {
                    return Err(Short);
                }
                let room = Room { limit: Limit::Cgroup(path), size: Bytes(size), left: Bytes(left) };
                known.limits.push(room.clone());
                RoomNews::Limit(whose, room)
            }
            RoomIs::LimitLeft => {
                let room = known.limits.get_mut(whose as usize).ok_or(Short)?;
                room.left = Bytes(columns.left.next_after(room.left.0)?);
                RoomNews::Limit(whose, room.clone())
            }
            RoomIs::Under(number) => RoomNews::Process(Pid(whose), Place::Under([number].into())),
            RoomIs::UnderHost => RoomNews::Process(Pid(whose), Place::Under([].into())),
            RoomIs::UnderAll(numbers) if numbers.len() > MAX_LEVELS => return Err(Short),
            RoomIs::UnderAll(numbers) => RoomNews::Process(Pid(whose), Place::Under(numbers.into())),
            RoomIs::Unread => RoomNews::Process(Pid(whose), Place::Unread),
        })
    }
}

/// What becomes of the room above a cgroup, in format 1.
fn cgroup_room(room: &mut Option<Room>, is: RoomIs, columns: &mut Columns) -> Result<(), Short> {
    match is {
        RoomIs::Left => {
            let room = room.as_mut().ok_or(Short)?;
            room.left = Bytes(columns.left.next_after(room.left.0)?);
        }
        RoomIs::Cgroup(path, size, left) => {
            let limit = if path.is_empty() { Limit::Host } else { Limit::Cgroup(path) };
            *room = Some(Room { limit, size: Bytes(size), left: Bytes(left) });
        }
        _ => *room = None,
    }
    Ok(())
}

impl Columns {
    fn of(block: Block) -> Self {
        Self {
            number: 0,
            readings: block.readings.into_iter(),
            at: block.at.into_reader(),
            wall: block.wall.into_reader(),
            host: block.host.map(Column::into_reader),
            pids: block.pids.into_reader(),
            flags: block.flags.into_iter(),
            starts: block.starts.into_iter(),
            memory: block.memory.map(Column::into_reader),
            counts: block.counts.map(Column::into_reader),
            unusual: block.unusual.into_iter(),
            fault_counts: block.fault_counts.into_iter(),
            fault_after: block.fault_after.into_iter(),
            fault_delta: block.fault_delta.into_reader(),
            fault_bits: block.fault_bits.into_iter(),
            left: block.left.into_reader(),
            events: block.events.into_iter().peekable(),
            lost: block.lost.into_iter().peekable(),
            identities: block.identities.into_iter().peekable(),
            rooms: block.rooms.into_iter().peekable(),
            pid: 0,
        }
    }

    fn faults(&mut self) -> Result<Vec<FaultStep>, Short> {
        let count = self.fault_counts.next().filter(|count| *count <= MAX_FAULTS).ok_or(Short)?;
        let mut steps = Vec::new();
        for _ in 0..count {
            let bits = self.fault_bits.next().ok_or(Short)?;
            steps.push(FaultStep {
                after: Duration::from_nanos(self.fault_after.next().ok_or(Short)?),
                address_delta: self.fault_delta.next_raw()?,
                page_aligned: bits & 1 != 0,
                after_gap: bits & 2 != 0,
            });
        }
        Ok(steps)
    }
}
