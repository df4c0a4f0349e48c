//! Runs the corpus: every kind with every seed, through the detector and the rules, on all cores.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::TICK_S;
use crate::baselines::RULES;
use crate::corpus::{Class, Kind};
use crate::live::{self, Tier};
use crate::score::Outcome;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The kinds.
    pub kinds: Vec<Kind>,
    /// The seeds; each gives a trace of each kind.
    pub seeds: Vec<u64>,
    /// Ticks between two looks of the detector: 1 for 4 Hz, 4 for 1 Hz.
    pub every: usize,
    /// Who judges each trace.
    pub judges: Judges,
}

/// Who judges each trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judges {
    /// The detector's three tiers.
    Detector,
    /// The same, and the rules in use elsewhere.
    DetectorAndRules,
    /// The detector, and one that takes the process's age into account, on what is left of each trace at its middle.
    ThePast,
    /// The detector with waiting times from 15 seconds to half an hour: what it costs to wait.
    WaitingTimes,
}

/// The waiting times of [`Judges::WaitingTimes`], in seconds.
const WAITS_S: [u64; 8] = [15, 30, 60, 120, 300, 600, 1200, 1800];

/// One trace, and what everybody made of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its kind.
    pub kind: Kind,
    /// Its seed.
    pub seed: u64,
    /// Its length in hours.
    pub hours: f64,
    /// For how many seconds it leaks.
    pub leak_s: f64,
    /// At how many bytes a second.
    pub rate: f64,
    /// By detector, in the order of [`detectors`].
    pub outcomes: Vec<Outcome>,
}

/// A detector's column: its name, and how long a leak must last for a verdict by its own rules.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    /// What the tables call it.
    pub name: &'static str,
    /// Whose waiting time is asked for; the rules are measured on the leaks that `leaking` is measured on.
    pub tier: Tier,
}

/// All detectors, in the order of the outcomes.
pub fn detectors(judges: Judges) -> Vec<Judge> {
    let judge = |(name, tier)| Judge { name, tier };
    if judges == Judges::WaitingTimes {
        // All on the same leaks, those long enough for five minutes: else the longest wait would see the easiest.
        return WAIT_NAMES.map(|name| judge((name, Tier::Confirmed))).into();
    }
    if judges == Judges::ThePast {
        return ["attached late: leaking", "attached late: by the past"]
            .map(|name| judge((name, Tier::Leaking)))
            .into();
    }
    let own = [
        ("leakscope suspect (6 s)", Tier::Suspect),
        ("leakscope leaking (60 s)", Tier::Leaking),
        ("leakscope confirmed (300 s)", Tier::Confirmed),
    ];
    let rules = RULES.iter().filter(|_| judges == Judges::DetectorAndRules);
    own.into_iter().chain(rules.map(|rule| (rule.name, Tier::Leaking))).map(judge).collect()
}

/// What the tables call them.
const WAIT_NAMES: [&str; 8] = [
    "confirmed after 15 s",
    "confirmed after 30 s",
    "confirmed after 60 s",
    "confirmed after 2 min",
    "confirmed after 5 min",
    "confirmed after 10 min",
    "confirmed after 20 min",
    "confirmed after 30 min",
];

/// How much longer than the waiting time a leak must last for its verdict to be asked of anybody: the clean span grows
/// by whole buckets.
const ROOM_FOR_A_VERDICT: f64 = 1.25;

impl Row {
    /// Whether the leak lasts long enough for a verdict of `tier`.
    pub fn permits(&self, tier: Tier) -> bool {
        self.leak_s >= ROOM_FOR_A_VERDICT * tier.asks_for_s(self.rate)
    }
}

/// Runs `plan`; the rows come in the order of its kinds, then its seeds.
pub fn run(plan: &Plan) -> Vec<Row> {
    let jobs: Vec<(Kind, u64)> =
        plan.kinds.iter().flat_map(|kind| plan.seeds.iter().map(|seed| (*kind, *seed))).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            let Some((kind, seed)) = jobs.get(job) else { return done };
            done.push((job, judge(*kind, *seed, plan)));
        }
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let mut rows: Vec<(usize, Row)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        // A trace that panics is no trace that nobody judged.
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect()
    });
    rows.sort_by_key(|(job, _)| *job);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn judge(kind: Kind, seed: u64, plan: &Plan) -> Row {
    let mut trace = kind.trace(seed);
    if plan.judges == Judges::ThePast {
        trace = trace.second_half();
    }
    let own = || live::judge(&trace, plan.every).into_iter();
    let outcomes = match plan.judges {
        Judges::Detector => own().collect(),
        Judges::DetectorAndRules => own().chain(RULES.iter().map(|rule| rule.judge(&trace))).collect(),
        Judges::ThePast => live::judge_by_the_past(&trace, plan.every).into(),
        Judges::WaitingTimes => {
            let after = |confirm_s| live::judge_confirmed_after(&trace, confirm_s, plan.every);
            WAITS_S.into_iter().map(after).collect()
        }
    };
    let (from, to) = trace.leaking_from_to();
    let leaks = kind.class == Class::Leak;
    Row {
        kind,
        seed,
        hours: trace.ticks() as f64 * TICK_S / 3600.0,
        leak_s: if leaks { to - from } else { 0.0 },
        rate: trace.true_rate(from, to),
        outcomes,
    }
}
