//! Resolution: what was done, what was checked, and what came of it.

use super::super::document::{Block, Section};
use super::super::duration::span;
use super::super::hunt::Suspect;
use super::super::incident::{Incident, Told};
use super::super::printable::{Line, Printable};
use super::super::tables::checks_table;
use super::{head, is_service, quoted, shortened};
use crate::action::{Check, Outcome, OutcomeKind, moved};
use crate::source::ExitStatus;
use crate::units::{BytesPerSec, Pid};

/// Bystanders that a report names.
const BYSTANDERS: usize = 20;

pub(super) fn section(incident: &Incident, subjects: &[&Suspect]) -> Section {
    let mut section = Section::new("Resolution");
    for suspect in subjects {
        head(&mut section, subjects, suspect);
        section.say(outcome(incident, suspect));
        for action in incident.actions(suspect) {
            carried_out(&mut section, incident, action);
        }
        what_next(&mut section, incident, suspect);
    }
    super::services::resolution(&mut section, incident);
    if subjects.is_empty() && super::services::of(incident).next().is_none() {
        section.say("Nothing was done.");
    }
    section
}

/// Whether it is known to have ended.
pub(super) fn is_dead(incident: &Incident, suspect: &Suspect) -> bool {
    incident.actions(suspect).any(Outcome::is_dead)
}

/// What the reader can do about a leak that is still there.
fn what_next(section: &mut Section, incident: &Incident, suspect: &Suspect) {
    if !suspect.confirmed || is_dead(incident, suspect) {
        return;
    }
    let last = incident.actions(suspect).last();
    let mut propose = |words: &str, command: String| {
        section.say(words);
        section.blocks.push(Block::Code(vec![Printable::new(&command)]));
    };
    match last.map(|action| (action.kind, against(action))) {
        None | Some((OutcomeKind::DryRun, Against::Nothing) | (_, Against::Consent)) => {
            propose("To end it, checked and verified:", format!("leakscope kill {}", suspect.pid));
        }
        Some((_, Against::Verdict)) => {
            propose(
                "Whether it goes on to leak, a longer look at it alone tells:",
                format!("leakscope hunt --pid {}", suspect.pid),
            );
        }
        Some((_, Against::Identity)) => {
            propose("Who leaks now, another hunt tells:", "leakscope hunt".to_owned());
        }
        Some((_, Against::Protection)) => match suspect.owner.unit.as_ref().filter(|unit| is_service(unit)) {
            Some(unit) => propose(
                "It leaks on. Its own keeper can start it anew, which needs no signal from leakscope:",
                format!("systemctl restart {}", quoted(unit)),
            ),
            None => section.say(
                "It leaks on. Whoever keeps it can start it anew by its own means; leakscope will not signal what is \
                 protected.",
            ),
        },
        Some((OutcomeKind::Failed, _)) => {
            if last.is_some_and(|action| action.remedy.is_some()) {
                propose("Once that is done, to end it, checked and verified:", format!("leakscope kill {}", suspect.pid));
            }
        }
        Some((_, Against::Means)) => {
            propose("To end it by a signal, checked and verified:", format!("leakscope kill {}", suspect.pid));
        }
        Some((_, Against::Nothing)) => {}
    }
}

/// What spoke against a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Against {
    Nothing,
    /// Nobody said yes.
    Consent,
    /// It no longer counts as a leak.
    Verdict,
    /// It is not the process that was judged, or it cannot be told whether it is.
    Identity,
    /// What was asked for cannot be done to it.
    Means,
    /// A rule of the guard.
    Protection,
}

fn against(action: &Outcome) -> Against {
    if !matches!(action.kind, OutcomeKind::Refused | OutcomeKind::DryRun) {
        return Against::Nothing;
    }
    match failed_checks(action).next().map(|check| check.check) {
        None => Against::Nothing,
        Some("consent") => Against::Consent,
        Some("verdict") => Against::Verdict,
        Some("identity") => Against::Identity,
        Some("via" | "freeze" | "throttle") => Against::Means,
        Some(_) => Against::Protection,
    }
}

/// What was done about it and what came of it, in a sentence or two.
pub(super) fn outcome(incident: &Incident, suspect: &Suspect) -> Line {
    let Some(action) = incident.actions(suspect).last() else {
        return match incident.told {
            Told::Observe => "It was left alone: no kill was asked for (--kill).",
            Told::Ask => "It was left alone: the question whether to kill it was not answered with yes.",
            Told::Kill if !suspect.confirmed => "It was left alone: the leak was not confirmed.",
            Told::Kill => "It was left alone: no kill was carried out.",
            Told::DryRun => "It was left alone: this was a dry run.",
        }
        .into();
    };
    let signal = action.signal;
    match action.kind {
        OutcomeKind::Killed => killed(action),
        OutcomeKind::AlreadyGone => {
            let line = Line::from("It had ended before a signal was sent");
            action
                .exit
                .iter()
                .fold(line, |line, exit| line.text(format!(" ({exit})")))
                .text("; leakscope sent none.")
        }
        OutcomeKind::Refused => {
            let start = match against(action) {
                Against::Consent => "It was left alone, because nobody agreed to a kill",
                Against::Verdict => {
                    "It was not killed: when the signal was due, it no longer counted as a leak"
                }
                Against::Identity => {
                    "It was not killed: when the signal was due, it could not be told to be the process that was judged"
                }
                Against::Means => "It was left alone: what was asked for cannot be done to it",
                Against::Protection => "It was not killed: a protection forbids it",
                Against::Nothing => "It was not killed; leakscope refused",
            };
            because(start.into(), action).text(" No signal was sent.")
        }
        OutcomeKind::Failed => {
            let start = match (signal, &action.via) {
                (Some(signal), _) => format!("{signal} was sent, but its death was not verified"),
                (None, Some(via)) => format!("{via} was handed over, but its death was not verified"),
                (None, None) => "What was to be done could not be done".to_owned(),
            };
            because(start.into(), action)
        }
        OutcomeKind::Frozen | OutcomeKind::Throttled => {
            format!("It was not killed: {}. What it holds is still held.", action.detail).into()
        }
        OutcomeKind::DryRun if failed_checks(action).next().is_some() => {
            because("This was a dry run: no signal was sent. A check did not pass".into(), action)
        }
        OutcomeKind::DryRun => {
            let would = action.detail.trim_start_matches("dry run: ");
            format!("This was a dry run: every check passed, and nothing was done ({would}).").into()
        }
    }
}

fn killed(action: &Outcome) -> Line {
    let signal = action.signal.or(action.via.as_deref()).unwrap_or("a signal");
    let by_itself = matches!(action.exit, Some(ExitStatus::Code(_)));
    let mut line = match (action.escalated, by_itself) {
        (true, _) => format!("SIGTERM did not end it in time; {signal} did"),
        (false, true) => format!("It exited by itself on {signal}"),
        (false, false) => format!("It was ended with {signal}"),
    };
    line += &match action.died_after_s {
        Some(after) => format!(", and its death was verified {} after the first signal", span(after)),
        None => ", and its death was verified".to_owned(),
    };
    if let Some(exit) = &action.exit {
        line += &format!(" ({exit})");
    }
    line += ".";
    line += &returned(action).unwrap_or_default();
    line.into()
}

/// What came back, and whether that is a measurement.
fn returned(action: &Outcome) -> Option<String> {
    let footprint = action.memory.footprint_before_bytes?;
    let back = action.memory_returned_bytes?;
    let contradicted = action.checks.iter().any(|check| check.check == "memory" && !check.passed);
    Some(if contradicted {
        format!(" Of its footprint of {footprint} only {back} were seen to come back to the host.")
    } else {
        format!(" Its footprint of {footprint} went with it (an estimate of what came back to the host).")
    })
}

fn failed_checks(action: &Outcome) -> impl Iterator<Item = &Check> {
    action.checks.iter().filter(|check| !check.passed)
}

/// Adds why: the checks that did not pass, or what else is known.
fn because(line: Line, action: &Outcome) -> Line {
    let mut reasons: Vec<String> =
        failed_checks(action).map(|check| format!("{}: {}", check.check, check.detail)).collect();
    if reasons.is_empty() && !action.detail.is_empty() {
        reasons.push(action.detail.clone());
    }
    reasons.extend(action.remedy.as_ref().map(|remedy| format!("what helps: {remedy}")));
    if reasons.is_empty() {
        return line.text(".");
    }
    let reasons = reasons.join("; ");
    let end = if reasons.ends_with('.') { "" } else { "." };
    line.text(format!(" ({reasons}){end}"))
}

fn carried_out(section: &mut Section, incident: &Incident, action: &Outcome) {
    section.table(checks_table(&action.checks));
    let mut items: Vec<Line> = Vec::new();
    for bystander in action.bystanders.iter().take(BYSTANDERS) {
        let state = match (bystander.alive, bystander.same_process) {
            (true, true) => "was alive afterwards, and the same process as before",
            (true, false) => {
                "was alive afterwards, but as another process than before: its pid was used again"
            }
            (false, _) => "was no longer alive afterwards",
        };
        items.push(bystander_name(incident, bystander.pid).text(format!(" {state}.")));
    }
    if action.bystanders.len() > BYSTANDERS {
        let rest = &action.bystanders[BYSTANDERS..];
        let alive = rest.iter().filter(|bystander| bystander.alive && bystander.same_process).count();
        items.push(format!("Of {} further processes, {alive} were alive and the same.", rest.len()).into());
    }
    if let Some(pid) = action.respawned_as {
        let followed = action.followed.map_or_else(String::new, |seen| {
            let end = if seen.alive { "" } else { ", and then ended" };
            let rate =
                seen.rate_bytes_per_s.map_or_else(String::new, |rate| format!(" at {}", BytesPerSec(rate)));
            let again = if seen.grows_again() { "it grows again" } else { "it did not leak in that time" };
            let verdict = seen.verdict.name();
            format!(" It was watched for {:.0} s{end}: {again} ({verdict}{rate}).", seen.for_s)
        });
        items.push(format!("It was started again, as process {pid}.{followed}").into());
    }
    items.extend(measured(action));
    section.list(items);
}

fn bystander_name(incident: &Incident, pid: Pid) -> Line {
    let line = Line::new().text(format!("Process {pid}"));
    match incident.candidates.iter().find(|candidate| candidate.pid == pid) {
        Some(known) => line.text(" (").code(shortened(&known.name)).text(")"),
        None => line,
    }
}

/// What was measured of the memory around it.
fn measured(action: &Outcome) -> Vec<Line> {
    let memory = &action.memory;
    let mut items: Vec<Line> = Vec::new();
    if let (Some(before), Some(after), Some(by)) =
        (memory.host_available_before_bytes, memory.host_available_after_bytes, memory.host_rise())
    {
        let when = memory.measured_after.map(|after| format!(" {}", span(after))).unwrap_or_default();
        items.push(
            format!(
                "Available memory of the host, measured: {before} right before the signal, {after}{when} after the \
                 death: it {} (other processes move it too).",
                moved(by)
            )
            .into(),
        );
    }
    if let (Some(before), Some(after)) = (memory.cgroup_before_bytes, memory.cgroup_after_bytes) {
        items.push(format!("Charge of its cgroup, measured: {before} before, {after} after.").into());
    }
    items
}
