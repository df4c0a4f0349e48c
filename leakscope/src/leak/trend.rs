//! Statistics of a short row of equally spaced values: does it rise, how surely, how fast, and does it bend?
//!
//! Everything is a function of the row. Rows have 6 to 16 values, so the quadratic methods (Kendall, Theil-Sen) are
//! cheap: 120 pairs at most. Values are in pages, slopes in pages for each step of the row.

use super::pyramid::DEPTH;

/// Pairs of a full row.
const PAIRS: usize = DEPTH * (DEPTH - 1) / 2;

/// How surely a row rises.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Trend {
    /// Kendall's tau: 1 when every value is above all before it, -1 when below.
    pub(super) tau: f64,
    /// Student's t of the mean increment: how many standard errors it is above zero.
    pub(super) t: f64,
    /// Last value less the first.
    pub(super) grown: f64,
    /// Standard error of the mean increment.
    pub(super) error: f64,
}

/// How a row bends: the quadratic part of its least-squares parabola.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bend {
    /// What the slope loses from the row's beginning to its end, as a share of the mean slope; negative when it gets
    /// steeper.
    pub(super) lost: f64,
    /// Student's t of the loss; positive when the row flattens.
    pub(super) t: f64,
    /// Standard error of `lost`.
    pub(super) error: f64,
}

/// Kendall's tau of a row against time; ties count for neither side.
pub(super) fn kendall_tau(row: &[f64]) -> f64 {
    let mut score = 0_i32;
    for (i, earlier) in row.iter().enumerate() {
        for later in &row[i + 1..] {
            score += i32::from(later > earlier) - i32::from(later < earlier);
        }
    }
    let pairs = row.len() * row.len().saturating_sub(1) / 2;
    if pairs == 0 { 0.0 } else { f64::from(score) / pairs as f64 }
}

/// The trend of `row`, of at least 3 values; `noise` is the variance that counting in steps gives each increment.
pub(super) fn trend(row: &[f64], noise: f64) -> Trend {
    let (Some(first), Some(last)) = (row.first(), row.last()) else { return Trend::default() };
    let n = row.len().saturating_sub(1).max(2) as f64;
    let mean = (last - first) / n;
    let (mut squares, mut products, mut previous) = (0.0, 0.0, 0.0);
    for (i, pair) in row.windows(2).enumerate() {
        let deviation = pair[1] - pair[0] - mean;
        squares += deviation * deviation;
        if i > 0 {
            products += deviation * previous;
        }
        previous = deviation;
    }
    // Noise around a line makes neighbouring increments cancel each other (r1 = -0.5): the mean is then surer than the
    // increments look. The factor only ever shrinks the variance, by less than the estimate says: a random walk, whose
    // r1 is 0, keeps nearly all of it.
    let r1 = if squares > 1e-9 { products / squares } else { 0.0 };
    let factor = (1.0 + 2.0 * (r1 + 0.15)).clamp(0.3, 1.0);
    let variance = squares / (n - 1.0) * factor;
    Trend {
        tau: kendall_tau(row),
        t: mean / ((variance + noise) / n).sqrt(),
        grown: last - first,
        error: (variance.max(noise) / n).sqrt(),
    }
}

/// The bend of `row`, of at least 5 values; `noise` as in [`trend`].
pub(super) fn bend(row: &[f64], noise: f64) -> Bend {
    let m = row.len() as f64;
    let Some(first) = row.first().filter(|_| row.len() >= 5) else { return Bend::default() };
    let x = |i: usize| 2.0 * i as f64 / (m - 1.0) - 1.0;
    let (mut sx2, mut sx4, mut sy, mut sxy, mut sx2y) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (i, value) in row.iter().enumerate() {
        let (x, y) = (x(i), value - first);
        let x2 = x * x;
        sx2 += x2;
        sx4 += x2 * x2;
        sy += y;
        sxy += x * y;
        sx2y += x2 * y;
    }
    let linear = sxy / sx2;
    let determinant = m * sx4 - sx2 * sx2;
    let quadratic = (m * sx2y - sx2 * sy) / determinant;
    let constant = (sy - quadratic * sx2) / m;
    let mut residues = 0.0;
    for (i, value) in row.iter().enumerate() {
        let x = x(i);
        let residue = value - first - constant - linear * x - quadratic * x * x;
        residues += residue * residue;
    }
    let error = ((residues / (m - 3.0) + noise) * m / determinant).sqrt();
    let linear = linear.max(1e-9);
    Bend { lost: -4.0 * quadratic / linear, t: -quadratic / error, error: 4.0 * error / linear }
}

/// The slope of `row` for each step: the median over all pairs (Theil-Sen), which a fifth of wild values cannot move.
pub(super) fn slope(row: &[f64]) -> f64 {
    let mut slopes = [0.0; PAIRS];
    let mut count = 0;
    for (i, earlier) in row.iter().enumerate() {
        for (j, later) in row.iter().enumerate().skip(i + 1) {
            slopes[count] = (later - earlier) / (j - i) as f64;
            count += 1;
        }
    }
    median(&mut slopes[..count])
}

/// The median; 0 of nothing. Reorders the values.
fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let (middle, even) = (values.len() / 2, values.len().is_multiple_of(2));
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if even { f64::midpoint(below.iter().copied().fold(f64::NEG_INFINITY, f64::max), upper) } else { upper }
}

/// The deepest fall of a row: how far a value lies below one before it.
pub(super) fn deepest_fall(row: &[f64]) -> f64 {
    let (mut peak, mut fall) = (f64::NEG_INFINITY, 0.0_f64);
    for value in row {
        fall = fall.max(peak - value);
        peak = peak.max(*value);
    }
    fall
}
