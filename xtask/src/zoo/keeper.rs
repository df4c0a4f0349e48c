//! Starts the programs and ends them: those that it started, by their handles, and what they started, by their groups.
//!
//! Each program leads a process group of its own. The group's number is the pid of a child that has not been waited for,
//! so it can mean nobody else. A program that leaves its group ends when its parent does, or by PostgreSQL's own watch.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::manifest::{Program, Watched};
use crate::{clock::Stopwatch, workspace::run as run_command};

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// A program that runs.
pub struct Animal {
    pub watched: Watched,
    child: Child,
    log: PathBuf,
}

/// The programs that run; they end when this is dropped.
pub struct Keeper {
    animals: Vec<Animal>,
}

/// Copies the files of tests/zoo and builds the C programs, in the folder `zoo` of `place`.
pub fn prepare(sources: &Path, place: &Path) -> Result<()> {
    let folder = place.join("zoo");
    fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
    let mut built = Vec::new();
    for entry in fs::read_dir(sources).with_context(|| format!("reading {}", sources.display()))? {
        let source = entry?.path();
        let copy = folder.join(source.file_name().unwrap_or_default());
        fs::copy(&source, &copy).with_context(|| format!("copying {}", source.display()))?;
        if source.extension().is_some_and(|ending| ending == "c") {
            built.push(copy);
        }
    }
    if which::which("cc").is_err() {
        return Ok(());
    }
    for source in built {
        let mut cc = Command::new("cc");
        cc.args(["-Wall", "-Wextra", "-Werror", "-O1", "-pthread", "-o"]);
        run_command(cc.arg(source.with_extension("")).arg(&source))?;
    }
    Ok(())
}

impl Keeper {
    /// Starts every program in `place`, in the order given.
    pub fn start(programs: Vec<Program>, place: &Path) -> Result<Self> {
        let mut keeper = Self { animals: Vec::new() };
        for program in programs {
            keeper.animals.push(start(program, place)?);
        }
        Ok(keeper)
    }

    pub fn len(&self) -> usize {
        self.animals.len()
    }

    /// What is known of each program.
    pub fn watched(&self) -> impl Iterator<Item = &Watched> {
        self.animals.iter().map(|animal| &animal.watched)
    }

    /// Takes out the programs that have ended already, and says how each of them did.
    pub fn remove_ended(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        self.animals.retain_mut(|animal| match ending(&animal.child) {
            None => true,
            Some(ending) => {
                let said = fs::read_to_string(&animal.log).unwrap_or_default();
                told.push(format!("{}: {ending}: {}", animal.watched.program.name, last_line(&said)));
                animal.end();
                false
            }
        });
        told
    }

    /// Notes how much memory each program has now, as the first or the last that is known.
    pub fn weigh(&mut self, first: bool) {
        for Animal { watched, .. } in &mut self.animals {
            let bytes = footprint(watched.pid);
            *(if first { &mut watched.first_bytes } else { &mut watched.last_bytes }) = bytes;
        }
    }

    /// Notes which children the programs have now, and which programs have ended.
    pub fn look(&mut self) {
        let parents = parents();
        for Animal { watched, child, .. } in &mut self.animals {
            if watched.ended.is_none() {
                watched.ended = ending(child);
            }
            for (pid, _) in &parents {
                if descends(*pid, watched.pid, &parents) && !watched.children.contains(pid) {
                    watched.children.push(*pid);
                }
            }
        }
    }

    /// Ends everything, the last that was started first, and returns what is known of each in the order of starting.
    pub fn end(mut self) -> Vec<Watched> {
        self.end_all();
        std::mem::take(&mut self.animals).into_iter().map(|animal| animal.watched).collect()
    }

    fn end_all(&mut self) {
        for animal in self.animals.iter_mut().rev() {
            animal.signal(Signal::TERM);
        }
        let since = Stopwatch::start();
        while since.elapsed() < GRACE && self.animals.iter().any(|animal| ending(&animal.child).is_none()) {
            pause(BETWEEN_LOOKS);
        }
        for animal in self.animals.iter_mut().rev() {
            animal.end();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end_all();
    }
}

impl Animal {
    /// Sends a signal to the program's group. It is the child's: nobody has waited for it yet.
    fn signal(&self, signal: Signal) {
        if let Some(group) = pid_of(&self.child) {
            // It fails where everybody in the group is gone, which is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Kills what is left of the group, then waits for its leader, whose number is free from then on.
    fn end(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

fn start(program: Program, place: &Path) -> Result<Animal> {
    let Some((name, arguments)) = program.command.split_first() else {
        bail!("{}: its command is empty\n  fix: tests/zoo/manifest.json", program.name);
    };
    let log = place.join(format!("{}.log", program.name));
    let output = File::create(&log).with_context(|| format!("making {}", log.display()))?;
    let mut command = Command::new(name);
    command.args(arguments).current_dir(place).env("PATH", search_path()).env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
    // SAFETY: the closure runs between fork and exec and makes one system call, which is async-signal-safe.
    unsafe { command.pre_exec(end_with_parent) };
    let child = command.spawn().with_context(|| format!("starting {} ({name})", program.name))?;
    let pid = child.id();
    let start_time_ticks = stat(pid).map(|(_, start)| start).unwrap_or_default();
    let watched = Watched {
        pid,
        start_time_ticks,
        children: Vec::new(),
        first_bytes: None,
        last_bytes: None,
        ended: None,
        program,
    };
    Ok(Animal { watched, child, log })
}

/// If xtask itself is killed, its programs are to end as well.
fn end_with_parent() -> std::io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?)
}

/// The distribution's programs before those that a user installed: a version manager's shim would run first.
fn search_path() -> OsString {
    let mut path = OsString::from("/usr/bin:/bin:/usr/sbin:");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// How a child has ended, if it has; it stays a zombie, so that its group's number stays taken.
fn ending(child: &Child) -> Option<String> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(pid_of(child)?), options).ok()??;
    Some(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "ended".to_owned(),
    })
}

/// Anonymous, shared and swapped bytes of a process.
fn footprint(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some((of("RssAnon:")? + of("RssShmem:")? + of("VmSwap:")?) * 1024)
}

/// A process's parent and its start time.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything: state, ppid, and the start time as field 22 of all.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

/// Every process of this host and its parent.
fn parents() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.0))).collect()
}

fn descends(pid: u32, ancestor: u32, parents: &[(u32, u32)]) -> bool {
    let mut at = pid;
    // Bounded: the list is no snapshot, and could hold a circle.
    for _ in 0..64 {
        match parents.iter().find(|(child, _)| *child == at) {
            Some((_, parent)) if *parent == ancestor => return true,
            Some((_, parent)) if *parent > 1 => at = *parent,
            _ => return false,
        }
    }
    false
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing")
}

#[expect(clippy::disallowed_methods, reason = "a look at intervals, and nothing wakes it")]
pub fn pause(span: Duration) {
    std::thread::sleep(span);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(command: &[&str]) -> Program {
        Program {
            name: "it".to_owned(),
            kind: "test".to_owned(),
            leaking: false,
            rate_bytes_per_s: None,
            truth: None,
            ramp: None,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            needs: Vec::new(),
        }
    }

    fn alive(pid: u32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn what_a_program_started_ends_with_it() {
        let place = tempfile::tempdir().unwrap();
        let mut keeper =
            Keeper::start(vec![program(&["sh", "-c", "sleep 1000 & sleep 1000"])], place.path()).unwrap();
        while keeper.animals[0].watched.children.len() < 2 {
            keeper.look();
        }
        let watched = keeper.end().pop().unwrap();
        assert_eq!(watched.ended, None, "it ran until it was ended");
        // SIGKILL is sent by then; when a process acts on it is the scheduler's choice.
        let since = Stopwatch::start();
        for pid in watched.children.iter().chain([&watched.pid]) {
            while alive(*pid) {
                assert!(since.elapsed() < GRACE, "{pid} still runs");
                pause(BETWEEN_LOOKS);
            }
        }
    }

    #[test]
    fn a_program_that_ends_by_itself_is_told_with_its_last_words() {
        let place = tempfile::tempdir().unwrap();
        let words = program(&["sh", "-c", "echo no such thing >&2; exit 3"]);
        let mut keeper = Keeper::start(vec![words], place.path()).unwrap();
        while ending(&keeper.animals[0].child).is_none() {
            pause(BETWEEN_LOOKS);
        }
        assert_eq!(keeper.remove_ended(), ["it: exit status 3: no such thing"]);
        assert_eq!(keeper.len(), 0);
    }

    #[test]
    fn the_own_process_has_a_parent_a_start_and_memory() {
        let (parent, start) = stat(std::process::id()).unwrap();
        assert!(parent > 0 && start > 0);
        assert!(footprint(std::process::id()).unwrap() > 4096);
        assert!(descends(std::process::id(), parent, &parents()));
    }
}
