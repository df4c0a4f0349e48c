//! What the detector says about processes that behave as real ones do: the lab's leak, and each known trap.
//!
//! [`Trace`] makes a process's memory, sample by sample; [`Trace::judge`] gives what the detector said at each.

mod lab;
mod properties;
mod speed;
mod traps;
mod without_a_leak;

use std::time::Duration;

use super::{Detector, Memory, Sample, State, Thresholds, Verdict};
use crate::units::{Bytes, Moment};

const KB: f64 = 1000.0;
const MB: f64 = 1e6;

/// Seconds as a moment of a machine that booted an hour before.
fn at(seconds: f64) -> Moment {
    Moment(3_600_000_000_000) + Duration::from_secs_f64(seconds)
}

/// A sample that holds `anon` bytes of anonymous memory, in whole pages.
fn sample(seconds: f64, anon: f64) -> Sample {
    Sample { at: at(seconds), memory: Memory { anon: paged(anon), ..Memory::default() }, host_shmem: None }
}

/// Bytes as the kernel counts them.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "tests use small positive sizes")]
fn paged(bytes: f64) -> Bytes {
    Bytes((bytes / 4096.0).floor() as u64 * 4096)
}

/// What was said, and when.
struct Said {
    at_s: f64,
    verdict: Verdict,
}

/// A detector that keeps what it said.
struct Watch {
    detector: Detector,
    said: Vec<Said>,
}

impl Watch {
    fn confirming_after(seconds: u64) -> Self {
        Self {
            detector: Detector::new(Thresholds { confirm: Duration::from_secs(seconds) }),
            said: Vec::new(),
        }
    }

    fn see(&mut self, sample: &Sample) {
        let verdict = self.detector.observe(sample);
        let at_s = (sample.at.0 as f64 - at(0.0).0 as f64) / 1e9;
        self.said.push(Said { at_s, verdict });
    }

    /// Watches `anon(seconds)` from `from` to `to`, every `every` seconds.
    fn watch(mut self, (from, to): (f64, f64), every: f64, anon: impl Fn(f64) -> f64) -> Self {
        let mut seconds = from;
        while seconds < to {
            self.see(&sample(seconds, anon(seconds)));
            seconds += every;
        }
        self
    }

    fn first(&self, what: impl Fn(&Verdict) -> bool) -> Option<&Said> {
        self.said.iter().find(|said| what(&said.verdict))
    }

    /// When a state at least as severe as `state` was first reached.
    fn reached(&self, state: State) -> Option<f64> {
        self.first(|v| v.state.severity() >= state.severity()).map(|said| said.at_s)
    }

    fn confirmed(&self) -> Option<f64> {
        self.first(|v| v.confirmed).map(|said| said.at_s)
    }

    fn last(&self) -> &Verdict {
        &self.said.last().expect("something was watched").verdict
    }

    fn ever(&self, state: State) -> bool {
        self.said.iter().any(|said| said.verdict.state == state)
    }
}
