use serde_json::Value;

use super::fixtures::*;
use crate::leak::{Demand, Limit, Memory, Rate, Room, State, Verdict, time_to_oom};
use crate::process::{Identity, Owner};
use crate::report::*;
use crate::source::{Flow, KernelCounts, SyscallCounts};
use crate::units::{Bytes, BytesPerSec};

#[test]
fn the_hunt_as_json() {
    insta::assert_snapshot!(lab().hunt.to_json().unwrap());
}

#[test]
fn the_ranking_as_json() {
    let mut watch = watch();
    watch.processes[1].cmdline.truncate(2);
    insta::assert_snapshot!(watch.to_json_line().unwrap());
}

#[test]
fn a_service_in_the_ranking_has_the_fields_that_a_hunt_gives_it() {
    let watch = WatchLine { services: vec![service()], ..watch() };
    let json: Value = serde_json::from_str(&watch.to_json_line().unwrap()).unwrap();
    let mut hunt = lab().hunt;
    hunt.services = vec![service()];
    let hunt: Value = serde_json::from_str(&hunt.to_json().unwrap()).unwrap();
    assert_eq!(json["services"], hunt["services"]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&json["services"]).unwrap());
}

#[test]
fn a_service_of_a_recording_has_them_as_well_and_its_changes() {
    let report = ServiceReport {
        file: "host.rec".to_owned(),
        service: service(),
        ended: false,
        transitions: vec![TransitionLine {
            at_s: 72.25,
            at: Some(at(72_250)),
            verdict: State::Leaking,
            confirmed: true,
            rate: service().rate,
            oom_eta: None,
        }],
        transitions_left_out: 0,
    };
    assert!(report.leaks());
    let analysis = Analysis {
        verdict: HostVerdict::Leak,
        series: Vec::new(),
        services: vec![report],
        ignored: 0,
        left_out: 0,
    };
    let json: Value = serde_json::from_str(&analysis.to_json().unwrap()).unwrap();
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let told = fields(&json["services"][0]);
    assert!(fields(&serde_json::to_value(service()).unwrap()).iter().all(|field| told.contains(field)));
    insta::assert_snapshot!(analysis.to_json().unwrap() + &analysis.to_text());
}

#[test]
fn what_was_not_measured_is_null_and_present() {
    let identity = Identity {
        key: LEAKER,
        comm: "daemon".to_owned(),
        cmdline: Vec::new(),
        exe: None,
        user: None,
        owner: Owner::default(),
        ..crate::process::testing::identity(LEAKER.pid.0)
    };
    let verdict = Verdict {
        state: State::Steady,
        confirmed: false,
        clean_growth: std::time::Duration::ZERO,
        rate: None,
        evidence: crate::leak::Evidence::default(),
    };
    let mut hunt = lab().hunt;
    hunt.host.pressure = None;
    hunt.suspects = vec![Suspect::new(&identity, &verdict, &Memory::default())];
    let json: Value = serde_json::from_str(&hunt.to_json().unwrap()).unwrap();
    let suspect = json["suspects"][0].as_object().unwrap();
    for name in [
        "exe",
        "confidence",
        "rate_bytes_per_s",
        "rate_low_bytes_per_s",
        "rate_high_bytes_per_s",
        "suspected_after_s",
        "confirmed_after_s",
        "oom",
        "pressure",
        "kernel",
        "cadence",
        "where",
    ] {
        assert_eq!(suspect.get(name), Some(&Value::Null), "{name}");
    }
    assert_eq!(json["host"].get("pressure"), Some(&Value::Null));
    assert_eq!(suspect["rss_bytes"], 0, "measured, and nothing");
    assert_eq!(suspect["owner"]["unit"], Value::Null);
}

#[test]
fn syscalls_that_were_not_counted_are_null_and_faults_are_summed() {
    let counts = KernelCounts { first_touch_faults: 3, protection_faults: 4, ..KernelCounts::default() };
    let kernel = serde_json::to_value(Kernel::new(&counts)).unwrap();
    assert_eq!(kernel["page_faults"], 7);
    assert_eq!(kernel["brk_bytes"], Value::Null);
    let brk = Flow { grown: Bytes(9), shrunk: Bytes(1) };
    let counted =
        KernelCounts { syscalls: Some(SyscallCounts { brk, ..SyscallCounts::default() }), ..counts };
    assert_eq!(serde_json::to_value(Kernel::new(&counted)).unwrap()["brk_bytes"], 9);
}

#[test]
fn a_limit_that_may_never_be_reached_has_no_latest_time() {
    let room = Room { limit: Limit::Cgroup("/a".to_owned()), size: Bytes(300), left: Bytes(100) };
    let rate = Rate { mean: BytesPerSec(1.0), low: BytesPerSec(-1.0), high: BytesPerSec(2.0) };
    let json = serde_json::to_value(Oom::from(&time_to_oom(room, &Demand::of(&rate)).unwrap())).unwrap();
    assert_eq!(json["limit"], "/a");
    assert_eq!(json["eta_s"], 100.0);
    assert_eq!(json["eta_low_s"], 50.0);
    assert_eq!(json["eta_high_s"], Value::Null);
    assert_eq!(json["runaway"], true);
}
