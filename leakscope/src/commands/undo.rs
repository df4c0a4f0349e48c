//! `leakscope undo`: what hunts with `--action` did to processes, and the way back.

use serde::Serialize;

use crate::action::{Restraint, Restraints, undo};
use crate::process::ProcRoot;
use crate::ui::Ui;
use crate::units::Pid;

/// What is to be undone.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of these processes; of all when there are none.
    pub pids: Vec<Pid>,
    /// Only say what there is.
    pub list: bool,
}

/// One restraint, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Undone {
    #[serde(flatten)]
    restraint: Restraint,
    /// Whether it is undone; `None` when it was only listed.
    undone: Option<bool>,
    /// What came of it, in words.
    detail: Option<String>,
}

/// What came of it all.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    schema: &'static str,
    /// Where the notes lie.
    directory: String,
    restraints: Vec<Undone>,
    /// Notes that could not be read.
    unreadable: Vec<String>,
}

impl Done {
    /// Whether everything that was to be undone is.
    pub fn all_undone(&self) -> bool {
        self.unreadable.is_empty() && self.restraints.iter().all(|one| one.undone != Some(false))
    }
}

/// Undoes what was asked for.
///
/// # Errors
/// When the notes cannot be read, or there is none of a process that was named.
pub async fn run(restraints: &Restraints, options: &Options, ui: &mut Ui) -> anyhow::Result<Done> {
    let root = ProcRoot::default();
    let (all, unreadable) = restraints.all()?;
    for error in &unreadable {
        ui.say(&format!("{error:#}"));
    }
    for pid in &options.pids {
        anyhow::ensure!(
            all.iter().any(|restraint| restraint.pid == *pid),
            "pid {pid}: nothing that leakscope did to it is written down in {}",
            restraints.directory().display()
        );
    }
    let mut done = Done {
        schema: "leakscope.undo/1",
        directory: restraints.directory().display().to_string(),
        restraints: Vec::new(),
        unreadable: unreadable.iter().map(|error| format!("{error:#}")).collect(),
    };
    let asked = |restraint: &Restraint| options.pids.is_empty() || options.pids.contains(&restraint.pid);
    for restraint in all.into_iter().filter(asked) {
        let (undone, detail) = if options.list {
            (None, None)
        } else {
            match undo(&root, &restraint).await {
                Ok(detail) => match restraints.forget(&restraint) {
                    Ok(()) => (Some(true), Some(detail)),
                    Err(error) => (Some(false), Some(format!("{detail}, but its note stays: {error:#}"))),
                },
                Err(detail) => (Some(false), Some(detail)),
            }
        };
        done.restraints.push(Undone { restraint, undone, detail });
    }
    Ok(done)
}

/// What `leakscope undo` prints.
///
/// # Errors
/// When the values cannot be serialised.
pub fn show(done: &Done, json: bool) -> anyhow::Result<String> {
    if json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(done)?));
    }
    if done.restraints.is_empty() {
        return Ok(format!("nothing to undo in {}\n", done.directory));
    }
    let line = |one: &Undone| {
        let Restraint { pid, cmdline, measure, .. } = &one.restraint;
        let shown = crate::report::Printable::limited(cmdline, 80);
        match (&one.undone, &one.detail) {
            (Some(true), Some(detail)) => {
                format!("pid {pid} ({shown}): {} undone: {detail}\n", measure.name())
            }
            (_, Some(detail)) => format!("pid {pid} ({shown}): {} NOT undone: {detail}\n", measure.name()),
            _ => format!("pid {pid} ({shown}): {}\n", measure.name()),
        }
    };
    Ok(done.restraints.iter().map(line).collect())
}
