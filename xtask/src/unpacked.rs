//! Packages of the distribution that are unpacked into `target/tools` and not installed: installing a server may start it,
//! and ask for root. What is on the PATH already serves as well.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    setup::State,
    workspace::{Privilege, Workspace, elevated, output, run},
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
    unpack(&folder(workspace), &missing(workspace).collect::<Vec<_>>())
}

/// A program of [`PACKAGES`], unpacked first where it is missing.
pub fn program(workspace: &Workspace, name: &'static str) -> Result<PathBuf> {
    if let Ok(path) = which::which(name) {
        return Ok(path);
    }
    let unpacked = folder(workspace).join("usr/bin").join(name);
    if !unpacked.is_file() {
        unpack(&folder(workspace), &[name])?;
    }
    ensure!(unpacked.is_file(), "its package holds no {name}");
    Ok(unpacked)
}

/// The headers of the distribution's own kernel in one tree, and the packages they are of: for what compiles against
/// kernel headers on a kernel that has none.
pub fn kernel_headers(workspace: &Workspace) -> Result<(PathBuf, String)> {
    let folder = workspace.tools().join("kernel-headers");
    let (tree, stamp) = (folder.join("tree"), folder.join("packages.txt"));
    if let Ok(packages) = fs::read_to_string(&stamp) {
        return Ok((tree, packages));
    }
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    // What Debian calls it, and what Ubuntu does.
    let names = [format!("linux-headers-{}", architecture.trim()), "linux-headers-generic".to_owned()];
    let packages = names.iter().find_map(|name| {
        let mut depends = Command::new("apt-cache");
        depends.args(["depends", "--recurse", "--important", name]);
        let packages = output(&mut depends).ok()?;
        let packages = packages.lines().filter(|line| line.starts_with("linux-headers-") && line != name);
        Some(packages.map(str::to_owned).collect::<Vec<_>>()).filter(|packages| !packages.is_empty())
    });
    let packages = packages.context("the distribution has no package of kernel headers")?;
    unpack(&folder, &packages.iter().map(String::as_str).collect::<Vec<_>>())?;
    fs::create_dir_all(&tree)?;
    for package in fs::read_dir(folder.join("usr/src"))? {
        let package = package?.path();
        // Links from one package into the other lead nowhere in a tree of both.
        let parts =
            ["include", "arch"].map(|part| package.join(part)).into_iter().filter(|part| part.is_dir());
        run(Command::new("cp").arg("-rL").args(parts).arg(&tree))?;
    }
    let packages = packages.join(", ");
    fs::write(&stamp, &packages).with_context(|| format!("writing {}", stamp.display()))?;
    Ok((tree, packages))
}

fn unpack(folder: &Path, names: &[&str]) -> Result<()> {
    let packages = folder.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("making {}", packages.display()))?;
    for name in names {
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
        run(Command::new("dpkg").arg("-x").arg(package?.path()).arg(folder))?;
        unpacked += 1;
    }
    ensure!(unpacked > 0, "apt-get downloaded nothing");
    // The packages are in the way of the next download, of another version.
    fs::remove_dir_all(&packages).with_context(|| format!("removing {}", packages.display()))
}
