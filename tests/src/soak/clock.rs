//! The host's clock of the day, set an hour back and forward again while something watches, and put right afterwards.
//!
//! Back first: what other programs write while the clock is ahead looks new for an hour, to `make` and cargo for one, and
//! the step forward is the way home. What the clock should show is its distance from `CLOCK_BOOTTIME`, which nobody can
//! set. A forked guard puts it right where this process cannot: when it was killed.

use std::io::Error;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

const SECOND: i128 = 1_000_000_000;
const JUMP: i128 = 3600 * SECOND;
/// From one setting to what is read after it: what a shared machine takes for two system calls, mostly less.
const EXACT: i128 = SECOND / 10_000;
/// What a guard leaves alone: time services set the clock by as much.
const TOLERATED: i128 = SECOND / 10;

/// The clock, right until [`Self::jump`] and right again when this goes.
#[derive(Debug)]
pub struct JumpingClock {
    /// Nanoseconds from the boot clock to the clock of the day, as found.
    right: i128,
    away: bool,
    steps: u32,
    _guard: Guard,
}

/// A child that puts the clock right when the other end of its pipe is closed, which the end of this process does as well.
#[derive(Debug)]
struct Guard {
    pipe: Option<OwnedFd>,
    child: libc::pid_t,
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // SAFETY: a child of our own that nobody else waits for, and no status is asked for.
        unsafe { libc::waitpid(self.child, std::ptr::null_mut(), 0) };
    }
}

impl JumpingClock {
    /// Looks what the clock shows, and whether it can be set.
    ///
    /// # Errors
    /// When this process may not set it, or no guard can be started.
    pub fn open() -> Result<Self> {
        let right = distance();
        set(right).context(
            "the clock cannot be set here\n  fix: run the soak as root, without --jump-clocks in a container",
        )?;
        Ok(Self { right, away: false, steps: 0, _guard: guard(right)? })
    }

    /// Sets the clock an hour back, or forward to where it should be.
    ///
    /// # Errors
    /// When it cannot be set any more.
    pub fn jump(&mut self) -> Result<()> {
        self.away = !self.away;
        self.steps += 1;
        set(if self.away { self.right - JUMP } else { self.right }).context("setting the clock")
    }

    /// Puts the clock right. How often it was set, and by how many nanoseconds it is off.
    ///
    /// # Errors
    /// When it cannot be set, or somebody else sets it at the same time.
    pub fn restore(mut self) -> Result<(u32, i128)> {
        self.put_right().context("putting the clock right")?;
        let off = distance() - self.right;
        ensure!(off.abs() < TOLERATED, "the clock is off by {off} ns: does something else set it?");
        Ok((self.steps, off))
    }

    fn put_right(&mut self) -> rustix::io::Result<()> {
        if self.away {
            set(self.right)?;
            self.away = false;
        }
        Ok(())
    }
}

impl Drop for JumpingClock {
    fn drop(&mut self) {
        if let Err(error) = self.put_right() {
            eprintln!("the clock could not be put right, it is an hour behind: {error}");
        }
    }
}

fn nanoseconds(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * SECOND + i128::from(time.tv_nsec)
}

/// Nanoseconds from the boot clock to the clock of the day.
fn distance() -> i128 {
    let before = nanoseconds(clock_gettime(ClockId::Boottime));
    let day = nanoseconds(clock_gettime(ClockId::Realtime));
    let after = nanoseconds(clock_gettime(ClockId::Boottime));
    day - i128::midpoint(before, after)
}

/// Sets the clock of the day so far from the boot clock; again where this process had to wait in between.
fn set(wanted: i128) -> rustix::io::Result<()> {
    const TRIES: usize = 20;
    for _ in 0..TRIES {
        let day = nanoseconds(clock_gettime(ClockId::Boottime)) + wanted;
        let (seconds, rest) = (day.div_euclid(SECOND), day.rem_euclid(SECOND));
        // Both fit until the year 292 billion.
        let time = Timespec {
            tv_sec: i64::try_from(seconds).unwrap_or_default(),
            tv_nsec: i32::try_from(rest).unwrap_or_default().into(),
        };
        clock_settime(ClockId::Realtime, time)?;
        if (distance() - wanted).abs() < EXACT {
            break;
        }
    }
    Ok(())
}

/// It waits until this process has ended or is done, and then puts the clock right where that was not done.
fn guard(right: i128) -> Result<Guard> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the child makes system calls and nothing else, so that it needs no lock that another thread held.
    let child = unsafe { libc::fork() };
    ensure!(child >= 0, "forking the clock's guard: {}", Error::last_os_error());
    if child > 0 {
        drop(ours);
        return Ok(Guard { pipe: Some(theirs), child });
    }
    drop(theirs);
    // A group of its own: Ctrl-C at the terminal is for the others.
    let _ = rustix::process::setsid();
    while !matches!(rustix::io::read(ours.as_fd(), &mut [0_u8; 1]), Ok(0)) {}
    if (distance() - right).abs() > TOLERATED {
        let _ = set(right);
    }
    // SAFETY: ends the child, without anything of its parent's being written or run.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_of_now_and_does_not_run() {
        let first = distance();
        let second = distance();
        assert!((second - first).abs() < SECOND, "{first} {second}");
        assert!(first > 0, "the boot was after 1970");
    }
}
