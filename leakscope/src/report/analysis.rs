//! What came of judging what was recorded: the object that `analyze --json` and `replay --json` print (schema
//! `leakscope.analyze/1`, a contract as [`super::Hunt`] is), and the same for people.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::hunt::{HostVerdict, RateLine};
use super::json;
use super::printable::{Printable, command_line};
use super::service::Service;
use super::table::cut;
use crate::leak::{Rate, State};
use crate::units::{Pid, Ticks};

/// Series that do not grow are listed one by one where there are no more of them than this.
const FEW: usize = 20;
/// Transitions of one series that people are shown.
const SHOWN: usize = 40;

/// All that was judged.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "schema", rename = "leakscope.analyze/1")]
pub struct Analysis {
    /// Whether something leaks at the end of what was recorded.
    pub verdict: HostVerdict,
    /// The series, in the order in which they begin.
    pub series: Vec<SeriesReport>,
    /// Services whose workers grow together, or once did like a leak; only recordings say whose worker a process is.
    pub services: Vec<ServiceReport>,
    /// Rows that made no sense and were left out.
    pub ignored: u64,
    /// Processes that ended, beyond those that are listed: the first 10,000 that were never suspects, and the first 10,000
    /// that were. Services beyond the first 10,000 count as well.
    pub left_out: u64,
}

/// One series.
#[derive(Clone, Debug, Serialize)]
pub struct SeriesReport {
    /// The file, or the server's address.
    pub file: String,
    /// The process; `None` for what is none.
    pub pid: Option<Pid>,
    /// When it was started, in clock ticks since boot, where that was recorded.
    pub start_time_ticks: Option<Ticks>,
    /// Its name; `None` where it was gone before it could be asked.
    pub comm: Option<String>,
    /// Its arguments, where they were recorded.
    pub cmdline: Option<Vec<String>>,
    /// How often it was read.
    pub samples: u64,
    /// What was thought of it at its end.
    pub verdict: State,
    /// Whether a leak was confirmed then.
    pub confirmed: bool,
    /// Whether it was seen to end: what has ended leaks no longer.
    pub ended: bool,
    /// How fast it grew then.
    #[serde(flatten)]
    pub rate: RateLine,
    /// How long the growth that the verdict rests on had lasted.
    #[serde(rename = "clean_growth_s", serialize_with = "json::seconds")]
    pub clean_growth: Duration,
    /// Why, one clause each, the weightiest first.
    pub reasons: Vec<String>,
    /// Each change of the verdict.
    pub transitions: Vec<TransitionLine>,
    /// Further changes, when there were too many.
    pub transitions_left_out: u64,
}

/// One service, with the fields that `hunt --json` has for it.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceReport {
    /// The recording.
    pub file: String,
    /// The service as it was last known.
    #[serde(flatten)]
    pub service: Service,
    /// Whether no worker of it lived any more: what has ended leaks no longer.
    pub ended: bool,
    /// Each change of the verdict on the sum of its workers.
    pub transitions: Vec<TransitionLine>,
    /// Further changes, when there were too many.
    pub transitions_left_out: u64,
}

/// A change of what was thought of a series, with what was known then and nothing from later.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransitionLine {
    /// When, as the series itself counts; for a recording, from its first batch on.
    #[serde(serialize_with = "milliseconds")]
    pub at_s: f64,
    /// The date, where it is known.
    pub at: Option<Timestamp>,
    /// What was thought from then on.
    pub verdict: State,
    /// Whether a leak was confirmed.
    pub confirmed: bool,
    /// How fast it grew.
    #[serde(flatten)]
    pub rate: RateLine,
    /// When a limit would be reached.
    #[serde(rename = "oom_eta_s", serialize_with = "json::maybe_seconds")]
    pub oom_eta: Option<Duration>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a field by reference")]
fn milliseconds<S: serde::Serializer>(seconds: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((seconds * 1e3).round() / 1e3)
}

impl Analysis {
    /// The object as `analyze --json` prints it, indented, with a line break at its end.
    ///
    /// # Errors
    /// As [`json::pretty`].
    pub fn to_json(&self) -> anyhow::Result<String> {
        json::pretty(self)
    }

    /// The same for people: what grows, or ever grew, with its transitions; the rest counted.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for service in &self.services {
            service.write(&mut text);
        }
        let few = self.series.len() <= FEW;
        let mut quiet = 0;
        for series in &self.series {
            let grew = series.transitions.iter().any(|change| change.verdict.severity() > 1);
            if few || grew {
                series.write(grew, &mut text);
            } else {
                quiet += 1;
            }
        }
        let total = self.series.len() as u64 + self.left_out;
        let leaks = self.series.iter().filter(|series| series.leaks()).count();
        let together = self.services.iter().filter(|service| service.leaks()).count();
        if quiet > 0 {
            let _ = writeln!(text, "{quiet} other series never grew like a leak");
        }
        if self.left_out > 0 {
            let _ = writeln!(text, "{} more processes had ended and are not listed", self.left_out);
        }
        let services = match together {
            0 => String::new(),
            1 => ", and 1 service whose workers leak together".to_owned(),
            many => format!(", and {many} services whose workers leak together"),
        };
        let _ = match self.verdict {
            HostVerdict::Leak => writeln!(text, "leak: {leaks} of {total} series leak at the end{services}"),
            HostVerdict::Clean => writeln!(text, "clean: none of {total} series leaks at the end"),
        };
        text
    }
}

impl SeriesReport {
    /// Whether it leaks at the end.
    pub fn leaks(&self) -> bool {
        self.confirmed && !self.ended
    }

    fn title(&self) -> String {
        let name = match (&self.cmdline, &self.comm) {
            (Some(cmdline), Some(comm)) => command_line(cmdline, comm),
            (_, Some(comm)) => comm.clone(),
            _ => "gone before it could be identified".to_owned(),
        };
        let name = Printable::new(&name);
        match self.pid {
            Some(pid) => format!("pid {pid} ({})", cut(name.as_str(), 60)),
            None => cut(name.as_str(), 100).to_string(),
        }
    }

    fn write(&self, grew: bool, text: &mut String) {
        let ended = if self.ended { ", has ended" } else { "" };
        let verdict = words(self.verdict, self.confirmed);
        let _ = writeln!(text, "{} {verdict}{ended}; {} samples", self.title(), self.samples);
        write_why(&self.rate, &self.reasons, text);
        if grew {
            write_changes(&self.transitions, self.transitions_left_out, text);
        }
        text.push('\n');
    }
}

impl ServiceReport {
    /// Whether it leaks at the end: a single worker that is left is judged alone.
    pub fn leaks(&self) -> bool {
        self.service.confirmed && self.service.processes > 1
    }

    fn write(&self, text: &mut String) {
        let ended = if self.ended { ", has ended" } else { "" };
        let verdict = words(self.service.verdict, self.service.confirmed);
        let _ = writeln!(text, "{} together {verdict}{ended}", self.service.title());
        write_why(&self.service.rate, &self.service.reasons, text);
        write_changes(&self.transitions, self.transitions_left_out, text);
        text.push('\n');
    }
}

fn write_why(rate: &RateLine, reasons: &[String], text: &mut String) {
    if let Some(rate) = rate.rate() {
        let _ = writeln!(text, "  rate: {} (95 % interval {} to {})", rate.mean, rate.low, rate.high);
    }
    for reason in reasons {
        let _ = writeln!(text, "  {reason}");
    }
}

fn write_changes(transitions: &[TransitionLine], left_out: u64, text: &mut String) {
    for change in transitions.iter().take(SHOWN) {
        let rate = change.rate.rate().map_or_else(String::new, |Rate { mean, .. }| format!(", {mean}"));
        let at = change.at.map_or_else(String::new, |at| format!("{at:.0}  "));
        let what = words(change.verdict, change.confirmed);
        let _ = writeln!(text, "  {at}{:>10.2} s  {what}{rate}", change.at_s);
    }
    let more = transitions.len().saturating_sub(SHOWN) as u64 + left_out;
    if more > 0 {
        let _ = writeln!(text, "  and {more} more changes (--json has them)");
    }
}

fn words(verdict: State, confirmed: bool) -> String {
    match (verdict.severity() > 0, confirmed) {
        (_, true) => format!("{}, confirmed", verdict.name()),
        (true, false) => format!("{}, not confirmed", verdict.name()),
        _ => verdict.name().to_owned(),
    }
}
