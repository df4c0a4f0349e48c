//! The known traps: what looks like a leak and is none, and the leak that hides behind something else.

use super::*;

const MINUTE: f64 = 60.0;

/// Small deterministic noise between -1 and 1 that does not repeat within a test.
fn noise(s: f64) -> f64 {
    let x = (s * 12.9898 + 4.1).sin() * 43_758.545;
    2.0 * (x - x.floor()) - 1.0
}

/// A collector's sawtooth: climbs by `height` in each `period`, and falls back.
fn sawtooth(s: f64, period: f64, height: f64) -> f64 {
    height * (s / period).fract()
}

#[test]
fn a_sawtooth_heap_is_not_a_leak_once_it_has_fallen_back() {
    let heap = |s: f64| 200.0 * MB + sawtooth(s + 11.0, 30.0, 80.0 * MB) + 20.0 * KB * noise(s);
    let watch = Watch::confirming_after(300).watch((0.0, 30.0 * MINUTE), 0.25, heap);
    assert!(!watch.ever(State::Leaking));
    assert_eq!(watch.last().state, State::Sawtooth);
}

/// A collector's cycles end in its own time, not in that of buckets: whatever the period, eight of them tell.
#[test]
fn a_leak_under_a_sawtooth_is_found_within_eight_periods() {
    for period in [13.0, 17.0, 24.0, 33.0, 45.0, 63.0, 70.0, 120.0] {
        let (mut worst, mut rate) = (0.0_f64, 0.0);
        for phase in [0.1, 0.4, 0.9] {
            let height = 80.0 * MB;
            let leak = 0.03 * height / period;
            let heap = |s: f64| {
                let tooth = sawtooth(s + phase * period, period, height);
                200.0 * MB + leak * s + tooth + 20.0 * KB * noise(s)
            };
            let watched = Watch::confirming_after(60).watch((0.0, 20.0 * period), 0.25, heap);
            let at_its_rate = |verdict: &Verdict| {
                let rate = verdict.rate.map_or(0.0, |rate| rate.mean.0);
                verdict.state == State::Leaking && rate < 2.0 * leak
            };
            let found = watched.first(at_its_rate).expect("found");
            worst = worst.max(found.at_s);
            rate = found.verdict.rate.expect("a rate").mean.0 / leak;
        }
        assert!(worst <= 8.0 * period, "{:.2} periods of {period} s", worst / period);
        assert!((rate - 1.0).abs() < 0.1, "{rate}");
    }
}

#[test]
fn under_a_collector_the_reasons_count_its_cycles() {
    let heap = |s: f64| 200.0 * MB + 80.0 * KB * s + sawtooth(s, 24.0, 80.0 * MB) + 20.0 * KB * noise(s);
    let watch = Watch::confirming_after(60).watch((0.0, 20.0 * MINUTE), 0.25, heap);
    let by_cycles =
        watch.first(|v| v.state == State::Leaking && v.evidence.cycles).expect("told by its cycles");
    let reasons = by_cycles.verdict.reasons();
    assert_eq!(reasons[0], "held more after 7 of 7 falls than after the one before, one each 24 s");
    // Once the collector rests, its cycles say nothing more.
    let rests = |s: f64| heap(s.min(300.0));
    let watch = Watch::confirming_after(60).watch((0.0, 10.0 * MINUTE), 0.25, rests);
    assert!(watch.ever(State::Leaking) && watch.last().state.severity() == 0, "{:?}", watch.last());
}

#[test]
fn a_warm_up_that_approaches_its_end_is_held_and_its_end_foretold() {
    let heap = |s: f64| 50.0 * MB + 200.0 * MB * (1.0 - (-s / 90.0).exp()) + 4.0 * KB * noise(s);
    let watch = Watch::confirming_after(60).watch((0.0, 30.0 * MINUTE), 0.25, heap);
    assert!(!watch.ever(State::Leaking));
    let held = watch.first(|v| v.state == State::WarmingUp && v.evidence.plateau.is_some()).expect("held");
    assert!(held.at_s < 30.0, "{}", held.at_s);
    let at_90_s = watch.said.iter().find(|said| said.at_s >= 90.0).unwrap();
    let plateau = at_90_s.verdict.evidence.plateau.expect("a plateau").as_f64();
    assert!((200.0 * MB..330.0 * MB).contains(&plateau), "{plateau} {:?}", at_90_s.verdict);
}

#[test]
fn logarithmic_growth_is_not_a_leak() {
    let heap = |s: f64| 50.0 * MB + 20.0 * MB * (1.0 + s / 10.0).ln() + 4.0 * KB * noise(s);
    let watch = Watch::confirming_after(60).watch((0.0, 120.0 * MINUTE), 0.25, heap);
    assert!(!watch.ever(State::Leaking));
}

#[test]
fn a_first_ramp_that_stops_is_taken_back() {
    let heap = |s: f64| 50.0 * MB + 100.0 * KB * s.min(200.0) + 4.0 * KB * noise(s);
    let watch = Watch::confirming_after(60).watch((0.0, 30.0 * MINUTE), 0.25, heap);
    assert!(watch.ever(State::Leaking), "until it stops it is a leak to whoever looks");
    let after = watch.said.iter().rev().find(|said| said.verdict.state == State::Leaking).unwrap();
    assert!(after.at_s <= 200.0 + 125.0, "taken back after {}", after.at_s - 200.0);
}

#[test]
fn one_huge_spike_does_not_blind_for_the_leak_that_follows() {
    let spike = |s: f64| if (100.0..110.0).contains(&s) { 800.0 * MB } else { 0.0 };
    let heap = |s: f64| 100.0 * MB + spike(s) + 50.0 * KB * (s - 120.0).max(0.0) + 4.0 * KB * noise(s);
    let watch = Watch::confirming_after(300).watch((0.0, 60.0 * MINUTE), 0.25, heap);
    let leaking = watch.reached(State::Leaking).unwrap();
    assert!(leaking <= 700.0, "{leaking}");
}

#[test]
fn memory_that_comes_back_from_swap_is_no_growth() {
    let mut watch = Watch::confirming_after(60);
    for tick in 0..4 * 400_u64 {
        let seconds = tick as f64 / 4.0;
        let back = 300.0 * MB * (seconds / 300.0).min(1.0);
        let mut sample = sample(seconds, 50.0 * MB + back);
        sample.memory.swap = paged(350.0 * MB) - sample.memory.anon;
        watch.see(&sample);
    }
    assert_eq!(watch.reached(State::Growing), None);
}

#[test]
fn a_leak_that_is_swapped_out_is_still_a_leak() {
    let mut watch = Watch::confirming_after(60);
    for tick in 0..4 * 400_u64 {
        let seconds = tick as f64 / 4.0;
        let total = 60.0 * MB + 300.0 * KB * seconds;
        let mut sample = sample(seconds, total.min(80.0 * MB));
        sample.memory.swap = paged(total) - sample.memory.anon;
        watch.see(&sample);
    }
    assert_eq!(watch.last().state, State::Leaking);
}

#[test]
fn a_leak_in_huge_pages_is_found_and_a_single_huge_page_is_nothing() {
    let huge = |bytes: f64| (bytes / 2_097_152.0).floor() * 2_097_152.0;
    let watch =
        Watch::confirming_after(60).watch((0.0, 20.0 * MINUTE), 0.25, |s| 64.0 * MB + huge(200.0 * KB * s));
    assert_eq!(watch.last().state, State::Leaking);
    let step = |s: f64| 64.0 * MB + if s > 100.0 { 2_097_152.0 } else { 0.0 };
    let watch = Watch::confirming_after(60).watch((0.0, 20.0 * MINUTE), 0.25, step);
    assert_eq!(watch.reached(State::Growing), None);
}

#[test]
fn a_count_that_moves_in_batches_of_64_pages_shows_a_leak_and_no_more() {
    let batches = |bytes: f64| (bytes / 262_144.0).floor() * 262_144.0;
    let leak =
        Watch::confirming_after(60).watch((0.0, 10.0 * MINUTE), 0.25, |s| 10.0 * MB + batches(50.0 * KB * s));
    assert_eq!(leak.last().state, State::Leaking);
    // One batch up and one down again, at odd times: nothing grows.
    let idle = |s: f64| 10.0 * MB + batches(262_144.0 * (1.0 + noise((s / 7.0).floor())));
    let idle = Watch::confirming_after(60).watch((0.0, 30.0 * MINUTE), 0.25, idle);
    assert_eq!(idle.reached(State::Suspect), None);
}

/// A known limit: half of a slow wave is a ramp. It is taken back when the wave turns, and does not come again.
#[test]
fn half_a_daily_wave_is_a_ramp_until_it_turns() {
    let wave =
        |s: f64| 400.0 * MB - 100.0 * MB * (s * std::f64::consts::TAU / 7200.0).cos() + 40.0 * KB * noise(s);
    let watch = Watch::confirming_after(300).watch((0.0, 6.0 * 3600.0), 1.0, wave);
    assert!(watch.ever(State::Leaking));
    let falling = watch.said.iter().filter(|said| (4000.0..7000.0).contains(&said.at_s));
    assert!(falling.into_iter().all(|said| said.verdict.state.severity() < 2));
    assert!(watch.said.iter().all(|said| said.at_s < 7200.0 || said.verdict.state != State::Leaking));
}

#[test]
fn touching_a_shared_buffer_that_was_there_before_is_shared_growth() {
    let mut watch = Watch::confirming_after(60);
    for tick in 0..4 * 300_u64 {
        let seconds = tick as f64 / 4.0;
        let mut sample = sample(seconds, 15.0 * MB);
        sample.memory.shmem = paged(2.0 * MB * seconds);
        sample.host_shmem = Some(Bytes(16_000_000_000));
        watch.see(&sample);
    }
    assert_eq!(watch.last().state, State::SharedGrowth);
    assert_eq!(watch.reached(State::Growing), None);
}

#[test]
fn a_leak_of_shared_memory_is_a_leak() {
    let mut watch = Watch::confirming_after(60);
    for tick in 0..4 * 300_u64 {
        let seconds = tick as f64 / 4.0;
        let mut sample = sample(seconds, 15.0 * MB);
        sample.memory.shmem = paged(100.0 * KB * seconds);
        sample.host_shmem = Some(Bytes(200_000_000) + sample.memory.shmem);
        watch.see(&sample);
    }
    assert_eq!(watch.last().state, State::Leaking);
}

#[test]
fn reading_files_is_file_growth() {
    let mut watch = Watch::confirming_after(60);
    for tick in 0..4 * 300_u64 {
        let seconds = tick as f64 / 4.0;
        let mut sample = sample(seconds, 15.0 * MB);
        sample.memory.file = paged(5.0 * MB * seconds);
        watch.see(&sample);
    }
    assert_eq!(watch.last().state, State::FileGrowth);
    assert_eq!(watch.reached(State::Growing), None);
}

#[test]
fn a_silent_process_is_flat_and_needs_no_more_samples() {
    let mut watch = Watch::confirming_after(60).watch((0.0, 20.0), 0.25, |_| 12.0 * MB);
    assert!(watch.detector.is_settled());
    assert_eq!(watch.last().state, State::Steady);
    // An hour later it moves once; the hour was flat, not unknown.
    watch.see(&sample(3600.0, 12.5 * MB));
    assert!(!watch.detector.is_settled());
    assert_eq!(watch.last().state, State::Steady);
}

#[test]
fn a_settled_detector_says_the_same_however_long_it_is_asked() {
    let mut watch = Watch::confirming_after(60).watch((0.0, 3000.0), 0.25, |s| {
        20.0 * MB + 100.0 * KB * s.min(400.0) + sawtooth(s.min(500.0), 25.0, 3.0 * MB)
    });
    assert!(watch.detector.is_settled());
    let before = watch.last().clone();
    for seconds in [3001.0, 3010.0, 3600.0, 36_000.0, 360_000.0] {
        let anon = watch.detector.footprint().as_f64();
        watch.see(&sample(seconds, anon));
        assert_eq!(watch.last(), &before);
    }
}

#[test]
fn a_suspended_machine_neither_makes_a_leak_nor_forgets_one() {
    let flat = Watch::confirming_after(15).watch((0.0, 20.0), 0.25, |s| 50.0 * MB + 40.0 * KB * noise(s));
    let flat = flat.watch((30_000.0, 30_060.0), 0.25, |s| 90.0 * MB + 40.0 * KB * noise(s));
    assert_eq!(flat.reached(State::Suspect), None);
    let slept = |s: f64| 50.0 * MB + 50.0 * KB * if s > 1000.0 { s - 20_000.0 } else { s };
    let leak = Watch::confirming_after(60).watch((0.0, 300.0), 0.25, slept);
    let leak = leak.watch((20_300.0, 20_600.0), 0.25, slept);
    assert_eq!(leak.last().state, State::Leaking);
    let rate = leak.last().rate.unwrap().mean.0;
    assert!((rate / (50.0 * KB) - 1.0).abs() < 0.05, "{rate}");
}

#[test]
fn samples_that_come_twice_or_late_change_nothing() {
    let mut watch = Watch::confirming_after(15).watch((0.0, 30.0), 0.25, |s| 10.0 * MB + 50.0 * KB * s);
    let before = watch.last().clone();
    watch.see(&sample(29.75, 0.0));
    watch.see(&sample(3.0, 900.0 * MB));
    assert_eq!(watch.last(), &before);
}

#[test]
fn a_process_that_dies_shrinks_and_nothing_else() {
    let mut watch = Watch::confirming_after(15).watch((0.0, 60.0), 0.25, |s| 10.0 * MB + 500.0 * KB * s);
    assert_eq!(watch.last().state, State::Leaking);
    watch.see(&sample(60.0, 0.0));
    assert_eq!(watch.last().state.severity(), 0);
    watch.see(&sample(60.25, 0.0));
    assert_eq!(watch.last().state, State::Shrinking);
    assert_eq!(watch.last().rate, None);
}

#[test]
fn bulk_growth_needs_twice_the_time() {
    let watch = Watch::confirming_after(15).watch((0.0, 60.0), 0.25, |s| 10.0 * MB + 20.0 * MB * s);
    assert!((29.7..34.0).contains(&watch.reached(State::Leaking).unwrap()));
}

#[test]
fn the_reasons_are_the_evidence_in_words() {
    let watch = Watch::confirming_after(15).watch((0.0, 17.0), 0.25, |s| 10.0 * MB + 51.2 * KB * s);
    let reasons = watch.last().reasons();
    let evidence = &watch.last().evidence;
    assert!(reasons[0] == format!("grew in {} of {} seconds", evidence.steps, evidence.steps), "{reasons:?}");
    assert!(evidence.steps >= 14, "{evidence:?}");
    let share = evidence.last_third.unwrap();
    assert!((share - 1.0).abs() < 0.1, "{share}");
    assert_eq!(reasons[1], format!("no plateau: last third grows at {share:.2} of the first"));
    assert_eq!(reasons[2], "its floor never fell");
}

#[test]
fn a_start_up_burst_does_not_put_off_the_confirmation_of_the_leak_behind_it() {
    let service = |s: f64| 9.0 * MB * (1.0 - 0.7 * (-s / 0.2).exp()) + 50.0 * KB * s;
    let watch = Watch::confirming_after(300).watch((0.0, 10.0 * MINUTE), 0.25, service);
    let confirmed = watch.confirmed().unwrap();
    assert!(confirmed <= 360.0, "{confirmed}");
}

#[test]
fn a_leak_that_begins_inside_a_row_is_told_at_its_own_rate_and_not_at_the_rows() {
    for quiet in [1000.0, 1003.0, 1011.0, 1030.0] {
        let service = |s: f64| 50.0 * MB + 40.0 * KB * (s - quiet).max(0.0) + 4.0 * KB * noise(s);
        let watch = Watch::confirming_after(300).watch((0.0, 20.0 * MINUTE), 0.25, service);
        let said = watch.first(|v| v.state == State::Leaking).expect("found");
        let rate = said.verdict.rate.expect("a rate").mean.0;
        assert!((rate / (40.0 * KB) - 1.0).abs() < 0.1, "{rate} bytes a second after {quiet} s of quiet");
    }
}

/// A service that fills nine tenths of a container of 1 GB: nothing in it says leak but that the limit is near, which the
/// detector is not told.
#[test]
fn a_warm_up_that_fills_its_container_is_held() {
    for pace in [120.0, 300.0, 600.0] {
        let heap = |s: f64| 700.0 * MB + 180.0 * MB * (1.0 - (-s / pace).exp()) + 4.0 * KB * noise(s);
        let watch = Watch::confirming_after(300).watch((0.0, 60.0 * MINUTE), 0.25, heap);
        assert_eq!(watch.confirmed(), None, "approaching its end with a time constant of {pace} s");
    }
}

#[test]
fn samples_that_come_faster_than_the_grid_lose_no_growth() {
    // 10 Hz and an entry every half a second, at every phase: each entry may fall between two ticks of the grid.
    for phase in 0..5 {
        let entries = |s: f64| 10.0 * MB + 12_288.0 * ((s + f64::from(phase) * 0.1) / 0.5 + 1e-6).floor();
        let watch = Watch::confirming_after(60).watch((0.0, 180.0), 0.1, entries);
        let leaking = watch.reached(State::Leaking).unwrap_or_else(|| panic!("found at phase {phase}"));
        assert!(leaking <= 130.0, "{leaking} at phase {phase}");
    }
}

#[test]
fn a_confirmation_stands_as_long_as_the_leak_does() {
    let cases: [&dyn Fn(f64) -> f64; 2] = [&|s| 100.0 * MB + 2.1 * MB * s + 2.0 * MB * noise(s), &|s| {
        100.0 * MB + 50.0 * KB * s + 1.0 * MB * noise(s)
    }];
    for heap in cases {
        let watch = Watch::confirming_after(300).watch((0.0, 20.0 * MINUTE), 0.25, heap);
        let confirmed = watch.confirmed().expect("confirmed");
        let after = watch.said.iter().filter(|said| said.at_s >= confirmed);
        let lost = after.into_iter().find(|said| !said.verdict.confirmed).map(|said| said.at_s);
        assert_eq!(lost, None, "confirmed at {confirmed} s");
    }
}

#[test]
fn a_leak_of_shared_memory_stays_one_when_others_free_theirs() {
    let mut watch = Watch::confirming_after(300);
    for tick in 0..4 * 1200_u64 {
        let seconds = tick as f64 / 4.0;
        let mut sample = sample(seconds, 15.0 * MB);
        sample.memory.shmem = paged(100.0 * KB * seconds);
        // The host's count is read once a second.
        let others = if seconds < 400.0 { 3000.0 * MB } else { 1000.0 * MB };
        sample.host_shmem = Some(paged(others) + paged(100.0 * KB * seconds.floor()));
        watch.see(&sample);
    }
    assert!(watch.last().confirmed, "{:?}", watch.last());
    let rate = watch.last().rate.expect("a rate").mean.0;
    assert!((rate / (100.0 * KB) - 1.0).abs() < 0.03, "{rate}");
}

/// Each of its samples comes after what would be a gap for a live host; no time may be lost over that.
#[test]
fn a_leak_that_is_read_every_fifteen_seconds_has_its_rate() {
    let watch =
        Watch::confirming_after(300).watch((0.0, 60.0 * MINUTE), 15.0, |s| 100.0 * MB + 50.0 * KB * s);
    let rate = watch.last().rate.expect("it leaks").mean.0;
    assert!((rate / (50.0 * KB) - 1.0).abs() < 0.03, "{rate}");
}
