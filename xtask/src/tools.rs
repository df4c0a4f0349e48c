//! Programs from the crate registry, installed into `target/tools` with their progress on one line.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, IsTerminal as _, Write as _},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    clock::Stopwatch,
    workspace::{Workspace, output, shown},
};

/// How many lines of cargo's output an error shows: enough for one compiler or linker error.
const SHOWN_ON_FAILURE: usize = 40;
/// How often progress is told where it cannot overwrite itself, as in a log.
const BETWEEN_LINES: Duration = Duration::from_secs(15);

/// A crate whose program is wanted at exactly one version.
pub struct Tool {
    pub krate: &'static str,
    pub program: &'static str,
    pub version: &'static str,
}

impl Tool {
    /// Whether the installed program runs and says that it is this version.
    ///
    /// # Errors
    /// Why not, for a person to read.
    pub fn works(&self, workspace: &Workspace) -> Result<(), String> {
        let program = workspace.tools().join("bin").join(self.program);
        if !program.exists() {
            return Err("not installed".to_owned());
        }
        let said = output(Command::new(&program).arg("--version")).map_err(|error| format!("{error:#}"))?;
        match said.split_whitespace().any(|word| word == self.version) {
            true => Ok(()),
            false => Err(format!("the installed one says {:?}, {} is wanted", said.trim(), self.version)),
        }
    }

    /// The command that installs it, for [`install`] or for a person to type.
    pub fn command(&self, workspace: &Workspace) -> Command {
        let mut command = workspace.cargo("install");
        command.args([self.krate, "--version", self.version, "--locked", "--force", "--root"]);
        command.arg(workspace.tools());
        command
    }
}

/// Runs a `cargo install`, telling how many crates have been compiled so far.
///
/// The unfinished build is kept until it succeeds, so that an interrupted set-up goes on where it was.
pub fn install(workspace: &Workspace, mut command: Command) -> Result<()> {
    let build = workspace.tools().join("build");
    command.arg("--target-dir").arg(&build).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting `{}`", shown(&command)))?;
    let stderr = child.stderr.take().context("cargo's messages were not piped")?;
    let mut progress = Progress::start();
    let mut last = VecDeque::new();
    for line in BufReader::new(stderr).lines() {
        let line = line.context("reading cargo's messages")?;
        progress.tell(&line);
        if last.len() == SHOWN_ON_FAILURE {
            last.pop_front();
        }
        last.push_back(line);
    }
    progress.end();
    let status = child.wait().context("waiting for cargo install")?;
    if !status.success() {
        let said = Vec::from(last).join("\n");
        bail!("`{}` failed: {status}; its last lines:\n{said}", shown(&command));
    }
    // What is left of the build is only in the way; that it cannot be removed hurts nobody.
    let _ = std::fs::remove_dir_all(build);
    Ok(())
}

struct Progress {
    watch: Stopwatch,
    told_at: Duration,
    compiled: usize,
    overwrites: bool,
}

impl Progress {
    fn start() -> Self {
        Self {
            watch: Stopwatch::start(),
            told_at: Duration::ZERO,
            compiled: 0,
            overwrites: std::io::stderr().is_terminal(),
        }
    }

    fn tell(&mut self, line: &str) {
        let line = line.trim();
        self.compiled += usize::from(line.starts_with("Compiling "));
        if self.overwrites {
            let short: String = line.chars().take(50).collect();
            eprint!("\r\x1b[K      {} crates, {}: {short}", self.compiled, self.watch);
            let _ = std::io::stderr().flush();
        } else if self.watch.elapsed() >= self.told_at + BETWEEN_LINES {
            self.told_at = self.watch.elapsed();
            eprintln!("      {} crates compiled, {}", self.compiled, self.watch);
        }
    }

    fn end(&self) {
        if self.overwrites {
            eprint!("\r\x1b[K");
        }
    }
}
