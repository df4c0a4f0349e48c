//! `cargo xtask fuzz`: each fuzz target of `fuzz/` for a while, on what it has learned before (`target/fuzz`, or what a
//! fresh checkout has in fuzz/seeds).
//!
//! What brings a target down is kept in `target/fuzz/found` and named; copied to fuzz/seeds, it is a regression test: a unit
//! test reads everything there.

use std::{ffi::OsStr, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    setup::{self, Purpose},
    tools::{Tool, install},
    workspace::{Workspace, run as run_command},
};

const TARGETS: [&str; 4] = ["recording", "csv", "log", "prometheus"];
const CARGO_FUZZ: Tool = Tool { krate: "cargo-fuzz", program: "cargo-fuzz", version: "0.13.2" };
/// Megabytes that a target may take, in the address sanitizer's own included: a small file must not take a gigabyte.
const MOST_MB: &str = "-rss_limit_mb=1500";
/// Bytes of an input, at most: some blocks of a recording.
const LONGEST: &str = "-max_len=65536";

#[derive(clap::Args)]
pub struct Arguments {
    /// How long each target is fuzzed
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only these targets
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    targets: Vec<String>,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    setup::ensure(workspace, &[Purpose::Build])?;
    if let Err(why) = CARGO_FUZZ.works(workspace) {
        eprintln!("cargo-fuzz: {why}; getting it");
        install(workspace, CARGO_FUZZ.command(workspace))?;
    }
    let mut failed = Vec::new();
    for target in TARGETS {
        if !arguments.targets.is_empty() && !arguments.targets.iter().any(|wanted| wanted == target) {
            continue;
        }
        eprintln!("== {target}");
        if let Err(error) = fuzz(workspace, target, arguments.seconds) {
            eprintln!("error: {target}: {error:#}");
            failed.push(target);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "{} failed\n  fix: mend it, and copy the input named above to fuzz/seeds/TARGET, where a unit test reads it from then on",
        failed.join(", ")
    )
}

fn fuzz(workspace: &Workspace, target: &str, seconds: u64) -> Result<()> {
    let place = workspace.target.join("fuzz");
    let (corpus, found) = (place.join("corpus").join(target), place.join("found").join(target));
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    if target == "recording" {
        begin_of_zoo(workspace, &corpus)?;
    }
    let mut command = Command::new(workspace.tools().join("bin/cargo-fuzz"));
    command.current_dir(&workspace.root).env("RUSTUP_TOOLCHAIN", "nightly");
    command.args(["fuzz", "run", "--fuzz-dir", "fuzz", "--target-dir"]).arg(place.join("build"));
    command.arg(target).arg(&corpus).arg(workspace.root.join("fuzz/seeds").join(target)).arg("--");
    let mut artifacts = OsStr::new("-artifact_prefix=").to_owned();
    artifacts.push(&found);
    artifacts.push("/");
    command.arg(artifacts).args([MOST_MB, LONGEST, "-timeout=20", "-print_final_stats=1"]);
    run_command(command.arg(format!("-max_total_time={seconds}")))
}

/// The first blocks of the recorded zoo, which is of the format before this one.
fn begin_of_zoo(workspace: &Workspace, corpus: &Path) -> Result<()> {
    const BYTES: usize = 48 << 10;
    let zoo = workspace.root.join("tests/recordings/zoo.leakscope");
    let recording = fs::read(&zoo).with_context(|| format!("reading {}", zoo.display()))?;
    let begin = corpus.join("zoo.leakscope");
    fs::write(&begin, &recording[..recording.len().min(BYTES)])
        .with_context(|| format!("writing {}", begin.display()))
}
