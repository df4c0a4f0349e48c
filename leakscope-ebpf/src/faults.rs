//! User page faults on x86: `exceptions:page_fault_user` and the meaning of its error code are this architecture's.
//!
//! While a process is inspected, its faults on pages that were not present are remembered with time and address: their
//! steps carry the rhythm and the size of what a leak allocates.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use leakscope_common::{FAULTS_MAX, Fault, Tally};

use crate::maps::{SUSPECTS, control};
use crate::memory::{count_fault, field};

/// The page was there: the access was not allowed (copy on write, or an error).
const PRESENT: u64 = 1;

/// `page_fault_user(address, regs, error_code)`.
#[inline(always)]
pub fn try_page_fault_btf(ctx: &BtfTracePointContext) -> Result<(), Tally> {
    fault(ctx, ctx.arg::<u64>(0), ctx.arg::<u64>(2))
}

/// address at 8, error_code at 24.
#[inline(always)]
pub fn try_page_fault_classic(ctx: &TracePointContext) -> Result<(), Tally> {
    fault(ctx, field(ctx, 8)?, field(ctx, 24)?)
}

#[inline(always)]
fn fault(ctx: &impl EbpfContext, address: u64, error_code: u64) -> Result<(), Tally> {
    let present = error_code & PRESENT != 0;
    let tgid = count_fault(ctx, present)?;
    if !present && control().suspects > 0 {
        remember(tgid, address);
    }
    Ok(())
}

/// Puts a fault over the oldest one. Two threads at once may choose the same slot: one fault less.
#[inline(always)]
fn remember(tgid: u32, address: u64) {
    let Some(suspect) = SUSPECTS.get_ptr_mut(tgid) else { return };
    // SAFETY: `suspect` points to a value of SUSPECTS.
    let count = unsafe { (*suspect).fault_count };
    // SAFETY: as above.
    unsafe { (*suspect).fault_count = count + 1 };
    #[expect(clippy::cast_possible_truncation, reason = "masked")]
    let slot = (count & (FAULTS_MAX as u64 - 1)) as usize;
    // SAFETY: as above; the mask keeps `slot` within the array.
    let faults = unsafe { &raw mut (*suspect).faults }.cast::<Fault>();
    // SAFETY: as above.
    let fault = unsafe { faults.add(slot) };
    // SAFETY: no arguments, no preconditions.
    let time = unsafe { bpf_ktime_get_ns() };
    // SAFETY: `fault` points into that value.
    unsafe { fault.write(Fault { time, address }) };
}
