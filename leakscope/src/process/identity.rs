//! A process's identity, read once and compared later.
//!
//! [`Identity::differences`] is the one comparison that decides whether a process is still the one that was judged;
//! the kill refuses on any difference it returns. Whoever adds a part to [`Identity`] decides there whether it counts.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::units::{Pid, ProcKey};

/// Everything by which a process is told from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Pid and start time.
    pub key: ProcKey,
    /// The boot it belongs to: start times of two boots do not compare. `None` where it could not be read.
    pub boot_id: Option<Arc<str>>,
    /// The parent's pid when this was read.
    pub ppid: Pid,
    /// Its pid in its own, innermost pid namespace: 1 for the init of a container.
    pub ns_pid: Pid,
    /// The state letter of `/proc/PID/stat`: `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z` (zombie), …
    pub state: char,
    /// Whether every thread of it has ended and only the exit status waits to be collected.
    pub zombie: bool,
    /// The name of at most 15 bytes.
    pub comm: String,
    /// The arguments, bytes that are not UTF-8 replaced; empty for kernel threads and zombies.
    pub cmdline: Vec<String>,
    /// The program; `None` where it may not be read, and for kernel threads.
    pub exe: Option<Exe>,
    /// Where its last exec put the stack. The kernel draws the address anew for each exec, so the same address means
    /// the same program run, whatever the process wrote over its command line since. `None` where it may not be read
    /// or is not drawn at random.
    pub image: Option<u64>,
    /// The effective user id.
    pub uid: u32,
    /// The user's name, where the id has one.
    pub user: Option<String>,
    /// Who started it and keeps it.
    pub owner: Owner,
    /// -1000 (never) to 1000 (first): how the kernel's OOM killer is told to see it.
    pub oom_score_adj: i32,
    /// Whether it is a thread of the kernel.
    pub kernel_thread: bool,
}

/// A program's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exe {
    /// Where it lay when it was started.
    pub path: PathBuf,
    /// The device it is on.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// Whether the file has since been deleted or replaced.
    pub deleted: bool,
}

/// Who keeps a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Its cgroup: the v2 path where there is one, otherwise the path in the v1 memory hierarchy.
    pub cgroup: Option<String>,
    /// Its systemd unit, such as `nginx.service`.
    pub unit: Option<String>,
    /// Its container's id, 64 hexadecimal digits, or the name that the runtime gave it.
    pub container: Option<String>,
    /// The pid file that names it.
    pub pidfile: Option<PathBuf>,
}

/// A part of an identity that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which part, in words.
    pub part: &'static str,
    /// What it was.
    pub was: String,
    /// What it is.
    pub is: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was {}, is {}", self.part, self.was, self.is)
    }
}

impl Identity {
    /// The arguments joined with spaces, as `--cmd` and `--protect` see them; the comm in brackets where there are
    /// none, as `ps` shows it.
    pub fn command_line(&self) -> String {
        if self.cmdline.is_empty() { format!("[{}]", self.comm) } else { self.cmdline.join(" ") }
    }

    /// The program's own name: the last part of the executable's path; the comm where that may not be read.
    pub fn program(&self) -> String {
        let of_exe = self.exe.as_ref().and_then(|exe| exe.path.file_name());
        of_exe.map_or_else(|| self.comm.clone(), |name| name.to_string_lossy().into_owned())
    }

    /// Whether a person could take one process for the other: the same name or the same program.
    pub fn looks_like(&self, other: &Self) -> bool {
        self.comm == other.comm || (self.exe.is_some() && self.exe == other.exe)
    }

    /// Whether `now` is the same process in the same run of the same program, whoever it runs for and wherever it is kept
    /// by now: a service may give up root or be moved to another cgroup after its start.
    pub fn runs_the_same(&self, now: &Self) -> bool {
        let same = |part: &str| matches!(part, "user id" | "cgroup");
        self.differences(now).iter().all(|difference| same(difference.part))
    }

    /// In what `now` differs from this identity; empty when it is the same process running the same program for the
    /// same user in the same cgroup.
    ///
    /// A command line that changed does not count while [`Self::image`] proves that no exec came between: services
    /// write their state there (`postgres: idle`). The other way round, an exec of the same program with the same
    /// arguments counts: what it held before is gone, and so is the reason to end it. The comm, the parent and the
    /// pid file do not count: they change in a living process.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut compare = |part, was: String, is: String| {
            if was != is {
                found.push(Difference { part, was, is });
            }
        };
        compare("pid", self.key.pid.to_string(), now.key.pid.to_string());
        compare("start time", format!("tick {}", self.key.start.0), format!("tick {}", now.key.start.0));
        if let (Some(was), Some(is)) = (&self.boot_id, &now.boot_id) {
            compare("boot", was.to_string(), is.to_string());
        }
        compare("program", file(self.exe.as_ref()), file(now.exe.as_ref()));
        compare("user id", self.uid.to_string(), now.uid.to_string());
        compare("cgroup", or_none(self.owner.cgroup.as_deref()), or_none(now.owner.cgroup.as_deref()));
        match (self.image, now.image) {
            (Some(was), Some(is)) if was == is => {}
            (Some(was), Some(is)) => compare("program run (it called exec)", hex(was), hex(is)),
            _ => {}
        }
        if self.image.is_none() || self.image != now.image {
            compare("command line", self.command_line(), now.command_line());
        }
        found
    }
}

fn file(exe: Option<&Exe>) -> String {
    exe.map_or_else(
        || "unreadable".to_owned(),
        |exe| format!("{} (device {}, inode {})", exe.path.display(), exe.dev, exe.ino),
    )
}

fn or_none(text: Option<&str>) -> String {
    text.unwrap_or("none").to_owned()
}

fn hex(address: u64) -> String {
    format!("{address:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::testing::identity;
    use crate::units::Ticks;

    fn parts(was: &Identity, is: &Identity) -> Vec<&'static str> {
        was.differences(is).into_iter().map(|difference| difference.part).collect()
    }

    #[test]
    fn an_identity_does_not_differ_from_itself() {
        assert!(identity(42).differences(&identity(42)).is_empty());
    }

    #[test]
    fn every_part_that_tells_processes_apart_is_named_when_it_changed() {
        type Change = fn(&mut Identity);
        let table: [(&str, Change); 7] = [
            ("pid", |id| id.key.pid = Pid(43)),
            ("start time", |id| id.key.start = Ticks(7)),
            ("boot", |id| id.boot_id = Some("another".into())),
            ("program", |id| id.exe = None),
            ("program", |id| id.exe.as_mut().unwrap().ino += 1),
            ("user id", |id| id.uid = 7),
            ("cgroup", |id| id.owner.cgroup = None),
        ];
        for (part, change) in table {
            let mut now = identity(42);
            change(&mut now);
            assert_eq!(parts(&identity(42), &now), [part]);
        }
    }

    #[test]
    fn a_title_that_a_process_wrote_over_its_command_line_is_no_difference() {
        let mut now = identity(42);
        now.cmdline = vec!["postgres: idle".to_owned()];
        assert!(identity(42).differences(&now).is_empty());
    }

    #[test]
    fn a_changed_command_line_counts_where_an_exec_cannot_be_excluded() {
        let mut was = identity(42);
        was.image = None;
        let mut now = was.clone();
        now.cmdline = vec!["another".to_owned()];
        assert_eq!(parts(&was, &now), ["command line"]);
    }

    #[test]
    fn an_exec_of_the_same_program_with_the_same_arguments_is_a_difference() {
        let mut now = identity(42);
        now.image = Some(0x7ffc_0000_0010);
        assert_eq!(parts(&identity(42), &now), ["program run (it called exec)"]);
    }

    #[test]
    fn a_run_of_a_program_goes_on_under_another_user_and_in_another_cgroup() {
        let mut now = identity(42);
        now.uid = 7;
        now.owner.cgroup = Some("/elsewhere".to_owned());
        assert!(identity(42).runs_the_same(&now));
        now.image = Some(0x7ffc_0000_0010);
        assert!(!identity(42).runs_the_same(&now), "an exec came between");
    }

    #[test]
    fn what_changes_in_a_living_process_is_no_difference() {
        let mut now = identity(42);
        now.ppid = Pid(1);
        now.comm = "renamed".to_owned();
        now.owner.pidfile = Some("/run/later.pid".into());
        now.state = 'R';
        assert!(identity(42).differences(&now).is_empty());
    }
}
