//! What others pay while leakscope watches: for a page fault, for a system call, for a build.

use anyhow::Result;

use super::{
    Bench,
    page::{Section, Side},
    peers::{Bpfcc, Watched, beside},
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

fn take_turns(
    sides: &mut [Watched],
    rounds: u32,
    each: u32,
    mut measure: impl FnMut() -> Result<f64>,
) -> Result<()> {
    for round in 1..=rounds {
        for (side, watcher) in sides.iter_mut() {
            if side.values.is_err() {
                continue;
            }
            let started = watcher.as_ref().map(|watcher| watcher.start_for(side)).transpose()?;
            let running: Option<Running> = started.flatten();
            if side.values.is_err() {
                continue;
            }
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
    let bpfcc = Bpfcc::find(&bench.workspace);
    const COUNT: &str = "tracepoint:exceptions:page_fault_user { @[pid] = count(); }";
    const NOTHING: &str = "tracepoint:exceptions:page_fault_user { }";
    // Ready with its first table: what it says before that is said before it is attached.
    let (side, argdist) =
        bpfcc.beside("argdist", &["-i", "1", "-C", "t:exceptions:page_fault_user():u32:$PID"]);
    let mut sides = vec![
        (Side::of("nobody watches"), None),
        (Side::of("nobody watches, again"), None),
        (Side::of("leakscope watches"), Some(bench.watch())),
        beside("bpftrace", Package::Bpftrace, &["-B", "line", "-e", COUNT]),
        beside("bpftrace", Package::Bpftrace, &["-B", "line", "-e", NOTHING]),
        (side, argdist.map(|argdist| argdist.ready_saying("["))),
    ];
    take_turns(&mut sides, bench.runs.max(LEAST_RUNS), EACH_TURN, || bench.load.figure("faults", PAGES))?;
    let mut section = finished(
        "A fault storm: touching fresh pages as fast as one can".to_owned(),
        format!(
            "CPU time of one first touch, mean of {PAGES}. The empty bpftrace program is as near as one comes to the floor \
             of tracing each fault by a classic tracepoint.{}",
            bpfcc.note()
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
             from all calls, and what leakscope takes while it looks closely at a suspect where the kernel refuses fexit."
        ),
        "ns",
        sides,
    );
    let because =
        "no syscall tracepoint is attached (a live test holds that), so this is the machine's noise";
    section.hold("at most 2 % slower", 2, 0, 1.02, because);
    Ok(section)
}

/// What it costs a process to be watched by a tracer of its allocator.
pub fn allocations(bench: &Bench<'_>) -> Result<Section> {
    const SECONDS: f64 = 0.25;
    let bpfcc = Bpfcc::find(&bench.workspace);
    let mut allocator = bench.load.allocator(SECONDS)?;
    let (side, memleak) = bpfcc.beside("memleak", &["-p", &allocator.pid().to_string(), "2"]);
    let side = Side { name: "memleak-bpfcc -p PID 2".to_owned(), ..side };
    let mut sides = vec![
        (Side::of("nobody watches"), None),
        (Side::of("nobody watches, again"), None),
        (Side::of("leakscope watches"), Some(bench.watch())),
        (side, memleak.map(|memleak| memleak.ready_saying("outstanding allocations"))),
    ];
    take_turns(&mut sides, bench.runs.max(LEAST_RUNS), EACH_TURN, || allocator.figure())?;
    let mut section = finished(
        "An allocation, in a process that is watched".to_owned(),
        format!(
            "CPU time of a `malloc` and its `free` in one process that does nothing else, taken over {SECONDS} s. memleak \
             traces each call of that process' allocator, and says of which call stack what is left; leakscope traces \
             none of them, and says of no call stack.{}",
            bpfcc.note()
        ),
        "ns",
        sides,
    );
    section.hold(
        "at most 2 % slower",
        2,
        0,
        1.02,
        "nothing of leakscope's runs in an allocation: what is left is another program at work on a shared machine",
    );
    Ok(section)
}

/// Which of bpfcc's tools about memory work on this kernel at all.
pub fn bpfcc(bench: &Bench<'_>) -> Result<Section> {
    const TOOLS: [(&str, &[&str], &str); 5] = [
        ("argdist", &["-i", "1", "-C", "t:exceptions:page_fault_user()"], "["),
        ("oomkill", &[], "Tracing"),
        ("drsnoop", &[], "COMM"),
        ("shmsnoop", &[], "PID"),
        ("cachestat", &["1"], "HITS"),
    ];
    let bpfcc = Bpfcc::find(&bench.workspace);
    let allocator = bench.load.allocator(1.0)?;
    let (side, memleak) = bpfcc.beside("memleak", &["-p", &allocator.pid().to_string(), "1"]);
    let side = Side { name: "memleak-bpfcc -p PID 1".to_owned(), ..side };
    let mut sides = vec![(side, memleak.map(|memleak| memleak.ready_saying("outstanding allocations")))];
    sides.extend(TOOLS.map(|(tool, arguments, says)| {
        let (side, watcher) = bpfcc.beside(tool, arguments);
        (side, watcher.map(|watcher| watcher.ready_saying(says)))
    }));
    for (side, watcher) in &mut sides {
        let started = watcher.as_ref().map(|watcher| watcher.start_for(side)).transpose()?;
        if let Some(running) = started.flatten() {
            side.push(running.first_line.as_secs_f64());
        }
    }
    let how = format!(
        "One run: from the start to the first that it shows, or why it shows nothing.{}",
        bpfcc.note()
    );
    Ok(finished("The tools about memory of bpfcc-tools".to_owned(), how, "s", sides))
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
