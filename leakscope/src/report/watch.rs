//! The live ranking of one interval: as the line that `watch --json` prints (schema `leakscope.watch/1`, a contract as
//! [`super::Hunt`] is), and as the table.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::counts::LossLine;
use super::duration::span;
use super::hunt::{MemoryLine, RateLine};
use super::json;
use super::pressure::PressureLine;
use super::printable::{Line, short_command_line};
use super::service::{Service, services_table};
use super::table::{Cell, Column, Fit, Mark, Style, Table, cut};
use crate::leak::{Memory, State, Verdict};
use crate::process::Identity;
use crate::source::{Fill, KernelSide};
use crate::units::{Bytes, BytesPerSec, Pid, Ticks};

/// One interval.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "schema", rename = "leakscope.watch/1")]
pub struct WatchLine {
    /// When it ended.
    pub at: Timestamp,
    /// Events that the source could not keep, since it was opened.
    pub lost_events: u64,
    /// The same by cause.
    pub lost: Vec<LossLine>,
    /// How tasks of the host wait for memory; `None` where the kernel does not count that.
    pub pressure: Option<PressureLine>,
    /// What leakscope itself took.
    #[serde(rename = "self")]
    pub own: SelfCost,
    /// The processes, the fastest growing first.
    pub processes: Vec<WatchProcess>,
    /// Services whose workers grow together and none of which is told alone, the one of most concern first.
    pub services: Vec<Service>,
}

/// Services that the table names.
const SERVICES_SHOWN: usize = 5;

impl WatchLine {
    /// The line, with its line break.
    pub fn to_json_line(&self) -> anyhow::Result<String> {
        json::line(self)
    }

    /// The table, in the order of [`Self::processes`].
    pub fn to_table(&self) -> Table {
        Table { columns: COLUMNS.to_vec(), rows: self.processes.iter().map(row).collect(), rule: false }
    }

    /// How many lines so many services take below the table.
    pub fn lines_of_services(services: usize) -> usize {
        const BLANK_AND_TITLES: usize = 2;
        match services {
            0 => 0,
            few if few <= SERVICES_SHOWN => BLANK_AND_TITLES + few,
            _ => BLANK_AND_TITLES + SERVICES_SHOWN + 1,
        }
    }

    /// What stands below the table where a service grows, and nothing where none does.
    pub fn services_text(&self, style: Style) -> String {
        if self.services.is_empty() {
            return String::new();
        }
        let shown = &self.services[..self.services.len().min(SERVICES_SHOWN)];
        let more = match self.services.len() - shown.len() {
            0 => String::new(),
            more => format!("{}\n", cut(&format!("and {more} more (--json has them)"), style.width)),
        };
        format!("\n{}{more}", services_table(shown).to_text(style))
    }
}

/// What leakscope itself took since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SelfCost {
    /// Processor time, user and system.
    #[serde(rename = "cpu_seconds", serialize_with = "json::seconds")]
    pub cpu: Duration,
    /// Resident memory now.
    pub rss_bytes: Bytes,
    /// How long the memory system calls were traced, which may make every system call of the host dearer; `None` with a
    /// source that has no such tier.
    #[serde(rename = "syscalls_traced_s", serialize_with = "json::maybe_seconds")]
    pub syscalls_traced: Option<Duration>,
    /// What its kernel side took; `None` with a source that has none.
    pub kernel: Option<KernelLine>,
}

/// What the kernel side took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KernelLine {
    /// How long its programs ran, in the time of whoever set them off; `None` unless `kernel.bpf_stats_enabled` is on.
    #[serde(rename = "run_s", serialize_with = "json::maybe_seconds")]
    pub run: Option<Duration>,
    /// Processes that it keeps counts for, 20 s ago at most.
    pub processes: FillLine,
    /// Processes that it looks at closely.
    pub suspects: FillLine,
}

/// How full one of its maps is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FillLine {
    /// Entries.
    pub used: u32,
    /// Entries that there is room for.
    pub capacity: u32,
}

impl From<KernelSide> for KernelLine {
    fn from(side: KernelSide) -> Self {
        let fill = |fill: Fill| FillLine { used: fill.used, capacity: fill.capacity };
        Self { run: side.run_time, processes: fill(side.processes), suspects: fill(side.suspects) }
    }
}

/// One process in one interval.
#[derive(Clone, Debug, Serialize)]
pub struct WatchProcess {
    /// Its pid.
    pub pid: Pid,
    /// When it was started, in clock ticks since boot.
    pub start_time_ticks: Ticks,
    /// Its name of at most 15 bytes.
    pub comm: String,
    /// Its arguments.
    pub cmdline: Vec<String>,
    /// What is thought of it.
    pub verdict: State,
    /// Whether a leak counts as confirmed.
    pub confirmed: bool,
    /// Always `null`, as in [`super::Suspect`].
    pub confidence: Option<f64>,
    /// What it holds.
    #[serde(flatten)]
    pub memory: MemoryLine,
    /// How fast it grows, while it grows.
    #[serde(flatten)]
    pub rate: RateLine,
    /// User page faults a second; `None` where no kernel side counts them.
    pub page_faults_per_s: Option<f64>,
    /// When a limit would be reached.
    #[serde(rename = "oom_eta_s", serialize_with = "json::maybe_seconds")]
    pub oom_eta: Option<Duration>,
}

impl WatchProcess {
    /// What identity, verdict and memory say; the rest is not measured yet.
    pub fn new(identity: &Identity, verdict: &Verdict, memory: &Memory) -> Self {
        Self {
            pid: identity.key.pid,
            start_time_ticks: identity.key.start,
            comm: identity.comm.clone(),
            cmdline: identity.cmdline.clone(),
            verdict: verdict.state,
            confirmed: verdict.confirmed,
            confidence: None,
            memory: MemoryLine::from(memory),
            rate: RateLine::from_verdict(verdict),
            page_faults_per_s: None,
            oom_eta: None,
        }
    }
}

/// FOOTPRINT is ANON and SWAP together, so these two go early.
const COLUMNS: [Column; 11] = [
    Column::number("PID"),
    Column::new("VERDICT").keep(10),
    Column::number("FOOTPRINT").keep(8),
    Column::number("RATE").keep(9),
    Column::number("OOM IN").keep(7),
    Column::number("RSS").keep(6),
    Column::number("ANON").keep(4),
    Column::number("FILE").keep(3),
    Column::number("SWAP").keep(2),
    Column::number("FAULTS/S").keep(5),
    Column::new("PROCESS").fit(Fit::Cut(16)),
];

fn row(process: &WatchProcess) -> Vec<Cell> {
    let memory = &process.memory;

    let faults = process.page_faults_per_s.map(|faults| format!("{faults:.0}"));
    vec![
        process.pid.to_string().into(),
        Cell::marked(process.verdict.name(), Mark::of(process.verdict, process.confirmed)),
        memory.footprint().to_string().into(),
        Cell::measured(process.rate.rate_bytes_per_s.map(signed)),
        Cell::marked(
            process.oom_eta.map_or_else(|| "-".to_owned(), span),
            process.oom_eta.filter(|eta| *eta < crate::leak::TimeToOom::RUNAWAY).map(|_| Mark::Bad),
        ),
        memory.rss_bytes.to_string().into(),
        memory.anon_bytes.to_string().into(),
        memory.file_bytes.to_string().into(),
        memory.swap_bytes.to_string().into(),
        Cell::measured(faults),
        Line::new().code(short_command_line(&process.cmdline, &process.comm)).into(),
    ]
}

/// A rate in a ranking shows its direction.
pub(super) fn signed(rate: BytesPerSec) -> String {
    if rate.0 > 0.0 { format!("+{rate}") } else { rate.to_string() }
}
