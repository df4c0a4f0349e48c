//! What watching an idle host costs: `leakscope watch` beside `top`, both at one look a second.
//!
//! leakscope's figures have its start in them (loading the eBPF programs, the first table), top's have its own. What the
//! kernel side adds to other processes' faults is not in either.

use std::{ffi::OsString, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::measure::{self, Cost, Spread};

const SECONDS: u32 = 30;

pub fn run(leakscope: &Path, runs: u32) -> Result<()> {
    let top = which::which("top").context("top is what this compares with\n  fix: install procps")?;
    let sides = [("leakscope watch", watch(leakscope)), ("top -b", batch_top(&top))];
    let mut costs: [Vec<Cost>; 2] = Default::default();
    for round in 1..=runs {
        for ((name, words), costs) in sides.iter().zip(&mut costs) {
            let cost = measure::run(Command::new(&words[0]).args(&words[1..]))?;
            eprintln!(
                "run {round}/{runs} {name}: {:.3} CPU s in {:.1} s, peak {:.1} MB",
                cost.cpu_seconds, cost.wall_seconds, cost.peak_mb
            );
            costs.push(cost);
        }
    }
    let processes = std::fs::read_dir("/proc").context("reading /proc")?.flatten();
    let processes =
        processes.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()).count();
    println!("median of {runs} runs (least to most), {processes} processes on this host");
    println!("{:<16} {:<24} {:<24} {:<24}", "", "CPU s in the run", "% of a core", "peak RSS, MB");
    for ((name, _), costs) in sides.iter().zip(&costs) {
        let of = |value: fn(&Cost) -> f64| Spread::of(costs.iter().map(value)).context("there was no run");
        let cpu = of(|cost| cost.cpu_seconds)?.to_string();
        let share = of(|cost| 100.0 * cost.cpu_seconds / cost.wall_seconds)?.to_string();
        let peak = of(|cost| cost.peak_mb)?.to_string();
        println!("{name:<16} {cpu:<24} {share:<24} {peak:<24}");
    }
    Ok(())
}

fn watch(leakscope: &Path) -> Vec<OsString> {
    words(leakscope, &["watch", "--json", "--interval", "1s", "--duration", &format!("{SECONDS}s")])
}

fn batch_top(top: &Path) -> Vec<OsString> {
    words(top, &["-b", "-d", "1", "-n", &SECONDS.to_string()])
}

fn words(program: &Path, arguments: &[&str]) -> Vec<OsString> {
    std::iter::once(program.as_os_str().to_owned()).chain(arguments.iter().map(OsString::from)).collect()
}
