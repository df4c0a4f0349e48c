//! That a process which rests is judged as one that moves is, and what it takes.

use super::*;
use crate::leak::{State, Thresholds};
use crate::monitor::resting::Beat;
use crate::units::{Pid, ProcKey, Ticks};

const MIB: u64 = 1 << 20;

/// What a process that rests may take: musl's allocator hands out 144 bytes and keeps 4 of them.
const RESTING: usize = 140;

fn beat(tick: u64, host_shmem: u64) -> Beat {
    Beat { at: Moment(5_000_000_000 + tick * 250_000_000), host_shmem: Bytes(host_shmem) }
}

fn reading(anon: u64, shmem: u64) -> Reading {
    let memory = Memory { anon: Bytes(anon), file: Bytes(MIB), shmem: Bytes(shmem), ..Memory::default() };
    let kernel = KernelCounts { first_touch_faults: anon / 4096, ..KernelCounts::default() };
    Reading {
        key: ProcKey { pid: Pid(42), start: Ticks(7) },
        memory,
        kernel: Some(kernel),
        faults: Vec::new(),
    }
}

/// A process that rests for so many batches and is then read in each, growing in both kinds of memory, beside one that
/// was made to move at once. While they rest, they are judged until they are settled.
fn side_by_side(rest: u64, mut compare: impl FnMut(&Tracked, &Tracked, Moment)) {
    let mut beats = Beats::new(Thresholds::default());
    // What others do on the host: up and down.
    let host_shmem = |tick: u64| 100 * MIB + tick * MIB / 2 - (tick % 3) * MIB / 3;
    beats.push(beat(0, host_shmem(0)));
    let mut new = || Tracked::new(reading(20 * MIB, 0), None, &mut beats);
    let (mut one, mut other) = (new(), new());
    other.move_on(&beats, |_| ());
    one.observe(&beats);
    for tick in 1..rest + 120 {
        let now = beat(tick, host_shmem(tick));
        beats.push(now);
        if tick > rest {
            let grown = tick - rest;
            let reading = reading(20 * MIB + grown * 50 * 4096, grown * MIB / 4);
            one.take(reading.clone(), &beats);
            other.take(reading, &beats);
        }
        assert_eq!(one.is_settled(), other.is_settled(), "tick {tick} after a rest of {rest}");
        if tick > rest || !one.is_settled() {
            one.observe(&beats);
            other.observe(&beats);
        }
        compare(&one, &other, now.at);
    }
    assert!(one.moving().is_some());
    assert!(one.verdict().state.severity() >= State::Suspect.severity(), "{:?}", one.verdict());
}

#[test]
fn who_rested_is_judged_as_if_it_had_always_moved() {
    for rest in (0..30).chain([63, 64, 65, 500]) {
        let mut forgotten = false;
        side_by_side(rest, |one, other, at| {
            assert_eq!(one.verdict(), other.verdict(), "{at:?} after a rest of {rest}");
            assert_eq!((one.first(), one.steady()), (other.first(), other.steady()));
            assert_eq!((one.memory(), one.samples()), (other.memory(), other.samples()));
            assert_eq!((one.seen_at(), one.given_back(at)), (other.seen_at(), other.given_back(at)));
            assert_eq!(
                (one.suspected_at(), one.confirmed_at()),
                (other.suspected_at(), other.confirmed_at())
            );
            assert_eq!(one.explained(Bytes(4096), Bytes(MIB)), other.explained(Bytes(4096), Bytes(MIB)));
            let (past, other_past): (Vec<Point>, Vec<Point>) =
                (one.history().collect(), other.history().collect());
            assert_eq!((past.first(), past.last()), (other_past.first(), other_past.last()));
            forgotten |= past != other_past;
        });
        // While it rests, and once its rest has lasted longer than batches are remembered.
        assert_eq!(forgotten, rest > 1, "after a rest of {rest}");
    }
}

#[test]
fn a_process_that_rests_takes_few_bytes_and_no_heap_of_its_own() {
    let mut beats = Beats::new(Thresholds::default());
    beats.push(beat(0, 0));
    let idle = Reading { kernel: Some(KernelCounts::default()), ..reading(MIB, 0) };
    let mut tracked = Tracked::new(idle, None, &mut beats);
    for tick in 1..100 {
        beats.push(beat(tick, tick * MIB));
        tracked.observe(&beats);
        assert!(tracked.moving().is_none() && tracked.is_settled() == (tick >= 7), "tick {tick}");
        assert_eq!(tracked.heap_bytes(), 0);
    }
    assert!(size_of::<Tracked>() <= RESTING, "{} bytes", size_of::<Tracked>());
}
