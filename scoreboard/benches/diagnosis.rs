//! What it takes to judge one sample, by the kind of process and of moment: `cargo bench -p leakscope-scoreboard`.
//!
//! One iteration is one sample, so criterion's times are times a sample. The bytes that a process takes, and the mean over
//! all kinds, are part of the scoreboard (`cost.rs`). Nothing is asserted.

use std::time::Duration;

use criterion::Criterion;
use leakscope::leak::{Detector, Sample, Verdict};
use leakscope_scoreboard::corpus::{Kind, kinds};
use leakscope_scoreboard::live;

/// Samples in an hour, at four a second.
const AN_HOUR: usize = 4 * 3600;

/// What is measured: its name, a kind of the corpus, and how many samples of it are history when the measurement begins.
const CASES: &[(&str, &str, usize)] = &[
    ("never moves", "flat", 0),
    ("idle, moves by some pages", "jitter", 0),
    ("warm-up", "warm-up", 0),
    ("straight leak", "service", 0),
    ("sawtooth of a collector", "collector", 0),
    ("leak under a collector, sixth hour", "slowly-collected-heap", 5 * AN_HOUR),
];

/// A process that is shown to the detector again and again, from the end of its history on.
struct Replay {
    after_history: Detector,
    samples: Vec<Sample>,
    detector: Detector,
    next: usize,
}

impl Replay {
    fn of(kind: &Kind, history: usize) -> Self {
        let trace = kind.trace(1);
        let mut detector = live::detector();
        for i in 0..history {
            detector.observe(&live::sample(&trace, i));
        }
        let samples = (history..trace.ticks()).map(|i| live::sample(&trace, i)).collect();
        Self { after_history: detector.clone(), samples, detector, next: 0 }
    }

    fn observe(&mut self) -> Verdict {
        if self.next == self.samples.len() {
            // Once in some thousand samples: it does not show.
            self.detector.clone_from(&self.after_history);
            self.next = 0;
        }
        self.next += 1;
        self.detector.observe(&self.samples[self.next - 1])
    }
}

fn main() {
    let criterion = Criterion::default().without_plots().measurement_time(Duration::from_secs(3));
    let mut criterion = criterion.configure_from_args();
    let mut group = criterion.benchmark_group("a sample of a process");
    for (name, kind, history) in CASES {
        let Some(kind) = kinds().into_iter().find(|other| other.name == *kind) else {
            eprintln!("warning: the corpus has no kind named {kind}: {name} was not measured");
            continue;
        };
        let mut replay = Replay::of(&kind, *history);
        group.bench_function(*name, |bencher| bencher.iter(|| replay.observe()));
    }
    group.finish();
    criterion.final_summary();
}
