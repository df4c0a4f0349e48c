//! What a report draws of a suspect: its past, and the past of those that look like it.

use jiff::Timestamp;

use crate::commands::hunt::Hunted;
use crate::monitor::Finding;
use crate::report::{Curve, Lookalike, Story, short_command_line};
use crate::units::Bytes;

/// Look-alikes that are drawn; Resolution counts all of them.
const DRAWN: usize = 5;

pub(super) fn of(finding: &Finding, hunted: &Hunted) -> Story {
    let killed = hunted.actions.iter().find(|(key, outcome)| *key == finding.key && outcome.is_dead());
    Story {
        key: finding.key,
        steady: finding.steady,
        given_back: Some(finding.given_back),
        footprint: footprint(finding),
        judged_at: Some(finding.wall),
        beside: beside(finding, hunted),
        killed_at: killed.and_then(|(_, outcome)| outcome.signals.last()).map(|sent| sent.at),
    }
}

fn footprint(finding: &Finding) -> Curve {
    let date = |at| -> Timestamp { finding.wall - finding.at.since(at) };
    finding.history.iter().map(|point| (date(point.at), point.memory.footprint())).collect()
}

/// Those that a person could take for it, bystanders of its kill among them, the largest growth first.
fn beside(finding: &Finding, hunted: &Hunted) -> Vec<Lookalike> {
    let acted = hunted.actions.iter().filter(|(key, _)| *key == finding.key);
    let bystanders: Vec<_> =
        acted.flat_map(|(_, outcome)| &outcome.bystanders).map(|bystander| bystander.pid).collect();
    hunted
        .findings
        .iter()
        .chain(&hunted.cleared)
        .filter(|other| other.key != finding.key)
        .filter(|other| other.identity.looks_like(&finding.identity) || bystanders.contains(&other.key.pid))
        .take(DRAWN)
        .map(|other| lookalike(other, hunted))
        .collect()
}

/// One that is silent is read no more, and holds what it held.
fn lookalike(other: &Finding, hunted: &Hunted) -> Lookalike {
    let mut footprint = hunted.beside.get(&other.key).cloned().unwrap_or_else(|| footprint(other));
    let now: (Timestamp, Bytes) = (other.wall, other.memory.footprint());
    if footprint.last().is_none_or(|(at, _)| *at < now.0) {
        footprint.push(now);
    }
    Lookalike {
        pid: other.key.pid,
        name: short_command_line(&other.identity.cmdline, &other.identity.comm),
        verdict: other.verdict.state,
        footprint,
    }
}
