//! The detector on synthetic processes: builds the package `leakscope-scoreboard` for release and runs it.
//!
//! No root, no eBPF: the detector is a function. Options after `--` go to the scoreboard: `--kinds`, `--seeds`, `--json`.

use anyhow::{Context as _, Result};

use super::Arguments;
use crate::{
    setup::{self, Purpose},
    workspace::{Workspace, artifacts, run as run_command},
};

const PACKAGE: &str = "leakscope-scoreboard";

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    setup::ensure(workspace, &[Purpose::Build])?;
    let mut build = workspace.cargo("build");
    build.args(["--locked", "--release", "--package", PACKAGE]);
    let built = artifacts(&mut build)?.into_iter().find(|artifact| artifact.name == PACKAGE);
    let built = built.with_context(|| format!("cargo built no program named {PACKAGE}"))?;
    let mut scoreboard = std::process::Command::new(built.executable);
    if arguments.check {
        scoreboard.arg("--check");
    }
    run_command(scoreboard.args(&arguments.options))
}
