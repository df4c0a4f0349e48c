//! One process, read from /proc: who it is and what it holds.
//!
//! Both files are opened through one descriptor of the process' directory, so they belong to the same process even if its
//! pid is used again meanwhile. A process that vanishes is an answer ([`Seen::Gone`]), never an error.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use procfs::process::Stat;
use procfs::{FromRead as _, ProcError};
use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::{Errno, pread};

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

/// The files of one process that a look reads, all opened through its folder: whoever has its pid later, they are of this
/// process or of none.
#[derive(Debug)]
pub(super) struct Files {
    folder: OwnedFd,
    status: OwnedFd,
    stat: OwnedFd,
}

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
        self.open(pid).map_or_else(|seen| seen, |files| files.look(pid))
    }

    /// Opens the files of a process, to be looked at more than once.
    ///
    /// # Errors
    /// What there is to say of a process whose files cannot be opened.
    pub(super) fn open(&self, pid: Pid) -> Result<Files, Seen> {
        let path = self.0.join(pid.to_string());
        let folder = openat(CWD, &path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(refused)?;
        let file = |name| open_file(&folder, name).map_err(refused);
        let (status, stat) = (file("status")?, file("stat")?);
        Ok(Files { folder, status, stat })
    }
}

impl Files {
    /// Looks at the process, which may be gone by now.
    pub(super) fn look(&self, pid: Pid) -> Seen {
        self.read(pid).unwrap_or_else(|seen| seen)
    }

    fn read(&self, pid: Pid) -> Result<Seen, Seen> {
        let mut text = Vec::with_capacity(ENOUGH);
        let mut status = read_status(&self.status, &mut text)?;
        let mut image_of = None;
        if status.anon.is_none() && status.state == b'Z' && status.threads > 1 {
            // A leader that ended before its threads has given up the memory that they still use.
            let Some((thread, its)) = living_thread(&self.folder, pid, &mut text) else {
                return Ok(Seen::WithoutMemory);
            };
            status = its;
            let file = open_file(&self.folder, &format!("task/{thread}/stat")).map_err(refused)?;
            image_of = Some(read_stat(&file, &mut text)?);
        }
        let (Some(anon), Some(file), Some(shmem)) = (status.anon, status.file, status.shmem) else {
            let ended = matches!(status.state, b'Z' | b'X');
            return Ok(if ended { Seen::Zombie } else { Seen::WithoutMemory });
        };
        let stat = read_stat(&self.stat, &mut text)?;
        let key = ProcKey { pid, start: Ticks(stat.starttime) };
        let of = image_of.as_ref().unwrap_or(&stat);
        if is_ending(&status, of) {
            return Ok(Seen::Ending(key));
        }
        let memory = Memory {
            anon: Bytes::from_kib(anon),
            file: Bytes::from_kib(file),
            shmem: Bytes::from_kib(shmem),
            // No such line: a kernel without swap.
            swap: Bytes::from_kib(status.swap.unwrap_or(0)),
        };
        // 0 and 1 stand for "you may not know".
        let image = (of.startstack > 1).then_some((of.startcode, of.startstack));
        Ok(Seen::Here(Glance { key, memory, image }))
    }
}

/// What a look needs of `/proc/PID/status`. A parser of all its sixty lines takes longer than the kernel takes to write
/// them, and to read this file is nearly all that a tick does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Status {
    /// The state's letter.
    state: u8,
    threads: u64,
    /// Signals that are pending, of the thread or of the process.
    pending: u64,
    /// KiB, as the rest; `None` where there is no memory.
    anon: Option<u64>,
    file: Option<u64>,
    shmem: Option<u64>,
    swap: Option<u64>,
}

impl Status {
    /// `None` if a line that is there makes no sense, or one is missing that every process has.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut status = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let value = &line[colon + 1..];
            match &line[..colon] {
                b"State" => status.state = *value.trim_ascii_start().first()?,
                b"Threads" => status.threads = number(value, 10)?,
                b"SigPnd" | b"ShdPnd" => status.pending |= number(value, 16)?,
                b"RssAnon" => status.anon = Some(number(value, 10)?),
                b"RssFile" => status.file = Some(number(value, 10)?),
                b"RssShmem" => status.shmem = Some(number(value, 10)?),
                b"VmSwap" => status.swap = Some(number(value, 10)?),
                _ => {}
            }
        }
        (status.state != 0).then_some(status)
    }
}

/// The number that a value begins with; a unit may follow.
fn number(value: &[u8], radix: u32) -> Option<u64> {
    let value = value.trim_ascii_start();
    let digits = value.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    u64::from_str_radix(std::str::from_utf8(&value[..digits]).ok()?, radix).ok()
}

/// Whether a thread that had memory a moment ago is on its way out. An exit gives the address space up at once (`exit_mm`
/// in kernel/exit.c), and half of it is never seen; but the OOM reaper and `process_mrelease(2)` take pages from a process
/// that was killed and has not come so far. Every thread of a killed process has SIGKILL pending until it runs again, and
/// user code runs no more.
fn is_ending(status: &Status, stat: &Stat) -> bool {
    status.pending & KILLED != 0 || stat.flags & PF_EXITING != 0 || matches!(stat.state, 'Z' | 'X')
}

fn read_status(file: &OwnedFd, text: &mut Vec<u8>) -> Result<Status, Seen> {
    read_whole(file, text).map_err(refused)?;
    match text.as_slice() {
        // Half a file is what a process leaves that goes while being read.
        [] => Err(Seen::Gone),
        text => Status::parse(text).ok_or(Seen::Unread(Why::Unreadable)),
    }
}

fn read_stat(file: &OwnedFd, text: &mut Vec<u8>) -> Result<Stat, Seen> {
    read_whole(file, text).map_err(refused)?;
    Stat::from_read(text.as_slice()).map_err(|error| match error {
        ProcError::Incomplete(_) => Seen::Gone,
        _ => Seen::Unread(Why::Unreadable),
    })
}

/// A thread that still has the process' memory; one that vanishes meanwhile is passed over.
fn living_thread(folder: &OwnedFd, leader: Pid, text: &mut Vec<u8>) -> Option<(u32, Status)> {
    let tasks = openat(folder, "task", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let names = Dir::read_from(tasks.ok()?).ok()?.flatten();
    names
        .filter_map(|entry| entry.file_name().to_str().ok()?.parse::<u32>().ok())
        .filter(|thread| *thread != leader.0)
        .filter_map(|thread| {
            let file = open_file(folder, &format!("task/{thread}/status")).ok()?;
            Some((thread, read_status(&file, text).ok()?))
        })
        .find(|(_, status)| status.anon.is_some())
}

fn open_file(folder: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Reads a file of a process from its beginning, where the kernel writes it anew. It gives as much as there is room for,
/// so less than that is the end.
fn read_whole(file: &OwnedFd, text: &mut Vec<u8>) -> Result<(), Errno> {
    text.clear();
    loop {
        text.reserve(ENOUGH);
        let room = text.capacity() - text.len();
        let at = text.len() as u64;
        match pread(file, spare_capacity(text), at) {
            Ok(length) if length < room => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// What a file that cannot be read says of its process.
fn refused(errno: Errno) -> Seen {
    match errno {
        // The second: gone between opening and reading.
        Errno::NOENT | Errno::SRCH => Seen::Gone,
        Errno::ACCESS | Errno::PERM => Seen::Unread(Why::Forbidden),
        _ => Seen::Unread(Why::Unreadable),
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
    fn what_a_look_needs_of_the_status_is_what_the_procfs_package_reads_there() {
        use procfs::FromBufRead as _;
        let text = std::fs::read("/proc/self/status").unwrap();
        let whole = procfs::process::Status::from_buf_read(text.as_slice()).unwrap();
        let ours = Status::parse(&text).unwrap();
        assert_eq!(ours.state, whole.state.as_bytes()[0]);
        assert_eq!(ours.threads, whole.threads);
        assert_eq!(ours.pending, whole.sigpnd | whole.shdpnd);
        assert_eq!(
            (ours.anon, ours.file, ours.shmem, ours.swap),
            (whole.rssanon, whole.rssfile, whole.rssshmem, whole.vmswap)
        );
        assert!(ours.anon.is_some_and(|kib| kib > 0));
        let pending = Status::parse(b"State:\tS (sleeping)\nSigPnd:\t00000000000000aF\nShdPnd:\t0100\n");
        assert_eq!(pending.unwrap().pending, 0x1af);
        for senseless in ["", "State:\t", "RssAnon:\t12 kB\n", "State:\tS\nRssAnon:\tmuch\n"] {
            assert_eq!(Status::parse(senseless.as_bytes()), None, "{senseless:?}");
        }
    }

    #[test]
    fn files_that_stay_open_tell_of_the_same_process_and_then_of_none() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid(child.id());
        let files = ProcRoot::new(Path::new("/proc")).open(pid).unwrap();
        let Seen::Here(first) = files.look(pid) else { panic!("it is there") };
        let Seen::Here(second) = files.look(pid) else { panic!("it is still there") };
        assert_eq!(first.key, second.key);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(files.look(pid), Seen::Gone);
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
        std::fs::copy("/proc/self/stat", folder.join("stat")).unwrap();
        assert_eq!(ProcRoot::new(root.path()).look(Pid(7)), Seen::WithoutMemory);
    }
}
