//! `leakscope hunt`: watch, confirm, and (only when told to) kill; what comes out is a [`Hunted`], from which the JSON
//! object, the screen and the incident report are made.
//!
//! It observes until the first leak is confirmed (or until the time is up, with `--all`). A kill that fails is an outcome
//! and not an error: the hunt goes on. Start reading at [`run`].

mod beside;
mod chase;
mod evidence;
mod killing;
mod thinned;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::action::{KillOptions, Measure, Outcome, Restraints};
use crate::monitor::{Finding, Group, Monitor, Tick};
use crate::process::Directory;
use crate::report::{AnatomyLine, OomChoice};
use crate::source::{HostMemory, Lost, Source, SourceKind};
use crate::ui::Ui;
use crate::units::{Bytes, Pid, ProcKey};

/// Whether and how a confirmed leak is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillMode {
    /// It is left alone.
    Never,
    /// After somebody said yes.
    Ask,
    /// At once.
    Yes,
}

/// What a hunt is told.
pub struct Options {
    /// How long clean growth must have lasted before a leak counts as confirmed.
    pub confirm: Duration,
    /// When to give up.
    pub timeout: Duration,
    /// How often the progress is shown.
    pub interval: Duration,
    /// Whether to go on after the first confirmed leak.
    pub all: bool,
    /// Whether and how a confirmed leak is killed.
    pub kill: KillMode,
    /// What is done instead of a kill, and where it is written down how to undo it.
    pub instead: Option<(Measure, Restraints)>,
    /// How a kill goes, and who must not be killed.
    pub how: KillOptions,
    /// For how long the process that is started in a victim's place is watched.
    pub follow: Option<Duration>,
    /// Where the evidence of each confirmed leak is kept; nowhere unless that was asked for.
    pub evidence: Option<PathBuf>,
    /// The hunt is about these processes only, whatever else is watched: the lab's guard against accusing or killing what
    /// it did not start. `None` is everybody.
    pub only: Option<BTreeSet<Pid>>,
}

impl Options {
    /// Whether the hunt is about this process.
    fn is_about(&self, key: ProcKey) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&key.pid))
    }

    /// Whether the hunt is about this service.
    fn is_about_group(&self, group: &Group) -> bool {
        group.workers().all(|key| self.is_about(key))
    }
}

/// What came of a hunt.
#[derive(Debug)]
pub struct Hunted {
    /// The date of the first batch.
    pub started: Timestamp,
    /// The date of the last one.
    pub finished: Timestamp,
    /// How long was observed.
    pub observed: Duration,
    /// The host's memory at the start.
    pub host_before: HostMemory,
    /// The host's memory at the end.
    pub host_after: HostMemory,
    /// Its available memory over time, oldest first, thinned.
    pub host_available: Vec<(Timestamp, Bytes)>,
    /// What observed.
    pub source: SourceKind,
    /// What was lost.
    pub lost: Lost,
    /// Processes that leak or might, the confirmed ones as they were when that was decided, the worst first.
    pub findings: Vec<Finding>,
    /// Services whose workers grow together, the confirmed ones first.
    pub groups: Vec<Group>,
    /// What the confirmed leaks consisted of.
    pub anatomies: BTreeMap<ProcKey, AnatomyLine>,
    /// What was done.
    pub actions: Vec<(ProcKey, Outcome)>,
    /// Confirmed leaks whose process ended by itself, or became another program.
    pub ended: Vec<ProcKey>,
    /// The processes that were considered and cleared, the fastest growing and then the largest first.
    pub cleared: Vec<Finding>,
    /// The footprints of those among them that look like a suspect, oldest first, thinned.
    pub beside: BTreeMap<ProcKey, Vec<(Timestamp, Bytes)>>,
    /// How many processes were watched at some time.
    pub watched: usize,
    /// Whom the kernel's OOM killer would have chosen when the first leak was confirmed.
    pub oom_choice: Option<OomChoice>,
    /// What happened when, in the order of the dates.
    pub timeline: Vec<(Timestamp, String)>,
    /// How many entries were left out in the middle of it.
    pub timeline_left_out: usize,
    /// Whether it was ended by Ctrl-C or SIGTERM.
    pub interrupted: bool,
}

impl Hunted {
    /// Whether a confirmed leak is still there: neither killed nor ended by itself.
    pub fn leak_remains(&self) -> bool {
        let dead = |key: ProcKey| {
            self.ended.contains(&key)
                || self.actions.iter().any(|(victim, outcome)| *victim == key && outcome.is_dead())
        };
        self.findings.iter().any(|finding| finding.verdict.confirmed && !dead(finding.key))
            || self.groups.iter().any(|group| group.verdict.confirmed)
    }

    /// Whether a leak was confirmed.
    pub fn leak_confirmed(&self) -> bool {
        self.findings.iter().any(|finding| finding.verdict.confirmed)
            || self.groups.iter().any(|group| group.verdict.confirmed)
    }
}

/// Sees each tick after it was judged, with the host's memory at that moment.
pub type EveryTick<'a> = dyn FnMut(&Tick, &HostMemory) -> anyhow::Result<()> + 'a;

/// Hunts until a leak is dealt with, the time is up, everybody who was named has ended, or somebody interrupts.
///
/// # Errors
/// When the source can no longer observe, or `every_tick` fails.
pub async fn run<S: Source, D: Directory>(
    monitor: &mut Monitor<S, D>,
    options: &Options,
    ui: &mut Ui,
    every_tick: &mut EveryTick<'_>,
) -> anyhow::Result<Hunted> {
    let mut chase = chase::Chase::new(monitor, options, ui, every_tick)?;
    chase.until_over().await?;
    Ok(chase.finish())
}
