//! Workers of one service that leak together, as `hunt --json` and the report name them.

use std::time::Duration;

use serde::Serialize;

use super::hunt::{OwnerLine, RateLine};
use super::json;
use crate::leak::State;
use crate::units::{Bytes, Pid};

/// A service none of whose workers is told alone, and what is thought of the sum of their footprints.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    /// The command line of the worker that was known first.
    pub cmdline: Vec<String>,
    /// Its name of at most 15 bytes.
    pub comm: String,
    /// The workers' program.
    pub exe: Option<String>,
    /// The process that started them.
    pub parent_pid: Pid,
    /// Who keeps them.
    pub owner: OwnerLine,
    /// How many workers live.
    pub processes: usize,
    /// Their pids, the first of them where they are many.
    pub pids: Vec<Pid>,
    /// What is thought of the sum.
    pub verdict: State,
    /// Whether its clean growth lasted as long as was asked for.
    pub confirmed: bool,
    /// How long the growth that the verdict rests on had lasted.
    #[serde(rename = "clean_growth_s", serialize_with = "json::seconds")]
    pub clean_growth: Duration,
    /// Why, one clause each, the weightiest first.
    pub reasons: Vec<String>,
    /// What they hold together, anonymous and swapped.
    pub footprint_bytes: Bytes,
    /// How fast the sum grew.
    #[serde(flatten)]
    pub rate: RateLine,
}
