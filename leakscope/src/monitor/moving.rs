//! A process that was read more than once: all that a growth may need.

use super::Looks;
use super::history::{History, Point, Populated};
use super::resting::{Beat, Beats, Resting};
use crate::leak::{Detector, Memory, Room, State, Verdict};
use crate::source::{KernelCounts, Reading};
use crate::units::{Bytes, Moment};

/// A process that was read more than once, and what is thought of it.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    pub(super) verdict: Verdict,
    /// The limits above it.
    pub(super) rooms: Vec<Room>,
    pub(super) rooms_read_at: Option<Moment>,
    /// When it was first suspected, since it last was not.
    pub(super) suspected_at: Option<Moment>,
    pub(super) confirmed_at: Option<Moment>,
    /// How many readings there were of it.
    pub(super) samples: u64,
    /// When it was first read.
    pub(super) seen_at: Moment,
    /// Its footprint then.
    pub(super) first: Bytes,
    /// Its footprint when it was last thought steady.
    pub(super) steady: Option<Bytes>,
    /// All that it gave back since it was first read: the sum of the falls between samples.
    given_back: Bytes,
    /// The footprint of the sample before.
    before: Bytes,
    detector: Detector,
    /// What it held when it was last read, and what was counted of it.
    pub(super) memory: Memory,
    pub(super) kernel: Option<KernelCounts>,
    pub(super) history: History,
    /// When it was, and is, looked at closely.
    pub(super) looks: Looks,
}

impl Moving {
    /// A process that rested until now: it lives through that again.
    pub(super) fn after(resting: &Resting, beats: &Beats) -> Self {
        let footprint = resting.memory().footprint();
        let mut moving = Self {
            verdict: Verdict::learning(),
            rooms: Vec::new(),
            rooms_read_at: None,
            suspected_at: None,
            confirmed_at: None,
            samples: 1,
            seen_at: resting.seen_at(),
            first: footprint,
            steady: None,
            given_back: Bytes::ZERO,
            before: footprint,
            detector: Detector::new(beats.thresholds),
            memory: resting.memory(),
            kernel: resting.kernel(),
            history: History::default(),
            looks: Looks::default(),
        };
        for beat in resting.lived(beats) {
            moving.observe(beat);
        }
        moving
    }

    pub(super) fn take(&mut self, reading: &Reading) {
        self.samples += 1;
        self.memory = reading.memory;
        // Calls are counted while it is looked at closely; what they came to stays true after.
        let syscalls = self.kernel.and_then(|before| before.syscalls);
        self.kernel = reading.kernel.map(|now| KernelCounts { syscalls: now.syscalls.or(syscalls), ..now });
    }

    /// Judges it by what was last read.
    pub(super) fn observe(&mut self, beat: Beat) {
        let sample = beat.sample(self.memory);
        self.verdict = self.detector.observe(&sample);
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
        if self.verdict.state == State::Steady {
            self.steady = Some(footprint);
        }
        self.given_back += std::mem::replace(&mut self.before, footprint) - footprint;
        let point = Point {
            at: sample.at,
            memory: sample.memory,
            populated: self.kernel.map(Populated::from),
            given_back: self.given_back,
        };
        self.history.push(point, severity > 0 || self.verdict.state == State::WarmingUp);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.detector.is_settled()
    }

    /// Bytes that it has on the heap, without its limits'.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.detector.heap_bytes() + self.history.heap_bytes()
    }

    /// [`super::Tracked::given_back`].
    pub(super) fn given_back(&self, now: Moment) -> Bytes {
        let window = u64::try_from(self.verdict.clean_growth.as_nanos()).unwrap_or(u64::MAX);
        let began = Moment(now.0.saturating_sub(window));
        let before = self.history.at_or_before(began).map_or(Bytes::ZERO, |point| point.given_back);
        self.given_back - before
    }

    /// [`super::Tracked::explained`].
    pub(super) fn explained(&self, page: Bytes, lag: Bytes) -> Option<f64> {
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
    use crate::source::{Flow, KernelCounts};

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
