//! The time to exhaustion on real cgroups: `hunt` names the limit that is reached first, and the time until then, which is
//! what the cgroup says of itself and when the kernel really ends a process there.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use leakscope_tests::cgroup::SmallGroup;
use leakscope_tests::command::{Ran, Workload, leakscope, pause, require_root, wait_until};
use serde_json::Value;

const MIB: u64 = 1 << 20;
/// How fast a leaker grows: 128 KiB, four times a second.
const RATE: f64 = 524_288.0;

/// A leaker in a cgroup, which holds `held` bytes from its start on. It keeps to the clock, however late it is woken.
fn leaker(group: &SmallGroup, held: u64) -> Workload {
    let procs = group.procs().display().to_string();
    let program = format!(
        "import os, time\n\
         with open({procs:?}, 'w') as procs:\n    procs.write(str(os.getpid()))\n\
         kept = [b'x' * {held}]\n\
         print('holds', flush=True)\n\
         due = time.monotonic()\n\
         while True:\n    kept.append(b'x' * 131072)\n    due += 0.25\n    time.sleep(max(0, due - time.monotonic()))\n"
    );
    let mut leaker = Workload::python("leaker.py", &program);
    assert_eq!(leaker.wait_for_line(), "holds", "it is in {}", group.path());
    leaker
}

/// What a cgroup used over time, bytes: the test's own reading.
type Used = Vec<(Timestamp, u64)>;

/// Reads what a cgroup uses while leakscope hunts among the leakers; what came of both.
fn hunt(group: &SmallGroup, leakers: &[Workload]) -> (Ran, Used) {
    let mut command = leakscope();
    command.args(["hunt", "--json", "--no-report", "--confirm", "10s", "--timeout", "90s"]);
    for leaker in leakers {
        command.args(["--pid", &leaker.pid_text()]);
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("leakscope starts");
    let mut used = Used::new();
    let done = AtomicBool::new(false);
    let ran: Ran = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                let bytes = group.used().expect("the cgroup can be read");
                let (_, at) = leakscope::source::now();
                used.push((at, bytes));
                pause(Duration::from_millis(50));
            }
        });
        let output = child.wait_with_output();
        done.store(true, Relaxed);
        output.expect("leakscope ends").into()
    });
    ran.assert_no_panic();
    (ran, used)
}

/// What was left under a limit may be told otherwise by so many bytes: up to four CPUs take charges in batches of 64 pages
/// ahead (`MEMCG_CHARGE_BATCH`), and the cgroup is read between two samples.
const BATCHES: f64 = 4.0 * 64.0 * 4096.0;

/// Fails unless what was left when the hunt ended is what the cgroup says, and the interval of the time until the limit holds
/// `real` seconds, where those are known; `rate` is that of all leakers together.
fn assert_oom(json: &Value, oom: &Value, limit: u64, used: &Used, rate: f64, real: Option<f64>) {
    let number = |name: &str| oom[name].as_f64().unwrap_or_else(|| panic!("no {name}: {oom:#}"));
    let (low, eta, high) = (number("eta_low_s"), number("eta_s"), number("eta_high_s"));
    let (_, then) = used.iter().rfind(|(at, _)| *at <= finished(json)).expect("a reading");
    let left = (limit - then) as f64;
    assert!((number("left_bytes") - left).abs() < BATCHES + rate, "the cgroup leaves {left}: {oom:#}");
    assert!((number("growth_bytes_per_s") / rate - 1.0).abs() < 0.05, "{oom:#}");
    assert!(low <= eta && eta <= high, "{oom:#}");
    assert_eq!(oom["runaway"], eta < 120.0, "{oom:#}");
    // A death is seen within 100 ms, and comes with the step of 128 KiB that finds no room.
    let (real, unknown) = real.map_or((left / rate, BATCHES / rate), |real| (real, 0.35));
    println!("real {real:.1} s; told {low} to {eta} to {high} s");
    assert!(
        (low - unknown..=high + unknown).contains(&real),
        "real {real} s (known to {unknown} s): {oom:#}"
    );
}

fn finished(json: &Value) -> Timestamp {
    json["finished_at"].as_str().expect("a date").parse().expect("a date")
}

/// Seconds from the end of the hunt until the kernel ends one of the leakers, because a limit is reached.
fn until_killed(json: &Value, leakers: &mut [Workload]) -> f64 {
    wait_until("the kernel's OOM killer", || leakers.iter_mut().any(|leaker| !leaker.lives()));
    let (_, now) = leakscope::source::now();
    now.duration_since(finished(json)).as_secs_f64()
}

/// The time to exhaustion of the leak that was confirmed.
fn oom(json: &Value) -> &Value {
    let confirmed =
        json["suspects"].as_array().expect("a list").iter().find(|found| found["confirmed"] == true);
    &confirmed.unwrap_or_else(|| panic!("{json:#}"))["oom"]
}

#[test]
fn the_limit_of_a_small_cgroup_is_named_with_the_time_after_which_the_kernel_ends_the_leaker() {
    require_root();
    let limit = 96 * MIB;
    let group = SmallGroup::new("small", limit).unwrap();
    let mut leakers = [leaker(&group, 78 * MIB)];
    let (ran, used) = hunt(&group, &leakers);
    assert_eq!(ran.code(), 1, "found and left alone\n{}", ran.stderr);
    let json = ran.json();
    let real = until_killed(&json, &mut leakers);
    let oom = oom(&json);
    assert_eq!((&oom["limit"], &oom["limit_bytes"]), (&group.path().into(), &limit.into()), "{oom:#}");
    assert_eq!((&oom["growers"], &oom["runaway"]), (&1.into(), &true.into()), "{oom:#}");
    assert_oom(&json, oom, limit, &used, RATE, Some(real));
    let warned = format!("would use up the limit of cgroup {}", group.path());
    assert!(ran.stderr.contains(&warned), "{}", ran.stderr);
}

#[test]
fn a_limit_that_is_far_away_is_named_and_is_no_runaway() {
    require_root();
    let limit = 256 * MIB;
    let group = SmallGroup::new("roomy", limit).unwrap();
    let leakers = [leaker(&group, 5 * MIB)];
    let (ran, used) = hunt(&group, &leakers);
    assert_eq!(ran.code(), 1, "found and left alone\n{}", ran.stderr);
    let json = ran.json();
    let oom = oom(&json);
    assert_eq!((&oom["limit"], &oom["runaway"]), (&group.path().into(), &false.into()), "{oom:#}");
    assert_oom(&json, oom, limit, &used, RATE, None);
    assert!(!ran.stderr.contains("would use up"), "{}", ran.stderr);
}

#[test]
fn an_outer_cgroup_that_leaves_more_is_named_where_several_that_grow_below_it_reach_it_first() {
    require_root();
    let (limit, inner_limit) = (80 * MIB, 40 * MIB);
    let outer = SmallGroup::new("outer", limit).unwrap();
    let inner: Vec<SmallGroup> =
        ["a", "b", "c"].iter().map(|name| outer.child(name, inner_limit).unwrap()).collect();
    let mut leakers: Vec<Workload> = inner.iter().map(|group| leaker(group, 5 * MIB)).collect();
    let (ran, used) = hunt(&outer, &leakers);
    assert_eq!(ran.code(), 1, "found and left alone\n{}", ran.stderr);
    let json = ran.json();
    let real = until_killed(&json, &mut leakers);
    let oom = oom(&json);
    assert_eq!((&oom["limit"], &oom["limit_bytes"]), (&outer.path().into(), &limit.into()), "{oom:#}");
    assert_eq!(oom["growers"], 3, "{oom:#}");
    assert!(oom["left_bytes"].as_u64() > Some(inner_limit), "it leaves more than any inner one: {oom:#}");
    for group in &inner {
        let used = group.used().expect("the cgroup can be read");
        assert!(used + MIB < inner_limit, "{} was not the one that was reached", group.path());
    }
    assert_oom(&json, oom, limit, &used, 3.0 * RATE, Some(real));
}

#[test]
fn pressure_is_told_where_the_kernel_counts_it_and_is_absent_where_not() {
    let counted = std::fs::read_to_string("/proc/pressure/memory").ok();
    let line: Ran = leakscope()
        .args(["watch", "--json", "--duration", "1s", "--source", "procfs"])
        .output()
        .expect("leakscope starts")
        .into();
    let line: Value = serde_json::from_str(line.stdout.lines().next().expect("a line")).expect("JSON");
    let hunt: Ran = leakscope()
        .args(["hunt", "--json", "--no-report", "--timeout", "1s", "--source", "procfs"])
        .output()
        .expect("leakscope starts")
        .into();
    let hunt = hunt.json();
    let doctor = Command::new(leakscope().get_program()).args(["doctor", "--json"]).output();
    let doctor = Ran::from(doctor.expect("leakscope starts")).json();
    let items = doctor["items"].as_array().expect("items");
    let item = items.iter().find(|item| item["item"] == "pressure (PSI)").expect("pressure");
    for pressure in [&line["pressure"], &hunt["host"]["pressure"]] {
        let Some(text) = &counted else {
            assert!(pressure.is_null(), "{pressure:#}");
            assert!(item["detail"].as_str().is_some_and(|detail| detail.contains("psi=1")), "{item:#}");
            continue;
        };
        let before = text.lines().next().and_then(|some| some.split("total=").nth(1));
        let before = before.expect("a total").trim().parse::<f64>().expect("microseconds") / 1e6;
        let after = pressure["some"]["total_s"].as_f64().expect("measured");
        assert!(after >= before - 0.001 && after < before + 60.0, "{before} s, then {pressure:#}");
        assert!((0.0..=100.0).contains(&pressure["full"]["avg60"].as_f64().expect("measured")));
        assert!(item["detail"].as_str().is_some_and(|detail| detail.starts_with("on: ")), "{item:#}");
    }
}
