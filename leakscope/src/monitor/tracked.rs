//! What the monitor keeps of one process.

use std::collections::VecDeque;

use super::closer::Looks;
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
    /// The limits above it, the innermost first and the host's last; read while it grows, and empty until then.
    pub rooms: Vec<Room>,
    pub(super) rooms_read_at: Option<Moment>,
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
    /// When it was, and is, looked at closely.
    pub(super) looks: Looks,
}

impl Tracked {
    pub(super) fn new(thresholds: Thresholds) -> Self {
        Self {
            identity: None,
            verdict: Verdict::learning(),
            rooms: Vec::new(),
            rooms_read_at: None,
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
            looks: Looks::default(),
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
        // Calls are counted while it is looked at closely; what they came to stays true after.
        if let Some(now) = &mut reading.kernel
            && now.syscalls.is_none()
        {
            now.syscalls = self.kernel().and_then(|before| before.syscalls);
        }
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

    /// How much of the growth over the verdict's window the kernel's counters account for, from 0 to 1.
    ///
    /// `rss_stat` says what was added to the footprint less what was taken away, and is right to within `lag`: each CPU
    /// keeps some pages to itself. Within that the page faults decide: the pages that the process touched first, less
    /// those that were no anonymous ones or were given back. Where `rss_stat` has no values, the faults are all there is.
    ///
    /// `None` without a kernel side, and where nothing grew. What stays below 1 was populated unseen: before the start,
    /// or by somebody else.
    pub fn explained(&self, page: Bytes, lag: Bytes) -> Option<f64> {
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
        Some((populated(&before, &after, page, lag) / grown.as_f64()).clamp(0.0, 1.0))
    }
}

/// Bytes that the kernel side saw added to the footprint between two points.
fn populated(before: &Populated, after: &Populated, page: Bytes, lag: Bytes) -> f64 {
    let first_touches = after.first_touches.saturating_sub(before.first_touches);
    let touched = Bytes(first_touches.saturating_mul(page.0)).as_f64();
    let lasting = touched - after.elsewhere.saturating_sub(before.elsewhere) as f64;
    match after.footprint {
        None => touched,
        Some(now) => {
            let flow = now.saturating_sub(before.footprint.unwrap_or(0)) as f64;
            lasting.clamp(flow - lag.as_f64(), flow + lag.as_f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Flow;

    const PAGE: Bytes = Bytes(4096);
    const MIB: u64 = 1 << 20;

    fn flow(grown: u64, shrunk: u64) -> Option<Flow> {
        Some(Flow { grown: Bytes(grown), shrunk: Bytes(shrunk) })
    }

    /// What is accounted for of 100 MiB of growth.
    fn share(counts: KernelCounts, lag: u64) -> f64 {
        populated(&Populated::default(), &Populated::from(counts), PAGE, Bytes(lag)) / (100 * MIB) as f64
    }

    #[test]
    fn touches_of_files_and_of_what_was_given_back_explain_no_growth() {
        let faults = |mib: u64| mib * MIB / PAGE.0;
        let files = KernelCounts {
            first_touch_faults: faults(200),
            rss_anon: flow(10 * MIB, 0),
            rss_file: flow(190 * MIB, 0),
            ..KernelCounts::default()
        };
        assert!((share(files, MIB) - 0.1).abs() < 0.02, "{}", share(files, MIB));
        let churn = KernelCounts {
            first_touch_faults: faults(1000),
            rss_anon: flow(1000 * MIB, 980 * MIB),
            ..KernelCounts::default()
        };
        assert!((share(churn, MIB) - 0.2).abs() < 0.02, "{}", share(churn, MIB));
    }

    #[test]
    fn what_goes_to_swap_and_comes_back_is_no_growth_and_what_stays_there_is() {
        let back = KernelCounts {
            first_touch_faults: 50 * MIB / PAGE.0,
            rss_anon: flow(50 * MIB, 50 * MIB),
            rss_swap: flow(50 * MIB, 50 * MIB),
            ..KernelCounts::default()
        };
        assert!(share(back, 0).abs() < 0.01, "{}", share(back, 0));
        let out = KernelCounts {
            first_touch_faults: 100 * MIB / PAGE.0,
            rss_anon: flow(100 * MIB, 60 * MIB),
            rss_swap: flow(60 * MIB, 0),
            ..KernelCounts::default()
        };
        assert!((share(out, 0) - 1.0).abs() < 0.01, "{}", share(out, 0));
    }

    #[test]
    fn within_the_counters_lag_the_faults_decide_and_without_values_they_are_all_there_is() {
        let lagging = KernelCounts {
            first_touch_faults: 100 * MIB / PAGE.0,
            rss_anon: flow(90 * MIB, 0),
            ..KernelCounts::default()
        };
        assert!((share(lagging, 20 * MIB) - 1.0).abs() < 0.01);
        assert!((share(lagging, MIB) - 0.91).abs() < 0.01);
        let faults = KernelCounts { rss_anon: None, ..lagging };
        assert!((share(faults, MIB) - 1.0).abs() < 0.01);
    }
}
