//! What to call a process that is not on its way to a leak: steady, a sawtooth, shrinking, growing in file pages...
//!
//! These names explain; no decision hangs on them. Start reading at [`label`].

use std::time::Duration;

use super::State;
use super::pyramid::{Bucket, Level, width_s};
use crate::units::Bytes;

/// Movement, in pages, below which a process is called steady whatever it does.
const SMALL_CHANGE: f64 = 64.0;
/// Movement, as a share of what the process holds, below which it is called steady.
const SMALL_SHARE: f64 = 0.02;
/// A process that let go of this many times what it still holds has collapsed: it is dying, or it began anew.
const COLLAPSE: f64 = 9.0;
/// Seconds to look back for a fall.
const FALL_WINDOW_S: f64 = 16.0;

/// The name for what the levels show; `size` is the footprint now, in pages, and `quiet` how long it did not change,
/// both seen over `watched`.
pub(super) fn label(levels: &[Level], size: f64, quiet: Duration, watched: Duration) -> State {
    if is_quiet(quiet, watched) {
        return State::Steady;
    }
    let big = SMALL_CHANGE.max(SMALL_SHARE * size);
    if is_falling(levels, size, big) {
        return State::Shrinking;
    }
    let fell = levels.iter().map(|l| f64::from(l.reading.fell)).fold(0.0, f64::max);
    if fell >= big {
        let swing = levels.iter().skip(3).map(Level::swing).fold(0.0, f64::max);
        return if swing >= 0.4 * fell { State::Sawtooth } else { State::Fluctuating };
    }
    let widest = levels.iter().rev().find(|l| l.reading.buckets > 0);
    match widest {
        Some(level) if level.reading.rising > 0 && f64::from(level.reading.grown) >= big => State::WarmingUp,
        _ => State::Steady,
    }
}

/// Whether silence has lasted so long that no rise before it can be seen any more, at any time-scale: a rise needs
/// Kendall's tau 0.9, which a row whose last four tenths are flat does not reach.
pub(super) fn is_quiet(quiet: Duration, watched: Duration) -> bool {
    quiet >= watched.mul_f64(0.45).max(Duration::from_secs(30))
}

/// Whether the last quarter of a minute went down.
fn is_falling(levels: &[Level], size: f64, big: f64) -> bool {
    let level = (0..levels.len()).find(|k| levels[*k].len() as f64 * width_s(*k) >= FALL_WINDOW_S);
    let Some(level) = level.or(levels.len().checked_sub(1)) else { return false };
    let finest = levels[0].row(Bucket::max);
    if let (Some(first), Some(now)) = (finest.first(), finest.last())
        && f64::from(*first) - f64::from(*now) >= (COLLAPSE * size).max(big)
    {
        return true;
    }
    let peaks = levels[level].row(Bucket::max);
    let floors = levels[level].row(Bucket::min);
    let (Some(first), Some(last)) = (peaks.first(), floors.last()) else { return false };
    let fell = f64::from(*first) - f64::from(*last);
    // Down on the whole, and at the bottom now: not a collector that has just run.
    fell >= big && super::trend::kendall_tau(&floors) <= -0.6
}

/// Watches a count that is named and not judged, once a second: pages of files, or foreign shared memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aside {
    seconds: [u64; Self::DEPTH],
    filled: usize,
}

impl Aside {
    const DEPTH: usize = 8;
    /// Growth over the window that is worth a name.
    const WORTH: u64 = 1 << 20;

    /// Notes that the count is `value`, `seconds` seconds after the last note; until now it held.
    pub(super) fn note(&mut self, value: Bytes, seconds: u64) {
        let held = self.seconds[Self::DEPTH - 1];
        for _ in 0..seconds.min(Self::DEPTH as u64) {
            self.seconds.rotate_left(1);
            self.seconds[Self::DEPTH - 1] = held;
            self.filled = (self.filled + 1).min(Self::DEPTH);
        }
        self.seconds[Self::DEPTH - 1] = value.0;
        self.filled = self.filled.max(1);
    }

    /// Whether the count rose by a megabyte over the last seconds, and fell in none.
    pub(super) fn grows(&self) -> bool {
        let seen = &self.seconds[Self::DEPTH - self.filled..];
        let (Some(first), Some(last)) = (seen.first(), seen.last()) else { return false };
        seen.len() >= 4 && seen.is_sorted() && last - first >= Self::WORTH
    }

    /// Whether the count has not changed for as long as it is remembered.
    pub(super) fn is_flat(&self) -> bool {
        let seen = &self.seconds[Self::DEPTH - self.filled..];
        seen.first() == seen.last()
    }
}
