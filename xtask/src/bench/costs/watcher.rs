//! A program that watches the host while something is measured: how it is started, when it is ready, and what it takes.
//!
//! What it takes is read from outside, from /proc/PID/task/*/schedstat, in nanoseconds: what it spent on its start is
//! left out, and no peer is asked to be measured by its own means.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::page::Side;
use crate::{clock::Stopwatch, workspace::shown};

/// How long a watcher may take to print its first line.
const PATIENCE: Duration = Duration::from_secs(90);
/// A watcher that has said something and ended so soon after it has said why it cannot watch.
const LIVES: Duration = Duration::from_millis(500);
/// How often a server is asked, as leakscope is told to look.
const ASKED_EACH: Duration = Duration::from_secs(1);

/// How a watcher is called.
#[derive(Clone)]
pub struct Watcher {
    pub name: String,
    words: Vec<OsString>,
    variables: Vec<(&'static str, PathBuf)>,
    ready: Ready,
    /// Where it cannot watch, that is what there is to say of it, and no error.
    may_fail: bool,
}

/// When a watcher is at work.
#[derive(Clone, Copy)]
enum Ready {
    /// With the first byte that it prints.
    AtOnce,
    /// With a line that holds this.
    Saying(&'static str),
    /// When it has answered `GET /metrics` on this port; it is asked again each second.
    Answering(u16),
}

impl Watcher {
    pub fn new(program: &Path, arguments: &[&str]) -> Self {
        let file = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
        let name = format!("{file} {}", arguments.join(" ")).trim_end().to_owned();
        let words = std::iter::once(program.as_os_str().to_owned());
        let words = words.chain(arguments.iter().map(OsString::from)).collect();
        Self { name, words, variables: Vec::new(), ready: Ready::AtOnce, may_fail: false }
    }

    /// A peer's: what it cannot do here is a row of the table.
    pub fn of_a_peer(mut self) -> Self {
        self.may_fail = true;
        self
    }

    pub fn with_variable(mut self, name: &'static str, value: &Path) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    pub fn ready_saying(mut self, text: &'static str) -> Self {
        self.ready = Ready::Saying(text);
        self
    }

    /// A server, which is told its address after this option.
    pub fn serving(mut self, option: &str) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        self.words.extend([option.into(), format!("{}:{port}", Ipv4Addr::LOCALHOST).into()]);
        self.ready = Ready::Answering(port);
        Ok(self)
    }

    /// Starts it for this side; of a peer that cannot watch the side says why, and `None` is returned.
    pub fn start_for(&self, side: &mut Side) -> Result<Option<Running>> {
        match self.start() {
            Err(why) if self.may_fail => {
                eprintln!("{}: {why:#}", self.name);
                side.values = Err(format!("{why:#}"));
                Ok(None)
            }
            started => started.map(Some),
        }
    }

    /// Starts it and waits until it is at work.
    ///
    /// # Errors
    /// When it ends, or is not at work for long; its last words are in the message.
    pub fn start(&self) -> Result<Running> {
        let clock = Stopwatch::start();
        let mut command = Command::new(&self.words[0]);
        // Python keeps what it prints to a pipe.
        command.args(&self.words[1..]).env("LC_ALL", "C").env("PYTHONUNBUFFERED", "1");
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        let mut errors = tempfile::tempfile().context("making a file")?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors.try_clone()?);
        let child = command.spawn().with_context(|| format!("starting `{}`", shown(&command)))?;
        let mut running = Running { child, first_line: Duration::ZERO };
        let stdout = running.child.stdout.take().context("standard output is a pipe")?;
        let said = read(stdout, self.ready, clock);
        let ready = said.ready.recv_timeout(PATIENCE);
        if matches!(self.ready, Ready::Saying(_) | Ready::AtOnce) && self.may_fail {
            pause(LIVES);
        }
        match (ready, running.child.try_wait()?) {
            (Ok(after), None) => running.first_line = after,
            // One that looks once and is done.
            (Ok(after), Some(status)) if status.success() => running.first_line = after,
            (_, ended) => {
                drop(running);
                let mut text = String::new();
                errors.rewind()?;
                errors.read_to_string(&mut text)?;
                let text = [text, said.all.recv().unwrap_or_default()].join("\n");
                let ended =
                    ended.map_or("it was not at work".to_owned(), |status| format!("it ended ({status})"));
                bail!("{ended}: {}", reason(&text));
            }
        }
        Ok(running)
    }
}

/// What a watcher says.
struct Said {
    /// When it was at work.
    ready: Receiver<Duration>,
    /// The beginning of all that it printed, at its end.
    all: Receiver<String>,
}

fn read(stdout: ChildStdout, ready: Ready, clock: Stopwatch) -> Said {
    let (say, at_work) = mpsc::channel();
    let (tell, all) = mpsc::channel();
    if let Ready::Answering(port) = ready {
        let say = say.clone();
        std::thread::spawn(move || ask(port, &say, clock));
    }
    std::thread::spawn(move || {
        const KEPT: usize = 4096;
        let mut reader = BufReader::new(stdout);
        let (mut line, mut kept) = (Vec::new(), String::new());
        // top begins with an escape sequence or a blank line as others do: the first byte counts.
        if reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) && matches!(ready, Ready::AtOnce) {
            let _ = say.send(clock.elapsed());
        }
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            if matches!(ready, Ready::Saying(word) if text.contains(word)) {
                let _ = say.send(clock.elapsed());
            }
            if kept.len() < KEPT {
                kept += &text;
            }
            line.clear();
        }
        let _ = tell.send(kept);
    });
    Said { ready: at_work, all }
}

/// Asks a server each second until it is gone; until it has answered first, more often.
fn ask(port: u16, say: &Sender<Duration>, clock: Stopwatch) {
    const NOT_YET: Duration = Duration::from_millis(50);
    let mut answered = false;
    while answered || clock.elapsed() < PATIENCE {
        let asked = Stopwatch::start();
        match answer(port) {
            Ok(text) if text.contains(" 200 ") => {
                if !answered {
                    let _ = say.send(clock.elapsed());
                }
                answered = true;
                pause(ASKED_EACH.saturating_sub(asked.elapsed()));
            }
            _ if answered => return,
            _ => pause(NOT_YET),
        }
    }
}

fn answer(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The line of a program's last words that says most, for a cell of the table.
fn reason(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling =
        |line: &&str| line.starts_with("ERROR") || line.contains("Error:") || line.starts_with("Exception");
    let line = lines().rfind(telling).or_else(|| lines().next_back()).unwrap_or("it said nothing");
    line.replace('|', "/")
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

#[expect(clippy::disallowed_methods, reason = "a measurement lasts as long as it is meant to")]
pub fn pause(span: Duration) {
    std::thread::sleep(span);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_ends_says_why_in_its_row_and_is_no_error() {
        let words =
            ["-c", "echo header; echo 'Traceback: x' >&2; echo 'Exception: no | kprobes' >&2; exit 1"];
        let failing = Watcher::new(Path::new("/bin/sh"), &words).ready_saying("attached");
        assert!(failing.start().is_err());
        let mut side = Side::of("peer");
        assert!(failing.of_a_peer().start_for(&mut side).unwrap().is_none());
        let why = side.values.unwrap_err();
        assert!(why.contains("exit status: 1") && why.ends_with("Exception: no / kprobes"), "{why}");
    }

    #[test]
    fn what_is_ready_at_a_line_is_not_ready_before_it() {
        let words = ["-c", "echo preparing; sleep 0.3; echo attached; sleep 5"];
        let slow = Watcher::new(Path::new("/bin/sh"), &words).ready_saying("attached");
        assert!(slow.start().unwrap().first_line >= Duration::from_millis(300));
    }
}
