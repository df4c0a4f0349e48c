//! One process, read from /proc once: who it is and what it holds.
//!
//! Both files are read through one descriptor of the process' directory, so they belong to the same process even if its
//! pid is used again meanwhile. A process that vanishes is an answer ([`Seen::Gone`]), never an error.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use procfs::process::{Stat, Status};
use procfs::{FromBufRead as _, FromRead as _, ProcError};
use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, read};

use super::unread::Why;
use crate::leak::Memory;
use crate::units::{Bytes, Pid, ProcKey, Ticks};

/// What /proc says of a pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// There is no such process, or not any more.
    Gone,
    /// It is there and was not read: no reason to stop watching the others.
    Unread(Why),
    /// It has no memory of its own: a thread of the kernel, or a process that is giving its memory up.
    WithoutMemory,
    /// It has ended, and only its parent has not asked how yet.
    Zombie,
    /// It is bound to end, and what it still holds says nothing about it: it runs no more, and the kernel may be taking
    /// its pages away already.
    Ending(ProcKey),
    /// It is there.
    Here(Glance),
}

/// What one look at a process shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Glance {
    pub(super) key: ProcKey,
    pub(super) memory: Memory,
    /// Where its program and its stack begin: both change with an exec. `None` where they may not be read.
    pub(super) image: Option<(u64, u64)>,
}

/// `PF_EXITING` of the flags in `/proc/PID/stat` (linux/sched.h): from before the address space is given up on.
const PF_EXITING: u32 = 0x4;
/// SIGKILL among pending signals.
const KILLED: u64 = 1 << (9 - 1);

/// A process' files are shorter than this, but for one with hundreds of groups or CPUs.
const ENOUGH: usize = 4096;

/// A proc file system, rooted anywhere.
#[derive(Clone, Debug)]
pub(super) struct ProcRoot(PathBuf);

impl ProcRoot {
    pub(super) fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// The pids that are there now, in no order.
    pub(super) fn pids(&self) -> Result<Vec<Pid>> {
        let folder = std::fs::read_dir(&self.0).with_context(|| format!("listing {}", self.0.display()))?;
        Ok(folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid).collect())
    }

    /// Looks at one process.
    pub(super) fn look(&self, pid: Pid) -> Seen {
        match look_at(&self.0.join(pid.to_string()), pid) {
            Ok(seen) => seen,
            // Half a file is what a process leaves that goes while being read.
            Err(ProcError::NotFound(_) | ProcError::Incomplete(_)) => Seen::Gone,
            Err(ProcError::PermissionDenied(_)) => Seen::Unread(Why::Forbidden),
            Err(_) => Seen::Unread(Why::Unreadable),
        }
    }
}

fn look_at(path: &Path, pid: Pid) -> Result<Seen, ProcError> {
    let folder = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let folder = folder.map_err(|errno| refused(errno, path))?;
    let mut text = Vec::with_capacity(ENOUGH);
    let mut status = read_status(&folder, path, "status", &mut text)?;
    let mut image_of = None;
    if status.rssanon.is_none() && status.state.starts_with('Z') && status.threads > 1 {
        // A leader that ended before its threads has given up the memory that they still use.
        let Some((thread, its)) = living_thread(&folder, path, pid, &mut text) else {
            return Ok(Seen::WithoutMemory);
        };
        status = its;
        read_file(&folder, path, &format!("task/{thread}/stat"), &mut text)?;
        image_of = Some(Stat::from_read(&*text)?);
    }
    let (Some(anon), Some(file), Some(shmem)) = (status.rssanon, status.rssfile, status.rssshmem) else {
        return Ok(if status.state.starts_with(['Z', 'X']) { Seen::Zombie } else { Seen::WithoutMemory });
    };
    read_file(&folder, path, "stat", &mut text)?;
    let stat = Stat::from_read(&*text)?;
    let key = ProcKey { pid, start: Ticks(stat.starttime) };
    if is_ending(&status, image_of.as_ref().unwrap_or(&stat)) {
        return Ok(Seen::Ending(key));
    }
    let memory = Memory {
        anon: Bytes::from_kib(anon),
        file: Bytes::from_kib(file),
        shmem: Bytes::from_kib(shmem),
        // No such line: a kernel without swap.
        swap: Bytes::from_kib(status.vmswap.unwrap_or(0)),
    };
    // 0 and 1 stand for "you may not know".
    let of = image_of.as_ref().unwrap_or(&stat);
    let image = (of.startstack > 1).then_some((of.startcode, of.startstack));
    Ok(Seen::Here(Glance { key, memory, image }))
}

/// Whether a thread that had memory a moment ago is on its way out. An exit gives the address space up at once (`exit_mm`
/// in kernel/exit.c), and half of it is never seen; but the OOM reaper and `process_mrelease(2)` take pages from a process
/// that was killed and has not come so far. Every thread of a killed process has SIGKILL pending until it runs again, and
/// user code runs no more.
fn is_ending(status: &Status, stat: &Stat) -> bool {
    (status.sigpnd | status.shdpnd) & KILLED != 0
        || stat.flags & PF_EXITING != 0
        || matches!(stat.state, 'Z' | 'X')
}

/// The parser wants UTF-8, and a process may call itself anything.
fn read_status(folder: &OwnedFd, path: &Path, name: &str, text: &mut Vec<u8>) -> Result<Status, ProcError> {
    read_file(folder, path, name, text)?;
    Status::from_buf_read(String::from_utf8_lossy(text).as_bytes())
}

/// A thread that still has the process' memory; one that vanishes meanwhile is passed over.
fn living_thread(folder: &OwnedFd, path: &Path, leader: Pid, text: &mut Vec<u8>) -> Option<(u32, Status)> {
    let names = std::fs::read_dir(path.join("task")).ok()?.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse::<u32>().ok())
        .filter(|thread| *thread != leader.0)
        .filter_map(|thread| {
            Some((thread, read_status(folder, path, &format!("task/{thread}/status"), text).ok()?))
        })
        .find(|(_, status)| status.rssanon.is_some())
}

/// Reads a file of a process: each takes two calls less than with a reader that asks again whether this was the end. The
/// kernel gives as much as there is room for, so less than that is the end.
fn read_file(folder: &OwnedFd, path: &Path, name: &str, text: &mut Vec<u8>) -> Result<(), ProcError> {
    let refused = |errno| refused(errno, &path.join(name));
    let file = openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(refused)?;
    text.clear();
    loop {
        text.reserve(ENOUGH);
        let room = text.capacity() - text.len();
        match read(file.as_fd(), spare_capacity(text)) {
            Ok(length) if length < room => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(refused(errno)),
        }
    }
}

/// Why a file could not be read, as the parsers put it.
fn refused(errno: Errno, path: &Path) -> ProcError {
    let path = Some(path.to_owned());
    match errno {
        // The second: gone between opening and reading.
        Errno::NOENT | Errno::SRCH => ProcError::NotFound(path),
        Errno::ACCESS | Errno::PERM => ProcError::PermissionDenied(path),
        errno => ProcError::Io(errno.into(), path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_here_and_holds_memory() {
        let pid = Pid(std::process::id());
        let Seen::Here(glance) = ProcRoot::new(Path::new("/proc")).look(pid) else {
            panic!("/proc does not show the test itself")
        };
        assert_eq!(glance.key.pid, pid);
        assert!(glance.memory.anon > Bytes::ZERO);
        assert!(glance.image.is_some());
    }

    #[test]
    fn a_pid_that_nobody_has_is_gone_and_no_error() {
        // Above the highest pid that Linux gives.
        assert_eq!(ProcRoot::new(Path::new("/proc")).look(Pid(0x7fff_fff0)), Seen::Gone);
    }

    #[test]
    fn files_that_make_no_sense_are_unreadable_and_no_panic() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("7");
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy("/proc/self/status", folder.join("status")).unwrap();
        std::fs::write(folder.join("stat"), "7 (a program) S not numbers").unwrap();
        assert_eq!(ProcRoot::new(root.path()).look(Pid(7)), Seen::Unread(Why::Unreadable));
    }

    #[test]
    fn a_name_that_is_not_utf_8_hides_nobody() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("7");
        std::fs::create_dir(&folder).unwrap();
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let rest = own.split_once('\n').unwrap().1;
        let status = [b"Name:\t\xff\xfebad\n", rest.as_bytes()].concat();
        std::fs::write(folder.join("status"), status).unwrap();
        std::fs::copy("/proc/self/stat", folder.join("stat")).unwrap();
        assert!(matches!(ProcRoot::new(root.path()).look(Pid(7)), Seen::Here(_)));
    }

    #[test]
    fn a_leader_that_ended_before_its_threads_does_not_hide_their_memory() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("7");
        let thread = folder.join("task/8");
        std::fs::create_dir_all(&thread).unwrap();
        std::fs::create_dir(folder.join("task/7")).unwrap();
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let leader: String = own
            .lines()
            .filter(|line| !line.starts_with("Rss") && !line.starts_with("Vm"))
            .map(|line| match line.split_once(':') {
                Some(("State", _)) => "State:\tZ (zombie)\n".to_owned(),
                Some(("Threads", _)) => "Threads:\t2\n".to_owned(),
                _ => format!("{line}\n"),
            })
            .collect();
        for place in [&folder, &folder.join("task/7")] {
            std::fs::write(place.join("status"), &leader).unwrap();
        }
        std::fs::write(thread.join("status"), &own).unwrap();
        for place in [&folder, &thread] {
            std::fs::copy("/proc/self/stat", place.join("stat")).unwrap();
        }
        let Seen::Here(glance) = ProcRoot::new(root.path()).look(Pid(7)) else { panic!("it is hidden") };
        assert!(glance.memory.anon > Bytes::ZERO && glance.image.is_some());
    }

    #[test]
    fn what_a_process_holds_that_is_killed_or_exits_is_not_told() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("7");
        std::fs::create_dir(&folder).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let look = |status: &str, stat: &str| {
            std::fs::write(folder.join("status"), status).unwrap();
            std::fs::write(folder.join("stat"), stat).unwrap();
            ProcRoot::new(root.path()).look(Pid(7))
        };
        let with = |field: &str, value: &str| -> String {
            let line = |line: &str| match line.split_once(':') {
                Some((name, _)) if name == field => format!("{field}:\t{value}\n"),
                _ => format!("{line}\n"),
            };
            status.lines().map(line).collect()
        };
        let (name, rest) = stat.rsplit_once(") ").unwrap();
        // The state, the 3rd field of proc(5), and the flags, the 9th.
        let with_stat = |state: &str, added: u32| {
            let mut fields: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
            fields[0] = state.to_owned();
            fields[6] = (fields[6].parse::<u32>().unwrap() | added).to_string();
            format!("{name}) {}", fields.join(" "))
        };
        assert!(matches!(look(&status, &stat), Seen::Here(_)));
        // SIGTERM may be pending for as long as it is blocked: that is no end.
        assert!(matches!(look(&with("ShdPnd", "0000000000004000"), &stat), Seen::Here(_)));
        for field in ["SigPnd", "ShdPnd"] {
            let seen = look(&with(field, "0000000000000100"), &stat);
            assert!(matches!(seen, Seen::Ending(key) if key.pid == Pid(7)), "{field}: {seen:?}");
        }
        for (state, flags) in [("Z", 0), ("X", 0), ("R", PF_EXITING)] {
            let seen = look(&status, &with_stat(state, flags));
            assert!(matches!(seen, Seen::Ending(_)), "{state} {flags}: {seen:?}");
        }
    }

    #[test]
    fn a_thread_of_the_kernel_has_no_memory() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("7");
        std::fs::create_dir(&folder).unwrap();
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let without: String = own
            .lines()
            .filter(|line| !line.starts_with("Rss") && !line.starts_with("Vm"))
            .map(|line| format!("{line}\n"))
            .collect();
        std::fs::write(folder.join("status"), without).unwrap();
        assert_eq!(ProcRoot::new(root.path()).look(Pid(7)), Seen::WithoutMemory);
    }
}
