//! What is thought of a process, and why: the values that the detector returns and every report shows.

use std::cmp::Ordering;
use std::time::Duration;

use serde::Serialize;

use crate::units::{Bytes, BytesPerSec};

/// What is thought of a process. The names are those of the JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Too little was seen to say anything.
    #[default]
    Learning,
    /// The footprint does not move beyond small change.
    Steady,
    /// It moves up and down without a pattern that leads anywhere.
    Fluctuating,
    /// It rises and falls back again and again: a collector or a pool at work.
    Sawtooth,
    /// It grows, and the growth bends or is held back by its own past.
    WarmingUp,
    /// Only pages of mapped files grow; the kernel can drop them.
    FileGrowth,
    /// Only shared memory grows that other processes hold as well.
    SharedGrowth,
    /// The footprint falls.
    Shrinking,
    /// It grows now; too little to say more.
    Growing,
    /// It has grown without a break for long enough to be looked at.
    Suspect,
    /// It has grown steadily, gave nothing back, and shows no sign of an end.
    Leaking,
}

impl State {
    /// The word that tables, reports and JSON use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Steady => "steady",
            Self::Fluctuating => "fluctuating",
            Self::Sawtooth => "sawtooth",
            Self::WarmingUp => "warming-up",
            Self::FileGrowth => "file-growth",
            Self::SharedGrowth => "shared-growth",
            Self::Shrinking => "shrinking",
            Self::Growing => "growing",
            Self::Suspect => "suspect",
            Self::Leaking => "leaking",
        }
    }

    /// How far towards a leak: 0 for what is none, 1 growing, 2 suspect, 3 leaking.
    pub const fn severity(self) -> u8 {
        match self {
            Self::Growing => 1,
            Self::Suspect => 2,
            Self::Leaking => 3,
            _ => 0,
        }
    }
}

/// How fast a footprint grows, with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The estimate.
    pub mean: BytesPerSec,
    /// The interval's lower end.
    pub low: BytesPerSec,
    /// The interval's upper end.
    pub high: BytesPerSec,
}

/// A verdict: the state, what it rests on, and the figures that belong to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What is thought of the process.
    pub state: State,
    /// Whether clean growth lasted as long as [`super::Thresholds::confirm`] asks. Only `leaking` can be confirmed.
    pub confirmed: bool,
    /// How long the growth that the verdict rests on has lasted without a break.
    pub clean_growth: Duration,
    /// The growth rate, while the process grows.
    pub rate: Option<Rate>,
    /// The numbers behind the verdict.
    pub evidence: Evidence,
}

/// The numbers behind a verdict, as the level of the history that decided has them. All zero where no level did.
///
/// The *floor* is the least footprint in each of equally long buckets of time: what was not given back in between.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Bytes grown over the window that the verdict rests on.
    pub grown: Bytes,
    /// Length of that window.
    pub window: Duration,
    /// Length of each bucket in it.
    pub bucket: Duration,
    /// In how many of `steps` steps the floor rose.
    pub rose: u32,
    /// How many steps were looked at; 0 when there were none.
    pub steps: u32,
    /// Length of each step.
    pub step: Duration,
    /// Whether each step is a cycle of a collector, from fall to fall, of `step` on average.
    pub cycles: bool,
    /// Kendall's tau of the floors against time: 1 when each was above all before it.
    pub tau: f64,
    /// Student's t of the mean step: standard errors above zero.
    pub t: f64,
    /// Growth in the last third of the window as a share of that in the first; `None` when the first had none.
    pub last_third: Option<f64>,
    /// What the slope loses over the window, as a share of the mean slope; negative when it gets steeper.
    pub bend: f64,
    /// How far the floor ever fell below an earlier one, at this or a coarser time-scale.
    pub given_back: Bytes,
    /// Where a bend would end, when one was seen.
    pub plateau: Option<Bytes>,
    /// How long ago the growth was last proved; zero when just now.
    pub proved_ago: Duration,
}

impl Verdict {
    /// Orders verdicts by how much they concern a reader: confirmed first, then by severity, by how long the growth has
    /// lasted, and by the rate.
    pub fn cmp_by_concern(&self, other: &Self) -> Ordering {
        let rate = |verdict: &Self| verdict.rate.map_or(0.0, |rate| rate.mean.0);
        self.confirmed
            .cmp(&other.confirmed)
            .then(self.state.severity().cmp(&other.state.severity()))
            .then(self.clean_growth.cmp(&other.clean_growth))
            .then(rate(self).total_cmp(&rate(other)))
    }

    /// Nothing is known yet.
    pub(crate) fn learning() -> Self {
        Self {
            state: State::Learning,
            confirmed: false,
            clean_growth: Duration::ZERO,
            rate: None,
            evidence: Evidence::default(),
        }
    }
}
