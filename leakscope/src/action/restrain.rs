//! Less than a kill: a leaking process is stopped, or kept from growing, until somebody has looked.
//!
//! *Freeze* uses the freezer of the process's own cgroup (v2); where it shares its cgroup, or has none, SIGSTOP through the
//! pidfd. *Throttle* sets `memory.high` of its own cgroup to what it holds now: the kernel then reclaims, and slows the
//! process down, whenever it wants more. A cgroup with anybody else in it is never touched. Every guard of the kill is asked
//! first; what is to be undone is written down before it is done ([`Restraint`]), and each step is read back. Start reading
//! at [`restrain`]; the way back is [`undo`].

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::guard::Protections;
use super::kill::against;
use super::outcome::{Check, Outcome, OutcomeKind};
use super::victim::{Refusal, Victim};
use crate::process::{Identity, Limits, ProcRoot};
use crate::units::{Pid, ProcKey, Ticks};

/// How long the kernel is given to stop every thread.
const UNTIL_STOPPED: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// It is stopped.
    Freeze,
    /// It may hold what it holds now, and more only slowly.
    Throttle,
}

impl Measure {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Throttle => "throttle",
        }
    }
}

/// By which means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Means {
    /// SIGSTOP; undone by SIGCONT.
    Sigstop,
    /// The cgroup's freezer.
    CgroupFreezer {
        /// The cgroup's directory.
        directory: PathBuf,
    },
    /// `memory.high`.
    MemoryHigh {
        /// The cgroup's directory.
        directory: PathBuf,
        /// What stood there before.
        before: String,
        /// What was set.
        set: String,
    },
}

/// Something that was done to a process and can be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restraint {
    /// Its pid.
    pub pid: Pid,
    /// The start time that makes the pid unique.
    pub start_time_ticks: Ticks,
    /// The boot that it belongs to.
    pub boot_id: Option<String>,
    /// Its command line, for people.
    pub cmdline: String,
    /// What was done.
    pub measure: Measure,
    /// By which means.
    pub means: Means,
}

/// Takes hold of the process that `expected` describes and restrains it. `note` writes the restraint down before it is
/// done; when that fails, nothing is done.
pub async fn restrain(
    proc: &ProcRoot,
    expected: &Identity,
    measure: Measure,
    protections: &Protections,
    dry_run: bool,
    note: impl FnOnce(&Restraint) -> anyhow::Result<()>,
) -> Outcome {
    let victim = match Victim::open(proc, expected) {
        Ok(victim) => victim,
        Err(refusal) => return refusal.into_outcome(expected),
    };
    let means = match means(proc, expected, measure) {
        Ok(means) => means,
        Err(why) => return Outcome::refused(expected.key, measure.name(), why),
    };
    let mut outcome = Outcome::new(expected.key, OutcomeKind::Failed, "");
    match victim.verify(protections) {
        Ok((_, checks)) => outcome.checks = checks,
        Err(refusal) => return refusal.into_outcome(expected),
    }
    if let Some(against) = against(&outcome.checks) {
        outcome.kind = OutcomeKind::Refused;
        outcome.detail = format!("pid {} is protected: {against}", outcome.pid);
        return outcome;
    }
    if dry_run {
        outcome.kind = OutcomeKind::DryRun;
        outcome.detail = format!("dry run: {}", would(&means, outcome.pid));
        return outcome;
    }
    let restraint = Restraint {
        pid: expected.key.pid,
        start_time_ticks: expected.key.start,
        boot_id: expected.boot_id.as_deref().map(str::to_owned),
        cmdline: expected.command_line(),
        measure,
        means,
    };
    if let Err(error) = note(&restraint) {
        outcome.detail = format!("how to undo it could not be written down, so it was not done: {error:#}");
        return outcome;
    }
    match apply(&victim, &restraint.means).await {
        Ok(check) => {
            outcome.kind = match measure {
                Measure::Freeze => OutcomeKind::Frozen,
                Measure::Throttle => OutcomeKind::Throttled,
            };
            outcome.detail = told(&restraint);
            outcome.checks.push(check);
        }
        Err(detail) => outcome.detail = detail,
    }
    outcome
}

/// Which means there are for a measure; or why there are none.
fn means(proc: &ProcRoot, who: &Identity, measure: Measure) -> Result<Means, String> {
    let own = own_cgroup(proc, who.key.pid);
    match (measure, own) {
        (Measure::Freeze, Ok(directory)) if directory.join("cgroup.freeze").exists() => {
            Ok(Means::CgroupFreezer { directory })
        }
        (Measure::Freeze, _) => Ok(Means::Sigstop),
        (Measure::Throttle, Ok(directory)) => {
            let read = |name: &str| {
                fs::read_to_string(directory.join(name)).map(|text| text.trim().to_owned()).map_err(|error| {
                    format!(
                        "{}: {error} (the memory controller of cgroup v2 is not on for this cgroup)",
                        directory.join(name).display()
                    )
                })
            };
            let (before, set) = (read("memory.high")?, read("memory.current")?);
            Ok(Means::MemoryHigh { directory, before, set })
        }
        (Measure::Throttle, Err(why)) => Err(format!(
            "it cannot be throttled: {why} (run it in a cgroup of its own, such as a systemd service)"
        )),
    }
}

/// The directory of the process's cgroup v2, when there is nobody else in it or below.
fn own_cgroup(proc: &ProcRoot, pid: Pid) -> Result<PathBuf, String> {
    let find = || Ok(Limits::discover(proc)?.unified(&proc.membership(pid)?));
    let found = find().map_err(|error: io::Error| format!("its cgroup cannot be read: {error}"))?;
    let directory = found.ok_or("it is in no cgroup of version 2 but the root")?;
    alone_in(&directory, pid).map(|()| directory)
}

/// Whether a process is the only one in a cgroup and below it.
fn alone_in(directory: &Path, pid: Pid) -> Result<(), String> {
    let shown = directory.display();
    let read = fs::read_to_string(directory.join("cgroup.procs"));
    let procs = read.map_err(|error| format!("{shown}/cgroup.procs: {error}"))?;
    let others = procs.lines().filter(|line| line.trim() != pid.to_string()).count();
    if others > 0 {
        return Err(format!("it shares the cgroup {shown} with {others} other processes"));
    }
    let entries = fs::read_dir(directory).map_err(|error| format!("{shown}: {error}"))?;
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir()) {
        let events = fs::read_to_string(entry.path().join("cgroup.events")).unwrap_or_default();
        if !events.lines().any(|line| line == "populated 0") {
            return Err(format!("there are others in {}", entry.path().display()));
        }
    }
    Ok(())
}

fn would(means: &Means, pid: Pid) -> String {
    match means {
        Means::Sigstop => format!("SIGSTOP would have been sent to pid {pid}"),
        Means::CgroupFreezer { directory } => {
            format!("the cgroup {} would have been frozen", directory.display())
        }
        Means::MemoryHigh { directory, set, .. } => {
            format!("memory.high of {} would have been set to {set}", directory.display())
        }
    }
}

/// What was done, and what that means for whoever depends on the process.
fn told(restraint: &Restraint) -> String {
    let pid = restraint.pid;
    match &restraint.means {
        Means::Sigstop => format!(
            "pid {pid} is stopped (SIGSTOP): it answers nobody, keeps its memory, its locks and its connections; its \
             parent is told. To let it go on: leakscope undo {pid}"
        ),
        Means::CgroupFreezer { directory } => format!(
            "pid {pid} is frozen (cgroup {}): it answers nobody, keeps its memory, its locks and its connections, and \
             does not see it. To let it go on: leakscope undo {pid}",
            directory.display()
        ),
        Means::MemoryHigh { directory, before, set } => format!(
            "pid {pid} is throttled: memory.high of {} is {set} bytes (before: {before}); it goes on, slower and slower \
             as it wants more. To lift it: leakscope undo {pid}",
            directory.display()
        ),
    }
}

async fn apply(victim: &Victim, means: &Means) -> Result<Check, String> {
    let pid = victim.identity().key.pid;
    match means {
        Means::Sigstop => {
            victim.last_look().map_err(|refusal| refusal.to_string())?;
            pidfd_send_signal(victim.pidfd(), Signal::STOP)
                .map_err(|error| format!("sending SIGSTOP to pid {pid}: {error}"))?;
            let stopped = || matches!(victim.proc().state(victim.identity().key), Ok(Some('T')));
            until(stopped)
                .await
                .then(|| Check::new("stopped", true, "/proc shows it stopped (state T)"))
                .ok_or_else(|| {
                    format!(
                        "pid {pid} is not stopped {} s after SIGSTOP: undo it with leakscope undo {pid}",
                        UNTIL_STOPPED.as_secs()
                    )
                })
        }
        Means::CgroupFreezer { directory } => {
            alone_in(directory, pid)?;
            write(directory, "cgroup.freeze", "1")?;
            let check = Check::new("frozen", true, "cgroup.events says frozen 1");
            until(|| frozen(directory) == Some(true)).await.then_some(check).ok_or_else(|| {
                format!(
                    "{} is not frozen after {} s: undo it with leakscope undo {pid}",
                    directory.display(),
                    UNTIL_STOPPED.as_secs()
                )
            })
        }
        Means::MemoryHigh { directory, set, .. } => {
            alone_in(directory, pid)?;
            write(directory, "memory.high", set)?;
            let now = read(directory, "memory.high")?;
            // The kernel rounds to whole pages.
            Ok(Check::new("memory-high", now != "max", format!("memory.high reads {now}")))
        }
    }
}

/// Undoes a restraint; what came of it in words, or why it could not be undone. A process that is gone needs nothing.
///
/// # Errors
/// When it is still restrained.
pub async fn undo(proc: &ProcRoot, restraint: &Restraint) -> Result<String, String> {
    let pid = restraint.pid;
    match &restraint.means {
        Means::Sigstop => {
            let Some(victim) = held(proc, restraint)? else { return Ok(format!("pid {pid} is gone")) };
            pidfd_send_signal(victim.pidfd(), Signal::CONT)
                .map_err(|error| format!("sending SIGCONT to pid {pid}: {error}"))?;
            let runs = || !matches!(proc.state(victim.identity().key), Ok(Some('T')));
            until(runs).await.then(|| format!("pid {pid} goes on")).ok_or_else(|| {
                format!(
                    "pid {pid} is still stopped {} s after SIGCONT: somebody else stops it",
                    UNTIL_STOPPED.as_secs()
                )
            })
        }
        Means::CgroupFreezer { directory } => {
            if !directory.exists() {
                return Ok(format!("the cgroup {} is gone", directory.display()));
            }
            write(directory, "cgroup.freeze", "0")?;
            until(|| frozen(directory) == Some(false))
                .await
                .then(|| format!("pid {pid} goes on"))
                .ok_or_else(|| format!("{} stays frozen: a cgroup above it is, too", directory.display()))
        }
        Means::MemoryHigh { directory, before, set } => {
            if !directory.exists() {
                return Ok(format!("the cgroup {} is gone", directory.display()));
            }
            let now = read(directory, "memory.high")?;
            if !same_size(&now, set) {
                return Err(format!(
                    "memory.high of {} is {now}, and leakscope set {set}: somebody changed it since; it is left so",
                    directory.display()
                ));
            }
            write(directory, "memory.high", before)?;
            Ok(format!("memory.high of {} is {before} again", directory.display()))
        }
    }
}

/// Holds the process that was restrained; `None` when it is gone.
fn held(proc: &ProcRoot, restraint: &Restraint) -> Result<Option<Victim>, String> {
    let key = ProcKey { pid: restraint.pid, start: restraint.start_time_ticks };
    let Ok(now) = proc.identify(key.pid) else { return Ok(None) };
    if now.key != key || now.boot_id.as_deref() != restraint.boot_id.as_deref() {
        return Ok(None);
    }
    match Victim::open(proc, &now) {
        Ok(victim) => Ok(Some(victim)),
        Err(Refusal::AlreadyGone(_)) => Ok(None),
        Err(refusal) => Err(refusal.to_string()),
    }
}

/// The kernel keeps whole pages.
fn same_size(now: &str, set: &str) -> bool {
    match (now.parse::<u64>(), set.parse::<u64>()) {
        (Ok(now), Ok(set)) => now.abs_diff(set) < 1 << 16,
        _ => now == set,
    }
}

fn frozen(directory: &Path) -> Option<bool> {
    let events = fs::read_to_string(directory.join("cgroup.events")).ok()?;
    Some(events.lines().find_map(|line| line.strip_prefix("frozen "))? == "1")
}

fn read(directory: &Path, name: &str) -> Result<String, String> {
    let path = directory.join(name);
    fs::read_to_string(&path)
        .map(|text| text.trim().to_owned())
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn write(directory: &Path, name: &str, value: &str) -> Result<(), String> {
    let path = directory.join(name);
    fs::write(&path, value).map_err(|error| {
        let how = if error.kind() == ErrorKind::PermissionDenied { " (run leakscope as root)" } else { "" };
        format!("writing {value} to {}: {error}{how}", path.display())
    })
}

async fn until(done: impl Fn() -> bool) -> bool {
    let wait = async {
        while !done() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(UNTIL_STOPPED, wait).await.is_ok()
}

#[cfg(test)]
#[path = "restrain_tests.rs"]
mod tests;
