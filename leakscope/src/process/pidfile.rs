//! Pid files: from a file to the process it names, and from a process to its file.
//!
//! A pid file outlives its process, and the number may since belong to somebody else. It counts for a process only
//! when it was written after that process started (two seconds of slack, as the time of boot is known to one). A
//! service that writes its number, or whose starter does, always writes it later than that. The price: after the
//! clock was set forward since, a true pid file looks too old; the error says so and asks for the pid.

use std::collections::HashMap;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::identity::Identity;
use super::read::{ProcRoot, vanished};
use crate::units::{Pid, ProcKey};

/// A pid and a line feed take eight bytes; what is longer holds something else.
const MAX_SIZE: u64 = 64;
/// The kernel's own maximum, `PID_MAX_LIMIT` (linux/threads.h).
const MAX_PID: u64 = 4_194_304;
/// By how much a file may seem older than the process it names.
const SLACK: Duration = Duration::from_secs(2);
/// Limits of a scan: files kept, and directory entries looked at.
const MAX_FILES: usize = 512;
const MAX_ENTRIES: usize = 4096;

/// Why a pid file names no process.
#[derive(Debug)]
pub struct PidfileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: PidfileProblem,
}

/// What may be wrong with a pid file.
#[derive(Debug)]
pub enum PidfileProblem {
    /// There is no such file.
    Missing,
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is a directory, a pipe, a device.
    NotAFile,
    /// It holds nothing.
    Empty,
    /// It holds more than a pid: this many bytes.
    TooLong(u64),
    /// It holds more than one line.
    SeveralLines,
    /// It holds this instead of a number.
    NotANumber(String),
    /// It holds a number that is no pid.
    OutOfRange(String),
    /// It names a process that is gone, or a zombie.
    Stale(Pid),
    /// It names a pid whose process started after the file was written.
    Reused(Pid),
    /// The process that it names cannot be looked at.
    Unknown(Pid, io::Error),
}

impl fmt::Display for PidfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use PidfileProblem as P;
        write!(f, "pid file {}: ", self.path.display())?;
        match &self.problem {
            P::Missing => write!(f, "no such file (is the service running, and is the path right?)"),
            P::Unreadable(error) => write!(f, "cannot be read: {error}"),
            P::NotAFile => write!(f, "not a regular file"),
            P::Empty => write!(f, "empty (is the service still starting?)"),
            P::TooLong(size) => write!(f, "{size} bytes are more than a pid: not a pid file"),
            P::SeveralLines => write!(f, "holds several lines: give the process with --pid"),
            P::NotANumber(text) => write!(f, "holds `{}`, which is no number", text.escape_debug()),
            P::OutOfRange(text) => write!(f, "holds {text}, which is no pid (1 to {MAX_PID})"),
            P::Stale(pid) => write!(f, "stale: it names pid {pid}, and there is no such process"),
            P::Reused(pid) => write!(
                f,
                "stale: pid {pid} now belongs to a process that started after the file was written (if it is the \
                 right one, give it with --pid)"
            ),
            P::Unknown(pid, error) => write!(f, "the process it names, pid {pid}, cannot be read: {error}"),
        }
    }
}

impl std::error::Error for PidfileError {}

/// The number in a pid file, whether there is such a process or not.
pub fn read_pidfile(path: &Path) -> Result<Pid, PidfileError> {
    read(path, OFlags::empty()).map(|(pid, _)| pid).map_err(|problem| wrong(path, problem))
}

/// The process that a pid file names.
pub fn pidfile_process(proc: &ProcRoot, path: &Path) -> Result<Identity, PidfileError> {
    named(proc, path).map_err(|problem| wrong(path, problem))
}

fn wrong(path: &Path, problem: PidfileProblem) -> PidfileError {
    PidfileError { path: path.to_owned(), problem }
}

fn named(proc: &ProcRoot, path: &Path) -> Result<Identity, PidfileProblem> {
    let (pid, file) = read(path, OFlags::empty())?;
    let mut identity = proc.identify(pid).map_err(|error| {
        if vanished(&error) { PidfileProblem::Stale(pid) } else { PidfileProblem::Unknown(pid, error) }
    })?;
    if identity.zombie {
        return Err(PidfileProblem::Stale(pid));
    }
    if !is_of(proc, file.modified().ok(), identity.key) {
        return Err(PidfileProblem::Reused(pid));
    }
    identity.owner.pidfile = Some(path.to_owned());
    Ok(identity)
}

/// Whether a file written at `written` can speak of this process. Where one of the two times is not known, it cannot
/// be excluded.
fn is_of(proc: &ProcRoot, written: Option<SystemTime>, key: ProcKey) -> bool {
    match (written.and_then(|written| written.checked_add(SLACK)), proc.started_at(key.start)) {
        (Some(written), Some(started)) => written >= started,
        _ => true,
    }
}

/// `NONBLOCK`, so that a pipe in the place of the file stops nobody.
fn read(path: &Path, extra: OFlags) -> Result<(Pid, Metadata), PidfileProblem> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | extra;
    let opened = openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from);
    let file = std::fs::File::from(opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PidfileProblem::Missing,
        _ => PidfileProblem::Unreadable(error),
    })?);
    let metadata = file.metadata().map_err(PidfileProblem::Unreadable)?;
    if !metadata.is_file() {
        return Err(PidfileProblem::NotAFile);
    }
    if metadata.len() > MAX_SIZE {
        return Err(PidfileProblem::TooLong(metadata.len()));
    }
    let mut content = Vec::new();
    file.take(MAX_SIZE).read_to_end(&mut content).map_err(PidfileProblem::Unreadable)?;
    Ok((parse(&String::from_utf8_lossy(&content))?, metadata))
}

fn parse(content: &str) -> Result<Pid, PidfileProblem> {
    let text = content.trim();
    if text.is_empty() {
        return Err(PidfileProblem::Empty);
    }
    if text.contains('\n') {
        return Err(PidfileProblem::SeveralLines);
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PidfileProblem::NotANumber(text.to_owned()));
    }
    match text.parse::<u64>() {
        Ok(pid @ 1..=MAX_PID) => {
            u32::try_from(pid).map(Pid).map_err(|_| PidfileProblem::OutOfRange(text.to_owned()))
        }
        _ => Err(PidfileProblem::OutOfRange(text.to_owned())),
    }
}

/// The pid files of a host: those that the user named, and those that lie where services put them.
#[derive(Clone, Debug)]
pub struct Pidfiles {
    named: Vec<PathBuf>,
    /// Directories to scan, and whether their directories are scanned as well.
    directories: Vec<(PathBuf, bool)>,
    found: HashMap<Pid, Vec<Found>>,
}

#[derive(Clone, Debug)]
struct Found {
    path: PathBuf,
    written: Option<SystemTime>,
    /// `None` for the files that the user named: they are believed whoever wrote them.
    writer: Option<u32>,
}

impl Pidfiles {
    /// Those named, and `*.pid` in /run, its directories, /var/run (where that is not /run) and /tmp.
    pub fn new(named: Vec<PathBuf>) -> Self {
        let mut directories = vec![(PathBuf::from("/run"), true)];
        if std::fs::canonicalize("/var/run").is_ok_and(|path| path != Path::new("/run")) {
            directories.push((PathBuf::from("/var/run"), true));
        }
        directories.push((PathBuf::from("/tmp"), false));
        Self::with_directories(named, directories)
    }

    /// Those named, and `*.pid` in these directories; `true` for their directories as well.
    pub fn with_directories(named: Vec<PathBuf>, directories: Vec<(PathBuf, bool)>) -> Self {
        Self { named, directories, found: HashMap::new() }
    }

    /// Reads the files anew: at most 512 of them, regular, not through symbolic links, at most 64 bytes each. What
    /// is not a pid file is passed over.
    pub fn scan(&mut self) {
        self.found.clear();
        let named: Vec<_> = self.named.iter().map(|path| (path.clone(), true)).collect();
        let mut candidates = named;
        for (directory, deeper) in &self.directories {
            let (files, directories) = list(directory);
            candidates.extend(files.into_iter().map(|path| (path, false)));
            for directory in directories.into_iter().filter(|_| *deeper) {
                candidates.extend(list(&directory).0.into_iter().map(|path| (path, false)));
            }
        }
        candidates.truncate(MAX_FILES.max(self.named.len()));
        for (path, named) in candidates {
            let flags = if named { OFlags::empty() } else { OFlags::NOFOLLOW };
            if let Ok((pid, file)) = read(&path, flags) {
                let writer = (!named).then(|| file.uid());
                self.found.entry(pid).or_default().push(Found {
                    path,
                    written: file.modified().ok(),
                    writer,
                });
            }
        }
    }

    /// The pid file of this process, the ones named by the user first. A file that was found counts only when root
    /// or the process's own user wrote it, and no file counts that was written before the process started.
    pub fn of(&self, proc: &ProcRoot, who: &Identity) -> Option<&Path> {
        let files = self.found.get(&who.key.pid)?.iter();
        let believed = |file: &&Found| file.writer.is_none_or(|writer| writer == 0 || writer == who.uid);
        let file = files.filter(believed).find(|file| is_of(proc, file.written, who.key))?;
        Some(&file.path)
    }

    /// Fills in the pid file of an identity.
    pub fn name(&self, proc: &ProcRoot, who: &mut Identity) {
        who.owner.pidfile = self.of(proc, who).map(Path::to_owned);
    }
}

/// The `*.pid` files and the directories in a directory, in the order of their names.
fn list(directory: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Default::default();
    };
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    for entry in entries.take(MAX_ENTRIES).filter_map(Result::ok) {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => directories.push(path),
            Ok(kind) if kind.is_file() && path.extension().is_some_and(|ending| ending == "pid") => {
                files.push(path)
            }
            _ => {}
        }
    }
    files.sort();
    directories.sort();
    (files, directories)
}

#[cfg(test)]
#[path = "pidfile_tests.rs"]
mod tests;
