//! The tables: one line for each detector over a part of the corpus, and one for each kind.

use serde::Serialize;

use crate::corpus::Class;
use crate::live::Tier;
use crate::run::{Judge, Row};
use crate::score::{Found, Outcome};

/// What a detector came to over some traces. Shares are 0 to 1; `None` where there was nothing to take a share of.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Leaks that last long enough for the verdict, and how many of them were found.
    pub leaks: usize,
    /// See `leaks`.
    pub found: usize,
    /// `found` of `leaks`.
    pub recall: Option<f64>,
    /// Found of all leaks, also those that end before the waiting time.
    pub recall_of_all: Option<f64>,
    /// Found of all accused.
    pub precision: Option<f64>,
    /// The same without the ramps.
    pub precision_clean: Option<f64>,
    /// The harmonic mean of `recall` and `precision`.
    pub f1: Option<f64>,
    /// Accused of the healthy.
    pub false_clean: Option<f64>,
    /// Accused of the ramps.
    pub false_ramp: Option<f64>,
    /// Leaks accused too early or at a wrong rate.
    pub false_leak: Option<f64>,
    /// Accused at the end, of all that do not leak.
    pub on_at_end: Option<f64>,
    /// Accusations an hour of what does not leak.
    pub episodes_per_hour: Option<f64>,
    /// Seconds to the verdict: median and nine tenths; `None` when more were never found.
    pub verdict_s: [Option<f64>; 2],
    /// Bytes leaked at the verdict: median and nine tenths, of those found.
    pub leaked: [Option<f64>; 2],
    /// Error of the time to exhaustion at the verdict: median and nine tenths, of those found.
    pub eta_error: [Option<f64>; 2],
    /// Intervals that hold the true rate: at the verdict, and at the last claim.
    pub coverage: [Option<f64>; 2],
}

fn share(part: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

/// The quantile of sorted values.
fn quantile(mut values: Vec<f64>, q: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let index = crate::process::whole((values.len() as f64 * q).ceil()).max(1) - 1;
    values.get(usize::try_from(index).ok()?).copied().filter(|value| value.is_finite())
}

impl Summary {
    /// Sums up what detector `judge` in column `column` made of `rows`.
    pub fn of(rows: &[&Row], column: usize, judge: Judge) -> Self {
        let of = |class: Class| {
            let rows = rows.iter().filter(move |row| row.kind.class == class);
            rows.map(|row| (*row, &row.outcomes[column])).collect::<Vec<_>>()
        };
        let (leaks, healthy, ramps) = (of(Class::Leak), of(Class::Healthy), of(Class::Ramp));
        let long: Vec<_> = leaks.iter().filter(|(row, _)| row.permits(judge.tier)).collect();
        let false_alarms = |rows: &[(&Row, &Outcome)]| rows.iter().filter(|(_, o)| o.false_alarm).count();
        let found: Vec<Found> = leaks.iter().filter_map(|(_, outcome)| outcome.found).collect();
        let found_long = long.iter().filter(|(_, outcome)| outcome.found.is_some()).count();
        let clean_wrong = false_alarms(&healthy) + false_alarms(&leaks);
        let recall = share(found_long, long.len());
        let precision = share(found.len(), found.len() + clean_wrong + false_alarms(&ramps));
        let never =
            || long.iter().map(|(_, o)| o.found.map_or(f64::INFINITY, |found| found.after_s)).collect();
        let figure = |of: fn(&Found) -> f64| [0.5, 0.9].map(|q| quantile(found.iter().map(of).collect(), q));
        let intervals: Vec<(bool, bool)> = found.iter().filter_map(|found| found.covered).collect();
        let covered = |of: fn(&(bool, bool)) -> bool| {
            share(intervals.iter().filter(|interval| of(interval)).count(), intervals.len())
        };
        let innocent = || healthy.iter().chain(&ramps);
        let hours: f64 = innocent().map(|(row, _)| row.hours).sum();
        let episodes: u32 = innocent().map(|(_, outcome)| outcome.episodes).sum();
        Self {
            leaks: long.len(),
            found: found_long,
            recall,
            recall_of_all: share(found.len(), leaks.len()),
            precision,
            precision_clean: share(found.len(), found.len() + clean_wrong),
            f1: recall.zip(precision).map(|(r, p)| if r + p > 0.0 { 2.0 * r * p / (r + p) } else { 0.0 }),
            false_clean: share(false_alarms(&healthy), healthy.len()),
            false_ramp: share(false_alarms(&ramps), ramps.len()),
            false_leak: share(false_alarms(&leaks), leaks.len()),
            on_at_end: share(innocent().filter(|(_, o)| o.on_at_end).count(), innocent().count()),
            episodes_per_hour: (hours > 0.0).then(|| f64::from(episodes) / hours),
            verdict_s: [0.5, 0.9].map(|q| quantile(never(), q)),
            leaked: figure(|found| found.leaked),
            eta_error: figure(|found| found.eta_error),
            coverage: [covered(|interval| interval.0), covered(|interval| interval.1)],
        }
    }
}

fn shown(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

fn pair(values: [Option<f64>; 2], decimals: usize, missing: &str) -> String {
    let one = |value: Option<f64>| value.map_or_else(|| missing.to_owned(), |v| format!("{v:.decimals$}"));
    format!("{}/{}", one(values[0]), one(values[1]))
}

/// The table of all detectors over `rows`.
pub fn main_table(title: &str, rows: &[&Row], judges: &[Judge]) -> String {
    let count = |class: Class| rows.iter().filter(|row| row.kind.class == class).count();
    let hours: f64 = rows.iter().map(|row| row.hours).sum();
    let mut text = format!(
        "{title}: {} traces ({} leaks, {} healthy, {} ramps), {hours:.0} process-hours\n",
        rows.len(),
        count(Class::Leak),
        count(Class::Healthy),
        count(Class::Ramp)
    );
    text += &format!(
        "{:<31} {:>6} {:>5} {:>5} {:>5} {:>7} {:>6} {:>6} {:>6} {:>6} {:>11} {:>11} {:>9}\n",
        "detector",
        "recall",
        "prec",
        "precC",
        "F1",
        "FPclean",
        "FPramp",
        "FPleak",
        "on end",
        "FP/h",
        "TTD s",
        "ETA error",
        "coverage"
    );
    for (column, judge) in judges.iter().enumerate() {
        let s = Summary::of(rows, column, *judge);
        text += &format!(
            "{:<31} {:>6} {:>5} {:>5} {:>5} {:>7} {:>6} {:>6} {:>6} {:>6} {:>11} {:>11} {:>9}\n",
            judge.name,
            shown(s.recall, 3),
            shown(s.precision, 2),
            shown(s.precision_clean, 2),
            shown(s.f1, 2),
            shown(s.false_clean, 3),
            shown(s.false_ramp, 2),
            shown(s.false_leak, 3),
            shown(s.on_at_end, 3),
            shown(s.episodes_per_hour, 2),
            pair(s.verdict_s, 0, "inf"),
            pair(s.eta_error, 3, "-"),
            pair(s.coverage, 2, "-"),
        );
    }
    text
}

/// The table of kinds: what leakscope's three tiers made of each, with the misses.
pub fn kind_table(rows: &[&Row]) -> String {
    let mut text = format!(
        "{:<24} {:<9} {:<7} {:>9} {:>17} {:>17} {:>17}\n",
        "kind", "split", "class", "length s", "suspect", "leaking", "confirmed"
    );
    for rows in rows.chunk_by(|a, b| a.kind.name == b.kind.name) {
        let Some(first) = rows.first() else { continue };
        let length = rows.iter().map(|row| if row.leak_s > 0.0 { row.leak_s } else { row.hours * 3600.0 });
        let length = quantile(length.collect(), 0.5);
        let cell = |(column, tier): (usize, Tier)| match first.kind.class {
            Class::Leak => found_cell(rows, column, tier),
            _ => accused_cell(rows, column),
        };
        let cells: Vec<String> = Tier::ALL.into_iter().enumerate().map(cell).collect();
        text += &format!(
            "{:<24} {:<9} {:<7} {:>9} {:>17} {:>17} {:>17}\n",
            first.kind.name,
            first.kind.split.name(),
            match first.kind.class {
                Class::Leak => "leak",
                Class::Healthy => "healthy",
                Class::Ramp => "ramp",
            },
            shown(length, 0),
            cells[0],
            cells[1],
            cells[2]
        );
    }
    text
}

/// Found of those long enough, false alarms on them, and the median time.
fn found_cell(rows: &[&Row], column: usize, tier: Tier) -> String {
    let long: Vec<&&Row> = rows.iter().filter(|row| row.permits(tier)).collect();
    let wrong = rows.iter().filter(|row| row.outcomes[column].false_alarm).count();
    let times: Vec<f64> =
        rows.iter().filter_map(|row| row.outcomes[column].found).map(|f| f.after_s).collect();
    let found = long.iter().filter(|row| row.outcomes[column].found.is_some()).count();
    let wrong = if wrong > 0 { format!(" {wrong} wrong") } else { String::new() };
    match long.len() {
        0 => format!("too short{wrong}"),
        all => format!("{found}/{all}{wrong} {}", shown(quantile(times, 0.5), 0) + " s"),
    }
}

fn accused_cell(rows: &[&Row], column: usize) -> String {
    let accused = rows.iter().filter(|row| row.outcomes[column].false_alarm).count();
    if accused == 0 { "-".to_owned() } else { format!("{accused} of {} accused", rows.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_that_was_never_reached_is_none() {
        assert_eq!(quantile(vec![3.0, 1.0, f64::INFINITY], 0.5), Some(3.0));
        assert_eq!(quantile(vec![3.0, 1.0, f64::INFINITY], 0.9), None);
        assert_eq!(quantile(Vec::new(), 0.5), None);
    }
}
