//! Scores: what a detector's claims about one process are worth against the truth.
//!
//! A leak is found at the first claim, made while it leaks, whose rate is within a factor of three of the truth: of the
//! mean so far, of the mean of the whole run, or of the last two minutes. A claim before the onset, or a first claim whose
//! rate is wrong, is a false alarm on a leaking process; any claim about a process that does not leak is one on a
//! healthy process. Start reading at [`Scorer::note`].

use serde::Serialize;

use crate::TICK_S;
use crate::process::Trace;

/// Seconds before the onset in which a claim is not yet early.
const GRACE_S: f64 = 1.0;
/// How far off a rate may be, as a factor.
const RATE_WITHIN: f64 = 3.0;
/// What "the last minutes" are, in seconds.
const RECENT_S: f64 = 120.0;

/// What a detector says at one moment: this process leaks, at this rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// Bytes a second.
    pub rate: f64,
    /// The 95 % interval, where the detector gives one.
    pub interval: Option<(f64, f64)>,
}

/// How a leak was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Found {
    /// Seconds from the onset to the verdict.
    pub after_s: f64,
    /// Bytes leaked by then.
    pub leaked: f64,
    /// How far the time to exhaustion was off at the verdict, as a share of the true one.
    pub eta_error: f64,
    /// Whether the interval held the true rate, at the verdict and at the last claim; `None` without an interval, and where
    /// there is no one true rate.
    pub covered: Option<(bool, bool)>,
}

/// What one detector made of one trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// It accused a healthy process, or a leaking one before its onset or at a wrong rate.
    pub false_alarm: bool,
    /// When and how it found the leak.
    pub found: Option<Found>,
    /// How often it began to accuse.
    pub episodes: u32,
    /// Whether it accused at the end.
    pub on_at_end: bool,
    /// The same about a leak that had stopped: seconds it went on accusing.
    pub cleared_after_s: Option<f64>,
}

/// Takes claims as they come.
#[derive(Clone, Debug)]
pub struct Scorer<'a> {
    trace: &'a Trace,
    outcome: Outcome,
    /// Whether a claim was made since the onset.
    claimed: bool,
    last_covered: Option<bool>,
}

impl<'a> Scorer<'a> {
    /// A scorer for claims about `trace`.
    pub fn of(trace: &'a Trace) -> Self {
        Self { trace, outcome: Outcome::default(), claimed: false, last_covered: None }
    }

    /// Takes what is claimed at `at_s`; `None` when nothing is.
    pub fn note(&mut self, at_s: f64, claim: Option<Claim>) {
        let Some(claim) = claim else {
            self.outcome.on_at_end = false;
            return;
        };
        self.outcome.episodes += u32::from(!self.outcome.on_at_end);
        self.outcome.on_at_end = true;
        if !self.trace.leaks() {
            self.outcome.false_alarm = true;
            return;
        }
        let (onset, stop) = self.trace.leaking_from_to();
        if at_s < onset - GRACE_S {
            self.outcome.false_alarm = true;
        } else if at_s > stop {
            self.outcome.cleared_after_s = Some(at_s - stop);
        } else {
            self.judge(at_s, onset, stop, claim);
        }
    }

    fn judge(&mut self, at_s: f64, onset: f64, stop: f64, claim: Claim) {
        let truth = self.trace;
        let whole = truth.true_rate(onset, stop);
        let so_far = truth.true_rate(onset, at_s.max(onset + TICK_S));
        let recent = truth.true_rate((at_s - RECENT_S).max(onset), at_s.max(onset + TICK_S));
        let near = |rate: &f64| (rate / RATE_WITHIN..rate * RATE_WITHIN).contains(&claim.rate);
        let right = [whole, so_far, recent].iter().any(near);
        if !self.claimed && !right {
            self.outcome.false_alarm = true;
        }
        self.claimed = true;
        if !right {
            return;
        }
        // A steady leak has one rate; of another, the present pace is what a forecast can go by.
        let rate = if truth.is_steady() { whole } else { recent };
        self.last_covered =
            claim.interval.filter(|_| truth.is_steady()).map(|(low, high)| (low..=high).contains(&whole));
        self.outcome.found.get_or_insert(Found {
            after_s: (at_s - onset).max(0.0),
            leaked: so_far * (at_s - onset).max(0.0),
            // The room is the same for both, so the times are as the rates.
            eta_error: (rate / claim.rate - 1.0).abs(),
            covered: self.last_covered.map(|covered| (covered, covered)),
        });
    }

    /// What it came to.
    pub fn finish(mut self) -> Outcome {
        if let (Some(found), Some(last)) = (&mut self.outcome.found, self.last_covered) {
            found.covered = found.covered.map(|(at_verdict, _)| (at_verdict, last));
        }
        if self.trace.leaks() {
            self.outcome.cleared_after_s.get_or_insert(0.0);
        }
        self.outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::process::Process;
    use crate::{KB, MB};

    fn leaking() -> Trace {
        let process = Process::lasting(600.0).hold(10.0 * MB).leaks_from(100.0, 50.0 * KB);
        process.run(&mut Dice::of("test", 1), true)
    }

    fn claim(rate: f64) -> Option<Claim> {
        Some(Claim { rate, interval: Some((0.9 * rate, 1.1 * rate)) })
    }

    #[test]
    fn a_leak_is_found_at_the_first_claim_of_about_its_rate() {
        let trace = leaking();
        let mut scorer = Scorer::of(&trace);
        scorer.note(90.0, None);
        scorer.note(200.0, claim(60.0 * KB));
        scorer.note(400.0, claim(51.0 * KB));
        let outcome = scorer.finish();
        let found = outcome.found.unwrap();
        assert!(!outcome.false_alarm && outcome.on_at_end && outcome.episodes == 1);
        assert!((found.after_s - 100.0).abs() < 1e-9 && (found.eta_error - 1.0 / 6.0).abs() < 0.01);
        assert_eq!(found.covered, Some((false, true)));
    }

    #[test]
    fn a_claim_before_the_onset_or_at_a_wrong_rate_is_a_false_alarm() {
        let trace = leaking();
        let mut early = Scorer::of(&trace);
        early.note(50.0, claim(50.0 * KB));
        assert!(early.finish().false_alarm);
        let mut wrong = Scorer::of(&trace);
        wrong.note(200.0, claim(500.0 * KB));
        wrong.note(201.0, claim(50.0 * KB));
        let outcome = wrong.finish();
        assert!(outcome.false_alarm && outcome.found.is_some());
    }

    #[test]
    fn any_claim_about_a_healthy_process_is_a_false_alarm() {
        let trace = Process::lasting(60.0).hold(MB).run(&mut Dice::of("test", 1), false);
        let mut scorer = Scorer::of(&trace);
        for (at, said) in [(10.0, claim(1.0)), (11.0, None), (12.0, claim(1.0)), (13.0, None)] {
            scorer.note(at, said);
        }
        let outcome = scorer.finish();
        assert!(outcome.false_alarm && outcome.episodes == 2 && !outcome.on_at_end);
    }
}
