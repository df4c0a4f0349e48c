//! More traps: growth that nobody allocated, growth that leads nowhere, and a time to exhaustion that must agree with
//! itself. Where a rule that looks at levels would be caught, the test shows that it is ([`straight_line`]).

use super::*;
use crate::leak::{Demand, Limit, Room, TimeToOom, time_to_oom};

const MINUTE: f64 = 60.0;
const HUGE: f64 = 2_097_152.0;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The rule that everybody writes first: a straight line through the last five minutes fits well, and rises by a megabyte
/// at least. Whether it ever holds for a footprint that is read once a second.
fn straight_line(footprint: impl Fn(f64) -> f64, minutes: f64) -> bool {
    const WINDOW: usize = 300;
    let samples: Vec<f64> =
        (0..).map(f64::from).take_while(|s| *s < minutes * MINUTE).map(footprint).collect();
    samples.windows(WINDOW).any(|row| {
        let n = WINDOW as f64;
        let (middle, mean) = ((n - 1.0) / 2.0, row.iter().sum::<f64>() / n);
        let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
        for (i, value) in row.iter().enumerate() {
            let (x, y) = (i as f64 - middle, value - mean);
            xy += x * y;
            xx += x * x;
            yy += y * y;
        }
        xy > 0.0 && xy * xy / (xx * yy).max(1.0) > 0.85 && xy / xx * n > MB
    })
}

/// The trap: the level of a random walk is correlated with its own past, so that a line through it nearly always fits.
/// Now and then one rises as evenly as a leak: no rule that looks at one half hour can tell the two apart.
#[test]
fn a_random_walk_without_a_drift_is_hardly_ever_a_leak() {
    const WALKS: u64 = 40;
    let (mut fitted, mut leaking, mut confirmed) = (0, 0, 0);
    for seed in 0..WALKS {
        let mut dice = Dice(seed);
        let mut at = 200.0 * MB;
        let mut steps = (0..4 * 60 * 30).map(|_| {
            at += 100.0 * KB * (dice.roll() - 0.5);
            at
        });
        let walk: Vec<f64> = steps.by_ref().collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive times")]
        let walk = |s: f64| walk[(s * 4.0).round() as usize];
        fitted += u32::from(straight_line(walk, 30.0));
        let watch = Watch::confirming_after(300).watch((0.0, 30.0 * MINUTE), 0.25, walk);
        leaking += u32::from(watch.ever(State::Leaking));
        confirmed += u32::from(watch.confirmed().is_some());
    }
    assert!(fitted >= 20, "a line fits {fitted} of {WALKS} walks: they are a trap");
    assert!(
        leaking <= 3 && confirmed <= 1,
        "of {WALKS} walks {leaking} leaked for a moment, {confirmed} confirmed"
    );
}

/// The trap: after a fork both have all pages, and whoever writes to one gets a copy of its own. USS and PSS grow by all
/// that is touched again, the footprint does not. What was mapped from a file and is written to for the first time moves
/// from the file's count to the anonymous one: it grows without an allocation, as long as there is something to write to.
#[test]
fn pages_that_are_copied_after_a_fork_are_no_leak() {
    let touched_again = |s: f64| 120.0 * MB * (s / 600.0).min(1.0);
    assert!(straight_line(touched_again, 10.0), "USS of a child that touches what it shares");
    let relocated = |s: f64| 9.0 * MB * ((s - 100.0) / 45.0).clamp(0.0, 1.0);
    let mut watch = Watch::confirming_after(60);
    for tick in 0..4 * 600_u64 {
        let seconds = tick as f64 / 4.0;
        // The child begins with all that its parent had, and has copies of its own later: the same pages to the kernel.
        let mut sample = sample(seconds, 120.0 * MB + relocated(seconds));
        sample.memory.file = paged(40.0 * MB - relocated(seconds));
        watch.see(&sample);
    }
    assert!(!watch.ever(State::Leaking), "{:?}", watch.first(|v| v.state == State::Leaking).map(|s| s.at_s));
    assert!(
        watch.said.iter().filter(|said| said.at_s > 300.0).all(|said| said.verdict.state.severity() == 0)
    );
}

/// The trap: khugepaged puts huge pages where small ones were and fills the holes between them, a few ranges each ten
/// seconds until it has been everywhere. Each is a step up that is never taken back, and no byte of it was asked for.
#[test]
fn ranges_that_khugepaged_collapses_are_no_leak() {
    for seed in 0..10 {
        let mut dice = Dice(seed);
        let scans: Vec<(f64, f64)> = (0..18)
            .map(|scan| (60.0 + 10.0 * f64::from(scan), (4.0 * dice.roll()).floor(), 0.1 + 0.8 * dice.roll()))
            .map(|(at, ranges, holes)| (at, ranges * holes * HUGE))
            .collect();
        let filled = |s: f64| scans.iter().filter(|(at, _)| *at <= s).map(|(_, bytes)| bytes).sum::<f64>();
        let heap = |s: f64| 300.0 * MB + filled(s);
        assert!(straight_line(heap, 10.0), "a line fits it: {seed}");
        let watch = Watch::confirming_after(300).watch((0.0, 20.0 * MINUTE), 0.25, heap);
        assert_eq!(watch.confirmed(), None, "{seed}");
        let over = watch.said.iter().filter(|said| said.at_s > 240.0 + 2.0 * MINUTE);
        assert!(over.into_iter().all(|said| said.verdict.state.severity() < 3), "{seed}: long over");
        assert_eq!(watch.last().state.severity(), 0, "{seed}: {:?}", watch.last());
    }
}

/// The trap: what the kernel side had no room to say is read from /proc later, all at once: a jump after a silence.
#[test]
fn a_jump_after_lost_events_is_no_leak_and_hides_none() {
    for gap in [1.0, 5.0, 20.0, 60.0, 300.0] {
        let jumped = |s: f64| 50.0 * MB + if s < 120.0 { 0.0 } else { 8.0 * MB } + 8.0 * KB * (s * 0.7).sin();
        let watch = Watch::confirming_after(15).watch((0.0, 120.0), 0.25, jumped);
        let watch = watch.watch((120.0 + gap, 120.0 + gap + 300.0), 0.25, jumped);
        assert_eq!(watch.reached(State::Suspect), None, "after {gap} s");

        // A process that leaks, and of which nothing was heard in between, leaks as fast as it did.
        let leak = |s: f64| 50.0 * MB + 50.0 * KB * s;
        let watch = Watch::confirming_after(60).watch((0.0, 120.0), 0.25, leak);
        let watch = watch.watch((120.0 + gap, 120.0 + gap + 300.0), 0.25, leak);
        assert_eq!(watch.last().state, State::Leaking, "after {gap} s");
        let rate = watch.last().rate.expect("a rate").mean.0;
        assert!((rate / (50.0 * KB) - 1.0).abs() < 0.05, "{rate} after {gap} s");
    }
}

/// The trap: a rate of one moment and a room of another, or an interval that does not hold the estimate, give a reader two
/// answers. The end of the room is known here: whatever is said while it leaks must hold it.
#[test]
fn a_leak_under_a_limit_is_told_its_end_and_the_end_comes_nearer_by_the_time_that_passes() {
    let size = 400.0 * MB;
    let mut dice = Dice(7);
    let noise: Vec<f64> = (0..4 * 900).map(|_| 40.0 * KB * (dice.roll() - 0.5)).collect();
    let mut watch = Watch::confirming_after(60);
    let mut told: Vec<(f64, TimeToOom)> = Vec::new();
    for (tick, noise) in noise.iter().enumerate() {
        let seconds = tick as f64 / 4.0;
        let sample = sample(seconds, 60.0 * MB + 200.0 * KB * seconds + noise);
        watch.see(&sample);
        let Some(rate) = watch.last().rate.filter(|_| watch.last().state == State::Leaking) else { continue };
        let left = paged(size) - sample.memory.anon;
        let room = Room { limit: Limit::Cgroup("/box".to_owned()), size: paged(size), left };
        told.push((seconds, time_to_oom(room, &Demand::of(&rate)).expect("what leaks reaches its limit")));
    }
    assert!(told.len() > 4 * 800, "it leaks nearly all the time: {}", told.len());
    let end = (size - 60.0 * MB) / (200.0 * KB);
    for (seconds, oom) in &told {
        let (low, eta) = (oom.low.as_secs_f64(), oom.eta.as_secs_f64());
        let high = oom.high.expect("a latest time: the rate is surely above zero").as_secs_f64();
        assert!(low <= eta && eta <= high, "at {seconds}: {oom:?}");
        assert!((low..=high).contains(&(end - seconds)), "at {seconds}: {oom:?} and not {}", end - seconds);
    }
    // A minute later it is a minute nearer, within what the rate is uncertain by.
    let mut nearer = 0;
    for ((then, before), (now, after)) in told.iter().zip(told.iter().skip(240)) {
        let shrunk = before.eta.as_secs_f64() - after.eta.as_secs_f64();
        assert!((shrunk - (now - then)).abs() < 0.05 * before.eta.as_secs_f64(), "{then}: {shrunk}");
        nearer += 1;
    }
    assert!(nearer > 2000);
}
