//! What one level of the pyramid says: does its floor rise, how surely, does the rise bend, and what was given back?
//!
//! A reading is made each time a bucket of its level closes, and judged together with those of the other levels
//! (`judge.rs`). Sizes are in pages of 4 KiB. Start reading at [`Reading::of`].

use std::cell::OnceCell;

use super::pyramid::{Bucket, Level, width_s};
use super::trend::{Bend, Order, Sureness, bend, deepest_fall, grown, kendall_tau, slope, sureness};

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
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// Buckets that the figures rest on; 0 when there were too few.
    pub(super) buckets: u8,
    /// The floor rises, surely and straight enough for a verdict.
    pub(super) rises: bool,
    /// Buckets over which the floor rises on the whole; 0 when it does not. May be more than `buckets`.
    pub(super) rising: u8,
    /// Pages grown from the first bucket to the last.
    pub(super) grown: f32,
    /// Pages by which a floor lay below an earlier one, at most.
    pub(super) floor_fell: f32,
    /// Pages by which a floor lay below an earlier bucket's greatest value, at most.
    pub(super) fell: f32,
    /// The rise, where it rises, flattens.
    pub(super) bends: bool,
    /// The figures are those of the buckets' means, not of their floors.
    pub(super) by_means: bool,
    /// Kendall's tau of the row that rises.
    pub(super) tau: f32,
    /// Student's t of the mean increment.
    pub(super) t: f32,
    /// Standard error of the slope.
    pub(super) error: f32,
    /// What the slope loses over the row, as a share of the mean slope.
    pub(super) lost: f32,
    /// Standard error of that.
    pub(super) lost_error: f32,
    /// See [`Level::slope`].
    slope: OnceCell<f32>,
    /// See [`Level::swing`].
    swing: OnceCell<f32>,
}

/// A row that rises, and what was found of it on the way.
struct Rise<'a> {
    values: &'a [f32],
    by_means: bool,
    tau: f64,
    sureness: Sureness,
    bend: Option<Bend>,
}

impl Reading {
    /// Reads the buckets of `level`.
    pub(super) fn of(level: &Level, rows: Rows, quantum: Quantum) -> Self {
        let mut reading = Self::default();
        let floors = level.row(Bucket::min);
        if floors.len() < LEAST_FOR_FALLS {
            return reading;
        }
        reading.floor_fell = deepest_fall(&floors, &floors);
        reading.fell = deepest_fall(&floors, &level.row(Bucket::max));
        if floors.len() < if rows.short { SHORT_ROW } else { LEAST_BUCKETS } {
            return reading;
        }
        reading.buckets = buckets(&floors);
        reading.grown = narrow(grown(&floors));
        if !may_rise(&floors, rows, quantum) {
            return reading;
        }
        let order = Order::of(&floors);
        if grown(&floors) >= quantum.least_growth && order.tau_of_last(floors.len()) >= RISING {
            reading.rising = buckets(&floors);
        }
        let means = level.row(Bucket::mean);
        let Some(rise) = choose(&floors, &order, &means, rows, quantum) else { return reading };
        reading.buckets = buckets(rise.values);
        reading.rises = true;
        // What rises at all rises on the whole, if not from the row's beginning.
        reading.rising = reading.rising.max(reading.buckets);
        reading.by_means = rise.by_means;
        reading.grown = narrow(grown(rise.values));
        reading.tau = narrow(rise.tau);
        reading.t = narrow(rise.sureness.t);
        reading.error = narrow(rise.sureness.error / rows.width_s);
        let bend = rise.bend.unwrap_or_else(|| bend(rise.values, quantum.variance));
        reading.bends = flattens(bend);
        reading.lost = narrow(bend.lost);
        reading.lost_error = narrow(bend.error);
        reading
    }
}

/// Figures that are dear and seldom asked for: worked out when they are, once for each reading.
impl Level {
    /// Pages a second of the rise, if the level rises; its buckets are `width_s` long.
    pub(super) fn slope(&self, width_s: f64) -> f64 {
        let slope = || {
            let row = self.row(if self.reading.by_means { Bucket::mean } else { Bucket::min });
            narrow(slope(last(&row, self.reading.buckets.into())) / width_s)
        };
        f64::from(*self.reading.slope.get_or_init(slope))
    }

    /// Pages between least and greatest value that three quarters of the buckets span.
    pub(super) fn swing(&self) -> f64 {
        let swing = || {
            usual_swing(&self.row(|bucket| bucket.max() - bucket.min()), usize::from(self.reading.buckets))
        };
        f64::from(*self.reading.swing.get_or_init(swing))
    }

    /// Pages a second over the last three buckets, `width_s` long each; 0 where there are no three.
    pub(super) fn recent(&self, width_s: f64) -> f64 {
        let floors = self.row(Bucket::min);
        let last = &floors[floors.len().saturating_sub(LEAST_FOR_FALLS)..];
        if last.len() < LEAST_FOR_FALLS { 0.0 } else { f64::from(narrow(grown(last) / (3.0 * width_s))) }
    }
}

/// How many buckets a row is made of.
fn buckets(row: &[f32]) -> u8 {
    u8::try_from(row.len()).unwrap_or(u8::MAX)
}

/// Whether any of the rows that [`choose`] looks at grew enough: most did not, and the rest need not be asked of them.
fn may_rise(floors: &[f32], rows: Rows, quantum: Quantum) -> bool {
    let grew = |length: usize| floors.len() >= length && grown(last(floors, length)) >= quantum.least_growth;
    let behind_means = || grown(floors) >= FLOORS_BEHIND_MEANS.0 * quantum.least_growth;
    grew(floors.len()) || grew(LEAST_BUCKETS) || rows.short && grew(SHORT_ROW) || rows.means && behind_means()
}

/// The last values of a row.
fn last(row: &[f32], length: usize) -> &[f32] {
    &row[row.len() - length..]
}

/// The row that the level's figures rest on, if one rises: the floors; or, where they do not, the last of them (the growth
/// began inside the row), or the means (a load that comes and goes on top of a rising floor).
///
/// The cheapest question is asked first: how much a row grew, then how surely by rank, then how surely by size.
fn choose<'a>(
    floors: &'a [f32],
    order: &Order,
    means: &'a [f32],
    rows: Rows,
    quantum: Quantum,
) -> Option<Rise<'a>> {
    let passes = |values: &'a [f32], tau: f64, (least_tau, least_t): (f64, f64)| {
        if grown(values) < quantum.least_growth || tau < least_tau {
            return None;
        }
        let sureness = sureness(values, quantum.variance);
        (sureness.t >= least_t).then_some(Rise { values, by_means: false, tau, sureness, bend: None })
    };
    let passes_of_last =
        |length: usize, least| passes(last(floors, length), order.tau_of_last(length), least);
    let mut whole = None;
    if floors.len() >= LEAST_BUCKETS
        && let Some(rise) = passes_of_last(floors.len(), RISE)
    {
        let bend = bend(floors, quantum.variance);
        let rise = Rise { bend: Some(bend), ..rise };
        if !steepens(bend) {
            return Some(rise);
        }
        whole = Some(rise);
    }
    if floors.len() > LEAST_BUCKETS
        && let Some(shortest) = passes_of_last(LEAST_BUCKETS, RISE_OF_THE_LAST)
    {
        let straight = |rise: Rise<'a>| {
            let bend = bend(rise.values, quantum.variance);
            let straight = bend.t.abs() < BENDS.1 || bend.lost.abs() < BENDS.0;
            straight.then_some(Rise { bend: Some(bend), ..rise })
        };
        // As much of the row as is straight: all but the process's start, or all since the growth began.
        let longer = (LEAST_BUCKETS + 1..floors.len()).rev();
        let longest = longer.filter_map(|length| passes_of_last(length, RISE_OF_THE_LAST)).find_map(straight);
        return longest.or(Some(shortest));
    }
    if whole.is_some() {
        return whole;
    }
    if rows.means
        && order.tau_of_last(floors.len()) >= FLOORS_BEHIND_MEANS.1
        && grown(floors) >= FLOORS_BEHIND_MEANS.0 * grown(means)
        && let Some(rise) = passes(means, kendall_tau(means), RISE)
    {
        return Some(Rise { by_means: true, ..rise });
    }
    if rows.short && floors.len() >= SHORT_ROW { passes_of_last(SHORT_ROW, RISE_OF_SHORT_ROW) } else { None }
}

/// Whether the rise bends towards a plateau.
fn flattens(bend: Bend) -> bool {
    bend.lost > BENDS.0 && bend.t > BENDS.1
}

/// Whether the rise is so much steeper at the row's end that it rather began inside the row.
fn steepens(bend: Bend) -> bool {
    -bend.lost > STEEPENS && -bend.t > BENDS.1
}

/// The span that three quarters of the last `count` buckets reach; 0 of none.
fn usual_swing(spans: &[f32], count: usize) -> f32 {
    let mut swings = [0.0; super::pyramid::DEPTH];
    let used = &mut swings[..count];
    if used.is_empty() {
        return 0.0;
    }
    used.copy_from_slice(last(spans, count));
    *used.select_nth_unstable_by(count / 4, f32::total_cmp).1
}

/// Stored figures have seven digits, which is more than they are good for.
#[expect(clippy::cast_possible_truncation, reason = "the nearest f32 is meant; out of range it is infinite")]
pub(super) const fn narrow(value: f64) -> f32 {
    value as f32
}
