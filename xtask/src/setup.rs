//! What a machine needs, checked and got step by step.
//!
//! A step is a check that needs no network, a repair, and the command that a person would type instead. All checks run
//! each time, so a second set-up does nothing; a set-up of a finished machine works offline. What only some commands need
//! is asked for by those ([`Purpose`]). Start reading at [`STEPS`].

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{
    clock::Stopwatch,
    linker,
    packages::{self, Package},
    toolchain, unpacked,
    workspace::{Workspace, output, run as run_command, shown},
};

/// What a check found.
#[derive(Debug)]
pub enum State {
    /// Nothing to do, and what is there.
    Ready(String),
    /// What is wrong.
    Missing(String),
}

/// What the set-up is for; a command may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Build,
    Release,
    Lint,
    /// Running real leaking programs.
    Lab,
    /// The live tests, which run leaking programs of several languages.
    Live,
    /// Machines with other kernels and another processor.
    Machines,
}

struct Step {
    name: &'static str,
    needed_by: &'static [Purpose],
    /// What is lost without it, where one can do without.
    optional: Option<&'static str>,
    check: fn(&Workspace) -> State,
    repair: fn(&Workspace) -> Result<()>,
    remedy: fn(&Workspace) -> String,
}

use Purpose::{Build, Lab, Lint, Live, Machines, Release};

const STEPS: &[Step] = &[
    Step {
        name: "rustup",
        needed_by: &[Build, Release, Lint, Lab],
        optional: None,
        check: check_rustup,
        repair: |_| bail!("it is not for a build to change where Rust comes from"),
        remedy: |_| {
            "install rustup (https://rustup.rs, or the distribution's package `rustup`); it can live beside the \
             distribution's Rust, and the kernel side cannot be built without a nightly"
                .to_owned()
        },
    },
    Step {
        name: "Rust for the user side",
        needed_by: &[Build, Release, Lint, Lab],
        optional: None,
        check: check_host,
        repair: |_| rustup(&["update", "stable"]),
        remedy: |_| "rustup update stable && rustup default stable".to_owned(),
    },
    Step {
        name: "C linker (cc)",
        needed_by: &[Build, Release, Lint, Lab],
        optional: None,
        check: |_| program("cc"),
        repair: |_| packages::install(Package::CLinker),
        remedy: |_| packages::remedy(Package::CLinker),
    },
    Step {
        name: "clippy and rustfmt",
        needed_by: &[Lint],
        optional: None,
        check: |_| host_components(),
        repair: |_| rustup(&["component", "add", "clippy", "rustfmt"]),
        remedy: |_| "rustup component add clippy rustfmt".to_owned(),
    },
    Step {
        name: "Rust for the kernel side (nightly)",
        needed_by: &[Build, Release, Lint, Lab],
        optional: None,
        check: |workspace| match toolchain::nightly(workspace) {
            Ok(version) => State::Ready(format!("{}, LLVM {}", version.release, version.llvm)),
            Err(error) => State::Missing(format!("{error:#}")),
        },
        repair: |_| rustup(NIGHTLY),
        remedy: |_| typed(NIGHTLY),
    },
    Step {
        name: "rust-src for nightly",
        needed_by: &[Build, Release, Lint, Lab],
        optional: None,
        check: check_rust_src,
        repair: |_| rustup(RUST_SRC),
        remedy: |_| typed(RUST_SRC),
    },
    Step {
        name: "clippy for nightly",
        needed_by: &[Lint],
        optional: None,
        check: |workspace| from_output(workspace.nightly("cargo-clippy").arg("--version")),
        repair: |_| rustup(NIGHTLY_CLIPPY),
        remedy: |_| typed(NIGHTLY_CLIPPY),
    },
    Step {
        name: "bpf-linker for nightly's LLVM",
        needed_by: &[Build, Release, Lint, Lab],
        optional: None,
        check: linker::check,
        repair: linker::install,
        remedy: linker::remedy,
    },
    Step {
        name: "arm64 target",
        needed_by: &[Lint, Machines],
        optional: Some("lint does not compile for arm64, and there can be no machine of it"),
        check: |_| match toolchain::has_target(toolchain::ARM64) {
            true => State::Ready(toolchain::ARM64.to_owned()),
            false => State::Missing(format!("{} is not installed", toolchain::ARM64)),
        },
        repair: |_| rustup(&["target", "add", toolchain::ARM64]),
        remedy: |_| typed(&["target", "add", toolchain::ARM64]),
    },
    Step {
        name: "musl target",
        needed_by: &[Release, Machines],
        optional: Some(
            "a release build needs this machine's glibc or a newer one, and there can be no machines",
        ),
        check: |_| check_musl(),
        repair: |_| rustup(&["target", "add", &toolchain::musl(&toolchain::host()?)]),
        remedy: |_| match toolchain::host() {
            Ok(host) => typed(&["target", "add", &toolchain::musl(&host)]),
            Err(error) => format!("{error:#}"),
        },
    },
    Step {
        name: "python3 for the lab",
        needed_by: &[Lab, Live],
        optional: None,
        check: |_| program("python3"),
        repair: |_| packages::install(Package::Python),
        remedy: |_| packages::remedy(Package::Python),
    },
    Step {
        name: "node for the live tests",
        needed_by: &[Live],
        optional: None,
        check: |_| program("node"),
        repair: |_| packages::install(Package::Node),
        remedy: |_| packages::remedy(Package::Node),
    },
    Step {
        name: "Prometheus and its process-exporter",
        needed_by: &[Live],
        optional: None,
        check: unpacked::check,
        repair: unpacked::install,
        remedy: |_| unpacked::REMEDY.to_owned(),
    },
];

const NIGHTLY: &[&str] = &["toolchain", "install", "nightly", "--profile", "minimal"];
const RUST_SRC: &[&str] = &["component", "add", "rust-src", "--toolchain", "nightly"];
const NIGHTLY_CLIPPY: &[&str] = &["component", "add", "clippy", "--toolchain", "nightly"];

/// `cargo xtask setup`: all steps, each shown.
pub fn run(workspace: &Workspace) -> Result<()> {
    carry_out(workspace, STEPS.iter().collect(), true)
}

/// What the other commands start with: only the steps for `purposes`, and silent about what is there.
pub fn ensure(workspace: &Workspace, purposes: &[Purpose]) -> Result<()> {
    carry_out(workspace, wanted(purposes), false)
}

fn wanted(purposes: &[Purpose]) -> Vec<&'static Step> {
    STEPS.iter().filter(|step| step.needed_by.iter().any(|purpose| purposes.contains(purpose))).collect()
}

fn carry_out(workspace: &Workspace, steps: Vec<&Step>, shows_ready: bool) -> Result<()> {
    let watch = Stopwatch::start();
    let count = steps.len();
    for (index, step) in steps.into_iter().enumerate() {
        let head = format!("[{}/{count}] {}", index + 1, step.name);
        match (step.check)(workspace) {
            State::Ready(detail) if shows_ready => eprintln!("{head}: {detail}"),
            State::Ready(_) => {}
            State::Missing(why) => {
                eprintln!("{head}: {why}; getting it");
                get(workspace, step, &head)?;
            }
        }
    }
    eprintln!("set-up: {count} steps checked, {watch}");
    Ok(())
}

fn get(workspace: &Workspace, step: &Step, head: &str) -> Result<()> {
    let watch = Stopwatch::start();
    let got = (step.repair)(workspace).and_then(|()| match (step.check)(workspace) {
        State::Ready(detail) => Ok(detail),
        State::Missing(why) => bail!("still not there: {why}"),
    });
    match (got, step.optional) {
        (Ok(detail), _) => eprintln!("{head}: {detail} ({watch})"),
        (Err(error), Some(loss)) => {
            eprintln!("warning: {}: {error:#}", step.name);
            eprintln!("  without it {loss}");
            eprintln!("  fix: {}", (step.remedy)(workspace));
        }
        (Err(error), None) => {
            return Err(error)
                .with_context(|| format!("set-up: {}", step.name))
                .map_err(|error| anyhow::anyhow!("{error:#}\n  fix: {}", (step.remedy)(workspace)));
        }
    }
    Ok(())
}

fn rustup(arguments: &[&str]) -> Result<()> {
    run_command(Command::new("rustup").args(arguments))
}

fn typed(arguments: &[&str]) -> String {
    shown(Command::new("rustup").args(arguments))
}

fn from_output(command: &mut Command) -> State {
    match output(command) {
        Ok(said) => State::Ready(said.lines().next().unwrap_or_default().to_owned()),
        Err(error) => State::Missing(format!("{error:#}")),
    }
}

fn program(name: &str) -> State {
    match which::which(name) {
        Ok(path) => State::Ready(path.display().to_string()),
        Err(_) => State::Missing(format!("there is no `{name}` in PATH")),
    }
}

fn check_rustup(_: &Workspace) -> State {
    match from_output(Command::new("rustup").arg("--version")) {
        State::Missing(_) => State::Missing("Rust does not come from rustup here".to_owned()),
        ready => ready,
    }
}

fn check_host(_: &Workspace) -> State {
    let minimum = env!("CARGO_PKG_RUST_VERSION");
    match toolchain::host() {
        Ok(version) if version.is_at_least(minimum) => {
            State::Ready(format!("{}, {minimum} is enough", version.release))
        }
        Ok(version) => State::Missing(format!("{} is older than {minimum}", version.release)),
        Err(error) => State::Missing(format!("{error:#}")),
    }
}

fn host_components() -> State {
    let [fmt, clippy] =
        ["fmt", "clippy"].map(|name| from_output(Command::new("cargo").args([name, "--version"])));
    match (fmt, clippy) {
        (State::Ready(fmt), State::Ready(clippy)) => State::Ready(format!("{clippy}, {fmt}")),
        (missing @ State::Missing(_), _) | (_, missing) => missing,
    }
}

fn check_rust_src(workspace: &Workspace) -> State {
    match toolchain::nightly_sysroot(workspace) {
        Ok(sysroot) if sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file() => {
            State::Ready("the source of `core` is there".to_owned())
        }
        Ok(sysroot) => State::Missing(format!("{} has no source of `core`", sysroot.display())),
        Err(error) => State::Missing(format!("{error:#}")),
    }
}

fn check_musl() -> State {
    match toolchain::host().map(|host| toolchain::musl(&host)) {
        Ok(target) if toolchain::has_target(&target) => State::Ready(target),
        Ok(target) => State::Missing(format!("{target} is not installed")),
        Err(error) => State::Missing(format!("{error:#}")),
    }
}
