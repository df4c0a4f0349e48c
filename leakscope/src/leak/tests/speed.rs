//! How soon a leak in a quiet process is noticed, and how well its rate is known then.

use super::*;

/// A quiet process of 10 MB that leaks `rate` bytes a second from its start.
fn quiet(rate: f64) -> impl Fn(f64) -> f64 {
    move |s| 10.0 * MB + rate * s
}

#[test]
fn fifty_kilobytes_a_second_are_seen_growing_within_two_seconds_and_suspected_within_six() {
    let watch = Watch::confirming_after(300).watch((0.0, 120.0), 0.25, quiet(50.0 * KB));
    assert!(watch.reached(State::Growing).unwrap() <= 1.5);
    assert!(watch.reached(State::Suspect).unwrap() <= 6.0);
    let rate = watch.first(|v| v.state == State::Suspect).unwrap().verdict.rate.unwrap().mean.0;
    assert!((rate / (50.0 * KB) - 1.0).abs() < 0.05, "{rate}");
    assert!((59.7..66.0).contains(&watch.reached(State::Leaking).unwrap()));
}

#[test]
fn ten_kilobytes_a_second_are_suspected_within_six_seconds() {
    let watch = Watch::confirming_after(300).watch((0.0, 30.0), 0.25, quiet(10.0 * KB));
    assert!(watch.reached(State::Suspect).unwrap() <= 6.0);
}

#[test]
fn one_kilobyte_a_second_is_suspected_within_forty_seconds() {
    let watch = Watch::confirming_after(300).watch((0.0, 90.0), 0.25, quiet(1.0 * KB));
    assert!(watch.reached(State::Suspect).unwrap() <= 40.0);
}
