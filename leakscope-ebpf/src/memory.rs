//! The count tier: what `rss_stat` and user faults say, for every process, always.
//!
//! One lookup for each event, mostly without a call, so that a page fault pays some tens of nanoseconds
//! (docs/decisions/0005). `rss_stat` never makes an entry: an exiting process unmaps its memory after its exit was
//! reported, and would come back.
//!
//! A vfork child runs in its parent's address space until its exec: what it touches there is the parent's to keep, so it
//! is charged to the owner of the address space (by `mm_struct.owner`; classic tracepoints cannot tell).

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use leakscope_common::{Offsets, Process, RSS_KINDS, RssKind, Tally};

use crate::maps::{add, mark_changed, offset};
use crate::processes;
use crate::task::{self, Address};

/// [`RSS_KINDS`] as `rss_stat` numbers them.
const KINDS: u32 = 4;
const _: () = assert!(KINDS as usize == RSS_KINDS);

/// `rss_stat(mm, member)`. Before 6.2 there is a third argument, which must not be read: the verifier refuses it later.
#[inline(always)]
pub fn try_rss_stat_btf(ctx: &BtfTracePointContext) -> Result<(), Tally> {
    let mm = ctx.arg::<*const u8>(0) as Address;
    let Some(tgid) = payer(mm)? else { return Ok(()) };
    let process = processes::find(tgid).ok_or(Tally::NotYetKnown)?;
    let kind = kind_of(ctx.arg::<i32>(1))?;
    note(process, kind, pages(mm, kind)?);
    mark_changed(tgid, process)
}

/// The process that an address space belongs to, whoever changes it: reclaim, khugepaged, ptrace and process_madvise
/// change what is not theirs, and so does a vfork child. `None` for one that is nobody's yet, or no longer: of a fork
/// under way, whose task still has the tgid of its parent, of an exec under way, and of a process whose exit was reported.
#[inline(always)]
fn payer(mm: Address) -> Result<Option<u32>, Tally> {
    if offset!(mm_owner) == Offsets::ABSENT {
        let current_mm: Address = task::read(task::current(), offset!(task_mm))?;
        return if current_mm == mm { Ok(Some(task::current_tgid())) } else { Err(Tally::RemoteUnknown) };
    }
    let owner: Address = task::load(mm, offset!(mm_owner))?;
    if owner == 0 {
        return Ok(None);
    }
    let owners: Address = task::load(owner, offset!(task_mm))?;
    if owners != mm {
        return Ok(None);
    }
    task::load(owner, offset!(task_tgid)).map(Some)
}

/// A counter of `mm_struct.rss_stat`. One branch for each kind: the verifier takes constants only.
#[inline(always)]
fn pages(mm: Address, kind: u32) -> Result<i64, Tally> {
    match kind {
        1 => task::load(mm, offset!(mm_rss) + offset!(mm_rss_stride)),
        0 => task::load(mm, offset!(mm_rss)),
        2 => task::load(mm, offset!(mm_rss) + 2 * offset!(mm_rss_stride)),
        _ => task::load(mm, offset!(mm_rss) + 3 * offset!(mm_rss_stride)),
    }
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
    let process = processes::find(tgid).ok_or(Tally::NotYetKnown)?;
    let kind = kind_of(field::<i32>(ctx, 16)?)?;
    let size: i64 = field(ctx, 24)?;
    note(process, kind, size >> offset!(page_shift));
    mark_changed(tgid, process)
}

/// A user fault of the running thread: `present` says that the page was there and the access not allowed.
#[inline(always)]
pub fn count_fault(ctx: &impl EbpfContext, present: bool) -> Result<u32, Tally> {
    let (tgid, process) = whose_fault(ctx)?;
    let counter = if present {
        // SAFETY: `process` points to the counts of a process.
        unsafe { &raw mut (*process).protection }
    } else {
        // SAFETY: as above.
        unsafe { &raw mut (*process).first_touch }
    };
    add(counter, 1);
    mark_changed(tgid, process)?;
    Ok(tgid)
}

/// Who pays for a fault of the running thread: its process, or the owner of the address space that it borrows.
#[inline(always)]
fn whose_fault(ctx: &impl EbpfContext) -> Result<(u32, *mut Process), Tally> {
    let tgid = task::current_tgid();
    let process = match processes::find(tgid) {
        Some(process) => process,
        None => insert(ctx, tgid, task::current(), shares_mm(tgid)?)?,
    };
    if !borrows(process) {
        return Ok((tgid, process));
    }
    let mm: Address = task::read(task::current(), offset!(task_mm))?;
    let task = owner(mm)?;
    if task == 0 {
        // The owner is exiting: a borrower that outlives it pays for itself.
        return Ok((tgid, process));
    }
    let tgid: u32 = task::read(task, offset!(task_tgid))?;
    match processes::find(tgid) {
        Some(process) => Ok((tgid, process)),
        None => Ok((tgid, insert(ctx, tgid, task, 0)?)),
    }
}

/// Whether a process' address space is somebody else's, who can be told.
#[inline(always)]
fn borrows(process: *mut Process) -> bool {
    // SAFETY: `process` points to the counts of a process.
    let shares_mm = unsafe { (*process).shares_mm };
    // Without an owner (no CONFIG_MEMCG) a borrower pays for itself until its exec.
    shares_mm != 0 && offset!(mm_owner) != Offsets::ABSENT
}

/// What [`Process::shares_mm`] is of a process whose fork was not seen.
#[inline(always)]
fn shares_mm(tgid: u32) -> Result<u64, Tally> {
    if offset!(mm_owner) == Offsets::ABSENT {
        return Ok(0);
    }
    let mm: Address = task::read(task::current(), offset!(task_mm))?;
    let task = owner(mm)?;
    if task == 0 {
        return Ok(0);
    }
    let owner: u32 = task::read(task, offset!(task_tgid))?;
    Ok(u64::from(owner != tgid))
}

/// A process that is older than leakscope, or whose fork found no room.
#[inline(always)]
pub fn insert(
    ctx: &impl EbpfContext,
    tgid: u32,
    task: Address,
    shares_mm: u64,
) -> Result<*mut Process, Tally> {
    processes::begin(tgid, task::start_boottime(task), shares_mm, u64::from(BPF_NOEXIST));
    aya_log_ebpf::debug!(ctx, "pid {} seen first by a fault", tgid);
    processes::find(tgid).ok_or(Tally::ProcessesFull)
}

/// A task of the thread group that an address space belongs to; 0 when it is dying and nobody's.
#[inline(always)]
fn owner(mm: Address) -> Result<Address, Tally> {
    if offset!(mm_owner) == Offsets::ABSENT {
        return Err(Tally::RemoteUnknown);
    }
    task::read(mm, offset!(mm_owner))
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
    // SAFETY: `process` points to the counts of a process, and `kind` is below RSS_KINDS.
    let kinds = unsafe { &raw mut (*process).rss }.cast::<RssKind>();
    // SAFETY: as above.
    let rss = unsafe { kinds.add(kind as usize) };
    // SAFETY: `rss` points into that value.
    let last = unsafe { (*rss).pages };
    // SAFETY: as above.
    unsafe { (*rss).pages = pages };
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
