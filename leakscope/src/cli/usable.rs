//! From arguments as typed to options as usable: the one conversion, with the errors that only it can find.

use std::path::PathBuf;
use std::time::Duration;

use leakscope::action::{KillOptions, Measure, Protections, Restraints, Via};
use leakscope::commands::hunt::{self, KillMode};
use leakscope::commands::kill;
use leakscope::commands::present::{Destination, Terms};
use leakscope::config;
use leakscope::fault::Remedy;
use leakscope::leak::Thresholds;
use leakscope::process::{ProcRoot, Selector};
use leakscope::report::{ReportFormat, Told};
use leakscope::source::{TracepointKind, Wanted};
use leakscope::ui::{Ui, Verbosity};
use leakscope::units::Pid;
use regex::Regex;

use super::{
    ActionChoice, Cli, Color, FormatChoice, GraceArgs, HuntArgs, KillArgs, ProtectArgs, SelectionArgs,
    SourceChoice, Tracepoints, ViaChoice,
};

impl Cli {
    /// Standard streams as the user wants them.
    pub fn ui(&self) -> Ui {
        let verbosity = match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::Debug,
        };
        let color = match self.color {
            Color::Auto => None,
            Color::Always => Some(true),
            Color::Never => Some(false),
        };
        Ui::new(verbosity, color)
    }
}

impl HuntArgs {
    /// How long clean growth must last before a leak counts as confirmed.
    pub fn confirm(&self) -> Duration {
        let unasked = Duration::from_secs(300);
        self.confirm.unwrap_or(if self.kills() && self.yes { unasked } else { Thresholds::default().confirm })
    }

    /// Whether a confirmed leak is to be killed.
    fn kills(&self) -> bool {
        self.kill || self.action == Some(ActionChoice::Kill)
    }

    /// What is done to it instead.
    fn instead(&self) -> Option<Measure> {
        match self.action {
            None | Some(ActionChoice::Kill) => None,
            Some(ActionChoice::Freeze) => Some(Measure::Freeze),
            Some(ActionChoice::Throttle) => Some(Measure::Throttle),
        }
    }

    /// What the hunt is told.
    pub fn options(&self) -> anyhow::Result<hunt::Options> {
        let confirm = self.confirm();
        let timeout = self.timeout.unwrap_or((confirm * 2).max(Duration::from_secs(120)));
        Ok(hunt::Options {
            confirm,
            timeout: self.observe.duration.map_or(timeout, |duration| duration.min(timeout)),
            interval: self.observe.interval,
            all: self.all,
            instead: self.instead().map(|measure| (measure, restraints())),
            kill: match (self.kills() || self.instead().is_some(), self.yes) {
                (false, _) if self.grace.dry_run => KillMode::Yes,
                (false, _) => KillMode::Never,
                (true, false) => KillMode::Ask,
                (true, true) => KillMode::Yes,
            },
            how: self.grace.options(&self.protect)?,
            follow: self.follow,
            evidence: self.evidence.clone(),
            only: None,
        })
    }

    /// What the report says the hunt was told.
    pub fn terms(&self) -> Terms {
        let acts = self.kills() || self.instead().is_some();
        let told = match (self.grace.dry_run, acts, self.yes) {
            (true, ..) => Told::DryRun,
            (_, false, _) => Told::Observe,
            (_, true, false) => Told::Ask,
            (_, true, true) => Told::Kill,
        };
        Terms { confirm: self.confirm(), told }
    }

    /// Where the report goes; `None` for no report.
    pub fn destination(&self) -> Option<Destination> {
        let format =
            self.report_format.map_or_else(|| ReportFormat::of_path(&self.report), ReportFormat::from);
        (!self.no_report).then(|| Destination { path: self.report.clone(), format })
    }
}

impl KillArgs {
    /// Who is meant.
    pub fn target(&self) -> anyhow::Result<kill::Target> {
        match (self.pid, &self.pidfile) {
            (Some(pid), None) => Ok(kill::Target::Pid(Pid(pid))),
            (None, Some(path)) => Ok(kill::Target::Pidfile(path.clone())),
            _ => anyhow::bail!("give a PID or --pidfile FILE"),
        }
    }
}

impl ProtectArgs {
    /// Who must not be killed, and the configuration file that says so as well.
    pub fn protections(&self) -> anyhow::Result<(Protections, Option<PathBuf>)> {
        let config = config::load(self.config.as_deref())?;
        let protections = Protections::default()
            .patterns(regexes("--protect", &self.protect_cmds)?)
            .pidfiles(self.protect_pidfiles.iter().cloned())
            .ruled_pidfiles(config.pidfiles)
            .rules(config.rules);
        Ok((protections, config.file))
    }
}

impl GraceArgs {
    /// How a kill goes, and who must not be killed.
    pub fn options(&self, protect: &ProtectArgs) -> anyhow::Result<KillOptions> {
        let by_systemd = matches!(self.via, ViaChoice::Systemd | ViaChoice::SystemdRestart);
        if by_systemd && self.no_escalate {
            return Err(anyhow::anyhow!(
                "--no-escalate does not go with --via systemd: SIGKILL is systemd's own affair"
            ))
            .fix("set SendSIGKILL=no in the unit, or end the process with --via signal");
        }
        Ok(KillOptions {
            grace: self.grace,
            escalate: !self.no_escalate,
            via: self.via.into(),
            dry_run: self.dry_run,
            protections: protect.protections()?.0,
            ..KillOptions::default()
        })
    }
}

impl SelectionArgs {
    /// The selection, bound to the processes that pids and pid files name now.
    pub fn selector(&self, root: &ProcRoot) -> anyhow::Result<Selector> {
        let mut selector = Selector::default()
            .pids(self.pids.iter().copied().map(Pid))
            .pidfiles(self.pidfiles.iter().cloned())
            .commands(regexes("--cmd", &self.cmds)?)
            .units(self.units.iter().cloned())
            .cgroups(self.cgroups.iter().cloned());
        for user in &self.users {
            selector =
                selector.user(user).fix("give a name or a number that this host knows (getent passwd)")?;
        }
        if let Some(error) = selector.bind(root).into_iter().next() {
            return Err(error)
                .fix("name a pid file that a running process keeps, or select with --pid or --cmd");
        }
        if let Some(pid) = selector.unbound_pids().next() {
            return Err(anyhow::anyhow!("--pid {pid}: no such process"))
                .fix("look it up again (ps, pgrep): it may have ended");
        }
        for pid in self.pids.iter().copied().map(Pid) {
            watchable(root, pid)?;
        }
        Ok(selector)
    }
}

/// Refuses a process that has no memory to watch.
fn watchable(root: &ProcRoot, pid: Pid) -> anyhow::Result<()> {
    let why = match root.identify(pid) {
        _ if pid.0 == std::process::id() => "is leakscope itself, which leaves itself out",
        Ok(identity) if identity.kernel_thread => "is a thread of the kernel, which has no memory of its own",
        Ok(identity) if identity.zombie => "is a zombie: it has ended, and its memory is gone",
        // One that vanishes right now is seen to be gone in a moment.
        Ok(_) | Err(_) => return Ok(()),
    };
    Err(anyhow::anyhow!("--pid {pid} {why}"))
        .fix("name the process whose memory grows (leakscope watch ranks them)")
}

/// Where it is written down how to undo what was done: emptied at boot, as what was done is. Not the directory that systemd
/// gives a service: it goes with the service, and what was stopped stays.
pub fn restraints() -> Restraints {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = || named("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root());
    let usual = || own().unwrap_or_else(|| PathBuf::from("/run")).join("leakscope/undo");
    Restraints::new(named("LEAKSCOPE_UNDO_DIR").unwrap_or_else(usual))
}

fn regexes(option: &str, patterns: &[String]) -> anyhow::Result<Vec<Regex>> {
    patterns
        .iter()
        .map(|pattern| {
            Regex::new(pattern).map_err(|error| anyhow::anyhow!("{option} {pattern}: {error}")).fix(
                "quote what is meant literally with a backslash; the syntax is that of the Rust crate regex",
            )
        })
        .collect()
}

impl From<SourceChoice> for Wanted {
    fn from(choice: SourceChoice) -> Self {
        match choice {
            SourceChoice::Auto => Self::Auto,
            SourceChoice::Ebpf => Self::Ebpf,
            SourceChoice::Procfs => Self::Procfs,
        }
    }
}

impl From<Tracepoints> for TracepointKind {
    fn from(choice: Tracepoints) -> Self {
        match choice {
            Tracepoints::Auto => Self::Auto,
            Tracepoints::Btf => Self::Btf,
            Tracepoints::Classic => Self::Classic,
        }
    }
}

impl From<ViaChoice> for Via {
    fn from(choice: ViaChoice) -> Self {
        match choice {
            ViaChoice::Auto => Self::Auto,
            ViaChoice::Signal => Self::Signal,
            ViaChoice::Systemd => Self::SystemdStop,
            ViaChoice::SystemdRestart => Self::SystemdRestart,
        }
    }
}

impl From<FormatChoice> for ReportFormat {
    fn from(choice: FormatChoice) -> Self {
        match choice {
            FormatChoice::Text => Self::Text,
            FormatChoice::Md => Self::Markdown,
            FormatChoice::Html => Self::Html,
            FormatChoice::Json => Self::Json,
        }
    }
}
