//! The only place where a report's sentences are written: an [`Incident`] in, a [`Document`] out.
//!
//! A sentence stands only where its evidence does: it begins with an `if let`, and a figure that was not measured is
//! marked as an estimate. One file for each section that needs room. Start reading at [`compose`].

mod anatomy;
mod cause;
mod identification;
mod impact;
mod prevention;
mod resolution;
mod runtime;
mod services;

use jiff::Timestamp;

use super::document::{Block, Document, Section};
use super::duration::span;
use super::hunt::Suspect;
use super::incident::{Incident, Story};
use super::printable::{Line, Printable, command_line};
use super::table::{Column, Fit, Table};
use crate::units::Bytes;

/// How much of a command line stands in a sentence; Identification has more of it.
const NAME_LENGTH: usize = 60;

/// The lines of the timeline that a report shows: this many from the start and as many from the end.
const TIMELINE_HALF: usize = 60;

/// Writes the report.
pub fn compose(incident: &Incident) -> Document {
    let subjects = incident.subjects();
    let mut sections = vec![summary(incident, &subjects)];
    sections.push(impact::section(incident, &subjects));
    sections.push(timeline(incident));
    sections.push(cause::section(incident, &subjects));
    sections.push(identification::section(incident, &subjects));
    sections.push(resolution::section(incident, &subjects));
    sections.push(prevention::section(incident, &subjects));
    Document { title: title(incident, &subjects), preamble: preamble(incident), sections }
}

fn title(incident: &Incident, subjects: &[&Suspect]) -> Line {
    let host = &incident.hunt.host.hostname;
    let kind = if subjects.iter().all(|s| s.confirmed) { "" } else { "suspected " };
    match subjects {
        [] if services::of(incident).next().is_some() => {
            format!("Incident report: memory leak in the workers of a service on {host}").into()
        }
        [] => format!("Report: no memory leak on {host}").into(),
        [only] => {
            format!("Incident report: {kind}memory leak in {} (pid {}) on {host}", only.comm, only.pid).into()
        }
        several => format!("Incident report: {} {kind}memory leaks on {host}", several.len()).into(),
    }
}

fn preamble(incident: &Incident) -> Vec<Block> {
    let hunt = &incident.hunt;
    let host = Line::new().text(format!(
        "{}, Linux {}, {} of memory",
        hunt.host.hostname, hunt.host.kernel, hunt.host.memory_total_bytes
    ));
    let lasted = hunt.finished_at.duration_since(hunt.started_at).unsigned_abs();
    let observed = Line::from(format!(
        "{} to {} UTC ({})",
        date_and_time(hunt.started_at),
        if same_day(hunt.started_at, hunt.finished_at) {
            time(hunt.finished_at)
        } else {
            date_and_time(hunt.finished_at)
        },
        span(lasted)
    ));
    let by = format!("leakscope {}, source {}, {}", incident.version, hunt.source.name(), lost(incident));
    vec![Block::Facts(vec![("Host", host), ("Observed", observed), ("Written by", by.into())])]
}

fn lost(incident: &Incident) -> String {
    match incident.hunt.lost_events {
        0 => "no events lost".to_owned(),
        1 => "1 event lost".to_owned(),
        many => format!("{many} events lost"),
    }
}

fn summary(incident: &Incident, subjects: &[&Suspect]) -> Section {
    let mut section = Section::new("Summary");
    if subjects.is_empty() && services::of(incident).next().is_none() {
        section.say(nothing_found(incident));
    }
    let lines: Vec<Line> = subjects
        .iter()
        .map(|suspect| {
            growth(suspect, incident.story(suspect)).text(" ").then(resolution::outcome(incident, suspect))
        })
        .collect();
    if lines.len() > 1 {
        section.list(lines);
    } else {
        lines.into_iter().for_each(|line| section.say(line));
    }
    services::of(incident).for_each(|service| section.say(services::summary(service)));
    section
}

fn nothing_found(incident: &Incident) -> Line {
    let lasted = incident.hunt.finished_at.duration_since(incident.hunt.started_at).unsigned_abs();
    let among = incident.considered.map(|count| format!(" among {count} processes")).unwrap_or_default();
    format!("No process was found leaking{among} in {} of observation.", span(lasted)).into()
}

/// What it did, in one sentence.
fn growth(suspect: &Suspect, story: Option<&Story>) -> Line {
    let verb = if suspect.confirmed { "leaked memory" } else { "is suspected of leaking memory" };
    let mut line =
        named(suspect, true).text(format!(" {verb}: its footprint (anonymous and swapped memory) grew"));
    if let Some(rate) = suspect.rate.rate_bytes_per_s {
        line = line.text(format!(" at {rate}"));
        if let (Some(low), Some(high)) =
            (suspect.rate.rate_low_bytes_per_s, suspect.rate.rate_high_bytes_per_s)
        {
            line = line.text(format!(" (95 % confidence interval {low} to {high})"));
        }
    }
    if !suspect.clean_growth.is_zero() {
        line = line.text(format!(" for {} without a break", span(suspect.clean_growth)));
    }
    match story.and_then(|story| story.given_back) {
        Some(Bytes::ZERO) => line.text(" and gave nothing back."),
        Some(back) => line.text(format!(" and gave {back} back in all.")),
        None => line.text("."),
    }
}

fn timeline(incident: &Incident) -> Section {
    let mut section = Section::new("Timeline");
    let entries = &incident.timeline;
    let one_day = entries.iter().all(|entry| same_day(entry.at, incident.hunt.started_at));
    let at = |at: Timestamp| if one_day { time(at) } else { date_and_time(at) };
    let hidden = entries.len().saturating_sub(2 * TIMELINE_HALF);
    let left_out = hidden + incident.timeline_left_out;
    let mut rows = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        if left_out > 0 && i == TIMELINE_HALF {
            rows.push(vec!["...".into(), format!("{left_out} entries left out here").into()]);
        }
        if i < TIMELINE_HALF || i >= TIMELINE_HALF + hidden {
            rows.push(vec![at(entry.at).into(), entry.text.as_str().into()]);
        }
    }
    if rows.is_empty() {
        section.say("Nothing was recorded between the start and the end of the observation.");
    }
    let columns = vec![Column::new("TIME (UTC)"), Column::new("EVENT").fit(Fit::Wrap(20))];
    section.table(Table { columns, rows, rule: true });
    section
}

/// `Process 4242 (python3 cache_service.py)`.
fn named(suspect: &Suspect, at_start: bool) -> Line {
    let word = if at_start { "Process" } else { "process" };
    Line::new().text(format!("{word} {} (", suspect.pid)).code(short(suspect)).text(")")
}

/// The command line, as much of it as a sentence takes.
fn short(suspect: &Suspect) -> String {
    shortened(&command_line(&suspect.cmdline, &suspect.comm))
}

/// A service, and not the session somebody happened to start it from.
fn is_service(unit: &str) -> bool {
    unit.ends_with(".service") && !unit.starts_with("user@") && !unit.starts_with("session-")
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._:-".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// A container as people name it: the first twelve digits of its id.
fn short_container(container: &str) -> &str {
    container.get(..12).filter(|_| container.len() == 64).unwrap_or(container)
}

/// As much of a name as a sentence takes.
fn shortened(name: &str) -> String {
    super::table::cut(Printable::new(name).as_str(), NAME_LENGTH)
}

/// A heading for one of several subjects; none where there is only one.
fn head(section: &mut Section, subjects: &[&Suspect], suspect: &Suspect) {
    if subjects.len() > 1 {
        section.blocks.push(Block::Subheading(named(suspect, true)));
    }
}

/// A share as a whole percentage, and honest at both ends.
fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p > 0.0 && p < 1.0 => "less than 1 %".to_owned(),
        p if p < 100.0 && p > 99.0 => "99 %".to_owned(),
        p => format!("{p:.0} %"),
    }
}

fn time(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

fn date_and_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn same_day(a: Timestamp, b: Timestamp) -> bool {
    a.strftime("%F").to_string() == b.strftime("%F").to_string()
}
