//! A process's own cgroup of version 2: one that holds nobody else.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::process::{Limits, ProcRoot};
use crate::units::Pid;

/// A cgroup: one that is made anew under the same path is another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its directory.
    pub directory: PathBuf,
    /// The directory's inode.
    pub inode: u64,
}

/// The process's cgroup v2, when there is nobody else in it or below.
pub(super) fn own_cgroup(proc: &ProcRoot, pid: Pid) -> Result<Group, String> {
    let find = || Ok(Limits::discover(proc)?.unified(&proc.membership(pid)?));
    let found = find().map_err(|error: io::Error| format!("its cgroup cannot be read: {error}"))?;
    let directory = found.ok_or("it is in no cgroup of version 2 but the root")?;
    let inode = fs::metadata(&directory).map_err(|error| format!("{}: {error}", directory.display()))?.ino();
    let group = Group { directory, inode };
    alone_in(&group, pid).map(|()| group)
}

/// Whether a process is in a cgroup, and the only one in it and below it.
pub(super) fn alone_in(group: &Group, pid: Pid) -> Result<(), String> {
    let shown = group.directory.display();
    if !group.is_there() {
        return Err(format!("the cgroup {shown} is gone"));
    }
    let procs = read(&group.directory, "cgroup.procs")?;
    let own = pid.to_string();
    let others = procs.lines().filter(|line| line.trim() != own).count();
    if others > 0 {
        return Err(format!("it shares the cgroup {shown} with {others} other processes"));
    }
    if procs.trim().is_empty() {
        return Err(format!("it is not in the cgroup {shown} any more"));
    }
    let entries = fs::read_dir(&group.directory).map_err(|error| format!("{shown}: {error}"))?;
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir()) {
        let events = fs::read_to_string(entry.path().join("cgroup.events")).unwrap_or_default();
        if !events.lines().any(|line| line == "populated 0") {
            return Err(format!("there are others in {}", entry.path().display()));
        }
    }
    Ok(())
}

impl Group {
    /// Whether this very cgroup is still there.
    pub(super) fn is_there(&self) -> bool {
        fs::metadata(&self.directory).is_ok_and(|now| now.ino() == self.inode)
    }
}

/// One of a cgroup's files, without the line's end.
pub(super) fn read(directory: &Path, name: &str) -> Result<String, String> {
    let path = directory.join(name);
    fs::read_to_string(&path)
        .map(|text| text.trim().to_owned())
        .map_err(|error| format!("{}: {error}", path.display()))
}
