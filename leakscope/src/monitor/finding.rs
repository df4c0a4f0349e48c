//! What was known of a process at one moment: the value that decisions, tables and reports are made from.

use std::time::Duration;

use jiff::Timestamp;

use super::{Monitor, Point};
use crate::leak::{Cadence, Memory, TimeToOom, Verdict};
use crate::process::{Directory, Identity, Pressure};
use crate::source::{HostMemory, KernelCounts, Source};
use crate::units::{Bytes, Moment, ProcKey};

/// A process as it was known at one moment.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which process.
    pub key: ProcKey,
    /// That moment.
    pub at: Moment,
    /// Its date.
    pub wall: Timestamp,
    /// Who it is.
    pub identity: Identity,
    /// What was thought of it.
    pub verdict: Verdict,
    /// What it held.
    pub memory: Memory,
    /// What the host held.
    pub host: HostMemory,
    /// What the kernel side had counted.
    pub kernel: Option<KernelCounts>,
    /// How much of its growth the kernel's counters account for, from 0 to 1.
    pub explained: Option<f64>,
    /// The rhythm of its growth, or why none is known.
    pub cadence: Result<Cadence, &'static str>,
    /// When it would reach which limit.
    pub oom: Option<TimeToOom>,
    /// How the tasks of its own cgroup waited for memory.
    pub pressure: Option<Pressure>,
    /// How long after the first batch it was suspected.
    pub suspected_after: Option<Duration>,
    /// How long after the first batch its leak was confirmed.
    pub confirmed_after: Option<Duration>,
    /// Its footprint when it was first read.
    pub first: Option<Bytes>,
    /// Its footprint when it was last thought steady; `None` where it never was.
    pub steady: Option<Bytes>,
    /// All that it gave back within its clean growth.
    pub given_back: Bytes,
    /// Its past while it grew, oldest first.
    pub history: Vec<Point>,
}

impl<S: Source, D: Directory> Monitor<S, D> {
    /// What is known of a process now; `None` when it is not watched, or was gone before it could be identified.
    pub fn finding(&mut self, key: ProcKey) -> Option<Finding> {
        let identity = self.identity(key)?.clone();
        let (began, ..) = self.began?;
        let (at, wall, host) = self.now?;
        let pressure = self.directory.pressure(&identity);
        let tracked = self.processes.get(&key)?;
        let page = Bytes(rustix::param::page_size() as u64);
        Some(Finding {
            key,
            at,
            wall,
            identity,
            verdict: tracked.verdict().clone(),
            memory: tracked.memory(),
            host,
            kernel: tracked.kernel(),
            explained: tracked.explained(page, counters_lag(page)),
            cadence: tracked.cadence(),
            oom: self.time_to_oom(key),
            pressure,
            suspected_after: tracked.suspected_at().map(|at| at.since(began)),
            confirmed_after: tracked.confirmed_at().map(|at| at.since(began)),
            first: Some(tracked.first()),
            steady: tracked.steady(),
            given_back: tracked.given_back(at),
            history: tracked.history().collect(),
        })
    }

    /// The process among those `asked` for that is nearest to a leak: by severity, then by how long it has grown, then by
    /// its rate.
    pub fn worst(&self, asked: impl Fn(ProcKey) -> bool) -> Option<ProcKey> {
        let growing = self.growing().filter(|(key, _)| asked(*key));
        growing
            .max_by(|(_, one), (_, other)| one.verdict().cmp_by_concern(other.verdict()))
            .map(|(key, _)| key)
    }

    /// Everything that is watched, the fastest growing first and the largest first among those that do not grow.
    pub fn keys_by_growth(&self) -> impl Iterator<Item = ProcKey> {
        self.ranking.keys()
    }
}

/// By how much `rss_stat`'s counters may be behind: `percpu_counter_batch` pages for each CPU (lib/percpu_counter.c).
/// Before 6.2 it is 64 pages a thread, which is about as much.
fn counters_lag(page: Bytes) -> Bytes {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    Bytes(page.0.saturating_mul(32.max(2 * cpus)).saturating_mul(cpus))
}
