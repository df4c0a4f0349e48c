//! What the monitor keeps of one process.

use std::collections::VecDeque;

use super::history::{History, Point, Populated};
use crate::leak::{Cadence, Detector, FaultStep, Memory, Room, Sample, State, Thresholds, Verdict, cadence};
use crate::process::Identity;
use crate::source::{KernelCounts, Reading};
use crate::units::{Bytes, Moment};

/// Page faults kept for the cadence.
const FAULTS_KEPT: usize = 256;

/// One process: who it is, what was last read, and what is thought of it.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// Who it is, once somebody asked.
    pub identity: Option<Identity>,
    /// What is thought of it.
    pub verdict: Verdict,
    /// The tightest limit above it, read while it grows.
    pub room: Option<Room>,
    /// When it was first suspected, since it last was not.
    pub suspected_at: Option<Moment>,
    /// When its leak was confirmed.
    pub confirmed_at: Option<Moment>,
    /// How many readings there were of it.
    pub samples: u64,
    /// Whether it was looked whose worker it is.
    pub(super) asked_for_service: bool,
    seen_at: Option<Moment>,
    /// Its footprint when it was first read.
    pub first: Option<Bytes>,
    /// Its footprint when it was last thought steady.
    pub steady: Option<Bytes>,
    /// All that it gave back since it was first read: the sum of the falls between samples.
    given_back: Bytes,
    /// The footprint of the sample before.
    before: Option<Bytes>,
    detector: Detector,
    reading: Option<Reading>,
    /// The newest page faults, while it is inspected.
    faults: VecDeque<FaultStep>,
    history: History,
}

impl Tracked {
    pub(super) fn new(thresholds: Thresholds) -> Self {
        Self {
            identity: None,
            verdict: Verdict::learning(),
            room: None,
            suspected_at: None,
            confirmed_at: None,
            samples: 0,
            asked_for_service: false,
            seen_at: None,
            first: None,
            steady: None,
            given_back: Bytes::ZERO,
            before: None,
            detector: Detector::new(thresholds),
            reading: None,
            faults: VecDeque::new(),
            history: History::default(),
        }
    }

    /// When it was first read; now, if it never was.
    pub(super) fn seen_at(&mut self, now: Moment) -> Moment {
        *self.seen_at.get_or_insert(now)
    }

    pub(super) fn take(&mut self, mut reading: Reading) {
        self.faults.extend(reading.faults.drain(..));
        let surplus = self.faults.len().saturating_sub(FAULTS_KEPT);
        self.faults.drain(..surplus);
        self.samples += 1;
        self.reading = Some(reading);
    }

    /// The rhythm of its growth.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn cadence(&self) -> Result<Cadence, &'static str> {
        let steps: Vec<FaultStep> = self.faults.iter().copied().collect();
        cadence(&steps, self.verdict.rate.as_ref())
    }

    pub(super) fn observe(&mut self, sample: &Sample) {
        self.verdict = self.detector.observe(sample);
        let severity = self.verdict.state.severity();
        if severity >= State::Suspect.severity() {
            self.suspected_at.get_or_insert(sample.at);
        } else if severity == 0 {
            self.suspected_at = None;
        }
        if self.verdict.confirmed {
            self.confirmed_at.get_or_insert(sample.at);
        } else {
            self.confirmed_at = None;
        }
        let footprint = sample.memory.footprint();
        self.first.get_or_insert(footprint);
        if self.verdict.state == State::Steady {
            self.steady = Some(footprint);
        }
        self.given_back += self.before.replace(footprint).map_or(Bytes::ZERO, |before| before - footprint);
        let point = Point {
            at: sample.at,
            memory: sample.memory,
            populated: self.kernel().map(Populated::from),
            given_back: self.given_back,
        };
        self.history.push(point, severity > 0 || self.verdict.state == State::WarmingUp);
    }

    /// Whether silence would leave the verdict as it is.
    pub fn is_settled(&self) -> bool {
        self.detector.is_settled()
    }

    /// What it held when it was last read.
    pub fn memory(&self) -> Option<Memory> {
        self.reading.as_ref().map(|reading| reading.memory)
    }

    /// What the kernel side has counted.
    pub fn kernel(&self) -> Option<KernelCounts> {
        self.reading.as_ref().and_then(|reading| reading.kernel)
    }

    /// The newest reading.
    pub fn reading(&self) -> Option<&Reading> {
        self.reading.as_ref()
    }

    /// Its past, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &Point> {
        self.history.points()
    }

    /// All that it gave back within the verdict's window of clean growth at `now`; zero is a measurement.
    pub fn given_back(&self, now: Moment) -> Bytes {
        let window = u64::try_from(self.verdict.clean_growth.as_nanos()).unwrap_or(u64::MAX);
        let began = Moment(now.0.saturating_sub(window));
        let before = self.history.at_or_before(began).map_or(Bytes::ZERO, |point| point.given_back);
        self.given_back - before
    }

    /// How much of the growth over the verdict's window the kernel's counters account for, from 0 to 1: the pages that
    /// the process touched first, or that `rss_stat` added, whichever is more, against the growth that /proc shows.
    ///
    /// `None` without a kernel side, and where nothing grew. It is a share of the growth, so pages that were touched and
    /// given back do not lift it above 1; what stays below 1 was populated unseen (before the start, or by someone else).
    pub fn explained(&self, page: Bytes) -> Option<f64> {
        let last = self.history.points().last()?;
        let window = self.verdict.clean_growth;
        let began = Moment(last.at.0.saturating_sub(u64::try_from(window.as_nanos()).unwrap_or(u64::MAX)));
        let first = self.history.at_or_before(began)?;
        let after = last.populated?;
        // The kernel side has no entry for a process that did nothing since it was attached.
        let before = first.populated.unwrap_or_default();
        let grown = last.memory.footprint() - first.memory.footprint();
        if grown == Bytes::ZERO {
            return None;
        }
        let touched = Bytes(after.first_touches.saturating_sub(before.first_touches).saturating_mul(page.0));
        let added = after.anon_added - before.anon_added;
        Some((touched.max(added).as_f64() / grown.as_f64()).min(1.0))
    }
}
