use std::time::Duration;

use super::super::chart::Trend;
use super::*;
use crate::leak::Rate;
use crate::units::BytesPerSec;

fn at(second: u64) -> Timestamp {
    let start: Timestamp = "2026-11-23T01:00:00Z".parse().unwrap();
    start + Duration::from_secs(second)
}

/// A leak of 1 MB a second over a minute, killed at its end.
fn leak() -> Chart {
    let points: Curve = (0..60).map(|s| (at(s), Bytes(10_000_000 + 1_000_000 * s))).collect();
    let [low, mean, high] = [900_000.0, 1_000_000.0, 1_100_000.0].map(BytesPerSec);
    Chart {
        caption: "Footprint of process 4242".into(),
        trend: Trend::through(&points, at(10), at(59), Rate { mean, low, high }),
        points,
        end: Some(Ending { killed_at: at(60), held: Some(Bytes(70_000_000)), died_at: Some(at(61)) }),
        until: Some(at(64)),
        ..Chart::default()
    }
}

/// The `y` of every point of the drawings' lines of one class.
fn heights(drawing: &str, class: &str) -> Vec<f64> {
    let open = format!("class=\"{class}\" points=\"");
    let lists = drawing.split(&open).skip(1).map(|rest| rest.split('"').next().unwrap());
    lists
        .flat_map(|list| list.split(' '))
        .map(|point| point.split(',').nth(1).unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_footprint_of_any_size_stays_within_the_drawing() {
    for most in [0, 1, 999, 51_200_000, u64::MAX] {
        let points = vec![(at(0), Bytes::ZERO), (at(0), Bytes(most))];
        let drawing = chart(&Chart { caption: "footprint".into(), points, ..Chart::default() });
        assert!((2..=7).contains(&drawing.matches("class=\"grid\"").count()), "{drawing}");
        assert!(!drawing.contains("NaN") && !drawing.contains("inf"), "{drawing}");
    }
}

#[test]
fn one_point_is_no_curve() {
    let points = vec![(at(0), Bytes(1))];
    assert_eq!(chart(&Chart { points, ..Chart::default() }), "");
}

#[test]
fn the_band_encloses_the_trend_and_the_trend_lies_on_a_straight_leak() {
    let drawing = chart(&leak());
    let (band, trend) = (heights(&drawing, "band"), heights(&drawing, "trend"));
    for (i, line) in trend.iter().enumerate() {
        let (upper, lower) = (band[i], band[band.len() - 1 - i]);
        assert!(upper <= *line && *line <= lower, "{upper} {line} {lower}");
    }
    let wide = |i: usize| band[band.len() - 1 - i] - band[i];
    assert!(wide(0) > wide(4) && wide(8) > wide(4), "narrowest in the middle");
    // The drawing goes from 254 at zero up to 20 at 80 MB; the trend ends at 69 MB.
    assert!((trend.last().unwrap() - (254.0 - 234.0 * 69.0 / 80.0)).abs() < 0.2, "{trend:?}");
}

#[test]
fn a_window_that_is_small_beside_the_footprint_is_drawn_again_closer() {
    let words = "this scale does not begin at zero";
    assert!(!chart(&leak()).contains(words), "it fills the drawing already");
    let mut small = leak();
    small.points.iter_mut().for_each(|(_, bytes)| *bytes += Bytes(500_000_000));
    small.trend = Trend::through(&small.points, at(10), at(59), leak().trend.unwrap().rate);
    let drawing = chart(&small);
    assert!(drawing.contains(words), "{drawing}");
    let trend = heights(&drawing, "trend");
    let rise = |ends: &[f64]| ends[0] - ends[ends.len() - 1];
    let (first, closer) = trend.split_at(trend.len() / 2);
    assert!(rise(closer) > 4.0 * rise(first), "{trend:?}");
}

#[test]
fn a_killed_process_falls_to_nothing_and_the_fall_is_marked() {
    let drawing = chart(&leak());
    let curve = drawing.split("class=\"curve\" points=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(curve.ends_with(",254.0") && curve.rsplit(' ').nth(1).unwrap().ends_with(",254.0"), "{curve}");
    assert!(drawing.contains(">killed</text>") && drawing.contains(">dead: 70.0 MB given back</text>"));
    let alive = chart(&Chart { end: None, ..leak() });
    assert!(!alive.contains("killed") && !alive.contains("dead"), "{alive}");
}

#[test]
fn a_limit_is_a_line_within_reach_and_an_arrow_with_a_figure_above() {
    let with = |mb: u64| {
        let limit = Ceiling { at: Bytes(mb * 1_000_000), name: "The limit".into() };
        chart(&Chart { limit: Some(limit), ..leak() })
    };
    let near = with(90);
    assert!(
        near.contains("class=\"limit\" x1=\"70.0\"")
            && near.contains(">limit: 90.0 MB, 1.3 times what it held<")
    );
    let far = with(25_000);
    assert!(far.contains("class=\"arrow\"") && far.contains(">limit: 25.0 GB, 357 times what it held<"));
    assert!(!far.contains("class=\"limit\" x1=\"70.0\""), "{far}");
}

#[test]
fn look_alikes_are_drawn_on_the_scale_of_the_leak_however_large_they_are() {
    let flat = |mb: u64| vec![(at(0), Bytes(mb * 1_000_000)), (at(60), Bytes((mb + 7) * 1_000_000))];
    let beside = [9, 900].map(|mb| Beside { name: Line::from("other"), points: flat(mb), verdict: "steady" });
    let drawing = chart(&Chart { beside: beside.to_vec(), ..leak() });
    let other = heights(&drawing, "other");
    assert_eq!(other.len(), 4);
    // A small drawing is 104 high for 75 MB: 7 MB are 10 of them in both.
    for pair in other.chunks(2) {
        assert!((pair[0] - pair[1] - 104.0 * 7.0 / 75.0).abs() < 0.2, "{other:?}");
    }
    assert_eq!(drawing.matches("role=\"img\"").count(), 4, "the leak, and three small ones");
    assert_eq!(drawing.matches("but not from zero)</figcaption>").count(), 1, "the large one");
}

#[test]
fn every_drawing_says_what_it_shows_and_the_legend_names_only_what_is_drawn() {
    let host = Available { points: vec![(at(0), Bytes(8)), (at(60), Bytes(9))], total: Bytes(10) };
    let drawing = chart(&Chart { host: Some(host), ..leak() });
    assert_eq!(drawing.matches("<svg viewBox=\"0 0 24 10\" aria-hidden").count(), 6);
    assert!(drawing.contains("aria-label=\"Footprint of process 4242. The fitted trend over the 49 s"));
    assert!(drawing.contains("aria-label=\"Available memory of the host"));
    let bare = chart(&Chart { trend: None, end: None, ..leak() });
    assert_eq!(bare.matches("<li>").count(), 1, "{bare}");
}
