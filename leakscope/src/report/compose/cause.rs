//! Root cause: what is known of how the memory grew, and what was not looked at.

use super::super::document::{Block, Section};
use super::super::duration::span;
use super::super::hunt::{Cadence, Kernel, Place, RateLine, Suspect};
use super::super::incident::Incident;
use super::super::printable::{Line, Printable};
use super::runtime::Runtime;
use super::{head, named, percent, short_container};
use crate::leak::Rate;
use crate::source::SourceKind;
use crate::units::{Bytes, BytesPerSec};

/// Stacks that a report shows, and frames of each.
const PLACES: usize = 5;
const FRAMES: usize = 24;
const FRAME_LENGTH: usize = 120;

/// Below this share the counts and /proc do not tell the same story, and the reader should know.
const MOSTLY_EXPLAINED: f64 = 0.8;

/// Entry size and cadence, and the rate, are measured apart from each other; within this share of it they agree.
const AGREES: f64 = 0.1;

pub(super) fn section(incident: &Incident, subjects: &[&Suspect]) -> Section {
    let mut section = Section::new("Root Cause");
    for suspect in subjects {
        head(&mut section, subjects, suspect);
        section.say(what_it_is(suspect));
        section.say(rate(suspect));
        if let Some(cadence) = &suspect.cadence {
            let nothing_back =
                incident.story(suspect).and_then(|story| story.given_back) == Some(Bytes::ZERO);
            section.say(rhythm(cadence, &suspect.rate, nothing_back));
        } else if let Some(why) = &suspect.cadence_unknown {
            section.say(format!("The size and the rhythm of its entries are not known: {why}."));
        }
        section.say(kinds(suspect));
        if let Some(line) = suspect.anatomy.as_ref().and_then(super::anatomy::sentence) {
            section.say(line);
        }
        if let Some(kernel) = &suspect.kernel {
            section.say(counts(kernel));
        }
        places(&mut section, suspect);
    }
    if incident.hunt.source == SourceKind::Procfs && !subjects.is_empty() {
        section.say(
            "The source was /proc alone. No kernel counters were taken: page faults and the bytes of brk, mmap and \
             munmap are not known, nor is how much of the growth they would explain. What happened between two \
             readings of /proc was not seen.",
        );
    }
    if super::services::of(incident).next().is_some() {
        section.say(
            "The workers run one program and each of them holds a little more with time; which code path does so was not \
             looked at.",
        );
    }
    if subjects.is_empty() && super::services::of(incident).next().is_none() {
        section.say("No leak was found, so there is no cause to name.");
    }
    section
}

fn kinds(suspect: &Suspect) -> Line {
    let memory = &suspect.memory;
    format!(
        "When it was last read, its memory was {} anonymous (heap and private mappings), {} swapped, {} shared and {} \
         of mapped files.",
        memory.anon_bytes, memory.swap_bytes, memory.shmem_bytes, memory.file_bytes
    )
    .into()
}

/// What program it is and who keeps it.
fn what_it_is(suspect: &Suspect) -> Line {
    let mut line = named(suspect, true).text(format!(" is {}", Runtime::of(suspect).in_words()));
    if let Some(exe) = &suspect.exe {
        line = line.text(" (").code(exe).text(")");
    }
    line = line
        .text(format!(", run by {}", suspect.user.clone().unwrap_or_else(|| format!("uid {}", suspect.uid))));
    let owner = &suspect.owner;
    if let Some(container) = &owner.container {
        line = line.text(", in the container ").code(short_container(container));
    } else if let Some(unit) = &owner.unit {
        line = line.text(", in the unit ").code(unit);
    }
    if let Some(pidfile) = &owner.pidfile {
        line = line.text(", and named by the pid file ").code(pidfile);
    }
    line.text(".")
}

fn rate(suspect: &Suspect) -> Line {
    let Some(Rate { mean, low, high }) = suspect.rate.rate() else { return Line::new() };
    let mut line =
        format!("Its footprint grew at {mean}, with a 95 % confidence interval from {low} to {high}");
    if !suspect.clean_growth.is_zero() {
        line += &format!(", over {} of growth without a break", span(suspect.clean_growth));
    }
    (line + ".").into()
}

fn rhythm(cadence: &Cadence, rate: &RateLine, nothing_back: bool) -> Line {
    let seconds = cadence.period.as_secs_f64();
    let often = if seconds > 0.0 && seconds <= 1.0 {
        format!("{} (one every {})", times_a_second(1.0 / seconds), span(cadence.period))
    } else {
        format!("one every {}", span(cadence.period))
    };
    let end = if nothing_back { ", and nothing was given back." } else { "." };
    let Some(bytes) = cadence.bytes else {
        return format!(
            "The growth came in bursts, {}{end}",
            often.replace("entries", "bursts").replace("entry", "burst")
        )
        .into();
    };
    let line = format!("The growth came in entries of about {bytes}, {often}{end}");
    let measured = rate.rate_bytes_per_s.filter(|rate| rate.0 > 0.0 && seconds > 0.0);
    let Some(measured) = measured else { return line.into() };
    let made = BytesPerSec(bytes.as_f64() / seconds);
    let share = made.0 / measured.0;
    let word = if share < 1.0 - AGREES {
        format!(", so that {} of the growth came in them", percent(share))
    } else if share > 1.0 + AGREES {
        ", so that a part of them did not stay".to_owned()
    } else {
        ", which agrees".to_owned()
    };
    format!("{line} That makes {made} beside the {measured} that was measured{word}.").into()
}

/// `5 entries a second`, `2.9 entries a second`.
fn times_a_second(times: f64) -> String {
    let whole = times.round();
    match (times - whole).abs() < 0.05 {
        true if whole <= 1.0 => "1 entry a second".to_owned(),
        true => format!("{whole:.0} entries a second"),
        false => format!("{times:.1} entries a second"),
    }
}

fn counts(kernel: &Kernel) -> Line {
    let mut line =
        format!("The kernel counted {} page faults in it while it was watched", kernel.page_faults);
    let calls: Vec<String> = [
        kernel.brk_bytes.map(|bytes| format!("brk added {bytes} to its heap")),
        kernel.mmap_bytes.map(|bytes| format!("mmap added {bytes}")),
        kernel.munmap_bytes.map(|bytes| format!("munmap took {bytes} away")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !calls.is_empty() {
        line += &format!("; while its calls were counted, {}", listed(&calls));
    }
    line += ".";
    if let Some(explained) = kernel.explained {
        line += &format!(" These counts account for {} of the growth that /proc shows.", percent(explained));
        if explained < MOSTLY_EXPLAINED {
            line += " The rest is not accounted for.";
        }
    }
    line.into()
}

/// `a`, `a and b`, `a, b and c`.
fn listed(items: &[String]) -> String {
    match items {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        items => items.concat(),
    }
}

fn places(section: &mut Section, suspect: &Suspect) {
    let Some(places) = &suspect.places else {
        section.say(
            "This is what shows from outside the process. Which code path allocates the memory was not looked at.",
        );
        return;
    };
    if places.is_empty() {
        section.say("Its code was looked at, but no stack was caught while it grew.");
    }
    for place in places.iter().take(PLACES) {
        stack(section, place);
    }
    if places.len() > PLACES {
        section
            .say(format!("{} further stacks with smaller shares are left out here.", places.len() - PLACES));
    }
}

fn stack(section: &mut Section, place: &Place) {
    section.say(format!(
        "{} of the growth that was sampled ({}) was first touched by this stack, innermost first:",
        percent(place.share),
        place.bytes
    ));
    let mut lines: Vec<Printable> =
        place.frames.iter().take(FRAMES).map(|frame| Printable::limited(frame, FRAME_LENGTH)).collect();
    if place.frames.len() > FRAMES {
        lines.push(Printable::from(format!("... {} outer frames", place.frames.len() - FRAMES)));
    }
    if !lines.is_empty() {
        section.blocks.push(Block::Code(lines));
    }
}
