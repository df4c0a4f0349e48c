//! The headline: the figures that a change must not make worse, as they were when they were last written down.
//!
//! `headline.json` beside this package's Cargo.toml has two sets: of the whole default run, which `cargo xtask bench
//! detection --check` holds, and of a reduced one that a unit test holds. A figure that got better is no failure; it is
//! written down with `--write-headline`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::corpus::{Split, kinds};
use crate::run::{Judges, Plan, Row, detectors};
use crate::table::Summary;

/// How much worse a share may get before it fails: the same seeds give the same figures, but for the last digits of the
/// machine's mathematical functions, which can move one trace of a hundred.
pub const TOLERANCE: f64 = 0.015;

/// The figures of one part of the corpus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Recall of `leaking` over the leaks long enough for it.
    pub leaking_recall: f64,
    /// False alarms of `leaking` on healthy processes that are no ramp.
    pub leaking_false_clean: f64,
    /// Recall of `confirmed`.
    pub confirmed_recall: f64,
    /// False alarms of `confirmed` on healthy processes that are no ramp.
    pub confirmed_false_clean: f64,
    /// Precision of `confirmed`, ramps counted.
    pub confirmed_precision: f64,
    /// Share of the intervals at `leaking` that hold the true rate, at the verdict.
    pub coverage_at_verdict: f64,
    /// The same at the last claim.
    pub coverage_at_end: f64,
    /// Error of the time to exhaustion at `leaking`, nine tenths.
    pub eta_error_p90: f64,
}

/// Both parts of the corpus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Headline {
    /// The kinds that were tuned on.
    pub tune: Figures,
    /// The kinds that were not.
    pub held_out: Figures,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// The default run.
    pub whole: Headline,
    /// The reduced run of the unit test.
    pub reduced: Headline,
}

/// A figure that got worse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worse {
    part: &'static str,
    figure: &'static str,
    was: f64,
    is: f64,
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, figure, was, is } = self;
        write!(f, "{figure} on the kinds of {part} was {was:.3} and is {is:.3}")
    }
}

/// The reduced run: one seed of every kind, looked at once a second.
pub fn reduced() -> Plan {
    Plan { kinds: kinds(), seeds: vec![1], every: 4, judges: Judges::Detector }
}

/// The file's text, as it was when this was compiled.
pub fn written() -> serde_json::Result<Written> {
    serde_json::from_str(include_str!("../headline.json"))
}

impl Headline {
    /// The headline of these rows.
    pub fn of(rows: &[Row]) -> Self {
        Self { tune: Figures::of(rows, Split::Tune), held_out: Figures::of(rows, Split::HeldOut) }
    }

    /// What is worse here than in `before`, by more than [`TOLERANCE`].
    pub fn worse_than(&self, before: &Self) -> Vec<Worse> {
        let parts = [("tune", &self.tune, &before.tune), ("held-out", &self.held_out, &before.held_out)];
        parts.iter().flat_map(|(part, is, was)| is.worse_than(was, part)).collect()
    }
}

impl Figures {
    fn of(rows: &[Row], split: Split) -> Self {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.kind.split == split).collect();
        let judges = detectors(Judges::Detector);
        let [leaking, confirmed] = [1, 2].map(|column| Summary::of(&rows, column, judges[column]));
        let round = |value: Option<f64>| (value.unwrap_or_default() * 1e4).round() / 1e4;
        // An error of nothing that was found is no small error.
        let error = |value: Option<f64>| round(value.or(Some(f64::from(u16::MAX))));
        let [at_verdict, at_end] = leaking.coverage;
        Self {
            leaking_recall: round(leaking.recall),
            leaking_false_clean: round(leaking.false_clean),
            confirmed_recall: round(confirmed.recall),
            confirmed_false_clean: round(confirmed.false_clean),
            confirmed_precision: round(confirmed.precision),
            coverage_at_verdict: round(at_verdict),
            coverage_at_end: round(at_end),
            eta_error_p90: error(leaking.eta_error[1]),
        }
    }

    fn worse_than(&self, was: &Self, part: &'static str) -> Vec<Worse> {
        let falls =
            |figure, was: f64, is: f64| (is < was - TOLERANCE).then_some(Worse { part, figure, was, is });
        let rises =
            |figure, was: f64, is: f64| (is > was + TOLERANCE).then_some(Worse { part, figure, was, is });
        [
            falls("recall of `leaking`", was.leaking_recall, self.leaking_recall),
            rises("false alarms of `leaking`", was.leaking_false_clean, self.leaking_false_clean),
            falls("recall of `confirmed`", was.confirmed_recall, self.confirmed_recall),
            rises("false alarms of `confirmed`", was.confirmed_false_clean, self.confirmed_false_clean),
            falls("precision of `confirmed`", was.confirmed_precision, self.confirmed_precision),
            falls("coverage at the verdict", was.coverage_at_verdict, self.coverage_at_verdict),
            falls("coverage at the last claim", was.coverage_at_end, self.coverage_at_end),
            rises("error of the time to exhaustion", was.eta_error_p90, self.eta_error_p90),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_beyond_the_tolerance_is_told_with_both_values() {
        let before = Headline {
            tune: Figures { leaking_recall: 1.0, eta_error_p90: 0.1, ..Figures::default() },
            ..Headline::default()
        };
        let mut now = before;
        now.tune.leaking_recall = 0.99;
        assert_eq!(now.worse_than(&before), []);
        now.tune.leaking_recall = 0.95;
        now.tune.eta_error_p90 = 0.2;
        let told: Vec<String> = now.worse_than(&before).iter().map(Worse::to_string).collect();
        assert_eq!(told[0], "recall of `leaking` on the kinds of tune was 1.000 and is 0.950");
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn no_headline_figure_of_the_reduced_run_is_worse_than_written_down() {
        let rows = crate::run::run(&reduced());
        let worse = Headline::of(&rows).worse_than(&written().unwrap().reduced);
        let told: Vec<String> = worse.iter().map(Worse::to_string).collect();
        assert!(worse.is_empty(), "{}", told.join("\n"));
    }
}
