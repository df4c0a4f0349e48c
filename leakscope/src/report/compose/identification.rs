//! Identification: who the process is, why it was found guilty, and why the others were not.

use super::super::chart::{Available, Beside, Ceiling, Chart, Ending, Trend};
use super::super::document::{Block, Section};
use super::super::duration::span;
use super::super::hunt::{Oom, Suspect};
use super::super::incident::{Incident, Lookalike};
use super::super::printable::{Line, Printable, Span, command_line};
use super::super::tables::candidates_table;
use super::{head, shortened};

/// Candidates that a report shows.
const CANDIDATES: usize = 40;

/// Characters of a command line that a report shows.
const COMMAND_LENGTH: usize = 2000;

pub(super) fn section(incident: &Incident, subjects: &[&Suspect]) -> Section {
    let mut section = Section::new("Identification");
    for suspect in subjects {
        head(&mut section, subjects, suspect);
        section.blocks.push(Block::Facts(facts(suspect)));
        section.say(judged(incident, suspect));
        section.list(suspect.reasons.iter().map(|reason| Line::from(reason.as_str())).collect());
        if let Some(chart) = chart(incident, suspect) {
            section.blocks.push(Block::Chart(Box::new(chart)));
        }
    }
    super::services::identification(&mut section, incident);
    candidates(&mut section, incident);
    section.say(how(incident));
    section
}

fn facts(suspect: &Suspect) -> Vec<(&'static str, Line)> {
    let code = |text: &String| Line::new().code(text);
    let command = Printable::limited(&command_line(&suspect.cmdline, &suspect.comm), COMMAND_LENGTH);
    let user = match &suspect.user {
        Some(name) => format!("{name} (uid {})", suspect.uid),
        None => format!("uid {}", suspect.uid),
    };
    let mut facts = vec![
        (
            "Process",
            Line::from(format!("pid {}, started at tick {}", suspect.pid, suspect.start_time_ticks.0)),
        ),
        ("Command line", Line(vec![Span::Code(command)])),
    ];
    facts.extend(suspect.exe.as_ref().map(|exe| ("Program", code(exe))));
    facts.push(("User", user.into()));
    let owner = &suspect.owner;
    facts.extend(owner.unit.as_ref().map(|unit| ("Unit", code(unit))));
    facts.extend(owner.container.as_ref().map(|container| ("Container", code(container))));
    facts.extend(owner.cgroup.as_ref().map(|cgroup| ("Cgroup", code(cgroup))));
    facts.extend(owner.pidfile.as_ref().map(|pidfile| ("Pid file", code(pidfile))));
    facts
}

fn judged(incident: &Incident, suspect: &Suspect) -> Line {
    let mut line = format!("Its verdict was {}", suspect.verdict.name());
    let grown = span(suspect.clean_growth);
    let asked = span(incident.confirm);
    line += &if suspect.confirmed {
        format!(", confirmed by {grown} of clean growth (asked for: {asked})")
    } else {
        format!(", not confirmed: {grown} of clean growth (asked for: {asked})")
    };
    let after: Vec<String> = [
        suspect.suspected_after.map(|after| format!("suspected {} into the hunt", span(after))),
        suspect.confirmed_after.map(|after| format!("confirmed {} into it", span(after))),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !after.is_empty() {
        line += &format!("; it was {}", after.join(" and "));
    }
    line += if suspect.reasons.is_empty() { "." } else { ". What that rests on:" };
    line.into()
}

fn chart(incident: &Incident, suspect: &Suspect) -> Option<Chart> {
    let story = incident.story(suspect)?;
    if story.footprint.len() < 2 {
        return None;
    }
    let trend = story.judged_at.zip(suspect.rate.rate()).and_then(|(to, rate)| {
        let from = to - suspect.clean_growth;
        Trend::through(&story.footprint, from, to, rate)
    });
    let dead = incident.actions(suspect).find(|action| action.is_dead());
    let beside = |other: &Lookalike| Beside {
        name: Line::new().text(format!("Process {} (", other.pid)).code(shortened(&other.name)).text(")"),
        points: other.footprint.clone(),
        verdict: other.verdict.name(),
    };
    Some(Chart {
        caption: format!("Footprint of process {} over time (UTC)", suspect.pid).into(),
        points: story.footprint.clone(),
        trend,
        limit: suspect.oom.as_ref().map(|oom| ceiling(oom, suspect)),
        end: story.killed_at.map(|killed_at| Ending {
            killed_at,
            held: dead.and_then(|action| action.memory.footprint_before_bytes),
            died_at: dead.and_then(|action| action.died_at),
        }),
        until: Some(incident.hunt.finished_at),
        beside: story.beside.iter().map(beside).collect(),
        host: (incident.host_available.len() > 1).then(|| Available {
            points: incident.host_available.clone(),
            total: incident.hunt.host.memory_total_bytes,
        }),
    })
}

/// The footprint at which the limit is reached: what it held and what was left.
fn ceiling(oom: &Oom, suspect: &Suspect) -> Ceiling {
    let name = match oom.limit.as_str() {
        "host" => Line::from("The end of the host's memory and swap"),
        path => Line::from("The limit of its cgroup ").code(path),
    };
    Ceiling { at: suspect.memory.footprint() + oom.left_bytes, name }
}

fn candidates(section: &mut Section, incident: &Incident) {
    let shown = &incident.candidates[..incident.candidates.len().min(CANDIDATES)];
    if shown.is_empty() {
        return;
    }
    let looked_at = match incident.considered {
        Some(count) => format!("{count} processes were looked at. "),
        None => String::new(),
    };
    section.say(format!("{looked_at}Those that came into question, as they were last read:"));
    section.table(candidates_table(shown));
    if incident.candidates.len() > shown.len() {
        section.say(format!("{} more are left out here.", incident.candidates.len() - shown.len()));
    }
}

fn how(incident: &Incident) -> Line {
    let mut words = Vec::new();
    if !incident.lost.causes.is_empty() {
        let causes: Vec<String> =
            incident.lost.causes.iter().map(|(cause, count)| format!("{cause}: {count}")).collect();
        words.push(format!("Events were lost ({}).", causes.join(", ")));
    }
    if incident.lost.vanished > 0 {
        words.push(format!(
            "{} processes ended before they could be read, which is normal and no loss.",
            incident.lost.vanished
        ));
    }
    if let Some(own) = &incident.own {
        words.push(format!(
            "leakscope itself took {} of processor time and {} of memory.",
            span(own.cpu),
            own.rss_bytes
        ));
    }
    words.join(" ").into()
}
