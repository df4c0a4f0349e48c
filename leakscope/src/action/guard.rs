//! What must not be killed, rule by rule, each with its name and its reason.
//!
//! The guard fails closed: a rule that cannot be checked refuses. Every rule is checked, also after one has refused,
//! so that the report shows all of them. Programs are known by their executable's name, never by a word in their
//! arguments: `vim /etc/ssh/sshd_config` is no sshd.

use std::path::{Path, PathBuf};

use regex::Regex;

use super::outcome::Check;
use super::rule::Rule;
use crate::process::{Identity, PidfileProblem, ProcRoot, pidfile_process, read_pidfile};
use crate::units::Pid;

/// `OOM_SCORE_ADJ_MIN` (linux/oom.h): the kernel itself would never choose such a process.
const NEVER: i32 = -1000;

/// Programs whose end takes a host, a cluster node or the way into it along.
const INFRASTRUCTURE: [&str; 24] = [
    "systemd",
    "init",
    "dbus-daemon",
    "dbus-broker",
    "dbus-broker-launch",
    "sshd",
    "sshd-session",
    "sshd-auth",
    "containerd",
    "dockerd",
    "docker-init",
    "docker-proxy",
    "crio",
    "runc",
    "crun",
    "conmon",
    "conmonrs",
    "pause",
    "catatonit",
    "kubelet",
    "etcd",
    "kube-apiserver",
    "udevd",
    "elogind",
];
/// Programs that are many under one executable; there the comm tells which.
const MULTI_CALL: [&str; 3] = ["busybox", "toybox", "coreutils"];

/// What is protected. [`Default`] holds the rules that always apply.
#[derive(Clone, Debug, Default)]
pub struct Protections {
    patterns: Vec<Regex>,
    /// Each with the rule of a configuration file that names it, if one does.
    pidfiles: Vec<(PathBuf, Option<String>)>,
    rules: Vec<Rule>,
}

impl Protections {
    /// Adds patterns (`--protect`) for the whole command line, joined with spaces.
    #[must_use]
    pub fn patterns(mut self, patterns: impl IntoIterator<Item = Regex>) -> Self {
        self.patterns.extend(patterns);
        self
    }

    /// Adds pid files (`--protect-pidfile`). They are read at each check: a service that was started again stays
    /// protected.
    #[must_use]
    pub fn pidfiles(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.pidfiles.extend(files.into_iter().map(|file| (file, None)));
        self
    }

    /// Adds pid files that a configuration file names, with the names of its rules.
    #[must_use]
    pub fn ruled_pidfiles(mut self, files: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        self.pidfiles.extend(files.into_iter().map(|(file, rule)| (file, Some(rule))));
        self
    }

    /// Adds rules of a configuration file.
    #[must_use]
    pub fn rules(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.rules.extend(rules);
        self
    }

    /// Checks every rule. A process may be killed only when all of them passed.
    pub fn check(&self, proc: &ProcRoot, who: &Identity) -> Vec<Check> {
        let mut checks = vec![init(proc, who), kernel_thread(who)];
        checks.extend(own_and_ancestors(proc, who));
        checks.push(oom_score(who));
        checks.push(infrastructure(who));
        checks.extend(self.patterns.iter().map(|pattern| matched(pattern, who)));
        checks.extend(self.pidfiles.iter().map(|(file, rule)| {
            let check = named(proc, file, who);
            let told = rule.as_ref().filter(|_| !check.passed);
            let by = told.map_or_else(String::new, |rule| format!(" (protected by {rule})"));
            Check { detail: check.detail + &by, ..check }
        }));
        checks.extend(self.rules.iter().map(|rule| rule.check(who)));
        checks
    }

    /// What each rule is called, in the order of [`Self::check`].
    pub fn names(&self) -> Vec<String> {
        let always = [
            "init",
            "kernel-thread",
            "self",
            "ancestor",
            "session-leader",
            "oom-score-adj",
            "infrastructure",
        ];
        let patterns = self.patterns.iter().map(|pattern| format!("protect {pattern}"));
        let pidfiles = self.pidfiles.iter().map(|(file, _)| format!("protect-pidfile {}", file.display()));
        let rules = self.rules.iter().map(|rule| format!("config {}", rule.name));
        always.map(str::to_owned).into_iter().chain(patterns).chain(pidfiles).chain(rules).collect()
    }

    /// The checks with the names of their rules.
    pub fn check_each(&self, proc: &ProcRoot, who: &Identity) -> impl Iterator<Item = (String, Check)> {
        self.names().into_iter().zip(self.check(proc, who))
    }
}

fn init(proc: &ProcRoot, who: &Identity) -> Check {
    if who.key.pid == Pid(1) {
        return Check::new(
            "init",
            false,
            "pid 1: the host, or the container leakscope runs in, ends with it",
        );
    }
    if who.ns_pid != Pid(1) {
        return Check::new("init", true, "not the first process of a pid namespace");
    }
    // The kernel kills the whole namespace when its init ends: one process was judged, so only one may go.
    match proc.namespace_peers(who.key.pid) {
        Ok(0) => Check::new("init", true, "the first process of its pid namespace, and the only one in it"),
        Ok(others) => Check::new(
            "init",
            false,
            format!(
                "the first process of its pid namespace: {others} other processes would end with it (stop the \
                 container with its own runtime instead)"
            ),
        ),
        Err(error) => Check::new(
            "init",
            false,
            format!("the first process of its pid namespace, which cannot be read: {error}"),
        ),
    }
}

fn kernel_thread(who: &Identity) -> Check {
    let detail = if who.kernel_thread { "a thread of the kernel" } else { "not a thread of the kernel" };
    Check::new("kernel-thread", !who.kernel_thread, detail)
}

fn own_and_ancestors(proc: &ProcRoot, who: &Identity) -> [Check; 3] {
    let chain = proc.own_pid().and_then(|own| {
        let mut ancestors = proc.ancestors(own);
        // A parent that ends while the chain is followed hands its children on: another look finds the new chain.
        for _ in 0..2 {
            ancestors = ancestors.or_else(|_| proc.ancestors(own));
        }
        Ok((own, ancestors?, proc.session(own)?))
    });
    match chain {
        Ok((own, ancestors, session)) => {
            let itself = who.key.pid == own;
            let above = ancestors.contains(&who.key.pid);
            let own_detail = if itself { "leakscope itself" } else { "not leakscope itself" };
            let above_detail =
                if above { "leakscope was started from it" } else { "leakscope was not started from it" };
            // Often an ancestor, and not so where leakscope was put in the background by a shell that has gone on.
            let leads = who.key.pid == session;
            let leads_detail =
                if leads { "it leads leakscope's session" } else { "does not lead leakscope's session" };
            [
                Check::new("self", !itself, own_detail),
                Check::new("ancestor", !above, above_detail),
                Check::new("session-leader", !leads, leads_detail),
            ]
        }
        Err(error) => ["self", "ancestor", "session-leader"].map(|name| {
            Check::new(
                name,
                false,
                format!("leakscope's own place among the processes cannot be read: {error}"),
            )
        }),
    }
}

fn oom_score(who: &Identity) -> Check {
    let detail = match who.oom_score_adj {
        NEVER => "oom_score_adj is -1000: the kernel is told never to choose it".to_owned(),
        other => format!("oom_score_adj is {other}"),
    };
    Check::new("oom-score-adj", who.oom_score_adj != NEVER, detail)
}

fn infrastructure(who: &Identity) -> Check {
    let mut program = who.program();
    if MULTI_CALL.contains(&program.as_str()) {
        program.clone_from(&who.comm);
    }
    let known = INFRASTRUCTURE.contains(&program.as_str())
        || program.starts_with("systemd-")
        || program.starts_with("containerd-shim")
        || program.ends_with("-shim");
    let detail = if known {
        format!(
            "{program} keeps other services running (restart it by its own means if it is the one that leaks)"
        )
    } else {
        format!("{program} is none of the host's own services")
    };
    Check::new("infrastructure", !known, detail)
}

fn matched(pattern: &Regex, who: &Identity) -> Check {
    let hit = pattern.is_match(&who.command_line());
    let verb = if hit { "matches" } else { "does not match" };
    Check::new("protect", !hit, format!("the command line {verb} --protect {pattern}"))
}

/// Whether a protected pid file speaks of this process. A file that names nobody may be about to be rewritten: the
/// service that it protects may have been started again as any process that is younger than the file.
fn named(proc: &ProcRoot, file: &Path, who: &Identity) -> Check {
    let shown = file.display();
    let check = |passed, detail: String| Check::new("protect-pidfile", passed, detail);
    match read_pidfile(file) {
        Ok(pid) if pid == who.key.pid => check(false, format!("{shown} names it")),
        Ok(pid) => match pidfile_process(proc, file) {
            Ok(_) => check(true, format!("{shown} names pid {pid}")),
            Err(error) if matches!(error.problem, PidfileProblem::Unknown(..)) => {
                check(true, format!("{shown} names pid {pid}"))
            }
            Err(error) if written_since(proc, file, who) => {
                check(true, format!("older than the file and not named by it: {error}"))
            }
            Err(error) => check(
                false,
                format!(
                    "{error}, and this process, younger than the file, may be that service started again"
                ),
            ),
        },
        Err(error) => check(false, format!("whom it protects is not known: {error}")),
    }
}

/// Whether the file was written well after the process started: then the process is not its service started again.
fn written_since(proc: &ProcRoot, file: &Path, who: &Identity) -> bool {
    let written = std::fs::metadata(file).and_then(|metadata| metadata.modified());
    let margin = std::time::Duration::from_secs(2);
    match (written, proc.started_at(who.key.start)) {
        (Ok(written), Some(started)) => started.checked_add(margin).is_some_and(|started| started < written),
        _ => false,
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
