//! Whether a series of samples grew.

/// The first of the run are left out of what is said of its memory: its tables fill.
const WARM_UP: f64 = 0.35;

/// What comes after the warm-up.
pub(super) fn settled<T>(values: &[T]) -> &[T] {
    let skipped = (values.len() as f64 * WARM_UP).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
    values.get(skipped as usize..).unwrap_or_default()
}

/// By how much a series grew: by the median of all slopes (Theil and Sen), or from the middle of its first third to that
/// of its last, whichever is more. The one does not see a step, the other not what begins late.
pub(super) fn growth(settled: &[f64]) -> f64 {
    let (first, last) = thirds(settled);
    (last - first).max(median_slope(settled) * settled.len() as f64)
}

/// The medians of the first third and of the last.
fn thirds(values: &[f64]) -> (f64, f64) {
    let third = values.len() / 3;
    let of = |part: Option<&[f64]>| part.map_or(0.0, median);
    (of(values.get(..third)), of(values.get(values.len() - third..)))
}

/// The median of each tenth, in MB, for whoever asks where a growth comes from.
pub(super) fn tenths(bytes: &[f64]) -> String {
    let parts = bytes.chunks(bytes.len().div_ceil(10).max(1));
    parts.map(|part| format!(" {:.1}", median(part) / 1e6)).collect()
}

/// The middle value; 0 of none.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The median of the slopes between all pairs, for each step; 0 of fewer than two values. Long series are thinned out.
fn median_slope(values: &[f64]) -> f64 {
    const ENOUGH: usize = 400;
    let step = values.len().div_ceil(ENOUGH).max(1);
    let points: Vec<(f64, f64)> =
        values.iter().enumerate().step_by(step).map(|(at, value)| (at as f64, *value)).collect();
    let pairs =
        points.iter().enumerate().flat_map(|(n, one)| points[n + 1..].iter().map(move |other| (one, other)));
    median(&pairs.map(|(one, other)| (other.1 - one.1) / (other.0 - one.0)).collect::<Vec<f64>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_leap_is_no_growth_and_a_steady_rise_is() {
        let mut leap = vec![10e6; 60];
        leap[50] = 40e6;
        assert_eq!(growth(&leap), 0.0);
        // It stays: no slope of the middle, and growth all the same.
        let step: Vec<f64> = (0..60).map(|n| if n < 42 { 10e6 } else { 40e6 }).collect();
        assert_eq!((median_slope(&step), growth(&step)), (0.0, 30e6));
        let rise: Vec<f64> = (0..1000).map(|n| f64::from(n) * 1e5).collect();
        assert!((median_slope(&rise) - 1e5).abs() < 1.0);
        assert_eq!(median_slope(&[]), 0.0);
    }
}
