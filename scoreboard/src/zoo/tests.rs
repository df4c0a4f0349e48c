//! How programs are counted, on what was said by hand.

use leakscope::leak::Rate;
use leakscope::units::BytesPerSec;

use super::*;

fn program(name: &str, leaking: bool, ramp: Option<&str>) -> Program {
    let json = serde_json::json!({
        "name": name, "kind": "test", "pid": 7, "start_time_ticks": 70, "children": [8],
        "leaking": leaking, "rate_bytes_per_s": leaking.then_some(1000.0), "ramp": ramp,
        "first_bytes": 1_000_000, "last_bytes": 1_600_000, "ended": null,
    });
    serde_json::from_value(json).unwrap()
}

fn accused_at(level: Level) -> Said {
    let mut said = Said { seen: Some((0.0, 600.0)), ..Said::default() };
    said.reached[level as usize] = Some((61.0, None));
    said
}

fn scores(programs: Vec<Score>) -> Scores {
    Scores { programs, others: Vec::new(), seconds: 600.0 }
}

#[test]
fn a_leak_that_is_called_one_at_a_rate_that_is_far_off_is_not_found() {
    let mut said = accused_at(Level::Leaking);
    let far = BytesPerSec(5000.0);
    said.reached[Level::Leaking as usize] = Some((61.0, Some(Rate { mean: far, low: far, high: far })));
    let scores = scores(vec![Score { program: program("leak", true, None), said, children: Vec::new() }]);
    assert_eq!(scores.counts(Level::Leaking), Counts { missed: 1, ..Counts::default() });
    assert_eq!(scores.misses(Level::Leaking), ["leak"]);
    assert!(scores.table().contains("! 61.0 s"), "{}", scores.table());
}

#[test]
fn an_accused_child_is_a_false_alarm_of_its_program() {
    let healthy = Score {
        program: program("server", false, None),
        said: Said { seen: Some((0.0, 600.0)), ..Said::default() },
        children: vec![(8, accused_at(Level::Confirmed5m))],
    };
    let scores = scores(vec![healthy]);
    assert_eq!(scores.counts(Level::Confirmed5m), Counts { accused: 1, ..Counts::default() });
    assert_eq!(scores.counts(Level::Confirmed1m), Counts { cleared: 1, ..Counts::default() });
    assert_eq!(scores.false_alarms(Level::Confirmed5m), ["server (child 8)"]);
}

#[test]
fn a_process_that_nobody_knows_is_healthy() {
    let mut scores = scores(Vec::new());
    scores.others.push((9, accused_at(Level::Suspect)));
    assert_eq!(scores.false_alarms(Level::Suspect), ["pid 9"]);
}

#[test]
fn a_ramp_is_counted_apart_and_its_minutes_are_those_of_a_healthy_program() {
    let ramp = Score {
        program: program("ring", false, Some("it fills")),
        said: accused_at(Level::Confirmed5m),
        children: Vec::new(),
    };
    let scores = scores(vec![ramp]);
    assert_eq!(scores.counts(Level::Confirmed5m), Counts { ramps_accused: 1, ..Counts::default() });
    assert!(scores.false_alarms(Level::Confirmed5m).is_empty());
    assert_eq!(scores.healthy_minutes(), 10.0);
}

#[test]
fn a_program_that_was_not_recorded_is_not_cleared() {
    let unseen = Score { program: program("away", false, None), said: Said::default(), children: Vec::new() };
    assert_eq!(scores(vec![unseen]).counts(Level::Suspect), Counts::default());
}

#[test]
fn what_a_program_grew_by_is_measured_over_the_whole_recording() {
    assert_eq!(program("leak", true, None).measured(600.0), Some(1000.0));
}

#[test]
fn a_recording_without_its_truth_is_refused_with_the_command_that_writes_it() {
    let error = score(Path::new("no-such-recording")).unwrap_err();
    assert!(format!("{error:#}").contains("cargo xtask zoo"), "{error:#}");
}
