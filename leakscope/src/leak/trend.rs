//! Statistics of a short row of equally spaced values: does it rise, how surely, how fast, and does it bend?
//!
//! Everything is a function of the row. Rows have 6 to 16 values, so the quadratic methods (Kendall, Theil-Sen) are
//! cheap: 120 pairs at most. Values are in pages, slopes in pages for each step of the row. A row is made anew a few
//! times for every sample of every process, so loops do not branch on what they find, and what hangs on a row's length
//! alone is known beforehand.

use super::pyramid::DEPTH;

/// Pairs of a full row.
const PAIRS: usize = DEPTH * (DEPTH - 1) / 2;

/// How a row's values lie to each other: for each, how many later ones lie above it, less how many lie below. Ties count
/// for neither side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    scores: [i32; DEPTH],
    len: usize,
}

impl Order {
    /// That of a row of at most [`DEPTH`] values.
    pub(super) fn of(row: &[f32]) -> Self {
        // What lies behind the row is neither above nor below anything.
        let mut values = [f32::NAN; 2 * DEPTH];
        values[..row.len()].copy_from_slice(row);
        let mut scores = [0; DEPTH];
        for distance in 1..row.len() {
            let later = &values[distance..distance + DEPTH];
            for ((score, earlier), later) in scores.iter_mut().zip(&values).zip(later) {
                *score += i32::from(later > earlier) - i32::from(later < earlier);
            }
        }
        Self { scores, len: row.len() }
    }

    /// Kendall's tau of the last `count` values against time: 1 when every one is above all before it, -1 when below.
    pub(super) fn tau_of_last(&self, count: usize) -> f64 {
        let score: i32 = self.scores[self.len - count..self.len].iter().sum();
        let pairs = count * count.saturating_sub(1) / 2;
        if pairs == 0 { 0.0 } else { f64::from(score) / pairs as f64 }
    }
}

/// Kendall's tau of a row.
pub(super) fn kendall_tau(row: &[f32]) -> f64 {
    Order::of(row).tau_of_last(row.len())
}

/// How surely a row rises, by its increments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sureness {
    /// Student's t of the mean increment: how many standard errors it is above zero.
    pub(super) t: f64,
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

/// Last value less the first.
pub(super) fn grown(row: &[f32]) -> f64 {
    let (Some(first), Some(last)) = (row.first(), row.last()) else { return 0.0 };
    f64::from(*last) - f64::from(*first)
}

/// How surely `row`, of at least 3 values, rises; `noise` is the variance that counting in steps gives each increment.
pub(super) fn sureness(row: &[f32], noise: f64) -> Sureness {
    let n = row.len().saturating_sub(1).max(2) as f64;
    let mean = grown(row) / n;
    let (mut squares, mut products, mut previous) = (0.0, 0.0, 0.0);
    for pair in row.windows(2) {
        let deviation = f64::from(pair[1]) - f64::from(pair[0]) - mean;
        squares += deviation * deviation;
        products += deviation * previous;
        previous = deviation;
    }
    // Noise around a line makes neighbouring increments cancel each other (r1 = -0.5): the mean is then surer than the
    // increments look. The factor only ever shrinks the variance, by less than the estimate says: a random walk, whose
    // r1 is 0, keeps nearly all of it.
    let r1 = if squares > 1e-9 { products / squares } else { 0.0 };
    let factor = (1.0 + 2.0 * (r1 + 0.15)).clamp(0.3, 1.0);
    let variance = squares / (n - 1.0) * factor;
    Sureness { t: mean / ((variance + noise) / n).sqrt(), error: (variance.max(noise) / n).sqrt() }
}

/// What the fit of a parabola needs to know of a row's length alone: where its values lie, from -1 to 1.
struct Places {
    x: [f64; DEPTH],
    /// Sums of x to the second, and to the fourth.
    sx2: f64,
    sx4: f64,
    determinant: f64,
}

/// Those of rows of each length, from none to [`DEPTH`].
static PLACES: [Places; DEPTH + 1] = {
    let mut all = [const { Places::of(0) }; DEPTH + 1];
    let mut len = 0;
    while len <= DEPTH {
        all[len] = Places::of(len);
        len += 1;
    }
    all
};

impl Places {
    const fn of(len: usize) -> Self {
        let m = len as f64;
        let mut places = Self { x: [0.0; DEPTH], sx2: 0.0, sx4: 0.0, determinant: 0.0 };
        let mut i = 0;
        while i < len {
            let x = 2.0 * i as f64 / (m - 1.0) - 1.0;
            let x2 = x * x;
            places.x[i] = x;
            places.sx2 += x2;
            places.sx4 += x2 * x2;
            i += 1;
        }
        places.determinant = m * places.sx4 - places.sx2 * places.sx2;
        places
    }
}

/// The bend of `row`, of at least 5 values; `noise` as in [`sureness`].
pub(super) fn bend(row: &[f32], noise: f64) -> Bend {
    let m = row.len() as f64;
    let Some(first) = row.first().filter(|_| row.len() >= 5) else { return Bend::default() };
    let first = f64::from(*first);
    let Places { x, sx2, sx4: _, determinant } = &PLACES[row.len()];
    let (mut sy, mut sxy, mut sx2y) = (0.0, 0.0, 0.0);
    for (x, value) in x.iter().zip(row) {
        let y = f64::from(*value) - first;
        sy += y;
        sxy += x * y;
        sx2y += x * x * y;
    }
    let linear = sxy / sx2;
    let quadratic = (m * sx2y - sx2 * sy) / determinant;
    let constant = (sy - quadratic * sx2) / m;
    let mut residues = 0.0;
    for (x, value) in x.iter().zip(row) {
        let residue = f64::from(*value) - first - constant - linear * x - quadratic * x * x;
        residues += residue * residue;
    }
    let error = ((residues / (m - 3.0) + noise) * m / determinant).sqrt();
    let linear = linear.max(1e-9);
    Bend { lost: -4.0 * quadratic / linear, t: -quadratic / error, error: 4.0 * error / linear }
}

/// The slope of `row` for each step: the median over all pairs (Theil-Sen), which a fifth of wild values cannot move.
pub(super) fn slope(row: &[f32]) -> f64 {
    let mut slopes = [0.0; PAIRS];
    let mut count = 0;
    for distance in 1..row.len() {
        for (earlier, later) in row.iter().zip(&row[distance..]) {
            slopes[count] = (f64::from(*later) - f64::from(*earlier)) / distance as f64;
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

/// How far a value of `row` lies below an earlier one of `tops`, at most; 0 when none does.
pub(super) fn deepest_fall(row: &[f32], tops: &[f32]) -> f32 {
    let (mut peak, mut fall) = (f32::NEG_INFINITY, 0.0);
    for (value, top) in row.iter().zip(tops) {
        fall = greater(fall, peak - value);
        peak = greater(peak, *top);
    }
    fall
}

/// `f32::max` of numbers: one instruction, where that has to think of what is none.
fn greater(one: f32, other: f32) -> f32 {
    if other > one { other } else { one }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tau_counts_the_pairs_that_rise_less_those_that_fall(
            // Few values, so that some are equal.
            row in prop::collection::vec((0_u8..6).prop_map(f32::from), 2..=DEPTH), count in 2..=DEPTH
        ) {
            let last = &row[row.len() - count.min(row.len())..];
            let pairs = last.iter().enumerate().flat_map(|(i, a)| last[i + 1..].iter().map(move |b| b.partial_cmp(a)));
            let (mut score, mut all) = (0.0, 0.0);
            for order in pairs {
                score += order.map_or(0.0, |order| f64::from(order as i8));
                all += 1.0;
            }
            prop_assert_eq!(Order::of(&row).tau_of_last(last.len()), score / all);
        }

        #[test]
        fn a_parabola_is_found_whatever_the_length_of_its_row(len in 5..=DEPTH, lost in -1.0_f64..1.0) {
            let end = (len - 1) as f64;
            // 100 pages a step on average; the slope falls by `lost` of that from the first step's begin to the last's end.
            let value = |i: f64| 100.0 * (i + lost / 2.0 * i - lost / 2.0 * i * i / end);
            let row: Vec<f32> = (0..len).map(|i| super::super::reading::narrow(value(i as f64))).collect();
            prop_assert!((bend(&row, 1e-6).lost - lost).abs() < 1e-3);
        }
    }
}
