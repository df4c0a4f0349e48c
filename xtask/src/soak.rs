//! leakscope for as long as one likes, at work: `leakscope-tests`' program `soak` watches it, and says whether it grew.
//!
//! A minute of the same is one of the live tests.

use std::ffi::OsStr;

use anyhow::{Context as _, Result};

use crate::{
    build,
    workspace::{Privilege, Workspace, artifacts, elevated, run as run_command},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// How long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// Set this host's clock back an hour every quarter of a minute, for two seconds each, and put it right at the end
    #[arg(long)]
    jump_clocks: bool,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let leakscope = build::release(workspace)?;
    let mut build = workspace.cargo("build");
    build.args([
        "--locked",
        "--release",
        "--package",
        "leakscope-tests",
        "--bin",
        "soak",
        "--bin",
        "obedient",
    ]);
    let built = artifacts(&mut build)?.into_iter().find(|artifact| artifact.name == "soak");
    let soak = built.context("cargo built no program named soak")?.executable;
    let variables: [(&str, &OsStr); 1] = [("LEAKSCOPE_BIN", leakscope.as_os_str())];
    let mut command = elevated(Privilege::now(), "the soak", soak.as_os_str(), &variables)?;
    command.arg(arguments.minutes.to_string());
    if arguments.jump_clocks {
        command.arg("--jump-clocks");
    }
    run_command(&mut command)
}
