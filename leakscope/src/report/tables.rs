//! The tables that reports and commands share: candidates, a kill's checks, what doctor found.

use serde::Serialize;

use super::incident::Candidate;
use super::printable::{Line, Printable, Span, short_command_line};
use super::table::{Cell, Column, Fit, Mark, Table};
use crate::action::Check;
use crate::units::{Pid, Ticks};

/// Characters of a command line that a table holds; Markdown and HTML cut no cells.
const NAME_LENGTH: usize = 200;

/// Every process that was considered, and why it was cleared.
pub fn candidates_table(candidates: &[Candidate]) -> Table {
    let row = |candidate: &Candidate| {
        let why =
            if candidate.confirmed { format!("confirmed: {}", candidate.why) } else { candidate.why.clone() };
        vec![
            candidate.pid.to_string().into(),
            Line(vec![Span::Code(Printable::limited(&candidate.name, NAME_LENGTH))]).into(),
            Cell::marked(candidate.verdict.name(), Mark::of(candidate.verdict, candidate.confirmed)),
            candidate.footprint.to_string().into(),
            Cell::measured(candidate.growth),
            why.into(),
        ]
    };
    Table {
        columns: vec![
            Column::number("PID"),
            Column::new("PROCESS").fit(Fit::Cut(12)),
            Column::new("VERDICT"),
            Column::number("FOOTPRINT").keep(3),
            Column::number("GROWTH").keep(2),
            Column::new("WHY").fit(Fit::Wrap(18)).keep(1),
        ],
        rows: candidates.iter().map(row).collect(),
        rule: true,
    }
}

/// What was checked before and after a kill.
pub fn checks_table(checks: &[Check]) -> Table {
    let row = |check: &Check| {
        let (result, mark) = if check.passed { ("passed", Mark::Good) } else { ("FAILED", Mark::Bad) };
        vec![check.check.into(), Cell::marked(result, Some(mark)), check.detail.as_str().into()]
    };
    Table {
        columns: vec![
            Column::new("CHECK").fit(Fit::Wrap(10)),
            Column::new("RESULT"),
            Column::new("FOUND").fit(Fit::Wrap(16)).keep(1),
        ],
        rows: checks.iter().map(row).collect(),
        rule: true,
    }
}

/// One thing that doctor looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorLine {
    /// What was looked at.
    pub item: String,
    /// How it is.
    pub health: Health,
    /// What was found, and how to get what is missing.
    pub detail: String,
}

/// How something is that leakscope can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Works,
    /// It works in part, or is done without.
    Limited,
    /// It is not there, and something is lost by that.
    Missing,
}

impl Health {
    /// The word that tables use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }

    const fn mark(self) -> Mark {
        match self {
            Self::Works => Mark::Good,
            Self::Limited => Mark::Watch,
            Self::Missing => Mark::Bad,
        }
    }
}

/// What doctor found.
pub fn doctor_table(lines: &[DoctorLine]) -> Table {
    let row = |line: &DoctorLine| {
        vec![
            line.item.as_str().into(),
            Cell::marked(line.health.name(), Some(line.health.mark())),
            line.detail.as_str().into(),
        ]
    };
    Table {
        columns: vec![
            Column::new("ITEM").fit(Fit::Wrap(12)),
            Column::new("STATE"),
            Column::new("DETAIL").fit(Fit::Wrap(20)).keep(1),
        ],
        rows: lines.iter().map(row).collect(),
        rule: false,
    }
}

/// A process that is protected, and by what.
#[derive(Clone, Debug, Serialize)]
pub struct RuledProcess {
    /// Its pid.
    pub pid: Pid,
    /// The start time that makes the pid unique.
    pub start_time_ticks: Ticks,
    /// Its name of at most 15 bytes.
    pub comm: String,
    /// Its arguments.
    pub cmdline: Vec<String>,
    /// The rules that catch it.
    pub rules: Vec<Check>,
}

/// Who is protected by which rule.
pub fn rules_table(processes: &[RuledProcess]) -> Table {
    let row = |process: &RuledProcess| {
        let name = short_command_line(&process.cmdline, &process.comm);
        let rules: Vec<&str> = process.rules.iter().map(|check| check.check).collect();
        let why: Vec<&str> = process.rules.iter().map(|check| check.detail.as_str()).collect();
        vec![
            process.pid.to_string().into(),
            Line(vec![Span::Code(Printable::limited(&name, NAME_LENGTH))]).into(),
            rules.join(", ").into(),
            why.join("; ").into(),
        ]
    };
    Table {
        columns: vec![
            Column::number("PID"),
            Column::new("PROCESS").fit(Fit::Cut(12)),
            Column::new("RULE").fit(Fit::Wrap(14)),
            Column::new("WHY").fit(Fit::Wrap(18)).keep(1),
        ],
        rows: processes.iter().map(row).collect(),
        rule: false,
    }
}
