//! What one level of the pyramid says: does its floor rise, how surely, does the rise bend, and what was given back?
//!
//! A reading is made each time a bucket of its level closes, and judged together with those of the other levels
//! (`judge.rs`). Sizes are in pages of 4 KiB. Start reading at [`Reading::of`].

use super::pyramid::{Bucket, Level, width_s};
use super::trend::{Bend, Trend, bend, deepest_fall, slope, trend};

/// Least number of buckets that statistics are made of.
const LEAST_BUCKETS: usize = 8;
/// Least number of buckets that a fall or a recent slope is read from.
const LEAST_FOR_FALLS: usize = 4;
/// Kendall's tau and Student's t that a rise must reach.
const RISE: (f64, f64) = (0.9, 5.0);
/// The same for the last buckets alone: they were chosen after the whole row had failed.
const RISE_OF_THE_LAST: (f64, f64) = (0.95, 6.0);
/// A short row's length, the coarsest level that may be judged by one (1 s), and what it must reach: every value above
/// all before it, in steps so even that a random walk takes them once in a thousand rows.
const SHORT_ROW: usize = 6;
const SHORT_ROWS_UPTO: usize = 2;
const RISE_OF_SHORT_ROW: (f64, f64) = (1.0, 7.0);
/// Finest level at which bucket means may stand in for floors that rise less surely (2 s).
const MEANS_FROM: usize = 3;
/// The floors' share of the means' growth, and their tau, in that case.
const FLOORS_BEHIND_MEANS: (f64, f64) = (0.4, 0.5);
/// Tau from which a floor counts as rising on the whole.
const RISING: f64 = 0.6;
/// A rise bends when its slope falls by this share of the mean over the row, at this Student's t.
const BENDS: (f64, f64) = (0.04, 2.5);
/// A rise whose slope grows by this share of the mean over the row began inside it, or has become another.
const STEEPENS: f64 = 1.2;

/// How coarse the count is that the samples carry: page by page, in batches of 64 pages, or in huge pages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quantum {
    /// Least growth, in pages, that is looked at.
    pub(super) least_growth: f64,
    /// Variance, in pages squared, that counting in steps gives each increment.
    pub(super) variance: f64,
}

impl Quantum {
    /// For values that change by no less than `step` pages at a time.
    pub(super) fn of_step(step: f64) -> Self {
        let step = step.clamp(1.0, 1e9);
        Self { least_growth: (3.0 * step).max(8.0), variance: 0.09 * step * step }
    }
}

/// What rows a reading is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rows {
    /// Length of a bucket in seconds.
    width_s: f64,
    /// Short rows may be judged, by stricter rules.
    short: bool,
    /// Means may stand in for floors.
    means: bool,
}

impl Rows {
    /// Those of level `k` of the pyramid.
    pub(super) fn of_level(k: usize) -> Self {
        Self { width_s: width_s(k), short: k <= SHORT_ROWS_UPTO, means: k >= MEANS_FROM }
    }

    /// Those of cycles of a mean length.
    pub(super) const fn of_cycles(width_s: f64) -> Self {
        Self { width_s, short: false, means: false }
    }
}

/// What a level says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// Buckets that the figures rest on; 0 when there were too few.
    pub(super) buckets: u8,
    /// The floor rises, surely and straight enough for a verdict.
    pub(super) rises: bool,
    /// Buckets over which the floor rises on the whole; 0 when it does not. May be more than `buckets`.
    pub(super) rising: u8,
    /// The rise flattens.
    pub(super) bends: bool,
    /// The figures are those of the buckets' means, not of their floors.
    pub(super) by_means: bool,
    /// Kendall's tau of the row.
    pub(super) tau: f32,
    /// Student's t of the mean increment.
    pub(super) t: f32,
    /// Pages grown from the first bucket to the last.
    pub(super) grown: f32,
    /// Pages a second.
    pub(super) slope: f32,
    /// Standard error of the slope.
    pub(super) error: f32,
    /// What the slope loses over the row, as a share of the mean slope.
    pub(super) lost: f32,
    /// Standard error of that.
    pub(super) lost_error: f32,
    /// The last bucket's floor, in pages.
    pub(super) last_floor: f32,
    /// Pages by which a floor lay below an earlier one, at most.
    pub(super) floor_fell: f32,
    /// Pages by which a floor lay below an earlier bucket's greatest value, at most.
    pub(super) fell: f32,
    /// Pages between least and greatest value that three quarters of the buckets span.
    pub(super) swing: f32,
    /// Pages a second over the last three buckets.
    pub(super) recent: f32,
}

/// A row's figures while it is being decided which row to believe.
struct Row<'a> {
    values: &'a [f64],
    trend: Trend,
    by_means: bool,
}

impl Reading {
    /// Reads the buckets of `level`.
    pub(super) fn of(level: &Level, rows: Rows, quantum: Quantum) -> Self {
        let mut reading = Self::default();
        let floors = level.row(Bucket::min);
        let m = floors.len();
        if m < LEAST_FOR_FALLS {
            return reading;
        }
        let peaks = level.row(Bucket::max);
        let width = rows.width_s;
        reading.floor_fell = narrow(deepest_fall(&floors));
        reading.fell = narrow(fall_from_peaks(&floors, &peaks));
        let last = floors.last().copied().unwrap_or_default();
        reading.last_floor = narrow(last);
        reading.recent = narrow((last - floors[m - 4]) / (3.0 * width));
        if m < if rows.short { SHORT_ROW } else { LEAST_BUCKETS } {
            return reading;
        }
        let means = level.row(Bucket::mean);
        let whole = trend(&floors, quantum.variance);
        let (row, rises) = choose(&floors, &means, &whole, rows, quantum);
        let buckets = |row: &[f64]| u8::try_from(row.len()).unwrap_or(u8::MAX);
        reading.buckets = buckets(row.values);
        reading.rises = rises;
        reading.by_means = row.by_means;
        let rising = |trend: &Trend| trend.tau >= RISING && trend.grown >= quantum.least_growth;
        reading.rising = if rising(&whole) {
            buckets(&floors)
        } else if rising(&row.trend) {
            reading.buckets
        } else {
            0
        };
        reading.tau = narrow(row.trend.tau);
        reading.t = narrow(row.trend.t);
        reading.grown = narrow(row.trend.grown);
        reading.swing = narrow(usual_swing(&floors, &peaks, row.values.len()));
        // The dear statistics, only where somebody will look at them.
        if rises || reading.rising > 0 {
            let bend = bend(row.values, quantum.variance);
            reading.bends = flattens(bend);
            reading.lost = narrow(bend.lost);
            reading.lost_error = narrow(bend.error);
        }
        if rises {
            reading.slope = narrow(slope(row.values) / width);
            reading.error = narrow(row.trend.error / width);
        }
        reading
    }
}

/// The row that the level's figures rest on, and whether it rises: the floors; or, where they do not, the last of them
/// (the growth began inside the row), or the means (a load that comes and goes on top of a rising floor).
fn choose<'a>(
    floors: &'a [f64],
    means: &'a [f64],
    whole: &Trend,
    rows: Rows,
    quantum: Quantum,
) -> (Row<'a>, bool) {
    let passes = |trend: &Trend, (tau, t): (f64, f64)| {
        trend.grown >= quantum.least_growth && trend.tau >= tau && trend.t >= t
    };
    let whole = Row { values: floors, trend: *whole, by_means: false };
    let whole_rises = floors.len() >= LEAST_BUCKETS && passes(&whole.trend, RISE);
    if whole_rises && !steepens(bend(floors, quantum.variance)) {
        return (whole, true);
    }
    if floors.len() > LEAST_BUCKETS {
        let last = |length: usize| {
            let values = &floors[floors.len() - length..];
            Row { values, trend: trend(values, quantum.variance), by_means: false }
        };
        let rises = |row: &Row<'_>| passes(&row.trend, RISE_OF_THE_LAST);
        let straight = |row: &Row<'_>| {
            let bend = bend(row.values, quantum.variance);
            bend.t.abs() < BENDS.1 || bend.lost.abs() < BENDS.0
        };
        let shortest = last(LEAST_BUCKETS);
        if rises(&shortest) {
            // As much of the row as is straight: all but the process's start, or all since the growth began.
            let longer = (LEAST_BUCKETS + 1..floors.len()).rev().map(last);
            return (longer.into_iter().find(|row| rises(row) && straight(row)).unwrap_or(shortest), true);
        }
    }
    if whole_rises {
        return (whole, true);
    }
    if rows.means && whole.trend.tau >= FLOORS_BEHIND_MEANS.1 {
        let row = Row { values: means, trend: trend(means, quantum.variance), by_means: true };
        if passes(&row.trend, RISE) && whole.trend.grown >= FLOORS_BEHIND_MEANS.0 * row.trend.grown {
            return (row, true);
        }
    }
    if rows.short && floors.len() >= SHORT_ROW {
        let values = &floors[floors.len() - SHORT_ROW..];
        let short = Row { values, trend: trend(values, quantum.variance), by_means: false };
        if passes(&short.trend, RISE_OF_SHORT_ROW) {
            return (short, true);
        }
    }
    (whole, false)
}

/// Whether the rise bends towards a plateau.
fn flattens(bend: Bend) -> bool {
    bend.lost > BENDS.0 && bend.t > BENDS.1
}

/// Whether the rise is so much steeper at the row's end that it rather began inside the row.
fn steepens(bend: Bend) -> bool {
    -bend.lost > STEEPENS && -bend.t > BENDS.1
}

/// How far a floor lies below the greatest value of an earlier bucket, at most.
fn fall_from_peaks(floors: &[f64], peaks: &[f64]) -> f64 {
    let (mut peak, mut fall) = (f64::NEG_INFINITY, 0.0_f64);
    for (floor, top) in floors.iter().zip(peaks) {
        fall = fall.max(peak - floor);
        peak = peak.max(*top);
    }
    fall
}

/// The span from least to greatest value that three quarters of the last `count` buckets reach.
fn usual_swing(floors: &[f64], peaks: &[f64], count: usize) -> f64 {
    let mut swings = [0.0; super::pyramid::DEPTH];
    let used = &mut swings[..count.min(floors.len())];
    for ((swing, floor), peak) in used.iter_mut().rev().zip(floors.iter().rev()).zip(peaks.iter().rev()) {
        *swing = peak - floor;
    }
    let quarter = used.len() / 4;
    *used.select_nth_unstable_by(quarter, f64::total_cmp).1
}

/// Stored figures have seven digits, which is more than they are good for.
#[expect(clippy::cast_possible_truncation, reason = "the nearest f32 is meant; out of range it is infinite")]
pub(super) const fn narrow(value: f64) -> f32 {
    value as f32
}
