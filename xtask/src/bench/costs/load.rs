//! The loads that others are measured under: load.c, compiled once, and the build of a few hundred C files.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::{output, run};

const SOURCE: &str = include_str!("load.c");
/// Of the build: files, and functions in each.
const FILES: usize = 150;
const FUNCTIONS: usize = 60;
const PID_MAX: &str = "/proc/sys/kernel/pid_max";

/// The compiled load, in a folder that goes with it.
pub struct Load {
    folder: tempfile::TempDir,
}

impl Load {
    pub fn compile() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("leakscope-costs-").tempdir().context("making a folder")?;
        fs::write(folder.path().join("load.c"), SOURCE)?;
        // Static: a process of it has few pages, and fifty thousand find room.
        run(Command::new("cc").args(["-O1", "-static", "-o", "load", "load.c"]).current_dir(folder.path()))?;
        // Whoever traces the allocator looks for it in the C library.
        run(Command::new("cc").args(["-O1", "-o", "load-shared", "load.c"]).current_dir(folder.path()))?;
        let load = Self { folder };
        load.write_build()?;
        Ok(load)
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("load")
    }

    /// One figure, by its name and how often: CPU nanoseconds each.
    pub fn figure(&self, what: &str, times: u64) -> Result<f64> {
        let text = output(Command::new(self.program()).args([what, &times.to_string()]))?;
        text.trim().parse().with_context(|| format!("`load {what}` printed {text:?}"))
    }

    /// A process that allocates when it is asked, for so many seconds of CPU time.
    pub fn allocator(&self, seconds: f64) -> Result<Allocator> {
        let mut command = Command::new(self.folder.path().join("load-shared"));
        command.args(["allocations", &seconds.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().context("standard input is a pipe")?;
        let stdout = child.stdout.take().context("standard output is a pipe")?;
        Ok(Allocator { child, pipes: (stdin, BufReader::new(stdout)) })
    }

    /// A file beside the load, which goes with it.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// So many processes that sleep and so many that are active.
    pub fn processes(&self, idle: usize, active: usize) -> Result<Processes> {
        let room = room_for_pids(idle + active)?;
        let mut command = Command::new(self.program());
        command.args(["processes", &idle.to_string(), &active.to_string()]);
        let mut parent = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = parent.stdout.take().context("standard output is a pipe")?;
        // From here on it is ended whatever comes.
        let processes = Processes { parent, _room: room };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "not all of {} processes could be started", idle + active);
        Ok(processes)
    }

    /// What a build of [`FILES`] C files is run with: each is preprocessed, compiled and assembled by processes of its own.
    pub fn build(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "for file in f*.c; do cc -O0 -c -o out.o $file || exit 1; done"]);
        command.current_dir(self.folder.path());
        command
    }

    fn write_build(&self) -> Result<()> {
        for file in 0..FILES {
            let functions = (0..FUNCTIONS).map(|n| {
                format!("int f{file}_{n}(int a) {{ char b[64]; snprintf(b, sizeof b, \"%d\", a + {n}); return (int)strlen(b) * {n}; }}\n")
            });
            let text: String = std::iter::once("#include <stdio.h>\n#include <string.h>\n".to_owned())
                .chain(functions)
                .collect();
            fs::write(self.folder.path().join(format!("f{file}.c")), text)?;
        }
        Ok(())
    }
}

/// What the build is, for the table.
pub fn build_is() -> String {
    format!("{FILES} C files of {FUNCTIONS} functions, one `cc -O0 -c` after the other")
}

/// One process that allocates; killed when this goes.
pub struct Allocator {
    child: Child,
    pipes: (ChildStdin, BufReader<ChildStdout>),
}

impl Allocator {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU nanoseconds of a malloc and its free.
    pub fn figure(&mut self) -> Result<f64> {
        let (stdin, stdout) = &mut self.pipes;
        writeln!(stdin)?;
        let mut text = String::new();
        stdout.read_line(&mut text)?;
        text.trim().parse().with_context(|| format!("`load allocations` printed {text:?}"))
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes that end when this goes: the parent is killed, and they with it.
pub struct Processes {
    parent: Child,
    _room: Option<PidMax>,
}

impl Drop for Processes {
    fn drop(&mut self) {
        let pid = self.parent.id();
        let _ = self.parent.kill();
        let _ = self.parent.wait();
        // Whoever comes next is not to be measured among the dying.
        let children = || {
            let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
            folders.filter(|entry| name_is_load(&entry.path())).count()
        };
        for _ in 0..100 {
            if children() == 0 {
                return;
            }
            super::watcher::pause(std::time::Duration::from_millis(100));
        }
        eprintln!("the processes of load {pid} take long to end");
    }
}

fn name_is_load(folder: &Path) -> bool {
    fs::read_to_string(folder.join("comm")).is_ok_and(|name| name == "load\n")
}

/// Raises the host's number of pids where it is too small; it is put back when this goes.
struct PidMax {
    before: String,
}

fn room_for_pids(wanted: usize) -> Result<Option<PidMax>> {
    let before = fs::read_to_string(PID_MAX)?.trim().to_owned();
    let enough = wanted + 10_000;
    if before.parse::<usize>().is_ok_and(|most| most >= enough) {
        return Ok(None);
    }
    eprintln!("kernel.pid_max is {before}: raised to {enough} for this measurement, and put back after it");
    fs::write(PID_MAX, enough.to_string()).with_context(|| format!("writing {PID_MAX}"))?;
    Ok(Some(PidMax { before }))
}

impl Drop for PidMax {
    fn drop(&mut self) {
        if let Err(error) = fs::write(PID_MAX, &self.before) {
            eprintln!("kernel.pid_max could not be put back to {}: {error}", self.before);
        }
    }
}
