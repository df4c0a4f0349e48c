//! The detector as leakscope runs it: a process is looked at while its verdict may change, and when its memory did.

use leakscope::leak::{Detector, Sample, State, Thresholds, Verdict};
use leakscope::units::Moment;
use std::time::Duration;

use crate::TICK_S;
use crate::process::Trace;
use crate::score::{Claim, Outcome, Scorer};

/// What of the detector's verdicts is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// `suspect` and above.
    Suspect,
    /// `leaking`.
    Leaking,
    /// `leaking`, confirmed after five minutes.
    Confirmed,
}

impl Tier {
    /// All of them, the quickest first.
    pub const ALL: [Self; 3] = [Self::Suspect, Self::Leaking, Self::Confirmed];

    /// Seconds of clean growth that the tier asks for at a rate, by the detector's policy.
    pub fn asks_for_s(self, bytes_per_s: f64) -> f64 {
        let bulk = if bytes_per_s > 2e6 { 2.0 } else { 1.0 };
        match self {
            Self::Suspect => 6.0,
            Self::Leaking => 60.0 * bulk,
            Self::Confirmed => CONFIRM_S as f64 * bulk,
        }
    }

    fn claims(self, verdict: &Verdict) -> bool {
        match self {
            Self::Suspect => verdict.state.severity() >= State::Suspect.severity(),
            Self::Leaking => verdict.state == State::Leaking,
            Self::Confirmed => verdict.confirmed,
        }
    }
}

/// What the third tier waits for, in seconds.
const CONFIRM_S: u64 = 300;

/// The sample at tick `i`; the machine has been up for an hour.
pub fn sample(trace: &Trace, i: usize) -> Sample {
    Sample {
        at: Moment(3_600_000_000_000) + Duration::from_secs_f64(i as f64 * TICK_S),
        memory: trace.memory(i),
        host_shmem: Some(trace.host_shmem(i)),
    }
}

/// A detector for the scoreboard.
pub fn detector() -> Detector {
    confirming_after(CONFIRM_S)
}

fn confirming_after(seconds: u64) -> Detector {
    Detector::new(Thresholds { confirm: Duration::from_secs(seconds) })
}

/// Shows the trace to a detector, looking every `every` ticks, and scores its tiers.
pub fn judge(trace: &Trace, every: usize) -> [Outcome; 3] {
    let mut scorers = Tier::ALL.map(|_| Scorer::of(trace));
    watch(trace, detector(), every, |at_s, verdict| {
        for (scorer, tier) in scorers.iter_mut().zip(Tier::ALL) {
            scorer.note(at_s, claim(verdict).filter(|_| tier.claims(verdict)));
        }
    });
    scorers.map(Scorer::finish)
}

/// What becomes of the trace when a leak is confirmed after `confirm_s` seconds.
pub fn judge_confirmed_after(trace: &Trace, confirm_s: u64, every: usize) -> Outcome {
    let mut scorer = Scorer::of(trace);
    watch(trace, confirming_after(confirm_s), every, |at_s, verdict| {
        scorer.note(at_s, claim(verdict).filter(|_| verdict.confirmed));
    });
    scorer.finish()
}

/// What becomes of a trace that is looked at from its middle on, by the detector as it is (`leaking`), and by a rule that
/// lets the past speak: growth that is straight for 15 seconds counts as a leak when, at its rate, a process of this age
/// would have grown to between half and one and a half times of what it holds.
pub fn judge_by_the_past(second_half: &Trace, every: usize) -> [Outcome; 2] {
    const SOON: Duration = Duration::from_secs(15);
    let mut scorers = [Scorer::of(second_half), Scorer::of(second_half)];
    watch(second_half, detector(), every, |at_s, verdict| {
        let leaking = claim(verdict).filter(|_| Tier::Leaking.claims(verdict));
        let explains = |claim: &Claim| {
            let held = second_half.memory(crate::process::ticks(at_s)).footprint().as_f64();
            (0.5..1.5).contains(&(claim.rate * (second_half.age_s() + at_s) / held.max(1.0)))
        };
        let soon = Tier::Suspect.claims(verdict) && verdict.clean_growth >= SOON;
        let by_the_past = leaking.or_else(|| claim(verdict).filter(|claim| soon && explains(claim)));
        scorers[0].note(at_s, leaking);
        scorers[1].note(at_s, by_the_past);
    });
    scorers.map(Scorer::finish)
}

fn claim(verdict: &Verdict) -> Option<Claim> {
    let rate = verdict.rate.as_ref()?;
    Some(Claim { rate: rate.mean.0, interval: Some((rate.low.0, rate.high.0)) })
}

/// Tells `note` of each verdict and its moment.
fn watch(trace: &Trace, mut detector: Detector, every: usize, mut note: impl FnMut(f64, &Verdict)) {
    let mut last = None;
    for i in (0..trace.ticks()).step_by(every) {
        let sample = sample(trace, i);
        let seen = (sample.memory, sample.host_shmem);
        if last != Some(seen) || !detector.is_settled() {
            note(i as f64 * TICK_S, &detector.observe(&sample));
        }
        last = Some(seen);
    }
}
