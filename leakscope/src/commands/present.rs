//! From what came of a command to what is shown: the one place where findings and outcomes become the report's values.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::hunt::Hunted;
use crate::action::Outcome;
use crate::monitor::{Finding, Point};
use crate::process::Identity;
use crate::report::Printable;
use crate::report::{
    Cadence, Candidate, Host, HostChange, HostVerdict, Hunt, Incident, Kernel, LossLine, Oom, ReportFormat,
    Story, Style, Suspect, TimelineEntry, Told, checks_table, short_command_line, write_report,
};
use crate::source::HostMemory;
use crate::ui::Ui;
use crate::units::{Bytes, BytesPerSec};

/// What a hunt was told, as far as its report speaks of it.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long clean growth had to last before a leak counted as confirmed.
    pub confirm: Duration,
    /// What was to be done about a leak.
    pub told: Told,
}

/// A report that was asked for.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Where it goes.
    pub path: PathBuf,
    /// In which form.
    pub format: ReportFormat,
}

/// The incident that a hunt makes; its report is due where [`Hunted::leak_confirmed`].
pub fn incident(hunted: &Hunted, terms: Terms) -> Incident {
    Incident {
        hunt: hunt(hunted),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        confirm: terms.confirm,
        told: terms.told,
        host_memory: host_change(hunted),
        timeline: timeline(hunted),
        candidates: hunted
            .findings
            .iter()
            .map(|finding| candidate(finding, finding.verdict.confirmed))
            .chain(hunted.cleared.iter().map(|finding| candidate(finding, false)))
            .collect(),
        considered: Some(hunted.watched as u64),
        stories: hunted.findings.iter().map(|finding| story(finding, hunted)).collect(),
        oom_choice: None,
        lost: hunted.lost.clone(),
        own: super::watch::self_cost().ok(),
    }
}

/// Writes the report and notes its place in the incident.
///
/// # Errors
/// When it cannot be written; the incident is as it was then.
pub fn write(incident: &mut Incident, destination: &Destination, ui: &mut Ui) -> anyhow::Result<()> {
    let Destination { path, format } = destination;
    incident.hunt.report = Some(path.display().to_string());
    let written = incident.render(*format).and_then(|text| Ok(write_report(path, text.as_bytes())?));
    let written = written.inspect_err(|_| incident.hunt.report = None)?;
    if let Some(kept) = written.kept {
        ui.say(&format!("the report that was there before is now {}", kept.display()));
    }
    ui.say(&format!("report: {}", path.display()));
    Ok(())
}

/// What standard output gets at the end of a hunt: the JSON object, or a short text for people.
///
/// # Errors
/// When the values cannot be serialised.
pub fn result(hunt: &Hunt, hunted: &Hunted, json: bool, ui: &Ui) -> anyhow::Result<String> {
    if json {
        return hunt.to_json();
    }
    let style = Style { color: ui.color, width: ui.columns() };
    let mut text = String::new();
    if hunted.findings.is_empty() {
        text.push_str(&format!(
            "clean: of {} none grew like a leak in {:.0} s\n",
            super::counted(hunted.watched, "process", "processes"),
            hunted.observed.as_secs_f64()
        ));
    }
    for finding in &hunted.findings {
        let verdict = finding.verdict.state.name();
        let confirmed = if finding.verdict.confirmed { "confirmed" } else { "not confirmed" };
        text.push_str(&format!("{} {verdict}, {confirmed}\n", super::title(&finding.identity)));
        if let Some(rate) = finding.verdict.rate {
            text.push_str(&format!("  rate: {} (95 % interval {} to {})\n", rate.mean, rate.low, rate.high));
        }
        for reason in finding.verdict.reasons() {
            text.push_str(&format!("  {reason}\n"));
        }
        if let Some(explained) = finding.explained {
            text.push_str(&format!(
                "  the kernel's counters account for {:.0} % of the growth\n",
                100.0 * explained
            ));
        }
    }
    for action in &hunt.actions {
        text.push_str(&format!("\n{}\n", told(action)));
        text.push_str(&checks_table(&action.checks).to_text(style));
    }
    Ok(text)
}

/// What `leakscope kill` prints.
///
/// # Errors
/// When the values cannot be serialised.
pub fn kill(victim: &Identity, outcome: &Outcome, json: bool, ui: &Ui) -> anyhow::Result<String> {
    if json {
        let mut object = serde_json::to_value(outcome)?;
        object["schema"] = "leakscope.kill/1".into();
        object["cmdline"] = victim.cmdline.clone().into();
        return Ok(format!("{}\n", serde_json::to_string_pretty(&object)?));
    }
    let style = Style { color: ui.color, width: ui.columns() };
    Ok(format!(
        "{}: {}\n{}",
        super::title(victim),
        told(outcome),
        checks_table(&outcome.checks).to_text(style)
    ))
}

/// What came of an action, and what helps where something does.
fn told(outcome: &Outcome) -> String {
    let remedy = outcome.remedy.as_ref().map_or_else(String::new, |remedy| format!("\n  fix: {remedy}"));
    Printable::new(&format!("{}: {}", outcome.kind.name(), outcome.detail)).to_string() + &remedy
}

fn hunt(hunted: &Hunted) -> Hunt {
    let host = Host {
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        memory_total_bytes: hunted.host_before.total,
        memory_available_bytes: hunted.host_before.available,
    };
    Hunt {
        started_at: hunted.started,
        finished_at: hunted.finished,
        host,
        source: hunted.source,
        lost_events: hunted.lost.total(),
        lost: LossLine::of(&hunted.lost),
        verdict: if hunted.leak_confirmed() { HostVerdict::Leak } else { HostVerdict::Clean },
        suspects: hunted.findings.iter().map(suspect).collect(),
        actions: hunted.actions.iter().map(|(_, outcome)| outcome.clone()).collect(),
        report: None,
    }
}

fn suspect(finding: &Finding) -> Suspect {
    Suspect {
        suspected_after: finding.suspected_after,
        confirmed_after: finding.confirmed_after,
        cadence: finding.cadence.map(|found| Cadence { period: found.period, bytes: found.bytes.map(Bytes) }),
        oom: finding.oom.as_ref().map(Oom::from),
        kernel: finding
            .kernel
            .as_ref()
            .map(|counts| Kernel { explained: finding.explained, ..Kernel::new(counts) }),
        ..Suspect::new(&finding.identity, &finding.verdict, &finding.memory)
    }
}

/// The host's memory at the moment of the first confirmation, and at the end when something was done.
fn host_change(hunted: &Hunted) -> HostChange {
    let confirmed = hunted.findings.iter().find(|finding| finding.verdict.confirmed);
    let before = confirmed.map_or(hunted.host_after, |finding| finding.host);
    let watched = confirmed.and_then(|finding| finding.confirmed_after).filter(|span| *span > Duration::ZERO);
    let used = |host: &HostMemory| host.total.as_f64() - host.available.as_f64();
    let acted = hunted.actions.iter().any(|(_, outcome)| outcome.signal.is_some());
    HostChange {
        before,
        after: acted.then_some(hunted.host_after),
        settled: confirmed.filter(|_| acted).map(|finding| seconds_between(finding.wall, hunted.finished)),
        growth_before: watched
            .map(|span| BytesPerSec((used(&before) - used(&hunted.host_before)) / span.as_secs_f64())),
        growth_after: None,
    }
}

fn seconds_between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

fn timeline(hunted: &Hunted) -> Vec<TimelineEntry> {
    hunted.timeline.iter().map(|(at, text)| TimelineEntry { at: *at, text: text.clone() }).collect()
}

fn candidate(finding: &Finding, confirmed: bool) -> Candidate {
    let first = finding.history.first().map(|point| point.memory.footprint());
    let now = finding.memory.footprint();
    let reasons = finding.verdict.reasons();
    Candidate {
        pid: finding.key.pid,
        name: short_command_line(&finding.identity.cmdline, &finding.identity.comm),
        verdict: finding.verdict.state,
        confirmed,
        footprint: now,
        growth: (finding.history.len() > 1).then(|| now - first.unwrap_or(now)),
        why: reasons
            .first()
            .cloned()
            .unwrap_or_else(|| format!("its footprint is {}", finding.verdict.state.name())),
    }
}

fn story(finding: &Finding, hunted: &Hunted) -> Story {
    let wall_of = |point: &Point| {
        let last = finding.history.last().map_or(point.at, |last| last.at);
        finding.wall - last.since(point.at)
    };
    // Thinned histories no longer show every fall.
    let whole = finding.history.len() < crate::monitor::HISTORY_CAPACITY;
    let falls: Bytes =
        finding.history.windows(2).map(|pair| pair[0].memory.footprint() - pair[1].memory.footprint()).sum();
    let killed = hunted.actions.iter().find(|(key, outcome)| *key == finding.key && outcome.signal.is_some());
    Story {
        key: finding.key,
        steady: None,
        given_back: whole.then_some(falls),
        footprint: finding.history.iter().map(|point| (wall_of(point), point.memory.footprint())).collect(),
        killed_at: killed.map(|_| finding.wall),
    }
}
