//! What a collector leaves behind: one floor for each of its cycles.
//!
//! Buckets of fixed widths see through a sawtooth once they are longer than its period; as widths double, that may take
//! sixteen periods. Here a bucket is one cycle, from a fall to the next, whatever its length, and eight of them are enough.
//! A fall counts when it is half as deep as the deepest of those remembered, so that minor collections inside a major
//! cycle do not end it. The rows are read as those of any level (`reading.rs`), with the mean length of a cycle for their
//! width, as long as the cycles are of about equal length. Start reading at [`Cycles::enter`].

use super::pyramid::{Bucket, DEPTH, Level, TICK_S};
use super::reading::{Quantum, Reading, Rows};

/// Pages that a fall must have at least: small change has no rhythm.
const LEAST_FALL: f32 = 64.0;
/// The share of the deepest remembered swing that ends a cycle.
const DEEP: f32 = 0.5;
/// A swing this many times the deepest remembered one begins another rhythm: what came before were its ripples.
const ANOTHER: f32 = 2.0;
/// The share of a swing that must be regained before a trough is one.
const REGAINED: f32 = 0.05;
/// Greatest standard deviation of the lengths, as a share of their mean.
const REGULAR: f64 = 0.35;
/// Mean lengths after which a rhythm without a fall has ended.
const SILENT: f64 = 2.0;

/// The last cycles of a process that takes and gives back again and again.
#[derive(Clone, Debug, Default)]
pub(super) struct Cycles {
    /// A bucket for each cycle: the trough that ended it, the peak before, and no mean.
    level: Level,
    /// Ticks between a bucket's trough and the one before, in the level's places.
    lengths: [u32; DEPTH],
    /// Mean length of the cycles that are remembered, in seconds; 0 while there is no rhythm.
    width_s: f32,
    falling: bool,
    peak: f32,
    trough: f32,
    trough_at: u64,
    /// When the last complete cycle ended.
    ended_at: u64,
}

impl Cycles {
    /// Cycles that begin with `value`.
    pub(super) fn starting_at(value: f32) -> Self {
        Self { peak: value, ..Self::default() }
    }

    /// Takes the value at a tick; values that did not change need not be given.
    pub(super) fn enter(&mut self, tick: u64, value: f32, quantum: Quantum) {
        if self.falling {
            if value < self.trough {
                (self.trough, self.trough_at) = (value, tick);
            } else if value >= self.trough + (REGAINED * (self.peak - self.trough)).max(1.0) {
                self.end_cycle(quantum);
                self.falling = false;
                self.peak = value;
            }
        } else if value >= self.peak {
            self.peak = value;
        } else if self.peak - value >= LEAST_FALL && self.peak - value >= DEEP * self.deepest() {
            self.falling = true;
            (self.trough, self.trough_at) = (value, tick);
        }
    }

    /// The troughs, with what was read from them, and the mean length of a cycle in seconds; while they go on.
    pub(super) fn going_on(&self, now: u64) -> Option<(&Level, f64)> {
        let width_s = f64::from(self.width_s);
        let silent_s = now.saturating_sub(self.ended_at) as f64 * TICK_S;
        (width_s > 0.0 && silent_s <= SILENT * width_s).then_some((&self.level, width_s))
    }

    fn deepest(&self) -> f32 {
        let spans = self.level.row(|bucket| bucket.max() - bucket.min());
        spans.iter().copied().fold(0.0, f32::max)
    }

    fn end_cycle(&mut self, quantum: Quantum) {
        let deepest = self.deepest();
        if deepest > 0.0 && self.peak - self.trough > ANOTHER * deepest {
            self.level = Level::default();
        }
        let place = self.level.next();
        let length = self.trough_at - self.ended_at;
        self.lengths[place] = u32::try_from(length).unwrap_or(u32::MAX);
        self.ended_at = self.trough_at;
        self.level.push(Bucket::spanning(self.trough, self.peak, self.trough));
        self.width_s = self.mean_length_s();
        self.level.reading = if self.width_s > 0.0 {
            Reading::of(&self.level, Rows::of_cycles(f64::from(self.width_s)), quantum)
        } else {
            Reading::default()
        };
    }

    /// The mean length of the cycles between the remembered troughs; 0 when they are too few or too unlike.
    fn mean_length_s(&self) -> f32 {
        let between = self.level.len().saturating_sub(1);
        let newest = self.level.next() + DEPTH - 1;
        let lengths = (0..between).map(|back| f64::from(self.lengths[(newest - back) % DEPTH]));
        let count = between as f64;
        let mean = lengths.clone().sum::<f64>() / count.max(1.0);
        let variance = lengths.map(|length| (length - mean).powi(2)).sum::<f64>() / count.max(1.0);
        let regular = between > 1 && variance.sqrt() <= REGULAR * mean;
        super::reading::narrow(if regular { mean * TICK_S } else { 0.0 })
    }
}
