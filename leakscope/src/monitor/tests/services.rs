//! Services, as a monitor tells them.

use super::*;
use crate::monitor::testing::{OneParent, RATE, WORKERS, Workers, worker};

fn monitor(workers: Workers) -> Monitor<Workers, OneParent> {
    let thresholds = Thresholds { confirm: Duration::from_secs(60) };
    Monitor::new(workers, OneParent, Config { thresholds, ..config() })
}

#[tokio::test]
async fn workers_that_leak_too_slowly_to_be_told_alone_are_told_as_their_service() {
    let mut monitor = monitor(Workers::for_seconds(350));
    let (mut told, mut alone) = (Vec::new(), Vec::new());
    while let Some(tick) = monitor.step().await.unwrap() {
        told.extend(tick.group_transitions);
        alone.extend(tick.transitions.into_iter().filter(|transition| transition.to == State::Leaking));
    }
    assert_eq!(alone, [], "no worker is told in six minutes");
    assert!(told.iter().any(|transition| transition.confirmed), "{told:?}");
    let groups = monitor.groups_by_concern();
    let [group] = groups[..] else { panic!("one service: {groups:?}") };
    assert!(group.verdict.confirmed && group.number == told[0].number);
    assert_eq!(group.len(), WORKERS as usize);
    let rate = group.verdict.rate.expect("a rate").mean.0;
    assert!((rate / (RATE * f64::from(WORKERS)) - 1.0).abs() < 0.25, "{rate}");
}

#[tokio::test]
async fn a_service_whose_worker_is_told_alone_is_not_told_beside_it() {
    let mut monitor = monitor(Workers::for_seconds(350));
    while monitor.step().await.unwrap().is_some() {}
    assert_eq!(monitor.groups().count(), 1);
    monitor.processes.get_mut(&worker(3)).unwrap().say(State::Leaking);
    assert_eq!((monitor.groups().count(), monitor.services().count()), (0, 0));
    let number = monitor.groups.iter().next().unwrap().number;
    assert!(monitor.group(number).is_some(), "whatever its workers are told");
}

#[tokio::test]
async fn a_service_whose_workers_have_ended_is_told_once_more_when_it_is_forgotten() {
    let mut monitor = monitor(Workers { end_at: 20, ..Workers::for_seconds(400) });
    let mut forgotten = Vec::new();
    while let Some(tick) = monitor.step().await.unwrap() {
        forgotten.extend(tick.ended_groups.into_iter().map(|group| (tick.at, group)));
    }
    let [(at, group)] = &forgotten[..] else { panic!("{forgotten:?}") };
    assert_eq!((group.known(), group.is_empty()), (u64::from(WORKERS), true));
    assert_eq!(at.since(Moment(21_000_000_000)), Duration::from_secs(300), "five minutes after they ended");
    assert!(monitor.group(group.number).is_none());
}
