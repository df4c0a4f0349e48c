//! Prevention: what to do so that it does not happen again, made for the case.
//!
//! A limit where its owner keeps limits, the tool of its language, an alert that names it. Every figure is derived from
//! what was measured here and marked as an estimate.

use std::time::Duration;

use super::super::document::{Block, Section};
use super::super::duration::span;
use super::super::hunt::Suspect;
use super::super::incident::Incident;
use super::super::printable::{Line, Printable};
use super::resolution::is_dead;
use super::runtime::Runtime;
use super::{head, is_service, named, quoted, short_container};
use crate::units::{Bytes, BytesPerSec};

/// The metric of process-exporter that the alert rule asks for; it groups by the name of the process unless configured.
const RESIDENT_METRIC: &str = "namedprocess_namegroup_memory_bytes";

const MIB: u64 = 1024 * 1024;

/// Limits are proposed in whole steps of this size, and not below two of them.
const LIMIT_STEP: u64 = 32 * MIB;

/// How many times its steady footprint a service may take before its limit ends it.
const HEADROOM: u64 = 2;

/// An example of a time to live, to show what one would come to.
const TIME_TO_LIVE: Duration = Duration::from_secs(600);

pub(super) fn section(incident: &Incident, subjects: &[&Suspect]) -> Section {
    let mut section = Section::new("Prevention");
    for suspect in subjects {
        head(&mut section, subjects, suspect);
        section.list(cure(incident, suspect));
        limit(&mut section, incident, suspect);
        language(&mut section, incident, suspect);
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
    let names_a_cache = words.into_iter().any(|word| word.to_ascii_lowercase().contains("cache"));
    let entries = suspect.cadence.as_ref().and_then(|cadence| Some((cadence.bytes?, cadence.period)));
    if let (Runtime::Python, Some((bytes, period))) = (Runtime::of(suspect), entries) {
        items.push(collection(bytes, period, names_a_cache));
    } else if names_a_cache {
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

/// A Python program whose growth comes in entries of one size: a collection that is only ever added to. How much a time
/// to live would leave of it follows from size and pace.
fn collection(bytes: Bytes, period: Duration, names_a_cache: bool) -> Line {
    let kept = (TIME_TO_LIVE.as_secs_f64() / period.as_secs_f64().max(1e-3)).ceil().max(1.0);
    let kept = two_digits(kept);
    let held = whole(kept * bytes.as_f64());
    let named = if names_a_cache { ", and its command line or unit names a cache" } else { "" };
    Line::new()
        .text(format!(
            "Give the collection a bound. A Python program that grows by entries of one size (about {bytes}) at one pace \
             looks like one that adds to a dict or a list and removes nothing{named}. A largest size with eviction of the least recently used \
             entry ("
        ))
        .code("functools.lru_cache(maxsize=...)")
        .text(" or ")
        .code("cachetools.LRUCache")
        .text(") or a time to live (")
        .code("cachetools.TTLCache(maxsize, ttl)")
        .text(format!(
            ") ends that: at this pace a time to live of {} would hold about {kept:.0} entries, {held} (estimate).",
            span(TIME_TO_LIVE)
        ))
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
    let (max, high) = (bytes.0 / MIB, bytes.0 / MIB * 3 / 4);
    let owner = &suspect.owner;
    if let Some(container) = &owner.container {
        let kubernetes = owner.cgroup.as_deref().is_some_and(|path| path.contains("kubepods"));
        let line = Line::new().text("Give the container ").code(short_container(container));
        section.say(if kubernetes {
            line.text(" a memory limit (").code("resources.limits.memory").text(format!(
                " of the container in its pod's template), so that a leak ends there and not on the node. {basis}"
            ))
        } else {
            line.text(format!(" a memory limit, now and where it is started anew, so that a leak ends there and not on the host. \
                 {basis}"
            ))
        });
        section.blocks.push(Block::Code(container_limit(kubernetes, container, max)));
    } else if let Some(unit) = owner.unit.as_ref().filter(|unit| is_service(unit)) {
        section.say(Line::new().text("Give ").code(unit).text(format!(
            " a memory limit, so that a leak ends there and not on the host. {basis} MemoryHigh= at three quarters of \
             it slows a leak down before it is ended."
        )));
        section.blocks.push(Block::Code(unit_limit(unit, max, high)));
    } else {
        section.say(named(suspect, true).text(format!(
            " ran without a service or container of its own. Run it as one, with a limit. {basis}"
        )));
        let line = format!("systemd-run --unit=NAME -p MemoryHigh={high}M -p MemoryMax={max}M COMMAND");
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

fn unit_limit(unit: &str, max: u64, high: u64) -> Vec<Printable> {
    let lines = [
        format!("systemctl set-property {} MemoryHigh={high}M MemoryMax={max}M", quoted(unit)),
        format!("# or in /etc/systemd/system/{unit}.d/memory.conf, then systemctl daemon-reload:"),
        "[Service]".to_owned(),
        format!("MemoryHigh={high}M"),
        format!("MemoryMax={max}M"),
    ];
    lines.into_iter().map(Printable::from).collect()
}

fn container_limit(kubernetes: bool, container: &str, max: u64) -> Vec<Printable> {
    let lines = if kubernetes {
        vec!["resources:".to_owned(), "  limits:".to_owned(), format!("    memory: {max}Mi")]
    } else {
        let id = quoted(short_container(container));
        vec![
            format!("docker update --memory={max}m --memory-swap={max}m {id}"),
            format!("docker run --memory={max}m ..."),
        ]
    };
    lines.into_iter().map(Printable::from).collect()
}

/// The means of its runtime: a bound of its own, and the tool that finds what holds the memory.
fn language(section: &mut Section, incident: &Incident, suspect: &Suspect) {
    // Below the limit of the process, which holds more than its heap.
    let heap = proposed(incident, suspect).0.0 / MIB * 3 / 4;
    let (words, commands): (Line, Vec<String>) = match Runtime::of(suspect) {
        Runtime::Python => (
            "To find the objects: run it with tracemalloc, take two snapshots some minutes apart, and compare them."
                .into(),
            vec![
                "python3 -X tracemalloc=10 ...".to_owned(),
                "earlier, later = tracemalloc.take_snapshot(), ...".to_owned(),
                "later.compare_to(earlier, 'lineno')[:10]".to_owned(),
            ],
        ),
        Runtime::Node => (
            "To find the objects: take two heap snapshots some minutes apart, and compare them in the developer tools. A \
             bound for the old generation (an estimate: three quarters of the limit) has it write one by itself before \
             it fails."
                .into(),
            vec![
                format!("node --max-old-space-size={heap} --heapsnapshot-near-heap-limit=2 ..."),
                "node --heapsnapshot-signal=SIGUSR2 ...".to_owned(),
                format!("kill -USR2 {}", instance(incident, suspect)),
            ],
        ),
        Runtime::Java => java(incident, suspect, heap),
        Runtime::Redis => (
            "Bound what it keeps (an estimate: three quarters of the limit; the policy evicts keys, which is right for a \
             cache only), and look which keys are large."
                .into(),
            vec![
                format!("redis-cli CONFIG SET maxmemory {heap}mb"),
                "redis-cli CONFIG SET maxmemory-policy allkeys-lru".to_owned(),
                "redis-cli --memkeys".to_owned(),
            ],
        ),
        Runtime::Other if suspect.places.as_ref().is_some_and(|places| !places.is_empty()) => return,
        Runtime::Other => (
            "To find the code: record which stacks touch fresh pages in a running instance.".into(),
            vec![format!(
                "perf record -e page-faults --call-graph dwarf -p {} -- sleep 60",
                instance(incident, suspect)
            )],
        ),
    };
    section.say(words);
    section.blocks.push(Block::Code(commands.iter().map(|line| Printable::new(line)).collect()));
}

fn java(incident: &Incident, suspect: &Suspect, heap: u64) -> (Line, Vec<String>) {
    let pid = instance(incident, suspect);
    let find = "To find the objects: count them by class twice, some minutes apart; a heap dump shows who holds them.";
    let mut commands = vec![
        format!("jcmd {pid} GC.class_histogram"),
        format!("jcmd {pid} GC.heap_dump /var/tmp/heap.hprof"),
    ];
    let dump = "-XX:+HeapDumpOnOutOfMemoryError -XX:HeapDumpPath=/var/tmp";
    let words = match suspect.cmdline.iter().find(|word| word.starts_with("-Xmx")) {
        Some(bound) => {
            commands.insert(0, format!("java {dump} ..."));
            Line::new().text("Its heap has a bound (").code(bound).text(format!(
                "): growth below it is the heap filling, growth beyond it is native memory (threads, direct buffers, \
                 metaspace). {find}"
            ))
        }
        None => {
            commands.insert(0, format!("java -Xmx{heap}m {dump} ..."));
            format!(
                "{find} A bound for its heap (an estimate: three quarters of the limit) has it write one by itself when \
                 the heap is full."
            )
            .into()
        }
    };
    (words, commands)
}

/// Whom a command is for: the process while it lives, the one that took its place, or the next one.
fn instance(incident: &Incident, suspect: &Suspect) -> String {
    let respawned = incident.actions(suspect).find_map(|action| action.respawned_as);
    match respawned {
        Some(pid) => pid.to_string(),
        None if is_dead(incident, suspect) => "PID".to_owned(),
        None => suspect.pid.to_string(),
    }
}

fn alert(section: &mut Section, suspect: &Suspect) {
    let Some(rate) = suspect.rate.rate_bytes_per_s.filter(|rate| rate.0 > 0.0) else { return };
    let threshold = BytesPerSec(rate.0 / 2.0);
    let minutes = alert_minutes(suspect);
    section.say(format!(
        "Alert on growth, not on size: this rule, on what Prometheus' process-exporter measures, fires at half of the \
         {rate} seen here (an estimate; normal growth must stay below it)."
    ));
    let label = suspect.comm.replace('\\', "\\\\").replace('"', "\\\"");
    let expr = format!(
        "deriv({RESIDENT_METRIC}{{groupname=\"{label}\",memtype=\"resident\"}}[{minutes}m]) > {:.0}",
        threshold.0
    );
    let summary = format!("{} grows by more than {threshold} and does not stop", suspect.comm);
    let yaml = |text: &str| text.replace('\'', "''");
    section.blocks.push(Block::Code(vec![
        Printable::new("- alert: MemoryGrowth"),
        Printable::from(format!("  expr: '{}'", yaml(&expr))),
        Printable::from(format!("  for: {minutes}m")),
        Printable::new("  annotations:"),
        Printable::from(format!("    summary: '{}'", yaml(&summary))),
    ]));
    if let Some(script) = Runtime::of(suspect).script(suspect) {
        section.say(
            Line::new()
                .code(&suspect.comm)
                .text(" is the name of every such process: an entry for ")
                .code(script)
                .text(" in the exporter's ")
                .code("process_names")
                .text(", by its command line, makes it a group of its own."),
        );
    }
}

/// Over how many minutes the alert looks: ten, and less where the limit is so near that ten would be late.
fn alert_minutes(suspect: &Suspect) -> u64 {
    let eta = suspect.oom.as_ref().map_or(u64::MAX, |oom| oom.low.as_secs() / 60);
    (eta / 4).clamp(1, 10)
}

/// An estimate has two digits that mean something.
fn two_digits(value: f64) -> f64 {
    let unit = 10f64.powf(value.max(1.0).log10().floor() - 1.0).max(1.0);
    (value / unit).round() * unit
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size: positive; saturates")]
fn whole(size: f64) -> Bytes {
    Bytes(size as u64)
}
