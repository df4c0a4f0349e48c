//! What holds for every process.

use proptest::prelude::*;

use super::*;

/// Any series of samples: gaps from nothing to a month, sizes from nothing to everything.
fn any_samples() -> impl Strategy<Value = Vec<Sample>> {
    let size = || prop_oneof![Just(0), 0..u64::MAX, Just(u64::MAX), 0..1_000_000_000_u64];
    let gap = prop_oneof![Just(0), 1..2_000_000_000_u64, 1..3_000_000_000_000_000_u64, Just(u64::MAX)];
    let sample = (gap, size(), size(), size(), size(), prop::option::of(size()));
    prop::collection::vec(sample, 0..300).prop_map(|rows| {
        let mut now = 0_u64;
        let mut take = |(gap, anon, file, shmem, swap, host): (u64, u64, u64, u64, u64, Option<u64>)| {
            now = now.saturating_add(gap);
            let memory =
                Memory { anon: Bytes(anon), file: Bytes(file), shmem: Bytes(shmem), swap: Bytes(swap) };
            Sample { at: Moment(now), memory, host_shmem: host.map(Bytes) }
        };
        rows.into_iter().map(&mut take).collect()
    })
}

/// A plausible process: steps of some pages, up or down, at 4 Hz.
fn walk(steps: &[i16]) -> Vec<Sample> {
    let mut pages = 100_000_i64;
    let mut take = |(i, step): (usize, &i16)| {
        pages += i64::from(*step);
        sample(i as f64 / 4.0, pages as f64 * 4096.0)
    };
    steps.iter().enumerate().map(&mut take).collect()
}

fn judged(samples: &[Sample]) -> Vec<Verdict> {
    let mut detector = Detector::new(Thresholds { confirm: Duration::from_secs(15) });
    samples.iter().map(|sample| detector.observe(sample)).collect()
}

proptest! {
    #[test]
    fn no_input_makes_it_panic_or_say_what_is_no_number(samples in any_samples()) {
        for verdict in judged(&samples) {
            let _ = verdict.reasons();
            if let Some(rate) = verdict.rate {
                prop_assert!(rate.mean.0.is_finite() && rate.low.0 <= rate.mean.0 && rate.mean.0 <= rate.high.0);
            }
        }
    }

    #[test]
    fn its_memory_is_bounded_whatever_comes(samples in any_samples()) {
        let mut detector = Detector::new(Thresholds::default());
        for sample in &samples {
            detector.observe(sample);
        }
        let bytes = size_of::<Detector>() + detector.heap_bytes();
        prop_assert!(bytes <= 5000, "{bytes}");
    }

    #[test]
    fn the_time_of_day_changes_nothing(steps in prop::collection::vec(-3_i16..8, 20..400), shift in 0_u64..1 << 50) {
        let samples = walk(&steps);
        let shifted: Vec<Sample> =
            samples.iter().map(|s| Sample { at: s.at + Duration::from_nanos(shift), ..*s }).collect();
        prop_assert_eq!(judged(&samples), judged(&shifted));
    }

    #[test]
    fn memory_that_was_held_before_changes_no_growth(steps in prop::collection::vec(-3_i16..8, 20..400), more in 0_u64..1 << 20) {
        let samples = walk(&steps);
        let larger: Vec<Sample> = samples
            .iter()
            .map(|s| Sample { memory: Memory { anon: s.memory.anon + Bytes(more * 4096), ..s.memory }, ..*s })
            .collect();
        for (one, other) in judged(&samples).iter().zip(judged(&larger)) {
            prop_assert_eq!(one.state.severity(), other.state.severity());
            prop_assert_eq!(one.rate, other.rate);
            prop_assert_eq!(one.clean_growth, other.clean_growth);
        }
    }

    #[test]
    fn twice_the_growth_is_twice_the_rate(per_tick in 2_u32..2000, wiggle in prop::collection::vec(0_u32..3, 200)) {
        let leak = |factor: u64| {
            let grow = |(i, w): (usize, &u32)| {
                let pages = 10_000 + factor * (i as u64 * u64::from(per_tick) + u64::from(*w));
                sample(i as f64 / 4.0, pages as f64 * 4096.0)
            };
            let samples: Vec<Sample> = wiggle.iter().enumerate().map(grow).collect();
            judged(&samples).last().and_then(|v| v.rate).map(|rate| rate.mean.0)
        };
        let (once, twice) = (leak(1).expect("grows"), leak(2).expect("grows"));
        prop_assert!((twice / once / 2.0 - 1.0).abs() < 0.02, "{once} {twice}");
    }

    #[test]
    fn what_never_rises_is_never_said_to_grow(steps in prop::collection::vec(-9_i16..=0, 20..400)) {
        for verdict in judged(&walk(&steps)) {
            prop_assert_eq!(verdict.state.severity(), 0);
            prop_assert!(verdict.state != State::WarmingUp);
        }
    }

    #[test]
    fn settled_means_that_silence_changes_nothing(
        steps in prop::collection::vec(-20_i16..30, 1..200), flat in 100_usize..2000, silence in 1.0..1e6
    ) {
        let mut all = steps;
        all.extend(std::iter::repeat_n(0, flat));
        let samples = walk(&all);
        let mut detector = Detector::new(Thresholds { confirm: Duration::from_secs(15) });
        let last = samples.iter().map(|sample| detector.observe(sample)).last().expect("a verdict");
        if detector.is_settled() {
            let sample = samples.last().expect("a sample");
            let later = Sample { at: sample.at + Duration::from_secs_f64(silence), ..*sample };
            prop_assert_eq!(detector.observe(&later), last);
            prop_assert!(detector.is_settled());
        }
    }
}

proptest! {
    // Each case is hundreds of samples.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_leak_that_goes_on_stays_confirmed(
        per_tick in 1_u32..600, noise in 0_u32..400, wiggle in prop::collection::vec(0_u32..1000, 800)
    ) {
        let grow = |(i, w): (usize, &u32)| {
            let pages = 10_000 + i as u64 * u64::from(per_tick) + u64::from(noise * w / 1000);
            sample(i as f64 / 4.0, pages as f64 * 4096.0)
        };
        let samples: Vec<Sample> = wiggle.iter().enumerate().map(grow).collect();
        for pair in judged(&samples).windows(2) {
            let stays = pair[1].state == State::Leaking && pair[0].confirmed;
            prop_assert!(!stays || pair[1].confirmed, "{pair:?}");
        }
    }
}
