//! The lab: builds the release binary and becomes `leakscope demo`, as root.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};

use crate::{
    build,
    setup::{self, Purpose},
    workspace::{Privilege, Workspace, elevated, shown},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Passed to `leakscope demo` (see `-- --help`)
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    setup::ensure(workspace, &[Purpose::Lab])?;
    let binary = build::release(workspace)?;
    let privilege = Privilege::now();
    if privilege == Privilege::Sudo {
        eprintln!("the demo loads eBPF programs, which needs root: running it with sudo");
    }
    let mut command = elevated(privilege, "the demo", binary.as_os_str(), &[])?;
    command.arg("demo").args(&arguments.arguments);
    // In its place, not as its parent: Ctrl-C reaches the one that has to clean up, and the exit status is its own.
    Err(command.exec()).with_context(|| format!("starting `{}`", shown(&command)))
}
