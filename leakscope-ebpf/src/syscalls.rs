//! The inspect tier: what suspects do with their address space. Attached only while there is a suspect, because any
//! syscall tracepoint makes every system call of the host slower; where the kernel allows it, `functions` stands in.
//!
//! Enter remembers the arguments, exit counts the call if it succeeded. A classic syscall tracepoint has its arguments at
//! 16, 24, 32… and its result at 16, on all 64-bit kernels; the loader compares.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::programs::TracePointContext;
use leakscope_common::{CallCount, FlowCount, Offsets, Suspect, Tally};

use crate::maps::{CALLS, SUSPECTS, add, offset};
use crate::memory::field;
use crate::task::{self, Address};

const MAP_ANONYMOUS: u64 = 0x20;
const MADV_DONTNEED: u64 = 4;
const MADV_FREE: u64 = 8;
/// The highest addresses are error numbers.
const MAX_ERRNO: u64 = 4095;

/// A call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// What is needed of the arguments: bytes before.
    pub old: u64,
    /// Bytes asked for.
    pub new: u64,
    /// Flags or advice.
    pub flags: u64,
}

/// Whether the running thread is inspected.
#[inline(always)]
pub fn suspect() -> Option<*mut Suspect> {
    SUSPECTS.get_ptr_mut(task::current_tgid())
}

#[inline(always)]
fn enter(call: Call) -> Result<(), Tally> {
    CALLS.insert(bpf_get_current_pid_tgid(), call, u64::from(BPF_ANY)).map_err(|_| Tally::CallsFull)
}

/// Whether a result is an error number.
#[inline(always)]
pub fn is_error(result: u64) -> bool {
    result > u64::MAX - MAX_ERRNO
}

/// The suspect and its call that ends with this result; `None` if the call failed or is not a suspect's.
#[inline(always)]
fn end(result: u64) -> Result<Option<(*mut Suspect, Call)>, Tally> {
    let Some(suspect) = suspect() else { return Ok(None) };
    let thread = bpf_get_current_pid_tgid();
    let Some(call) = CALLS.get_ptr(thread) else {
        return Err(Tally::CallUnmatched);
    };
    // SAFETY: points to a value of CALLS, which only this thread writes.
    let call = unsafe { *call };
    let _ = CALLS.remove(thread);
    Ok((!is_error(result)).then_some((suspect, call)))
}

#[inline(always)]
fn exit(ctx: &TracePointContext) -> Result<Option<(*mut Suspect, Call)>, Tally> {
    end(field(ctx, 16)?)
}

#[inline(always)]
fn argument(ctx: &TracePointContext, index: usize) -> Result<u64, Tally> {
    field(ctx, 16 + 8 * index)
}

/// The kernel works in whole pages.
#[inline(always)]
fn whole_pages(bytes: u64) -> u64 {
    let mask = (1u64 << offset!(page_shift)) - 1;
    (bytes.wrapping_add(mask)) & !mask
}

#[inline(always)]
fn count_call(calls: *mut CallCount, bytes: u64) {
    // SAFETY: `calls` points into a value of SUSPECTS.
    add(unsafe { &raw mut (*calls).calls }, 1);
    // SAFETY: as above.
    add(unsafe { &raw mut (*calls).bytes }, bytes);
}

#[inline(always)]
fn count_flow(flow: *mut FlowCount, old: u64, new: u64) {
    if new > old {
        // SAFETY: `flow` points into a value of SUSPECTS.
        add(unsafe { &raw mut (*flow).grown }, new - old);
    } else if new < old {
        // SAFETY: as above.
        add(unsafe { &raw mut (*flow).shrunk }, old - new);
    }
}

/// `brk(brk)`: the end of the heap before is in the address space; without BTF it is the result of the call before.
#[inline(always)]
pub fn try_enter_brk() -> Result<(), Tally> {
    let Some(suspect) = suspect() else { return Ok(()) };
    let old = if offset!(mm_brk) == Offsets::ABSENT {
        // SAFETY: points to a value of SUSPECTS.
        unsafe { (*suspect).last_brk }
    } else {
        let mm: Address = task::read(task::current(), offset!(task_mm))?;
        task::read(mm, offset!(mm_brk))?
    };
    enter(Call { old, new: 0, flags: 0 })
}

/// The result is the end of the heap now, also where the call was refused.
#[inline(always)]
pub fn try_exit_brk(ctx: &TracePointContext) -> Result<(), Tally> {
    exit_brk(field(ctx, 16)?)
}

#[inline(always)]
pub fn exit_brk(heap_end: u64) -> Result<(), Tally> {
    let Some((suspect, call)) = end(heap_end)? else { return Ok(()) };
    if call.old != 0 {
        // SAFETY: points to a value of SUSPECTS.
        count_flow(unsafe { &raw mut (*suspect).brk }, whole_pages(call.old), whole_pages(heap_end));
    }
    // SAFETY: as above.
    unsafe { (*suspect).last_brk = heap_end };
    Ok(())
}

/// `mmap(addr, len, prot, flags, fd, off)`.
#[inline(always)]
pub fn try_enter_mmap(ctx: &TracePointContext) -> Result<(), Tally> {
    if suspect().is_none() {
        return Ok(());
    }
    enter(Call { old: 0, new: argument(ctx, 1)?, flags: argument(ctx, 3)? })
}

#[inline(always)]
pub fn try_exit_mmap(ctx: &TracePointContext) -> Result<(), Tally> {
    if let Some((suspect, call)) = exit(ctx)? {
        count_mmap(suspect, call);
    }
    Ok(())
}

#[inline(always)]
pub fn count_mmap(suspect: *mut Suspect, call: Call) {
    let calls = if call.flags & MAP_ANONYMOUS != 0 {
        // SAFETY: points to a value of SUSPECTS.
        unsafe { &raw mut (*suspect).mmap_anon }
    } else {
        // SAFETY: as above.
        unsafe { &raw mut (*suspect).mmap_file }
    };
    count_call(calls, whole_pages(call.new));
}

/// `munmap(addr, len)`.
#[inline(always)]
pub fn try_enter_munmap(ctx: &TracePointContext) -> Result<(), Tally> {
    if suspect().is_none() {
        return Ok(());
    }
    enter(Call { old: 0, new: argument(ctx, 1)?, flags: 0 })
}

#[inline(always)]
pub fn try_exit_munmap(ctx: &TracePointContext) -> Result<(), Tally> {
    if let Some((suspect, call)) = exit(ctx)? {
        count_munmap(suspect, call);
    }
    Ok(())
}

#[inline(always)]
pub fn count_munmap(suspect: *mut Suspect, call: Call) {
    // SAFETY: points to a value of SUSPECTS.
    count_call(unsafe { &raw mut (*suspect).munmap }, whole_pages(call.new));
}

/// `mremap(addr, old_len, new_len, flags, new_addr)`.
#[inline(always)]
pub fn try_enter_mremap(ctx: &TracePointContext) -> Result<(), Tally> {
    if suspect().is_none() {
        return Ok(());
    }
    enter(Call { old: argument(ctx, 1)?, new: argument(ctx, 2)?, flags: 0 })
}

#[inline(always)]
pub fn try_exit_mremap(ctx: &TracePointContext) -> Result<(), Tally> {
    if let Some((suspect, call)) = exit(ctx)? {
        count_mremap(suspect, call);
    }
    Ok(())
}

#[inline(always)]
pub fn count_mremap(suspect: *mut Suspect, call: Call) {
    // SAFETY: points to a value of SUSPECTS.
    count_flow(unsafe { &raw mut (*suspect).mremap }, whole_pages(call.old), whole_pages(call.new));
    // SAFETY: as above.
    add(unsafe { &raw mut (*suspect).mremap_calls }, 1);
}

/// `madvise(start, len, behavior)`: only advice that gives pages back is of interest.
#[inline(always)]
pub fn try_enter_madvise(ctx: &TracePointContext) -> Result<(), Tally> {
    if suspect().is_none() {
        return Ok(());
    }
    // The tracepoint keeps an int in 8 bytes.
    enter(Call { old: 0, new: argument(ctx, 1)?, flags: argument(ctx, 2)? & 0xffff_ffff })
}

#[inline(always)]
pub fn try_exit_madvise(ctx: &TracePointContext) -> Result<(), Tally> {
    if let Some((suspect, call)) = exit(ctx)? {
        count_madvise(suspect, call);
    }
    Ok(())
}

#[inline(always)]
pub fn count_madvise(suspect: *mut Suspect, call: Call) {
    if call.flags == MADV_DONTNEED || call.flags == MADV_FREE {
        // SAFETY: points to a value of SUSPECTS.
        count_call(unsafe { &raw mut (*suspect).madvise_free }, whole_pages(call.new));
    }
}
