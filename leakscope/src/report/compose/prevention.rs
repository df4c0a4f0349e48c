//! Prevention: what to do so that it does not happen again, made for the case.
//!
//! A limit where its owner keeps limits, the tool of its language, an alert that names it. Every figure is derived from
//! what was measured here and marked as an estimate.

use super::super::document::{Block, Section};
use super::super::hunt::Suspect;
use super::super::incident::Incident;
use super::super::printable::{Line, Printable};
use super::{head, named};
use crate::units::Bytes;

/// The metric of process-exporter that the alert rule asks for; it groups by the name of the process unless configured.
const RESIDENT_METRIC: &str = "namedprocess_namegroup_memory_bytes";

const MIB: u64 = 1024 * 1024;

/// Limits are proposed in whole steps of this size, and not below two of them.
const LIMIT_STEP: u64 = 32 * MIB;

/// How many times its steady footprint a service may take before its limit ends it.
const HEADROOM: u64 = 2;

pub(super) fn section(incident: &Incident, subjects: &[&Suspect]) -> Section {
    let mut section = Section::new("Prevention");
    for suspect in subjects {
        head(&mut section, subjects, suspect);
        section.list(cure(incident, suspect));
        limit(&mut section, incident, suspect);
        language(&mut section, suspect);
        alert(&mut section, suspect);
    }
    if super::services::of(incident).next().is_some() {
        section.say(
            "Until the program is mended, workers that are replaced after some number of requests or hours give back what \
             they gathered.",
        );
    }
    if subjects.is_empty() && super::services::of(incident).next().is_none() {
        section.say("No leak was found, so there is none to prevent.");
    }
    section
}

fn cure(incident: &Incident, suspect: &Suspect) -> Vec<Line> {
    let mut items = Vec::new();
    let words = suspect.cmdline.iter().chain(&suspect.owner.unit);
    if words.into_iter().any(|word| word.to_ascii_lowercase().contains("cache")) {
        items.push(
            "Give the cache a bound: a largest size with eviction of the least recently used entry, or a time to live. \
             (That it is a cache is taken from its command line or unit, which names one.)"
                .into(),
        );
    }
    if let Some(pid) = incident.actions(suspect).find_map(|action| action.respawned_as) {
        items.push(
            format!("Watch process {pid}, the new instance: leakscope changed nothing in the program.")
                .into(),
        );
    }
    if let Some(choice) = &incident.oom_choice
        && choice.pid != suspect.pid
    {
        items.push(
            Line::new()
                .text("Raise the OOM score of the service that leaked (")
                .code("OOMScoreAdjust=")
                .text(format!(
                    " in its unit, or oom_score_adj): as it stood, the OOM killer would have chosen process {} \
                     instead.",
                    choice.pid
                )),
        );
    }
    items
}

fn limit(section: &mut Section, incident: &Incident, suspect: &Suspect) {
    if let Some(oom) = suspect.oom.as_ref().filter(|oom| oom.limit != "host") {
        section.say(
            Line::new()
                .text(format!("Keep the limit of {} on the cgroup ", oom.limit_bytes))
                .code(&oom.limit)
                .text(": it keeps this leak from taking the host's memory."),
        );
        return;
    }
    let (bytes, basis) = proposed(incident, suspect);
    let mebibytes = bytes.0 / MIB;
    let owner = &suspect.owner;
    if let Some(container) = &owner.container {
        section.say(
            Line::new()
                .text("Give the container ")
                .code(container.get(..12).filter(|_| container.len() == 64).unwrap_or(container))
                .text(format!(" a memory limit, so that a leak ends there and not on the host. {basis}")),
        );
        section.blocks.push(Block::Code(container_limit(owner.cgroup.as_deref(), mebibytes)));
    } else if let Some(unit) = owner.unit.as_ref().filter(|unit| is_service(unit)) {
        section.say(
            Line::new()
                .text("Give ")
                .code(unit)
                .text(format!(" a memory limit, so that a leak ends there and not on the host. {basis}")),
        );
        section.blocks.push(Block::Code(unit_limit(unit, mebibytes)));
    } else {
        section.say(named(suspect, true).text(format!(
            " ran without a service or container of its own. Run it as one, with a limit. {basis}"
        )));
        let line = format!("systemd-run --unit=NAME -p MemoryMax={mebibytes}M COMMAND");
        section.blocks.push(Block::Code(vec![Printable::new(&line)]));
    }
}

/// A limit, and in words what it was derived from.
fn proposed(incident: &Incident, suspect: &Suspect) -> (Bytes, String) {
    let story = incident.story(suspect);
    let steady = story.and_then(|story| story.steady);
    let first = story.and_then(|story| story.footprint.first()).map(|&(_, bytes)| bytes);
    let (base, what) = match (steady, first) {
        (Some(steady), _) => (steady, "held before its growth began"),
        (None, Some(first)) => {
            (first, "held when it was first read, already growing (so a lower one may do)")
        }
        (None, None) => {
            (suspect.memory.footprint(), "held at the end, the leak included (so a lower one will do)")
        }
    };
    let step = base.0.saturating_mul(HEADROOM).div_ceil(LIMIT_STEP).max(2).saturating_mul(LIMIT_STEP);
    let basis = format!(
        "The figure is an estimate: twice the {base} that it {what}, rounded up to a multiple of 32 MiB, 64 MiB at \
         the least; check it against a day of normal work."
    );
    (Bytes(step), basis)
}

/// A service, and not the session somebody happened to start it from.
fn is_service(unit: &str) -> bool {
    unit.ends_with(".service") && !unit.starts_with("user@") && !unit.starts_with("session-")
}

fn unit_limit(unit: &str, mebibytes: u64) -> Vec<Printable> {
    let mut lines = vec![format!("systemctl set-property {} MemoryMax={mebibytes}M", quoted(unit))];
    lines.push(format!("# or in /etc/systemd/system/{unit}.d/memory.conf:"));
    lines.push("[Service]".to_owned());
    lines.push(format!("MemoryMax={mebibytes}M"));
    lines.into_iter().map(Printable::from).collect()
}

fn container_limit(cgroup: Option<&str>, mebibytes: u64) -> Vec<Printable> {
    let lines = if cgroup.is_some_and(|path| path.contains("kubepods")) {
        vec!["resources:".to_owned(), "  limits:".to_owned(), format!("    memory: {mebibytes}Mi")]
    } else {
        vec![format!("docker run --memory={mebibytes}m ...")]
    };
    lines.into_iter().map(Printable::from).collect()
}

/// The runtime that a program is written for, by its name.
fn language(section: &mut Section, suspect: &Suspect) {
    let program = suspect.exe.as_ref().or(suspect.cmdline.first());
    let name = program.and_then(|path| path.rsplit('/').next()).unwrap_or(&suspect.comm);
    let (tool, commands): (&str, &[&str]) = if name.starts_with("python") || name.starts_with("pypy") {
        (
            "To find the objects: run it with tracemalloc, take two snapshots some minutes apart, and compare them.",
            &[
                "python3 -X tracemalloc=10 ...",
                "earlier, later = tracemalloc.take_snapshot(), ...",
                "later.compare_to(earlier, 'lineno')[:10]",
            ],
        )
    } else if name == "node" || name == "nodejs" {
        (
            "To find the objects: take two heap snapshots some minutes apart, and compare them in the developer tools.",
            &["node --heapsnapshot-signal=SIGUSR2 ...", "kill -USR2 PID"],
        )
    } else if name == "java" {
        (
            "To find the objects: count them by class twice, some minutes apart; a heap dump shows who holds them.",
            &["jcmd PID GC.class_histogram", "jcmd PID GC.heap_dump /var/tmp/heap.hprof"],
        )
    } else {
        let places = suspect.places.as_ref().is_some_and(|places| !places.is_empty());
        if !places {
            section.say("To find the code: record which stacks touch fresh pages in a running instance.");
            let command = "perf record -e page-faults --call-graph dwarf -p PID -- sleep 60";
            section.blocks.push(Block::Code(vec![Printable::new(command)]));
        }
        return;
    };
    section.say(tool);
    section.blocks.push(Block::Code(commands.iter().map(|&line| Printable::new(line)).collect()));
}

fn alert(section: &mut Section, suspect: &Suspect) {
    let Some(rate) = suspect.rate.rate_bytes_per_s.filter(|rate| rate.0 > 0.0) else { return };
    let label = suspect.comm.replace('\\', "\\\\").replace('"', "\\\"");
    section.say(format!(
        "Alert on growth, not on size: this rule, on what Prometheus' process-exporter measures, fires at half of the \
         {rate} seen here (an estimate; normal growth must stay below it)."
    ));
    let expr = format!(
        "deriv({RESIDENT_METRIC}{{groupname=\"{label}\",memtype=\"resident\"}}[10m]) > {:.0}",
        rate.0 / 2.0
    );
    section.blocks.push(Block::Code(vec![
        Printable::new("- alert: MemoryGrowth"),
        Printable::from(format!("  expr: '{}'", expr.replace('\'', "''"))),
        Printable::new("  for: 10m"),
    ]));
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._:-".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
