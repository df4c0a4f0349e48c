//! Where a process stands in the cgroup hierarchies: `/proc/PID/cgroup` for v1, v2 and the mixtures of both.
//!
//! On a hybrid host the v2 hierarchy may exist without the memory controller (systemd's `unified`), or sit unused at
//! `/`; the memory limit then is the v1 hierarchy's affair. [`Membership::path`] says which path names the process.

use procfs::{FromBufRead, ProcessCGroups};

/// A process's places in the hierarchies that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The path in the v2 hierarchy.
    pub unified: Option<String>,
    /// The path in the v1 hierarchy of the memory controller.
    pub memory: Option<String>,
    /// The path in systemd's own v1 hierarchy.
    pub systemd: Option<String>,
}

impl Membership {
    /// Reads the text of `/proc/PID/cgroup`; what cannot be understood is left out.
    pub fn parse(text: &[u8]) -> Self {
        let mut membership = Self::default();
        let text = String::from_utf8_lossy(text);
        let Ok(ProcessCGroups(hierarchies)) = ProcessCGroups::from_buf_read(text.as_bytes()) else {
            return membership;
        };
        for hierarchy in hierarchies {
            // The kernel marks a v2 cgroup that was removed under its last, dying process.
            let path =
                hierarchy.pathname.strip_suffix(" (deleted)").unwrap_or(&hierarchy.pathname).to_owned();
            let has = |name| hierarchy.controllers.iter().any(|controller| controller == name);
            if hierarchy.hierarchy == 0 && hierarchy.controllers.is_empty() {
                membership.unified = Some(path);
            } else if has("memory") {
                membership.memory = Some(path);
            } else if has("name=systemd") {
                membership.systemd = Some(path);
            }
        }
        membership
    }

    /// The path that names the process's cgroup: v2, unless the process was left at the v2 root while a v1 hierarchy
    /// places it; then v1 memory, then systemd's.
    pub fn path(&self) -> Option<&str> {
        let placed = [&self.unified, &self.memory, &self.systemd].into_iter().flatten();
        placed.clone().find(|path| *path != "/").or_else(|| placed.clone().next()).map(String::as_str)
    }

    /// All paths, the most telling first, for whoever looks for a name in them.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        [&self.unified, &self.systemd, &self.memory].into_iter().flatten().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_taken_from_the_hierarchy_that_places_the_process() {
        for (text, path) in [
            ("0::/system.slice/nginx.service\n", Some("/system.slice/nginx.service")),
            ("0::/\n", Some("/")),
            ("4:memory:/jobs/a\n1:cpu:/\n0::/\n", Some("/jobs/a")),
            ("4:memory:/\n0::/user.slice\n", Some("/user.slice")),
            ("9:name=systemd:/system.slice/a.service\n4:memory:/\n", Some("/system.slice/a.service")),
            ("5:cpuset,memory:/docker/x\n", Some("/docker/x")),
            ("0::/gone (deleted)\n", Some("/gone")),
            ("0::/kubepods:pod:7\n", Some("/kubepods:pod:7")),
            ("", None),
            ("nonsense\n", None),
        ] {
            assert_eq!(Membership::parse(text.as_bytes()).path(), path, "{text:?}");
        }
    }
}
