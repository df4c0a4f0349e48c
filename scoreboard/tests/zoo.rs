//! The recording of real programs that is kept in this repository, judged again by today's detector.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::LazyLock;

use leakscope::leak::Thresholds;
use leakscope::monitor::{Config, Monitor};
use leakscope::process::Selector;
use leakscope::source::recording::replay;
use leakscope_scoreboard::zoo::{Level, Scores, score};

/// Healthy processes that are confirmed as leaks all the same, in the order in which they were started. A JVM's old
/// generation that fills in even steps for a quarter of an hour, and a reader of a shared buffer while another process of
/// the host leaks shared memory at the same rate. Whoever mends one of them takes it out here.
const STILL_ACCUSED: &[&str] = &["shm-reader (child 23534)", "java-serial"];
/// Leaks that are not confirmed in the time there is.
const STILL_MISSED: &[&str] = &[];

/// Judged once for all tests.
static SCORES: LazyLock<Scores> =
    LazyLock::new(|| score(&recording()).expect("the recording and its truth are in tests/recordings"));

fn recording() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/recordings/zoo.leakscope")
}

#[test]
fn nobody_else_of_the_healthy_programs_is_confirmed_as_a_leak() {
    let scores = &*SCORES;
    assert_eq!(scores.false_alarms(Level::Confirmed5m), STILL_ACCUSED);
    assert!(scores.healthy_minutes() >= 600.0, "{} minutes are too few", scores.healthy_minutes());
}

#[test]
fn the_leaks_of_real_programs_are_confirmed_near_their_rates() {
    let scores = &*SCORES;
    assert_eq!(scores.misses(Level::Confirmed5m), STILL_MISSED);
    assert_eq!(scores.counts(Level::Leaking).found, 19);
}

#[tokio::test]
async fn the_recording_that_is_kept_tells_nothing_of_the_machine() {
    let (start, source, directory) = replay(BufReader::new(File::open(recording()).unwrap())).unwrap();
    assert!(start.redacted);
    assert_eq!(start.hostname, "zoo");
    let config = Config { thresholds: Thresholds::default(), selector: Selector::default(), leave_out: None };
    let mut monitor = Monitor::new(source, directory, config);
    let mut seen = BTreeSet::new();
    while monitor.step().await.unwrap().is_some() {
        let new: Vec<_> = monitor.processes().map(|(key, _)| key).filter(|key| !seen.contains(key)).collect();
        for key in new {
            let Some(identity) = monitor.identity(key) else { continue };
            seen.insert(key);
            // The program's name, and a mark where its arguments were.
            assert!(identity.cmdline.len() <= 2, "{:?}", identity.cmdline);
            assert!(identity.cmdline.iter().all(|word| !word.contains('/')), "{:?}", identity.cmdline);
            let cgroup = identity.owner.cgroup.as_deref();
            assert!(cgroup.is_none_or(|cgroup| cgroup == "/"), "{cgroup:?}");
            let exe = identity.exe.as_ref().map(|exe| exe.path.to_string_lossy()).unwrap_or_default();
            let harmless =
                exe.is_empty() || exe.starts_with("/usr/") || exe.starts_with("/tmp/leakscope-zoo-");
            assert!(harmless, "{exe}");
        }
    }
    assert!(seen.len() > 100, "only {} identities were there to look at", seen.len());
}
