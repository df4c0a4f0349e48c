//! An identity as a recording keeps it.
//!
//! Where the last exec put the stack is left out: it is an address, and only a kill has a use for it. With `--redact`,
//! nothing of the command line stays but the program's own name; otherwise its first [`bounded::MAX_COMMAND_LINE`] bytes.

use serde::{Deserialize, Serialize};

use super::bounded;
use crate::process::{Exe, Identity, Owner};
use crate::units::{Pid, ProcKey};

/// An identity, in the recording's own form, so that another field in [`Identity`] does not change the format unnoticed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Who {
    key: ProcKey,
    boot_id: Option<String>,
    ppid: Pid,
    ns_pid: Pid,
    state: char,
    zombie: bool,
    comm: String,
    #[serde(deserialize_with = "bounded::command_line")]
    cmdline: Vec<String>,
    exe: Option<(String, u64, u64, bool)>,
    uid: u32,
    user: Option<String>,
    cgroup: Option<String>,
    unit: Option<String>,
    container: Option<String>,
    pidfile: Option<String>,
    oom_score_adj: i32,
    kernel_thread: bool,
}

/// Bytes of all texts of an identity but the command line, at most: paths end at 4096.
const MAX_TEXT: usize = 64 << 10;

impl Who {
    /// About how many bytes it takes in a block.
    pub(super) fn size(&self) -> usize {
        const NUMBERS: usize = 64;
        NUMBERS + self.text() + self.cmdline.iter().map(|argument| argument.len() + 1).sum::<usize>()
    }

    /// Whether its texts are no longer than those of a process can be.
    pub(super) fn is_possible(&self) -> bool {
        self.text() <= MAX_TEXT
    }

    fn text(&self) -> usize {
        let Self { boot_id, user, cgroup, unit, container, pidfile, comm, exe, .. } = self;
        let texts = [boot_id, user, cgroup, unit, container, pidfile].into_iter().flatten();
        texts.chain([comm]).chain(exe.as_ref().map(|exe| &exe.0)).map(String::len).sum()
    }
}

impl From<&Identity> for Who {
    fn from(identity: &Identity) -> Self {
        let Identity {
            key,
            boot_id,
            ppid,
            ns_pid,
            state,
            zombie,
            comm,
            cmdline,
            exe,
            image: _,
            uid,
            user,
            owner: Owner { cgroup, unit, container, pidfile },
            oom_score_adj,
            kernel_thread,
        } = identity.clone();
        let mut cmdline = cmdline;
        bounded::cut(&mut cmdline);
        let exe = exe
            .map(|Exe { path, dev, ino, deleted }| (path.to_string_lossy().into_owned(), dev, ino, deleted));
        Self {
            key,
            boot_id: boot_id.map(|id| id.to_string()),
            ppid,
            ns_pid,
            state,
            zombie,
            comm,
            cmdline,
            exe,
            uid,
            user,
            cgroup,
            unit,
            container,
            pidfile: pidfile.map(|path| path.to_string_lossy().into_owned()),
            oom_score_adj,
            kernel_thread,
        }
    }
}

impl From<Who> for Identity {
    fn from(who: Who) -> Self {
        let exe = who.exe.map(|(path, dev, ino, deleted)| Exe { path: path.into(), dev, ino, deleted });
        Self {
            key: who.key,
            boot_id: who.boot_id.map(Into::into),
            ppid: who.ppid,
            ns_pid: who.ns_pid,
            state: who.state,
            zombie: who.zombie,
            comm: who.comm,
            cmdline: who.cmdline,
            exe,
            image: None,
            uid: who.uid,
            user: who.user,
            owner: Owner {
                cgroup: who.cgroup,
                unit: who.unit,
                container: who.container,
                pidfile: who.pidfile.map(Into::into),
            },
            oom_score_adj: who.oom_score_adj,
            kernel_thread: who.kernel_thread,
        }
    }
}

/// What stands for the arguments that were taken out.
const REDACTED: &str = "…";

/// Takes everything out of a command line but the program's own name. A service that writes a title over its command
/// line (`postgres: alice shop`) has all of it in the first argument: only its first word stays.
pub(super) fn redact(cmdline: &mut Vec<String>) {
    let Some(first) = cmdline.first() else { return };
    let word = first.split_whitespace().next().unwrap_or_default();
    let name = word.rsplit('/').next().unwrap_or_default().to_owned();
    let had_more = cmdline.len() > 1 || word.len() < first.trim().len();
    *cmdline = vec![name];
    if had_more {
        cmdline.push(REDACTED.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::testing::identity;

    #[test]
    fn an_identity_survives_but_for_the_address_of_its_stack() {
        let was = identity(42);
        assert_eq!(Identity::from(Who::from(&was)), Identity { image: None, ..was });
    }

    #[test]
    fn nothing_of_a_command_line_stays_but_the_programs_own_name() {
        for (was, is) in [
            (vec!["/usr/bin/curl", "-u", "alice:secret"], vec!["curl", "…"]),
            (vec!["postgres: alice shop secret"], vec!["postgres:", "…"]),
            (vec!["/opt/x/server --token=secret"], vec!["server", "…"]),
            (vec!["nginx"], vec!["nginx"]),
            (vec![], vec![]),
        ] {
            let mut cmdline = was.into_iter().map(str::to_owned).collect();
            redact(&mut cmdline);
            assert_eq!(cmdline, is);
        }
    }
}
