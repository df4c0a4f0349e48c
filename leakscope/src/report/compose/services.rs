//! What a report says of services whose workers leak together, none of them fast enough to be told alone.

use super::super::document::{Block, Section};
use super::super::duration::span;
use super::super::incident::Incident;
use super::super::printable::{Line, Printable, command_line};
use super::super::service::Service;
use super::NAME_LENGTH;

/// The services that the report is about.
pub(super) fn of(incident: &Incident) -> impl Iterator<Item = &Service> {
    incident.hunt.services.iter().filter(|service| service.confirmed)
}

pub(super) fn summary(service: &Service) -> Line {
    let name = Printable::limited(&command_line(&service.cmdline, &service.comm), NAME_LENGTH);
    let mut text = format!(
        "The {} workers of one service (parent {}, {name}) leaked memory together: the sum of their footprints grew",
        service.processes, service.parent_pid
    );
    if let Some(rate) = service.rate.rate() {
        text += &format!(" at {} (95 % confidence interval {} to {})", rate.mean, rate.low, rate.high);
    }
    text += &format!(
        " for {} without a break. None of them grew enough to be told alone.",
        span(service.clean_growth)
    );
    text.into()
}

pub(super) fn impact(section: &mut Section, incident: &Incident) {
    for service in of(incident) {
        section.say(format!(
            "The {} workers of parent {} held {} together when they were last read.",
            service.processes, service.parent_pid, service.footprint_bytes
        ));
    }
}

pub(super) fn identification(section: &mut Section, incident: &Incident) {
    for service in of(incident) {
        let code = |text: &String| Line::new().code(text);
        let pids: Vec<String> = service.pids.iter().map(ToString::to_string).collect();
        let more = service.processes.saturating_sub(pids.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let mut facts = vec![
            (
                "Service",
                Line::from(format!("{} workers of parent {}", service.processes, service.parent_pid)),
            ),
            ("Command line", code(&command_line(&service.cmdline, &service.comm).to_string())),
            ("Workers", Line::from(format!("pid {}{more}", pids.join(", ")))),
        ];
        facts.extend(service.exe.as_ref().map(|exe| ("Program", code(exe))));
        facts.extend(service.owner.unit.as_ref().map(|unit| ("Unit", code(unit))));
        facts.extend(service.owner.container.as_ref().map(|container| ("Container", code(container))));
        facts.extend(service.owner.cgroup.as_ref().map(|cgroup| ("Cgroup", code(cgroup))));
        section.blocks.push(Block::Facts(facts));
        section.say(format!(
            "The sum of the workers' footprints is {}. What that rests on:",
            service.verdict.name()
        ));
        section.list(service.reasons.iter().map(|reason| Line::from(reason.as_str())).collect());
    }
}

pub(super) fn resolution(section: &mut Section, incident: &Incident) {
    for service in of(incident) {
        section.say(format!(
            "Nothing was done about the workers of parent {}: leakscope ends single processes that it has told alone, \
             not services.",
            service.parent_pid
        ));
        if let Some(unit) = &service.owner.unit {
            section.say("To start the service anew:");
            section.blocks.push(Block::Code(vec![Printable::new(&format!("systemctl restart {unit}"))]));
        }
    }
}
