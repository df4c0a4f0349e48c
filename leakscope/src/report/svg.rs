//! A footprint over time as an SVG drawing that stands in an HTML page and takes its colours from there.

use jiff::Timestamp;

use super::document::Chart;
use super::html::escaped;
use crate::units::Bytes;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 260.0;
/// Room for the sizes at the left, and for the times below.
const LEFT: f64 = 76.0;
const BOTTOM: f64 = 28.0;
const TOP: f64 = 18.0;
const RIGHT: f64 = 34.0;

/// More points than this no screen tells apart at [`WIDTH`].
const POINTS: usize = 600;

/// About as many lines go across the drawing.
const LINES: f64 = 4.0;

/// Draws `chart`; nothing where there are fewer than two points, which make no curve.
pub(super) fn chart(chart: &Chart) -> String {
    let points = chart.thinned(POINTS);
    let (Some(&(first, _)), Some(&(last, _))) = (points.first(), points.last()) else {
        return String::new();
    };
    if points.len() < 2 {
        return String::new();
    }
    let ends = chart.killed_at.map_or(last, |killed| last.max(killed));
    let most = points.iter().map(|&(_, bytes)| bytes).max().unwrap_or_default();
    // From zero: a curve that starts at its own lowest point makes every wobble a leak.
    let step = round_step(most.as_f64().max(1.0) / LINES);
    let lines = (most.as_f64() / step).ceil().max(1.0);
    let scale = Scale { from: first, seconds: between(first, ends).max(1e-3), step, most: step * lines };
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escaped(&chart.caption.plain())
    );
    out.push_str(&grid(&scale));
    let curve: Vec<String> = points
        .iter()
        .map(|&(at, bytes)| format!("{:.1},{:.1}", scale.x(at), scale.y(bytes.as_f64())))
        .collect();
    out.push_str(&format!("<polyline class=\"curve\" points=\"{}\"/>\n", curve.join(" ")));
    if let Some(killed) = chart.killed_at {
        let x = scale.x(killed);
        out.push_str(&format!(
            "<line class=\"kill\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>\n\
             <text class=\"killed\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">killed</text>\n",
            HEIGHT - BOTTOM,
            TOP - 5.0
        ));
    }
    out + "</svg>\n"
}

fn grid(scale: &Scale) -> String {
    let mut out = String::new();
    let sizes = (0u32..).map(|i| f64::from(i) * scale.step).take_while(|&size| size <= scale.most);
    for size in sizes {
        let y = scale.y(size);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size: positive")]
        let size = Bytes(size as u64);
        out.push_str(&format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{size}</text>\n",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0
        ));
    }
    for share in [0.0, 0.5, 1.0] {
        let x = LEFT + (WIDTH - LEFT - RIGHT) * share;
        let at = scale.from + std::time::Duration::from_secs_f64(scale.seconds * share);
        out.push_str(&format!(
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            HEIGHT - 8.0,
            at.strftime("%H:%M:%S")
        ));
    }
    out
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

struct Scale {
    from: Timestamp,
    seconds: f64,
    /// Bytes from one line to the next.
    step: f64,
    most: f64,
}

impl Scale {
    fn x(&self, at: Timestamp) -> f64 {
        let share = (between(self.from, at) / self.seconds).clamp(0.0, 1.0);
        LEFT + (WIDTH - LEFT - RIGHT) * share
    }

    fn y(&self, bytes: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (bytes / self.most).clamp(0.0, 1.0)
    }
}

fn between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
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
    fn a_footprint_of_any_size_stays_within_the_drawing() {
        let start: Timestamp = "2026-11-23T01:00:00Z".parse().unwrap();
        for most in [0, 1, 999, 51_200_000, u64::MAX] {
            let points = vec![(start, Bytes::ZERO), (start, Bytes(most))];
            let drawing = chart(&Chart { caption: "footprint".into(), points, killed_at: None });
            assert!((2..=7).contains(&drawing.matches("class=\"grid\"").count()), "{drawing}");
            assert!(!drawing.contains("NaN") && !drawing.contains("inf"), "{drawing}");
        }
    }
}
