//! The command line: arguments as typed, and their one conversion into what the commands take.
//!
//! Start reading at [`Cli`]. Names, defaults and exit status are a contract that scripts rely on; `cli/usable.rs` holds the
//! conversion.

mod acting;
mod recorded;
mod usable;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ArgPredicate;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use acting::{ActionChoice, GraceArgs, KillArgs, ProtectArgs, RulesArgs, UndoArgs, ViaChoice};
pub use recorded::{AnalyzeArgs, RecordArgs, ReplayArgs, USUAL_QUERY};
pub use usable::restraints;

const SELECTION: &str = "Selection (repeatable; any of one kind, and all kinds given)";

/// Finds the process that leaks memory on a Linux host, proves it, and ends exactly that one when told to.
///
/// Sizes are decimal: 1 KB is 1000 bytes. Durations are written like 250ms, 10s, 5m, 1h30m; a bare number is seconds.
#[derive(Debug, Parser)]
#[command(name = "leakscope", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "\
Exit status of hunt, demo, replay and analyze: 0 nothing is leaking now (none found, or every one found was killed and its death \
verified), 1 a leak is still there, 2 the job could not be done. Of kill: 0 the death is verified, 1 refused or not \
dead in time, 2 the job could not be done.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Colour in tables and messages; NO_COLOR is honoured
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,

    /// More messages; -vv shows those of the kernel side as well
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// No messages but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch the host, confirm the leaking process, kill it only when told to, and write the incident report
    Hunt(HuntArgs),
    /// Show the live ranking of growing processes, a table or a JSON object each interval
    Watch(WatchArgs),
    /// Kill one process, verified: identity, protections, death, bystanders, memory
    Kill(KillArgs),
    /// Keep what is observed in a file, to be judged again later
    Record(RecordArgs),
    /// Judge a recording as if it were live; needs no privilege and signals nobody
    Replay(ReplayArgs),
    /// Judge series that somebody else recorded: CSV, monitoring logs, Prometheus
    Analyze(AnalyzeArgs),
    /// Undo what --action freeze and --action throttle did
    Undo(UndoArgs),
    /// Show which rule protects which process that lives now; signals nobody
    Rules(RulesArgs),
    /// Say what this kernel, these privileges and this build can do, and how to get the rest
    Doctor(DoctorArgs),
    /// Run the lab: a leaking cache service and a legitimate app; hunts, kills the right one, writes the report
    Demo(DemoArgs),
}

/// Options of everything that observes.
#[derive(Debug, Args)]
pub struct ObserveArgs {
    /// How often something is shown [100ms to 1h]
    #[arg(long, value_name = "D", default_value = "1s", value_parser = interval)]
    pub interval: Duration,

    /// Stop after this long
    #[arg(long, value_name = "D", value_parser = positive_duration)]
    pub duration: Option<Duration>,

    /// Where observations come from; auto takes ebpf where it works
    #[arg(long, value_enum, default_value_t)]
    pub source: SourceChoice,

    /// How tracepoints are attached; auto takes BTF where the kernel has it
    #[arg(long, value_enum, default_value_t, hide_short_help = true)]
    pub tracepoints: Tracepoints,

    /// What is observed.
    #[command(flatten)]
    pub selection: SelectionArgs,
}

/// Which processes: any of one kind, and all kinds that are given.
#[derive(Clone, Debug, Default, Args)]
pub struct SelectionArgs {
    /// Only this process
    #[arg(help_heading = SELECTION, long = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,
    /// Only the process that this pid file names
    #[arg(help_heading = SELECTION, long = "pidfile", value_name = "FILE")]
    pub pidfiles: Vec<PathBuf>,
    /// Only processes whose whole command line matches
    #[arg(help_heading = SELECTION, long = "cmd", value_name = "REGEX")]
    pub cmds: Vec<String>,
    /// Only processes of this systemd unit
    #[arg(help_heading = SELECTION, long = "unit", value_name = "UNIT")]
    pub units: Vec<String>,
    /// Only processes in this cgroup or below it
    #[arg(help_heading = SELECTION, long = "cgroup", value_name = "PATH")]
    pub cgroups: Vec<String>,
    /// Only processes of this user, by name or number
    #[arg(help_heading = SELECTION, long = "user", value_name = "USER")]
    pub users: Vec<String>,
}

/// Where observations come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SourceChoice {
    /// ebpf, or procfs where it does not work.
    #[default]
    Auto,
    /// The kernel side; an error where it does not work.
    Ebpf,
    /// /proc alone; needs no privilege.
    Procfs,
}

/// How tracepoints are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Tracepoints {
    /// BTF, or classic where the kernel has no BTF.
    #[default]
    Auto,
    /// BTF tracepoints only.
    Btf,
    /// Classic tracepoints only.
    Classic,
}

/// Table or JSON.
#[derive(Clone, Debug, Args)]
pub struct FormatArgs {
    /// What is printed on standard output
    #[arg(long, value_enum, default_value_t, default_value_if("json", ArgPredicate::IsPresent, "json"))]
    pub format: Output,
    /// Short for --format json
    #[arg(long)]
    pub json: bool,
}

/// What is printed on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables for people.
    #[default]
    Table,
    /// JSON for programs.
    Json,
}

/// `leakscope hunt`.
#[derive(Debug, Args)]
pub struct HuntArgs {
    /// How to observe.
    #[command(flatten)]
    pub observe: ObserveArgs,
    /// Table or JSON.
    #[command(flatten)]
    pub format: FormatArgs,
    /// Give up after this long and say what was seen [default: twice --confirm, at least 2m]
    #[arg(long, value_name = "D", value_parser = positive_duration)]
    pub timeout: Option<Duration>,
    /// How long clean growth must have lasted before a leak is confirmed [default: 1m; 5m with --kill --yes]
    #[arg(long, value_name = "D", value_parser = confirm)]
    pub confirm: Option<Duration>,
    /// Kill what is confirmed; asks before each kill
    #[arg(long, group = "acts")]
    pub kill: bool,
    /// Do this to what is confirmed instead of a kill; asks before each
    #[arg(long, value_enum, value_name = "ACTION", group = "acts")]
    pub action: Option<ActionChoice>,
    /// Do not ask before a kill, or the action
    #[arg(long, requires = "acts")]
    pub yes: bool,
    /// How a kill goes.
    #[command(flatten)]
    pub grace: GraceArgs,
    /// Who must not be killed.
    #[command(flatten)]
    pub protect: ProtectArgs,
    /// Watch the process that is started in the place of one that was killed, and say whether it leaks again
    #[arg(long, value_name = "D", value_parser = positive_duration)]
    pub follow: Option<Duration>,
    /// Where the incident report goes when a leak is confirmed
    #[arg(long, value_name = "FILE", default_value = "/tmp/incident-report.txt")]
    pub report: PathBuf,
    /// Keep what is read of each confirmed leak (status, mappings, limits, its growth) in a folder in this directory
    #[arg(long, value_name = "DIR")]
    pub evidence: Option<PathBuf>,
    /// Write no report
    #[arg(long, conflicts_with = "report")]
    pub no_report: bool,
    /// The report's format [default: by the file's ending, else text]
    #[arg(long, value_enum)]
    pub report_format: Option<FormatChoice>,
    /// Do not stop at the first confirmed leak
    #[arg(long)]
    pub all: bool,
}

/// The report's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatChoice {
    /// Plain text.
    Text,
    /// Markdown.
    Md,
    /// One HTML file.
    Html,
    /// The object that --json prints.
    Json,
}

/// `leakscope watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// How to observe.
    #[command(flatten)]
    pub observe: ObserveArgs,
    /// Table or JSON.
    #[command(flatten)]
    pub format: FormatArgs,
    /// Show at most this many processes [default: what fits the terminal, otherwise 20; JSON: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

/// `leakscope doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Table or JSON.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `leakscope demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave the legitimate app, the folder and its files for a look, the report in every form among them
    #[arg(long)]
    pub keep: bool,
    /// Use /tmp/leaky.pid, /tmp/legit-app.pid, /tmp/incident-report.txt and /var/log/monitoring/memory.log
    #[arg(long)]
    pub walkthrough_paths: bool,
    /// How long clean growth must have lasted before the leak is confirmed; a real hunt waits longer
    #[arg(long, value_name = "D", default_value = "15s", value_parser = confirm)]
    pub confirm: Duration,
    /// Where observations come from; auto takes ebpf where it works
    #[arg(long, value_enum, default_value_t)]
    pub source: SourceChoice,
    /// How tracepoints are attached; auto takes BTF where the kernel has it
    #[arg(long, value_enum, default_value_t, hide_short_help = true)]
    pub tracepoints: Tracepoints,
    /// Table or JSON.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `250ms`, `10s`, `5m`, `1h30m`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    const HOW: &str = "write it like 250ms, 10s, 5m or 1h30m";
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| format!("not a time span; {HOW}"));
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| format!("not a time span; {HOW}"))?;
    Duration::try_from(span).map_err(|_| format!("is negative; {HOW}"))
}

/// A duration that is not zero.
fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than 0".to_owned()),
        span => Ok(span),
    }
}

/// A duration within limits, both included.
fn duration_within(text: &str, low: Duration, high: Duration) -> Result<Duration, String> {
    let span = duration(text)?;
    if span < low || span > high {
        return Err(format!("must be from {low:?} to {high:?}"));
    }
    Ok(span)
}

fn interval(text: &str) -> Result<Duration, String> {
    duration_within(text, Duration::from_millis(100), Duration::from_secs(3600))
}

/// Under 5 s the slope of 10 KB each 0.2 s cannot be told from a start-up.
fn confirm(text: &str) -> Result<Duration, String> {
    duration_within(text, Duration::from_secs(5), Duration::from_secs(7 * 86_400))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in
            [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h30m", 5_400_000), ("2", 2_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "ten", "-1s", "-5", "nan", "inf", "1e300"] {
            assert!(duration(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn an_interval_of_zero_is_refused_with_the_limits() {
        let error = Cli::try_parse_from(["leakscope", "watch", "--interval", "0"]).unwrap_err();
        assert!(error.to_string().contains("must be from 100ms to 3600s"), "{error}");
    }

    #[test]
    fn json_is_short_for_format_json() {
        for args in [&["--json"][..], &["--format", "json"]] {
            let cli = Cli::try_parse_from([&["leakscope", "watch"], args].concat()).unwrap();
            let Command::Watch(watch) = cli.command else { panic!("not watch") };
            assert_eq!(watch.format.format, Output::Json);
        }
    }

    #[test]
    fn not_asking_goes_only_with_killing() {
        assert!(Cli::try_parse_from(["leakscope", "hunt", "--yes"]).is_err());
    }

    #[test]
    fn kill_takes_a_pid_or_a_pid_file_and_not_both() {
        assert!(Cli::try_parse_from(["leakscope", "kill"]).is_err());
        assert!(Cli::try_parse_from(["leakscope", "kill", "7", "--pidfile", "x"]).is_err());
        assert!(Cli::try_parse_from(["leakscope", "kill", "0"]).is_err());
        assert!(Cli::try_parse_from(["leakscope", "kill", "7"]).is_ok());
    }
}
