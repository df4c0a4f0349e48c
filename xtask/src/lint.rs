//! The rules that a tool can hold: formatting, clippy on the user side and on the kernel side, documentation, file
//! lengths. Every check runs, so that one run shows everything there is to mend. (The arrows between the modules are a unit
//! test, `arrows.rs`.)

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    clock::Stopwatch,
    setup::{self, Purpose},
    toolchain,
    workspace::{Workspace, run as run_command},
};

/// A file of more lines than this holds more than one thing.
const LONGEST_FILE: usize = 450;

type Check = fn(&Workspace) -> Result<()>;

const CHECKS: &[(&str, Check)] = &[
    ("formatting", formatting),
    ("clippy, user side", clippy_user),
    ("clippy, kernel side", clippy_kernel),
    ("arm64, both sides", arm64),
    ("documentation", documentation),
    ("file lengths", file_lengths),
];

/// What became of the checks.
pub struct Outcome {
    pub passed: usize,
    pub failed: Vec<String>,
}

pub fn run(workspace: &Workspace) -> Result<()> {
    setup::ensure(workspace, &[Purpose::Build, Purpose::Lint])?;
    let outcome = all(workspace);
    if outcome.failed.is_empty() {
        return Ok(());
    }
    bail!("lint: {} of {} checks failed: {}", outcome.failed.len(), CHECKS.len(), outcome.failed.join(", "));
}

/// Runs every check, for a machine that is set up.
pub fn all(workspace: &Workspace) -> Outcome {
    let mut outcome = Outcome { passed: 0, failed: Vec::new() };
    for (name, check) in CHECKS {
        let watch = Stopwatch::start();
        match check(workspace) {
            Ok(()) => {
                outcome.passed += 1;
                eprintln!("lint: {name} ... ok ({watch})");
            }
            Err(error) => {
                outcome.failed.push((*name).to_owned());
                eprintln!("lint: {name} ... FAILED ({watch}): {error:#}");
            }
        }
    }
    outcome
}

fn formatting(workspace: &Workspace) -> Result<()> {
    run_command(workspace.cargo("fmt").args(["--all", "--check"])).context("fix: cargo fmt --all")
}

fn clippy_user(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo("clippy");
    command.args(["--locked", "--keep-going", "--workspace", "--exclude", "leakscope-ebpf", "--all-targets"]);
    run_command(command.args(["--", "-D", "warnings"]))
}

/// With the flags that leakscope/build.rs (aya-build) compiles the kernel side with. Flags are part of what cargo calls
/// fresh, so this has a target directory of its own.
fn clippy_kernel(workspace: &Workspace) -> Result<()> {
    let target = if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
    let architecture = bpf_architecture(toolchain::host()?.architecture()).to_owned();
    let mut command = workspace.nightly("cargo");
    command.args([
        "clippy",
        "--locked",
        "--package",
        "leakscope-ebpf",
        "--lib",
        "--bins",
        "--target",
        target,
    ]);
    command.args(["-Z", "build-std=core", "--target-dir"]).arg(workspace.target.join("lint-kernel"));
    command.env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{architecture}\""));
    run_command(command.args(["--", "-D", "warnings"]))
}

/// Whether both sides compile for the other architecture of servers. Nothing of it is run here.
fn arm64(workspace: &Workspace) -> Result<()> {
    if !toolchain::has_target(toolchain::ARM64) {
        eprintln!("lint: {} is not installed: left out (fix: rustup target add {0})", toolchain::ARM64);
        return Ok(());
    }
    let mut command = workspace.cargo("check");
    command.args(["--locked", "--package", "leakscope", "--bins", "--target", toolchain::ARM64]);
    run_command(&mut command)
}

/// The name that aya gives the machine's architecture.
fn bpf_architecture(architecture: &str) -> &str {
    match architecture {
        riscv if riscv.starts_with("riscv64") => "riscv64",
        other => other,
    }
}

fn documentation(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo("doc");
    command.args([
        "--locked",
        "--workspace",
        "--exclude",
        "leakscope-ebpf",
        "--no-deps",
        "--document-private-items",
    ]);
    run_command(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn file_lengths(workspace: &Workspace) -> Result<()> {
    let mut files = Vec::new();
    sources(&workspace.root, &mut files)?;
    if files.is_empty() {
        bail!("there is no Rust file in {}", workspace.root.display());
    }
    let mut long = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            let name = file.strip_prefix(&workspace.root).unwrap_or(&file);
            long.push(format!("{} has {lines}", name.display()));
        }
    }
    if long.is_empty() {
        return Ok(());
    }
    bail!("more than {LONGEST_FILE} lines: {}\n  fix: divide them by what they do", long.join(", "))
}

/// The Rust files under `folder`, without what was built and what is hidden.
pub fn sources(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let kind = entry.file_type().with_context(|| format!("reading {}", path.display()))?;
        if kind.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, files)?;
        } else if kind.is_file() && name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_named_and_what_was_built_is_not_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: root.path().into(), target: root.path().join("target") };
        let long = "// a line\n".repeat(LONGEST_FILE + 1);
        fs::create_dir_all(root.path().join("target/debug")).unwrap();
        fs::create_dir_all(root.path().join("leakscope/src")).unwrap();
        fs::write(root.path().join("target/debug/made.rs"), &long).unwrap();
        fs::write(root.path().join("leakscope/src/short.rs"), "// a line\n").unwrap();
        file_lengths(&workspace).unwrap();
        fs::write(root.path().join("leakscope/src/long.rs"), &long).unwrap();
        let error = file_lengths(&workspace).unwrap_err().to_string();
        assert!(error.contains("leakscope/src/long.rs has 451") && !error.contains("made.rs"), "{error}");
    }
}
