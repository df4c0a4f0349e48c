//! What is done about a process, who is protected from it, and how it is undone: arguments as typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{FormatArgs, confirm, duration};

const PROTECTION: &str = "Protection (repeatable)";

/// Who must not be killed.
#[derive(Clone, Debug, Default, Args)]
pub struct ProtectArgs {
    /// Never kill the process that this pid file names
    #[arg(help_heading = PROTECTION, long = "protect-pidfile", value_name = "FILE")]
    pub protect_pidfiles: Vec<PathBuf>,
    /// Never kill a process whose command line matches
    #[arg(help_heading = PROTECTION, long = "protect", value_name = "REGEX")]
    pub protect_cmds: Vec<String>,
    /// Read protections from this file instead of /etc/leakscope/config.toml
    #[arg(help_heading = PROTECTION, long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How a kill goes.
#[derive(Clone, Debug, Args)]
pub struct GraceArgs {
    /// Time from SIGTERM to SIGKILL
    #[arg(long, value_name = "D", default_value = "10s", value_parser = duration)]
    pub grace: Duration,
    /// Never send SIGKILL
    #[arg(long)]
    pub no_escalate: bool,
    /// By whose hand: a signal, or systemd for the main process of a service (auto: a signal, and the owner's way is
    /// named); systemd has a grace of its own
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub via: ViaChoice,
    /// Run every check and signal nobody
    #[arg(long)]
    pub dry_run: bool,
}

/// By whose hand a process is ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ViaChoice {
    /// By a signal; the owner's own way is named.
    #[default]
    Auto,
    /// By a signal.
    Signal,
    /// By systemctl stop of its unit.
    Systemd,
    /// By systemctl restart of its unit.
    SystemdRestart,
}

/// What is done to a confirmed leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ActionChoice {
    /// Kill it, as --kill.
    Kill,
    /// Stop it: the freezer of its own cgroup, or SIGSTOP. leakscope undo lets it go on.
    Freeze,
    /// Set memory.high of its own cgroup (v2) to what it holds. leakscope undo lifts it.
    Throttle,
}

/// `leakscope kill`.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// The process
    #[arg(value_name = "PID", required_unless_present = "pidfile", conflicts_with = "pidfile", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// The process that this pid file names
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Watch it first, and refuse unless its leak is confirmed by so much clean growth
    #[arg(long, value_name = "D", value_parser = confirm)]
    pub confirm: Option<Duration>,
    /// Kill it although its leak was not confirmed
    #[arg(long, requires = "confirm")]
    pub force: bool,
    /// How the kill goes.
    #[command(flatten)]
    pub grace: GraceArgs,
    /// Who must not be killed.
    #[command(flatten)]
    pub protect: ProtectArgs,
    /// Table or JSON.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `leakscope undo`.
#[derive(Debug, Args)]
#[command(after_help = "\
What was done is written down in /run/leakscope/undo (for other users than root below XDG_RUNTIME_DIR), or in the directory \
that LEAKSCOPE_UNDO_DIR names, for hunt and undo alike.")]
pub struct UndoArgs {
    /// Of these processes [default: of all]
    #[arg(value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,
    /// Only show what there is to undo
    #[arg(long)]
    pub list: bool,
    /// Table or JSON.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `leakscope rules`.
#[derive(Debug, Args)]
#[command(after_help = "\
The configuration file protects whoever matches all that a rule names; a key that is not known is an error:

  [[protect]]
  name = \"database\"                # told in the report, as is the reason
  reason = \"fail over first\"
  cmd = \"postgres.* -D /srv/db\"    # a regular expression, anywhere in the whole command line
  exe = \"/usr/lib/postgresql/15/bin/postgres\"
  unit = \"postgresql@15-main\"      # a systemd unit; without an ending, a service
  cgroup = \"/system.slice\"         # this cgroup and those below it
  user = \"postgres\"                # a name or a number

  [[protect]]
  pidfile = \"/run/app.pid\"         # alone: whom the file names, read anew before each signal")]
pub struct RulesArgs {
    /// Who must not be killed.
    #[command(flatten)]
    pub protect: ProtectArgs,
    /// Table or JSON.
    #[command(flatten)]
    pub format: FormatArgs,
}
