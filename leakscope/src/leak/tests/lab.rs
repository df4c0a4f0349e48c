//! The lab's leak: a CPython process that keeps 10 KB more every fifth of a second.

use super::*;

/// What the leaking service holds `s` seconds after its start: the interpreter comes up in 0.4 s, and then each entry
/// touches 10,288 bytes of new heap.
fn leaking_service(s: f64) -> f64 {
    let start_up = 9.1 * MB * (1.0 - (-s / 0.08).exp());
    let entries = ((s - 0.4) / 0.2).floor().max(0.0);
    start_up + entries * 10_288.0
}

fn assert_found_in_time(every: f64, phase: f64) {
    let watch = Watch::confirming_after(15).watch((phase, 40.0), every, leaking_service);
    let suspect = watch.reached(State::Suspect).expect("suspected");
    let confirmed = watch.confirmed().expect("confirmed");
    assert!(suspect <= 10.0, "suspected after {suspect} s, sampled every {every} s from {phase} s on");
    assert!(confirmed <= 25.0, "confirmed after {confirmed} s, sampled every {every} s from {phase} s on");
    let rate = watch.first(|v| v.confirmed).and_then(|said| said.verdict.rate).expect("a rate").mean.0;
    assert!((rate / 51_440.0 - 1.0).abs() < 0.1, "{rate} bytes a second");
}

#[test]
fn the_labs_leak_is_suspected_and_confirmed_in_time_at_four_samples_a_second() {
    for phase in [0.0, 0.03, 0.11, 0.2] {
        assert_found_in_time(0.25, phase);
    }
}

#[test]
fn the_labs_leak_is_suspected_and_confirmed_in_time_at_one_sample_a_second() {
    for phase in [0.0, 0.1, 0.37, 0.9] {
        assert_found_in_time(1.0, phase);
    }
}

#[test]
fn the_labs_healthy_application_is_never_suspected() {
    let start_up = |s: f64| 11.0 * MB * (1.0 - (-s / 0.15).exp()) + 3.0 * MB * f64::from(s > 2.0);
    let watch = Watch::confirming_after(15).watch((0.0, 120.0), 0.25, start_up);
    assert_eq!(watch.reached(State::Suspect), None);
    assert_eq!(watch.last().state, State::Steady);
}
