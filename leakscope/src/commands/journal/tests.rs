//! A recording of a service says what was said of it live.

use std::time::Duration;

use super::*;
use crate::commands::analyze::Analyst;
use crate::leak::Thresholds;
use crate::monitor::testing::{OneParent, WORKERS, Workers};
use crate::monitor::{Config, GroupTransition};
use crate::process::Selector;
use crate::report::HostVerdict;
use crate::source::recording::{self, Terms};
use crate::ui::{Ui, Verbosity};

const CONFIRM: Duration = Duration::from_secs(60);

fn monitor<S: Source, D: Directory>(source: S, directory: D) -> Monitor<S, D> {
    let thresholds = Thresholds { confirm: CONFIRM };
    Monitor::new(source, directory, Config { thresholds, selector: Selector::default(), leave_out: None })
}

/// What was said of services at each step, and what the journal comes to.
async fn judged<S: Source, D: Directory>(mut monitor: Monitor<S, D>) -> (Vec<GroupTransition>, Closed) {
    let mut journal = Journal::new("FILE".to_owned());
    let mut said = Vec::new();
    while let Some(tick) = monitor.step().await.unwrap() {
        said.extend(tick.group_transitions.iter().cloned());
        journal.note(&mut monitor, tick);
    }
    (said, journal.finish(&mut monitor))
}

/// Records the workers while a monitor judges them: what it said, and the recording.
async fn recorded(workers: Workers, path: &std::path::Path) -> ((Vec<GroupTransition>, Closed), Vec<u8>) {
    let out = Box::new(recording::create(path).unwrap());
    let (source, directory, recorder) = recording::record(workers, OneParent, Terms::default(), out).unwrap();
    let live = judged(monitor(source, directory)).await;
    recorder.finish().unwrap();
    (live, std::fs::read(path).unwrap())
}

#[tokio::test]
async fn a_replay_tells_the_same_of_a_service_as_was_told_live_and_ends_as_a_leak() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("service.rec");
    let ((said, live), file) = recorded(Workers::for_seconds(350), &path).await;
    assert!(said.iter().any(|transition| transition.confirmed), "{said:?}");

    let (_, source, directory) = recording::replay(&*file).unwrap();
    let (again, replayed) = judged(monitor(source, directory)).await;
    assert_eq!(again, said);
    let json = |closed: &Closed| serde_json::to_value(&closed.services).unwrap();
    assert_eq!(json(&replayed), json(&live));

    let mut analyst = Analyst::new(CONFIRM);
    let mut ui = Ui::new(Verbosity::Quiet, Some(false));
    analyst.recording(&path, &mut ui).await.unwrap();
    let analysis = analyst.finish();
    assert_eq!(analysis.verdict, HostVerdict::Leak, "no process leaks, and the service does");
    assert!(!analysis.series.iter().any(SeriesReport::leaks));
    let [service] = &analysis.services[..] else { panic!("one service") };
    assert_eq!(service.service.processes, WORKERS as usize);
    assert_eq!(service.transitions.len(), said.len(), "every change is listed");
    assert!(service.transitions.last().is_some_and(|change| change.confirmed));
    let text = analysis.to_text();
    for told in [
        "40 workers of parent 500 (python3 cache_service.py) together leaking, confirmed",
        "leak: 0 of 40 series leak at the end, and 1 service whose workers leak together",
    ] {
        assert!(text.contains(told), "{text}");
    }
}

#[tokio::test]
async fn a_service_that_leaked_and_whose_workers_have_all_ended_is_listed_and_leaks_no_longer() {
    for seconds in [340, 640] {
        // At 640 s it has been forgotten; it is listed all the same.
        let workers = Workers { end_at: 300, ..Workers::for_seconds(seconds) };
        let (_, closed) = judged(monitor(workers, OneParent)).await;
        let [service] = &closed.services[..] else { panic!("one service at {seconds} s") };
        assert!(service.ended && !service.leaks());
        assert!(service.transitions.iter().any(|change| change.confirmed));
    }
}

#[tokio::test]
async fn a_service_that_never_leaked_is_not_listed() {
    let (_, closed) = judged(monitor(Workers::for_seconds(6), OneParent)).await;
    assert_eq!(closed.series.len(), WORKERS as usize);
    assert!(closed.services.is_empty(), "{:?}", closed.services);
}
