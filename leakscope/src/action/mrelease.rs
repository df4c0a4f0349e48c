//! Memory of a process that SIGKILL has reached and that does not get to its end: the kernel can take it back all the same
//! (`process_mrelease`, Linux 5.15), as its own OOM reaper does.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use tokio::time::timeout;

use super::outcome::Check;
use super::victim::Victim;

/// After this long it does not get to its end, and the kernel is asked to take its memory back before that.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(1);
/// The call's number, the same on every architecture; libc has it for glibc only.
const SYS_PROCESS_MRELEASE: libc::c_long = 448;

/// Asks the kernel to take back what a dying process holds. It may wait for a lock of the dying process: not to be called
/// where that would hold up anything else.
///
/// # Errors
/// `ENOSYS` before 5.15, `ESRCH` when it is gone, `EINVAL` when it is not dying.
fn process_mrelease(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes a descriptor, which is borrowed and so open, and flags; it touches no memory of ours.
    let result = unsafe { libc::syscall(SYS_PROCESS_MRELEASE, pidfd.as_raw_fd(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this kernel has the call: it is asked for a descriptor that nobody has.
pub fn is_here() -> bool {
    // SAFETY: no descriptor is -1, so that nothing is done.
    let result = unsafe { libc::syscall(SYS_PROCESS_MRELEASE, -1, 0) };
    result == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// Asks for it on a thread of its own, and says whether the kernel did.
async fn release_memory(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    let own = pidfd.try_clone_to_owned()?;
    let done = tokio::task::spawn_blocking(move || process_mrelease(std::os::fd::AsFd::as_fd(&own)));
    done.await.map_err(io::Error::other)?
}

/// Has the kernel take back what a process holds that SIGKILL does not end; says so where it did.
pub(super) async fn release(victim: &Victim) -> Option<Check> {
    let done = timeout(STUCK_AFTER, release_memory(victim.pidfd())).await;
    matches!(done, Ok(Ok(()))).then(|| {
        let detail = "SIGKILL did not end it within a second: the kernel took its memory back before (process_mrelease)";
        Check::new("mrelease", true, detail)
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    use super::*;

    #[test]
    fn only_what_is_dying_is_taken_from() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let alive = process_mrelease(std::os::fd::AsFd::as_fd(&pidfd)).unwrap_err().raw_os_error();
        assert!([Some(libc::EINVAL), Some(libc::ENOSYS)].contains(&alive), "{alive:?}");
        pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
        // It is dying or dead by now; both are no mistake.
        let dying = process_mrelease(std::os::fd::AsFd::as_fd(&pidfd));
        let error = dying.err().and_then(|error| error.raw_os_error());
        assert!([None, Some(libc::ESRCH), Some(libc::ENOSYS)].contains(&error), "{error:?}");
        child.wait().unwrap();
    }
}
