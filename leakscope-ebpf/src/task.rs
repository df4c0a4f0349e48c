//! Reads of the kernel's own structs, at the offsets that the loader found in its BTF.
//!
//! Rust has no CO-RE: the offsets come as a read-only global, and each read is a checked copy.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel};
use leakscope_common::{Offsets, Tally};

use crate::maps::offset;

/// An address in the kernel; 0 is none.
pub type Address = u64;

/// Reads a `T` at an offset from a kernel address.
#[inline(always)]
pub fn read<T>(base: Address, offset: u32) -> Result<T, Tally> {
    if offset == Offsets::ABSENT {
        return Err(Tally::ReadFailed);
    }
    let at = (base + u64::from(offset)) as *const T;
    // SAFETY: the helper checks the address and fails instead of faulting; `T` is an integer wherever this is called.
    unsafe { bpf_probe_read_kernel(at) }.map_err(|_| Tally::ReadFailed)
}

/// Reads a `T` at an offset from a kernel address whose type the verifier knows: what a BTF tracepoint was given, or what
/// was loaded from there. This is a plain load, a tenth of the price of a checked copy; where it faults it yields 0.
#[inline(always)]
pub fn load<T>(base: Address, offset: u32) -> Result<T, Tally> {
    if offset!(typed_loads) == 0 {
        return read(base, offset);
    }
    let at = (base + u64::from(offset)) as *const T;
    // SAFETY: the verifier knows the field and has the kernel catch the fault; `T` is an integer wherever this is called.
    Ok(unsafe { core::ptr::read_volatile(at) })
}

/// The thread group of the running thread.
#[inline(always)]
pub fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The running thread's `task_struct`.
#[inline(always)]
pub fn current() -> Address {
    // SAFETY: no arguments, no preconditions.
    unsafe { bpf_get_current_task() }
}

/// When the process of `task` was forked; 0 where offsets are unknown or cannot be read. It is the leader's: the one that
/// /proc/PID/stat shows.
#[inline(always)]
pub fn start_boottime(task: Address) -> u64 {
    if offset!(task_group_leader) == Offsets::ABSENT {
        return 0;
    }
    read::<Address>(task, offset!(task_group_leader))
        .and_then(|leader| read::<u64>(leader, offset!(task_start_boottime)))
        .unwrap_or(0)
}
