//! Packages of the distribution that are unpacked into `target/tools` and not installed: installing a server may start it,
//! and ask for root. What is on the PATH already serves as well.

use std::{ffi::OsStr, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{
    setup::State,
    workspace::{Privilege, Workspace, elevated, run},
};

/// The packages, each of which holds a program of its own name.
const PACKAGES: [&str; 2] = ["prometheus", "prometheus-process-exporter"];

pub const REMEDY: &str = "on Debian or Ubuntu: sudo apt-get update, then `cargo xtask setup` again, which needs apt-get and \
                          dpkg; elsewhere: put the programs prometheus and prometheus-process-exporter on the PATH";

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("prometheus")
}

fn missing(workspace: &Workspace) -> impl Iterator<Item = &'static str> {
    let unpacked = folder(workspace).join("usr/bin");
    PACKAGES.into_iter().filter(move |name| !unpacked.join(name).is_file() && which::which(name).is_err())
}

pub fn check(workspace: &Workspace) -> State {
    match missing(workspace).collect::<Vec<_>>() {
        none if none.is_empty() => State::Ready(PACKAGES.join(", ")),
        some => State::Missing(format!("{} not there", some.join(" and "))),
    }
}

/// Downloads what is missing and unpacks it.
pub fn install(workspace: &Workspace) -> Result<()> {
    let folder = folder(workspace);
    let packages = folder.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("making {}", packages.display()))?;
    for name in missing(workspace).collect::<Vec<_>>() {
        let mut download = Command::new("apt-get");
        download.args(["download", "-q", name]).current_dir(&packages);
        if run(&mut download).is_err() {
            // A fresh machine has no package lists, and an old one has lists of packages that are gone.
            let what = "fetching the package lists";
            run(elevated(Privilege::now(), what, OsStr::new("apt-get"), &[])?.args(["update", "-q"]))?;
            run(&mut download)?;
        }
    }
    let mut unpacked = 0;
    for package in fs::read_dir(&packages).with_context(|| format!("reading {}", packages.display()))? {
        run(Command::new("dpkg").arg("-x").arg(package?.path()).arg(&folder))?;
        unpacked += 1;
    }
    ensure!(unpacked > 0, "apt-get downloaded nothing");
    // The packages are in the way of the next download, of another version.
    fs::remove_dir_all(&packages).with_context(|| format!("removing {}", packages.display()))
}
