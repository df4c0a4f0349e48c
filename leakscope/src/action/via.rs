//! The owner's way: a unit is stopped by systemd, which then knows that it was meant, and does not start it again.
//!
//! Only when that was asked for, and only when the victim is the unit's main process: stopping the unit of a helper would end
//! a service that was not judged. Whatever systemd does, the death is proved on the victim's pidfd as after a signal of our
//! own. Start reading at [`ask_systemd`].

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::guard::Protections;
use super::outcome::Check;
use super::victim::Victim;
use crate::process::Identity;

/// How long systemctl may take to hand over a job, or to answer a question.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a unit may take to stop: systemd's own `TimeoutStopSec=` is 90 s unless it says otherwise, and SIGKILL follows.
pub(super) const STOPS_WITHIN: Duration = Duration::from_secs(100);

/// By whose hand a process is ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// By a signal of ours; the owner's own way is named.
    #[default]
    Auto,
    /// By a signal of ours.
    Signal,
    /// By `systemctl stop` of its unit.
    SystemdStop,
    /// By `systemctl restart` of its unit.
    SystemdRestart,
}

impl Via {
    /// Whether systemd is asked.
    pub const fn is_systemd(self) -> bool {
        self.verb().is_some()
    }

    /// What systemd is asked to do, if it is.
    pub(super) const fn verb(self) -> Option<&'static str> {
        match self {
            Self::Auto | Self::Signal => None,
            Self::SystemdStop => Some("stop"),
            Self::SystemdRestart => Some("restart"),
        }
    }
}

/// How the owner would end it, for whoever did not ask for that; `None` where nobody owns it, and for units of a user's own
/// manager, which `systemctl` without `--user` does not know.
pub(super) fn owners_way(who: &Identity) -> Option<Check> {
    let of_a_user = who.owner.cgroup.as_deref().is_some_and(|path| path.contains("/user@"));
    let way = match (&who.owner.unit, &who.owner.container) {
        (_, Some(container)) => {
            let id = container.get(..12).unwrap_or(container);
            format!(
                "it belongs to the container {id}, which its runtime may start again; the runtime's own way is docker, \
                 podman or crictl stop {id}, in Kubernetes kubectl delete pod"
            )
        }
        (Some(unit), None) if unit.ends_with(".service") && !of_a_user => format!(
            "it belongs to the unit {unit}, which systemd may start again; systemd's own way is systemctl stop {unit} \
             (--via systemd)"
        ),
        _ => return None,
    };
    Some(Check::new("owner", true, way))
}

/// Why systemd is not asked.
pub(super) enum NotAsked {
    /// That is no way to end this process.
    Refused(String),
    /// systemd could not be asked.
    Unable(String),
}

/// The unit that systemd is to be asked about: the victim must be its main process.
///
/// # Errors
/// Says why systemd is not asked.
pub(super) async fn unit_of(victim: &Victim) -> Result<String, NotAsked> {
    let who = victim.identity();
    let pid = who.key.pid;
    let unit = who.owner.unit.as_ref().filter(|unit| unit.ends_with(".service"));
    let refused = |why: String| NotAsked::Refused(why);
    let unit = unit.ok_or_else(|| {
        refused(format!("pid {pid} belongs to no systemd service: end it with --via signal"))
    })?;
    // A cgroup may be called anything by whom it was handed to; systemctl takes patterns.
    if unit.starts_with('-') || unit.contains(['*', '?', '[']) {
        return Err(refused(format!("{unit} is no name of a unit that systemctl could be given")));
    }
    let answer = systemctl(&["show", "--property=MainPID", "--value", "--", unit]).await;
    let answer = answer.map_err(|error| NotAsked::Unable(error.why))?;
    let main = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    if main != pid.to_string() {
        return Err(refused(format!(
            "the main process of {unit} is pid {main}, not pid {pid}: stopping the unit would end more than was judged \
             (--via signal ends pid {pid} alone)"
        )));
    }
    Ok(unit.clone())
}

/// Whether nobody in the unit is protected: all of them end with it.
pub(super) fn others_of(victim: &Victim, unit: &str, protections: &Protections) -> Check {
    let proc = victim.proc();
    let pids = match proc.pids() {
        Ok(pids) => pids,
        Err(error) => {
            return Check::new("unit", false, format!("who belongs to {unit} cannot be read: {error}"));
        }
    };
    let (mut others, mut protected) = (0_usize, Vec::new());
    for pid in pids.into_iter().filter(|pid| *pid != victim.identity().key.pid) {
        let Ok(who) = proc.identify(pid) else { continue };
        if who.owner.unit.as_deref() != Some(unit) {
            continue;
        }
        others += 1;
        let failed = protections.check(proc, &who).into_iter().find(|check| !check.passed);
        protected.extend(failed.map(|check| format!("pid {pid}: {}: {}", check.check, check.detail)));
    }
    match protected.as_slice() {
        [] => Check::new(
            "unit",
            true,
            format!("{others} other processes of {unit} end with it; none is protected"),
        ),
        protected => Check::new(
            "unit",
            false,
            format!("{unit} holds others that are protected: {}", protected.join("; ")),
        ),
    }
}

/// Hands the job over; it goes on while the death is waited for.
///
/// # Errors
/// When systemd does not take it. Without an answer it may have: that is told by `maybe`.
pub(super) async fn ask_systemd(verb: &str, unit: &str) -> Result<(), Failed> {
    systemctl(&["--no-block", "--no-ask-password", verb, "--", unit]).await.map(drop)
}

/// Why systemctl did not do it.
pub(super) struct Failed {
    pub(super) why: String,
    /// Whether it may have done it all the same.
    pub(super) maybe: bool,
}

async fn systemctl(arguments: &[&str]) -> Result<Output, Failed> {
    let shown = format!("systemctl {}", arguments.join(" "));
    let failed = |why: String| Failed { why: format!("{shown}: {why}"), maybe: false };
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = timeout(ANSWER, command.output()).await else {
        return Err(Failed { maybe: true, ..failed(format!("no answer within {} s", ANSWER.as_secs())) });
    };
    let output = output.map_err(|error| failed(format!("{error} (is this host run by systemd?)")))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(format!("{}{}{said}", output.status, if said.is_empty() { "" } else { ": " })))
}
