//! One series: its rows put into the order of time, and judged.
//!
//! What comes late is kept aside for a moment. One or two late rows are strays, and left out. [`AGREEING`] of them in a
//! row, each after the other, are right, and the rows before them were wrong: either a few had jumped ahead, which is
//! undone, or the clock was set back or the machine booted anew, and what follows is a new series.

use std::time::Duration;

use crate::commands::journal::{Changes, Named};
use crate::leak::{Demand, Detector, Sample, Thresholds, Verdict, time_to_oom};
use crate::report::SeriesReport;
use crate::source::series::{Bad, Name, Place, Row};
use crate::units::Moment;

/// So many late rows that agree among themselves are no strays.
const AGREEING: usize = 5;
/// A gap so many times as long as the one before may be a jump of the clock.
const JUMP: f64 = 20.0;
/// After so many samples, what came after a gap is taken for true. More than are needed to be sure of a series
/// ([`AGREEING`]), so that as many late rows overrule as many that jumped.
const MOST_JUMPED: u64 = 10;

/// One series.
pub(super) struct Line {
    name: Name,
    thresholds: Thresholds,
    judged: Judged,
    held: Option<Row>,
    /// Rows that came late, in the order of time.
    late: Vec<Row>,
    /// What was judged before the clock may have jumped.
    before: Option<Box<Jump>>,
}

/// What was judged so far.
#[derive(Clone)]
struct Judged {
    detector: Detector,
    /// The time of the first sample, the detector's zero.
    first: Option<f64>,
    /// The time of the last sample.
    last: Option<f64>,
    /// The time from the sample before the last.
    gap: Option<f64>,
    samples: u64,
    verdict: Option<Verdict>,
    changes: Changes,
}

/// The state before a gap that may be a jump, and where the gap ends.
struct Jump {
    judged: Judged,
    to: Place,
}

/// What a row brought to light.
#[derive(Default)]
pub(super) struct News {
    /// Rows that are left out.
    pub(super) bad: Vec<Bad>,
    /// The first of some samples whose judgement was taken back, and how many they are.
    pub(super) undone: Option<(Place, u64)>,
    /// The times begin anew at this place, and the series before it is over.
    pub(super) anew: Option<(Place, Box<Line>)>,
}

impl Line {
    pub(super) fn new(name: Name, thresholds: Thresholds) -> Self {
        Self { name, thresholds, judged: Judged::new(thresholds), held: None, late: Vec::new(), before: None }
    }

    /// Judges the row before and holds this one, unless the two are not in order.
    pub(super) fn take(&mut self, row: Row) -> News {
        let mut news = News::default();
        let Some(held) = self.held.take() else {
            self.held = Some(row);
            return news;
        };
        if row.at_s > held.at_s {
            self.strays(&held, &mut news);
            self.judge(&held);
            self.held = Some(row);
        } else if row.at_s == held.at_s {
            news.bad.push(late(&row, held.at_s));
            self.held = Some(held);
        } else if self.judged.last.is_none_or(|last| row.at_s > last) {
            let (ahead, after) = (held.at_s, row.at_s);
            let why = format!("its time {ahead} s is after {after} s, that of the sample after it");
            news.bad.push(Bad { place: held.place, why });
            self.held = Some(row);
        } else {
            self.held = Some(held);
            self.take_late(row, &mut news);
        }
        news
    }

    /// A row that is not after what was judged already.
    fn take_late(&mut self, row: Row, news: &mut News) {
        let Some(held) = self.held.take() else { return };
        if self.late.last().is_some_and(|last| row.at_s <= last.at_s) {
            self.strays(&held, news);
        }
        self.late.push(row);
        if self.late.len() < AGREEING {
            self.held = Some(held);
            return;
        }
        let agreeing = std::mem::take(&mut self.late);
        match self.before.take() {
            // The held one is the last that had jumped.
            Some(jump) if jump.judged.last.is_some_and(|last| agreeing[0].at_s > last) => {
                let count = self.judged.samples - jump.judged.samples + 1;
                news.undone = Some((jump.to, count));
                self.judged = jump.judged;
            }
            _ => {
                let fresh = Self::new(self.name.clone(), self.thresholds);
                let mut over = std::mem::replace(self, fresh);
                over.judge(&held);
                news.anew = Some((agreeing[0].place, Box::new(over)));
            }
        }
        for row in agreeing {
            if let Some(before) = self.held.replace(row) {
                self.judge(&before);
            }
        }
    }

    /// The late rows were strays.
    fn strays(&mut self, held: &Row, news: &mut News) {
        news.bad.extend(self.late.drain(..).map(|row| late(&row, held.at_s)));
    }

    fn judge(&mut self, row: &Row) {
        if !row.name.comm.is_empty() {
            self.name.comm.clone_from(&row.name.comm);
        }
        let gap = self.judged.last.map(|last| row.at_s - last);
        if let (Some(gap), Some(usual)) = (gap, self.judged.gap)
            && gap > JUMP * usual
        {
            self.before = Some(Box::new(Jump { judged: self.judged.clone(), to: row.place }));
        }
        self.judged.take(row);
        let jumped = |jump: &Jump| self.judged.samples - jump.judged.samples;
        if self.before.as_ref().is_some_and(|jump| jumped(jump) >= MOST_JUMPED) {
            self.before = None;
        }
    }

    /// The report as the series stands at its end, where there is a sample, and what is left to say of its rows.
    pub(super) fn finish(mut self, file: &str) -> (Option<SeriesReport>, News) {
        let mut news = News::default();
        if let Some(held) = self.held.take() {
            self.strays(&held, &mut news);
            self.judge(&held);
        }
        (self.report(file, false), news)
    }

    /// The report of a series that a new one follows: it does not stand at the end.
    pub(super) fn finish_as_ended(self, file: &str) -> Option<SeriesReport> {
        self.report(file, true)
    }

    fn report(self, file: &str, ended: bool) -> Option<SeriesReport> {
        let verdict = self.judged.verdict?;
        let name = Named {
            pid: self.name.pid,
            start: None,
            comm: Some(self.name.comm).filter(|comm| !comm.is_empty()),
            cmdline: None,
        };
        Some(name.report(file, self.judged.samples, &verdict, self.judged.changes, ended))
    }
}

impl Judged {
    fn new(thresholds: Thresholds) -> Self {
        Self {
            detector: Detector::new(thresholds),
            first: None,
            last: None,
            gap: None,
            samples: 0,
            verdict: None,
            changes: Changes::default(),
        }
    }

    fn take(&mut self, row: &Row) {
        let first = *self.first.get_or_insert(row.at_s);
        self.gap = self.last.map(|last| row.at_s - last);
        self.last = Some(row.at_s);
        self.samples += 1;
        let since = Duration::try_from_secs_f64(row.at_s - first).unwrap_or_default();
        let sample = Sample { at: Moment::default() + since, memory: row.memory, host_shmem: None };
        let before = self.verdict.take().unwrap_or_else(Verdict::learning);
        let verdict = self.detector.observe(&sample);
        if (before.state, before.confirmed) != (verdict.state, verdict.confirmed) {
            let oom = row
                .room
                .clone()
                .zip(verdict.rate)
                .and_then(|(room, rate)| time_to_oom(room, &Demand::of(&rate)));
            self.changes.add(row.at_s, None, &verdict, oom);
        }
        self.verdict = Some(verdict);
    }
}

fn late(row: &Row, than: f64) -> Bad {
    let why = format!("its time {} s is not after {than} s, that of the sample before it", row.at_s);
    Bad { place: row.place, why }
}
