//! Workers of one service that leak together, as every command and the report name them.

use std::time::Duration;

use serde::Serialize;

use super::hunt::{OwnerLine, RateLine};
use super::json;
use super::printable::{Line, Printable, short_command_line};
use super::table::{Cell, Column, Fit, Mark, Table, cut};
use crate::leak::State;
use crate::units::{Bytes, Pid};

/// A service none of whose workers is told alone, and what is thought of the sum of their footprints.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    /// The command line of the worker that was known first.
    pub cmdline: Vec<String>,
    /// Its name of at most 15 bytes.
    pub comm: String,
    /// The workers' program.
    pub exe: Option<String>,
    /// The process that started them.
    pub parent_pid: Pid,
    /// Who keeps them.
    pub owner: OwnerLine,
    /// How many workers live.
    pub processes: usize,
    /// Their pids, the first of them where they are many.
    pub pids: Vec<Pid>,
    /// What is thought of the sum.
    pub verdict: State,
    /// Whether its clean growth lasted as long as was asked for.
    pub confirmed: bool,
    /// How long the growth that the verdict rests on had lasted.
    #[serde(rename = "clean_growth_s", serialize_with = "json::seconds")]
    pub clean_growth: Duration,
    /// Why, one clause each, the weightiest first.
    pub reasons: Vec<String>,
    /// What they hold together, anonymous and swapped.
    pub footprint_bytes: Bytes,
    /// How fast the sum grew.
    #[serde(flatten)]
    pub rate: RateLine,
}

impl Service {
    /// `40 workers of parent 500 (gunicorn: app)`: safe to show.
    pub fn title(&self) -> String {
        let name = Printable::new(&short_command_line(&self.cmdline, &self.comm));
        let workers = if self.processes == 1 { "worker" } else { "workers" };
        format!("{} {workers} of parent {} ({})", self.processes, self.parent_pid, cut(name.as_str(), 60))
    }
}

/// Services below a ranking of processes.
pub fn services_table(services: &[Service]) -> Table {
    let row = |service: &Service| {
        vec![
            service.parent_pid.to_string().into(),
            Cell::marked(service.verdict.name(), Mark::of(service.verdict, service.confirmed)),
            service.footprint_bytes.to_string().into(),
            Cell::measured(service.rate.rate_bytes_per_s.map(super::watch::signed)),
            service.processes.to_string().into(),
            Line::new().code(short_command_line(&service.cmdline, &service.comm)).into(),
        ]
    };
    Table {
        columns: vec![
            Column::number("PARENT"),
            Column::new("VERDICT").keep(10),
            Column::number("TOGETHER").keep(8),
            Column::number("RATE").keep(9),
            Column::number("WORKERS").keep(7),
            Column::new("SERVICE").fit(Fit::Cut(16)),
        ],
        rows: services.iter().map(row).collect(),
        rule: false,
    }
}
