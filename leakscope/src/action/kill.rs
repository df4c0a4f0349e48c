//! The verified kill: SIGTERM, grace, SIGKILL, and the proof of the death, all on one pidfd.
//!
//! This file and `restrain.rs` are the only ones that send a signal. Right before each one the identity and every protection
//! are checked again, with no await in between; a last look, which allocates nothing, comes directly before the call
//! ([`send`]). A stopped process would keep SIGTERM pending for good, so SIGCONT follows it, as systemd does it. Start
//! reading at [`end`].

use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::bystander::Lookalikes;
use super::exit::exit_status;
use super::guard::Protections;
use super::memory::{Before, judge};
use super::mrelease::{STUCK_AFTER, release};
use super::outcome::{Check, Outcome, OutcomeKind};
use super::still_alive;
use super::successor::Succession;
use super::via::{NotAsked, STOPS_WITHIN, Via, ask_systemd, others_of, owners_way, unit_of};
use super::victim::{Refusal, Victim};
use crate::process::{Identity, ProcRoot};
use crate::source::now;
use crate::units::Moment;

/// How long a process may take to die of SIGKILL: it cannot refuse, but the kernel may have memory to give back and
/// a sleep in the disk's queue to finish.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// How long a dead process's parent is given to collect it before it is called a zombie, and how often it is looked.
const UNTIL_REAPED: Duration = Duration::from_millis(250);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What helps where systemd cannot be asked.
const BY_SIGNAL: &str = "end it with --via signal, or ask systemd by hand";
/// What a signal that was sent already is given when the kill is called off: most processes need a millisecond.
const LAST_LOOK: Duration = Duration::from_millis(250);

/// How a kill goes about it.
#[derive(Clone, Debug)]
pub struct KillOptions {
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// Whether SIGKILL follows at all.
    pub escalate: bool,
    /// By whose hand.
    pub via: Via,
    /// Check everything, and signal nobody.
    pub dry_run: bool,
    /// What must not be killed.
    pub protections: Protections,
    /// Processes to be found alive afterwards.
    pub bystanders: Lookalikes,
    /// How long after the death it is looked whether somebody starts it again: systemd waits 100 ms unless told
    /// otherwise, and a second or two is what units that were told have.
    pub successor_within: Duration,
}

impl Default for KillOptions {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            escalate: true,
            via: Via::default(),
            dry_run: false,
            protections: Protections::default(),
            bystanders: Lookalikes::default(),
            successor_within: Duration::from_secs(4),
        }
    }
}

/// Takes hold of the process that `expected` describes and ends it. Whatever happens is an outcome. When `cancel`
/// completes, no further signal is sent, and the outcome says how it stood then.
pub async fn end(
    proc: &ProcRoot,
    expected: &Identity,
    options: &KillOptions,
    cancel: impl Future<Output = ()>,
) -> Outcome {
    match Victim::open(proc, expected) {
        Ok(victim) => kill(victim, options, cancel).await,
        Err(refusal) => refused(proc, expected, refusal).await,
    }
}

/// A refusal as an outcome; one that is on its way out is given a moment to be gone, for that is the better answer.
async fn refused(proc: &ProcRoot, expected: &Identity, mut refusal: Refusal) -> Outcome {
    let gone = async {
        let refusal = &mut refusal;
        while matches!(refusal, Refusal::Ending(_)) {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Err(now) = Victim::open(proc, expected) {
                *refusal = now;
            }
        }
    };
    let _ = timeout(LAST_LOOK, gone).await;
    refusal.into_outcome(expected)
}

/// Ends a victim, verifies its death, and looks who is started in its place.
///
/// Needs a tokio runtime with I/O and time. When the future is dropped, no further signal is sent.
pub async fn kill(victim: Victim, options: &KillOptions, cancel: impl Future<Output = ()>) -> Outcome {
    let mut cancel = pin!(cancel);
    let mut outcome = Outcome::new(victim.identity().key, OutcomeKind::Failed, "");
    let before = Before::read(&victim);
    // Armed before the signal: afterwards there must be nothing left that can fail.
    // SAFETY: the descriptor is borrowed from `victim`, which outlives the watch and does not exchange it.
    let watch = match unsafe { AsyncFd::register_with_interest(victim.pidfd(), Interest::READABLE) } {
        Ok(watch) => watch,
        Err(error) => return failed(outcome, format!("watching the pidfd: {error}"), None),
    };
    let first = match options.via.verb() {
        None => terminate(&victim, options, &mut outcome),
        Some(verb) => through_systemd(&victim, options, verb, &mut outcome, cancel.as_mut()).await,
    };
    let signalled = match first {
        Ok(signalled) => signalled,
        Err(Stopped::Refused(refusal)) => return refused(victim.proc(), victim.identity(), refusal).await,
        Err(Stopped::With(outcome)) => return *outcome,
    };
    outcome.memory = before.memory;
    // systemd has a grace and a SIGKILL of its own.
    let ours = outcome.via.is_none();
    let grace = if ours { options.grace } else { STOPS_WITHIN };
    let mut ended = wait(&victim, &watch, grace, cancel.as_mut()).await;
    if matches!(ended, Ok(Waited::Alive)) && ours && options.escalate {
        match escalate(&victim, options, &mut outcome) {
            Ok(()) => {
                ended = wait(&victim, &watch, STUCK_AFTER, cancel.as_mut()).await;
                if matches!(ended, Ok(Waited::Alive)) {
                    outcome.checks.extend(release(&victim).await);
                    ended = wait(&victim, &watch, AFTER_KILL - STUCK_AFTER, cancel.as_mut()).await;
                }
            }
            Err(detail) => return finish(&victim, options, failed(outcome, detail, None)),
        }
    }
    let cancelled = match ended {
        Ok(Waited::Dead { cancelled }) => cancelled,
        other => {
            let detail = not_dead(&victim, options, &outcome, other);
            return finish(&victim, options, failed(outcome, detail, None));
        }
    };
    let (died, died_at) = now();
    outcome.died_after_s = Some(died.since(signalled));
    outcome.died_at = Some(died_at);
    outcome.reaped = Some(reaped(&victim).await);
    verify_death(&victim, &mut outcome);
    outcome.memory = before.after(&victim, died).await;
    let (returned, check) = judge(&outcome.memory);
    outcome.memory_returned_bytes = returned;
    outcome.checks.extend(check);
    if !cancelled {
        let succession =
            Succession::new(victim.proc(), victim.identity(), &options.bystanders, signalled, died);
        tokio::select! {
            biased;
            () = cancel => {}
            found = succession.wait(options.successor_within) => outcome.respawned_as = found,
        }
    }
    finish(&victim, options, outcome)
}

/// What ended an action before its first signal.
enum Stopped {
    Refused(Refusal),
    With(Box<Outcome>),
}

/// Checks everything that must hold before `what` is done, which a dry run ends with.
fn allowed(
    victim: &Victim,
    options: &KillOptions,
    what: &str,
    more: Option<Check>,
    outcome: &mut Outcome,
) -> Result<Identity, Stopped> {
    let with = |outcome: Outcome| Stopped::With(Box::new(outcome));
    let (judged, checks) = victim.verify(&options.protections).map_err(Stopped::Refused)?;
    outcome.checks = checks;
    if options.via == Via::Auto {
        outcome.checks.extend(owners_way(victim.identity()));
    }
    outcome.checks.extend(more);
    match stops_here(outcome, options.dry_run, what) {
        None => Ok(judged),
        Some(OutcomeKind::DryRun) => Err(with(finish(victim, options, outcome.clone()))),
        Some(_) => Err(with(outcome.clone())),
    }
}

/// What an action that was checked comes to before `what` is done: refused where a check speaks against it, or a dry run;
/// `None` when it is to be done.
pub(super) fn stops_here(outcome: &mut Outcome, dry_run: bool, what: &str) -> Option<OutcomeKind> {
    let (kind, detail) = match against(&outcome.checks) {
        Some(against) => (OutcomeKind::Refused, format!("pid {} is protected: {against}", outcome.pid)),
        None if dry_run => (OutcomeKind::DryRun, format!("dry run: {what}")),
        None => return None,
    };
    (outcome.kind, outcome.detail) = (kind, detail);
    Some(kind)
}

/// Checks everything and asks systemd to end the victim's unit; what stands against it ends the action.
async fn through_systemd(
    victim: &Victim,
    options: &KillOptions,
    verb: &str,
    outcome: &mut Outcome,
    cancel: Pin<&mut impl Future<Output = ()>>,
) -> Result<Moment, Stopped> {
    let with = |outcome: Outcome| Stopped::With(Box::new(outcome));
    let refused = |why: String| with(Outcome::refused(victim.identity().key, "via", why));
    let unit = tokio::select! {
        biased;
        () = cancel => return Err(refused("interrupted before systemd was asked".to_owned())),
        unit = unit_of(victim) => unit,
    };
    let unit = match unit {
        Ok(unit) => unit,
        Err(NotAsked::Refused(why)) => return Err(refused(why)),
        Err(NotAsked::Unable(why)) => return Err(with(failed(outcome.clone(), why, Some(BY_SIGNAL)))),
    };
    let asked = format!("systemctl {verb} {unit}");
    let others = others_of(victim, &unit, &options.protections);
    allowed(victim, options, &format!("{asked} would have been run"), Some(others), outcome)?;
    victim.last_look().map_err(Stopped::Refused)?;
    let (began, at) = now();
    let detail = match ask_systemd(verb, &unit).await {
        Ok(()) => format!("{asked} was handed over at {at}"),
        // The job may be under way: the pidfd tells.
        Err(error) if error.maybe => error.why,
        Err(error) => return Err(with(failed(outcome.clone(), error.why, Some(BY_SIGNAL)))),
    };
    outcome.via = Some(asked);
    outcome.checks.push(Check::new("via", true, detail));
    Ok(began)
}

/// Checks everything and sends SIGTERM; what stands against it ends the action.
fn terminate(victim: &Victim, options: &KillOptions, outcome: &mut Outcome) -> Result<Moment, Stopped> {
    let with = |outcome: Outcome| Stopped::With(Box::new(outcome));
    let what = format!("SIGTERM would have been sent to pid {}", outcome.pid);
    let judged = allowed(victim, options, &what, None, outcome)?;
    let (signalled, at) = now();
    send(victim, Signal::TERM).map_err(|not_sent| match not_sent {
        NotSent::Refused(refusal) => Stopped::Refused(refusal),
        NotSent::Failed(error) => with(failed_to_send(outcome.clone(), "SIGTERM", error)),
    })?;
    outcome.sent("SIGTERM", at);
    if judged.state == 'T' {
        let woken = pidfd_send_signal(victim.pidfd(), Signal::CONT);
        let detail = match woken {
            Ok(()) => "it was stopped: SIGCONT sent after SIGTERM, so that it can act on it".to_owned(),
            Err(error) => format!("it was stopped, and SIGCONT could not be sent: {error}"),
        };
        outcome.checks.push(Check::new("stopped", woken.is_ok(), detail));
    }
    Ok(signalled)
}

/// Why a signal was not sent.
enum NotSent {
    Refused(Refusal),
    Failed(rustix::io::Errno),
}

/// The last look and the signal. Between the two lies nothing but the way into the kernel: an exec within that
/// microsecond is the one thing that nobody can exclude from outside.
fn send(victim: &Victim, signal: Signal) -> Result<(), NotSent> {
    victim.last_look().map_err(NotSent::Refused)?;
    pidfd_send_signal(victim.pidfd(), signal).map_err(NotSent::Failed)
}

/// The checks that speak against a signal, in words.
fn against(checks: &[Check]) -> Option<String> {
    let failed: Vec<String> = checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| format!("{}: {}", check.check, check.detail))
        .collect();
    (!failed.is_empty()).then(|| failed.join("; "))
}

fn failed_to_send(mut outcome: Outcome, signal: &str, error: rustix::io::Errno) -> Outcome {
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

/// What was waited for.
enum Waited {
    /// It is dead; and whether the kill had been called off by then.
    Dead { cancelled: bool },
    /// It is alive, and the time is up.
    Alive,
    /// It is alive, and the kill was called off.
    Cancelled,
}

/// Waits for the death for at most `limit`, or until `cancel`, which a last look follows.
async fn wait<T: std::os::fd::AsRawFd>(
    victim: &Victim,
    watch: &AsyncFd<T>,
    limit: Duration,
    cancel: Pin<&mut impl Future<Output = ()>>,
) -> io::Result<Waited> {
    let mut death = pin!(async {
        while !victim.is_dead()? {
            watch.readable().await?.clear_ready();
        }
        Ok(())
    });
    let cancelled = tokio::select! {
        biased;
        result = &mut death => return result.map(|()| Waited::Dead { cancelled: false }),
        () = cancel => true,
        () = tokio::time::sleep(limit) => false,
    };
    if cancelled && let Ok(result) = timeout(LAST_LOOK, death).await {
        return result.map(|()| Waited::Dead { cancelled });
    }
    // The timer and the death may come together.
    match (victim.is_dead()?, cancelled) {
        (true, cancelled) => Ok(Waited::Dead { cancelled }),
        (false, true) => Ok(Waited::Cancelled),
        (false, false) => Ok(Waited::Alive),
    }
}

/// SIGKILL, unless the process became another program on SIGTERM, or somebody put it under protection since: that one
/// was not judged. A process on its way out is no other program.
fn escalate(victim: &Victim, options: &KillOptions, outcome: &mut Outcome) -> Result<(), String> {
    let checks = match victim.verify(&options.protections) {
        Ok((_, checks)) => checks,
        // Dead without SIGKILL: the wait that follows sees it at once.
        Err(Refusal::AlreadyGone(_)) => return Ok(()),
        Err(Refusal::Ending(_)) => options.protections.check(victim.proc(), victim.identity()),
        Err(refusal) => return Err(format!("no SIGKILL after SIGTERM: {refusal}")),
    };
    if let Some(against) = against(&checks) {
        let pid = outcome.pid;
        outcome.checks.extend(checks.into_iter().filter(|check| !check.passed));
        return Err(format!("no SIGKILL after SIGTERM: pid {pid} is protected by now: {against}"));
    }
    let at = now().1;
    let sent = match send(victim, Signal::KILL) {
        // What is on its way out has no program to look at, and calls exec no more.
        Err(NotSent::Refused(Refusal::Ending(_))) => {
            pidfd_send_signal(victim.pidfd(), Signal::KILL).map_err(NotSent::Failed)
        }
        sent => sent,
    };
    match sent {
        Ok(()) => {
            outcome.sent("SIGKILL", at);
            outcome.escalated = true;
            let detail = "identity and every protection were checked again right before SIGKILL";
            outcome.checks.push(Check::new("before-sigkill", true, detail));
            Ok(())
        }
        Err(NotSent::Failed(rustix::io::Errno::SRCH) | NotSent::Refused(Refusal::AlreadyGone(_))) => Ok(()),
        Err(NotSent::Refused(refusal)) => Err(format!("no SIGKILL after SIGTERM: {refusal}")),
        Err(NotSent::Failed(error)) => Err(format!("sending SIGKILL to pid {}: {error}", outcome.pid)),
    }
}

/// Why a victim that was signalled is not known to be dead.
fn not_dead(victim: &Victim, options: &KillOptions, outcome: &Outcome, ended: io::Result<Waited>) -> String {
    let pid = outcome.pid;
    let cancelled = match ended {
        Ok(waited) => matches!(waited, Waited::Cancelled),
        Err(error) => return format!("waiting on the pidfd: {error}"),
    };
    let state = still_alive::state(victim);
    if let Some(via) = &outcome.via {
        let waited = STOPS_WITHIN.as_secs();
        let until =
            if cancelled { "when it was interrupted".to_owned() } else { format!("{waited} s later") };
        return format!("{via} was handed over, and pid {pid} is still alive {until} ({state})");
    }
    let signal = outcome.signal.unwrap_or("a signal");
    if cancelled {
        format!(
            "interrupted after {signal}: pid {pid} is still alive ({state}), and no further signal is sent"
        )
    } else if outcome.escalated {
        let waited = AFTER_KILL.as_secs();
        format!("pid {pid} is still alive {waited} s after SIGKILL ({state})")
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

fn verify_death(victim: &Victim, outcome: &mut Outcome) {
    outcome.kind = OutcomeKind::Killed;
    outcome.exit = exit_status(victim);
    outcome.tell_death();
    let check = match outcome.reaped {
        Some(false) => "the pidfd reports the end of every thread; /proc still shows the zombie",
        _ => "the pidfd reports the end of every thread; /proc no longer has it",
    };
    outcome.checks.push(Check::new("death", true, check));
}

/// Adds how the bystanders are, and after a signal whether they are well.
fn finish(victim: &Victim, options: &KillOptions, mut outcome: Outcome) -> Outcome {
    outcome.bystanders = options.bystanders.look(victim.proc());
    if outcome.signal.is_some() || outcome.via.is_some() {
        outcome.checks.push(options.bystanders.check(outcome.pid, &outcome.bystanders));
    }
    outcome
}

#[cfg(test)]
#[path = "kill_tests.rs"]
mod tests;
