//! Reading /proc, rooted at a path.
//!
//! All parts of an identity are read through one descriptor of the process's directory: it stays bound to the
//! process, so a pid that is used again meanwhile answers ESRCH instead of mixing two processes into one. A part that
//! may not be read is absent; a process that is gone is an error that [`vanished`] recognises.

use std::fmt::Display;
use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use procfs::process::{Stat, Status};
use procfs::{FromBufRead, FromRead, Meminfo};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, readlinkat, statat};

use super::cgroup::Membership;
use super::identity::{Exe, Identity, Owner};
use super::users::Users;
use crate::leak::Memory;
use crate::units::{Bytes, Pid, ProcKey, Ticks};

/// `PF_KTHREAD` of the flags in `/proc/PID/stat` (linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;
/// `ADDR_NO_RANDOMIZE` of `/proc/PID/personality`.
const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;
/// Longer command lines are cut: they may have megabytes, and two that agree in so much are the same.
const MAX_CMDLINE: u64 = 64 * 1024;
/// Longer files are cut: a process in 65,536 groups, the most that the kernel allows, has a status of 700 KB, and the
/// lines about memory come after the groups.
const MAX_READ: u64 = 4 * 1024 * 1024;
/// Stands at the end of a command line that was cut.
const CUT: &str = "…";
/// How often a process that is in the midst of an exec is read again.
const ATTEMPTS: usize = 100;
/// A chain of parents longer than this is not one.
const MAX_ANCESTORS: usize = 1024;

/// A /proc to read from.
#[derive(Clone, Debug)]
pub struct ProcRoot {
    path: PathBuf,
    boot_id: Option<Arc<str>>,
    /// Whether the kernel draws stack addresses at random.
    randomized: bool,
    users: Users,
}

impl Default for ProcRoot {
    fn default() -> Self {
        Self::new("/proc")
    }
}

/// Whether an error means that the process ended while it was read: normal, and to be counted at most.
pub fn vanished(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

impl ProcRoot {
    /// The /proc mounted at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let line =
            |name: &str| std::fs::read_to_string(path.join(name)).ok().map(|text| text.trim().to_owned());
        let boot_id = line("sys/kernel/random/boot_id").map(Arc::from);
        let randomized = line("sys/kernel/randomize_va_space").is_some_and(|level| level != "0");
        Self { path, boot_id, randomized, users: Users::default() }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who the process with this pid is. The pid file is left for [`super::Pidfiles::name`] to fill in.
    ///
    /// # Errors
    /// [`vanished`] ones when there is no such process (or `hidepid` hides it); `InvalidInput` when the number is a
    /// thread's that leads no process; others when /proc cannot be read or understood.
    pub fn identify(&self, pid: Pid) -> io::Result<Identity> {
        let dir = self.open(pid)?;
        for attempt in 1..=ATTEMPTS {
            let (identity, before) = self.read(&dir, pid)?;
            let after = stat(&dir)?;
            // An exec in between would have mixed two programs.
            let same = (before.startstack, &before.comm) == (after.startstack, &after.comm);
            // In the midst of an exec the program is the new one, and its stack and arguments are not there yet.
            // A program may also hide its arguments: after some looks it is taken as it is.
            let whole = !identity.cmdline.is_empty() || identity.exe.is_none();
            if same && (whole || attempt == ATTEMPTS) {
                return Ok(identity);
            }
            std::thread::yield_now();
        }
        Err(io::Error::other(format!(
            "pid {pid} executes one program after another: it cannot be identified"
        )))
    }

    fn read(&self, dir: &OwnedFd, pid: Pid) -> io::Result<(Identity, Stat)> {
        let stat = stat(dir)?;
        let status = status(dir)?;
        if number(status.tgid) != pid {
            let message = format!("{pid} is a thread of process {}: give the process", status.tgid);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        // A leader that ended before its threads looks like a zombie; the program is then a living thread's to tell.
        let thread = if stat.state == 'Z' && stat.num_threads > 1 { living_thread(dir, pid) } else { None };
        let speaker = thread.as_ref().unwrap_or(dir);
        let kernel_thread = stat.flags & PF_KTHREAD != 0;
        let uid = status.euid;
        let cgroups = optional(bytes(speaker, "cgroup"))?.unwrap_or_default();
        let identity = Identity {
            key: ProcKey { pid, start: Ticks(stat.starttime) },
            boot_id: self.boot_id.clone(),
            ppid: number(stat.ppid),
            ns_pid: status.nspid.as_deref().and_then(<[i32]>::last).map_or(pid, |pid| number(*pid)),
            state: stat.state,
            zombie: matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1,
            comm: stat.comm.clone(),
            cmdline: arguments(
                &optional(beginning(speaker, "cmdline", MAX_CMDLINE + 1))?.unwrap_or_default(),
            ),
            exe: if kernel_thread { None } else { exe(speaker)? },
            image: self.image(speaker, thread.is_none().then_some(&stat))?,
            uid,
            user: self.users.name(uid),
            owner: Owner::from_membership(&Membership::parse(&cgroups)),
            oom_score_adj: String::from_utf8_lossy(&bytes(dir, "oom_score_adj")?)
                .trim()
                .parse()
                .map_err(invalid)?,
            kernel_thread,
        };
        Ok((identity, stat))
    }

    /// The stack address that the last exec drew; `None` where it was not drawn at random or may not be read.
    fn image(&self, dir: &OwnedFd, known: Option<&Stat>) -> io::Result<Option<u64>> {
        let Some(personality) = optional(bytes(dir, "personality"))?.filter(|_| self.randomized) else {
            return Ok(None);
        };
        let flags = u32::from_str_radix(String::from_utf8_lossy(&personality).trim(), 16).map_err(invalid)?;
        let start = match known {
            Some(stat) => stat.startstack,
            None => stat(dir)?.startstack,
        };
        Ok((flags & ADDR_NO_RANDOMIZE == 0 && start != 0).then_some(start))
    }

    /// A process's memory as `/proc/PID/status` has it; `None` for kernel threads and for processes whose memory is
    /// gone already.
    pub fn memory(&self, pid: Pid) -> io::Result<Option<Memory>> {
        let status = status(&self.open(pid)?)?;
        let kib = |value: Option<u64>| Bytes::from_kib(value.unwrap_or(0));
        Ok(status.rssanon.map(|anon| Memory {
            anon: Bytes::from_kib(anon),
            file: kib(status.rssfile),
            shmem: kib(status.rssshmem),
            swap: kib(status.vmswap),
        }))
    }

    /// In which cgroups a process is.
    pub fn membership(&self, pid: Pid) -> io::Result<Membership> {
        Ok(Membership::parse(&bytes(&self.open(pid)?, "cgroup")?))
    }

    /// What the kernel would still give without swapping: `MemAvailable`.
    pub fn available(&self) -> Option<Bytes> {
        let text = std::fs::read(self.path.join("meminfo")).ok()?;
        Meminfo::from_buf_read(text.as_slice()).ok()?.mem_available.map(Bytes)
    }

    /// How the kernel's OOM killer sees a process; the highest is chosen first.
    pub fn oom_score(&self, pid: Pid) -> Option<u32> {
        let text = bytes(&self.open(pid).ok()?, "oom_score").ok()?;
        String::from_utf8_lossy(&text).trim().parse().ok()
    }

    /// Every process, in no order; those that this /proc hides are not among them.
    pub fn pids(&self) -> io::Result<Vec<Pid>> {
        let names = std::fs::read_dir(&self.path)?.filter_map(Result::ok).map(|entry| entry.file_name());
        Ok(names.filter_map(|name| name.to_str()?.parse().ok().map(Pid)).collect())
    }

    /// Whether the pid still names this process, and how the process stands (its state letter).
    pub fn state(&self, key: ProcKey) -> io::Result<Option<char>> {
        let stat = stat(&self.open(key.pid)?)?;
        Ok((stat.starttime == key.start.0).then_some(stat.state))
    }

    /// The exit code that a zombie keeps for its parent, in the encoding of `wait(2)`; `None` where it may not be
    /// read, and for processes that are no zombies.
    pub fn zombie_exit_code(&self, key: ProcKey) -> Option<u32> {
        let stat = stat(&self.open(key.pid).ok()?).ok()?;
        // The kernel shows 0 to whom it does not permit to see, so 0 says nothing.
        let known = stat.state == 'Z' && stat.starttime == key.start.0;
        stat.exit_code.filter(|code| known && *code != 0).and_then(|code| u32::try_from(code).ok())
    }

    /// Leakscope's own pid, as this /proc counts.
    pub fn own_pid(&self) -> io::Result<Pid> {
        let link = std::fs::read_link(self.path.join("self"))?;
        let pid = link.to_str().and_then(|name| name.parse().ok()).ok_or_else(|| invalid(link.display()))?;
        Ok(Pid(pid))
    }

    /// The session that a process belongs to: the pid of the process that began it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn session(&self, pid: Pid) -> io::Result<Pid> {
        Ok(number(stat(&self.open(pid)?)?.session))
    }

    /// A process's parent, the parent's parent, and so on, up to the first process.
    ///
    /// # Errors
    /// When the chain cannot be followed to its end: whoever protects ancestors must then assume the worst.
    pub fn ancestors(&self, pid: Pid) -> io::Result<Vec<Pid>> {
        let mut chain = Vec::new();
        let mut parent = number(stat(&self.open(pid)?)?.ppid);
        while parent != Pid(0) {
            if chain.len() >= MAX_ANCESTORS {
                return Err(io::Error::other(format!("the parents of pid {pid} go round in a circle")));
            }
            chain.push(parent);
            parent = number(stat(&self.open(parent)?)?.ppid);
        }
        Ok(chain)
    }

    /// How many other processes live in the pid namespace of this one.
    ///
    /// # Errors
    /// When its namespace cannot be read. Processes whose namespace may not be read are not counted.
    pub fn namespace_peers(&self, pid: Pid) -> io::Result<usize> {
        let namespace = |pid: Pid| readlinkat(self.open(pid)?, "ns/pid", Vec::new()).map_err(io::Error::from);
        let own = namespace(pid)?;
        let others = self.pids()?.into_iter().filter(|other| *other != pid);
        Ok(others.filter(|other| namespace(*other).is_ok_and(|other| other == own)).count())
    }

    /// The date at which a process started, to about a second; `None` where the time of boot cannot be read.
    pub fn started_at(&self, start: Ticks) -> Option<SystemTime> {
        let text = std::fs::read_to_string(self.path.join("stat")).ok()?;
        let boot: u64 = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(boot) + start.moment().since(Default::default()))
    }

    pub(super) fn open(&self, pid: Pid) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(CWD, self.path.join(pid.to_string()), flags, Mode::empty())?)
    }
}

fn number(pid: i32) -> Pid {
    Pid(u32::try_from(pid).unwrap_or(0))
}

fn invalid(what: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

/// A part that may be forbidden, or that a process without memory no longer has, is absent rather than an error.
/// ENOENT through a directory's descriptor speaks of the part; a process that is gone answers ESRCH.
fn optional<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn bytes(dir: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    beginning(dir, name, MAX_READ)
}

pub(super) fn open_in(dir: &OwnedFd, name: &str) -> io::Result<std::fs::File> {
    Ok(openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
}

pub(super) fn beginning(dir: &OwnedFd, name: &str, most: u64) -> io::Result<Vec<u8>> {
    let file = open_in(dir, name)?;
    let mut content = Vec::new();
    file.take(most).read_to_end(&mut content)?;
    Ok(content)
}

pub(super) fn stat(dir: &OwnedFd) -> io::Result<Stat> {
    Stat::from_read(bytes(dir, "stat")?.as_slice()).map_err(invalid)
}

fn status(dir: &OwnedFd) -> io::Result<Status> {
    // The parser wants UTF-8, and a process may call itself anything.
    let text = bytes(dir, "status")?;
    Status::from_buf_read(String::from_utf8_lossy(&text).as_bytes()).map_err(invalid)
}

/// The arguments; NULs at the end are padding that programs leave when they rewrite their title. What is longer than
/// [`MAX_CMDLINE`] is cut, and says so.
fn arguments(raw: &[u8]) -> Vec<String> {
    let most = usize::try_from(MAX_CMDLINE).unwrap_or(usize::MAX);
    if raw.len() > most {
        let mut cut = arguments(&raw[..most]);
        if let Some(last) = cut.last_mut() {
            last.push_str(CUT);
        }
        return cut;
    }
    let end = raw.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    raw[..end].split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

fn exe(dir: &OwnedFd) -> io::Result<Option<Exe>> {
    use std::os::unix::ffi::OsStringExt;
    let Some(file) = optional(statat(dir, "exe", AtFlags::empty()).map_err(io::Error::from))? else {
        return Ok(None);
    };
    let Some(link) = optional(readlinkat(dir, "exe", Vec::new()).map_err(io::Error::from))? else {
        return Ok(None);
    };
    let link = PathBuf::from(std::ffi::OsString::from_vec(link.into_bytes()));
    // A file may really be called "x (deleted)".
    let there = std::os::unix::fs::MetadataExt::ino;
    let same = std::fs::metadata(&link).is_ok_and(|now| there(&now) == file.st_ino);
    let stripped = link.to_str().and_then(|name| name.strip_suffix(" (deleted)")).filter(|_| !same);
    let deleted = stripped.is_some();
    let path = stripped.map_or_else(|| link.clone(), PathBuf::from);
    Ok(Some(Exe { path, dev: file.st_dev, ino: file.st_ino, deleted }))
}

fn living_thread(dir: &OwnedFd, leader: Pid) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tasks = openat(dir, "task", flags, Mode::empty()).ok()?;
    let names = Dir::read_from(&tasks).ok()?.filter_map(Result::ok);
    let threads = names.filter_map(|entry| entry.file_name().to_str().ok()?.parse::<u32>().ok());
    let living = threads.filter(|thread| *thread != leader.0).min()?;
    openat(&tasks, living.to_string(), flags, Mode::empty()).ok()
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
