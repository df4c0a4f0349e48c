//! What is read of the host and of a confirmed leak before anything is done about it.

use std::cmp::Reverse;

use super::chase::Chase;
use crate::commands::{bundle, title};
use crate::monitor::Finding;
use crate::process::{Directory, Limits, ProcRoot};
use crate::report::{AnatomyLine, OomChoice, short_command_line};
use crate::source::Source;

impl<S: Source, D: Directory> Chase<'_, S, D> {
    /// Reads what the process consists of while it is there, and keeps it where that was asked for. What cannot be read
    /// or written does not stop the hunt.
    pub(super) async fn gather_evidence(&mut self, finding: &Finding) {
        let key = finding.key;
        // On a thread of its own: a large process takes up to a second.
        let read = tokio::task::spawn_blocking(move || {
            let root = ProcRoot::default();
            let cgroup = Limits::discover(&root)
                .and_then(|limits| Ok(limits.directory(&root.membership(key.pid)?)))
                .unwrap_or_default();
            root.anatomy(key, cgroup.as_deref())
        });
        let anatomy = match read.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(anatomy) => anatomy,
            Err(error) => {
                self.ui.say_verbose(&format!("{}: no evidence was read: {error}", title(&finding.identity)));
                return;
            }
        };
        let mut line = AnatomyLine::from(&anatomy);
        if let Some(directory) = &self.options.evidence {
            match bundle::write(directory, finding, &anatomy) {
                Ok(folder) => {
                    self.ui.say(&format!("evidence: {}", folder.display()));
                    line.evidence = Some(folder.display().to_string());
                }
                Err(error) => self.ui.say(&format!("no evidence was kept: {error:#}")),
            }
        }
        self.anatomies.insert(finding.key, line);
    }
}

/// The process with the highest `oom_score` of the host, the first of several.
pub(super) fn oom_choice(proc: &ProcRoot) -> Option<OomChoice> {
    let scores = proc.pids().ok()?.into_iter().filter_map(|pid| Some((proc.oom_score(pid)?, pid)));
    let (score, pid) =
        scores.filter(|(score, _)| *score > 0).max_by_key(|(score, pid)| (*score, Reverse(*pid)))?;
    let who = proc.identify(pid).ok()?;
    Some(OomChoice { pid, name: short_command_line(&who.cmdline, &who.comm), score })
}
