//! Impact: what the leak took, and what it would have led to.

use std::time::Duration;

use super::super::document::Section;
use super::super::duration::span;
use super::super::hunt::{Oom, Suspect};
use super::super::incident::Incident;
use super::super::printable::Line;
use super::resolution::is_dead;
use super::{head, named, percent, shortened};
use crate::units::{Bytes, BytesPerSec};

const HOUR: f64 = 3600.0;

pub(super) fn section(incident: &Incident, subjects: &[&Suspect]) -> Section {
    let mut section = Section::new("Impact");
    super::services::impact(&mut section, incident);
    if subjects.is_empty() && super::services::of(incident).next().is_none() {
        section.say("No leak was found, so none had an impact.");
    }
    for suspect in subjects {
        head(&mut section, subjects, suspect);
        let mut items = held(incident, suspect);
        items.extend(suspect.rate.rate_bytes_per_s.and_then(an_hour));
        items.extend(suspect.oom.as_ref().map(|oom| limit(oom, suspect, is_dead(incident, suspect))));
        items.extend(suspect.pressure.as_ref().map(|pressure| {
            Line::from(format!("In its cgroup, when it was last read, {}.", pressure.clause()))
        }));
        section.list(items);
    }
    let mut host = Vec::new();
    host.extend(available(incident));
    host.extend(pressure(incident));
    host.extend(oom_choice(incident, subjects));
    section.list(host);
    section
}

fn held(incident: &Incident, suspect: &Suspect) -> Vec<Line> {
    let footprint = suspect.memory.footprint();
    let mut line = format!("It held {footprint} when it was last read");
    let total = incident.hunt.host.memory_total_bytes;
    if total > Bytes::ZERO {
        let share = percent(footprint.as_f64() / total.as_f64());
        line += &format!(", {share} of the host's {total} of memory");
    }
    let mut lines = vec![Line::from(line + ".")];
    let grown = incident.story(suspect).and_then(|story| {
        let &(from, first) = story.footprint.first()?;
        let &(to, most) = story.footprint.iter().max_by_key(|&&(_, bytes)| bytes)?;
        (most > first).then(|| (first, most, to.duration_since(from).unsigned_abs()))
    });
    if let Some((first, most, took)) = grown {
        let added = most - first;
        lines.push(format!("It grew from {first} to {most} (+{added}) within {}.", span(took)).into());
    }
    lines
}

fn an_hour(rate: BytesPerSec) -> Option<Line> {
    if rate.0 <= 0.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; saturates")]
    let hour = Bytes((rate.0 * HOUR) as u64);
    Some(format!("At the measured rate that is {hour} an hour (estimate).").into())
}

/// So much sooner than by itself, and others that grow under the same limit have a part in it worth telling.
const SHARED: f64 = 0.9;

fn limit(oom: &Oom, suspect: &Suspect, dead: bool) -> Line {
    let line = match oom.limit.as_str() {
        "host" => Line::new().text("The host's memory and swap"),
        path => Line::new().text("The limit of its cgroup ").code(path),
    };
    let (verb, condition) = if dead { ("would have been", "had gone on") } else { ("will be", "goes on") };
    let whose = match oom.growers {
        0 | 1 => "the growth".to_owned(),
        more => {
            format!("the growth of all {more} processes that grow under it (+{})", oom.growth_bytes_per_s)
        }
    };
    let range = match oom.high {
        Some(high) if span(high) == span(oom.low) => String::new(),
        Some(high) => format!("; between {} and {}", span(oom.low), span(high)),
        None => format!("; {} at the earliest", span(oom.low)),
    };
    let line = line.text(format!(
        " ({}, of which {} was left) {verb} used up in about {} if {whose} {condition} (estimate{range}).",
        oom.limit_bytes,
        oom.left_bytes,
        span(oom.eta)
    ));
    let line = match alone(oom, suspect) {
        Some(alone) if oom.eta.as_secs_f64() < SHARED * alone.as_secs_f64() => line.text(format!(
            " Others that grew under the same limit at the time are counted in; by itself it would take about {}.",
            span(alone)
        )),
        _ => line,
    };
    if oom.runaway { line.text(" That is less than two minutes: a runaway.") } else { line }
}

/// How long the room would last for it alone.
fn alone(oom: &Oom, suspect: &Suspect) -> Option<Duration> {
    let rate = suspect.rate.rate_bytes_per_s.filter(|rate| rate.0 > 0.0)?;
    Duration::try_from_secs_f64(oom.left_bytes.as_f64() / rate.0).ok()
}

fn available(incident: &Incident) -> Option<Line> {
    let memory = incident.host_memory;
    if memory.total == Bytes::ZERO {
        return None;
    }
    let mut line = format!(
        "{}, {} of the host's {} of memory were available",
        when(incident),
        memory.available,
        memory.total
    );
    if memory.swap_total > Bytes::ZERO {
        line += &format!(", and {} of {} of swap were free", memory.swap_free, memory.swap_total);
    }
    Some((line + ".").into())
}

fn pressure(incident: &Incident) -> Option<Line> {
    let pressure = incident.hunt.host.pressure.as_ref()?;
    Some(format!("{}, {}.", when(incident), pressure.clause()).into())
}

/// When the host's figures are from.
fn when(incident: &Incident) -> &'static str {
    let confirmed = incident.hunt.suspects.iter().any(|suspect| suspect.confirmed);
    if confirmed { "When the leak was confirmed" } else { "At the end" }
}

fn oom_choice(incident: &Incident, subjects: &[&Suspect]) -> Option<Line> {
    let choice = incident.oom_choice.as_ref()?;
    let line = Line::new().text("Had the host run out of memory, the kernel's OOM killer would have chosen ");
    let why = format!("its oom_score of {} was the highest", choice.score);
    Some(match subjects.iter().find(|suspect| suspect.pid == choice.pid) {
        Some(suspect) => line.then(named(suspect, false)).text(format!(" first: {why}.")),
        None => line.text(format!("process {} (", choice.pid)).code(shortened(&choice.name)).text(format!(
            ") first{}: {why}.",
            if subjects.is_empty() { "" } else { ", and not one that leaked" }
        )),
    })
}
