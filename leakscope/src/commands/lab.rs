//! The lab: the walkthrough's leaking cache service and legitimate app as real Python processes, their pid files and
//! the monitoring log.
//!
//! Everything it starts ends with it (on success, on an error, on Ctrl-C, and when leakscope itself is killed) unless
//! it is told to keep them.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fault::Remedy;
use crate::process::{ProcRoot, pidfile_process, read_pidfile};
use crate::source::HostMemory;
use crate::units::{Moment, Pid};

const CACHE_SERVICE: &str = include_str!("../../lab/cache_service.py");
const LEGIT_APP: &str = include_str!("../../lab/legit_app.py");

/// How often the monitoring log gets a line.
const LOG_PERIOD: Duration = Duration::from_secs(5);

/// How many older pid files may be kept beside the lab's.
const MOST_KEPT: u32 = 1000;

/// Where the lab's files are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The folder of the programs.
    pub folder: PathBuf,
    /// The leaking cache service's pid file.
    pub leaky_pid: PathBuf,
    /// The legitimate app's pid file.
    pub legit_pid: PathBuf,
    /// The incident report.
    pub report: PathBuf,
    /// The monitoring log: a line of the host's memory each five seconds.
    pub memory_log: PathBuf,
}

impl Paths {
    fn new(folder: &Path, walkthrough: bool) -> Self {
        let folder = folder.to_owned();
        if walkthrough {
            Self {
                leaky_pid: "/tmp/leaky.pid".into(),
                legit_pid: "/tmp/legit-app.pid".into(),
                report: "/tmp/incident-report.txt".into(),
                memory_log: "/var/log/monitoring/memory.log".into(),
                folder,
            }
        } else {
            Self {
                leaky_pid: folder.join("leaky.pid"),
                legit_pid: folder.join("legit-app.pid"),
                report: folder.join("incident-report.txt"),
                memory_log: folder.join("memory.log"),
                folder,
            }
        }
    }
}

/// The running lab.
#[derive(Debug)]
pub struct Lab {
    /// Where its files are.
    pub paths: Paths,
    /// The process that leaks.
    pub leaker: Pid,
    /// The process that does not.
    pub legit: Pid,
    processes: Vec<Process>,
    log: File,
    logged: Option<Moment>,
    keep: bool,
}

/// A child that is waited for, so that its death leaves no zombie.
#[derive(Debug)]
struct Process {
    end: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Lab {
    /// Writes the programs and starts both.
    ///
    /// # Errors
    /// Without python3, and where a file cannot be written; what was started by then is ended again.
    pub fn start(keep: bool, walkthrough: bool) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("leakscope-lab-")
            .tempdir()
            .context("making the lab's folder")
            .fix("set TMPDIR to a folder that can be written")?
            .keep();
        let paths = Paths::new(&folder, walkthrough);
        let started = Self::start_in(paths, keep);
        if started.is_err() {
            let _ = fs::remove_dir_all(&folder);
        }
        started
    }

    fn start_in(paths: Paths, keep: bool) -> anyhow::Result<Self> {
        for pidfile in [&paths.leaky_pid, &paths.legit_pid] {
            refuse_of_others(pidfile)?;
        }
        write(&paths.folder.join("cache_service.py"), CACHE_SERVICE)?;
        write(&paths.folder.join("legit_app.py"), LEGIT_APP)?;
        // Both end with a start that fails, whatever is kept later. A demo that was interrupted before the kill leaves
        // no leak behind.
        let leaker = spawn(&paths.folder, "cache_service.py", false)?;
        let mut legit = spawn(&paths.folder, "legit_app.py", keep)?;
        let pid = |child: &Child| child.id().map(Pid).context("a process of the lab ended at once");
        let pids = pid(&leaker).and_then(|leaker| Ok((leaker, pid(&legit)?)));
        match pids.and_then(|(leaker, legit)| Ok((leaker, legit, place(&paths, leaker, legit)?))) {
            Ok((leaker_pid, legit_pid, log)) => Ok(Self {
                leaker: leaker_pid,
                legit: legit_pid,
                processes: vec![supervise(leaker), supervise(legit)],
                log,
                logged: None,
                keep,
                paths,
            }),
            Err(error) => {
                // It is not to be killed when it is dropped where it is to be kept.
                let _ = legit.start_kill();
                Err(error)
            }
        }
    }

    /// Adds a line to the monitoring log when five seconds have gone by since the last one.
    ///
    /// # Errors
    /// Where the log cannot be written.
    pub fn log_memory(&mut self, at: Moment, wall: Timestamp, host: &HostMemory) -> anyhow::Result<()> {
        if self.logged.is_some_and(|last| at.since(last) < LOG_PERIOD) {
            return Ok(());
        }
        self.logged = Some(at);
        let used = host.total - host.available;
        writeln!(
            self.log,
            "{wall:.0} total_bytes={} used_bytes={} available_bytes={}",
            host.total.0, used.0, host.available.0
        )
        .with_context(|| format!("writing {}", self.paths.memory_log.display()))
    }

    /// Ends what the lab started and removes its files but the report, or leaves all of it when it was told to keep it.
    pub async fn finish(mut self) {
        if self.keep {
            return;
        }
        for Process { end, ended } in self.processes.drain(..) {
            // Whoever ended already does not listen any more.
            let _ = end.send(());
            let _ = ended.await;
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let folder = &self.paths.folder;
        for program in ["cache_service.py", "legit_app.py"] {
            let _ = fs::remove_file(folder.join(program));
        }
        remove_own(&self.paths.leaky_pid, self.leaker);
        remove_own(&self.paths.legit_pid, self.legit);
        if self.paths.memory_log.starts_with(folder) {
            let _ = fs::remove_file(&self.paths.memory_log);
        }
        // The report is the lab's result and stays; the folder goes where it holds none.
        let _ = fs::remove_dir(folder);
    }
}

/// A pid file that somebody else keeps and whose process lives must not be taken from them.
fn refuse_of_others(pidfile: &Path) -> anyhow::Result<()> {
    match pidfile_process(&ProcRoot::default(), pidfile) {
        Ok(keeper) => Err(anyhow!(
            "{} names {}, which runs and is not the lab's",
            pidfile.display(),
            super::title(&keeper)
        ))
        .fix("end that process, move its pid file, or leave out --walkthrough-paths"),
        Err(_) => Ok(()),
    }
}

/// Puts the pid files and the log in their places; what was put there is taken away again where the rest fails.
fn place(paths: &Paths, leaker: Pid, legit: Pid) -> anyhow::Result<File> {
    for (pidfile, pid) in [(&paths.leaky_pid, leaker), (&paths.legit_pid, legit)] {
        keep_aside(pidfile).and_then(|()| write(pidfile, &format!("{pid}\n"))).inspect_err(|_| {
            remove_own(&paths.leaky_pid, leaker);
        })?;
    }
    // Last of all: it stays after the lab, so it is not made for one that does not start.
    open_log(&paths.memory_log).inspect_err(|_| {
        remove_own(&paths.leaky_pid, leaker);
        remove_own(&paths.legit_pid, legit);
    })
}

/// Keeps a stale pid file, or whatever has its name, as `NAME.1`, `NAME.2`, ….
fn keep_aside(path: &Path) -> anyhow::Result<()> {
    for number in 1..=MOST_KEPT {
        let mut kept = path.as_os_str().to_owned();
        kept.push(format!(".{number}"));
        match rustix::fs::renameat_with(CWD, path, CWD, &kept, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(std::io::Error::from(errno))
                    .with_context(|| format!("moving {} aside", path.display()))
                    .fix("move it away, or leave out --walkthrough-paths");
            }
        }
    }
    Err(anyhow!("moving {} aside: {MOST_KEPT} older ones are kept beside it", path.display()))
        .fix("move them elsewhere, or leave out --walkthrough-paths")
}

/// Removes a pid file of the lab, if it still is one: whoever replaced it meanwhile keeps theirs.
fn remove_own(pidfile: &Path, pid: Pid) {
    if read_pidfile(pidfile).is_ok_and(|named| named == pid) {
        let _ = fs::remove_file(pidfile);
    }
}

/// By a rename: a link that somebody planted under the name in /tmp is replaced and not followed.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(path).map_err(|error| error.error)
    });
    written
        .map(drop)
        .with_context(|| format!("writing {}", path.display()))
        .fix("make it writable, or leave out --walkthrough-paths")
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("making {}", folder.display()))
            .fix("run as root, or leave out --walkthrough-paths")?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
        .fix("make it writable, or leave out --walkthrough-paths")
}

/// Starts one of the lab's programs in its folder, so that its command line is `python3 cache_service.py`.
fn spawn(folder: &Path, program: &str, keep: bool) -> anyhow::Result<Child> {
    let mut command = Command::new("python3");
    command
        .arg(program)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0) // Ctrl-C is for leakscope, which then ends its children itself.
        .kill_on_drop(!keep);
    if !keep {
        end_with_parent(&mut command);
    }
    command
        .spawn()
        .with_context(|| format!("starting python3 {program}"))
        .fix("the lab runs on Python 3: install it (apt-get install python3, dnf install python3)")
}

/// A lab whose leakscope was killed outright must not go on leaking.
fn end_with_parent(command: &mut Command) {
    let before_exec = || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        Ok(())
    };
    // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe and allocates nothing.
    unsafe { command.pre_exec(before_exec) };
}

/// Waits for the child in the background, and ends it when told to.
fn supervise(mut child: Child) -> Process {
    let (end, told) = oneshot::channel();
    let ended = tokio::spawn(async move {
        tokio::select! {
            _ = child.wait() => {}
            Ok(()) = told => {
                let _ = child.kill().await;
            }
        }
    });
    Process { end, ended }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_of_a_living_process_is_not_taken_and_a_stale_one_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leaky.pid");
        fs::write(&path, std::process::id().to_string()).unwrap();
        let error = crate::fault::render(&refuse_of_others(&path).unwrap_err());
        assert!(error.contains("leaky.pid") && error.contains("fix:"), "{error}");
        // Above the highest pid that Linux gives: nobody's.
        fs::write(&path, "4194303\n").unwrap();
        refuse_of_others(&path).unwrap();
        for kept in ["leaky.pid.1", "leaky.pid.2"] {
            fs::write(&path, kept).unwrap();
            keep_aside(&path).unwrap();
            assert!(!path.exists());
            assert_eq!(fs::read_to_string(folder.path().join(kept)).unwrap(), kept);
        }
        keep_aside(&path).unwrap();
    }

    #[test]
    fn only_the_lab_s_own_pid_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leaky.pid");
        fs::write(&path, "77\n").unwrap();
        remove_own(&path, Pid(78));
        assert!(path.exists());
        remove_own(&path, Pid(77));
        assert!(!path.exists());
    }

    #[test]
    fn a_lab_that_does_not_start_leaves_no_pid_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Paths::new(folder.path(), false);
        // A folder in the place of the log cannot be opened as one.
        fs::create_dir(&paths.memory_log).unwrap();
        assert!(place(&paths, Pid(1), Pid(2)).is_err());
        assert!(!paths.leaky_pid.exists() && !paths.legit_pid.exists());
        paths.legit_pid = folder.path().join("missing/legit.pid");
        fs::remove_dir(&paths.memory_log).unwrap();
        assert!(place(&paths, Pid(1), Pid(2)).is_err());
        assert!(!paths.leaky_pid.exists() && !paths.memory_log.exists());
    }
}
