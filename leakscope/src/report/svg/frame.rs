//! Where a time and a size lie in a drawing, and the lines of its grid.

use jiff::Timestamp;

use super::super::chart::{Clock, between, bytes};
use super::super::html::escaped;

/// The axes of a drawing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    width: f64,
    height: f64,
    /// Room for the sizes at the left, for the end of the last time at the right, and for the times below.
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    from: Timestamp,
    seconds: f64,
    /// Bytes from one line to the next.
    step: f64,
    /// The size at the lower edge: zero but for a closer look, and for a small drawing of a large process.
    base: f64,
    /// From the lower edge to the upper one.
    most: f64,
    /// Whether lines are labelled by how far they are above the lower edge: near by, their sizes look alike.
    relative: bool,
}

impl Frame {
    pub(super) fn large(times: (Timestamp, Timestamp), most: f64) -> Self {
        Self::new(times, most, 800.0, 280.0, 4.0)
    }

    /// As wide as a large one and half as high.
    pub(super) fn flat(times: (Timestamp, Timestamp), most: f64) -> Self {
        Self::new(times, most, 800.0, 140.0, 3.0)
    }

    pub(super) fn small(times: (Timestamp, Timestamp), most: crate::units::Bytes) -> Self {
        Self::new(times, most.as_f64(), 300.0, 150.0, 3.0)
    }

    /// As high as a flat one, and from `low` to `high` instead of from zero.
    pub(super) fn closer(times: (Timestamp, Timestamp), low: f64, high: f64) -> Self {
        let frame = Self::new(times, (high - low).max(1.0), 800.0, 220.0, 5.0);
        let base = (low / frame.step).floor() * frame.step;
        Self {
            base,
            most: frame.step * ((high - base) / frame.step).ceil().max(1.0),
            relative: base > 0.0,
            ..frame
        }
    }

    /// About `lines` lines go across. From zero: a curve that starts at its own lowest point makes every wobble a leak.
    fn new((from, to): (Timestamp, Timestamp), most: f64, width: f64, height: f64, lines: f64) -> Self {
        let step = round_step(most.max(1.0) / lines);
        Self {
            width,
            height,
            left: 70.0,
            right: 32.0,
            top: 20.0,
            bottom: 26.0,
            from,
            seconds: between(from, to).max(1e-3),
            step,
            base: 0.0,
            most: step * (most / step).ceil().max(1.0),
            relative: false,
        }
    }

    /// The same scale for a process that holds more: so many bytes are as high as before, and the lower edge is no
    /// longer zero.
    pub(super) fn raised(self, most: f64) -> Self {
        let above = ((most - self.most).max(0.0) / self.step).ceil();
        Self { base: above * self.step, ..self }
    }

    /// Whether its lower edge is not zero.
    pub(super) fn is_raised(&self) -> bool {
        self.base > 0.0
    }

    pub(super) fn top(&self) -> f64 {
        self.top
    }

    pub(super) fn bottom(&self) -> f64 {
        self.height - self.bottom
    }

    pub(super) fn sides(&self) -> (f64, f64) {
        (self.left, self.width - self.right)
    }

    /// Whether there is more room to the left of `x` than to the right.
    pub(super) fn is_right(&self, x: f64) -> bool {
        x > self.width / 2.0
    }

    pub(super) fn x(&self, at: Timestamp) -> f64 {
        let share = (between(self.from, at) / self.seconds).clamp(0.0, 1.0);
        self.left + (self.width - self.left - self.right) * share
    }

    pub(super) fn y(&self, bytes: f64) -> f64 {
        let share = ((bytes - self.base) / self.most).clamp(0.0, 1.0);
        self.bottom() - (self.bottom() - self.top) * share
    }

    pub(super) fn point(&self, at: Timestamp, bytes: f64) -> String {
        format!("{:.1},{:.1}", self.x(at), self.y(bytes))
    }

    /// The beginning of a drawing that says what it shows.
    pub(super) fn open(&self, words: &str) -> String {
        let (width, height) = (self.width, self.height);
        format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n", escaped(words))
    }

    pub(super) fn grid(&self) -> String {
        let mut out = String::new();
        let sizes = (0u32..).map(|i| f64::from(i) * self.step).take_while(|&size| size <= self.most);
        let (left, right) = self.sides();
        for above in sizes {
            let y = self.y(self.base + above);
            let size = match self.relative && above > 0.0 {
                true => format!("+{}", bytes(above)),
                false => bytes(self.base + above).to_string(),
            };
            out.push_str(&format!(
                "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{size}</text>\n",
                left - 6.0,
                y + 4.0
            ));
        }
        let ends = self.from + std::time::Duration::from_secs_f64(self.seconds);
        let clock = Clock::within(self.from, ends);
        let shares: &[f64] = if self.width < 500.0 { &[0.0, 1.0] } else { &[0.0, 0.5, 1.0] };
        for share in shares {
            let at = self.from + std::time::Duration::from_secs_f64(self.seconds * share);
            out.push_str(&format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                left + (right - left) * share,
                self.height - 8.0,
                clock.show(at)
            ));
        }
        out
    }
}

/// The next of 1, 2, 2.5, 5, 10, 20, … that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 2.5, 5.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|&step| step >= least)
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_at_round_sizes() {
        for (least, step) in
            [(1.0, 1.0), (3.5, 5.0), (3_594_800.0, 5e6), (2.1e9, 2.5e9), (6e9, 1e10), (0.25, 0.25)]
        {
            assert!((round_step(least) / step - 1.0).abs() < 1e-9, "{least}: {}", round_step(least));
        }
    }

    #[test]
    fn a_closer_frame_holds_both_ends_and_labels_no_two_lines_alike() {
        let times = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + std::time::Duration::from_secs(60));
        let frame = Frame::closer(times, 88_010_000.0, 88_110_000.0);
        assert!(frame.y(88_010_000.0) <= frame.bottom() && frame.y(88_110_000.0) >= frame.top());
        assert!(frame.y(88_010_000.0) - frame.y(88_110_000.0) > 60.0, "it fills the drawing");
        let grid = frame.grid();
        assert!(
            grid.contains(">88.0 MB<") && grid.contains(">+80.0 KB<") && grid.contains(">+100 KB<"),
            "{grid}"
        );
    }

    #[test]
    fn a_raised_frame_has_the_scale_of_the_first() {
        let times = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + std::time::Duration::from_secs(60));
        let frame = Frame::small(times, crate::units::Bytes(14_000_000));
        let raised = frame.raised(88_000_000.0);
        let height = |frame: &Frame, from: f64, to: f64| frame.y(from) - frame.y(to);
        assert!((height(&frame, 0.0, 1e6) - height(&raised, 87e6, 88e6)).abs() < 1e-9);
        assert!(raised.y(88e6) >= raised.top() && raised.y(88e6) < raised.bottom());
    }
}
