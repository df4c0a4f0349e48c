//! The verified kill: SIGTERM, grace, SIGKILL, and the proof of the death, all on one pidfd.
//!
//! This is the only file that sends a signal. Right before each one the identity and every protection are checked
//! again, with no await in between. A stopped process would keep SIGTERM pending for good, so SIGCONT follows it, as
//! systemd does it. Start reading at [`end`].

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::guard::Protections;
use super::outcome::{Bystander, Check, Outcome, OutcomeKind};
use super::victim::{Refusal, Victim};
use crate::process::{Identity, Limits, ProcRoot};
use crate::source::ExitStatus;

/// How long a process may take to die of SIGKILL: it cannot refuse, but the kernel may have memory to give back and
/// a sleep in the disk's queue to finish.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// How long a dead process's parent is given to collect it before it is called a zombie, and how often it is looked.
const UNTIL_REAPED: Duration = Duration::from_millis(250);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How a kill goes about it.
#[derive(Clone, Debug)]
pub struct KillOptions {
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// Whether SIGKILL follows at all.
    pub escalate: bool,
    /// Check everything, and signal nobody.
    pub dry_run: bool,
    /// What must not be killed.
    pub protections: Protections,
    /// Processes to be found alive afterwards.
    pub bystanders: Vec<Identity>,
}

impl Default for KillOptions {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            escalate: true,
            dry_run: false,
            protections: Protections::default(),
            bystanders: Vec::new(),
        }
    }
}

/// Takes hold of the process that `expected` describes and ends it. Whatever happens is an outcome.
pub async fn end(proc: &ProcRoot, expected: &Identity, options: &KillOptions) -> Outcome {
    match Victim::open(proc, expected) {
        Ok(victim) => kill(victim, options).await,
        Err(refusal) => refusal.into_outcome(expected),
    }
}

/// Ends a victim, and verifies its death.
///
/// Needs a tokio runtime with I/O and time. When the future is dropped, no further signal is sent.
pub async fn kill(victim: Victim, options: &KillOptions) -> Outcome {
    let mut outcome = Outcome::new(victim.identity().key, OutcomeKind::Failed, "");
    let before = Before::read(&victim);
    // Armed before the signal: afterwards there must be nothing left that can fail.
    // SAFETY: the descriptor is borrowed from `victim`, which outlives the watch and does not exchange it.
    let watch = match unsafe { AsyncFd::register_with_interest(victim.pidfd(), Interest::READABLE) } {
        Ok(watch) => watch,
        Err(error) => return failed(outcome, format!("watching the pidfd: {error}"), None),
    };
    let started = match terminate(&victim, options, &mut outcome) {
        Ok(started) => started,
        Err(stop) => return *stop,
    };
    outcome.memory = before.memory;
    let mut dead = wait(&victim, &watch, options.grace).await;
    if matches!(dead, Ok(false)) && options.escalate {
        match escalate(&victim, &mut outcome) {
            Ok(()) => dead = wait(&victim, &watch, AFTER_KILL).await,
            Err(detail) => return finish(&victim, options, failed(outcome, detail, None)),
        }
    }
    match dead {
        Ok(true) => {}
        Ok(false) => {
            let detail = survived(&victim, options, &outcome);
            return finish(&victim, options, failed(outcome, detail, None));
        }
        Err(error) => {
            let detail = format!("waiting on the pidfd: {error}");
            return finish(&victim, options, failed(outcome, detail, None));
        }
    }
    outcome.died_after_s = Some(started.elapsed());
    outcome.reaped = Some(reaped(&victim).await);
    verify_death(&victim, &before, &mut outcome);
    finish(&victim, options, outcome)
}

/// Checks everything and sends SIGTERM; what stands against it ends the action.
fn terminate(victim: &Victim, options: &KillOptions, outcome: &mut Outcome) -> Result<Instant, Box<Outcome>> {
    let refuse = |refusal: Refusal| Box::new(refusal.into_outcome(victim.identity()));
    let (now, checks) = victim.verify(&options.protections).map_err(refuse)?;
    outcome.checks = checks;
    let against: Vec<String> = outcome
        .checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| format!("{}: {}", check.check, check.detail))
        .collect();
    if !against.is_empty() {
        outcome.kind = OutcomeKind::Refused;
        outcome.detail = format!("pid {} is protected: {}", outcome.pid, against.join("; "));
        return Err(Box::new(outcome.clone()));
    }
    if options.dry_run {
        outcome.kind = OutcomeKind::DryRun;
        outcome.detail = format!("dry run: SIGTERM would have been sent to pid {}", outcome.pid);
        return Err(Box::new(finish(victim, options, outcome.clone())));
    }
    #[expect(clippy::disallowed_methods, reason = "how long a process took to die is no part of a diagnosis")]
    let started = Instant::now();
    if let Err(error) = pidfd_send_signal(victim.pidfd(), Signal::TERM) {
        return Err(Box::new(not_sent(outcome.clone(), "SIGTERM", error)));
    }
    outcome.signal = Some("SIGTERM");
    if now.state == 'T' {
        let woken = pidfd_send_signal(victim.pidfd(), Signal::CONT);
        let detail = match woken {
            Ok(()) => "it was stopped: SIGCONT sent after SIGTERM, so that it can act on it".to_owned(),
            Err(error) => format!("it was stopped, and SIGCONT could not be sent: {error}"),
        };
        outcome.checks.push(Check::new("stopped", woken.is_ok(), detail));
    }
    Ok(started)
}

fn not_sent(mut outcome: Outcome, signal: &str, error: rustix::io::Errno) -> Outcome {
    if error == rustix::io::Errno::SRCH {
        outcome.kind = OutcomeKind::AlreadyGone;
        outcome.detail = format!("pid {} ended on its own before {signal} was sent", outcome.pid);
        return outcome;
    }
    let remedy = (error == rustix::io::Errno::PERM)
        .then_some("run leakscope as root, as the process's own user, or with CAP_KILL");
    let detail = format!("sending {signal} to pid {}: {error}", outcome.pid);
    failed(outcome, detail, remedy)
}

fn failed(mut outcome: Outcome, detail: String, remedy: Option<&str>) -> Outcome {
    outcome.kind = OutcomeKind::Failed;
    outcome.detail = detail;
    outcome.remedy = remedy.map(str::to_owned);
    outcome
}

/// Whether the process died within `limit`.
async fn wait<T: std::os::fd::AsRawFd>(
    victim: &Victim,
    watch: &AsyncFd<T>,
    limit: Duration,
) -> io::Result<bool> {
    let death = async {
        while !victim.is_dead()? {
            watch.readable().await?.clear_ready();
        }
        Ok(())
    };
    match timeout(limit, death).await {
        Ok(result) => result.map(|()| true),
        // The timer and the death may come together.
        Err(_) => victim.is_dead(),
    }
}

/// SIGKILL, unless the process became another program on SIGTERM: that one was not judged. A process on its way out
/// has lost its program and its command line; that is no other program.
fn escalate(victim: &Victim, outcome: &mut Outcome) -> Result<(), String> {
    match victim.verify_identity() {
        Ok(_) | Err(Refusal::AlreadyGone(_)) => {}
        Err(Refusal::Changed(_)) if leaving(victim) => {}
        Err(refusal) => return Err(format!("no SIGKILL after SIGTERM: {refusal}")),
    }
    match pidfd_send_signal(victim.pidfd(), Signal::KILL) {
        Ok(()) => {
            outcome.signal = Some("SIGKILL");
            outcome.escalated = true;
            Ok(())
        }
        Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(format!("sending SIGKILL to pid {}: {error}", outcome.pid)),
    }
}

fn leaving(victim: &Victim) -> bool {
    let expected = victim.identity();
    victim.proc().identify(expected.key.pid).is_ok_and(|now| {
        now.key == expected.key && now.exe.is_none() && now.cmdline.is_empty() && !expected.cmdline.is_empty()
    })
}

fn survived(victim: &Victim, options: &KillOptions, outcome: &Outcome) -> String {
    let pid = outcome.pid;
    let state = match victim.proc().state(victim.identity().key) {
        Ok(Some('D')) => "state D, an uninterruptible sleep: it dies when its I/O ends".to_owned(),
        Ok(Some('t')) => "state t, held by a debugger".to_owned(),
        Ok(Some(state)) => format!("state {state}"),
        _ => "its state cannot be read".to_owned(),
    };
    if outcome.escalated {
        let waited = AFTER_KILL.as_secs();
        format!("pid {pid} is still alive {waited} s after SIGKILL ({state}; is its cgroup frozen?)")
    } else {
        format!("pid {pid} is still alive {:?} after SIGTERM ({state}), and is left so", options.grace)
    }
}

/// Whether the parent collects it within a moment.
async fn reaped(victim: &Victim) -> bool {
    let gone = async {
        while matches!(victim.proc().state(victim.identity().key), Ok(Some(_))) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    timeout(UNTIL_REAPED, gone).await.is_ok()
}

fn verify_death(victim: &Victim, before: &Before, outcome: &mut Outcome) {
    let pid = outcome.pid;
    let signal = outcome.signal.unwrap_or("a signal");
    outcome.kind = OutcomeKind::Killed;
    outcome.exit = exit_status(victim);
    outcome.memory_returned_bytes = outcome.memory.footprint_before_bytes;
    outcome.memory.host_available_after_bytes = victim.proc().available();
    outcome.memory.cgroup_after_bytes = before.cgroup.as_deref().and_then(Limits::usage);
    let (detail, check) = if outcome.reaped == Some(false) {
        let detail = format!("pid {pid} died of {signal}; it stays a zombie until its parent collects it");
        (detail, "the pidfd reports the end of every thread; /proc still shows the zombie")
    } else {
        (
            format!("pid {pid} died of {signal}"),
            "the pidfd reports the end of every thread; /proc no longer has it",
        )
    };
    outcome.detail = detail;
    outcome.checks.push(Check::new("death", true, check));
}

/// Adds how the bystanders are.
fn finish(victim: &Victim, options: &KillOptions, mut outcome: Outcome) -> Outcome {
    outcome.bystanders = options.bystanders.iter().map(|who| bystander(victim.proc(), who)).collect();
    outcome
}

fn bystander(proc: &ProcRoot, before: &Identity) -> Bystander {
    let now = proc.identify(before.key.pid).ok().filter(|now| !now.zombie);
    let same_process = now.as_ref().is_some_and(|now| now.key == before.key);
    Bystander { pid: before.key.pid, alive: now.is_some(), same_process }
}

/// What is measured before the signal, to be compared afterwards.
struct Before {
    memory: super::outcome::MemoryReturn,
    cgroup: Option<PathBuf>,
}

impl Before {
    fn read(victim: &Victim) -> Self {
        let proc = victim.proc();
        let pid = victim.identity().key.pid;
        let held = proc.memory(pid).ok().flatten();
        let membership = proc.membership(pid).ok();
        let limits = Limits::discover(proc).ok();
        let cgroup = limits.zip(membership).and_then(|(limits, membership)| limits.directory(&membership));
        let memory = super::outcome::MemoryReturn {
            rss_before_bytes: held.map(|memory| memory.rss()),
            footprint_before_bytes: held.map(|memory| memory.footprint()),
            host_available_before_bytes: proc.available(),
            cgroup_before_bytes: cgroup.as_deref().and_then(Limits::usage),
            ..Default::default()
        };
        Self { memory, cgroup }
    }
}

/// How a dead process ended: from the pidfd where the kernel keeps it there (Linux 6.15), from the zombie, or, for a
/// child of our own, from `waitid` without collecting it.
fn exit_status(victim: &Victim) -> Option<ExitStatus> {
    let code = pidfd_exit_code(victim).or_else(|| victim.proc().zombie_exit_code(victim.identity().key));
    if let Some(code) = code {
        return Some(ExitStatus::from_exit_code(code));
    }
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let status = waitid(WaitId::PidFd(victim.pidfd()), options).ok().flatten()?;
    let code = status.exit_status().and_then(|code| u8::try_from(code).ok()).map(ExitStatus::Code);
    code.or_else(|| {
        status.terminating_signal().and_then(|signal| u8::try_from(signal).ok()).map(ExitStatus::Signal)
    })
}

/// `PIDFD_GET_INFO` (include/uapi/linux/pidfd.h): `_IOWR(0xFF, 11, struct pidfd_info)` in its first, 64-byte version.
const PIDFD_GET_INFO: Opcode = opcode::read_write::<libc::pidfd_info>(0xff, 11);

fn pidfd_exit_code(victim: &Victim) -> Option<u32> {
    // SAFETY: the struct consists of integers, for which all bits zero is a value.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(libc::PIDFD_INFO_EXIT);
    // SAFETY: the opcode belongs to this struct, whose size it carries.
    let request = unsafe { Updater::<PIDFD_GET_INFO, libc::pidfd_info>::new(&mut info) };
    // SAFETY: the request writes into `info` alone, which outlives the call.
    unsafe { ioctl(victim.pidfd(), request) }.ok()?;
    // The kernel sets the bit only when it has the exit code, which is when the process was collected.
    let known = info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
    known.then(|| u32::try_from(info.exit_code).ok()).flatten()
}

#[cfg(test)]
#[path = "kill_tests.rs"]
mod tests;
