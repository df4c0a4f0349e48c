//! leakscope from end to end as it must work on every kernel that is supported: nothing but the binary and Rust workloads,
//! so that `cargo xtask test --vm` can run it where there is no interpreter and no compiler. No event is counted and no
//! time is held: older kernels batch `rss_stat`, and an emulated processor is slow. Needs root.

use anyhow::{Context as _, Result, ensure};
use leakscope_tests::Obedient;
use leakscope_tests::cgroup::SmallGroup;
use leakscope_tests::command::{Ran, passed, require_root, run};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// The best source that there is: the kernel side is for one architecture.
const SOURCE: &str = if cfg!(target_arch = "x86_64") { "ebpf" } else { "procfs" };

fn start() -> Result<Obedient> {
    let mut process = Obedient::start(env!("CARGO_BIN_EXE_obedient"))?;
    process.obey("touch 200")?;
    Ok(process)
}

/// 24 KiB, five times a second, kept for ever.
fn leak(process: &mut Obedient) -> Result<()> {
    process.tell("leak 6 200")
}

/// Field 22 of `/proc/PID/stat`: whoever has the same start time is the same process.
fn start_time(process: &Obedient) -> Result<String> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid()))?;
    let after_name = stat.rsplit(')').next().context("stat")?;
    Ok(after_name.split_whitespace().nth(19).context("start time")?.to_owned())
}

/// Looks at these processes alone, and writes no report.
fn hunt(source: &str, more: &[&str], processes: &[&Obedient]) -> Ran {
    let mut arguments = vec!["hunt", "--json", "--no-report", "--confirm", "10s", "--timeout", "180s"];
    arguments.extend(["--source", source]);
    arguments.extend(more);
    let pids: Vec<String> = processes.iter().map(|process| process.pid().to_string()).collect();
    arguments.extend(pids.iter().flat_map(|pid| ["--pid", pid]));
    run(&arguments)
}

/// What `doctor --json` says.
struct Doctor(Value);

impl Doctor {
    /// Of one thing: its state, and the words.
    fn of(&self, name: &str) -> (&str, &str) {
        let items = self.0["items"].as_array().expect("items");
        let found = items.iter().find(|item| item["item"].as_str().map(str::trim) == Some(name));
        let found = found.unwrap_or_else(|| panic!("nothing of {name}: {:#}", self.0));
        (found["state"].as_str().unwrap_or_default(), found["detail"].as_str().unwrap_or_default())
    }
}

#[test]
fn doctor_says_how_each_thing_is_measured_here() {
    require_root();
    let ran = run(&["doctor", "--json"]);
    let doctor = Doctor(ran.json());
    assert_eq!(doctor.0["source"], SOURCE, "{:#}", doctor.0);
    for told in ["kernel", "kernel side", "cgroups", "pressure (PSI)", "pidfd", "process_mrelease"] {
        assert!(!doctor.of(told).1.is_empty(), "{told}");
    }
    if SOURCE == "procfs" {
        // What is missing, why, and what is used for it.
        let (state, detail) = doctor.of("kernel side");
        assert_eq!((ran.code(), state), (1, "missing"), "{:#}", doctor.0);
        assert!(detail.contains("page faults") && detail.contains("--source procfs"), "{detail}");
        return;
    }
    assert_eq!(ran.code(), 0, "{:#}", doctor.0);
    for tracepoint in ["kmem:rss_stat", "exceptions:page_fault_user", "sched:sched_process_exit"] {
        let (_, detail) = doctor.of(tracepoint);
        assert!(detail.starts_with("btf"), "{tracepoint}: {detail}");
    }
    assert!(!doctor.of("oom:mark_victim").1.is_empty());
    let (_, counters) = doctor.of("rss_stat counters");
    assert!(counters.contains("CPU") || counters.contains("thread"), "{counters}");
    // Since 6.12 at the latest a kernel accepts them; a build that lost them would count as well, and cost more.
    let release = doctor.of("kernel").1;
    let mut numbers = release.split(['.', '-', ' ']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (_, read) = doctor.of("kernel memory is read");
    let wanted: &[&str] = if version >= (6, 12) { &["typed loads"] } else { &["typed loads", "copies"] };
    assert!(wanted.iter().any(|wanted| read.contains(wanted)), "{release}: {read}");
}

#[test]
fn the_leaker_is_found_and_killed_and_its_twin_lives() -> Result<()> {
    require_root();
    let (mut leaker, mut twin) = (start()?, start()?);
    let before = start_time(&twin)?;
    leak(&mut leaker)?;
    let ran = hunt(SOURCE, &["--kill", "--yes"], &[&leaker, &twin]);
    let hunt = ran.json();
    assert_eq!(ran.code(), 0, "{hunt:#}\n{}", ran.stderr);
    let actions = hunt["actions"].as_array().context("actions")?;
    ensure!(actions.len() == 1, "{hunt:#}");
    assert_eq!(
        (&actions[0]["pid"], &actions[0]["outcome"]),
        (&leaker.pid().0.into(), &"killed".into()),
        "{hunt:#}"
    );
    for check in ["identity", "death"] {
        assert!(passed(&actions[0], check), "{check}: {hunt:#}");
    }
    ensure!(!leaker.wait()?.success(), "it ended by itself");
    // It still does as it is told, and is who it was.
    twin.obey("touch 10")?;
    assert_eq!(start_time(&twin)?, before);
    Ok(())
}

#[test]
fn a_dry_run_hurts_nobody_and_a_kill_ends_that_process_alone() -> Result<()> {
    require_root();
    let (mut victim, mut twin) = (start()?, start()?);
    let pid = victim.pid().to_string();
    let ran = run(&["kill", "--json", "--dry-run", &pid]);
    assert_eq!(ran.json()["outcome"], "dry-run", "{}", ran.stderr);
    victim.obey("touch 10").context("it was only asked what would be done")?;
    let ran = run(&["kill", "--json", &pid]);
    assert_eq!((ran.code(), &ran.json()["outcome"]), (0, &"killed".into()), "{}\n{}", ran.stdout, ran.stderr);
    victim.wait()?;
    twin.obey("touch 10")
}

#[test]
fn the_limit_of_the_cgroup_above_a_leaker_is_named() -> Result<()> {
    require_root();
    let group = SmallGroup::new("everywhere", 256 * MIB)?;
    let mut leaker = start()?;
    std::fs::write(group.procs(), leaker.pid().to_string())?;
    leak(&mut leaker)?;
    let hunted = hunt(SOURCE, &[], &[&leaker]);
    let hunt = hunted.json();
    assert_eq!(hunted.code(), 1, "found and left alone: {hunt:#}\n{}", hunted.stderr);
    let oom = &hunt["suspects"][0]["oom"];
    assert_eq!((&oom["limit"], &oom["limit_bytes"]), (&group.path().into(), &(256 * MIB).into()), "{hunt:#}");
    Ok(())
}

#[test]
fn without_the_kernel_side_proc_alone_finds_the_same_leaker() -> Result<()> {
    require_root();
    let mut leaker = start()?;
    leak(&mut leaker)?;
    let hunted = hunt("procfs", &[], &[&leaker]);
    let hunt = hunted.json();
    assert_eq!((hunted.code(), &hunt["suspects"][0]["pid"]), (1, &leaker.pid().0.into()), "{hunt:#}");
    Ok(())
}
