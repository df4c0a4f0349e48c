//! Which processes the user speaks of: `--pid`, `--pidfile`, `--cmd`, `--unit`, `--cgroup`, `--user`.
//!
//! Given several times, an option matches any of its values; given together, different options must all match
//! (`--user www --cmd worker` is the workers of www). `--pid` and `--pidfile` both name processes and count as one
//! option. Nothing given selects every process.

use std::path::PathBuf;

use regex::Regex;

use super::identity::Identity;
use super::owner::UNIT_KINDS;
use super::pidfile::{PidfileError, pidfile_process};
use super::read::ProcRoot;
use crate::units::{Pid, ProcKey};

/// A user that was named and does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownUser(pub String);

impl std::fmt::Display for UnknownUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = if cfg!(target_env = "musl") {
            "no such user in /etc/passwd, the one place where this static build looks (for a user of LDAP or SSSD \
             give the number: id -u NAME)"
        } else {
            "no such user on this host (a number is taken as a user id)"
        };
        write!(f, "user {}: {known}", self.0)
    }
}

impl std::error::Error for UnknownUser {}

/// A selection of processes.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    pids: Vec<Pid>,
    pidfiles: Vec<PathBuf>,
    bound: Vec<ProcKey>,
    commands: Vec<Regex>,
    units: Vec<String>,
    cgroups: Vec<String>,
    users: Vec<u32>,
}

impl Selector {
    /// Adds processes by pid.
    #[must_use]
    pub fn pids(mut self, pids: impl IntoIterator<Item = Pid>) -> Self {
        self.pids.extend(pids);
        self
    }

    /// Adds processes by pid file: they are selected once [`Self::bind`] has read the files.
    #[must_use]
    pub fn pidfiles(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.pidfiles.extend(files);
        self
    }

    /// Adds patterns for the whole command line, joined with spaces.
    #[must_use]
    pub fn commands(mut self, patterns: impl IntoIterator<Item = Regex>) -> Self {
        self.commands.extend(patterns);
        self
    }

    /// Adds systemd units. As with `systemctl`, a name without an ending is a service. A slice selects what is in it.
    #[must_use]
    pub fn units(mut self, names: impl IntoIterator<Item = String>) -> Self {
        let whole = |name: &String| {
            [".slice", ".timer", ".target"].iter().chain(&UNIT_KINDS).any(|kind| name.ends_with(kind))
        };
        let full = |name: String| if whole(&name) { name } else { name + ".service" };
        self.units.extend(names.into_iter().map(full));
        self
    }

    /// Adds cgroups by path; those below them are included.
    #[must_use]
    pub fn cgroups(mut self, paths: impl IntoIterator<Item = String>) -> Self {
        self.cgroups.extend(paths.into_iter().map(|path| format!("/{}", path.trim_matches('/'))));
        self
    }

    /// Adds users by name or id. The effective user of a process counts.
    ///
    /// # Errors
    /// When the host knows no user of that name.
    pub fn user(mut self, user: &str) -> Result<Self, UnknownUser> {
        let by_name = || uzers::get_user_by_name(user).map(|user| user.uid());
        let uid = user.parse().ok().or_else(by_name).ok_or_else(|| UnknownUser(user.to_owned()))?;
        self.users.push(uid);
        Ok(self)
    }

    /// Whether nothing was given: every process is selected.
    pub fn is_empty(&self) -> bool {
        !self.names_processes()
            && self.commands.is_empty()
            && self.units.is_empty()
            && self.cgroups.is_empty()
            && self.users.is_empty()
    }

    /// Binds pids and pid files to the processes that they name now, so that a pid that is used again later does not
    /// select a stranger. Pid files are read anew at each call: a service that was started again is found.
    /// What could not be bound is returned; it selects nothing until it can be.
    pub fn bind(&mut self, proc: &ProcRoot) -> Vec<PidfileError> {
        let mut bound: Vec<ProcKey> =
            self.bound.iter().filter(|key| self.pids.contains(&key.pid)).copied().collect();
        for pid in &self.pids {
            // The first process seen under a pid is the one that was meant.
            if !bound.iter().any(|key| key.pid == *pid)
                && let Ok(identity) = proc.identify(*pid)
            {
                bound.push(identity.key);
            }
        }
        let mut errors = Vec::new();
        for file in &self.pidfiles {
            match pidfile_process(proc, file) {
                Ok(identity) => bound.push(identity.key),
                Err(error) => errors.push(error),
            }
        }
        self.bound = bound;
        errors
    }

    /// Binds a pid that was given to the first process that is seen under it: for a recording, which has no /proc to
    /// [`Self::bind`] to.
    pub fn meet(&mut self, key: ProcKey) {
        if self.pids.contains(&key.pid) && !self.bound.iter().any(|bound| bound.pid == key.pid) {
            self.bound.push(key);
        }
    }

    /// Pids that were given and that [`Self::bind`] found no process for.
    pub fn unbound_pids(&self) -> impl Iterator<Item = Pid> {
        self.pids.iter().copied().filter(|pid| !self.bound.iter().any(|key| key.pid == *pid))
    }

    /// Whether a process is selected.
    pub fn matches(&self, who: &Identity) -> bool {
        let any = |given: bool, matched: bool| !given || matched;
        any(self.names_processes(), self.bound.contains(&who.key))
            && any(!self.commands.is_empty(), self.commands.iter().any(|re| re.is_match(&who.command_line())))
            && any(!self.units.is_empty(), self.units.iter().any(|unit| in_unit(who, unit)))
            && any(!self.cgroups.is_empty(), self.cgroups.iter().any(|path| in_cgroup(who, path)))
            && any(!self.users.is_empty(), self.users.contains(&who.uid))
    }

    /// Whether it names processes by pid or pid file: then nobody else can come to be selected.
    pub fn names_processes(&self) -> bool {
        !self.pids.is_empty() || !self.pidfiles.is_empty()
    }
}

fn in_unit(who: &Identity, unit: &str) -> bool {
    let parts = |path: &String| path.split('/').any(|part| part == unit);
    who.owner.unit.as_deref() == Some(unit) || who.owner.cgroup.as_ref().is_some_and(parts)
}

fn in_cgroup(who: &Identity, path: &str) -> bool {
    let below = |own: &str| {
        path == "/" || own.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    who.owner.cgroup.as_deref().is_some_and(below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::testing::{FakeProc, identity};
    use crate::units::Ticks;
    use std::path::Path;

    fn re(pattern: &str) -> Regex {
        Regex::new(pattern).unwrap()
    }

    #[test]
    fn each_option_selects_by_its_own_part_of_the_identity() {
        let none = Selector::default;
        let own = |text: &str| [text.to_owned()];
        for (selector, selected) in [
            (none(), true),
            (none().commands([re("cache_service")]), true),
            (none().commands([re("^python3 cache_service.py$")]), true),
            (none().commands([re("other")]), false),
            (none().commands([re("other"), re("python3")]), true),
            (none().units(own("cache")), true),
            (none().units(own("cache.service")), true),
            (none().units(own("system.slice")), true),
            (none().units(own("cac")), false),
            (none().cgroups(own("/system.slice")), true),
            (none().cgroups(own("system.slice/cache.service/")), true),
            (none().cgroups(own("/")), true),
            (none().cgroups(own("/system.slice/cache")), false),
            (none().user("1000").unwrap(), true),
            (none().user("root").unwrap(), false),
            (none().user("root").unwrap().user("1000").unwrap(), true),
            (none().commands([re("python3")]).user("root").unwrap(), false),
            (none().commands([re("python3")]).user("1000").unwrap(), true),
            (none().pids([Pid(42)]), false),
        ] {
            assert_eq!(selector.matches(&identity(42)), selected, "{selector:?}");
        }
    }

    #[test]
    fn a_user_that_does_not_exist_is_an_error_that_names_it() {
        let error = Selector::default().user("no-such-user-here").unwrap_err();
        assert!(error.to_string().contains("no-such-user-here"));
    }

    #[test]
    fn a_pid_that_is_used_again_selects_nobody_new() {
        let fake = FakeProc::new();
        fake.process(42, 1, 1000, Path::new("/nowhere"));
        let mut selector = Selector::default().pids([Pid(42), Pid(43)]);
        assert!(selector.bind(&fake.root()).is_empty());
        assert_eq!(selector.unbound_pids().collect::<Vec<_>>(), [Pid(43)]);
        let first = fake.root().identify(Pid(42)).unwrap();
        fake.stat(42, 'S', 1, 1, 2000);
        selector.bind(&fake.root());
        let second = fake.root().identify(Pid(42)).unwrap();
        assert!(selector.matches(&first) && !selector.matches(&second));
    }

    #[test]
    fn in_a_recording_a_pid_means_the_first_process_seen_under_it() {
        let mut selector = Selector::default().pids([Pid(42)]);
        let (first, mut second) = (identity(42), identity(42));
        second.key.start = Ticks(first.key.start.0 + 1);
        for who in [&first, &second, &identity(43)] {
            selector.meet(who.key);
        }
        assert!(selector.matches(&first) && !selector.matches(&second) && !selector.matches(&identity(43)));
    }

    #[test]
    fn a_pid_file_selects_whom_it_names_now() {
        let fake = FakeProc::new();
        for (pid, ticks) in [(42, 1000), (43, 2000)] {
            fake.process(pid, 1, ticks, Path::new("/nowhere"));
        }
        let mut selector = Selector::default().pidfiles([fake.path("a.pid")]);
        assert_eq!(selector.bind(&fake.root()).len(), 1, "the file is missing");
        let mut who = identity(42);
        who.key.start = Ticks(1000);
        assert!(!selector.matches(&who));
        fake.write("a.pid", "42\n");
        assert!(selector.bind(&fake.root()).is_empty());
        assert!(selector.matches(&who));
        fake.write("a.pid", "43\n");
        assert!(selector.bind(&fake.root()).is_empty());
        assert!(!selector.matches(&who));
    }
}
