//! `leakscope kill`: a verified kill on its own, of the process that the caller names.

use std::path::PathBuf;

use anyhow::anyhow;

use crate::action::{self, KillOptions, Outcome};
use crate::fault::Remedy;
use crate::process::{Identity, ProcRoot, pidfile_process, vanished};
use crate::units::Pid;

/// Who is meant.
#[derive(Clone, Debug)]
pub enum Target {
    /// This pid.
    Pid(Pid),
    /// The pid in this file.
    Pidfile(PathBuf),
}

/// Kills the target, verified; who it was, and what came of it.
///
/// # Errors
/// When there is no such process, or the pid file cannot be used.
pub async fn run(target: &Target, how: &KillOptions) -> anyhow::Result<(Identity, Outcome)> {
    let root = ProcRoot::default();
    let victim = match target {
        Target::Pid(pid) => root
            .identify(*pid)
            .map_err(|error| match vanished(&error) {
                true => anyhow!("pid {pid}: no such process"),
                false => anyhow!("identifying pid {pid}: {error}"),
            })
            .fix("look it up again (ps, pgrep): it may have ended")?,
        Target::Pidfile(path) => pidfile_process(&root, path)
            .fix("look the process up (ps, pgrep) and give its pid, or name the right pid file")?,
    };
    let how = KillOptions { bystanders: lookalikes(&root, &victim), ..how.clone() };
    let outcome = action::end(&root, &victim, &how).await;
    Ok((victim, outcome))
}

/// Every other process that could be taken for the victim; those that vanish meanwhile are none.
fn lookalikes(root: &ProcRoot, victim: &Identity) -> Vec<Identity> {
    let pids = root.pids().unwrap_or_default();
    pids.into_iter()
        .filter(|pid| *pid != victim.key.pid)
        .filter_map(|pid| root.identify(pid).ok())
        .filter(|identity| identity.looks_like(victim))
        .collect()
}
