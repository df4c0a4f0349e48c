//! The count tier: what `rss_stat` and user faults say, for every process, always.
//!
//! One hash lookup for each event, so that a page fault pays some tens of nanoseconds. `rss_stat` never makes an entry:
//! an exiting process unmaps its memory after its exit was reported, and would come back.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use leakscope_common::{Offsets, Process, RSS_KINDS, RssKind, Tally};

use crate::maps::{PROCESSES, add, mark_changed, offset};
use crate::task::{self, Address};

/// [`RSS_KINDS`] as `rss_stat` numbers them.
const KINDS: u32 = 4;
const _: () = assert!(KINDS as usize == RSS_KINDS);

/// `rss_stat(mm, member)`. Before 6.2 there is a third argument, which must not be read: the verifier refuses it later.
#[inline(always)]
pub fn try_rss_stat_btf(ctx: &BtfTracePointContext) -> Result<(), Tally> {
    let mm = ctx.arg::<*const u8>(0) as Address;
    let member = ctx.arg::<i32>(1);
    let current_mm: Address = task::read(task::current(), offset!(task_mm))?;
    let tgid = if mm == current_mm {
        task::current_tgid()
    } else {
        // Reclaim, khugepaged, ptrace and process_madvise change what is not theirs.
        match owner(mm)? {
            Some(tgid) => tgid,
            // A dying address space has no owner left: its process' exit was reported.
            None => return Ok(()),
        }
    };
    let process = PROCESSES.get_ptr_mut(tgid).ok_or(Tally::NotYetKnown)?;
    let kind = kind_of(member)?;
    let pages: i64 = task::read(mm, offset!(mm_rss) + kind * offset!(mm_rss_stride))?;
    note(process, kind, pages);
    mark_changed(tgid, process)
}

/// Fields of the classic `rss_stat`, compared with the running kernel's at load: curr at 12, member at 16, size (in
/// bytes) at 24.
#[inline(always)]
pub fn try_rss_stat_classic(ctx: &TracePointContext) -> Result<(), Tally> {
    let curr: u32 = field(ctx, 12)?;
    if curr == 0 {
        return Err(Tally::RemoteUnknown);
    }
    let tgid = task::current_tgid();
    let process = PROCESSES.get_ptr_mut(tgid).ok_or(Tally::NotYetKnown)?;
    let kind = kind_of(field::<i32>(ctx, 16)?)?;
    let size: i64 = field(ctx, 24)?;
    note(process, kind, size >> offset!(page_shift));
    mark_changed(tgid, process)
}

/// A user fault of the running thread: `present` says that the page was there and the access not allowed.
#[inline(always)]
pub fn count_fault(ctx: &impl EbpfContext, present: bool) -> Result<u32, Tally> {
    let tgid = task::current_tgid();
    let process = match PROCESSES.get_ptr_mut(tgid) {
        Some(process) => process,
        None => insert(ctx, tgid)?,
    };
    let counter = if present {
        // SAFETY: `process` points to a value of PROCESSES.
        unsafe { &raw mut (*process).protection }
    } else {
        // SAFETY: as above.
        unsafe { &raw mut (*process).first_touch }
    };
    add(counter, 1);
    mark_changed(tgid, process)?;
    Ok(tgid)
}

/// A process that is older than leakscope, or whose fork found no room.
#[inline(never)]
fn insert(ctx: &impl EbpfContext, tgid: u32) -> Result<*mut Process, Tally> {
    let process = Process::new(task::start_boottime(task::current()));
    // Another thread may have been faster: what counts is that it is there.
    let _ = PROCESSES.insert(tgid, process, u64::from(BPF_NOEXIST));
    aya_log_ebpf::debug!(ctx, "pid {} seen first by a fault", tgid);
    PROCESSES.get_ptr_mut(tgid).ok_or(Tally::ProcessesFull)
}

/// The thread group that an address space belongs to.
#[inline(always)]
fn owner(mm: Address) -> Result<Option<u32>, Tally> {
    if offset!(mm_owner) == Offsets::ABSENT {
        return Err(Tally::RemoteUnknown);
    }
    let task: Address = task::read(mm, offset!(mm_owner))?;
    if task == 0 { Ok(None) } else { task::read(task, offset!(task_tgid)).map(Some) }
}

/// An index that the verifier can follow.
#[inline(always)]
fn kind_of(member: i32) -> Result<u32, Tally> {
    let member = member.cast_unsigned();
    // Newer kernels may count more kinds; those are no memory of a leak.
    if member < KINDS { Ok(member) } else { Err(Tally::UnknownKind) }
}

/// Takes over a new value. The last value is written without a lock: two threads at once may both charge the same
/// step, and the next event starts from a true value again.
#[inline(always)]
fn note(process: *mut Process, kind: u32, pages: i64) {
    // Sums of per-CPU counters can be below 0 for a moment.
    let pages = if pages < 0 { 0 } else { pages };
    // SAFETY: `process` points to a value of PROCESSES, and `kind` is below RSS_KINDS.
    let kinds = unsafe { &raw mut (*process).rss }.cast::<RssKind>();
    // SAFETY: as above.
    let rss = unsafe { kinds.add(kind as usize) };
    // SAFETY: `rss` points into that value.
    let last = unsafe { (*rss).pages };
    // SAFETY: as above.
    unsafe { (*rss).pages = pages };
    // SAFETY: as above.
    add(unsafe { &raw mut (*rss).events }, 1);
    if last == RssKind::NO_VALUE {
        return;
    }
    if pages > last {
        // SAFETY: as above.
        add(unsafe { &raw mut (*rss).grown }, pages.abs_diff(last));
    } else if pages < last {
        // SAFETY: as above.
        add(unsafe { &raw mut (*rss).shrunk }, pages.abs_diff(last));
    }
}

/// A field of a classic tracepoint.
#[inline(always)]
pub fn field<T>(ctx: &TracePointContext, offset: usize) -> Result<T, Tally> {
    // SAFETY: the loader compared the field's offset and size with the running kernel's format.
    unsafe { ctx.read_at(offset) }.map_err(|_| Tally::ReadFailed)
}
