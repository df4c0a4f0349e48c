//! What others pay while leakscope watches: for a page fault, for a system call, for a build.

use anyhow::Result;

use super::{
    Bench, Watcher, beside,
    page::{Section, Side},
    watcher::{Running, pause},
};
use crate::{bench::measure, packages::Package};
use std::time::Duration;

/// Half a gigabyte of fresh pages.
const PAGES: u64 = 131_072;
const CALLS: u64 = 2_000_000;
/// Figures taken in each turn, and the least number of turns: a figure takes a quarter of a second, and the differences are
/// small.
const EACH_TURN: u32 = 5;
const LEAST_RUNS: u32 = 5;
/// From a watcher's first line until its programs are attached for certain.
const ATTACHED_AFTER: Duration = Duration::from_secs(2);

/// A side: what is measured, while this watches or nobody does.
type Watched = (Side, Option<Watcher>);

fn take_turns(
    sides: &mut [Watched],
    rounds: u32,
    each: u32,
    measure: impl Fn() -> Result<f64>,
) -> Result<()> {
    for round in 1..=rounds {
        for (side, watcher) in sides.iter_mut() {
            if side.values.is_err() {
                continue;
            }
            let running: Option<Running> = watcher.as_ref().map(Watcher::start).transpose()?;
            if running.is_some() {
                pause(ATTACHED_AFTER);
            }
            for _ in 0..each {
                let value = measure()?;
                eprintln!("turn {round}/{rounds} {}: {value:.3}", side.name);
                side.push(value);
            }
        }
    }
    Ok(())
}

fn finished(title: String, how: String, unit: &'static str, sides: Vec<Watched>) -> Section {
    Section { title, how, unit, sides: sides.into_iter().map(|(side, _)| side).collect(), bars: Vec::new() }
}

pub fn fault_storm(bench: &Bench<'_>) -> Result<Section> {
    const COUNT: &str = "tracepoint:exceptions:page_fault_user { @[pid] = count(); }";
    const NOTHING: &str = "tracepoint:exceptions:page_fault_user { }";
    let mut sides = vec![
        (Side::of("nobody watches"), None),
        (Side::of("nobody watches, again"), None),
        (Side::of("leakscope watches"), Some(bench.watch())),
        beside("bpftrace", Package::Bpftrace, &["-B", "line", "-e", COUNT]),
        beside("bpftrace", Package::Bpftrace, &["-B", "line", "-e", NOTHING]),
    ];
    take_turns(&mut sides, bench.runs.max(LEAST_RUNS), EACH_TURN, || bench.load.figure("faults", PAGES))?;
    let mut section = finished(
        "A fault storm: touching fresh pages as fast as one can".to_owned(),
        format!(
            "CPU time of one first touch, mean of {PAGES}. The empty bpftrace program is as near as one comes to the floor \
             of tracing each fault by a classic tracepoint."
        ),
        "ns",
        sides,
    );
    let because = "each fault runs two programs of leakscope's, for the fault and for the counter of the memory that it \
                   adds to";
    section.hold("at most 5 % slower than untraced", 2, 0, 1.05, because);
    section.hold("not slower than bpftrace's count", 2, 3, 1.0, because);
    Ok(section)
}

pub fn syscalls(bench: &Bench<'_>) -> Result<Section> {
    let mut sides = vec![
        (Side::of("nobody watches"), None),
        (Side::of("nobody watches, again"), None),
        (Side::of("leakscope watches, no suspect"), Some(bench.watch())),
        beside(
            "bpftrace",
            Package::Bpftrace,
            &["-B", "line", "-e", "tracepoint:syscalls:sys_enter_brk { @[pid] = count(); }"],
        ),
    ];
    take_turns(&mut sides, bench.runs.max(LEAST_RUNS), EACH_TURN, || bench.load.figure("syscalls", CALLS))?;
    let mut section = finished(
        "A system call, on a host without a suspect".to_owned(),
        format!(
            "CPU time of `getppid`, mean of {CALLS}. The last side traces `brk` alone: what any syscall tracepoint takes \
             from all calls, and what leakscope takes while it looks closely at a suspect."
        ),
        "ns",
        sides,
    );
    let because =
        "no syscall tracepoint is attached (a live test holds that), so this is the machine's noise";
    section.hold("at most 2 % slower", 2, 0, 1.02, because);
    Ok(section)
}

pub fn build(bench: &Bench<'_>) -> Result<Section> {
    let mut sides = vec![
        (Side::of("nobody watches"), None),
        (Side::of("nobody watches, again"), None),
        (Side::of("leakscope watches"), Some(bench.watch())),
    ];
    take_turns(&mut sides, bench.runs.max(5), 1, || Ok(measure::run(&mut bench.load.build())?.cpu_seconds))?;
    let mut section = finished(
        "A build".to_owned(),
        format!(
            "CPU time of {}: forks, execs, faults and exits as fast as they come.",
            super::load::build_is()
        ),
        "s of CPU",
        sides,
    );
    section.hold("at most 2 % more", 2, 0, 1.02, "every fault, fork, exec and exit of the build is counted");
    Ok(section)
}
