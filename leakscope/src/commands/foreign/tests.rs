//! Rows in every order.

use std::time::Duration;

use super::*;
use crate::leak::{Memory, State};
use crate::source::series::Place;
use crate::ui::Verbosity;
use crate::units::Bytes;

fn judged(samples: impl IntoIterator<Item = (f64, u64)>) -> (SeriesReport, u64) {
    let (mut reports, bad) = all_judged(samples);
    assert_eq!(reports.len(), 1, "{reports:#?}");
    (reports.remove(0), bad)
}

fn all_judged(samples: impl IntoIterator<Item = (f64, u64)>) -> (Vec<SeriesReport>, u64) {
    let mut ui = Ui::new(Verbosity::Quiet, Some(false));
    let thresholds = Thresholds { confirm: Duration::from_secs(60) };
    let mut foreign = Foreign::new(thresholds, "x.csv", &mut ui);
    for (line, (at_s, anon)) in (2..).zip(samples) {
        let name = Name { pid: Some(Pid(7)), comm: "x".to_owned() };
        let memory = Memory { anon: Bytes(anon), ..Memory::default() };
        foreign.row(Row { name, at_s, memory, room: None, place: Place::Line(line) });
    }
    foreign.finish()
}

fn leak(from: u64, to: u64) -> impl Iterator<Item = (f64, u64)> {
    (from..to).map(|second| (second as f64, 10_000_000 + second * 51_200))
}

#[test]
fn a_sample_that_jumps_ahead_or_comes_late_is_left_out_alone() {
    let (clean, none) = judged(leak(0, 200));
    assert_eq!((none, clean.verdict, clean.confirmed), (0, State::Leaking, true));
    let ahead = leak(0, 100).chain([(3e8, 1)]).chain(leak(100, 200));
    let late = leak(0, 100).chain([(50.0, 1), (99.0, 1)]).chain(leak(100, 200));
    for (samples, bad) in [(ahead.collect::<Vec<_>>(), 1), (late.collect(), 2)] {
        let (report, left_out) = judged(samples);
        assert_eq!((left_out, report.samples), (bad, 200));
        assert_eq!(report.transitions, clean.transitions);
    }
}

#[test]
fn a_transition_says_nothing_from_later() {
    let (whole, _) = judged(leak(0, 200));
    for end in [7, 30, 61, 90, 150] {
        let (part, _) = judged(leak(0, end));
        assert_eq!(part.transitions, whole.transitions[..part.transitions.len()], "the first {end} s");
    }
}

#[test]
fn a_gap_of_ten_years_is_no_panic_and_no_leak() {
    let decade = 10.0 * 365.25 * 86_400.0;
    let after = leak(0, 5).map(move |(at, anon)| (at + decade, anon));
    let (report, bad) = judged(leak(0, 5).chain(after));
    assert_eq!((bad, report.confirmed), (0, false));
}

#[test]
fn samples_that_jumped_ahead_are_taken_back_and_nothing_after_them_is_lost() {
    let (clean, _) = judged(leak(0, 200));
    for jumped in 2..=8_u32 {
        let ahead = (0..jumped).map(|second| (3e8 + f64::from(second), 1));
        let (report, left_out) = judged(leak(0, 100).chain(ahead).chain(leak(100, 200)));
        assert_eq!((left_out, report.samples), (u64::from(jumped), 200), "{jumped} jumped");
        assert_eq!(report.transitions, clean.transitions, "{jumped} jumped");
    }
}

#[test]
fn times_that_begin_anew_begin_a_new_series_and_the_old_one_is_over() {
    let (reports, left_out) = all_judged(leak(0, 200).chain(leak(0, 150)));
    let [old, new] = &*reports else { panic!("{reports:#?}") };
    assert_eq!((left_out, old.samples, new.samples), (0, 200, 150));
    assert!(old.confirmed && old.ended && !old.leaks(), "{old:#?}");
    assert!(new.confirmed && !new.ended, "{new:#?}");
    // An hour back, as when a clock is corrected.
    let later = leak(10_000, 10_200).chain(leak(6_400, 6_600));
    let (reports, left_out) = all_judged(later);
    assert_eq!(
        (left_out, reports.iter().map(|report| report.samples).collect::<Vec<_>>()),
        (0, vec![200, 200])
    );
}

#[test]
fn a_long_gap_that_many_samples_bear_out_is_not_taken_back() {
    let (reports, left_out) = all_judged(leak(0, 100).chain(leak(50_000, 50_050)).chain(leak(200, 300)));
    assert_eq!(
        (left_out, reports.iter().map(|report| report.samples).collect::<Vec<_>>()),
        (0, vec![150, 100])
    );
}

#[test]
fn late_samples_that_do_not_agree_are_strays_however_many() {
    let strays = (0..40).map(|stray| (f64::from(50 - stray), 1));
    let (clean, _) = judged(leak(0, 200));
    let (report, left_out) = judged(leak(0, 100).chain(strays).chain(leak(100, 200)));
    assert_eq!((left_out, report.samples), (40, 200));
    assert_eq!(report.transitions, clean.transitions);
}
