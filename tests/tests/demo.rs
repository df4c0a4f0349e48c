//! The lab: the whole job on the walkthrough's two processes.

use std::process::Stdio;
use std::time::Duration;

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
    let rate = leaker["rate_bytes_per_s"].as_f64().unwrap();
    assert!((46_000.0..=56_400.0).contains(&rate), "rate {rate}");
    assert!(leaker["kernel"]["explained"].as_f64().unwrap() >= 0.8, "{leaker:#}");
    let report = json["report"].as_str().unwrap();
    let text = std::fs::read_to_string(report).unwrap();
    assert!(text.contains("cache_service.py"), "{text}");
    let folder = std::path::Path::new(report).parent().unwrap();
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["incident-report.txt"]);
    std::fs::remove_dir_all(folder).unwrap();
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
