//! The benchmarks, by name. A benchmark compares leakscope with what people use today, on this machine, in interleaved
//! runs: what else the machine does then falls on both. To add one, write a module and a line in [`BENCHES`].

mod costs;
mod detection;
mod idle;
mod measure;
mod mixed;
mod zoo;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::{
    build,
    workspace::{Privilege, Workspace, elevated, run as run_command},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Which benchmark; without a name they are listed
    name: Option<String>,
    /// `zoo`: the recording to judge [default: tests/recordings/zoo.leakscope]
    recording: Option<PathBuf>,
    /// How often each side is run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// `mixed`: how long to watch; confirmation takes five
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(6..))]
    minutes: u64,
    /// Measure this binary instead of building target/release/leakscope
    #[arg(long)]
    binary: Option<PathBuf>,
    /// `detection`: fail when a headline figure is worse than written down
    #[arg(long)]
    check: bool,
    /// Passed on to a benchmark that has its own options (`-- --help` lists them)
    #[arg(last = true)]
    options: Vec<OsString>,
}

struct Bench {
    name: &'static str,
    about: &'static str,
    run: Run,
}

/// What a benchmark needs.
enum Run {
    /// The binary, root, and how often each side is run.
    Live(fn(leakscope: &Path, runs: u32) -> Result<()>),
    /// The same, and names of its rows, to measure those alone.
    Rows(fn(leakscope: &Path, runs: u32, rows: &[OsString]) -> Result<()>),
    /// The checkout; what else it needs it asks for itself.
    Pure(fn(workspace: &Workspace, arguments: &Arguments) -> Result<()>),
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "costs",
        about: "the whole table of docs/costs.md: a tick, faults, syscalls, a build, memory, beside top, pidstat, atop, bpftrace, bpfcc (`-- tick storm`: those rows alone)",
        run: Run::Rows(costs::run),
    },
    Bench {
        name: "detection",
        about: "who finds which leak and who accuses whom, on synthetic processes: leakscope and the rules in use elsewhere",
        run: Run::Pure(detection::run),
    },
    Bench {
        name: "idle",
        about: "CPU time and memory of `leakscope watch` at 1 Hz for 30 s, beside `top -b` at the same rate",
        run: Run::Live(idle::run),
    },
    Bench {
        name: "mixed",
        about: "ten minutes of this host with the lab, Node and a JVM on it: each verdict, and whether a recording repeats them",
        run: Run::Pure(mixed::run),
    },
    Bench {
        name: "zoo",
        about: "the same figures for a recording of real programs (`cargo xtask zoo` makes one)",
        run: Run::Pure(zoo::run),
    },
];

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let Some(name) = &arguments.name else {
        for bench in BENCHES {
            println!("{:<10} {}", bench.name, bench.about);
        }
        return Ok(());
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        let names = BENCHES.iter().map(|bench| bench.name).collect::<Vec<_>>().join(", ");
        bail!("there is no benchmark {name:?}\n  fix: take one of: {names}");
    };
    if let Run::Pure(run) = bench.run {
        return run(workspace, arguments);
    }
    if arguments.check || (matches!(bench.run, Run::Live(_)) && !arguments.options.is_empty()) {
        bail!("the benchmark {name} has no options of its own\n  fix: leave out --check and what follows --");
    }
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => build::release(workspace)?,
    };
    let privilege = Privilege::now();
    if privilege == Privilege::Root {
        return match bench.run {
            Run::Live(run) => run(&binary, arguments.runs),
            Run::Rows(run) => run(&binary, arguments.runs, &arguments.options),
            Run::Pure(run) => run(workspace, arguments),
        };
    }
    // xtask itself goes through sudo, not the measured programs: sudo would be measured with them.
    eprintln!("the benchmark {name} loads eBPF programs, which needs root: running it with sudo");
    let own = std::env::current_exe()?;
    let variables = [("CARGO_MANIFEST_DIR", workspace.root.join("xtask"))];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_os_str()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let variables = [variables[0], ("PATH", path.as_os_str())];
    let mut command = elevated(privilege, &format!("the benchmark {name}"), own.as_os_str(), &variables)?;
    let runs = arguments.runs.to_string();
    command.args([OsStr::new("bench"), name.as_ref(), "--runs".as_ref(), runs.as_ref(), "--binary".as_ref()]);
    command.arg(&binary);
    if !arguments.options.is_empty() {
        command.arg("--").args(&arguments.options);
    }
    run_command(&mut command)
}
