//! Charts as SVG drawings that stand in an HTML page and take their colours from there: no script, no reference to
//! anything outside, and every drawing says in words what it shows.
//!
//! Start reading at [`chart`]; [`frame`] knows where a size and a time lie.

mod frame;

use std::time::Duration;

use jiff::Timestamp;

use self::frame::Frame;
use super::chart::{Available, Beside, Ceiling, Chart, Curve, Ending, Trend, between, thinned};
use super::html::escaped;
use super::printable::Line;
use crate::units::Bytes;

/// More points than this no screen tells apart.
const POINTS: usize = 600;
const SMALL_POINTS: usize = 200;

/// A limit within so many times of what was held is drawn as a line; one above is an arrow that says how far.
const NEAR_LIMIT: f64 = 1.6;

/// A window that fills so much of the first drawing is not drawn again.
const NEAR_ENOUGH: f64 = 0.5;

/// A kill that nothing follows is no edge of the drawing: so much of its width is kept behind it, and not more.
const AFTERWARDS: f64 = 0.15;

/// Draws `chart` as one or several figures; nothing where there are fewer than two points, which make no curve.
pub(super) fn chart(chart: &Chart) -> String {
    let curve = thinned(&chart.drawn(), POINTS);
    let (Some(&(first, _)), Some(&(last, _))) = (curve.first(), chart.points.last()) else {
        return String::new();
    };
    if chart.points.len() < 2 {
        return String::new();
    }
    let times = (first, ends(chart, first, last));
    let mut out = legend(chart);
    out.push_str(&main(chart, &curve, times));
    out.push_str(&chart.trend.as_ref().and_then(|trend| closer(trend, chart)).unwrap_or_default());
    let small = Frame::small(times, chart.most());
    if !chart.beside.is_empty() {
        out.push_str("<div class=\"charts\">\n");
        let own = Line::from("The process above, to compare");
        out.push_str(&multiple("curve", &own, &curve, &small, chart));
        for Beside { name, points, verdict } in &chart.beside {
            let caption = name.clone().text(format!(": {verdict}"));
            out.push_str(&multiple("other", &caption, &thinned(points, SMALL_POINTS), &small, chart));
        }
        out.push_str("</div>\n");
    }
    if let Some(host) = chart.host.as_ref().filter(|host| host.points.len() > 1) {
        out.push_str(&available(host, chart, times));
    }
    out
}

/// Where the drawing ends: a little after the death, or where the observation did.
fn ends(chart: &Chart, first: Timestamp, last: Timestamp) -> Timestamp {
    let Some(Ending { killed_at, died_at, .. }) = chart.end else { return last };
    let event = died_at.unwrap_or(killed_at).max(last);
    let room = Duration::from_secs_f64((between(first, event) * AFTERWARDS).max(0.0));
    chart.until.map_or(event, |until| until.clamp(event, event + room))
}

/// The curve itself, with its trend, its limit and its end.
fn main(chart: &Chart, curve: &Curve, times: (Timestamp, Timestamp)) -> String {
    let most = chart.most().as_f64();
    let near = chart.limit.as_ref().filter(|limit| limit.at.as_f64() <= most * NEAR_LIMIT);
    let frame = Frame::large(times, near.map_or(most, |limit| limit.at.as_f64().max(most)));
    let words: Vec<String> = std::iter::once(chart.caption.plain() + ".")
        .chain(chart.in_words().iter().map(Line::plain))
        .collect();
    let mut out = frame.open(&words.join(" "));
    out.push_str(&frame.grid());
    out.push_str(&fitted(chart.trend.as_ref(), &frame, curve));
    out.push_str(
        &chart
            .limit
            .as_ref()
            .map(|limit| ceiling(limit, &frame, near.is_some(), chart.most()))
            .unwrap_or_default(),
    );
    out.push_str(&chart.end.as_ref().map(|end| ending(end, &frame)).unwrap_or_default());
    out + "</svg>\n"
}

/// The curve between the band of its trend and the trend's line.
fn fitted(trend: Option<&Trend>, frame: &Frame, curve: &Curve) -> String {
    let curve = polyline("curve", frame, curve);
    let Some(trend) = trend else { return curve };
    // The band's edges are straight but for zero, where they stop.
    let window = between(trend.from, trend.to).max(0.0);
    let steps: Vec<Timestamp> =
        (0..=8).map(|i| trend.from + Duration::from_secs_f64(window * f64::from(i) / 8.0)).collect();
    let edge = |at: &Timestamp, which: usize| frame.point(*at, trend.at(*at)[which]);
    let upper = steps.iter().map(|at| edge(at, 2));
    let lower = steps.iter().rev().map(|at| edge(at, 0));
    let band: Vec<String> = upper.chain(lower).collect();
    let line: Vec<String> = steps.iter().map(|at| edge(at, 1)).collect();
    format!(
        "<polygon class=\"band\" points=\"{}\"/>\n{curve}<polyline class=\"trend\" points=\"{}\"/>\n",
        band.join(" "),
        line.join(" ")
    )
}

/// The window that the verdict rests on, so near that the band and the samples can be told apart; nothing where the first
/// drawing is near enough.
fn closer(trend: &Trend, chart: &Chart) -> Option<String> {
    let times = (trend.from, trend.to);
    let inside: Curve =
        chart.points.iter().filter(|(at, _)| (times.0..=times.1).contains(at)).copied().collect();
    let edges = [times.0, times.1].map(|at| trend.at(at));
    let sizes = || edges.iter().flatten().copied().chain(inside.iter().map(|(_, bytes)| bytes.as_f64()));
    let (low, high) = (sizes().fold(f64::INFINITY, f64::min), sizes().fold(0.0, f64::max));
    if high - low > chart.most().as_f64() * NEAR_ENOUGH {
        return None;
    }
    let frame = Frame::closer(times, low, high);
    let words = "The window that the verdict rests on, closer: this scale does not begin at zero";
    Some(format!(
        "<figure>\n{}{}{}</svg>\n<figcaption>{words}</figcaption>\n</figure>\n",
        frame.open(words),
        frame.grid(),
        fitted(Some(trend), &frame, &thinned(&inside, POINTS)),
    ))
}

fn polyline(class: &str, frame: &Frame, curve: &Curve) -> String {
    let points: Vec<String> = curve.iter().map(|&(at, bytes)| frame.point(at, bytes.as_f64())).collect();
    format!("<polyline class=\"{class}\" points=\"{}\"/>\n", points.join(" "))
}

/// A line at the limit, or an arrow that says how far above the drawing it is.
fn ceiling(limit: &Ceiling, frame: &Frame, near: bool, most: Bytes) -> String {
    let name = escaped(&format!("limit: {}{}", limit.at, limit.times(most)));
    let (left, right) = frame.sides();
    if near {
        let y = frame.y(limit.at.as_f64());
        return format!(
            "<line class=\"limit\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"limited\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>\n",
            left + 6.0,
            y + 14.0
        );
    }
    let (x, top) = (left + 12.0, frame.top());
    format!(
        "<path class=\"arrow\" d=\"M{x:.1} {:.1}V{:.1}M{:.1} {:.1}L{x:.1} {:.1}L{:.1} {:.1}\"/>\
         <text class=\"limited\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>\n",
        top + 24.0,
        top + 5.0,
        x - 4.0,
        top + 11.0,
        top + 5.0,
        x + 4.0,
        top + 11.0,
        x + 10.0,
        top + 18.0
    )
}

/// The kill, and the fall to nothing.
fn ending(end: &Ending, frame: &Frame) -> String {
    let mut out = kill_line(frame, end.killed_at);
    let x = frame.x(end.killed_at);
    out.push_str(&format!(
        "<text class=\"killed\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">killed</text>\n",
        frame.top() - 5.0
    ));
    if let Some(died) = end.died_at {
        let (x, y) = (frame.x(died), frame.y(0.0));
        // Under the curve, where there is room; a process that was killed at once has it behind.
        let (at, anchor) = if frame.is_right(x) { (x - 9.0, "end") } else { (x + 9.0, "start") };
        let back = end.held.map(|held| format!(": {held} given back")).unwrap_or_default();
        out.push_str(&format!(
            "<circle class=\"back\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>\
             <text class=\"returned\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">dead{back}</text>\n",
            y - 9.0
        ));
    }
    out
}

fn kill_line(frame: &Frame, killed_at: Timestamp) -> String {
    let (x, top, bottom) = (frame.x(killed_at), frame.top(), frame.bottom());
    format!("<line class=\"kill\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>\n")
}

/// One of several small drawings on one scale.
fn multiple(class: &str, caption: &Line, curve: &Curve, frame: &Frame, chart: &Chart) -> String {
    let most = curve.iter().map(|&(_, bytes)| bytes).max().unwrap_or_default();
    let frame = frame.raised(most.as_f64());
    let raised = if frame.is_raised() { " (as high for as much, but not from zero)" } else { "" };
    let caption = caption.clone().text(raised);
    format!(
        "<figure>\n{}{}{}{}</svg>\n<figcaption>{}</figcaption>\n</figure>\n",
        frame.open(&caption.plain()),
        frame.grid(),
        polyline(class, &frame, curve),
        chart.end.map(|end| kill_line(&frame, end.killed_at)).unwrap_or_default(),
        super::html::inline(&caption)
    )
}

/// What the host had available, from zero to all of it.
fn available(host: &Available, chart: &Chart, times: (Timestamp, Timestamp)) -> String {
    let most = host.points.iter().map(|&(_, bytes)| bytes).max().unwrap_or_default();
    let frame = Frame::flat(times, host.total.max(most).as_f64());
    let words =
        format!("Available memory of the host (MemAvailable of its {}) over the same time", host.total);
    let points = thinned(&host.points, POINTS);
    format!(
        "<figure>\n{}{}{}{}</svg>\n<figcaption>{}</figcaption>\n</figure>\n",
        frame.open(&words),
        frame.grid(),
        polyline("host", &frame, &points),
        chart.end.map(|end| kill_line(&frame, end.killed_at)).unwrap_or_default(),
        escaped(&words)
    )
}

/// What is drawn how, as far as it is drawn.
fn legend(chart: &Chart) -> String {
    let swatch = |class: &str| match class {
        "band" => "<rect class=\"band\" width=\"24\" height=\"10\"/>".to_owned(),
        "back" => "<circle class=\"back\" cx=\"12\" cy=\"5\" r=\"4\"/>".to_owned(),
        class => format!("<line class=\"{class}\" x1=\"0\" x2=\"24\" y1=\"5\" y2=\"5\"/>"),
    };
    let dead = chart.end.and_then(|end| end.died_at);
    let items = [
        (true, "curve", "footprint (anonymous and swapped memory)"),
        (chart.trend.is_some(), "trend", "fitted trend"),
        (chart.trend.is_some(), "band", "its 95 % band"),
        (chart.limit.is_some(), "limit", "limit"),
        (chart.end.is_some(), "kill", "kill"),
        (dead.is_some(), "back", "dead, memory given back"),
        (!chart.beside.is_empty(), "other", "look-alikes, same scale"),
        (chart.host.is_some(), "host", "available on the host"),
    ];
    let shown = items.iter().filter(|(there, ..)| *there).map(|(_, class, words)| {
        format!("<li><svg viewBox=\"0 0 24 10\" aria-hidden=\"true\">{}</svg>{words}</li>\n", swatch(class))
    });
    format!("<ul class=\"legend\">\n{}</ul>\n", shown.collect::<String>())
}

#[cfg(test)]
mod tests;
