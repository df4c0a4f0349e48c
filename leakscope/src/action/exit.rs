//! How a dead process ended, by what the kernel still knows of it.

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::victim::Victim;
use crate::source::ExitStatus;

/// How a dead process ended: from the pidfd where the kernel keeps it there (Linux 6.15), from the zombie, or, for a
/// child of our own, from `waitid` without collecting it.
pub(super) fn exit_status(victim: &Victim) -> Option<ExitStatus> {
    let code = pidfd_exit_code(victim).or_else(|| victim.proc().zombie_exit_code(victim.identity().key));
    if let Some(code) = code {
        return Some(ExitStatus::from_exit_code(code));
    }
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let status = waitid(WaitId::PidFd(victim.pidfd()), options).ok().flatten()?;
    let code = status.exit_status().and_then(|code| u8::try_from(code).ok()).map(ExitStatus::Code);
    code.or_else(|| {
        status.terminating_signal().and_then(|signal| u8::try_from(signal).ok()).map(ExitStatus::Signal)
    })
}

/// `PIDFD_GET_INFO` (include/uapi/linux/pidfd.h): `_IOWR(0xFF, 11, struct pidfd_info)` in its first, 64-byte version.
const PIDFD_GET_INFO: Opcode = opcode::read_write::<libc::pidfd_info>(0xff, 11);

fn pidfd_exit_code(victim: &Victim) -> Option<u32> {
    // SAFETY: the struct consists of integers, for which all bits zero is a value.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(libc::PIDFD_INFO_EXIT);
    // SAFETY: the opcode belongs to this struct, whose size it carries.
    let request = unsafe { Updater::<PIDFD_GET_INFO, libc::pidfd_info>::new(&mut info) };
    // SAFETY: the request writes into `info` alone, which outlives the call.
    unsafe { ioctl(victim.pidfd(), request) }.ok()?;
    // The kernel sets the bit only when it has the exit code, which is when the process was collected.
    let known = info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
    known.then(|| u32::try_from(info.exit_code).ok()).flatten()
}
