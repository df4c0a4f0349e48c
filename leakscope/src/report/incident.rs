//! An incident as a value: everything that its report is written from, and nothing else.
//!
//! [`super::compose()`] turns it into a document. A field that was not measured is `None`, and the report then leaves out
//! the sentence that would need it.

use std::time::Duration;

use jiff::Timestamp;

use super::chart::Curve;
use super::hunt::{Hunt, Suspect};
use super::watch::SelfCost;
use crate::action::Outcome;
use crate::leak::State;
use crate::source::{HostMemory, Lost};
use crate::units::{Bytes, Pid, ProcKey};

/// A decision worth telling, and what came of it.
#[derive(Clone, Debug)]
pub struct Incident {
    /// What was found and done; its JSON is the report's JSON.
    pub hunt: Hunt,
    /// leakscope's version.
    pub version: String,
    /// How long clean growth had to last before a leak counted as confirmed.
    pub confirm: Duration,
    /// What leakscope was told to do about a leak.
    pub told: Told,
    /// The host's memory when the first leak was confirmed, or at the end of the hunt where none was.
    pub host_memory: HostMemory,
    /// What happened, oldest first.
    pub timeline: Vec<TimelineEntry>,
    /// How many entries were left out in the middle of it.
    pub timeline_left_out: usize,
    /// The processes that were considered, the weightiest first; those that never moved may be left out.
    pub candidates: Vec<Candidate>,
    /// How many processes were looked at, the ones left out of `candidates` included.
    pub considered: Option<u64>,
    /// What is known of a suspect beyond its JSON.
    pub stories: Vec<Story>,
    /// The host's available memory over time, oldest first.
    pub host_available: Curve,
    /// Whom the kernel's OOM killer would have chosen, by its own score.
    pub oom_choice: Option<OomChoice>,
    /// What was not seen, per cause.
    pub lost: Lost,
    /// What leakscope itself took.
    pub own: Option<SelfCost>,
}

impl Incident {
    /// Whom the report is about: the confirmed leaks, and whoever something was done about. Where there are none, the
    /// processes that were on their way to a leak.
    pub fn subjects(&self) -> Vec<&Suspect> {
        let acted = |suspect: &Suspect| self.hunt.actions.iter().any(|action| action.pid == suspect.pid);
        let suspects = &self.hunt.suspects;
        let certain: Vec<_> = suspects.iter().filter(|s| s.confirmed || acted(s)).collect();
        if certain.is_empty() {
            suspects.iter().filter(|s| s.verdict.severity() >= State::Suspect.severity()).collect()
        } else {
            certain
        }
    }

    /// What is known of a suspect beyond its JSON.
    pub fn story(&self, suspect: &Suspect) -> Option<&Story> {
        self.stories.iter().find(|story| story.key == suspect.key())
    }

    /// What was done about a suspect, in order.
    pub fn actions(&self, suspect: &Suspect) -> impl Iterator<Item = &Outcome> {
        self.hunt.actions.iter().filter(|action| action.pid == suspect.pid)
    }
}

/// What leakscope was told to do about a confirmed leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// To report it only.
    Observe,
    /// To ask before each kill (`--kill`).
    Ask,
    /// To kill it (`--kill --yes`).
    Kill,
    /// To do everything but kill (`--dry-run`).
    DryRun,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub text: String,
}

/// A process that was considered.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its pid.
    pub pid: Pid,
    /// Its command line.
    pub name: String,
    /// What was thought of it at the end.
    pub verdict: State,
    /// Whether it was confirmed as a leak.
    pub confirmed: bool,
    /// What it held at the end.
    pub footprint: Bytes,
    /// How much its footprint grew while it was watched; `None` where it was seen once.
    pub growth: Option<Bytes>,
    /// Why it was cleared, or why not.
    pub why: String,
}

/// What is known of a suspect beyond its JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// Which process.
    pub key: ProcKey,
    /// Its footprint when it was last thought steady; `None` where it grew from the first sample on.
    pub steady: Option<Bytes>,
    /// All that it gave back within its clean growth: the sum of the falls between samples. Zero is a measurement.
    pub given_back: Option<Bytes>,
    /// Its footprint over time, oldest first.
    pub footprint: Curve,
    /// When it was judged: the end of its clean growth.
    pub judged_at: Option<Timestamp>,
    /// Processes that look like it, over the same time.
    pub beside: Vec<Lookalike>,
    /// When the signal was sent that ended it.
    pub killed_at: Option<Timestamp>,
}

impl Story {
    /// A story without anything in it yet.
    pub fn new(key: ProcKey) -> Self {
        Self {
            key,
            steady: None,
            given_back: None,
            footprint: Vec::new(),
            judged_at: None,
            beside: Vec::new(),
            killed_at: None,
        }
    }
}

/// A process that could be taken for a suspect.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookalike {
    /// Its pid.
    pub pid: Pid,
    /// Its command line.
    pub name: String,
    /// What was thought of it at the end.
    pub verdict: State,
    /// Its footprint over time, oldest first.
    pub footprint: Curve,
}

/// The process with the highest `oom_score`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomChoice {
    /// Its pid.
    pub pid: Pid,
    /// Its command line.
    pub name: String,
    /// Its score.
    pub score: u32,
}
