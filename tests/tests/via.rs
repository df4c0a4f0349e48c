//! `--via systemd`, with a stand-in for systemctl that notes what it is asked: the hosts of these tests need not run systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use leakscope_tests::cgroup::SmallGroup;
use leakscope_tests::command::{Ran, Workload, folder, leakscope, require_root};

const QUIET: &str = "import time\nprint('ready', flush=True)\nwhile True:\n    time.sleep(60)\n";

/// A folder with a systemctl that says that `main` is every unit's main process, and ends it when it is to stop one.
fn stand_in(main: u32) -> tempfile::TempDir {
    let place = folder();
    let (path, log) = (place.path().join("systemctl"), place.path().join("log"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> '{}'\ncase \"$1\" in\nshow) echo {main} ;;\n--no-block) kill -TERM {main} ;;\nesac\n",
        log.display()
    );
    fs::write(&path, script).expect("the script is written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it may be run");
    place
}

fn kill_via(place: &Path, args: &[&str]) -> Ran {
    let path = format!("{}:{}", place.display(), std::env::var("PATH").expect("a PATH"));
    let mut command = leakscope();
    let command = command.env("PATH", path).args(["kill", "--json"]).args(args).stdin(Stdio::null());
    let ran: Ran = command.output().expect("leakscope starts").into();
    ran.assert_no_panic();
    ran
}

fn asked(place: &Path) -> String {
    fs::read_to_string(place.join("log")).unwrap_or_default()
}

/// A process in a cgroup that is named like a unit; the process goes first when both are let go of.
fn service(name: &str) -> (SmallGroup, Workload) {
    let mut workload = Workload::python(name, QUIET);
    workload.wait_for_line();
    let group = SmallGroup::new("cache.service", 512 << 20).expect("a cgroup");
    fs::write(group.procs(), workload.pid_text()).expect("it is moved there");
    (group, workload)
}

#[test]
fn the_main_process_of_a_unit_is_ended_by_systemd_and_its_death_is_proved_all_the_same() {
    require_root();
    let (group, mut victim) = service("service.py");
    let mut twin = Workload::python("service.py", QUIET);
    twin.wait_for_line();
    let place = stand_in(victim.pid());
    let unit = group.path().trim_start_matches('/').to_owned();

    let dry = kill_via(place.path(), &["--via", "systemd", "--dry-run", &victim.pid_text()]);
    assert_eq!(dry.json()["outcome"], "dry-run", "{}", dry.stdout);
    assert!(victim.lives() && !asked(place.path()).contains("stop"), "{}", asked(place.path()));

    let ran = kill_via(place.path(), &["--via", "systemd", &victim.pid_text()]);
    assert_eq!(ran.code(), 0, "{}{}", ran.stdout, ran.stderr);
    let json = ran.json();
    assert_eq!(json["outcome"], "killed", "{json:#}");
    assert_eq!(json["via"], format!("systemctl stop {unit}"));
    assert!(json["signal"].is_null() && json["escalated"] == false, "no signal was ours: {json:#}");
    assert!(asked(place.path()).contains(&format!("--no-block --no-ask-password stop -- {unit}")));
    assert!(!victim.lives() && twin.lives());
    let checks = json["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["check"] == "death" && check["passed"] == true), "{json:#}");
}

#[test]
fn a_helper_is_not_ended_by_stopping_the_unit_of_another() {
    require_root();
    let (_group, mut helper) = service("helper.py");
    let mut main = Workload::python("main.py", QUIET);
    main.wait_for_line();
    let place = stand_in(main.pid());
    let ran = kill_via(place.path(), &["--via", "systemd", &helper.pid_text()]);
    assert_eq!(ran.code(), 1, "{}{}", ran.stdout, ran.stderr);
    let json = ran.json();
    assert_eq!(json["outcome"], "refused", "{json:#}");
    assert!(json["detail"].as_str().unwrap().contains(&main.pid_text()), "{json:#}");
    assert!(helper.lives() && main.lives());
}

#[test]
fn a_unit_that_holds_somebody_protected_is_not_stopped() {
    require_root();
    let (group, mut main) = service("main.py");
    let mut precious = Workload::python("precious.py", QUIET);
    precious.wait_for_line();
    fs::write(group.procs(), precious.pid_text()).expect("it is moved there");
    let place = stand_in(main.pid());
    let protect = ["--via", "systemd", "--protect", r"precious\.py$", &main.pid_text()];
    let ran = kill_via(place.path(), &protect);
    assert_eq!(ran.code(), 1, "{}{}", ran.stdout, ran.stderr);
    let json = ran.json();
    assert_eq!(json["outcome"], "refused", "{json:#}");
    assert!(json["detail"].as_str().unwrap().contains(&precious.pid_text()), "{json:#}");
    assert!(main.lives() && precious.lives() && !asked(place.path()).contains("stop"));
}

#[test]
fn without_a_unit_there_is_no_systemd_to_ask_and_by_signal_the_owners_way_is_named() {
    require_root();
    let mut alone = Workload::python("alone.py", QUIET);
    alone.wait_for_line();
    let place = stand_in(alone.pid());
    let ran = kill_via(place.path(), &["--via", "systemd", &alone.pid_text()]);
    assert_eq!((ran.code(), ran.json()["outcome"].as_str()), (1, Some("refused")), "{}", ran.stdout);
    assert!(alone.lives() && asked(place.path()).is_empty());

    let (group, mut owned) = service("owned.py");
    let ran = kill_via(place.path(), &[&owned.pid_text()]);
    assert_eq!(ran.code(), 0, "{}{}", ran.stdout, ran.stderr);
    let json = ran.json();
    let owner = json["checks"].as_array().unwrap().iter().find(|check| check["check"] == "owner");
    let way = owner.unwrap_or_else(|| panic!("{json:#}"))["detail"].as_str().unwrap();
    assert!(way.contains(&format!("systemctl stop {}", group.path().trim_start_matches('/'))), "{way}");
    assert!(!owned.lives() && asked(place.path()).is_empty(), "it was named, not asked");
}
