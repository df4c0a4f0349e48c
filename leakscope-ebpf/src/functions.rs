//! The inspect tier at the ends of the kernel's own functions, of x86: where programs may run there, only who makes one of
//! these calls pays for it. A syscall tracepoint makes every system call of the host slower (see `syscalls`).
//!
//! What such a function is given are the caller's registers, in which the arguments still stand when it ends.

use aya_ebpf::programs::FExitContext;
use leakscope_common::{Suspect, Tally};

use crate::syscalls::{
    Call, count_madvise, count_mmap, count_mremap, count_munmap, exit_brk, is_error, suspect,
};
use crate::task::{self, Address};

/// Where the second, third and fourth argument of a call are in `struct pt_regs`: rsi, rdx and r10 (System V ABI, and
/// arch/x86/include/uapi/asm/ptrace.h, which user space relies on).
const SECOND: u32 = 104;
const THIRD: u32 = 96;
const FOURTH: u32 = 56;

/// The suspect that made the call and its registers; `None` if the call failed or is not a suspect's.
#[inline(always)]
fn ended(ctx: &FExitContext) -> Option<(*mut Suspect, Address)> {
    let suspect = suspect()?;
    (!is_error(ctx.arg::<u64>(1))).then(|| (suspect, ctx.arg::<*const u8>(0) as Address))
}

/// The result is the end of the heap; where it was before is remembered at the function's beginning.
#[inline(always)]
pub fn try_brk(ctx: &FExitContext) -> Result<(), Tally> {
    exit_brk(ctx.arg::<u64>(1))
}

/// `mmap(addr, len, prot, flags, fd, off)`.
#[inline(always)]
pub fn try_mmap(ctx: &FExitContext) -> Result<(), Tally> {
    let Some((suspect, registers)) = ended(ctx) else { return Ok(()) };
    let flags = task::load(registers, FOURTH)?;
    count_mmap(suspect, Call { old: 0, new: task::load(registers, SECOND)?, flags });
    Ok(())
}

/// `munmap(addr, len)`.
#[inline(always)]
pub fn try_munmap(ctx: &FExitContext) -> Result<(), Tally> {
    let Some((suspect, registers)) = ended(ctx) else { return Ok(()) };
    count_munmap(suspect, Call { old: 0, new: task::load(registers, SECOND)?, flags: 0 });
    Ok(())
}

/// `mremap(addr, old_len, new_len, flags, new_addr)`.
#[inline(always)]
pub fn try_mremap(ctx: &FExitContext) -> Result<(), Tally> {
    let Some((suspect, registers)) = ended(ctx) else { return Ok(()) };
    let (old, new) = (task::load(registers, SECOND)?, task::load(registers, THIRD)?);
    count_mremap(suspect, Call { old, new, flags: 0 });
    Ok(())
}

/// `madvise(start, len, behavior)`.
#[inline(always)]
pub fn try_madvise(ctx: &FExitContext) -> Result<(), Tally> {
    let Some((suspect, registers)) = ended(ctx) else { return Ok(()) };
    let advice: u64 = task::load(registers, THIRD)?;
    count_madvise(suspect, Call { old: 0, new: task::load(registers, SECOND)?, flags: advice & 0xffff_ffff });
    Ok(())
}
