//! The inspect tier at the ends of the kernel's own functions, of x86: where programs may run there, only who makes one of
//! these calls pays for it. A syscall tracepoint makes every system call of the host slower (see `syscalls`).
//!
//! What such a function is given are the caller's registers, in which the arguments still stand when it ends.

use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use leakscope_common::{Suspect, Tally};

use crate::maps::settle;
use crate::syscalls::{
    Call, count_madvise, count_mmap, count_mremap, count_munmap, exit_brk, is_error, suspect, try_enter_brk,
};
use crate::task::{self, Address};

/// Where the second, third and fourth argument of a call are in `struct pt_regs`: rsi, rdx and r10 (System V ABI, and
/// arch/x86/include/uapi/asm/ptrace.h, which user space relies on).
const SECOND: u32 = 104;
const THIRD: u32 = 96;
const FOURTH: u32 = 56;

#[fentry(function = "__x64_sys_brk")]
fn fentry_brk(_ctx: FEntryContext) -> i32 {
    settle(try_enter_brk())
}

#[fexit(function = "__x64_sys_brk")]
fn fexit_brk(ctx: FExitContext) -> i32 {
    // The result is the end of the heap; where it was before is remembered at the function's beginning.
    settle(exit_brk(ctx.arg::<u64>(1)))
}

#[fexit(function = "__x64_sys_mmap")]
fn fexit_mmap(ctx: FExitContext) -> i32 {
    settle(mmap(&ctx))
}

#[fexit(function = "__x64_sys_munmap")]
fn fexit_munmap(ctx: FExitContext) -> i32 {
    settle(munmap(&ctx))
}

#[fexit(function = "__x64_sys_mremap")]
fn fexit_mremap(ctx: FExitContext) -> i32 {
    settle(mremap(&ctx))
}

#[fexit(function = "__x64_sys_madvise")]
fn fexit_madvise(ctx: FExitContext) -> i32 {
    settle(madvise(&ctx))
}

/// The suspect that made the call and its registers; `None` if the call failed or is not a suspect's.
#[inline(always)]
fn ended(ctx: &FExitContext) -> Option<(*mut Suspect, Address)> {
    let suspect = suspect()?;
    (!is_error(ctx.arg::<u64>(1))).then(|| (suspect, ctx.arg::<*const u8>(0) as Address))
}

/// `mmap(addr, len, prot, flags, fd, off)`.
#[inline(always)]
fn mmap(ctx: &FExitContext) -> Result<(), Tally> {
    let Some((suspect, registers)) = ended(ctx) else { return Ok(()) };
    let flags = task::load(registers, FOURTH)?;
    count_mmap(suspect, Call { old: 0, new: task::load(registers, SECOND)?, flags });
    Ok(())
}

/// `munmap(addr, len)`.
#[inline(always)]
fn munmap(ctx: &FExitContext) -> Result<(), Tally> {
    let Some((suspect, registers)) = ended(ctx) else { return Ok(()) };
    count_munmap(suspect, Call { old: 0, new: task::load(registers, SECOND)?, flags: 0 });
    Ok(())
}

/// `mremap(addr, old_len, new_len, flags, new_addr)`.
#[inline(always)]
fn mremap(ctx: &FExitContext) -> Result<(), Tally> {
    let Some((suspect, registers)) = ended(ctx) else { return Ok(()) };
    let (old, new) = (task::load(registers, SECOND)?, task::load(registers, THIRD)?);
    count_mremap(suspect, Call { old, new, flags: 0 });
    Ok(())
}

/// `madvise(start, len, behavior)`.
#[inline(always)]
fn madvise(ctx: &FExitContext) -> Result<(), Tally> {
    let Some((suspect, registers)) = ended(ctx) else { return Ok(()) };
    let advice: u64 = task::load(registers, THIRD)?;
    count_madvise(suspect, Call { old: 0, new: task::load(registers, SECOND)?, flags: advice & 0xffff_ffff });
    Ok(())
}
