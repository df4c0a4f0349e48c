//! The Mann-Kendall test with the variance of Hamed and Rao (1998) for autocorrelated data, and Sen's slope.

use std::collections::VecDeque;

use super::Look;
use crate::score::Claim;

/// The test fires above this normal quantile: a thousandth, one-sided.
const Z: f64 = 3.09;
/// Normal quantile at which an autocorrelation counts.
const SIGNIFICANT: f64 = 1.96;

/// The test over the last values.
pub(super) struct MannKendall {
    values: VecDeque<(f64, f64)>,
    count: usize,
}

impl MannKendall {
    pub(super) const fn new(count: usize) -> Self {
        Self { values: VecDeque::new(), count }
    }
}

impl Look for MannKendall {
    fn look(&mut self, at_s: f64, rss: f64) -> Option<Claim> {
        self.values.push_back((at_s, rss));
        if self.values.len() > self.count {
            self.values.pop_front();
        }
        if self.values.len() < self.count {
            return None;
        }
        let values: Vec<f64> = self.values.iter().map(|(_, value)| *value).collect();
        let (first, second) = (self.values[0].0, self.values[1].0);
        let sen = sen_slope(&values);
        let fires = sen > 0.0 && quantile(&values, sen) > Z;
        fires.then_some(Claim { rate: sen / (second - first), interval: None })
    }
}

/// Sen's slope for each step.
fn sen_slope(values: &[f64]) -> f64 {
    let mut slopes = Vec::with_capacity(values.len() * values.len() / 2);
    for (i, earlier) in values.iter().enumerate() {
        slopes.extend(
            values[i + 1..].iter().zip(1_u32..).map(|(later, steps)| (later - earlier) / f64::from(steps)),
        );
    }
    let middle = slopes.len() / 2;
    *slopes.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// The test's normal quantile.
fn quantile(values: &[f64], sen: f64) -> f64 {
    let n = values.len() as f64;
    let mut score = 0.0;
    for (i, earlier) in values.iter().enumerate() {
        for later in &values[i + 1..] {
            score += f64::from(i8::from(later > earlier) - i8::from(later < earlier));
        }
    }
    let variance = (n * (n - 1.0) * (2.0 * n + 5.0) - ties(values)) / 18.0;
    if variance <= 0.0 {
        return 0.0;
    }
    let detrended: Vec<f64> = values.iter().enumerate().map(|(i, value)| value - sen * i as f64).collect();
    // The correction may also shrink the variance; as published tools do, it is only let to grow.
    let variance = variance * correction(&ranks(&detrended)).max(1.0);
    (score - score.signum()) / variance.sqrt()
}

/// What equal values take from the variance.
fn ties(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let groups = sorted.chunk_by(|a, b| a.total_cmp(b).is_eq());
    let of_group = |count: f64| count * (count - 1.0) * (2.0 * count + 5.0);
    groups.map(|group| of_group(group.len() as f64)).sum()
}

/// Ranks, with their mean subtracted; equal values share theirs: what a straight line leaves has no order.
fn ranks(values: &[f64]) -> Vec<f64> {
    let middle = (values.len() - 1) as f64 / 2.0;
    let same = |a: f64, b: f64| (a - b).abs() < 1e-3;
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| **other < *value && !same(**other, *value)).count();
        let equal = values.iter().filter(|other| same(**other, *value)).count();
        below as f64 + (equal as f64 - 1.0) / 2.0 - middle
    };
    values.iter().map(rank).collect()
}

/// By how much the autocorrelation of the ranks multiplies the variance.
fn correction(ranks: &[f64]) -> f64 {
    let n = ranks.len() as f64;
    let power: f64 = ranks.iter().map(|rank| rank * rank).sum();
    if power <= 0.0 {
        return 1.0;
    }
    let mut sum = 0.0;
    for lag in 1..ranks.len().saturating_sub(2) {
        let product: f64 = ranks.iter().zip(&ranks[lag..]).map(|(a, b)| a * b).sum();
        let r = product / power;
        if r.abs() > SIGNIFICANT / n.sqrt() {
            let lag = lag as f64;
            sum += (n - lag) * (n - lag - 1.0) * (n - lag - 2.0) * r;
        }
    }
    1.0 + 2.0 / (n * (n - 1.0) * (n - 2.0)) * sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn a_straight_line_fires_and_noise_does_so_once_in_a_thousand_rows() {
        let mut rule = MannKendall::new(30);
        let line = (0..60).filter(|i| rule.look(f64::from(*i), f64::from(*i) * 10.0).is_some()).count();
        assert_eq!(line, 31);
        let mut dice = Dice::of("noise", 1);
        let row = |dice: &mut Dice| (0..30).map(|_| dice.normal()).collect::<Vec<f64>>();
        let fired = (0..3000).map(|_| row(&mut dice)).filter(|row| quantile(row, sen_slope(row)) > Z).count();
        assert!(fired <= 12, "{fired}");
    }

    #[test]
    fn autocorrelation_makes_the_test_less_sure() {
        let mut dice = Dice::of("wander", 2);
        let mut mean = |keep: f64| {
            let row = |_| {
                let mut value = 0.0;
                let mut next = || {
                    value = keep * value + dice.normal();
                    value
                };
                let values: Vec<f64> = (0..30).map(|_| next()).collect();
                correction(&ranks(&values)).max(1.0)
            };
            (0..200).map(row).sum::<f64>() / 200.0
        };
        let (wandering, noise) = (mean(0.8), mean(0.0));
        assert!(wandering > noise + 0.2, "{wandering} {noise}");
    }

    #[test]
    fn equal_values_say_nothing() {
        assert_eq!(ties(&[1.0, 1.0, 2.0]), 2.0 * 9.0);
        assert!(quantile(&[5.0; 30], 0.0).abs() < 1e-9);
    }
}
