//! `leakscope watch` as programs and people read it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use leakscope_tests::command::{Ran, Workload, folder, leakscope, pause, require_root, run};
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

/// Processes that sleep, killed and reaped when dropped.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn start(count: usize) -> Self {
        let one = || Command::new("sleep").arg("300").stdin(Stdio::null()).spawn().expect("sleep starts");
        Self((0..count).map(|_| one()).collect())
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test measures how long a user waits")]
fn now() -> Instant {
    Instant::now()
}

/// The promise is a second, of a release build on an idle host. This is a debug build beside a compiler.
#[test]
fn on_a_host_of_300_processes_the_first_table_comes_at_once_and_little_memory_is_held() {
    require_root();
    let sleepers = Sleepers::start(300);
    let began = now();
    let mut child = leakscope()
        .args(["watch", "--json", "--source", "ebpf", "--duration", "8s"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    let waited = now().duration_since(began);
    let rest: Vec<String> = stdout.lines().map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success());
    println!("first line after {waited:?}");
    assert!(waited < Duration::from_secs(3), "the first line came after {waited:?}");
    let first: Value = serde_json::from_str(&first).unwrap();
    let shown = first["processes"].as_array().unwrap();
    assert!(sleepers.0.iter().all(|sleeper| shown.iter().any(|process| process["pid"] == sleeper.id())));
    let last: Value = serde_json::from_str(rest.last().unwrap()).unwrap();
    let rss = last["self"]["rss_bytes"].as_u64().unwrap();
    println!("{rss} bytes resident");
    assert!(rss < 20_000_000, "leakscope itself holds {rss} bytes");
}

#[test]
fn an_interval_is_kept_that_is_no_multiple_of_the_sampling_period() {
    let ran = run(&["watch", "--json", "--source", "procfs", "--interval", "300ms", "--duration", "6s"]);
    let count = ran.stdout.lines().count();
    // 21 of them; every 500 ms there would be 13.
    assert!((17..=22).contains(&count), "{count} lines in 6 s");
}

#[test]
fn what_is_lost_is_told_by_cause_and_adds_up() {
    for source in ["procfs", "ebpf"] {
        require_root();
        let ran = run(&["watch", "--json", "--source", source, "--duration", "1s"]);
        let line = &lines(&ran.stdout)[0];
        let causes = line["lost"].as_array().unwrap_or_else(|| panic!("{source}: no `lost` in {line:#}"));
        let sum: u64 = causes.iter().map(|lost| lost["count"].as_u64().unwrap()).sum();
        assert_eq!(line["lost_events"], sum, "{line:#}");
        let traced = &line["self"]["syscalls_traced_s"];
        assert_eq!(traced.is_null(), source == "procfs", "{line:#}");
        let kernel = &line["self"]["kernel"];
        assert_eq!(kernel.is_null(), source == "procfs", "{line:#}");
        if source == "ebpf" {
            let capacity = |map: &str| kernel[map]["capacity"].as_u64().unwrap_or_else(|| panic!("{line:#}"));
            assert!(capacity("processes") >= 1024 && capacity("suspects") == 256, "{line:#}");
            let stats = std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").unwrap_or_default();
            assert!(kernel["run_s"].is_null() || stats.trim() == "1", "{line:#}");
        }
    }
}

#[test]
fn with_vv_the_kernel_sides_messages_arrive_and_the_end_says_what_it_did() {
    require_root();
    let watch = std::thread::spawn(|| run(&["watch", "-vv", "--source", "ebpf", "--duration", "4s"]));
    pause(Duration::from_secs(2));
    assert!(Command::new("true").status().unwrap().success());
    let ran = watch.join().unwrap();
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("kernel: pid "), "{}", ran.stderr);
    assert!(ran.stderr.contains("found only by the walk over /proc"), "{}", ran.stderr);
    assert!(!ran.stdout.contains("kernel: pid "), "messages belong on standard error");
}

#[test]
fn a_terminal_of_20_columns_gets_lines_of_20() {
    let folder = folder();
    let transcript = folder.path().join("transcript");
    let binary = leakscope().get_program().to_string_lossy().into_owned();
    let command =
        format!("stty cols 20 rows 10; '{binary}' watch --color never --source procfs --duration 2s");
    let ran: Ran = Command::new("script")
        .args(["-q", "-e", "-c", &command])
        .arg(&transcript)
        .stdin(Stdio::null())
        .output()
        .expect("script (util-linux) runs")
        .into();
    ran.assert_no_panic();
    assert_eq!(ran.code(), 0, "{}{}", ran.stdout, ran.stderr);
    let text = ran.stdout.replace("\u{1b}[H\u{1b}[2J", "");
    assert!(text.contains("PID"), "{text}");
    for line in text.lines().filter(|line| !line.contains("Script ")) {
        let width = line.trim_end_matches('\r').chars().count();
        assert!(width <= 20, "{width} columns: {line:?}");
    }
}

#[test]
fn ctrl_c_while_the_kernel_side_is_loaded_ends_a_watch_with_status_0() {
    require_root();
    for command in ["watch", "record"] {
        let folder = folder();
        let file = folder.path().join("a.leakscope").to_string_lossy().into_owned();
        let mut arguments = vec![command, "--source", "ebpf"];
        if command == "record" {
            arguments.extend(["-o", &file]);
        }
        let child =
            leakscope().args(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        // SIGINT is the second bit of the caught signals: from then on it is a request.
        let catches = || {
            let text = std::fs::read_to_string(&status).unwrap();
            let caught =
                text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
            u64::from_str_radix(&caught, 16).unwrap() & 2 != 0
        };
        // Loading takes some tens of milliseconds: a look at each hundred would come too late.
        let began = now();
        while !catches() {
            assert!(now().duration_since(began) < Duration::from_secs(60), "{command} never catches SIGINT");
            std::thread::yield_now();
        }
        let held = leakscope_tests::programs_held(leakscope::units::Pid(child.id())).unwrap();
        assert!(held.is_empty(), "{command} took the signals only when the kernel side was loaded");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let ran: Ran = child.wait_with_output().unwrap().into();
        assert_eq!(ran.code(), 0, "{command}: {}", ran.stderr);
    }
}
