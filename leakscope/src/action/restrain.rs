//! Less than a kill: a leaking process is stopped, or kept from growing, until somebody has looked.
//!
//! *Freeze* uses the freezer of the process's own cgroup (v2); where it shares its cgroup, or has none, SIGSTOP through the
//! pidfd. *Throttle* sets `memory.high` of its own cgroup to what it holds now: the kernel then reclaims, and slows the
//! process down, whenever it wants more. A cgroup with anybody else in it is never touched. Every guard of the kill is asked
//! first; what is to be undone is written down before it is done ([`Restraint`]), and each step is read back. Start reading
//! at [`restrain`]; the way back is [`undo`].

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::group::{Group, alone_in, own_cgroup, read};
use super::guard::Protections;
use super::kill::stops_here;
use super::outcome::{Check, Outcome, OutcomeKind};
use super::undo::Restraints;
use super::victim::{Refusal, Victim, hidden_from};
use crate::process::{Identity, ProcRoot, vanished};
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
    CgroupFreezer(Group),
    /// `memory.high`.
    MemoryHigh {
        /// Of which cgroup.
        group: Group,
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

/// Takes hold of the process that `expected` describes and restrains it. What is to be undone is written down before it is
/// done; when that fails, nothing is done, and when nothing was done, the note goes.
pub async fn restrain(
    proc: &ProcRoot,
    expected: &Identity,
    measure: Measure,
    protections: &Protections,
    dry_run: bool,
    notes: &Restraints,
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
    if stops_here(&mut outcome, dry_run, &would(&means, expected.key.pid)).is_some() {
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
    if let Err(error) = notes.note(&restraint) {
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
        Err(NotDone::Untouched(detail)) => {
            // A note of what was not done would undo what somebody else did.
            let kept =
                notes.forget(&restraint).err().map_or_else(String::new, |error| format!("; {error:#}"));
            outcome.detail = detail + &kept;
        }
        Err(NotDone::InPart(detail)) => {
            outcome.detail = format!("{detail}; to take it back: leakscope undo {}", outcome.pid);
        }
    }
    outcome
}

/// Why a measure does not hold.
#[derive(Debug)]
enum NotDone {
    /// Nothing was changed, or all of it was taken back.
    Untouched(String),
    /// Something was, and may have to be undone.
    InPart(String),
}

/// Which means there are for a measure; or why there are none.
fn means(proc: &ProcRoot, who: &Identity, measure: Measure) -> Result<Means, String> {
    let pid = who.key.pid;
    let own = own_cgroup(proc, pid);
    match (measure, own) {
        (Measure::Freeze, Ok(group)) if group.directory.join("cgroup.freeze").exists() => {
            if read(&group.directory, "cgroup.freeze")? != "0" {
                return Err(format!("its cgroup {} is frozen already", group.directory.display()));
            }
            Ok(Means::CgroupFreezer(group))
        }
        (Measure::Freeze, _) if who.state == 'T' => Err(format!("pid {pid} is stopped already")),
        (Measure::Freeze, _) => Ok(Means::Sigstop),
        (Measure::Throttle, Ok(group)) => {
            let controller =
                |error| format!("{error} (is the memory controller of cgroup v2 on for this cgroup?)");
            let before = read(&group.directory, "memory.high").map_err(controller)?;
            let set = read(&group.directory, "memory.current").map_err(controller)?;
            let number = |text: &str| text.parse::<u64>().ok();
            if number(&before).is_some_and(|before| number(&set).is_none_or(|set| before <= set)) {
                let shown = group.directory.display();
                return Err(format!("memory.high of {shown} is {before} already, and it holds {set}"));
            }
            Ok(Means::MemoryHigh { group, before, set })
        }
        (Measure::Throttle, Err(why)) => Err(format!(
            "it cannot be throttled: {why} (run it in a cgroup of its own, such as a systemd service)"
        )),
    }
}

fn would(means: &Means, pid: Pid) -> String {
    match means {
        Means::Sigstop => format!("SIGSTOP would have been sent to pid {pid}"),
        Means::CgroupFreezer(group) => {
            format!("the cgroup {} would have been frozen", group.directory.display())
        }
        Means::MemoryHigh { group, set, .. } => {
            format!("memory.high of {} would have been set to {set}", group.directory.display())
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
        Means::CgroupFreezer(group) => format!(
            "pid {pid} is frozen (cgroup {}): it answers nobody, keeps its memory, its locks and its connections, and \
             does not see it. To let it go on: leakscope undo {pid}",
            group.directory.display()
        ),
        Means::MemoryHigh { group, before, set } => format!(
            "pid {pid} is throttled: memory.high of {} is {set} bytes (before: {before}); it goes on, slower and slower \
             as it wants more. To lift it: leakscope undo {pid}",
            group.directory.display()
        ),
    }
}

async fn apply(victim: &Victim, means: &Means) -> Result<Check, NotDone> {
    let pid = victim.identity().key.pid;
    let seconds = UNTIL_STOPPED.as_secs();
    // The note was written to the disk since the identity was read.
    victim.last_look().map_err(|refusal| NotDone::Untouched(refusal.to_string()))?;
    match means {
        Means::Sigstop => {
            pidfd_send_signal(victim.pidfd(), Signal::STOP)
                .map_err(|error| NotDone::Untouched(format!("sending SIGSTOP to pid {pid}: {error}")))?;
            let check = Check::new("stopped", true, "/proc shows every thread of it stopped (state T)");
            let stopped = until(|| stopped(victim.proc(), pid)).await;
            stopped
                .then_some(check)
                .ok_or_else(|| NotDone::InPart(format!("pid {pid} is not stopped {seconds} s after SIGSTOP")))
        }
        Means::CgroupFreezer(group) => {
            alone_in(group, pid).map_err(NotDone::Untouched)?;
            write(&group.directory, "cgroup.freeze", "1").map_err(NotDone::Untouched)?;
            let frozen = until(|| frozen(&group.directory) == Some(true)).await;
            still_its_own(victim, group, ("cgroup.freeze", "0"))?;
            let shown = group.directory.display();
            let check = Check::new("frozen", true, format!("cgroup.events of {shown} says frozen 1"));
            frozen
                .then_some(check)
                .ok_or_else(|| NotDone::InPart(format!("{shown} is not frozen after {seconds} s")))
        }
        Means::MemoryHigh { group, before, set } => {
            alone_in(group, pid).map_err(NotDone::Untouched)?;
            write(&group.directory, "memory.high", set).map_err(NotDone::Untouched)?;
            still_its_own(victim, group, ("memory.high", before))?;
            let now = read(&group.directory, "memory.high").map_err(NotDone::InPart)?;
            if same_size(&now, set) {
                return Ok(Check::new("memory-high", true, format!("memory.high reads {now}")));
            }
            Err(NotDone::InPart(format!("memory.high was set to {set} and reads {now}")))
        }
    }
}

/// Whether the cgroup that was just acted on is the victim's and nobody else's; else it is put back as it was: whoever is
/// started there next must not find it frozen.
fn still_its_own(victim: &Victim, group: &Group, (file, before): (&str, &str)) -> Result<(), NotDone> {
    let own = match victim.is_dead() {
        Ok(false) => alone_in(group, victim.identity().key.pid),
        Ok(true) => Err("it ended meanwhile".to_owned()),
        Err(error) => Err(format!("it cannot be told whether it lives: {error}")),
    };
    own.map_err(|why| match write(&group.directory, file, before) {
        Ok(()) => NotDone::Untouched(format!("{why}: what was done was taken back")),
        Err(_) if !group.is_there() => NotDone::Untouched(why),
        Err(error) => NotDone::InPart(format!("{why}, and it could not be taken back: {error}")),
    })
}

/// Whether every thread of a process is stopped; the first may have ended before the others.
fn stopped(proc: &ProcRoot, pid: Pid) -> bool {
    let Ok(tasks) = fs::read_dir(proc.path().join(format!("{pid}/task"))) else { return false };
    let states: Vec<u8> = tasks
        .filter_map(Result::ok)
        .filter_map(|task| fs::read(task.path().join("stat")).ok())
        .filter_map(|stat| {
            // A thread may call itself `x) R 1`: the name ends at the last bracket.
            let end = stat.iter().rposition(|byte| *byte == b')')?;
            stat.get(end + 2).copied()
        })
        .collect();
    states.contains(&b'T') && states.iter().all(|state| matches!(state, b'T' | b't' | b'Z' | b'X'))
}

/// Undoes a restraint; what came of it in words, or why it could not be undone. A process that is gone needs nothing.
///
/// # Errors
/// When it is, or may be, still restrained.
pub async fn undo(proc: &ProcRoot, restraint: &Restraint) -> Result<String, String> {
    let pid = restraint.pid;
    match &restraint.means {
        Means::Sigstop => {
            let Some(victim) = held(proc, restraint)? else { return Ok(format!("pid {pid} is gone")) };
            pidfd_send_signal(victim.pidfd(), Signal::CONT)
                .map_err(|error| format!("sending SIGCONT to pid {pid}: {error}"))?;
            let runs = || !matches!(proc.state(victim.identity().key), Ok(Some('T')));
            until(runs).await.then(|| format!("pid {pid} goes on")).ok_or_else(|| {
                let seconds = UNTIL_STOPPED.as_secs();
                format!("pid {pid} is still stopped {seconds} s after SIGCONT: somebody else stops it")
            })
        }
        Means::CgroupFreezer(group) => {
            let directory = &group.directory;
            if !group.is_there() {
                return Ok(format!("the cgroup {} is gone", directory.display()));
            }
            write(directory, "cgroup.freeze", "0")?;
            until(|| frozen(directory) == Some(false))
                .await
                .then(|| format!("the cgroup {} goes on", directory.display()))
                .ok_or_else(|| format!("{} stays frozen: a cgroup above it is, too", directory.display()))
        }
        Means::MemoryHigh { group, before, set } => {
            let directory = &group.directory;
            if !group.is_there() {
                return Ok(format!("the cgroup {} is gone", directory.display()));
            }
            let now = read(directory, "memory.high")?;
            if same_size(&now, set) {
                write(directory, "memory.high", before)?;
                return Ok(format!("memory.high of {} is {before} again", directory.display()));
            }
            let changed = format!(
                "memory.high of {} is {now}, and leakscope set {set}: somebody changed it since, and it is left so",
                directory.display()
            );
            if held(proc, restraint)?.is_none() {
                Ok(format!("pid {pid} is gone; {changed}"))
            } else {
                Err(changed)
            }
        }
    }
}

/// Holds the process that was restrained; `None` when it is gone. What cannot be read is not gone.
fn held(proc: &ProcRoot, restraint: &Restraint) -> Result<Option<Victim>, String> {
    let key = ProcKey { pid: restraint.pid, start: restraint.start_time_ticks };
    let now = match proc.identify(key.pid) {
        Ok(now) => now,
        Err(error) if vanished(&error) => match hidden_from(proc, key.pid) {
            Some(hidden) => return Err(hidden),
            None => return Ok(None),
        },
        Err(error) => return Err(format!("pid {} cannot be identified: {error}", key.pid)),
    };
    let other_boot = match (&now.boot_id, &restraint.boot_id) {
        (Some(now), Some(then)) => **now != **then,
        _ => false,
    };
    if now.key != key || other_boot {
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
