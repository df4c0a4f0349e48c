//! The detector: one process's samples in, a verdict out.
//!
//! Samples come when they come. They are put on a grid of four ticks a second by holding the last value (a silent
//! process is flat, not missing), entered in the floor pyramid (`pyramid.rs`), read at every time-scale (`reading.rs`)
//! and judged together (`judge.rs`). The same samples give the same verdicts, whenever they are judged. Start reading
//! at [`Detector::observe`].

use std::time::Duration;

use super::cycles::Cycles;
use super::judge::{Finding, Latch, Proof, judge};
use super::label::{Aside, is_quiet, label};
use super::pyramid::{DEPTH, Pyramid, TICK_S};
use super::reading::{Quantum, Reading, Rows, narrow};
use super::scales::{Scale, Scales};
use super::signal::{Signal, bytes, bytes_per_s, pages};
use super::{Evidence, Rate, Sample, State, Thresholds, Verdict};
use crate::units::{Bytes, BytesPerSec, Moment};

/// Nanoseconds in a tick.
const TICK_NS: u64 = 250_000_000;
/// Ticks in a second.
const TICKS_PER_S: u64 = 1_000_000_000 / TICK_NS;
/// Ticks before anything is said.
const LEARNING_TICKS: u64 = 8;
/// A silence longer than this that ends in a change was a gap: the machine slept, or nobody looked.
const GAP_S: f64 = 10.0;
/// A silence longer than this was rest, at any sampling rate that is used.
const REST_S: f64 = 1.25;
/// Longest clean growth that `leaking` asks for, and `suspect`.
const LEAKING: Duration = Duration::from_secs(60);
const SUSPECT: Duration = Duration::from_secs(6);
/// Growth faster than this (2 MB/s, in pages) needs twice the time: that is how bulk loads grow. A leak that was proved
/// below it stays one until it is clearly above.
const BULK: f64 = 512.0;
const CLEARLY_BULK: f64 = 1.25 * BULK;
/// The time constant, in seconds, that a plateau hidden in the noise must at least have when `leaking` is said after
/// a minute; where that cannot be shown, `leaking` needs twice the time.
const NO_END_S: f64 = 1200.0;
/// Standard errors of the slope on each side of the rate: of a full row, and how many more for each bucket that a row is
/// short of. A row of 8 gets the 2.4 that Student's t has at 7 degrees of freedom; a full one less than t's 2.1, because
/// the error is made from increments, whose scatter is larger than that about the line.
const INTERVAL: (f64, f64) = (2.13, 0.03);

/// Judges one process.
///
/// An `exec` makes another program of a process: give it a new detector.
#[derive(Clone, Debug)]
pub struct Detector {
    thresholds: Thresholds,
    /// What the first sample fixed; `None` before it.
    origin: Option<Origin>,
    pyramid: Pyramid,
    /// From the first fall on.
    cycles: Option<Box<Cycles>>,
    latch: Latch,
    /// Ticks that were entered.
    ticks: u64,
    /// Ticks since the signal last changed.
    quiet: u64,
    /// The last sample's moment and watched bytes: what holds until the next one.
    last: (Moment, Bytes),
    /// The watched bytes at the last tick that was entered; a later sample of the same tick waits for the next.
    entered: Bytes,
    steps: Steps,
    file: Aside,
    foreign: Aside,
    verdict: Verdict,
}

/// Where the first sample put the zero of time and size.
#[derive(Clone, Copy, Debug)]
struct Origin {
    at: Moment,
    pages: f64,
    signal: Signal,
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            origin: None,
            pyramid: Pyramid::default(),
            cycles: None,
            latch: Latch::default(),
            ticks: 0,
            quiet: 0,
            last: (Moment::default(), Bytes::ZERO),
            entered: Bytes::ZERO,
            steps: Steps::default(),
            file: Aside::default(),
            foreign: Aside::default(),
            verdict: Verdict::learning(),
        }
    }

    /// Takes the next sample and says what is thought of the process now.
    ///
    /// A sample that is not later than the one before changes nothing.
    pub fn observe(&mut self, sample: &Sample) -> Verdict {
        let mut origin = match self.origin {
            Some(_) if sample.at <= self.last.0 => return self.verdict.clone(),
            Some(origin) => origin,
            None => {
                let mut signal = Signal::starting_at(sample);
                let value = signal.of(sample);
                self.last = (sample.at, value);
                self.entered = value;
                Origin { at: sample.at, pages: pages(value), signal }
            }
        };
        let value = origin.signal.of(sample);
        let (file, foreign) = origin.signal.uncounted(sample);
        self.origin = Some(origin);
        // To the nearest tick, so that a timer's jitter does not make a tick miss its sample.
        let tick = (sample.at.since(origin.at).as_nanos() + u128::from(TICK_NS / 2)) / u128::from(TICK_NS);
        let tick = u64::try_from(tick).unwrap_or(u64::MAX);
        if tick >= self.ticks {
            let seconds = tick / TICKS_PER_S - self.ticks.saturating_sub(1) / TICKS_PER_S;
            self.file.note(file, seconds);
            self.foreign.note(foreign, seconds);
            self.enter(&origin, tick, sample.at, value);
            self.judge(&origin, value);
        }
        self.last = (sample.at, value);
        self.verdict.clone()
    }

    /// The bytes that are watched, as of the last sample: anonymous and swapped, and new shared memory.
    pub const fn footprint(&self) -> Bytes {
        self.last.1
    }

    /// Bytes that the detector holds on the heap: nothing before the footprint moves, bounded after.
    pub fn heap_bytes(&self) -> usize {
        self.pyramid.heap_bytes() + self.cycles.as_ref().map_or(0, |_| size_of::<Cycles>())
    }

    /// Whether the verdict stands until the footprint changes: no sample needs to be given before.
    pub fn is_settled(&self) -> bool {
        let never_moved = self.pyramid.levels().is_empty();
        let quiet = never_moved || is_quiet(ticks(self.quiet), ticks(self.ticks));
        self.ticks >= LEARNING_TICKS
            && quiet
            && !self.latch.is_on()
            && self.entered == self.last.1
            && self.verdict.state == State::Steady
            && self.file.is_flat()
            && self.foreign.is_flat()
    }

    /// Fills the grid up to `tick` with the value that held, and enters `value` there.
    fn enter(&mut self, origin: &Origin, tick: u64, at: Moment, value: Bytes) {
        let (entered, held) = (self.entered, self.last.1);
        let silent = tick - self.ticks;
        let changed = value != entered || held != entered;
        let offset = |value: Bytes| narrow(pages(value) - origin.pages);
        let was_settled = self.is_settled();
        let rested = self.quiet > 0;
        self.ticks = tick.saturating_add(1);
        self.quiet = if changed { 0 } else { self.quiet.saturating_add(silent + 1) };
        let mut closed;
        if !self.pyramid.levels().is_empty() {
            closed = self.pyramid.extend(offset(held), silent);
        } else if changed {
            // The first movement: until now there was nothing to remember but how long it was still.
            closed = self.pyramid.extend(offset(entered), tick - silent);
            closed = closed.max(self.pyramid.extend(offset(held), silent));
        } else {
            return;
        }
        let gap_s = at.since(self.last.0).as_secs_f64();
        if changed {
            // Steps that follow one another sample by sample may be a slope; only a step out of rest shows its size.
            let from_rest = rested || gap_s > REST_S;
            self.steps.note(if from_rest { (pages(value) - pages(entered)).abs() } else { 1.0 });
            if gap_s > GAP_S && !was_settled {
                self.pyramid.restart_finer_than(gap_s / 4.0);
                self.cycles = None;
            }
        }
        closed = closed.max(self.pyramid.extend(offset(value), 1));
        let quantum = Quantum::of_step(self.steps.least());
        if changed {
            if self.cycles.is_none() && value < entered {
                self.cycles = Some(Box::new(Cycles::starting_at(offset(entered))));
            }
            if let Some(cycles) = &mut self.cycles {
                cycles.enter(tick, offset(value), quantum);
            }
        }
        self.entered = value;
        for (k, level) in self.pyramid.levels_mut().iter_mut().enumerate().take(closed) {
            level.reading = Reading::of(level, Rows::of_level(k), quantum);
        }
    }

    /// Judges what was entered, and makes the verdict.
    fn judge(&mut self, origin: &Origin, value: Bytes) {
        let now_s = self.ticks as f64 * TICK_S;
        let size = pages(value);
        let offset = size - origin.pages;
        let scales = self.scales();
        let finding = judge(&scales, offset, self.latch.tolerates());
        if let Finding::Clean { scale } = finding {
            let grown = f64::from(scales.reading(scale).grown);
            let mut verdict = self.clean(&scales, scale);
            if verdict.state == State::Leaking {
                let (span_s, confirmed) = (verdict.clean_growth.as_secs_f64(), verdict.confirmed);
                let proof = Proof { at_s: now_s, value: offset, grown, span_s, confirmed };
                let proof = self.latch.prove(proof);
                verdict.clean_growth = seconds(proof.span_s);
                verdict.confirmed = proof.confirmed;
            }
            if verdict.state == State::Leaking || !self.latch.doubt(now_s, offset, false) {
                self.verdict = verdict;
                return;
            }
        }
        let bends = matches!(finding, Finding::Held { .. });
        if self.latch.doubt(now_s, offset, bends) {
            let age = self.latch.age_s(now_s).unwrap_or_default();
            self.verdict.evidence.proved_ago = seconds(age);
            return;
        }
        self.verdict = self.unclean(finding, size);
    }

    fn scales(&self) -> Scales<'_> {
        Scales::at(self.ticks, self.pyramid.levels(), self.cycles.as_deref())
    }

    /// The verdict on clean growth, decided by one scale.
    fn clean(&self, scales: &Scales<'_>, scale: Scale) -> Verdict {
        let reading = scales.reading(scale);
        let span = seconds(scales.span_s(scale));
        let slope = scales.slope(scale);
        let bulk = if self.latch.is_on() { CLEARLY_BULK } else { BULK };
        let factor = |bulk: f64| if slope > bulk { 2 } else { 1 };
        let need = self.thresholds.confirm.min(LEAKING) * factor(bulk);
        let state = if span >= need * 2
            || span >= need && no_end_in_sight(reading, scales.span_s(scale), self.thresholds.confirm)
        {
            State::Leaking
        } else if span >= SUSPECT.min(need / 2) {
            State::Suspect
        } else {
            State::Growing
        };
        let confirmed =
            state == State::Leaking && span >= self.thresholds.confirm.saturating_mul(factor(BULK));
        let evidence = Evidence::of(scales, scale);
        Verdict { state, confirmed, clean_growth: span, rate: Some(rate(reading, slope)), evidence }
    }

    /// The verdict on anything else.
    fn unclean(&self, finding: Finding, size: f64) -> Verdict {
        let scales = self.scales();
        let mut verdict = Verdict::learning();
        verdict.state = match finding {
            Finding::Held { scale, plateau } => {
                if let Some(scale) = scale {
                    verdict.evidence = Evidence::of(&scales, scale);
                    verdict.rate = Some(rate(scales.reading(scale), scales.slope(scale)));
                }
                let absolute = |end: f64| bytes(end + self.origin.map_or(0.0, |origin| origin.pages));
                verdict.evidence.plateau = plateau.map(absolute);
                State::WarmingUp
            }
            _ if self.ticks < LEARNING_TICKS => State::Learning,
            _ => match label(scales.levels, size, ticks(self.quiet), ticks(self.ticks)) {
                State::Steady if self.file.grows() => State::FileGrowth,
                State::Steady if self.foreign.grows() => State::SharedGrowth,
                state => state,
            },
        };
        verdict
    }
}

/// Whether a plateau, as near as the noise allows one, is far away: 20 minutes for a verdict after a minute.
///
/// How far away noise lets a plateau be shown to be grows with the time watched to the power 2.5 (the growth, times the
/// root of the number of buckets, times the time itself), so a verdict that is asked for sooner is asked for that much
/// less.
fn no_end_in_sight(reading: &Reading, span_s: f64, confirm: Duration) -> bool {
    let asked_s = NO_END_S * (confirm.min(LEAKING).as_secs_f64() / LEAKING.as_secs_f64()).powf(2.5);
    let worst_bend = f64::from(reading.lost).max(0.0) + 2.0 * f64::from(reading.lost_error);
    span_s >= asked_s * worst_bend
}

/// The growth rate that a level with this slope shows, with its interval.
fn rate(reading: &Reading, slope: f64) -> Rate {
    let short_of_full = DEPTH as f64 - f64::from(reading.buckets);
    let margin = (INTERVAL.0 + INTERVAL.1 * short_of_full) * f64::from(reading.error);
    let rate = |pages_per_s: f64| BytesPerSec(bytes_per_s(pages_per_s));
    Rate { mean: rate(slope), low: rate(slope - margin), high: rate(slope + margin) }
}

/// A number of ticks as a time.
fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(TICK_NS / 1_000_000))
}

/// A time that is neither negative nor absurd.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

/// The last changes of the signal: how coarsely it is counted.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    pages: [f32; Self::DEPTH],
    next: usize,
}

impl Steps {
    const DEPTH: usize = 8;

    fn note(&mut self, pages: f64) {
        self.pages[self.next] = narrow(pages);
        self.next = (self.next + 1) % Self::DEPTH;
    }

    /// The least of the remembered changes, in pages; 0 until there are enough of them.
    fn least(&self) -> f64 {
        f64::from(self.pages.iter().copied().fold(f32::INFINITY, f32::min))
    }
}
