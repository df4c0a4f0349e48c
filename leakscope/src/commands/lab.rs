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

use anyhow::Context;
use jiff::Timestamp;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fault::Remedy;
use crate::source::HostMemory;
use crate::units::{Moment, Pid};

const CACHE_SERVICE: &str = include_str!("../../lab/cache_service.py");
const LEGIT_APP: &str = include_str!("../../lab/legit_app.py");

/// How often the monitoring log gets a line.
const LOG_PERIOD: Duration = Duration::from_secs(5);

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
        // By a rename: a link that somebody planted under the name in /tmp is replaced and not followed.
        let write = |path: &Path, text: &str| {
            let folder = path.parent().unwrap_or(Path::new("/"));
            let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
                file.persist(path).map_err(|error| error.error)
            });
            written
                .with_context(|| format!("writing {}", path.display()))
                .fix("make it writable, or leave out --walkthrough-paths")
        };
        write(&paths.folder.join("cache_service.py"), CACHE_SERVICE)?;
        write(&paths.folder.join("legit_app.py"), LEGIT_APP)?;
        let log = open_log(&paths.memory_log)?;
        // A demo that was interrupted before the kill leaves no leak behind, whatever is kept.
        let leaker = spawn(&paths.folder, "cache_service.py", false)?;
        let legit = spawn(&paths.folder, "legit_app.py", keep)?;
        let pid = |child: &Child| child.id().map(Pid).context("a process of the lab ended at once");
        let lab = Self {
            leaker: pid(&leaker)?,
            legit: pid(&legit)?,
            processes: vec![supervise(leaker), supervise(legit)],
            log,
            logged: None,
            keep,
            paths,
        };
        write(&lab.paths.leaky_pid, &format!("{}\n", lab.leaker))?;
        write(&lab.paths.legit_pid, &format!("{}\n", lab.legit))?;
        Ok(lab)
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
        let programs = [folder.join("cache_service.py"), folder.join("legit_app.py")];
        for path in programs.iter().chain([&self.paths.leaky_pid, &self.paths.legit_pid]) {
            let _ = fs::remove_file(path);
        }
        if self.paths.memory_log.starts_with(folder) {
            let _ = fs::remove_file(&self.paths.memory_log);
        }
        // The report is the lab's result and stays; the folder goes where it holds none.
        let _ = fs::remove_dir(folder);
    }
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
