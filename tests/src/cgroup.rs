//! Cgroups with a memory limit, of version 1 or 2, whichever counts memory here; gone when the test lets go of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::command::pause;

/// A cgroup with a memory limit.
#[derive(Debug)]
pub struct SmallGroup {
    folder: PathBuf,
    /// Its path in the hierarchy.
    path: String,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl SmallGroup {
    /// Makes one directly below the root; `limit` in bytes.
    ///
    /// # Errors
    /// Without root, or where no hierarchy limits memory.
    pub fn new(name: &str, limit: u64) -> Result<Self> {
        let (v1, v2) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
        let (root, version) = if v1.join("memory.limit_in_bytes").exists() {
            (v1, Version::V1)
        } else if v2.join("cgroup.controllers").exists() {
            (v2, Version::V2)
        } else {
            bail!(
                "neither cgroup hierarchy offers a memory limit at /sys/fs/cgroup: this test cannot run here"
            )
        };
        Self::within(root, "", &format!("leakscope-test-{}-{name}", std::process::id()), version, limit)
    }

    /// Makes one within this one, which then must not have processes of its own.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn child(&self, name: &str, limit: u64) -> Result<Self> {
        Self::within(&self.folder, &self.path, name, self.version, limit)
    }

    fn within(parent: &Path, path: &str, name: &str, version: Version, limit: u64) -> Result<Self> {
        if version == Version::V2 {
            fs::write(parent.join("cgroup.subtree_control"), "+memory").context("enabling +memory")?;
        }
        let group = Self { folder: parent.join(name), path: format!("{path}/{name}"), version };
        fs::create_dir(&group.folder).with_context(|| format!("making {}", group.folder.display()))?;
        // Without a limit for swap it would be swapped out instead of killed; there may be no swap accounting.
        let (memory, swap, no_swap) = match version {
            Version::V1 => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit.to_string()),
            Version::V2 => ("memory.max", "memory.swap.max", "0".to_owned()),
        };
        fs::write(group.folder.join(memory), limit.to_string())?;
        let _ = fs::write(group.folder.join(swap), no_swap);
        Ok(group)
    }

    /// Its path in the hierarchy, as leakscope names its limit.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file that takes a pid to be moved here.
    pub fn procs(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// What it is charged for in bytes, page cache left out that reclaim can drop.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn used(&self) -> Result<u64> {
        let (usage, prefix) = match self.version {
            Version::V1 => ("memory.usage_in_bytes", "total_"),
            Version::V2 => ("memory.current", ""),
        };
        let usage: u64 = fs::read_to_string(self.folder.join(usage))?.trim().parse()?;
        let stat = fs::read_to_string(self.folder.join("memory.stat"))?;
        let cache = ["inactive_file", "active_file"].map(|name| {
            let name = format!("{prefix}{name} ");
            let value = stat.lines().find_map(|line| line.strip_prefix(&name));
            value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
        });
        Ok(usage.saturating_sub(cache.iter().sum()))
    }
}

impl Drop for SmallGroup {
    fn drop(&mut self) {
        // A process that was just killed may not have left it yet.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            pause(std::time::Duration::from_millis(20));
        }
    }
}
