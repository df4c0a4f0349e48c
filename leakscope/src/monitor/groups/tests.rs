//! Services made of scripted workers.

use super::*;
use crate::process::testing;
use crate::units::Ticks;

const MB: u64 = 1_000_000;

fn worker(pid: u32, script: &str) -> Identity {
    let key = ProcKey { pid: Pid(pid), start: Ticks(u64::from(pid)) };
    let cmdline = vec!["python3".to_owned(), "-u".to_owned(), script.to_owned()];
    Identity { key, ppid: Pid(500), cmdline, ..testing::identity(pid) }
}

fn at(tick: u64) -> Moment {
    Moment(1_000_000_000 + tick * 250_000_000)
}

fn groups() -> Groups {
    Groups::new(Thresholds { confirm: Duration::from_secs(60) })
}

fn only(groups: &Groups) -> &Group {
    let mut all = groups.iter();
    let group = all.next().expect("a group");
    assert!(all.next().is_none());
    group
}

/// Deterministic noise between -1 and 1 that changes once a minute, at another second for each worker.
fn noise(tick: u64, worker: u32) -> f64 {
    let minute = (tick + 7 * u64::from(worker)) / 240;
    let x = (minute as f64 * 12.9898 + f64::from(worker) * 78.233).sin() * 43_758.545;
    2.0 * (x - x.floor()) - 1.0
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive sizes")]
fn noisy(tick: u64, worker: u32, rate: f64) -> Bytes {
    let bytes = 50e6 + rate * tick as f64 / 4.0 + 0.7e6 * noise(tick, worker);
    Bytes((bytes / 4096.0) as u64 * 4096)
}

#[test]
fn workers_that_leak_too_slowly_to_be_told_alone_are_told_together() {
    let mut groups = groups();
    let mut alone = Detector::new(Thresholds { confirm: Duration::from_secs(60) });
    let workers: Vec<Identity> = (0..40).map(|i| worker(1000 + i, "app.py")).collect();
    for identity in &workers {
        groups.join(identity, noisy(0, identity.key.pid.0, 2000.0), true);
    }
    let (mut told, mut told_alone) = (None, false);
    for tick in 1..4 * 900 {
        for identity in &workers {
            groups.take(identity.key, noisy(tick, identity.key.pid.0, 2000.0));
        }
        let memory = Memory { anon: noisy(tick, 1000, 2000.0), ..Memory::default() };
        told_alone |= alone.observe(&Sample { at: at(tick), memory, host_shmem: None }).confirmed;
        groups.judge(at(tick));
        if told.is_none() && only(&groups).verdict.confirmed {
            told = Some(tick / 4);
        }
    }
    assert!(!told_alone, "one worker of forty is not told in a quarter of an hour");
    let told = told.expect("the service is told");
    let rate = only(&groups).verdict.rate.expect("a rate").mean.0;
    assert!((rate / 80_000.0 - 1.0).abs() < 0.25, "{rate} after {told} s");
}

#[test]
fn generations_that_grow_and_die_are_no_leak_of_the_service() {
    let mut groups = groups();
    let mut living: Vec<(Identity, u64)> = Vec::new();
    for tick in 0..4 * 1800_u64 {
        if tick % 40 == 0 {
            let pid = 2000 + u32::try_from(tick / 40).unwrap();
            let identity = worker(pid, "job.py");
            groups.join(&identity, Bytes(5 * MB), false);
            living.push((identity, tick));
        }
        for (identity, born) in &living {
            groups.take(identity.key, Bytes(5 * MB + (tick - born) * 100_000));
        }
        let (dead, rest) = living.into_iter().partition(|(_, born)| tick - born > 110);
        living = rest;
        for (identity, _) in &dead {
            groups.leave(identity.key, at(tick));
        }
        groups.judge(at(tick));
        let group = groups.iter().next();
        assert!(group.is_none_or(|group| !group.verdict.confirmed), "at {} s", tick / 4);
    }
}

#[test]
fn a_service_whose_workers_are_replaced_by_new_ones_of_the_same_size_does_not_grow() {
    let mut groups = groups();
    let mut workers: Vec<Identity> = (0..8).map(|i| worker(1000 + i, "app.py")).collect();
    for identity in &workers {
        groups.join(identity, Bytes(100 * MB), true);
    }
    for tick in 1..4 * 900_u64 {
        if tick % 200 == 0 {
            let pid = 5000 + u32::try_from(tick).unwrap();
            let old = std::mem::replace(
                &mut workers[usize::try_from(tick / 200 % 8).unwrap()],
                worker(pid, "app.py"),
            );
            groups.leave(old.key, at(tick));
            groups.join(&worker(pid, "app.py"), Bytes(100 * MB), false);
        }
        groups.judge(at(tick));
        assert_eq!(only(&groups).verdict.state.severity(), 0, "at {} s", tick / 4);
    }
    assert_eq!(only(&groups).footprint(), Bytes(800 * MB));
}

#[test]
fn two_scripts_of_one_interpreter_are_two_services() {
    let mut groups = groups();
    groups.join(&worker(1, "a.py"), Bytes(MB), true);
    groups.join(&worker(2, "b.py"), Bytes(MB), true);
    assert_eq!(groups.iter().count(), 0, "neither has two workers");
    groups.join(&worker(3, "a.py"), Bytes(MB), true);
    assert_eq!(only(&groups).workers().count(), 2);
}

#[test]
fn services_without_workers_are_forgotten_and_too_many_are_counted() {
    let mut groups = groups();
    for pid in 0..2 {
        groups.join(&worker(10 + pid, "a.py"), Bytes(MB), true);
    }
    for pid in 0..2 {
        groups.leave(worker(10 + pid, "a.py").key, at(0));
    }
    groups.judge(at(4 * 299));
    assert_eq!(groups.groups.len(), 1);
    groups.judge(at(4 * 301));
    assert_eq!((groups.groups.len(), groups.of.len()), (0, 0));
    for pid in 0..u32::try_from(MAX_GROUPS).unwrap() + 3 {
        groups.join(&worker(100 + pid, &format!("{pid}.py")), Bytes(MB), true);
    }
    assert_eq!(groups.left_out(), 3);
}
