//! Judges series that come as rows, each by a detector of its own.
//!
//! A row is judged when the next one of its series is there: of two rows in the wrong order it is then known whether the
//! earlier one had jumped ahead or the later one came late, and only that one is left out. What becomes of several is told
//! in `line`.

mod line;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use self::line::{Line, News};
use crate::leak::Thresholds;
use crate::report::SeriesReport;
use crate::source::series::{Bad, Name, Row, Rows};
use crate::ui::Ui;
use crate::units::Pid;

/// Series that are judged beside each other.
const MOST_SERIES: usize = 100_000;
/// Rows that make no sense are shown one by one up to here.
const BAD_SHOWN: u64 = 10;

/// Judges the rows of one file or answer.
pub(super) struct Foreign<'a> {
    thresholds: Thresholds,
    file: &'a str,
    ui: &'a mut Ui,
    lines: Vec<Line>,
    /// Series that ended because their clock began anew.
    over: Vec<SeriesReport>,
    numbers: HashMap<Key, usize>,
    bad: u64,
}

/// What makes rows one series.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Process(Pid),
    Thing(String),
}

impl<'a> Foreign<'a> {
    pub(super) fn new(thresholds: Thresholds, file: &'a str, ui: &'a mut Ui) -> Self {
        Self { thresholds, file, ui, lines: Vec::new(), over: Vec::new(), numbers: HashMap::new(), bad: 0 }
    }

    /// The series with at least one sample, and how many rows were left out.
    pub(super) fn finish(mut self) -> (Vec<SeriesReport>, u64) {
        let mut reports = std::mem::take(&mut self.over);
        for line in std::mem::take(&mut self.lines) {
            let (report, news) = line.finish(self.file);
            reports.extend(report);
            self.note(news);
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
        if self.lines.len() >= MOST_SERIES {
            return None;
        }
        self.numbers.insert(key, self.lines.len());
        self.lines.push(Line::new(name.clone(), self.thresholds));
        Some(self.lines.len() - 1)
    }

    fn note(&mut self, News { bad, undone, anew }: News) {
        for bad in bad {
            self.bad(bad);
        }
        if let Some((place, count)) = undone {
            self.bad += count;
            let rows = if count == 1 { "1 sample".to_owned() } else { format!("{count} samples") };
            self.ui.say(&format!(
                "warning: {}: {place}: {rows} from here on have times that those after them do not bear out; left out",
                self.file
            ));
        }
        if let Some((place, line)) = anew {
            self.over.extend(line.finish_as_ended(self.file));
            self.ui.say(&format!(
                "warning: {}: {place}: the times begin anew here (a clock that was set back, or a reboot); judged as a \
                 new series from here on",
                self.file
            ));
        }
    }
}

impl Rows for Foreign<'_> {
    fn row(&mut self, row: Row) {
        let place = row.place;
        let Some(number) = self.series_of(&row.name) else {
            self.bad(Bad { place, why: format!("there are more than {MOST_SERIES} series") });
            return;
        };
        let news = self.lines[number].take(row);
        self.note(news);
    }

    fn bad(&mut self, Bad { place, why }: Bad) {
        self.bad += 1;
        if self.bad <= BAD_SHOWN {
            self.ui.say(&format!("warning: {}: {place}: {why}; left out", self.file));
        }
    }
}
