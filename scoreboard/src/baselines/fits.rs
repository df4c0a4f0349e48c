//! Rules that fit a line by least squares over a sliding window.

use std::collections::VecDeque;

use super::Look;
use crate::score::Claim;
use crate::{HOUR, MB, MINUTE};

/// A least-squares line over the last `window_s` seconds.
#[derive(Clone, Debug)]
struct Window {
    window_s: f64,
    points: VecDeque<(f64, f64)>,
    /// The first value seen: subtracted, so that sums of squares keep their digits.
    origin: Option<f64>,
}

/// A fitted line.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    slope: f64,
    /// Its value at the last point.
    now: f64,
    r_squared: f64,
    span_s: f64,
}

impl Window {
    const fn of(window_s: f64) -> Self {
        Self { window_s, points: VecDeque::new(), origin: None }
    }

    /// Takes a point; the line over the window, once there are three.
    fn fit(&mut self, at_s: f64, value: f64) -> Option<Line> {
        let origin = *self.origin.get_or_insert(value);
        self.points.push_back((at_s, value - origin));
        while self.points.front().is_some_and(|(first, _)| at_s - first > self.window_s) {
            self.points.pop_front();
        }
        let n = self.points.len() as f64;
        if n < 3.0 {
            return None;
        }
        let (mut x, mut y) = (0.0, 0.0);
        for (at, value) in &self.points {
            x += at;
            y += value;
        }
        let (x, y) = (x / n, y / n);
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for (at, value) in &self.points {
            let (dx, dy) = (at - x, value - y);
            xx += dx * dx;
            xy += dx * dy;
            yy += dy * dy;
        }
        let slope = xy / xx;
        let r_squared = if yy > 1.0 { xy * xy / (xx * yy) } else { 0.0 };
        let span_s = at_s - self.points.front().map_or(at_s, |(first, _)| *first);
        Some(Line { slope, now: origin + y + slope * (at_s - x), r_squared, span_s })
    }
}

fn claim(slope: f64) -> Claim {
    Claim { rate: slope, interval: None }
}

/// How long a condition has held.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    since_s: Option<f64>,
}

impl Held {
    /// Prometheus's `for`: whether the condition has held for `at_least_s`.
    fn long_enough(&mut self, at_s: f64, holds: bool, at_least_s: f64) -> bool {
        if !holds {
            self.since_s = None;
            return false;
        }
        at_s - *self.since_s.get_or_insert(at_s) >= at_least_s
    }
}

/// A line over ten minutes that explains four fifths of the variance and rose by a megabyte.
pub(super) struct LineFit(Window);

impl LineFit {
    pub(super) const fn ten_minutes() -> Self {
        Self(Window::of(10.0 * MINUTE))
    }
}

impl Look for LineFit {
    fn look(&mut self, at_s: f64, rss: f64) -> Option<Claim> {
        let line = self.0.fit(at_s, rss)?;
        let fires = line.span_s >= MINUTE && line.slope * line.span_s > MB && line.r_squared >= 0.8;
        fires.then(|| claim(line.slope))
    }
}

/// `deriv(process_resident_memory_bytes[10m]) > 0` for ten minutes.
pub(super) struct Deriv(Window, Held);

impl Deriv {
    pub(super) const fn ten_minutes() -> Self {
        Self(Window::of(10.0 * MINUTE), Held { since_s: None })
    }
}

impl Look for Deriv {
    fn look(&mut self, at_s: f64, rss: f64) -> Option<Claim> {
        let line = self.0.fit(at_s, rss)?;
        // A flat series differs from 0 in the last digits only.
        self.1.long_enough(at_s, line.slope > 1e-3, 10.0 * MINUTE).then(|| claim(line.slope))
    }
}

/// `predict_linear(process_resident_memory_bytes[1h], 4 * 3600) > limit` for ten minutes.
pub(super) struct Predict {
    window: Window,
    held: Held,
    limit: f64,
    ahead_s: f64,
}

impl Predict {
    pub(super) fn new(limit: f64, hours_ahead: f64) -> Self {
        Self { window: Window::of(HOUR), held: Held::default(), limit, ahead_s: hours_ahead * HOUR }
    }
}

impl Look for Predict {
    fn look(&mut self, at_s: f64, rss: f64) -> Option<Claim> {
        let line = self.window.fit(at_s, rss)?;
        let exceeds = line.now + line.slope * self.ahead_s > self.limit;
        self.held.long_enough(at_s, exceeds, 10.0 * MINUTE).then(|| claim(line.slope))
    }
}

/// A line over an hour that rises by a tenth of the size an hour.
pub(super) struct TenPercentAnHour(Window);

impl TenPercentAnHour {
    pub(super) const fn new() -> Self {
        Self(Window::of(HOUR))
    }
}

impl Look for TenPercentAnHour {
    fn look(&mut self, at_s: f64, rss: f64) -> Option<Claim> {
        let line = self.0.fit(at_s, rss)?;
        let fires = line.span_s >= MINUTE && line.slope * HOUR > 0.1 * rss.max(1.0);
        fires.then(|| claim(line.slope))
    }
}
