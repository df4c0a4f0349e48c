//! `leakscope watch` as programs and people read it.

use leakscope_tests::command::{Workload, require_root, run};
use serde_json::Value;

const QUIET: &str = "import time\nprint('ready', flush=True)\nwhile True:\n    time.sleep(60)\n";
const LEAK: &str = "import time\nkept = []\nprint('ready', flush=True)\nwhile True:\n    kept.append('x' * 200000)\n    time.sleep(0.1)\n";

fn lines(stdout: &str) -> Vec<Value> {
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn the_first_line_knows_the_processes_that_were_there_before() {
    require_root();
    let mut quiet = Workload::python("quiet.py", QUIET);
    quiet.wait_for_line();
    for source in ["ebpf", "procfs"] {
        let ran = run(&["watch", "--json", "--duration", "1s", "--source", source]);
        let lines = lines(&ran.stdout);
        let first = &lines[0];
        assert_eq!(first["schema"], "leakscope.watch/1");
        let process = first["processes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|process| process["pid"] == quiet.pid())
            .unwrap_or_else(|| panic!("{source}: not in the first line"));
        assert!(process["rss_bytes"].as_u64().unwrap() > 1_000_000, "{process:#}");
        assert_eq!(process["cmdline"][1], "quiet.py", "{process:#}");
        assert!(first["self"]["rss_bytes"].as_u64().unwrap() > 0);
    }
}

#[test]
fn the_fastest_growing_process_comes_first_with_its_faults() {
    require_root();
    let mut leak = Workload::python("leak.py", LEAK);
    leak.wait_for_line();
    let mut quiet = Workload::python("quiet.py", QUIET);
    quiet.wait_for_line();
    let (leaker, other) = (leak.pid_text(), quiet.pid_text());
    let ran =
        run(&["watch", "--json", "--duration", "10s", "--source", "ebpf", "--pid", &leaker, "--pid", &other]);
    let lines = lines(&ran.stdout);
    let last = lines.last().unwrap();
    let first = &last["processes"][0];
    assert_eq!(first["pid"], leak.pid(), "{last:#}");
    assert!(first["rate_bytes_per_s"].as_f64().unwrap() > 1_000_000.0, "{last:#}");
    assert!(first["page_faults_per_s"].as_f64().unwrap() > 100.0, "{last:#}");
    assert_eq!(last["processes"].as_array().unwrap().len(), 2, "{last:#}");
}

#[test]
fn a_table_fits_the_lines_it_is_given() {
    let ran = run(&["watch", "--source", "procfs", "--duration", "1s", "--limit", "3"]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("PID") && ran.stdout.contains("VERDICT"), "{}", ran.stdout);
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{}", ran.stdout);
}
