//! What it costs to look at many processes, most of which sleep: a tick, an idle host, the first table.

use std::time::Duration;

use anyhow::Result;

use super::{
    Bench,
    page::{Bar, MIXED, Section, Side},
    peers::{Watched, beside, exporter},
    watcher::{Watcher, pause},
};
use crate::packages::Package;

const MANY: usize = 5000;
const ACTIVE: usize = 10;
/// What an idle host of some size has.
const USUAL: usize = 300;
/// Tried in this order: the most that finds room.
const MOST: [usize; 4] = [50_000, 40_000, 30_000, 20_000];
/// After this a watcher's start is over: what it reads first, and the first seconds in which nothing is judged settled.
const WARM_UP: Duration = Duration::from_secs(5);
const SPAN: Duration = Duration::from_secs(8);

/// A row whose sides are watchers, and their CPU seconds for each second.
fn ticks(bench: &Bench<'_>, sides: &mut [Watched], unit: f64) -> Result<()> {
    for round in 1..=bench.runs {
        for (side, watcher) in sides.iter_mut() {
            let Some(watcher) = watcher.as_ref().filter(|_| side.values.is_ok()) else { continue };
            let Some(running) = watcher.start_for(side)? else { continue };
            pause(WARM_UP);
            let share = running.share(SPAN)?;
            eprintln!("run {round}/{} {}: {:.2} ms a second", bench.runs, watcher.name, 1e3 * share);
            side.push(unit * share);
        }
    }
    Ok(())
}

fn own(watcher: Watcher) -> Watched {
    (
        Side::of(format!("leakscope {}", watcher.name.split_once(' ').map_or("", |(_, rest)| rest))),
        Some(watcher),
    )
}

/// The same once more: how far two sides are apart between which there is no difference.
fn again(watcher: Watcher) -> Watched {
    let (side, watcher) = own(watcher);
    (Side { name: format!("{}, again", side.name), ..side }, watcher)
}

pub fn tick(bench: &Bench<'_>) -> Result<Section> {
    let _processes = bench.load.processes(MANY, ACTIVE)?;
    let mut sides = vec![
        own(bench.watch()),
        again(bench.watch()),
        own(bench.watcher(&["watch", "--json", "--interval", "1s", "--limit", "20"])),
        own(bench.watcher(&["watch", "--interval", "1s"])),
        beside("top", Package::Procps, &["-b", "-d", "1"]),
        beside("pidstat", Package::Sysstat, &["-r", "1"]),
        beside("atop", Package::Atop, &["1"]),
        exporter(bench),
    ];
    ticks(bench, &mut sides, 1e3)?;
    let mut section = Section {
        title: format!("One tick with {MANY} sleeping processes and {ACTIVE} active ones"),
        how: format!(
            "CPU time of one refresh at one a second, over {} s after {} s of warm-up. The active ones take and give back \
             128 kB ten times a second. Without `--limit` each line of leakscope's JSON lists all processes, idle ones too; without `--json` it is \
             the table that a person sees, which is what top prints as well. The exporter has a group for each program's \
             name, and what reads its answers is not counted.",
            SPAN.as_secs(),
            WARM_UP.as_secs()
        ),
        unit: "ms of CPU",
        sides: sides.into_iter().map(|(side, _)| side).collect(),
        bars: Vec::new(),
    };
    let all = "each line lists every process, and to write thousands of them is nearly all of it";
    let few = "what is left is four looks a second at each process whose memory changes, those of the rest of the host \
               included: the row of sleeping processes below says what the host alone costs";
    let ways = [(0, "all processes listed", all), (2, "20 listed", few), (3, "the table of a person", few)];
    for (side, named, because) in ways {
        section.hold(&format!("at most 1/50 of top, {named}"), side, 4, 1.0 / 50.0, because);
        section.hold(&format!("at most 1/100 of pidstat, {named}"), side, 5, 1.0 / 100.0, because);
    }
    Ok(section)
}

pub fn idle_cpu(bench: &Bench<'_>) -> Result<Section> {
    let _processes = bench.load.processes(USUAL, 0)?;
    let mut sides =
        vec![own(bench.watch()), again(bench.watch()), beside("top", Package::Procps, &["-b", "-d", "1"])];
    ticks(bench, &mut sides, 100.0)?;
    let mut section = Section {
        title: format!("Watching {USUAL} sleeping processes at 1 Hz: CPU"),
        how: "Share of a core. What the rest of the host does in the meantime is looked at as well."
            .to_owned(),
        unit: "% of a core",
        sides: sides.into_iter().map(|(side, _)| side).collect(),
        bars: Vec::new(),
    };
    if let Some(share) = section.median(0) {
        let because = "four batches a second, and the rest of a host that was not idle";
        let measured = format!("{share:.2} %");
        section.bars.push(Bar {
            asked: "below 0.3 % of a core".into(),
            measured,
            reached: share < 0.3,
            because,
        });
    }
    Ok(section)
}

pub fn idle_memory(bench: &Bench<'_>) -> Result<Section> {
    let processes = bench.load.processes(USUAL, 0)?;
    let mut few = Side::of(format!("leakscope, {USUAL} processes"));
    memory(bench, &mut few)?;
    drop(processes);
    let mut section = Section {
        title: "Resident memory".to_owned(),
        how: format!("VmRSS after {} s of `watch --json --interval 1s`.", (WARM_UP + SPAN).as_secs()),
        unit: "MB",
        sides: vec![few],
        bars: Vec::new(),
    };
    if let Some(rss) = section.median(0) {
        let because = "most of it is the program's own file and the kernel maps' view";
        let measured = format!("{rss:.1} MB");
        section.bars.push(Bar { asked: "below 15 MB".into(), measured, reached: rss < 15.0, because });
    }
    Ok(section)
}

fn memory(bench: &Bench<'_>, side: &mut Side) -> Result<()> {
    let running = bench.watch().start()?;
    pause(WARM_UP + SPAN);
    side.push(running.rss_mb()?);
    Ok(())
}

/// From the start of the program to the first that it prints.
pub fn first_table(bench: &Bench<'_>) -> Result<Section> {
    let _processes = bench.load.processes(MANY, 0)?;
    let mut sides = vec![
        own(bench.watcher(&["watch", "--interval", "1s"])),
        beside("top", Package::Procps, &["-b", "-n", "1"]),
        beside("atop", Package::Atop, &["1", "1"]),
    ];
    for _ in 0..bench.runs.max(5) {
        for (side, watcher) in &mut sides {
            let Some(watcher) = watcher else { continue };
            if let Some(running) = watcher.start_for(side)? {
                side.push(running.first_line.as_secs_f64());
            }
        }
    }
    let mut section = Section {
        title: format!("From start to first table with {MANY} processes"),
        how: format!(
            "Time on the wall until the first byte is printed, {} runs. leakscope loads its programs into the kernel and \
             reads every process once.",
            bench.runs.max(5)
        ),
        unit: "s",
        sides: sides.into_iter().map(|(side, _)| side).collect(),
        bars: Vec::new(),
    };
    if let Some(seconds) = section.median(0) {
        let measured = format!("{seconds:.2} s");
        let because = "every process is read once, and this machine was shared";
        section.bars.push(Bar { asked: "below 1 s".into(), measured, reached: seconds < 1.0, because });
    }
    Ok(section)
}

/// As many processes as this host has room for: one run, it takes long to start them.
pub fn many(bench: &Bench<'_>) -> Result<Section> {
    let mut tried = Vec::new();
    for count in MOST {
        match bench.load.processes(count, 0) {
            Ok(processes) => {
                let section = watched(bench, count, &tried);
                drop(processes);
                return section;
            }
            Err(error) => tried.push(format!("{count} did not fit: {error:#}.")),
        }
    }
    anyhow::bail!("this host has no room for many processes: {}", tried.join(" "))
}

fn watched(bench: &Bench<'_>, count: usize, tried: &[String]) -> Result<Section> {
    let words = ["watch", "--json", "--interval", "1s", "--limit", "20"];
    let sides = [own(bench.watcher(&words)), beside("top", Package::Procps, &["-b", "-d", "1"])];
    let (mut shares, mut rss) = (Vec::new(), Side::of("leakscope: resident memory, MB"));
    for (mut side, watcher) in sides {
        let started = watcher.map(|watcher| watcher.start_for(&mut side)).transpose()?;
        if let Some(running) = started.flatten() {
            pause(WARM_UP);
            side.push(100.0 * running.share(SPAN)?);
            if shares.is_empty() {
                rss.push(running.rss_mb()?);
            }
        }
        side.name += ", % of a core";
        shares.push(side);
    }
    let resident = rss.spread().map_or(0.0, |spread| spread.median);
    shares.push(rss);
    let because = "it keeps a detector and a past for each process that it has seen";
    let measured = format!("{resident:.0} MB, {:.1} kB a process", 1e3 * resident / count as f64);
    Ok(Section {
        title: format!("Watching {count} sleeping processes at 1 Hz"),
        how: format!("One run. {}", tried.join(" ")).trim_end().to_owned(),
        unit: MIXED,
        sides: shares,
        bars: vec![Bar { asked: "below 60 MB resident".into(), measured, reached: resident < 60.0, because }],
    })
}
