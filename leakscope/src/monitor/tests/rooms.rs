//! What is not memory of a process has no say in its verdict: the limit above it, and addresses that it only reserved.

use super::*;
use crate::source::{Calls, SyscallCounts};

/// A leak in a cgroup whose limit is lowered after a minute, and that is moved to another cgroup after two.
struct Moving {
    moves: bool,
}

impl Directory for Moving {
    fn identify(&mut self, key: ProcKey) -> Option<Identity> {
        Some(Identity { key, ..testing::identity(key.pid.0) })
    }

    fn rooms(&mut self, _: &Identity, _: &Host, at: Moment) -> Option<Vec<Room>> {
        let (path, left) = match at.since(Moment(1_000_000_000)).as_secs() {
            _ if !self.moves => ("/wide", 600_000_000),
            0..60 => ("/wide", 600_000_000),
            60..120 => ("/wide", 3_000_000),
            _ => ("/elsewhere", 3_000_000_000),
        };
        let limit = Limit::Cgroup(path.to_owned());
        Some(vec![Room { limit, size: Bytes(4_000_000_000), left: Bytes(left) }])
    }
}

/// What is thought of a leak and of a process that does nothing, and when each limit would be reached: by the second.
async fn watched(moves: bool) -> (Vec<Transition>, Vec<Option<TimeToOom>>) {
    let (leaker, quiet) = (key(42, 1000), key(43, 1000));
    let batches: Vec<Batch> = (0..4 * 180)
        .map(|tick| batch(tick, vec![growing(leaker, tick), reading(quiet, 30_000_000, 0)], Vec::new()))
        .collect();
    let script = Script { batches: batches.into(), inspected: Vec::new() };
    let mut monitor = Monitor::new(script, Moving { moves }, config());
    let (mut transitions, mut told) = (Vec::new(), Vec::new());
    while let Some(tick) = monitor.step().await.unwrap() {
        transitions.extend(tick.transitions);
        told.push(monitor.time_to_oom(leaker));
        assert_eq!(
            monitor.time_to_oom(quiet),
            None,
            "what does not grow reaches no limit, however near it is"
        );
    }
    (transitions, told)
}

/// The trap: a rule that warns of what fills a share of its limit calls a limit that is lowered a leak, and a move to a
/// larger cgroup its end.
#[tokio::test]
async fn a_limit_that_changes_and_a_move_to_another_cgroup_change_the_time_left_and_no_verdict() {
    let (changed, told) = watched(true).await;
    let (unchanged, _) = watched(false).await;
    assert_eq!(changed, unchanged);
    assert!(unchanged.iter().any(|transition| transition.confirmed), "{unchanged:?}");
    let at = |second: usize| told[4 * second].clone().expect("it leaks");
    assert!(!at(59).runaway() && at(61).runaway() && !at(121).runaway(), "{told:?}");
    assert_eq!(at(121).room.limit, Limit::Cgroup("/elsewhere".to_owned()));
    // 50 pages a second.
    let seconds = at(61).eta.as_secs_f64();
    assert!((seconds / (3_000_000.0 / 204_800.0) - 1.0).abs() < 0.05, "{seconds}");
}

/// The trap: an allocator, a JVM or Go reserves gigabytes of addresses and touches next to nothing of them. By VmSize, or
/// by what was mapped less what was unmapped, that is the worst leak of the host.
#[tokio::test]
async fn a_pool_that_is_only_reserved_does_not_grow() {
    let pool = key(42, 1000);
    let mapped = |tick: u64| Bytes(tick * (64 << 20));
    let batches = (0..4 * 120)
        .map(|tick| {
            // A page of bookkeeping each ten seconds for thirty, and no more.
            let whole = reading(pool, 30_000_000 + 4096 * (tick / 40).min(3), tick / 40);
            let mmap_anon = Calls { count: tick, bytes: mapped(tick) };
            let syscalls = Some(SyscallCounts { mmap_anon, ..SyscallCounts::default() });
            let kernel = whole.kernel.map(|counts| KernelCounts { syscalls, ..counts });
            batch(tick, vec![Reading { kernel, ..whole }], Vec::new())
        })
        .collect();
    let mut monitor = monitor(batches, config());
    let transitions = play(&mut monitor).await;
    assert!(transitions.iter().all(|transition| transition.to.severity() == 0), "{transitions:?}");
    let finding = monitor.finding(pool).unwrap();
    assert_eq!(finding.verdict.state, State::Steady);
    let told = finding.kernel.and_then(|counts| counts.syscalls).unwrap();
    assert!(told.mmap_anon.bytes > Bytes(29 << 30), "it was told of 30 GiB that were never unmapped");
}
