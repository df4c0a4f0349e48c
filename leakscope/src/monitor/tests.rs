//! The monitor on scripted batches: no kernel, no /proc, no clock.

mod rooms;
mod services;

use std::collections::VecDeque;

use super::*;
use crate::leak::{Limit, Memory, Room};
use crate::process::testing;
use crate::source::{KernelCounts, Lost};
use crate::units::{Bytes, Ticks};

/// Plays batches, and remembers whom it was told to inspect.
#[derive(Default)]
struct Script {
    batches: VecDeque<Batch>,
    inspected: Vec<Vec<ProcKey>>,
}

impl Source for Script {
    fn kind(&self) -> SourceKind {
        SourceKind::Ebpf
    }

    async fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        Ok(self.batches.pop_front())
    }

    fn inspect(&mut self, suspects: &[ProcKey]) -> anyhow::Result<()> {
        self.inspected.push(suspects.to_vec());
        Ok(())
    }
}

/// Knows everybody by pid; whoever has a pid above 9000 is gone before it can be looked at.
#[derive(Default)]
struct Everybody {
    asked: usize,
    /// After so many questions everybody is a backend of PostgreSQL.
    title_after: Option<usize>,
}

impl Directory for Everybody {
    fn identify(&mut self, key: ProcKey) -> Option<Identity> {
        self.asked += 1;
        let mut identity = Identity { key, ..testing::identity(key.pid.0) };
        if self.title_after.is_some_and(|after| self.asked > after) {
            identity.cmdline = vec!["postgres: app".to_owned()];
        }
        (key.pid.0 <= 9000).then_some(identity)
    }

    /// Below 100 they share a cgroup, from 500 to 600 each has one of its own within a larger one.
    fn rooms(&mut self, identity: &Identity, _: &Host, _: Moment) -> Option<Vec<Room>> {
        let room = |path: &str, left: u64| Room {
            limit: Limit::Cgroup(path.to_owned()),
            size: Bytes(1_000_000_000),
            left: Bytes(left),
        };
        Some(match identity.key.pid.0 {
            ..100 => vec![room("/shared", 600_000_000)],
            pid @ 500..600 => {
                vec![room(&format!("/outer/{pid}"), 100_000_000), room("/outer", 400_000_000)]
            }
            _ => vec![room("/own", 600_000_000)],
        })
    }
}

const QUARTER: u64 = 250_000_000;

fn key(pid: u32, start: u64) -> ProcKey {
    ProcKey { pid: Pid(pid), start: Ticks(start) }
}

fn batch(tick: u64, readings: Vec<Reading>, events: Vec<Event>) -> Batch {
    Batch {
        at: Moment(1_000_000_000 + tick * QUARTER),
        wall: Timestamp::UNIX_EPOCH + Duration::from_nanos(tick * QUARTER),
        host: HostMemory { total: Bytes(8 << 30), available: Bytes(4 << 30), ..HostMemory::default() },
        readings,
        events,
        lost: Lost::default(),
    }
}

fn reading(key: ProcKey, anon: u64, faults: u64) -> Reading {
    let kernel = KernelCounts { first_touch_faults: faults, ..KernelCounts::default() };
    let memory = Memory { anon: Bytes(anon), ..Memory::default() };
    Reading { key, memory, kernel: Some(kernel), faults: Vec::new() }
}

/// A process that grows by 50 pages a second.
fn growing(key: ProcKey, tick: u64) -> Reading {
    let pages = 50 * tick / 4;
    reading(key, 20_000_000 + pages * 4096, pages)
}

fn monitor(batches: Vec<Batch>, config: Config) -> Monitor<Script, Everybody> {
    let script = Script { batches: batches.into(), inspected: Vec::new() };
    Monitor::new(script, Everybody::default(), config)
}

fn config() -> Config {
    let thresholds = Thresholds { confirm: Duration::from_secs(15) };
    Config { thresholds, selector: Selector::default(), leave_out: Some(Pid(7)) }
}

/// Plays everything and returns all transitions.
async fn play(monitor: &mut Monitor<Script, Everybody>) -> Vec<Transition> {
    let mut transitions = Vec::new();
    while let Some(tick) = monitor.step().await.unwrap() {
        transitions.extend(tick.transitions);
    }
    transitions
}

#[tokio::test]
async fn a_leak_is_confirmed_inspected_and_explained_by_the_kernels_counts() {
    let leaker = key(42, 1000);
    let batches = (0..100).map(|tick| batch(tick, vec![growing(leaker, tick)], Vec::new())).collect();
    let mut monitor = monitor(batches, config());
    let transitions = play(&mut monitor).await;
    assert!(transitions.iter().any(|transition| transition.confirmed), "{transitions:?}");
    assert_eq!(monitor.source.inspected, [vec![leaker]], "switched on once, for the one suspect");
    let finding = monitor.finding(leaker).unwrap();
    assert_eq!(finding.explained, Some(1.0));
    assert!(finding.suspected_after.unwrap() < finding.confirmed_after.unwrap());
    let oom = finding.oom.unwrap();
    assert!((oom.eta.as_secs_f64() - 600_000_000.0 / 204_800.0).abs() < 300.0, "{oom:?}");
}

#[tokio::test]
async fn an_exec_makes_a_new_beginning_and_the_closer_look_ends() {
    let leaker = key(42, 1000);
    let mut batches: Vec<Batch> =
        (0..80).map(|tick| batch(tick, vec![growing(leaker, tick)], Vec::new())).collect();
    batches.push(batch(80, vec![reading(leaker, 1_000_000, 0)], vec![Event::Exec { key: leaker }]));
    let mut monitor = monitor(batches, config());
    play(&mut monitor).await;
    let tracked = monitor.process(leaker).unwrap();
    assert_eq!(tracked.verdict().state, State::Learning);
    assert_eq!(tracked.history().count(), 1);
    assert_eq!(monitor.source.inspected.last(), Some(&Vec::new()));
}

#[tokio::test]
async fn a_pid_that_is_used_again_is_another_process_even_when_the_exit_went_unseen() {
    let (former, newcomer) = (key(42, 1000), key(42, 2000));
    let mut batches: Vec<Batch> =
        (0..80).map(|tick| batch(tick, vec![growing(former, tick)], Vec::new())).collect();
    batches.push(batch(80, vec![reading(newcomer, 1_000_000, 0)], Vec::new()));
    let mut monitor = monitor(batches, config());
    play(&mut monitor).await;
    assert!(monitor.process(former).is_none());
    assert_eq!(monitor.process(newcomer).unwrap().verdict().state, State::Learning);
    assert_eq!(monitor.processes().count(), 1);
}

#[tokio::test]
async fn an_exit_is_remembered_with_its_status_and_the_process_is_not() {
    let leaver = key(42, 1000);
    let status = Some(ExitStatus::Signal(15));
    let batches = vec![
        batch(0, vec![reading(leaver, 1, 0)], Vec::new()),
        batch(1, Vec::new(), vec![Event::Exit { key: leaver, status }]),
    ];
    let mut monitor = monitor(batches, config());
    play(&mut monitor).await;
    assert_eq!(monitor.exit_of(leaver), Some(status));
    assert_eq!(monitor.exit_of(key(42, 2000)), None);
    assert_eq!(monitor.processes().count(), 0);
}

#[tokio::test]
async fn what_is_read_of_a_process_on_its_way_out_is_no_part_of_its_past() {
    let leaver = key(42, 1000);
    let mut batches: Vec<Batch> =
        (0..100).map(|tick| batch(tick, vec![growing(leaver, tick)], Vec::new())).collect();
    let exit = Event::Exit { key: leaver, status: None };
    batches.push(batch(100, vec![reading(leaver, 4_000_000, 0)], vec![exit]));
    let mut monitor = monitor(batches, config());
    let (mut transitions, mut ended) = (Vec::new(), Vec::new());
    while let Some(tick) = monitor.step().await.unwrap() {
        transitions.extend(tick.transitions);
        ended.extend(tick.ended);
    }
    let [(key, tracked)] = &ended[..] else { panic!("it ended once") };
    assert_eq!((*key, monitor.processes().count()), (leaver, 0), "and is not met again");
    assert!(transitions.last().is_some_and(|last| last.confirmed), "{transitions:?}");
    assert!(tracked.verdict().confirmed);
    assert_eq!(tracked.history().last().unwrap().memory, growing(leaver, 99).memory);
    let footprints: Vec<Bytes> = tracked.history().map(|point| point.memory.footprint()).collect();
    assert!(footprints.is_sorted(), "{footprints:?}");
}

#[tokio::test]
async fn processes_that_come_and_go_leave_nothing_behind() {
    let batches = (0..2000)
        .map(|tick| {
            let pid = u32::try_from(tick).unwrap() + 100;
            let gone = key(pid - 1, tick);
            batch(
                tick,
                vec![reading(key(pid, tick + 1), 5_000_000, 3)],
                vec![Event::Exit { key: gone, status: None }],
            )
        })
        .collect();
    let mut monitor = monitor(batches, config());
    play(&mut monitor).await;
    assert_eq!(monitor.processes().count(), 1);
    assert!(monitor.by_pid.len() <= 1 && monitor.unsettled.len() <= 1 && monitor.exits.len() <= EXITS_KEPT);
}

#[tokio::test]
async fn a_fall_between_points_that_were_thinned_away_is_still_counted() {
    let leaker = key(42, 1000);
    // Ten minutes of growth, with a fall of 40 kB five minutes ago that is made good within the same second.
    let dip = |tick: u64| if tick == 1200 { 50 } else { 0 };
    let batches = (0..2400)
        .map(|tick| {
            let whole = growing(leaker, tick);
            let anon = Bytes(whole.memory.anon.0 - dip(tick) * 4096);
            let memory = Memory { anon, ..whole.memory };
            batch(tick, vec![Reading { memory, ..whole }], Vec::new())
        })
        .collect();
    let mut monitor = monitor(batches, config());
    play(&mut monitor).await;
    let finding = monitor.finding(leaker).unwrap();
    let kept: Bytes =
        finding.history.windows(2).map(|pair| pair[0].memory.footprint() - pair[1].memory.footprint()).sum();
    assert_eq!(kept, Bytes::ZERO, "the history alone shows no fall");
    assert!(finding.verdict.clean_growth > Duration::from_secs(300), "{:?}", finding.verdict);
    assert!(finding.given_back > Bytes(100_000), "{:?}", finding.given_back);
    assert_eq!(finding.first, Some(Bytes(20_000_000)), "the first reading, however long ago");
}

#[tokio::test]
async fn whoever_was_met_counts_once_also_after_it_ended_or_became_another_program() {
    let (one, other) = (key(42, 1000), key(43, 1000));
    let read = |key| reading(key, 1_000_000, 0);
    let batches = vec![
        batch(0, vec![read(one), read(other)], Vec::new()),
        batch(1, vec![read(one)], vec![Event::Exec { key: one }]),
        batch(2, vec![read(key(44, 2000))], vec![Event::Exit { key: other, status: None }]),
    ];
    let mut monitor = monitor(batches, config());
    play(&mut monitor).await;
    assert_eq!((monitor.met(), monitor.processes().count()), (3, 2));
}

#[tokio::test]
async fn a_service_that_changed_its_user_is_known_by_it_and_another_program_is_not_taken() {
    let service = key(42, 1000);
    let mut monitor = monitor(vec![batch(0, vec![reading(service, 1, 0)], Vec::new())], config());
    play(&mut monitor).await;
    let now = monitor.identity(service).unwrap().clone();
    let tracked = monitor.processes.get_mut(&service).unwrap();
    tracked.set_identity(Identity { uid: 0, ..now.clone() });
    monitor.identify_again(service);
    assert_eq!(monitor.identity(service), Some(&now));
    let former = Identity { image: Some(0x7fff_0000_0000), uid: 0, ..now };
    monitor.processes.get_mut(&service).unwrap().set_identity(former.clone());
    monitor.identify_again(service);
    assert_eq!(monitor.identity(service), Some(&former), "an exec came between");
}

#[tokio::test]
async fn leakscope_itself_and_whoever_is_not_selected_are_left_out_and_asked_for_a_few_times() {
    let selector = Selector::default().commands([regex::Regex::new("no such command").unwrap()]);
    let batches = (0..20)
        .map(|tick| batch(tick, vec![growing(key(7, 1), tick), growing(key(8, 1), tick)], Vec::new()))
        .collect();
    let mut monitor = monitor(batches, Config { selector, ..config() });
    play(&mut monitor).await;
    assert_eq!(monitor.processes().count(), 0);
    // At once, and while it is young 0.5, 1.5 and 3.5 seconds later; never 20 times.
    assert_eq!(monitor.directory.asked, 4);
}

#[tokio::test]
async fn a_process_that_sets_its_title_after_its_start_is_selected_all_the_same() {
    let selector = Selector::default().commands([regex::Regex::new("postgres: app").unwrap()]);
    let batches = (0..20).map(|tick| batch(tick, vec![growing(key(8, 1), tick)], Vec::new())).collect();
    let mut monitor = monitor(batches, Config { selector, ..config() });
    monitor.directory.title_after = Some(1);
    play(&mut monitor).await;
    assert_eq!(monitor.processes().count(), 1);
}

#[tokio::test]
async fn processes_that_grow_under_one_limit_share_its_room() {
    let (one, other, apart) = (key(42, 1), key(43, 1), key(400, 1));
    let readings = |tick| [one, other, apart].map(|key| growing(key, tick)).to_vec();
    let batches = (0..100).map(|tick| batch(tick, readings(tick), Vec::new())).collect();
    let mut monitor = monitor(batches, config());
    play(&mut monitor).await;
    assert_eq!(monitor.worst(|key| key == other), Some(other), "among those asked for only");
    assert_eq!(monitor.worst(|_| false), None);
    let eta = |key| monitor.time_to_oom(key).unwrap().eta.as_secs_f64();
    assert!((eta(one) / eta(apart) - 0.5).abs() < 0.05, "{} against {}", eta(one), eta(apart));
    assert!((eta(one) / eta(other) - 1.0).abs() < 0.05);
}

/// `count` processes grow in cgroups of their own, each with 100 MB left, within one that leaves 400 MB.
async fn grown_in_a_larger_cgroup(count: u32) -> (Monitor<Script, Everybody>, Vec<ProcKey>) {
    let keys: Vec<ProcKey> = (500..500 + count).map(|pid| key(pid, 1)).collect();
    let readings = |tick| keys.iter().map(|key| growing(*key, tick)).collect();
    let batches = (0..100).map(|tick| batch(tick, readings(tick), Vec::new())).collect();
    let mut monitor = monitor(batches, config());
    play(&mut monitor).await;
    (monitor, keys)
}

#[tokio::test]
async fn of_all_limits_above_the_one_that_is_reached_first_is_told_whichever_leaves_more() {
    for (count, limit, left) in
        [(1, "/outer/500", 100e6), (3, "/outer/500", 100e6), (10, "/outer", 400e6 / 10.0)]
    {
        let (monitor, keys) = grown_in_a_larger_cgroup(count).await;
        let oom = monitor.time_to_oom(keys[0]).unwrap();
        assert_eq!(oom.room.limit, Limit::Cgroup(limit.to_owned()), "{count} that grow");
        assert_eq!(oom.demand.growers, if limit == "/outer" { 10 } else { 1 });
        let eta = oom.eta.as_secs_f64();
        assert!((eta / (left / 204_800.0) - 1.0).abs() < 0.1, "{count} that grow: {eta} s");
        assert!(oom.low <= oom.eta && oom.high.is_some_and(|high| high >= oom.eta), "{oom:?}");
    }
}

#[tokio::test]
async fn who_grows_no_more_takes_no_share_and_the_hosts_memory_is_shared_by_all() {
    let (fast, quiet) = (key(42, 1), key(9001, 1));
    // The one whose cgroup nobody knows grows by 100 MB/s for twenty seconds and then stays; in the first it might be a
    // compiler, and takes no share.
    let batches = (0..400)
        .map(|tick: u64| {
            let other = reading(quiet, 20_000_000 + tick.min(80) * 25_000_000, tick);
            batch(tick, vec![growing(fast, tick), other], Vec::new())
        })
        .collect();
    let mut monitor = monitor(batches, config());
    let mut limits = Vec::new();
    while monitor.step().await.unwrap().is_some() {
        limits.extend(monitor.time_to_oom(fast).map(|oom| (oom.room.limit, oom.demand.growers)));
        let seconds = monitor.elapsed().as_secs_f64();
        assert!(seconds > 5.0 || limits.iter().all(|(_, growers)| *growers == 1), "at {seconds} s");
    }
    assert!(limits.contains(&(Limit::Host, 2)), "{limits:?}");
    assert_eq!(limits.last(), Some(&(Limit::Cgroup("/shared".to_owned()), 1)), "{limits:?}");
}

#[tokio::test]
async fn a_process_that_is_gone_before_it_is_identified_is_no_finding() {
    let batches = (0..60).map(|tick| batch(tick, vec![growing(key(9001, 1), tick)], Vec::new())).collect();
    let mut monitor = monitor(batches, config());
    play(&mut monitor).await;
    assert!(monitor.process(key(9001, 1)).unwrap().verdict().state.severity() > 0);
    assert!(monitor.finding(key(9001, 1)).is_none());
}
