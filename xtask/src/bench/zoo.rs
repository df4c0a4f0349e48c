//! The detector on real programs: builds `leakscope-zoo-score` for release and judges a recording of the zoo with it.
//!
//! No root, no eBPF: what was observed is in the recording, and what is true of it beside it.

use anyhow::{Context as _, Result};

use super::Arguments;
use crate::{
    setup::{self, Purpose},
    workspace::{Workspace, artifacts, run as run_command},
};

const PROGRAM: &str = "leakscope-zoo-score";

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    setup::ensure(workspace, &[Purpose::Build])?;
    let mut build = workspace.cargo("build");
    build.args(["--locked", "--release", "--package", "leakscope-scoreboard", "--bin", PROGRAM]);
    let built = artifacts(&mut build)?.into_iter().find(|artifact| artifact.name == PROGRAM);
    let built = built.with_context(|| format!("cargo built no program named {PROGRAM}"))?;
    let kept = workspace.root.join("tests/recordings/zoo.leakscope");
    let recording = arguments.recording.as_ref().unwrap_or(&kept);
    run_command(std::process::Command::new(built.executable).arg(recording).args(&arguments.options))
}
