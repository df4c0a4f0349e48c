//! A program that watches the host while something is measured: how it is started, when it is ready, and what it takes.
//!
//! What it takes is read from outside, from /proc/PID/task/*/schedstat, in nanoseconds: what it spent on its start is
//! left out, and no peer is asked to be measured by its own means.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    clock::Stopwatch,
    packages::{self, Package},
    workspace::shown,
};

/// How long a watcher may take to print its first line.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a watcher is called.
#[derive(Clone)]
pub struct Watcher {
    pub name: String,
    words: Vec<OsString>,
}

impl Watcher {
    pub fn new(program: &Path, arguments: &[&str]) -> Self {
        let file = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
        let name = format!("{file} {}", arguments.join(" "));
        let words = std::iter::once(program.as_os_str().to_owned());
        Self { name, words: words.chain(arguments.iter().map(OsString::from)).collect() }
    }

    /// Starts it and waits for its first line.
    pub fn start(&self) -> Result<Running> {
        let clock = Stopwatch::start();
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).env("LC_ALL", "C");
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.with_context(|| format!("starting `{}`", shown(&command)))?;
        let stdout = child.stdout.take().context("standard output is a pipe")?;
        let mut running = Running { child, first_line: Duration::ZERO };
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            // top begins with an escape sequence or a blank line as others do: the first byte counts.
            let began = reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
            let _ = say.send(began.then(|| clock.elapsed()));
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                line.clear();
            }
            let _ = reader.read_to_end(&mut line);
        });
        let began = said.recv_timeout(PATIENCE).ok().flatten();
        running.first_line = began.with_context(|| format!("`{}` printed nothing", shown(&command)))?;
        Ok(running)
    }
}

/// A watcher at work; killed when this goes.
pub struct Running {
    child: Child,
    /// From its start to the first that it printed.
    pub first_line: Duration,
}

impl Running {
    /// CPU seconds that it has taken so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let tasks =
            fs::read_dir(format!("/proc/{}/task", self.child.id())).context("the watcher has ended")?;
        let mut nanoseconds = 0.0;
        for task in tasks {
            let text = fs::read_to_string(task?.path().join("schedstat"))
                .context("this kernel has no /proc/PID/schedstat (CONFIG_SCHED_INFO)")?;
            nanoseconds += text.split(' ').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        }
        Ok(nanoseconds / 1e9)
    }

    /// Resident memory now, in MB.
    pub fn rss_mb(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Ok(kib.context("VmRSS")?.trim().parse::<f64>()? * 1024.0 / 1e6)
    }

    /// CPU seconds for each second, over `span`.
    pub fn share(&self, span: Duration) -> Result<f64> {
        let (clock, before) = (Stopwatch::start(), self.cpu_seconds()?);
        pause(span);
        Ok((self.cpu_seconds()? - before) / clock.elapsed().as_secs_f64())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: a pid of a child that was not waited for.
        let _ = unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) };
        for _ in 0..30 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            pause(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that others use, installed where it is missing; why not, where it cannot be had.
pub fn peer(program: &str, package: Package) -> Result<PathBuf, String> {
    if let Ok(path) = which::which(program) {
        return Ok(path);
    }
    packages::install(package).map_err(|error| format!("could not be installed: {error:#}"))?;
    which::which(program).map_err(|_| format!("its package was installed and holds no {program}"))
}

#[expect(clippy::disallowed_methods, reason = "a measurement lasts as long as it is meant to")]
pub fn pause(span: Duration) {
    std::thread::sleep(span);
}
