//! What is done besides a kill: the evidence that is kept, freezing and its undoing, protections from a file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use leakscope_tests::bystander::Group;
use leakscope_tests::command::{Ran, Workload, file, folder, leakscope, pause, require_root, run, suspect};

const LEAK: &str =
    "import time\nkept = {}\nwhile True:\n    kept[len(kept)] = bytearray(10240)\n    time.sleep(0.2)\n";
const QUIET: &str = "import time\nprint('ready', flush=True)\nwhile True:\n    time.sleep(60)\n";

/// leakscope with a place of its own for what is to be undone.
fn run_in(runtime: &Path, args: &[&str]) -> Ran {
    let mut command = leakscope();
    let command = command.env("LEAKSCOPE_UNDO_DIR", runtime.join("undo")).args(args).stdin(Stdio::null());
    let ran: Ran = command.output().expect("leakscope starts").into();
    ran.assert_no_panic();
    ran
}

/// The arguments of a hunt for one process that confirms after ten seconds.
fn hunt_for<'a>(pid: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["hunt", "--json", "--no-report", "--confirm", "10s", "--pid", pid], more].concat()
}

fn state(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    status.lines().find_map(|line| line.strip_prefix("State:")).expect("a state").trim().to_owned()
}

#[test]
fn a_leaker_is_frozen_instead_of_killed_its_look_alike_is_not_and_undo_lets_it_go_on() {
    require_root();
    let mut leaker = Workload::python("service.py", LEAK);
    let mut twin = Workload::python("service.py", LEAK);
    let place = folder();
    let pid = leaker.pid_text();
    let ran = run_in(place.path(), &hunt_for(&pid, &["--action", "freeze", "--yes"]));
    assert_eq!(ran.code(), 1, "a frozen leak is still there\n{}", ran.stderr);
    let json = ran.json();
    let action = &json["actions"][0];
    assert_eq!((action["outcome"].as_str(), action["signal"].as_str()), (Some("frozen"), None), "{json:#}");
    assert!(action["checks"].as_array().unwrap().iter().all(|check| check["passed"] == true), "{json:#}");
    assert!(state(leaker.pid()).starts_with('T'), "it shares its cgroup with the tests, so SIGSTOP it is");
    assert!(!state(twin.pid()).starts_with('T'));

    let listed = run_in(place.path(), &["undo", "--list", "--json"]).json();
    assert_eq!(listed["restraints"][0]["pid"], leaker.pid(), "{listed:#}");
    assert!(state(leaker.pid()).starts_with('T'), "a list changes nothing");
    let undone = run_in(place.path(), &["undo", "--json", &pid]);
    assert_eq!(undone.code(), 0, "{}", undone.stderr);
    assert_eq!(undone.json()["restraints"][0]["undone"], true, "{}", undone.stdout);
    assert!(!state(leaker.pid()).starts_with('T'));
    assert!(leaker.lives() && twin.lives());
    let again = run_in(place.path(), &["undo", &pid]);
    assert_eq!(again.code(), 2);
    assert!(again.stderr.contains(&pid) && again.stderr.contains("fix: "), "{}", again.stderr);
}

#[test]
fn a_leaker_alone_in_its_cgroup_is_frozen_there_and_in_a_shared_one_its_neighbour_is_not() {
    require_root();
    let group = Group::unified();
    let mut leaker = Workload::python("service.py", LEAK);
    let mut neighbour = Workload::python("service.py", QUIET);
    neighbour.wait_for_line();
    group.take(leaker.pid());
    let place = folder();
    let pid = leaker.pid_text();
    let hunt = hunt_for(&pid, &["--action", "freeze", "--yes"]);
    let alone = run_in(place.path(), &hunt).json();
    assert_eq!(alone["actions"][0]["outcome"], "frozen", "{alone:#}");
    assert!(group.read("cgroup.events").contains("frozen 1"));
    assert!(!state(leaker.pid()).starts_with('T'), "no signal was needed");
    let undone = run_in(place.path(), &["undo", "--json"]);
    assert_eq!(undone.code(), 0, "{}{}", undone.stdout, undone.stderr);
    assert!(group.read("cgroup.events").contains("frozen 0"));

    group.take(neighbour.pid());
    let shared = run_in(place.path(), &hunt).json();
    assert_eq!(shared["actions"][0]["outcome"], "frozen", "{shared:#}");
    assert!(group.read("cgroup.events").contains("frozen 0"), "a shared cgroup is not touched");
    assert!(state(leaker.pid()).starts_with('T') && !state(neighbour.pid()).starts_with('T'));
    // Whoever froze it before is not undone later.
    let again = run_in(
        place.path(),
        &[
            "hunt",
            "--json",
            "--no-report",
            "--confirm",
            "5s",
            "--timeout",
            "8s",
            "--pid",
            &pid,
            "--action",
            "freeze",
            "--yes",
        ],
    );
    assert_ne!(again.json()["actions"][0]["outcome"], "frozen", "{}", again.stdout);
    assert_eq!(run_in(place.path(), &["undo"]).code(), 0);
    assert!(leaker.lives() && neighbour.lives() && !state(leaker.pid()).starts_with('T'));
}

#[test]
fn a_leaker_in_a_shared_cgroup_is_not_throttled() {
    require_root();
    let mut leaker = Workload::python("service.py", LEAK);
    let place = folder();
    let ran = run_in(place.path(), &hunt_for(&leaker.pid_text(), &["--action", "throttle", "--yes"]));
    assert_eq!(ran.code(), 1, "{}", ran.stderr);
    let json = ran.json();
    assert_eq!(json["actions"][0]["outcome"], "refused", "{json:#}");
    assert!(leaker.lives());
    assert!(!place.path().join("undo").exists(), "nothing was done, so there is nothing to undo");
}

#[test]
fn the_evidence_of_a_confirmed_leak_is_kept_for_its_owner_alone() {
    require_root();
    let leaker = Workload::python("service.py", LEAK);
    let place = folder();
    let kept = place.path().join("evidence");
    let ran = run(&hunt_for(&leaker.pid_text(), &["--kill", "--yes", "--evidence", kept.to_str().unwrap()]));
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let json = ran.json();
    let found = suspect(&json, leaker.pid()).expect("a suspect");
    let folder = Path::new(found["anatomy"]["evidence"].as_str().expect("kept"));
    assert_eq!(folder.parent(), Some(kept.as_path()));
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    let mappings = found["anatomy"]["mappings"].as_array().expect("read");
    let largest = mappings[0]["anon_bytes"].as_u64().unwrap();
    assert!(
        largest > 500_000 && mappings.iter().all(|m| m["anon_bytes"].as_u64().unwrap() <= largest),
        "{found:#}"
    );
    assert!(found["anatomy"]["open_files"].as_u64() >= Some(3), "{found:#}");
    let status = fs::read_to_string(folder.join("status.txt")).unwrap();
    assert!(status.contains(&format!("Pid:\t{}\n", leaker.pid())), "{status}");
    // The growth can be judged again by anybody.
    let series = folder.join("series.csv");
    let judged = run(&["analyze", "--json", "--confirm", "10s", series.to_str().unwrap()]);
    assert_eq!(judged.code(), 1, "{}", judged.stderr);
    assert_eq!(judged.json()["series"][0]["verdict"], "leaking");
}

#[test]
fn a_configuration_file_protects_and_rules_shows_whom() {
    let mut precious = Workload::python("precious.py", QUIET);
    precious.wait_for_line();
    let place = folder();
    let text = "[[protect]]\nname = \"precious\"\nreason = \"fail over first\"\ncmd = 'precious\\.py$'\n";
    let config = file(place.path(), "config.toml", text);
    let pid = precious.pid_text();
    let ran = run(&["kill", "--json", "--config", &config, &pid]);
    assert_eq!(ran.code(), 1, "{}", ran.stderr);
    let json = ran.json();
    assert_eq!(json["outcome"], "refused");
    assert!(json["detail"].as_str().unwrap().contains("fail over first"), "{json:#}");
    let rules = run(&["rules", "--json", "--config", &config]).json();
    let caught = rules["processes"].as_array().unwrap();
    let caught = caught.iter().find(|process| process["pid"] == precious.pid()).expect("caught");
    assert_eq!(caught["rules"][0]["check"], "config", "{caught:#}");
    let mistaken = file(place.path(), "mistaken.toml", "[[protect]]\ncmdline = 'x'\n");
    let ran = run(&["kill", "--config", &mistaken, &pid]);
    assert_eq!(ran.code(), 2);
    assert!(ran.stderr.contains("mistaken.toml") && ran.stderr.contains("line 2"), "{}", ran.stderr);
    assert!(precious.lives());
}

/// A leaker that ends with its parent.
const KEPT: &str = "import os, time\nparent, kept = os.getppid(), {}\nwhile os.getppid() == parent:\n    kept[len(kept)] = bytearray(10240)\n    time.sleep(0.2)\n";
/// Starts the leaker again half a second after its end, as a supervisor does.
const KEEPER: &str = "import subprocess, sys, time\nwhile True:\n    child = subprocess.Popen([sys.executable, '-u', 'kept_leaker.py'])\n    print(child.pid, flush=True)\n    child.wait()\n    time.sleep(0.5)\n";

#[test]
fn whoever_is_started_in_the_victims_place_is_watched_and_told_when_it_leaks_again() {
    require_root();
    let mut keeper = Workload::python("keeper.py", KEEPER);
    fs::write(keeper.folder().join("kept_leaker.py"), KEPT).unwrap();
    // The keeper's first child may have found no file; the next one does.
    let pid = loop {
        let pid = keeper.wait_for_line();
        pause(Duration::from_millis(300));
        if Path::new(&format!("/proc/{pid}/task")).exists() {
            break pid;
        }
    };
    let ran = run(&hunt_for(&pid, &["--kill", "--yes", "--follow", "15s"]));
    let json = ran.json();
    let action = &json["actions"][0];
    assert_eq!(action["outcome"], "killed", "{json:#}");
    let newcomer = action["respawned_as"].as_u64().unwrap_or_else(|| panic!("{json:#}"));
    assert_eq!(newcomer.to_string(), keeper.wait_for_line(), "{json:#}");
    let followed = &action["followed"];
    assert_eq!(followed["alive"], true, "{json:#}");
    assert!(["suspect", "leaking"].contains(&followed["verdict"].as_str().unwrap()), "{json:#}");
    let rate = followed["rate_bytes_per_s"].as_f64().expect("it grows");
    assert!((rate / 51_200.0 - 1.0).abs() < 0.2, "{rate}");
}

#[test]
fn a_kill_that_asks_for_a_verdict_ends_a_leaker_and_refuses_a_quiet_process_unless_forced() {
    require_root();
    let mut leaker = Workload::python("service.py", LEAK);
    let mut quiet = Workload::python("quiet.py", QUIET);
    quiet.wait_for_line();
    let verdict = |ran: &Ran| {
        let json = ran.json();
        let check =
            json["checks"].as_array().unwrap().iter().find(|check| check["check"] == "verdict").cloned();
        check.unwrap_or_else(|| panic!("{json:#}"))
    };
    let ran = run(&["kill", "--json", "--confirm", "5s", &quiet.pid_text()]);
    assert_eq!((ran.code(), ran.json()["outcome"].as_str()), (1, Some("refused")), "{}", ran.stderr);
    assert_eq!(verdict(&ran)["passed"], false);
    assert!(quiet.lives());
    let ran = run(&["kill", "--json", "--confirm", "10s", &leaker.pid_text()]);
    assert_eq!((ran.code(), ran.json()["outcome"].as_str()), (0, Some("killed")), "{}", ran.stderr);
    assert!(verdict(&ran)["detail"].as_str().unwrap().starts_with("it leaks at "), "{}", ran.stdout);
    assert!(!leaker.lives());
    let ran = run(&["kill", "--json", "--confirm", "5s", "--force", &quiet.pid_text()]);
    assert_eq!((ran.code(), ran.json()["outcome"].as_str()), (0, Some("killed")), "{}", ran.stderr);
    assert!(verdict(&ran)["detail"].as_str().unwrap().ends_with("(--force)"), "{}", ran.stdout);
    assert!(!quiet.lives());
}
