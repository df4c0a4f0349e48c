//! The arguments of what deals with recordings: `record`, `replay`, `analyze`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use leakscope::commands::record;
use leakscope::source::series::Query;

use super::{FormatArgs, ObserveArgs, confirm, positive_duration};

/// `leakscope record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Where the recording goes: a new file, or an empty one
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Keep of each command line no more than the program's name
    #[arg(long)]
    pub redact: bool,
    /// How to observe. The interval is how often a sample is kept.
    #[command(flatten)]
    pub observe: ObserveArgs,
}

impl RecordArgs {
    /// What the recording is told.
    pub const fn options(&self) -> record::Options {
        record::Options { interval: self.observe.interval, duration: self.observe.duration }
    }
}

/// `leakscope replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The recording
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How long clean growth must have lasted before a leak is confirmed
    #[arg(long, value_name = "D", default_value = "1m", value_parser = confirm)]
    pub confirm: Duration,
    /// Table or JSON.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `leakscope analyze`.
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// Recordings, CSV files, monitoring logs, Prometheus' answers to range queries
    #[arg(value_name = "FILE", required_unless_present = "prometheus")]
    pub files: Vec<PathBuf>,
    /// How long clean growth must have lasted before a leak is confirmed
    #[arg(long, value_name = "D", default_value = "5m", value_parser = confirm)]
    pub confirm: Duration,
    /// Ask this Prometheus server
    #[arg(long, value_name = "URL", help_heading = "Prometheus")]
    pub prometheus: Option<String>,
    /// For what: PromQL that gives series of bytes [default: process_resident_memory_bytes]
    #[arg(long, value_name = "PROMQL", requires = "prometheus", help_heading = "Prometheus")]
    pub query: Option<String>,
    /// How far back
    #[arg(long, value_name = "D", default_value = "6h", value_parser = positive_duration, help_heading = "Prometheus")]
    pub range: Duration,
    /// How far apart the samples are [default: 15s, more where the range is longer than the server allows for that]
    #[arg(long, value_name = "D", value_parser = positive_duration, help_heading = "Prometheus")]
    pub step: Option<Duration>,
    /// How long the server has for its whole answer
    #[arg(long, value_name = "D", default_value = "1m", value_parser = positive_duration, help_heading = "Prometheus")]
    pub timeout: Duration,
    /// Table or JSON.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// What every client library of Prometheus exports of its own process.
pub const USUAL_QUERY: &str = "process_resident_memory_bytes";

impl AnalyzeArgs {
    /// What Prometheus is asked; `None` when it is not asked.
    pub fn query(&self) -> Option<Query> {
        Some(Query {
            server: self.prometheus.clone()?,
            query: self.query.clone().unwrap_or_else(|| USUAL_QUERY.to_owned()),
            range: self.range,
            step: self.step,
            timeout: self.timeout,
        })
    }
}
