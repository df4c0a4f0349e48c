//! The lab: the whole job on the walkthrough's two processes.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use leakscope_tests::command::{Ran, leakscope, pause, require_root, run, suspect};

#[test]
fn the_demo_finds_kills_and_proves_and_leaves_only_the_report() {
    require_root();
    let ran = run(&["demo", "--json"]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let json = ran.json();
    let action = &json["actions"][0];
    assert_eq!(action["outcome"], "killed", "{json:#}");
    let pid = u32::try_from(action["pid"].as_u64().unwrap()).unwrap();
    let leaker = suspect(&json, pid).unwrap_or_else(|| panic!("{json:#}"));
    assert_eq!(leaker["cmdline"][1], "cache_service.py", "{leaker:#}");
    let measured = |name: &str| leaker[name].as_f64().unwrap_or_else(|| panic!("no {name}: {leaker:#}"));
    let rate = measured("rate_bytes_per_s");
    assert!((rate / 51_200.0 - 1.0).abs() <= 0.1, "rate {rate}");
    assert!(measured("suspected_after_s") <= 10.0, "{leaker:#}");
    assert!(measured("confirmed_after_s") <= 25.0, "{leaker:#}");
    assert_cadence(&leaker["cadence"]);
    assert!(leaker["kernel"]["explained"].as_f64().unwrap() >= 0.8, "{leaker:#}");
    // `lab: legit_app.py (pid 4243, …) sleeps`
    let legit = ran.stderr.split("legit_app.py (pid ").nth(1).and_then(|rest| rest.split(',').next());
    let legit: u32 = legit.and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("{}", ran.stderr));
    let bystanders = action["bystanders"].as_array().unwrap();
    let app = bystanders.iter().find(|bystander| bystander["pid"] == legit);
    let app = app.unwrap_or_else(|| panic!("the legitimate app is no bystander: {action:#}"));
    assert_eq!((app["alive"].as_bool(), app["same_process"].as_bool()), (Some(true), Some(true)));
    let report = json["report"].as_str().unwrap();
    let text = std::fs::read_to_string(report).unwrap();
    assert!(text.contains("cache_service.py"), "{text}");
    assert!(text.contains("SIGTERM was sent to"), "{text}");
    assert!(text.contains("OOM killer would have chosen"), "{text}");
    for shown in
        ["The fitted trend over", "when the signal was sent at", "legit_app.py), which looks like it, held"]
    {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(shown), "no '{shown}' in {text}");
    }
    let folder = std::path::Path::new(report).parent().unwrap();
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["incident-report.txt"]);
    std::fs::remove_dir_all(folder).unwrap();
}

/// Where the page faults carry a rhythm it is the program's own: 10 KB and the header of a string, each 0.2 s.
fn assert_cadence(cadence: &Value) {
    if cadence.is_null() {
        return;
    }
    let period = cadence["period_s"].as_f64().expect("a rhythm has a period");
    assert!((period / 0.2 - 1.0).abs() <= 0.05, "{cadence:#}");
    if let Some(bytes) = cadence["bytes"].as_u64() {
        assert!((10_240..=10_400).contains(&bytes), "{cadence:#}");
    }
}

#[test]
fn ctrl_c_in_the_demo_leaves_no_process_behind() {
    require_root();
    let folder = leakscope_tests::command::folder();
    let child = leakscope()
        .arg("demo")
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    pause(Duration::from_secs(5));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    ran.assert_no_panic();
    assert_eq!(ran.code(), 2, "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the lab's folder was left");
    let started_in = folder.path().to_string_lossy().into_owned();
    let left: Vec<_> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path().join("cwd")).ok())
        .filter(|cwd| cwd.to_string_lossy().starts_with(&started_in))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn without_python_the_demo_says_what_to_install() {
    let ran: Ran = leakscope().arg("demo").env("PATH", "/nonexistent").output().unwrap().into();
    ran.assert_no_panic();
    assert_eq!(ran.code(), 2, "{}", ran.stderr);
    for name in ["python3", "fix:", "install"] {
        assert!(ran.stderr.contains(name), "no '{name}' in {}", ran.stderr);
    }
}
