//! `record`, `replay` and `analyze` on real processes, and on what they left behind.

use std::process::Stdio;
use std::time::Duration;

use leakscope::leak::Thresholds;
use leakscope::source::Wanted;
use leakscope::units::Pid;
use leakscope_tests::command::{Ran, Workload, file, folder, leakscope, pause, require_root, run};
use leakscope_tests::judged::{Told, recorded, replayed, said};

const LEAK: &str = "import time\nkept = []\nwhile True:\n    kept.append('x' * 10240)\n    time.sleep(0.2)\n";
const QUIET: &str = "import time\nwhile True:\n    time.sleep(60)\n";
/// In every test: long enough for a verdict, short enough for a test.
const CONFIRM: Thresholds = Thresholds { confirm: Duration::from_secs(10) };

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn a_replay_says_what_was_said_live(wanted: Wanted, every: Duration) {
    let leaker = Workload::python("service.py", LEAK);
    let quiet = Workload::python("service.py", QUIET);
    let folder = folder();
    let path = folder.path().join("host.rec");
    let (live, file, again, batches) = block_on(async {
        let span = Duration::from_secs(22);
        let (live, written) = recorded(&path, wanted, every, CONFIRM, span).await.expect("a recording");
        assert!(written.batches >= 20, "{written:?}");
        let file = std::fs::read(&path).expect("the recording");
        let (again, batches) = replayed(&*file, CONFIRM).await.expect("it is whole");
        (live, file, again, batches)
    });
    let changes = |told: &Told, pid: u32| {
        let of = told.iter().filter(|((found, _), _)| *found == Some(Pid(pid)));
        of.flat_map(|(_, series)| series).flat_map(|series| series.transitions.clone()).collect::<Vec<_>>()
    };
    let leaks = changes(&live, leaker.pid());
    assert!(leaks.iter().any(|change| change.confirmed), "{leaks:#?}");
    assert!(!changes(&live, quiet.pid()).iter().any(|change| change.verdict.severity() > 0));
    assert_eq!(said(&live), said(&again), "the recording is judged as the live host was");
    // Whatever the last kilobyte loses, the rest is judged.
    let mut most = 0;
    for cut in file.len().saturating_sub(1024)..file.len() {
        let (part, seen) = block_on(replayed(&file[..cut], CONFIRM)).expect("what is whole is read");
        assert!(seen >= most && seen <= batches, "cut at {cut}: {seen} batches after {most}");
        most = seen;
        // On a quiet host the last kilobyte can hold most of the file, the leaker's first sample among it.
        let part = changes(&part, leaker.pid());
        assert_eq!(part[..], leaks[..part.len()], "cut at {cut}");
    }
    // A block is ten seconds, and of 22 seconds the first two are whole.
    assert!(most + 1 > batches / 2, "{most} of {batches} batches");
}

#[test]
fn a_replay_says_at_the_same_samples_what_was_said_live_with_the_kernel_side() {
    require_root();
    a_replay_says_what_was_said_live(Wanted::Ebpf, Duration::from_millis(250));
}

#[test]
fn a_replay_says_at_the_same_samples_what_was_said_live_by_proc_alone() {
    a_replay_says_what_was_said_live(Wanted::Procfs, Duration::from_secs(1));
}

#[test]
fn a_recording_that_is_interrupted_is_whole_and_refuses_to_be_written_over() {
    let mut leaker = Workload::python("service.py", LEAK);
    let folder = folder();
    let path = folder.path().join("a.rec").to_string_lossy().into_owned();
    let pid = leaker.pid_text();
    let child = leakscope()
        .args(["record", "-o", &path, "--redact", "--source", "procfs", "--pid", &pid])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    pause(Duration::from_secs(16));
    let recorder = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(recorder, rustix::process::Signal::INT).unwrap();
    let ended: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);

    let ran = run(&["replay", &path, "--json", "--confirm", "10s"]);
    assert_eq!(ran.code(), 1, "{}\n{}", ran.stdout, ran.stderr);
    let json = ran.json();
    assert_eq!((&json["schema"], &json["verdict"]), (&"leakscope.analyze/1".into(), &"leak".into()));
    // More than one where the recording began before the interpreter's own exec.
    let series = json["series"].as_array().unwrap();
    assert!(series.iter().all(|series| series["pid"] == leaker.pid()), "only what was selected: {json:#}");
    let found = series.iter().find(|series| series["confirmed"] == true).unwrap();
    assert_eq!(found["cmdline"][1], "…", "{json:#}");
    assert!(leaker.lives(), "a replay signals nobody");

    let again = run(&["record", "-o", &path, "--duration", "1s"]);
    assert_eq!(again.code(), 2);
    assert!(again.stderr.contains("is not empty") && again.stderr.contains("fix:"), "{}", again.stderr);
    assert_eq!(run(&["replay", &path, "--confirm", "10s"]).code(), 1, "it is as it was");
}

#[test]
fn bad_files_are_errors_that_name_the_file_and_good_ones_beside_them_are_judged() {
    let folder = folder();
    let mut csv = "at_s,pid,comm,anon_bytes\n".to_owned();
    for second in 0..400 {
        csv.push_str(&format!(
            "{second},7,cache,{}\n{second},8,idle,5000000\n",
            10_000_000 + second * 51_200
        ));
    }
    csv.push_str("400,7,cache,NaN\n");
    let good = file(folder.path(), "good.csv", &csv);
    let ran = run(&["analyze", "--json", &good]);
    assert_eq!(ran.code(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("good.csv: line 802: anon_bytes: `NaN`"), "{}", ran.stderr);
    let json = ran.json();
    assert_eq!(json["series"][0]["confirmed"], true, "{json:#}");
    assert_eq!(json["series"][1]["verdict"], "steady", "{json:#}");
    for (name, content) in [("empty", ""), ("foreign", "\u{1}\u{2}"), ("columns.csv", "a,b\n1,2\n")] {
        let bad = file(folder.path(), name, content);
        let ran = run(&["analyze", "--json", &bad, &good]);
        assert_eq!(ran.code(), 2, "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains(&bad) && ran.stderr.contains("fix:"), "{name}: {}", ran.stderr);
        assert_eq!(ran.json()["verdict"], "leak", "{name}");
        assert_eq!(run(&["replay", &bad]).code(), 2, "{name}");
    }
    assert_eq!(run(&["analyze", "/nowhere/at/all"]).code(), 2);
}
