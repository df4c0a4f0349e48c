//! What leakscope costs, beside what others cost and beside nothing, on this machine: the whole table of docs/costs.md.
//!
//! All sides of a row take turns, so that what else the machine does falls on all of them; each row says its median, its
//! spread and its ratio. CPU time is compared, as the kernel bills it, and time on the wall only where that is the
//! question. Peers come from the distribution and are installed where they are missing; one that cannot be had is named.
//! Rows about the price of /proc are in [`processes`], about what others pay in [`taxes`].

mod load;
mod page;
mod peers;
mod processes;
mod taxes;
mod watcher;

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use self::{load::Load, page::Section, watcher::Watcher};
use crate::workspace::{Workspace, output};

const PAGE: &str = "docs/costs.md";

/// What all rows are measured with.
struct Bench<'a> {
    workspace: Workspace,
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

/// Measures a row.
type Row = fn(&Bench<'_>) -> Result<Section>;

/// The rows of the page in their order, and their names for whoever repeats one.
const ROWS: [(&str, Row); 10] = [
    ("tick", processes::tick),
    ("storm", taxes::fault_storm),
    ("syscalls", taxes::syscalls),
    ("allocations", taxes::allocations),
    ("build", taxes::build),
    ("idle", processes::idle_cpu),
    ("memory", processes::idle_memory),
    ("first", processes::first_table),
    ("many", processes::many),
    ("bpfcc", taxes::bpfcc),
];
const DIAGNOSIS: &str = "diagnosis";

/// Measures all rows and writes the page; with names of rows those alone, which are printed.
pub fn run(leakscope: &Path, runs: u32, wanted: &[OsString]) -> Result<()> {
    let names: Vec<&str> = ROWS.iter().map(|(name, _)| *name).chain([DIAGNOSIS]).collect();
    for name in wanted {
        let known = names.iter().any(|known| name == known);
        ensure!(known, "there is no row {}\n  fix: take some of: {}", name.display(), names.join(", "));
    }
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let load_average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let bench = Bench { workspace: Workspace::find()?, leakscope, load: Load::compile()?, runs };
    let mut text = String::new();
    for (_, row) in ROWS.iter().filter(|(name, _)| is_wanted(name)) {
        let section = row(&bench)?.to_markdown();
        print!("{section}");
        text += &section;
    }
    if is_wanted(DIAGNOSIS) {
        let diagnosis = diagnosis(&bench.workspace)?;
        print!("{diagnosis}");
        text += &diagnosis;
    }
    if !wanted.is_empty() {
        eprintln!("{PAGE} is as it was: it is written by a run of all rows");
        return Ok(());
    }
    let page: PathBuf = bench.workspace.root.join(PAGE);
    // Only now: the versions are those of what was installed on the way.
    let text = head(runs, load_average.split(' ').next().unwrap_or("unknown"))? + &text;
    fs::write(&page, text).with_context(|| format!("writing {}", page.display()))?;
    eprintln!("written to {PAGE}");
    Ok(())
}

fn head(runs: u32, load_average: &str) -> Result<String> {
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
    let versions: Vec<String> = ["top -V", "pidstat -V", "atop -V", "bpftrace --version"]
        .iter()
        .filter_map(version)
        .chain(package_version("bpfcc-tools"))
        .collect();
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
        load_average,
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

/// Of a package whose programs say no version.
fn package_version(name: &str) -> Option<String> {
    let version = output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", name])).ok()?;
    Some(format!("{name} {version}")).filter(|_| !version.is_empty())
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
