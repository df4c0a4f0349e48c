//! `leakscope rules`: which rule protects which process that lives now. Signals nobody.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::action::Protections;
use crate::process::{ProcRoot, vanished};
use crate::report::{RuledProcess, Style, rules_table};
use crate::ui::Ui;
use crate::units::Pid;

/// What the rules catch at one moment.
#[derive(Debug, Serialize)]
pub struct Caught {
    schema: &'static str,
    /// The configuration file that was read.
    config: Option<String>,
    /// How many processes there were.
    processes_total: usize,
    /// By rule, the processes that it catches; a rule without any has an empty list.
    rules: BTreeMap<String, Vec<Pid>>,
    /// The processes that some rule catches, threads of the kernel left out.
    processes: Vec<RuledProcess>,
    /// Processes that could not be read.
    unread: usize,
}

/// Asks every rule about every process.
///
/// # Errors
/// When /proc cannot be listed.
pub fn examine(root: &ProcRoot, protections: &Protections, config: Option<String>) -> anyhow::Result<Caught> {
    let mut caught = Caught {
        schema: "leakscope.rules/1",
        config,
        processes_total: 0,
        rules: protections.names().into_iter().map(|name| (name, Vec::new())).collect(),
        processes: Vec::new(),
        unread: 0,
    };
    for pid in root.pids()? {
        let who = match root.identify(pid) {
            Ok(who) => who,
            Err(error) => {
                caught.unread += usize::from(!vanished(&error));
                continue;
            }
        };
        caught.processes_total += 1;
        let against: Vec<_> = protections.check_each(root, &who).filter(|(_, check)| !check.passed).collect();
        for (name, _) in &against {
            caught.rules.entry(name.clone()).or_default().push(pid);
        }
        if !against.is_empty() && !who.kernel_thread {
            caught.processes.push(RuledProcess {
                pid,
                start_time_ticks: who.key.start,
                comm: who.comm.clone(),
                cmdline: who.cmdline.clone(),
                rules: against.into_iter().map(|(_, check)| check).collect(),
            });
        }
    }
    Ok(caught)
}

/// The table, or the JSON object, that `leakscope rules` prints.
///
/// # Errors
/// When the values cannot be serialised.
pub fn show(caught: &Caught, json: bool, ui: &Ui) -> anyhow::Result<String> {
    if json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(caught)?));
    }
    let style = Style { color: ui.color, width: ui.columns() };
    let mut text = rules_table(&caught.processes).to_text(style);
    let threads = caught.rules.get("kernel-thread").map_or(0, Vec::len);
    text.push_str(&format!(
        "\n{} of {} processes are protected, {threads} threads of the kernel among them.\n",
        caught.processes.len() + threads,
        caught.processes_total
    ));
    let idle: Vec<&str> =
        caught.rules.iter().filter(|(_, pids)| pids.is_empty()).map(|(name, _)| name.as_str()).collect();
    if !idle.is_empty() {
        text.push_str(&format!("Without a process now: {}.\n", idle.join(", ")));
    }
    match &caught.config {
        Some(file) => text.push_str(&format!("Configuration: {file}\n")),
        None => text.push_str(&format!("Configuration: none ({} is not there)\n", crate::config::USUAL)),
    }
    if caught.unread > 0 {
        text.push_str(&format!(
            "{} processes could not be read: run it as root to see all.\n",
            caught.unread
        ));
    }
    Ok(text)
}
