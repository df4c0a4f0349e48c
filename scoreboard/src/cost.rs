//! What the detector costs: time for a sample, and bytes for a process. Printed, never asserted: a time depends on the
//! machine and on what else it does.

use std::time::Duration;

use leakscope::leak::{Detector, Sample};
use serde::Serialize;

use crate::corpus::Kind;
use crate::live;

/// A month.
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Nanoseconds that a sample takes: the mean over busy processes.
    pub ns_per_sample: f64,
    /// Samples that were timed.
    pub samples: usize,
    /// Bytes of a detector whose process moved, after a month.
    pub bytes_per_process: usize,
    /// Bytes of a detector before its process moves.
    pub resting_bytes: usize,
}

/// Times detectors on the first trace of each kind, tick by tick, best of three rounds.
pub fn measure(kinds: &[Kind]) -> Cost {
    let mut cost = Cost {
        ns_per_sample: 0.0,
        samples: 0,
        bytes_per_process: 0,
        resting_bytes: size_of::<Detector>() + live::detector().heap_bytes(),
    };
    let mut spent = Duration::ZERO;
    for kind in kinds {
        let trace = kind.trace(1);
        let samples: Vec<Sample> =
            (0..trace.ticks().min(4 * 1800)).map(|i| live::sample(&trace, i)).collect();
        let rounds = (0..3).map(|_| {
            let mut detector = live::detector();
            let begin = now();
            for sample in &samples {
                std::hint::black_box(detector.observe(sample));
            }
            let spent = begin.elapsed();
            // A month on, every level that will ever be is there.
            if let Some(last) = samples.last() {
                detector.observe(&Sample { at: last.at + MONTH, ..*last });
            }
            (spent, detector.heap_bytes())
        });
        let (best, heap) = rounds.min().unwrap_or_default();
        spent += best;
        cost.samples += samples.len();
        cost.bytes_per_process = cost.bytes_per_process.max(size_of::<Detector>() + heap);
    }
    cost.ns_per_sample = spent.as_secs_f64() * 1e9 / cost.samples.max(1) as f64;
    cost
}

#[expect(clippy::disallowed_methods, reason = "a measurement of time is what this is")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
