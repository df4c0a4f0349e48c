//! `leakscope demo`: the whole job on the lab. It watches the host as a hunt does, and may kill only what it started.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::bail;

use super::hunt::{self, Hunted, KillMode};
use super::lab::Lab;
use crate::action::{KillOptions, Protections};
use crate::monitor::Monitor;
use crate::process::Directory;
use crate::source::Source;
use crate::ui::Ui;

/// What the lab is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long clean growth must have lasted before the leak counts as confirmed.
    pub confirm: Duration,
}

/// What came of the lab.
#[derive(Debug)]
pub struct Shown {
    /// The hunt.
    pub hunted: Hunted,
    /// Whether the right process was killed and the other one lives.
    pub right: bool,
}

/// Hunts in the lab.
///
/// # Errors
/// As [`hunt::run`], and when the lab's log cannot be written.
pub async fn run<S: Source, D: Directory>(
    monitor: &mut Monitor<S, D>,
    lab: &mut Lab,
    options: &Options,
    ui: &mut Ui,
) -> anyhow::Result<Shown> {
    let protections = Protections::default().pidfiles([lab.paths.legit_pid.clone()]);
    let hunt_options = hunt::Options {
        follow: None,
        evidence: None,
        instead: None,
        confirm: options.confirm,
        timeout: (options.confirm * 2).max(Duration::from_secs(120)),
        interval: Duration::from_secs(1),
        all: false,
        kill: KillMode::Yes,
        how: KillOptions { protections, ..KillOptions::default() },
        only: Some(BTreeSet::from([lab.leaker, lab.legit])),
    };
    ui.say(&format!(
        "lab: cache_service.py (pid {}, {}) adds 10 KB five times a second and removes none",
        lab.leaker,
        lab.paths.leaky_pid.display()
    ));
    ui.say(&format!(
        "lab: legit_app.py (pid {}, {}) sleeps; both are python3",
        lab.legit,
        lab.paths.legit_pid.display()
    ));
    ui.say(&format!(
        "lab: a leak counts as confirmed after {:.0} s of clean growth here; a real hunt waits for 1 min, or 5 min before \
         it kills unasked (--confirm)",
        options.confirm.as_secs_f64()
    ));
    let hunted =
        hunt::run(monitor, &hunt_options, ui, &mut |tick, host| lab.log_memory(tick.at, tick.wall, host))
            .await?;
    if hunted.interrupted {
        bail!("interrupted before the lab was through");
    }
    let killed_leaker =
        hunted.actions.iter().any(|(key, outcome)| key.pid == lab.leaker && outcome.is_dead());
    let legit_lives = hunted
        .actions
        .iter()
        .flat_map(|(_, outcome)| &outcome.bystanders)
        .any(|bystander| bystander.pid == lab.legit && bystander.alive && bystander.same_process);
    Ok(Shown { right: killed_leaker && legit_lives, hunted })
}
