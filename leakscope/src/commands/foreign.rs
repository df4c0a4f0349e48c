//! Judges series that come as rows, each by a detector of its own.
//!
//! A row is judged when the next one of its series is there: of two rows in the wrong order it is then known whether the
//! earlier one had jumped ahead or the later one came late, and only that one is left out.

use std::collections::HashMap;
use std::time::Duration;

use super::journal::{Changes, Named};
use crate::leak::{Detector, Sample, Thresholds, Verdict, time_to_oom};
use crate::report::SeriesReport;
use crate::source::series::{Bad, Name, Row, Rows};
use crate::ui::Ui;
use crate::units::{Moment, Pid};

/// Series that are judged beside each other.
const MOST_SERIES: usize = 100_000;
/// Rows that make no sense are shown one by one up to here.
const BAD_SHOWN: u64 = 10;

/// Judges the rows of one file or answer.
pub(super) struct Foreign<'a> {
    thresholds: Thresholds,
    file: &'a str,
    ui: &'a mut Ui,
    series: Vec<Series>,
    numbers: HashMap<Key, usize>,
    bad: u64,
}

/// What makes rows one series.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Process(Pid),
    Thing(String),
}

struct Series {
    name: Name,
    detector: Detector,
    /// The time of the first sample, the detector's zero.
    first: Option<f64>,
    /// The time of the last sample that was judged.
    last: Option<f64>,
    held: Option<Row>,
    samples: u64,
    verdict: Option<Verdict>,
    changes: Changes,
}

impl<'a> Foreign<'a> {
    pub(super) fn new(thresholds: Thresholds, file: &'a str, ui: &'a mut Ui) -> Self {
        Self { thresholds, file, ui, series: Vec::new(), numbers: HashMap::new(), bad: 0 }
    }

    /// The series with at least one sample, and how many rows were left out.
    pub(super) fn finish(mut self) -> (Vec<SeriesReport>, u64) {
        let mut reports = Vec::new();
        for mut series in std::mem::take(&mut self.series) {
            if let Some(held) = series.held.take() {
                series.judge(&held);
            }
            reports.extend(series.report(self.file));
        }
        if self.bad > BAD_SHOWN {
            let more = self.bad - BAD_SHOWN;
            self.ui.say(&format!("warning: {}: {more} more samples were left out", self.file));
        }
        (reports, self.bad)
    }

    /// The series that a row belongs to; `None` when there are too many.
    fn series_of(&mut self, name: &Name) -> Option<usize> {
        let key = match name.pid {
            Some(pid) => Key::Process(pid),
            None => Key::Thing(name.comm.clone()),
        };
        if let Some(number) = self.numbers.get(&key) {
            return Some(*number);
        }
        if self.series.len() >= MOST_SERIES {
            return None;
        }
        self.numbers.insert(key, self.series.len());
        self.series.push(Series {
            name: name.clone(),
            detector: Detector::new(self.thresholds),
            first: None,
            last: None,
            held: None,
            samples: 0,
            verdict: None,
            changes: Changes::default(),
        });
        Some(self.series.len() - 1)
    }
}

impl Rows for Foreign<'_> {
    fn row(&mut self, row: Row) {
        let place = row.place;
        let Some(number) = self.series_of(&row.name) else {
            self.bad(Bad { place, why: format!("there are more than {MOST_SERIES} series") });
            return;
        };
        if let Err(bad) = self.series[number].take(row) {
            self.bad(bad);
        }
    }

    fn bad(&mut self, Bad { place, why }: Bad) {
        self.bad += 1;
        if self.bad <= BAD_SHOWN {
            self.ui.say(&format!("warning: {}: {place}: {why}; left out", self.file));
        }
    }
}

impl Series {
    /// Judges the row before and holds this one, or says which of the two is left out.
    fn take(&mut self, row: Row) -> Result<(), Bad> {
        let late = |row: &Row, than: f64| Bad {
            place: row.place,
            why: format!("its time {} s is not after {than} s, that of the sample before it", row.at_s),
        };
        if let Some(held) = self.held.take() {
            let after_last = self.last.is_none_or(|last| row.at_s > last);
            if row.at_s == held.at_s || !after_last {
                let bad = late(&row, held.at_s);
                self.held = Some(held);
                return Err(bad);
            }
            if row.at_s < held.at_s {
                let why =
                    format!("its time {} s is after {} s, that of the sample after it", held.at_s, row.at_s);
                let bad = Bad { place: held.place, why };
                self.held = Some(row);
                return Err(bad);
            }
            self.judge(&held);
        }
        self.held = Some(row);
        Ok(())
    }

    fn judge(&mut self, row: &Row) {
        let first = *self.first.get_or_insert(row.at_s);
        self.last = Some(row.at_s);
        self.samples += 1;
        if !row.name.comm.is_empty() {
            self.name.comm.clone_from(&row.name.comm);
        }
        let since = Duration::try_from_secs_f64(row.at_s - first).unwrap_or_default();
        let sample = Sample { at: Moment::default() + since, memory: row.memory, host_shmem: None };
        let before = self.verdict.take().unwrap_or_else(Verdict::learning);
        let verdict = self.detector.observe(&sample);
        if (before.state, before.confirmed) != (verdict.state, verdict.confirmed) {
            let oom =
                row.room.clone().zip(verdict.rate).and_then(|(room, rate)| time_to_oom(room, &rate, 0.0));
            self.changes.add(row.at_s, None, &verdict, oom);
        }
        self.verdict = Some(verdict);
    }

    fn report(self, file: &str) -> Option<SeriesReport> {
        let verdict = self.verdict?;
        let name = Named {
            pid: self.name.pid,
            start: None,
            comm: Some(self.name.comm).filter(|comm| !comm.is_empty()),
            cmdline: None,
        };
        Some(name.report(file, self.samples, &verdict, self.changes, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leak::{Memory, State};
    use crate::source::series::Place;
    use crate::ui::Verbosity;
    use crate::units::Bytes;

    fn judged(samples: impl IntoIterator<Item = (f64, u64)>) -> (SeriesReport, u64) {
        let mut ui = Ui::new(Verbosity::Quiet, Some(false));
        let thresholds = Thresholds { confirm: Duration::from_secs(60) };
        let mut foreign = Foreign::new(thresholds, "x.csv", &mut ui);
        for (line, (at_s, anon)) in (2..).zip(samples) {
            let name = Name { pid: Some(Pid(7)), comm: "x".to_owned() };
            let memory = Memory { anon: Bytes(anon), ..Memory::default() };
            foreign.row(Row { name, at_s, memory, room: None, place: Place::Line(line) });
        }
        let (mut reports, bad) = foreign.finish();
        (reports.remove(0), bad)
    }

    fn leak(from: u64, to: u64) -> impl Iterator<Item = (f64, u64)> {
        (from..to).map(|second| (second as f64, 10_000_000 + second * 51_200))
    }

    #[test]
    fn a_sample_that_jumps_ahead_or_comes_late_is_left_out_alone() {
        let (clean, none) = judged(leak(0, 200));
        assert_eq!((none, clean.verdict, clean.confirmed), (0, State::Leaking, true));
        let ahead = leak(0, 100).chain([(3e8, 1)]).chain(leak(100, 200));
        let late = leak(0, 100).chain([(50.0, 1), (99.0, 1)]).chain(leak(100, 200));
        for (samples, bad) in [(ahead.collect::<Vec<_>>(), 1), (late.collect(), 2)] {
            let (report, left_out) = judged(samples);
            assert_eq!((left_out, report.samples), (bad, 200));
            assert_eq!(report.transitions, clean.transitions);
        }
    }

    #[test]
    fn a_transition_says_nothing_from_later() {
        let (whole, _) = judged(leak(0, 200));
        for end in [7, 30, 61, 90, 150] {
            let (part, _) = judged(leak(0, end));
            assert_eq!(part.transitions, whole.transitions[..part.transitions.len()], "the first {end} s");
        }
    }

    #[test]
    fn a_gap_of_ten_years_is_no_panic_and_no_leak() {
        let decade = 10.0 * 365.25 * 86_400.0;
        let after = leak(0, 5).map(move |(at, anon)| (at + decade, anon));
        let (report, bad) = judged(leak(0, 5).chain(after));
        assert_eq!((bad, report.confirmed), (0, false));
    }
}
