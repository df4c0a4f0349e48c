//! What was found, as values, and the ways to show it.
//!
//! The path of a report: [`Hunt`] (the JSON contract) and the rest of an [`Incident`] are filled in by the monitor;
//! [`compose()`] makes a [`Document`] of it, the only place where sentences are written; text, Markdown and HTML render
//! that; [`write_report`] puts it in its place. The path of a ranking: [`WatchLine`] to a line of JSON or a [`Table`].
//! Whatever a process calls itself becomes [`Printable`] before it is shown. Pure but for `write.rs`.

mod analysis;
mod anatomy;
mod chart;
mod compose;
mod counts;
mod document;
mod duration;
mod format;
mod html;
mod hunt;
mod incident;
pub mod json;
mod markdown;
mod pressure;
mod printable;
mod service;
mod svg;
mod table;
mod tables;
#[cfg(test)]
mod tests;
mod text;
mod watch;
mod write;

pub use analysis::{Analysis, SeriesReport, ServiceReport, TransitionLine};
pub use anatomy::{AnatomyLine, MappingLine};
pub use chart::{Available, Beside, Ceiling, Chart, Curve, Ending, Trend};
pub use compose::compose;
pub use counts::{CallLine, CallsLine, FlowLine, LossLine, RemapLine, RssLine};
pub use document::{Block, Document, Section};
pub use duration::span;
pub use format::ReportFormat;
pub use html::to_html;
pub use hunt::{
    Cadence, Host, HostVerdict, Hunt, Kernel, MemoryLine, Oom, OwnerLine, Place, RateLine, Suspect,
};
pub use incident::{Candidate, Incident, Lookalike, OomChoice, Story, TimelineEntry, Told};
pub use markdown::to_markdown;
pub use pressure::{PressureLine, StallLine};
pub use printable::{Line, Printable, Span, command_line, short_command_line};
pub use service::{Service, services_table};
pub use table::{Cell, Column, Fit, Mark, Style, Table, cut};
pub use tables::{
    DoctorLine, Health, RuledProcess, candidates_table, checks_table, doctor_table, rules_table,
};
pub use text::to_text;
pub use watch::{FillLine, KernelLine, SelfCost, WatchLine, WatchProcess};
pub use write::{WriteError, Written, check_report_place, write_report};
