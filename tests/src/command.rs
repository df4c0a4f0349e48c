//! The `leakscope` binary as its users run it, and workloads that end with the test that started them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// The binary under test: `LEAKSCOPE_BIN`, or the debug build of this workspace.
pub fn leakscope() -> Command {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/leakscope");
    let path = std::env::var_os("LEAKSCOPE_BIN").map_or(built, PathBuf::from);
    assert!(path.exists(), "{} is not there: run `cargo xtask test`, which builds it", path.display());
    Command::new(path)
}

/// Fails the test without root: these tests are about the kernel, and a missing privilege is a failure.
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root (eBPF): run it with `cargo xtask test`, which uses sudo"
    );
}

/// What a run of leakscope printed.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// The exit status as a number; fails the test when a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by {:?}\n{}", self.status, self.stderr))
    }

    /// Standard output as one JSON object.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("no JSON: {error}\nstdout: {}\nstderr: {}", self.stdout, self.stderr)
        })
    }

    /// Fails the test when it panicked or printed a stack trace.
    pub fn assert_no_panic(&self) {
        for trace in ["panicked at", "RUST_BACKTRACE", "stack backtrace"] {
            assert!(!self.stderr.contains(trace), "a panic reached the user:\n{}", self.stderr);
        }
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs leakscope to its end.
pub fn run(args: &[&str]) -> Ran {
    let ran: Ran = leakscope().args(args).stdin(Stdio::null()).output().expect("leakscope starts").into();
    ran.assert_no_panic();
    ran
}

/// A process that the test started, killed and reaped when the test lets go of it.
#[derive(Debug)]
pub struct Workload {
    child: Child,
    folder: TempDir,
}

impl Workload {
    /// Starts a command whose files are in `folder`.
    pub fn start(mut command: Command, folder: TempDir) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        Self { child, folder }
    }

    /// Starts a Python program. `exec -a` is not used: the command line is `python3 NAME`.
    pub fn python(name: &str, program: &str) -> Self {
        Self::interpreted("python3", name, program)
    }

    /// Starts a Node program; fails the test where there is no Node.
    pub fn node(name: &str, program: &str) -> Self {
        let there = Command::new("node").arg("--version").output().is_ok();
        assert!(there, "there is no node: install it (`cargo xtask setup`, apt-get install nodejs)");
        Self::interpreted("node", name, program)
    }

    fn interpreted(interpreter: &str, name: &str, program: &str) -> Self {
        let folder = folder();
        fs::write(folder.path().join(name), program).expect("the program is written");
        let mut command = Command::new(interpreter);
        command.arg(name).current_dir(folder.path());
        Self::start(command, folder)
    }

    /// Compiles a C program with the system's `cc` and starts it.
    pub fn c(name: &str, source: &str) -> Self {
        let folder = folder();
        let (file, program) = (folder.path().join("program.c"), folder.path().join(name));
        fs::write(&file, source).expect("the source is written");
        let compiled = Command::new("cc")
            .args(["-O1", "-pthread", "-o"])
            .arg(&program)
            .arg(&file)
            .output()
            .expect("cc starts");
        assert!(compiled.status.success(), "cc: {}", String::from_utf8_lossy(&compiled.stderr));
        Self::start(Command::new(program), folder)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its pid as text, for a command line.
    pub fn pid_text(&self) -> String {
        self.pid().to_string()
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits for a line that the program prints when it is ready.
    pub fn wait_for_line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.child.stdout.as_mut().expect("standard output is a pipe");
        BufReader::new(stdout.take(4096)).read_line(&mut line).expect("a line can be read");
        line.trim().to_owned()
    }

    /// How it ended, when it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Whether it is still running.
    pub fn lives(&mut self) -> bool {
        self.ended().is_none()
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Not reaped until here, so the pid cannot belong to anybody else.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder that goes when the test ends.
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("leakscope-test-").tempdir().expect("a temporary folder")
}

/// Writes a file and returns its path as text.
pub fn file(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::File::create(&path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .expect("the file is written");
    path.to_string_lossy().into_owned()
}

/// A terminal: what runs on it is asked and answers as at a keyboard.
#[derive(Debug)]
pub struct Terminal {
    keyboard: fs::File,
    line: OwnedFd,
    seen: String,
}

impl Terminal {
    /// Opens one.
    pub fn open() -> Self {
        let (mut keyboard, mut line) = (-1, -1);
        let none = std::ptr::null_mut();
        // SAFETY: both descriptors are written to variables of ours, and nothing else is asked for.
        let opened =
            unsafe { libc::openpty(&raw mut keyboard, &raw mut line, none, none.cast(), none.cast()) };
        assert_eq!(opened, 0, "no terminal: {}", std::io::Error::last_os_error());
        // SAFETY: openpty has just opened it, for nobody else.
        let keyboard = unsafe { OwnedFd::from_raw_fd(keyboard) };
        // SAFETY: as before.
        let line = unsafe { OwnedFd::from_raw_fd(line) };
        Self { keyboard: keyboard.into(), line, seen: String::new() }
    }

    /// The end that a program has as its standard input or error.
    pub fn line(&self) -> Stdio {
        self.line.try_clone().expect("a descriptor can be copied").into()
    }

    /// Waits until the program has written `text`.
    pub fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        while !self.seen.contains(text) {
            let length = self.keyboard.read(&mut buffer).expect("a terminal can be read");
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }

    /// Types this.
    pub fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("a terminal can be written to");
    }
}

/// Waits until `done` holds, and fails the test when it does not within a generous time.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    const PATIENCE: u32 = 600;
    for _ in 0..PATIENCE {
        if done() {
            return;
        }
        pause(Duration::from_millis(100));
    }
    panic!("waited 60 s in vain: {what}");
}

/// Lets a workload work.
pub fn pause(span: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test gives the processes it started time to do something"
    )]
    std::thread::sleep(span);
}

/// Whether an action of a `hunt --json` object says that it passed this check.
pub fn passed(action: &Value, check: &str) -> bool {
    let checks = action["checks"].as_array().expect("what was checked");
    checks.iter().any(|done| done["check"] == check && done["passed"] == true)
}

/// The process among `suspects` of a `hunt --json` object that has this pid.
pub fn suspect(hunt: &Value, pid: u32) -> Option<&Value> {
    hunt["suspects"].as_array()?.iter().find(|suspect| suspect["pid"] == pid)
}
