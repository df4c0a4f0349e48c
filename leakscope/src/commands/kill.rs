//! `leakscope kill`: a verified kill on its own, of the process that the caller names.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::Notify;

use super::Interrupt;
use crate::action::{self, Check, KillOptions, Lookalikes, Outcome, OutcomeKind, hidden_from};
use crate::fault::Remedy;
use crate::leak::Verdict;
use crate::monitor::Monitor;
use crate::process::{Directory, Identity, PidfileProblem, ProcRoot, pidfile_process, vanished};
use crate::source::{Event, ExitStatus, Source};
use crate::ui::Ui;
use crate::units::{Pid, ProcKey};

const LOOK_AGAIN: &str = "look it up again (ps, pgrep): it may have ended";
const RIGHT_FILE: &str = "look the process up (ps, pgrep) and give its pid, or name the right pid file";
const BY_ROOT: &str = "run leakscope as root or as the process's own user: /proc is mounted with hidepid, which hides \
                       the processes of others";

/// Who is meant.
#[derive(Clone, Debug)]
pub enum Target {
    /// This pid.
    Pid(Pid),
    /// The pid in this file.
    Pidfile(PathBuf),
}

/// Who the target is.
///
/// # Errors
/// When there is no such process, or the pid file cannot be used.
pub fn identify(root: &ProcRoot, target: &Target) -> anyhow::Result<Identity> {
    match target {
        Target::Pid(pid) => root.identify(*pid).or_else(|error| match hidden_from(root, *pid) {
            Some(hidden) if vanished(&error) => Err(anyhow!(hidden)).fix(BY_ROOT),
            _ if vanished(&error) => Err(anyhow!("pid {pid}: no such process")).fix(LOOK_AGAIN),
            _ if error.kind() == ErrorKind::PermissionDenied => {
                Err(anyhow!("identifying pid {pid}: {error}")).fix(BY_ROOT)
            }
            _ => Err(anyhow!("identifying pid {pid}: {error}")).fix(LOOK_AGAIN),
        }),
        Target::Pidfile(path) => pidfile_process(root, path).or_else(|error| match &error.problem {
            // There is no such process only where the kernel knows none either; a zombie is known to both.
            PidfileProblem::Stale(pid) if root.identify(*pid).is_err() => match hidden_from(root, *pid) {
                Some(hidden) => Err(anyhow!("pid file {}: {hidden}", path.display())).fix(BY_ROOT),
                None => Err(error).fix(RIGHT_FILE),
            },
            PidfileProblem::Unknown(_, why) if why.kind() == ErrorKind::PermissionDenied => {
                Err(error).fix(BY_ROOT)
            }
            _ => Err(error).fix(RIGHT_FILE),
        }),
    }
}

/// Watches the victim until its leak is confirmed, for at most twice as long as that takes at best; the verdict as a check.
///
/// # Errors
/// When the source can no longer observe, or somebody interrupts.
pub async fn judge<S: Source, D: Directory>(
    monitor: &mut Monitor<S, D>,
    key: ProcKey,
    confirm: Duration,
    ui: &mut Ui,
) -> anyhow::Result<Check> {
    let mut interrupt = Interrupt::new()?;
    let check = |passed, detail: String| Check { check: "verdict", passed, detail };
    ui.say(&format!("watching pid {} for {} s before anything is done", key.pid, confirm.as_secs_f64()));
    loop {
        let tick = tokio::select! {
            biased;
            () = interrupt.received() => anyhow::bail!("interrupted before the leak of pid {} was confirmed", key.pid),
            tick = monitor.step() => tick?,
        };
        let seconds = monitor.elapsed().as_secs_f64();
        let verdict = monitor.process(key).map(|tracked| tracked.verdict().clone());
        let rate =
            |verdict: &Verdict| verdict.rate.map_or_else(String::new, |rate| format!(" at {}", rate.mean));
        match verdict {
            Some(verdict) if verdict.confirmed => {
                let clean = verdict.clean_growth.as_secs_f64();
                return Ok(check(
                    true,
                    format!("it leaks{}, confirmed by {clean:.0} s of clean growth", rate(&verdict)),
                ));
            }
            verdict if tick.is_none() || monitor.nobody_left() || monitor.elapsed() >= confirm * 2 => {
                let state = verdict.as_ref().map_or("gone", |verdict| verdict.state.name());
                let rate = verdict.as_ref().map_or_else(String::new, rate);
                return Ok(check(
                    false,
                    format!("no leak was confirmed within {seconds:.0} s: it is {state}{rate}"),
                ));
            }
            _ => {}
        }
    }
}

/// Whether what [`judge`] found is still so, by one more reading: right before the kill.
///
/// # Errors
/// When the source can no longer observe.
pub async fn still<S: Source, D: Directory>(
    monitor: &mut Monitor<S, D>,
    key: ProcKey,
    check: Check,
) -> anyhow::Result<Check> {
    monitor.step().await?;
    Ok(match monitor.process(key).map(|tracked| tracked.verdict()) {
        Some(verdict) if !verdict.confirmed => {
            let now = verdict.state.name();
            Check {
                passed: false,
                detail: format!("the leak was confirmed and no longer is: now {now}"),
                ..check
            }
        }
        // One that is gone is found to be so by the kill.
        _ => check,
    })
}

/// Kills the victim, verified, and says what came of it. `source` is asked how the kernel saw it end; where there is none,
/// the error says why, and so does the outcome. Ctrl-C calls the kill off: no further signal is sent.
///
/// # Errors
/// When no signal handler can be installed.
pub async fn run<S: Source>(
    victim: &Identity,
    how: &KillOptions,
    source: Result<S, String>,
) -> anyhow::Result<Outcome> {
    let root = ProcRoot::default();
    let mut interrupt = Interrupt::new()?;
    let mut exits = Exits { key: victim.key, source, seen: None };
    if !how.dry_run {
        // The first batch is everybody who is there: whose end is told later.
        exits.begin().await;
    }
    let how = KillOptions { bystanders: Lookalikes::of(&root, victim), ..how.clone() };
    let called_off = Notify::new();
    let mut ending = pin!(action::end(&root, victim, &how, called_off.notified()));
    // Loading the kernel side took its time, in which nobody was heard.
    tokio::task::yield_now().await;
    tokio::select! {
        biased;
        () = interrupt.received() => {
            return Ok(Outcome::refused(victim.key, "consent", "interrupted before a signal was sent"));
        }
        () = std::future::ready(()) => {}
    }
    let mut outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut ending => break outcome,
            () = interrupt.received() => {
                called_off.notify_one();
                break ending.await;
            }
            () = exits.batch() => {}
        }
    };
    if outcome.kind == OutcomeKind::Killed {
        match (exits.seen, &exits.source) {
            (Some(Some(status)), _) => outcome.confirm_exit(victim.key, status),
            (_, Err(why)) => outcome.without_exit_event(why),
            (Some(None), _) => outcome.without_exit_event("it carried no status"),
            (None, _) => outcome.without_exit_event("none came"),
        }
    }
    Ok(outcome)
}

/// What a source says of one process's end.
struct Exits<S> {
    key: ProcKey,
    source: Result<S, String>,
    seen: Option<Option<ExitStatus>>,
}

impl<S: Source> Exits<S> {
    /// Takes the first batch, if there is to be one.
    async fn begin(&mut self) {
        if self.source.is_ok() {
            self.batch().await;
        }
    }

    /// Takes the next batch. A source that fails is given up; without one this waits for good.
    async fn batch(&mut self) {
        let batch = match &mut self.source {
            Ok(source) => source.next_batch().await,
            Err(_) => return std::future::pending().await,
        };
        match batch {
            Ok(Some(batch)) => {
                for event in batch.events {
                    if let Event::Exit { key, status } = event
                        && key == self.key
                    {
                        self.seen = Some(status);
                    }
                }
            }
            Ok(None) => self.source = Err("the source ended".to_owned()),
            Err(error) => self.source = Err(format!("{error:#}")),
        }
    }
}
