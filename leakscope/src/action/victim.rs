//! A process about to be killed, held by a pidfd.
//!
//! The descriptor is opened first and the identity read after it: from then on the pid cannot come to mean another
//! process without the descriptor telling. One descriptor serves the whole kill; opening a dying process again may
//! fail. Start reading at [`Victim::open`]; [`Victim::last_look`] is what stands right before a signal.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};

use super::guard::Protections;
use super::last_look::{LastLook, Seen};
use super::outcome::{Check, Outcome, OutcomeKind};
use crate::process::{Difference, Identity, ProcRoot, vanished};
use crate::units::Pid;

use std::os::fd::AsFd;

/// A process that was identified, held by a pidfd.
#[derive(Debug)]
pub struct Victim {
    fd: OwnedFd,
    proc: ProcRoot,
    identity: Identity,
    look: LastLook,
}

/// Why a process did not become a victim. No signal was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is dead already: gone, or a zombie.
    AlreadyGone(String),
    /// It is not the process, or not the program, that was judged.
    Changed(Vec<Difference>),
    /// It is the process that was judged, and on its way out: it has no program any more.
    Ending(String),
    /// It cannot be told whether it is.
    Unidentified(String),
    /// This kernel, or these privileges, cannot do it.
    Unable {
        /// What failed.
        detail: String,
        /// What helps.
        remedy: &'static str,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyGone(detail)
            | Self::Ending(detail)
            | Self::Unidentified(detail)
            | Self::Unable { detail, .. } => f.write_str(detail),
            Self::Changed(differences) => {
                f.write_str("not the process that was judged: ")?;
                let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join("; "))
            }
        }
    }
}

impl Refusal {
    /// The refusal as what came of the action.
    pub fn into_outcome(self, expected: &Identity) -> Outcome {
        let kind = match &self {
            Self::AlreadyGone(_) => OutcomeKind::AlreadyGone,
            Self::Changed(_) | Self::Ending(_) | Self::Unidentified(_) => OutcomeKind::Refused,
            Self::Unable { .. } => OutcomeKind::Failed,
        };
        let mut outcome = Outcome::new(expected.key, kind, self.to_string());
        if let Self::Unable { remedy, .. } = &self {
            outcome.remedy = Some((*remedy).to_owned());
        }
        if kind != OutcomeKind::AlreadyGone {
            outcome.checks.push(Check::new("identity", false, self.to_string()));
        }
        outcome
    }
}

impl Victim {
    /// Takes hold of the process that `expected` describes.
    ///
    /// # Errors
    /// When it is dead, when anything that [`Identity::differences`] counts is different, or when that cannot be told.
    pub fn open(proc: &ProcRoot, expected: &Identity) -> Result<Self, Refusal> {
        let pid = expected.key.pid;
        let fd = open(pid)?;
        same_namespace(proc, &fd, pid)?;
        let look = LastLook::open(proc, expected).map_err(|error| unreadable(proc, pid, &error))?;
        let victim = Self { fd, proc: proc.clone(), identity: expected.clone(), look };
        // The files of the look are the victim's: the descriptor, which is older, is found to be alive after them.
        victim.verify_identity()?;
        Ok(victim)
    }

    /// Whom it was taken for.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn proc(&self) -> &ProcRoot {
        &self.proc
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether every thread of it has ended.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn is_dead(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        Ok(poll(&mut fds, Some(&at_once))? > 0)
    }

    /// Reads the identity again and compares it; last of all the pidfd says whether what was read was still alive.
    pub(super) fn verify_identity(&self) -> Result<Identity, Refusal> {
        let pid = self.identity.key.pid;
        let read = self.proc.identify(pid);
        let dead =
            self.is_dead().map_err(|error| Refusal::Unidentified(format!("pidfd of pid {pid}: {error}")))?;
        if dead {
            return Err(self.dead_already());
        }
        let now = read.map_err(|error| unreadable(&self.proc, pid, &error))?;
        let differences = self.identity.differences(&now);
        if differences.is_empty() {
            Ok(now)
        } else if ending(&self.identity, &now) {
            Err(Refusal::Ending(format!("pid {pid} is ending by itself, and has no program any more")))
        } else {
            Err(Refusal::Changed(differences))
        }
    }

    /// Identity first, then every protection: all that must hold right before a signal. Nothing waits in here.
    pub(super) fn verify(&self, protections: &Protections) -> Result<(Identity, Vec<Check>), Refusal> {
        let now = self.verify_identity()?;
        let mut checks = vec![Check::new("identity", true, describe(&now))];
        checks.extend(protections.check(&self.proc, &now));
        // The protections took their time: the last word is the identity's again.
        self.verify_identity()?;
        Ok((now, checks))
    }

    /// Right before a signal, after [`Self::verify`]: whether the program that was identified still runs. Allocates
    /// nothing unless it refuses, or must read the identity once more where one look cannot tell.
    pub(super) fn last_look(&self) -> Result<(), Refusal> {
        match self.look.at(&self.identity) {
            Seen::Same => Ok(()),
            Seen::Dead => Err(self.dead_already()),
            // What it is now, in words; and it may be gone by now.
            Seen::Other => Err(self.verify_identity().err().unwrap_or_else(|| {
                let pid = self.identity.key.pid;
                Refusal::Unidentified(format!("pid {pid} changed in the moment before the signal"))
            })),
            Seen::Unsure => self.verify_identity().map(drop),
        }
    }

    fn dead_already(&self) -> Refusal {
        let pid = self.identity.key.pid;
        let state = self.proc.state(self.identity.key).ok().flatten();
        Refusal::AlreadyGone(match state {
            Some('Z') => format!("pid {pid} is dead already: a zombie that its parent has not collected"),
            _ => format!("pid {pid} is gone already"),
        })
    }
}

/// That the number means the same process to /proc as to the kernel's calls: not so when leakscope runs in a container
/// with the host's /proc.
fn same_namespace(proc: &ProcRoot, fd: &OwnedFd, pid: Pid) -> Result<(), Refusal> {
    let path = proc.path().join(format!("self/fdinfo/{}", fd.as_raw_fd()));
    let unknown = |error: String| Refusal::Unidentified(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| unknown(error.to_string()))?;
    let shown = text.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
    match shown.and_then(|shown| shown.parse::<i64>().ok()) {
        Some(shown) if shown == i64::from(pid.0) => Ok(()),
        // It was collected since it was opened.
        Some(-1) => Err(Refusal::AlreadyGone(format!("pid {pid} is gone already"))),
        Some(shown) => Err(Refusal::Unidentified(format!(
            "pid {pid} here is pid {shown} in {}: /proc belongs to another pid namespace",
            proc.path().display()
        ))),
        None => Err(unknown("the kernel does not say whose descriptor it is".to_owned())),
    }
}

/// Whether a process is on its way out: it has lost its program and its command line, and is no other program.
fn ending(expected: &Identity, now: &Identity) -> bool {
    let lost = now.exe.is_none() && now.cmdline.is_empty() && !expected.cmdline.is_empty();
    now.key == expected.key && lost
}

/// Why a process of which there is a pidfd cannot be read.
fn unreadable(proc: &ProcRoot, pid: Pid, error: &io::Error) -> Refusal {
    let exists = || open(pid).is_ok();
    Refusal::Unidentified(match (vanished(error), error.kind()) {
        (true, _) if !exists() => return Refusal::AlreadyGone(format!("pid {pid} is gone already")),
        (true, _) => hidden(proc, pid),
        (_, io::ErrorKind::PermissionDenied) => {
            format!(
                "pid {pid} cannot be identified: {error} ({} is mounted with hidepid?)",
                proc.path().display()
            )
        }
        _ => format!("pid {pid} cannot be identified: {error}"),
    })
}

fn hidden(proc: &ProcRoot, pid: Pid) -> String {
    format!("pid {pid} is alive, but hidden in {} (hidepid?)", proc.path().display())
}

/// Where /proc shows no process with this pid and the kernel knows one: what to say of it. `None` where there is none.
pub fn hidden_from(proc: &ProcRoot, pid: Pid) -> Option<String> {
    open(pid).is_ok().then(|| hidden(proc, pid))
}

fn open(pid: Pid) -> Result<OwnedFd, Refusal> {
    let raw = i32::try_from(pid.0).ok().and_then(rustix::process::Pid::from_raw);
    let number = raw.ok_or_else(|| Refusal::Unidentified(format!("{pid} is no pid")))?;
    pidfd_open(number, PidfdFlags::empty()).map_err(|error| {
        let unable = |remedy| Refusal::Unable { detail: format!("pidfd_open of pid {pid}: {error}"), remedy };
        match error {
            Errno::SRCH => Refusal::AlreadyGone(format!("pid {pid} is gone already")),
            Errno::INVAL | Errno::NOENT => Refusal::Unidentified(format!("{pid} is a thread, not a process")),
            Errno::NOSYS => {
                unable("a Linux kernel of 5.3 or later is needed to signal a process without a race")
            }
            Errno::PERM => {
                unable("a seccomp filter forbids pidfd_open: allow it, or run leakscope on the host")
            }
            _ => unable("see leakscope doctor"),
        }
    })
}

fn describe(who: &Identity) -> String {
    format!(
        "{}, user {}, cgroup {}: {}",
        who.key,
        who.user.clone().unwrap_or_else(|| who.uid.to_string()),
        who.owner.cgroup.as_deref().unwrap_or("none"),
        who.command_line()
    )
}
