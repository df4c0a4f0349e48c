//! A size over a hunt: bounded, and thinned evenly as the hunt grows longer.

use jiff::Timestamp;

use crate::units::Bytes;

/// Points kept. When there are more, every second one goes and only every second one is taken from then on.
const CAPACITY: usize = 480;

/// A size over time.
#[derive(Debug)]
pub(super) struct Thinned {
    points: Vec<(Timestamp, Bytes)>,
    /// One of so many is kept.
    every: usize,
    skipped: usize,
    /// The newest, whether it is kept or not.
    newest: Option<(Timestamp, Bytes)>,
}

impl Default for Thinned {
    fn default() -> Self {
        Self { points: Vec::new(), every: 1, skipped: 0, newest: None }
    }
}

impl Thinned {
    pub(super) fn push(&mut self, at: Timestamp, bytes: Bytes) {
        self.newest = Some((at, bytes));
        self.skipped += 1;
        if self.skipped < self.every && !self.points.is_empty() {
            return;
        }
        self.skipped = 0;
        self.points.push((at, bytes));
        if self.points.len() > CAPACITY {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.every *= 2;
        }
    }

    /// The points, the newest among them.
    pub(super) fn finish(&mut self) -> Vec<(Timestamp, Bytes)> {
        let mut points = std::mem::take(&mut self.points);
        points.extend(self.newest.filter(|newest| points.last() != Some(newest)));
        points
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_week_of_seconds_fits_and_keeps_both_its_ends_evenly_apart() {
        let mut thinned = Thinned::default();
        let last = 604_800;
        for second in 0..=last {
            thinned.push(Timestamp::UNIX_EPOCH + Duration::from_secs(second), Bytes(1 + second));
        }
        let points = thinned.finish();
        assert!((CAPACITY / 2..=CAPACITY + 1).contains(&points.len()), "{}", points.len());
        assert_eq!((points[0].1, points.last().unwrap().1), (Bytes(1), Bytes(1 + last)));
        let gaps: Vec<_> =
            points.windows(2).map(|pair| pair[1].0.as_second() - pair[0].0.as_second()).collect();
        assert!(gaps[..gaps.len() - 1].iter().all(|gap| *gap == gaps[0]), "{gaps:?}");
    }
}
