//! The owner's way: a unit is stopped by systemd, which then knows that it was meant, and does not start it again.
//!
//! Only when that was asked for, and only when the victim is the unit's main process: stopping the unit of a helper would end
//! a service that was not judged. Whatever systemd does, the death is proved on the victim's pidfd as after a signal of our
//! own. Start reading at [`ask_systemd`].

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

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
    /// What systemd is asked to do, if it is.
    pub(super) const fn verb(self) -> Option<&'static str> {
        match self {
            Self::Auto | Self::Signal => None,
            Self::SystemdStop => Some("stop"),
            Self::SystemdRestart => Some("restart"),
        }
    }
}

/// How the owner would end it, for whoever did not ask for that; `None` where nobody owns it.
pub(super) fn owners_way(who: &Identity) -> Option<Check> {
    let way = match (&who.owner.unit, &who.owner.container) {
        (_, Some(container)) => {
            let id = container.get(..12).unwrap_or(container);
            format!(
                "it belongs to the container {id}, which its runtime may start again; the runtime's own way is docker, \
                 podman or crictl stop {id}, in Kubernetes kubectl delete pod"
            )
        }
        (Some(unit), None) if unit.ends_with(".service") => format!(
            "it belongs to the unit {unit}, which systemd may start again; systemd's own way is systemctl stop {unit} \
             (--via systemd)"
        ),
        _ => return None,
    };
    Some(Check::new("owner", true, way))
}

/// The unit that systemd is to be asked about: the victim must be its main process.
///
/// # Errors
/// Says why systemd cannot be asked.
pub(super) async fn unit_of(victim: &Victim) -> Result<String, String> {
    let who = victim.identity();
    let pid = who.key.pid;
    let unit = who.owner.unit.as_ref().filter(|unit| unit.ends_with(".service"));
    let unit =
        unit.ok_or_else(|| format!("pid {pid} belongs to no systemd service: end it with --via signal"))?;
    let answer = systemctl(&["show", "--property=MainPID", "--value", unit]).await?;
    let main = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    if main != pid.to_string() {
        return Err(format!(
            "the main process of {unit} is pid {main}, not pid {pid}: stopping the unit would end more than was judged \
             (--via signal ends pid {pid} alone)"
        ));
    }
    Ok(unit.clone())
}

/// Hands the job over; it goes on while the death is waited for.
///
/// # Errors
/// When systemd does not take it.
pub(super) async fn ask_systemd(verb: &str, unit: &str) -> Result<(), String> {
    systemctl(&["--no-block", "--no-ask-password", verb, unit]).await.map(drop)
}

async fn systemctl(arguments: &[&str]) -> Result<Output, String> {
    let shown = format!("systemctl {}", arguments.join(" "));
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(ANSWER, command.output())
        .await
        .map_err(|_| format!("{shown}: no answer within {} s", ANSWER.as_secs()))?
        .map_err(|error| format!("{shown}: {error} (is this host run by systemd?)"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{shown}: {}{}{said}", output.status, if said.is_empty() { "" } else { ": " }))
}
