//! Lints, unit tests, and the live tests on the running kernel and on others.
//!
//! The unit tier is every test outside the package `leakscope-tests`; the live tier is that package, run as root: by this
//! user where that is root, through sudo otherwise. A missing privilege fails the tier. The tier of virtual machines is
//! those live tests that need no more than busybox, on other kernels; where QEMU and the kernels cannot be had it is left
//! out, and that is said. All tiers run whatever became of the ones before, and a table at the end says so.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    build,
    clock::Stopwatch,
    lint,
    setup::{self, Purpose},
    vm,
    workspace::{Artifact, Privilege, Workspace, artifacts, elevated, shown},
};

/// The package of the live tests.
const LIVE: &str = "leakscope-tests";

#[derive(clap::Args)]
pub struct Arguments {
    /// Leave out the live tests, which need root
    #[arg(long)]
    quick: bool,
    /// Leave out formatting, clippy and documentation
    #[arg(long)]
    no_lint: bool,
    /// Only boot other kernels and run the live tests there: 5.10, 6.12-arm64, …, `newest`, or `all` that Debian has;
    /// without a name the usual five
    #[arg(long, num_args = 0.., value_name = "SERIES", conflicts_with_all = ["quick", "no_vm"])]
    vm: Option<Vec<String>>,
    /// Leave out the virtual machines
    #[arg(long)]
    no_vm: bool,
    /// With --vm: keep what the kernels say of their tracepoints, and write the table of supported kernels
    #[arg(long, requires = "vm", conflicts_with_all = ["plant", "filter"])]
    record: bool,
    /// With --vm: plant a fault, to see how it is told: failing-test:SERIES, panic:SERIES, hang:SERIES
    #[arg(long, requires = "vm", hide = true)]
    plant: Vec<vm::Planted>,
    /// Only the tests whose name contains this; passed to the test executables
    #[arg(last = true)]
    filter: Vec<String>,
}

/// What a tier came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Count {
    /// Adds what one line of libtest's output says.
    fn add_line(&mut self, line: &str) {
        let Some(results) = line.strip_prefix("test result: ") else { return };
        let of = |what: &str| {
            results
                .split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<usize>().ok())
        };
        self.passed += of("passed").unwrap_or(0);
        self.failed += of("failed").unwrap_or(0);
        self.ignored += of("ignored").unwrap_or(0);
    }

    /// A program that failed without telling of a failed test (it did not compile, it crashed) is one failure.
    fn finish(&mut self, succeeded: bool, failed_before: usize) {
        if !succeeded && self.failed == failed_before {
            self.failed += 1;
        }
    }
}

struct Tier {
    name: &'static str,
    count: Count,
    seconds: f64,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let wanted = vm::Wanted {
        series: arguments.vm.as_deref().unwrap_or_default(),
        filter: &arguments.filter,
        planted: &arguments.plant,
        record: arguments.record,
    };
    if arguments.vm.is_some() {
        let matrix = vm::run(workspace, &vm::prepare(workspace, &wanted)?, &wanted)?;
        println!("\n{}", matrix.table());
        let (passed, failed) = matrix.counts();
        println!("{passed} passed, {failed} failed");
        let wrong = matrix.wrong();
        ensure!(wrong.is_empty(), "not every test passed on {}", wrong.join(", "));
        return Ok(());
    }
    let mut purposes = vec![Purpose::Build, Purpose::Lab];
    if !arguments.no_lint {
        purposes.push(Purpose::Lint);
    }
    if !arguments.quick {
        purposes.push(Purpose::Live);
    }
    setup::ensure(workspace, &purposes)?;
    let mut tiers = Vec::new();
    if !arguments.no_lint {
        tiers.push(timed("lint", || {
            let outcome = lint::all(workspace);
            Ok(Count { passed: outcome.passed, failed: outcome.failed.len(), ignored: 0 })
        }));
    }
    tiers.push(timed("unit", || unit(workspace, &arguments.filter)));
    if !arguments.quick {
        tiers.push(timed("live", || live(workspace, &arguments.filter)));
    }
    let left_out = if arguments.quick {
        Some("live, vm   left out (--quick)".to_owned())
    } else if arguments.no_vm {
        Some("vm   left out (--no-vm)".to_owned())
    } else if !arguments.filter.is_empty() {
        Some("vm   left out: some tests were named (with --vm they run there)".to_owned())
    } else {
        match vm::prepare(workspace, &wanted) {
            Err(error) if error.is::<vm::Unavailable>() => Some(format!("vm   left out: {error:#}")),
            ready => {
                tiers.push(timed("vm", || machines(workspace, &ready?, &wanted)));
                None
            }
        }
    };
    print(&tiers, left_out.as_deref());
    let failed: usize = tiers.iter().map(|tier| tier.count.failed).sum();
    let ran =
        tiers.iter().filter(|tier| tier.name != "lint").map(|tier| tier.count.passed + tier.count.failed);
    ensure!(ran.sum::<usize>() > 0, "no test was run: none is named like {:?}", arguments.filter.join(" "));
    ensure!(failed == 0, "{failed} failed");
    Ok(())
}

fn timed(name: &'static str, tier: impl FnOnce() -> Result<Count>) -> Tier {
    eprintln!("== {name}");
    let watch = Stopwatch::start();
    let count = tier().unwrap_or_else(|error| {
        eprintln!("error: {name}: {error:#}");
        Count { failed: 1, ..Count::default() }
    });
    Tier { name, count, seconds: watch.elapsed().as_secs_f64() }
}

fn unit(workspace: &Workspace, filter: &[String]) -> Result<Count> {
    let mut command = workspace.cargo("test");
    command.args([
        "--locked",
        "--no-fail-fast",
        "--workspace",
        "--exclude",
        "leakscope-ebpf",
        "--exclude",
        LIVE,
    ]);
    command.arg("--").args(filter);
    let mut count = Count::default();
    counted(&mut command, &mut count)?;
    Ok(count)
}

fn live(workspace: &Workspace, filter: &[String]) -> Result<Count> {
    let privilege = Privilege::now();
    match privilege {
        Privilege::Root => {}
        Privilege::Sudo => eprintln!("the live tests need root: running them with sudo"),
        Privilege::None => bail!(
            "the live tests need root, and there is no sudo\n  fix: run `cargo xtask test` as root or install sudo \
             (`cargo xtask test --quick` leaves the live tests out)"
        ),
    }
    let leakscope = build::debug(workspace)?;
    let executables = artifacts(workspace.cargo("test").args(["--locked", "--no-run", "--package", LIVE]))?;
    let package = workspace.root.join("tests");
    let mut count = Count::default();
    for test in executables.into_iter().filter(|artifact| artifact.is_test) {
        eprintln!("-- live: {}", test.name);
        counted(&mut live_command(privilege, &test, &package, &leakscope, filter)?, &mut count)?;
    }
    ensure!(count != Count::default() || !filter.is_empty(), "the package {LIVE} holds no test");
    Ok(count)
}

fn machines(workspace: &Workspace, ready: &vm::Ready, wanted: &vm::Wanted<'_>) -> Result<Count> {
    let matrix = vm::run(workspace, ready, wanted)?;
    println!("\n{}", matrix.table());
    let (passed, failed) = matrix.counts();
    Ok(Count { passed, failed, ignored: 0 })
}

/// A live test executable as `cargo test` would run it, but as root. One test at a time: they all look at the one host,
/// and each wants its own leak to be the only one.
fn live_command(
    privilege: Privilege,
    test: &Artifact,
    package: &Path,
    leakscope: &Path,
    filter: &[String],
) -> Result<Command> {
    let variables: [(&str, &OsStr); 2] =
        [("LEAKSCOPE_BIN", leakscope.as_os_str()), ("CARGO_MANIFEST_DIR", package.as_os_str())];
    let mut command = elevated(privilege, "the live tests", test.executable.as_os_str(), &variables)?;
    command.arg("--test-threads=1").args(filter).current_dir(package);
    Ok(command)
}

/// Runs libtest's executables, showing what they print and counting the results.
fn counted(command: &mut Command, count: &mut Count) -> Result<()> {
    let failed_before = count.failed;
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting `{}`", shown(command)))?;
    let stdout = child.stdout.take().context("the tests' output was not piped")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("reading the tests' output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        count.add_line(&line);
    }
    let status = child.wait().context("waiting for the tests")?;
    count.finish(status.success(), failed_before);
    Ok(())
}

fn print(tiers: &[Tier], left_out: Option<&str>) {
    println!("\n{:<6} {:>7} {:>7} {:>8} {:>9}", "tier", "passed", "failed", "ignored", "seconds");
    for Tier { name, count, seconds } in tiers {
        println!("{name:<6} {:>7} {:>7} {:>8} {seconds:>9.1}", count.passed, count.failed, count.ignored);
    }
    if let Some(left_out) = left_out {
        println!("{left_out}");
    }
    let sum = |of: fn(&Count) -> usize| tiers.iter().map(|tier| of(&tier.count)).sum::<usize>();
    println!("\n{} passed, {} failed", sum(|count| count.passed), sum(|count| count.failed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_several_executables_add_up() {
        let mut count = Count::default();
        count.add_line(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.02s",
        );
        count.add_line("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.5s");
        count.add_line("test a_test_that_says_5 passed ... ok");
        assert_eq!(count, Count { passed: 15, failed: 2, ignored: 1 });
    }

    #[test]
    fn a_program_that_crashes_before_its_result_is_a_failure() {
        let mut count = Count { passed: 4, failed: 1, ignored: 0 };
        count.finish(false, 1);
        assert_eq!(count.failed, 2);
        count.finish(false, 1);
        assert_eq!(count.failed, 2, "failures that were told are not counted twice");
        count.finish(true, 2);
        assert_eq!(count.failed, 2);
    }

    #[test]
    fn a_crashing_executable_fails_and_what_it_prints_is_counted() {
        let mut count = Count::default();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; kill -SEGV $$"]);
        counted(&mut shell, &mut count).unwrap();
        assert_eq!(count, Count { passed: 2, failed: 1, ignored: 0 });
    }

    #[test]
    fn live_tests_run_one_at_a_time_with_the_binary_named_even_through_sudo() {
        let test = Artifact { name: "kill".into(), executable: "/t/kill-1".into(), is_test: true };
        let filter = ["pid_reuse".to_owned()];
        let command =
            live_command(Privilege::Sudo, &test, Path::new("/w/tests"), Path::new("/t/leakscope"), &filter)
                .unwrap();
        assert_eq!(
            shown(&command),
            "sudo env LEAKSCOPE_BIN=/t/leakscope CARGO_MANIFEST_DIR=/w/tests /t/kill-1 --test-threads=1 pid_reuse"
        );
        assert_eq!(command.get_current_dir(), Some(Path::new("/w/tests")));
    }
}
