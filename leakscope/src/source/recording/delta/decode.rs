//! The way back: the frames of a block, one after the other.

use std::iter::Peekable;
use std::time::Duration;
use std::vec::IntoIter;

use jiff::Timestamp;

use super::{Block, Happened, Known, Last, MAX_KNOWN, RoomIs, Short, event, flag, readers, syscalls};
use crate::leak::{FaultStep, Limit, Memory, Room};
use crate::source::recording::block::LostLine;
use crate::source::recording::column::Reader;
use crate::source::recording::who::Who;
use crate::source::recording::{CgroupRoom, Frame};
use crate::source::{Batch, Flow, HostMemory, KernelCounts, Lost, Reading};
use crate::units::{Bytes, Moment, Pid, ProcKey, Ticks};

/// Reads the blocks of a recording in their order.
#[derive(Debug, Default)]
pub(in super::super) struct Decoder {
    known: Known,
}

/// The columns of a block while they are read.
struct Columns<'a> {
    at: Reader<'a>,
    wall: Reader<'a>,
    host: [Reader<'a>; 5],
    pids: Reader<'a>,
    flags: std::slice::Iter<'a, u8>,
    starts: std::slice::Iter<'a, u64>,
    memory: [Reader<'a>; 4],
    counts: [Reader<'a>; 4],
    unusual: std::slice::Iter<'a, (bool, Option<[u64; 12]>)>,
    fault_counts: std::slice::Iter<'a, u32>,
    fault_after: std::slice::Iter<'a, u64>,
    fault_delta: Reader<'a>,
    fault_bits: std::slice::Iter<'a, u8>,
    left: Reader<'a>,
    events: Peekable<std::slice::Iter<'a, Happened>>,
    lost: Peekable<std::slice::Iter<'a, LostLine>>,
    rooms: Peekable<std::slice::Iter<'a, (u32, u32, RoomIs)>>,
    pid: u32,
}

impl Decoder {
    /// The frames of the next block.
    ///
    /// # Errors
    /// When the block is not whole, although its checksum is right.
    pub(in super::super) fn frames(&mut self, mut block: Block) -> Result<Vec<Frame>, Short> {
        if block.reset {
            self.known = Known::default();
        }
        let new = std::mem::take(&mut block.cgroups);
        if self.known.cgroups.len() + new.len() > 64 * MAX_KNOWN {
            return Err(Short);
        }
        self.known.cgroups.extend(new.into_iter().map(|cgroup| (cgroup, None)));
        let mut identities = std::mem::take(&mut block.identities).into_iter().peekable();
        let mut columns = Columns::of(&block);
        let mut frames = Vec::new();
        for (number, readings) in (0..).zip(&block.readings) {
            frames.push(self.frame(number, *readings, &mut columns, &mut identities)?);
        }
        Ok(frames)
    }

    fn frame(
        &mut self,
        number: u32,
        readings: u32,
        columns: &mut Columns<'_>,
        identities: &mut Peekable<IntoIter<(u32, Who)>>,
    ) -> Result<Frame, Short> {
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
            events.push(event(happened));
        }
        if let Some((_, vanished, causes)) = columns.lost.next_if(|lost| lost.0 == number) {
            let causes = causes.iter().map(|(cause, count)| (cause.clone().into(), *count)).collect();
            self.known.lost = Lost { causes, vanished: *vanished };
        }
        let batch = Batch {
            at: Moment(self.known.at),
            wall: Timestamp::from_nanosecond(nanos).map_err(|_| Short)?,
            host: HostMemory { total, available, swap_total, swap_free, shmem },
            readings: read,
            events,
            lost: self.known.lost.clone(),
        };
        let mut frame = Frame::new(batch);
        while let Some((_, who)) = identities.next_if(|(frame, _)| *frame == number) {
            frame.identities.push(who.into());
        }
        while let Some((_, cgroup, is)) = columns.rooms.next_if(|room| room.0 == number) {
            frame.rooms.push(self.room(*cgroup, is, columns)?);
        }
        Ok(frame)
    }

    fn reading(&mut self, columns: &mut Columns<'_>) -> Result<Reading, Short> {
        let pid = columns.pids.next_after(u64::from(columns.pid))?;
        columns.pid = u32::try_from(pid).map_err(|_| Short)?;
        let pid = Pid(columns.pid);
        let flags = *columns.flags.next().ok_or(Short)?;
        let has = |bit| flags & bit != 0;
        if has(flag::NEW) {
            let start = Ticks(*columns.starts.next().ok_or(Short)?);
            // The writer begins anew at the end of the block in which it has met this many.
            if self.known.processes.len() > 64 * MAX_KNOWN {
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
                if has(flag::UNUSUAL) { *columns.unusual.next().ok_or(Short)? } else { (true, None) };
            let [shrunk, protection_faults, grown, first_touch_faults] = counts;
            kernel = Some(KernelCounts {
                first_touch_faults,
                protection_faults,
                rss_anon: unusual.0.then_some(Flow { grown: Bytes(grown), shrunk: Bytes(shrunk) }),
                syscalls: unusual.1.as_ref().map(syscalls),
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

    fn room(&mut self, number: u32, is: &RoomIs, columns: &mut Columns<'_>) -> Result<CgroupRoom, Short> {
        let (cgroup, room) = self.known.cgroups.get_mut(number as usize).ok_or(Short)?;
        match is {
            RoomIs::Host => *room = None,
            RoomIs::Left => {
                let room = room.as_mut().ok_or(Short)?;
                room.left = Bytes(columns.left.next_after(room.left.0)?);
            }
            RoomIs::Cgroup(path, size, left) => {
                let limit = if path.is_empty() { Limit::Host } else { Limit::Cgroup(path.clone()) };
                *room = Some(Room { limit, size: Bytes(*size), left: Bytes(*left) });
            }
        }
        Ok(CgroupRoom { cgroup: cgroup.clone(), room: room.clone() })
    }
}

impl<'a> Columns<'a> {
    fn of(block: &'a Block) -> Self {
        Self {
            at: block.at.reader(),
            wall: block.wall.reader(),
            host: readers(&block.host),
            pids: block.pids.reader(),
            flags: block.flags.iter(),
            starts: block.starts.iter(),
            memory: readers(&block.memory),
            counts: readers(&block.counts),
            unusual: block.unusual.iter(),
            fault_counts: block.fault_counts.iter(),
            fault_after: block.fault_after.iter(),
            fault_delta: block.fault_delta.reader(),
            fault_bits: block.fault_bits.iter(),
            left: block.left.reader(),
            events: block.events.iter().peekable(),
            lost: block.lost.iter().peekable(),
            rooms: block.rooms.iter().peekable(),
            pid: 0,
        }
    }

    fn faults(&mut self) -> Result<Vec<FaultStep>, Short> {
        let count = *self.fault_counts.next().ok_or(Short)?;
        let mut steps = Vec::new();
        for _ in 0..count {
            let bits = *self.fault_bits.next().ok_or(Short)?;
            steps.push(FaultStep {
                after: Duration::from_nanos(*self.fault_after.next().ok_or(Short)?),
                address_delta: self.fault_delta.next_raw()?,
                page_aligned: bits & 1 != 0,
                after_gap: bits & 2 != 0,
            });
        }
        Ok(steps)
    }
}
