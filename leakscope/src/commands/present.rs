//! From what came of a command to what is shown: the one place where findings and outcomes become the report's values.

mod story;

use std::path::PathBuf;
use std::time::Duration;

use super::hunt::Hunted;
use crate::action::Outcome;
use crate::monitor::{Finding, Group};
use crate::process::Identity;
use crate::report::Printable;
use crate::report::{
    Cadence, Candidate, Host, HostVerdict, Hunt, Incident, Kernel, LossLine, Oom, OwnerLine, PressureLine,
    RateLine, ReportFormat, Service, Style, Suspect, TimelineEntry, Told, checks_table, short_command_line,
    write_report,
};
use crate::source::HostMemory;
use crate::ui::Ui;
use crate::units::Bytes;

/// Workers of a service that are listed by pid.
const PIDS_LISTED: usize = 64;

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

impl Destination {
    /// The other forms of the same report, each beside it under its own ending.
    pub fn in_other_forms(&self) -> Vec<Self> {
        ReportFormat::NAMES
            .into_iter()
            .filter(|(_, format)| *format != self.format)
            .map(|(ending, format)| Self { path: self.path.with_extension(ending), format })
            .collect()
    }
}

/// The incident that a hunt makes; its report is due where [`Hunted::leak_confirmed`].
pub fn incident(hunted: &Hunted, terms: Terms) -> Incident {
    Incident {
        hunt: hunt(hunted),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        confirm: terms.confirm,
        told: terms.told,
        host_memory: host_memory(hunted),
        timeline: timeline(hunted),
        timeline_left_out: hunted.timeline_left_out,
        candidates: hunted
            .findings
            .iter()
            .map(|finding| candidate(finding, finding.verdict.confirmed))
            .chain(hunted.cleared.iter().map(|finding| candidate(finding, false)))
            .collect(),
        considered: Some(hunted.watched as u64),
        stories: hunted.findings.iter().map(|finding| story::of(finding, hunted)).collect(),
        host_available: hunted.host_available.clone(),
        oom_choice: hunted.oom_choice.clone(),
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
    if hunted.findings.is_empty() && hunted.groups.is_empty() {
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
    for service in &hunt.services {
        let confirmed = if service.confirmed { "confirmed" } else { "not confirmed" };
        let verdict = service.verdict.name();
        text.push_str(&format!("{} together {verdict}, {confirmed}\n", service.title()));
        for reason in &service.reasons {
            text.push_str(&format!("  {reason}\n"));
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
        pressure: host_memory(hunted).pressure.as_ref().map(PressureLine::from),
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
        services: hunted.groups.iter().map(service).collect(),
        actions: hunted.actions.iter().map(|(_, outcome)| outcome.clone()).collect(),
        report: None,
    }
}

/// What is shown of a service.
pub(super) fn service(group: &Group) -> Service {
    let Group { first, verdict, .. } = group;
    Service {
        cmdline: first.cmdline.clone(),
        comm: first.comm.clone(),
        exe: first.exe.as_ref().map(|exe| exe.path.to_string_lossy().into_owned()),
        parent_pid: first.ppid,
        owner: OwnerLine { pidfile: None, ..OwnerLine::from(&first.owner) },
        processes: group.len(),
        pids: group.workers().map(|key| key.pid).take(PIDS_LISTED).collect(),
        verdict: verdict.state,
        confirmed: verdict.confirmed,
        clean_growth: verdict.clean_growth,
        reasons: verdict.reasons(),
        footprint_bytes: group.footprint(),
        rate: RateLine::from_verdict(verdict),
    }
}

fn suspect(finding: &Finding) -> Suspect {
    Suspect {
        suspected_after: finding.suspected_after,
        confirmed_after: finding.confirmed_after,
        cadence: finding
            .cadence
            .ok()
            .map(|found| Cadence { period: found.period, bytes: found.bytes.map(Bytes) }),
        cadence_unknown: finding.cadence.err().map(str::to_owned),
        oom: finding.oom.as_ref().map(Oom::from),
        pressure: finding.pressure.as_ref().map(PressureLine::from),
        kernel: finding
            .kernel
            .as_ref()
            .map(|counts| Kernel { explained: finding.explained, ..Kernel::new(counts) }),
        ..Suspect::new(&finding.identity, &finding.verdict, &finding.memory)
    }
}

/// The host's memory when the first leak was confirmed, or at the end.
fn host_memory(hunted: &Hunted) -> HostMemory {
    let confirmed = hunted.findings.iter().find(|finding| finding.verdict.confirmed);
    confirmed.map_or(hunted.host_after, |finding| finding.host)
}

fn timeline(hunted: &Hunted) -> Vec<TimelineEntry> {
    hunted.timeline.iter().map(|(at, text)| TimelineEntry { at: *at, text: text.clone() }).collect()
}

fn candidate(finding: &Finding, confirmed: bool) -> Candidate {
    let now = finding.memory.footprint();
    let reasons = finding.verdict.reasons();
    Candidate {
        pid: finding.key.pid,
        name: short_command_line(&finding.identity.cmdline, &finding.identity.comm),
        verdict: finding.verdict.state,
        confirmed,
        footprint: now,
        growth: finding.first.filter(|_| finding.history.len() > 1).map(|first| now - first),
        why: reasons
            .first()
            .cloned()
            .unwrap_or_else(|| format!("its footprint is {}", finding.verdict.state.name())),
    }
}

#[cfg(test)]
#[path = "present_tests.rs"]
mod tests;
