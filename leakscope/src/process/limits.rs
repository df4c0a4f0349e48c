//! How much more a process may take: under the limit of every cgroup above it, and under the host's.
//!
//! Page cache on the file lists is not counted as used: reclaim drops it before it kills. (It is `inactive_file` and
//! `active_file`; shared memory stands on the anonymous lists and is counted.) `memory.high` counts as a limit: past
//! it the kernel throttles a process until it hardly runs. Swap that the cgroup may still use counts as room.
//! Which limit is reached first depends on who else grows under it, which is the monitor's to know. Start reading at
//! [`Limits::rooms`].

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use procfs::FromBufRead;
use procfs::process::MountInfos;

use super::cgroup::Membership;
use super::read::ProcRoot;
use crate::leak::{Limit, Room};
use crate::units::{Bytes, Pid};

/// v1 writes "no limit" as the largest page-aligned number; nothing real comes near the half of it.
const UNLIMITED: u64 = 1 << 62;
/// More mounts of cgroup hierarchies than this are not looked at.
const MAX_MOUNTS: usize = 64;
/// More limits than this above one process are not told: of those the innermost, and cgroups are seldom ten deep.
pub(crate) const MAX_LEVELS: usize = 32;

/// The host's memory, as far as limits go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `MemTotal` and `SwapTotal` together.
    pub size: Bytes,
    /// `MemAvailable`.
    pub available: Bytes,
    /// `SwapFree`.
    pub swap_free: Bytes,
}

impl Host {
    /// The room that the host itself leaves, whatever a cgroup allows.
    pub fn room(&self) -> Room {
        Room { limit: Limit::Host, size: self.size, left: self.available + self.swap_free }
    }
}

/// Reads limits; what it read of a cgroup it keeps until [`Limits::new_round`], as many processes share it.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    mounts: Vec<Mount>,
    /// By directory, and whether it was a process's own cgroup rather than one above.
    round: HashMap<(PathBuf, bool), Option<Level>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A mounted hierarchy that may limit memory.
#[derive(Clone, Debug)]
struct Mount {
    version: Version,
    /// Which cgroup is mounted: `/` unless a runtime mounted a container's own.
    root: String,
    point: PathBuf,
}

/// One cgroup's limit and what is left under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    size: Bytes,
    left: Bytes,
}

impl Limits {
    /// Finds the mounted hierarchies.
    ///
    /// # Errors
    /// When `/proc/self/mountinfo` cannot be read.
    pub fn discover(proc: &ProcRoot) -> io::Result<Self> {
        let text = std::fs::read(proc.path().join("self/mountinfo"))?;
        let text = String::from_utf8_lossy(&text);
        // Line by line: a mount that the parser does not understand must not hide the cgroups.
        let parsed = text.lines().filter_map(|line| MountInfos::from_buf_read(line.as_bytes()).ok());
        let mounts = parsed.flat_map(|MountInfos(mounts)| mounts).filter_map(|mount| {
            let version = match mount.fs_type.as_str() {
                "cgroup2" => Version::V2,
                "cgroup" if mount.super_options.contains_key("memory") => Version::V1,
                _ => return None,
            };
            Some(Mount { version, root: mount.root, point: mount.mount_point })
        });
        Ok(Self { mounts: mounts.take(MAX_MOUNTS).collect(), round: HashMap::new() })
    }

    /// Forgets what was read of cgroups: to be called once for each batch.
    pub fn new_round(&mut self) {
        self.round.clear();
    }

    /// The limits of the cgroups above a process, the innermost first. An outer one that leaves more is told as well:
    /// many that grow may share it.
    ///
    /// # Errors
    /// When the process's cgroups cannot be read ([`super::vanished`] when it is gone).
    pub fn rooms(&mut self, proc: &ProcRoot, pid: Pid, host: &Host) -> io::Result<Vec<Room>> {
        Ok(self.rooms_in(&proc.membership(pid)?, host))
    }

    /// The limits above a place in the hierarchies. Those that cannot be seen from here, as from within a container, are
    /// not known.
    pub fn rooms_in(&mut self, membership: &Membership, host: &Host) -> Vec<Room> {
        let mut rooms = Vec::new();
        let Some((version, path, directories)) = self.directories(membership) else {
            return rooms;
        };
        let mut path = Path::new(path);
        let mut innermost = true;
        for directory in directories {
            let level = *self
                .round
                .entry((directory, innermost))
                .or_insert_with_key(|(directory, innermost)| level(version, directory, host, *innermost));
            innermost = false;
            if let Some(Level { size, left }) = level {
                rooms.push(Room { limit: Limit::Cgroup(path.display().to_string()), size, left });
            }
            if rooms.len() == MAX_LEVELS {
                break;
            }
            path = path.parent().unwrap_or(path);
        }
        rooms
    }

    /// The directory of a process's own cgroup, in the hierarchy that counts its memory. It stays when the process
    /// is gone.
    pub fn directory(&self, membership: &Membership) -> Option<PathBuf> {
        self.directories(membership)?.2.into_iter().next()
    }

    /// The directory of a process's own cgroup of version 2, whoever counts its memory; `None` for the root, which stands
    /// for the host.
    pub fn unified(&self, membership: &Membership) -> Option<PathBuf> {
        let path = membership.unified.as_deref()?;
        let mounts = self.mounts.iter().filter(|mount| mount.version == Version::V2);
        let own = mounts.filter_map(|mount| mount.directories(path)?.into_iter().next());
        // The root has no type. (Its path does not tell: within a cgroup namespace it may be some container's.)
        own.into_iter().find(|directory| directory.join("cgroup.type").exists())
    }

    /// What a cgroup is charged for, page cache and all; `None` for the root of v2, which is not counted.
    pub fn usage(directory: &Path) -> Option<Bytes> {
        let read = |name| number(directory, name).map(Bytes);
        read("memory.current").or_else(|| read("memory.usage_in_bytes"))
    }

    /// The hierarchy that counts memory, the path in it, and the directories from that path up to the mount.
    fn directories<'a>(&self, membership: &'a Membership) -> Option<(Version, &'a str, Vec<PathBuf>)> {
        let v1 = membership.memory.as_deref().map(|path| (Version::V1, path));
        let v2 = membership.unified.as_deref().map(|path| (Version::V2, path));
        // A controller is bound to one hierarchy: where v1 lists memory, v2 does not have it.
        [v1, v2].into_iter().flatten().find_map(|(version, path)| {
            let mounts = self.mounts.iter().filter(|mount| mount.version == version);
            let directories =
                mounts.filter_map(|mount| mount.directories(path)).find(|found| found[0].is_dir())?;
            Some((version, path, directories))
        })
    }
}

impl Mount {
    /// The directories of a cgroup and of those above it, as far as they are mounted; `None` where the cgroup is
    /// not. With a cgroup namespace, what lies outside of it is spelled with `..` and cannot be reached.
    fn directories(&self, path: &str) -> Option<Vec<PathBuf>> {
        let inside = Path::new(path).strip_prefix(&self.root).ok()?;
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        if !inside.components().all(plain) {
            return None;
        }
        Some(inside.ancestors().map(|part| self.point.join(part)).collect())
    }
}

fn level(version: Version, directory: &Path, host: &Host, innermost: bool) -> Option<Level> {
    match version {
        Version::V1 => level_v1(directory, host, innermost),
        Version::V2 => level_v2(directory, host),
    }
}

fn level_v2(directory: &Path, host: &Host) -> Option<Level> {
    let size =
        [number(directory, "memory.max"), number(directory, "memory.high")].into_iter().flatten().min()?;
    let used = number(directory, "memory.current")?.saturating_sub(reclaimable(directory, "")?);
    let swap = match number(directory, "memory.swap.max") {
        Some(max) => max.saturating_sub(number(directory, "memory.swap.current").unwrap_or(0)),
        // `max`, or swap that is not counted at all.
        None => u64::MAX,
    };
    let left = Bytes(size.saturating_sub(used)) + Bytes(swap).min(host.swap_free);
    Some(Level { size: Bytes(size), left })
}

fn level_v1(directory: &Path, host: &Host, innermost: bool) -> Option<Level> {
    // Before Linux 5.11 a cgroup could be told not to count what those below it use.
    if !innermost && number(directory, "memory.use_hierarchy") == Some(0) {
        return None;
    }
    let reclaimable = reclaimable(directory, "total_")?;
    let room = |limit: &str, usage: &str| {
        let limit = number(directory, limit).filter(|limit| *limit < UNLIMITED)?;
        let used = number(directory, usage)?.saturating_sub(reclaimable);
        Some(Level { size: Bytes(limit), left: Bytes(limit.saturating_sub(used)) })
    };
    let memory = room("memory.limit_in_bytes", "memory.usage_in_bytes")
        .map(|level| Level { left: level.left + host.swap_free, ..level });
    // Memory and swap together.
    let both = room("memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes");
    [memory, both].into_iter().flatten().min_by_key(|level| level.left)
}

/// Page cache that reclaim can drop.
fn reclaimable(directory: &Path, prefix: &str) -> Option<u64> {
    let text = std::fs::read_to_string(directory.join("memory.stat")).ok()?;
    let value = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(key, _)| key.strip_prefix(prefix) == Some(name))
            .and_then(|(_, value)| value.parse::<u64>().ok())
    };
    Some(value("inactive_file")?.saturating_add(value("active_file")?))
}

/// A file that holds one number; `None` for `max` as well.
fn number(directory: &Path, name: &str) -> Option<u64> {
    std::fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok()
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
