//! What leakscope costs, beside what others cost and beside nothing, on this machine: the whole table of docs/costs.md.
//!
//! All sides of a row take turns, so that what else the machine does falls on all of them; each row says its median, its
//! spread and its ratio. CPU time is compared, as the kernel bills it, and time on the wall only where that is the
//! question. Peers come from the distribution and are installed where they are missing; one that cannot be had is named.
//! Rows about the price of /proc are in [`processes`], about what others pay in [`taxes`].

mod load;
mod page;
mod processes;
mod taxes;
mod watcher;

use std::{fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use self::{
    load::Load,
    page::{Section, Side},
    watcher::{Watcher, peer},
};
use crate::{
    packages::Package,
    workspace::{Workspace, output},
};

const PAGE: &str = "docs/costs.md";

/// What all rows are measured with.
struct Bench<'a> {
    leakscope: &'a Path,
    load: Load,
    runs: u32,
}

impl Bench<'_> {
    /// leakscope as it is watched with, and nothing chosen but how often.
    fn watch(&self) -> Watcher {
        self.watcher(&["watch", "--json", "--interval", "1s"])
    }

    fn watcher(&self, arguments: &[&str]) -> Watcher {
        Watcher::new(self.leakscope, arguments)
    }
}

pub fn run(leakscope: &Path, runs: u32) -> Result<()> {
    let workspace = Workspace::find()?;
    let bench = Bench { leakscope, load: Load::compile()?, runs };
    let rows: [fn(&Bench<'_>) -> Result<Section>; 8] = [
        processes::tick,
        taxes::fault_storm,
        taxes::syscalls,
        taxes::build,
        processes::idle_cpu,
        processes::idle_memory,
        processes::first_table,
        processes::many,
    ];
    let mut text = head(runs)?;
    for row in rows {
        let section = row(&bench)?.to_markdown();
        print!("{section}");
        text += &section;
    }
    let diagnosis = diagnosis(&workspace)?;
    print!("{diagnosis}");
    text += &diagnosis;
    let page = workspace.root.join(PAGE);
    fs::write(&page, text).with_context(|| format!("writing {}", page.display()))?;
    eprintln!("written to {PAGE}");
    Ok(())
}

fn head(runs: u32) -> Result<String> {
    let date = output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let release = output(Command::new("uname").arg("-r"))?;
    // What a distribution or a builder adds to the version tells nothing here.
    let kernel = release.split(['-', '+']).next().unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let versions: Vec<String> =
        ["top -V", "pidstat -V", "atop -V", "bpftrace --version"].iter().filter_map(version).collect();
    let mut text = "# What it costs\n".to_owned();
    let _ = write!(
        text,
        "Written by `cargo xtask bench costs` on {}, which measures again. Machine: {cpus} CPUs ({}), {:.0} GB, Linux {}; load \
         average at the start {}. Beside it: {}.\n\n\
         The sides of a row take turns, {runs} runs each unless a row says otherwise. A figure is the median, with the least \
         and the most. Where there is a side \"again\", it is the first side measured once more: its ratio is the noise floor, \
         and a difference below that is none. The machine may be shared: the least is then nearer to the truth than the most.\n\n",
        date.trim(),
        model.map_or("unknown", |(_, model)| model),
        kib.unwrap_or(0.0) * 1024.0 / 1e9,
        kernel.trim(),
        load.split(' ').next().unwrap_or("unknown"),
        if versions.is_empty() { "nothing".to_owned() } else { versions.join(", ") },
    );
    Ok(text)
}

fn version(command: &&str) -> Option<String> {
    let mut words = command.split(' ');
    let out = Command::new(words.next()?).args(words).output().ok()?;
    let text = [out.stdout, out.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let program = command.split(' ').next()?;
    let number = text
        .lines()
        .next()?
        .split([' ', ','])
        .find(|word| word.contains('.') && word.contains(char::is_numeric))?;
    Some(format!("{program} {}", number.trim_start_matches('v')))
}

/// A peer as a side and, where it can be had, as a watcher.
fn beside(program: &str, package: Package, arguments: &[&str]) -> (Side, Option<Watcher>) {
    match peer(program, package) {
        Ok(path) => {
            let watcher = Watcher::new(&path, arguments);
            (Side::of(watcher.name.clone()), Some(watcher))
        }
        Err(why) => (Side::missing(format!("{program} {}", arguments.join(" ")), why), None),
    }
}

/// What the scoreboard measures of the detector.
fn diagnosis(workspace: &Workspace) -> Result<String> {
    let mut build = workspace.cargo("run");
    build.args([
        "--locked",
        "--release",
        "--quiet",
        "--package",
        "leakscope-scoreboard",
        "--bin",
        "leakscope-scoreboard",
    ]);
    let text = output(build.args(["--", "--seeds", "1"]))?;
    let cost =
        text.lines().find_map(|line| line.strip_prefix("cost: ")).context("the scoreboard says no cost")?;
    Ok(format!(
        "## The diagnosis\nThe detector alone, on one trace of each kind of the scoreboard (`cargo xtask bench detection`).\n\n\
         {cost}.\n"
    ))
}
