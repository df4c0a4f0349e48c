//! Restraints of processes and cgroups of the tests' own.

use std::process::{Child, Command};

use tempfile::TempDir;

use super::*;
use std::os::unix::fs::MetadataExt as _;

/// A process of the test's own, killed when dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> (Self, Identity) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid(child.id());
        let sleeper = Self(child);
        let root = ProcRoot::default();
        // Until the exec is through it is a copy of the test.
        loop {
            let now = root.identify(pid).unwrap();
            if now.comm == "sleep" {
                return (sleeper, now);
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that looks like a cgroup with one process.
fn cgroup(pid: Pid, high: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("cgroup.procs", pid.to_string()),
        ("memory.high", high.to_owned()),
        ("memory.current", "8192000".to_owned()),
    ] {
        fs::write(folder.path().join(name), format!("{text}\n")).unwrap();
    }
    folder
}

fn group(directory: &Path) -> Group {
    Group { directory: directory.to_owned(), inode: fs::metadata(directory).unwrap().ino() }
}

fn throttled(who: &Identity, directory: &Path, before: &str) -> Restraint {
    Restraint {
        pid: who.key.pid,
        start_time_ticks: who.key.start,
        boot_id: who.boot_id.as_deref().map(str::to_owned),
        cmdline: who.command_line(),
        measure: Measure::Throttle,
        means: Means::MemoryHigh {
            group: group(directory),
            before: before.to_owned(),
            set: "8192000".to_owned(),
        },
    }
}

#[tokio::test]
async fn a_stopped_process_goes_on_when_it_is_undone() {
    let (_sleeper, who) = Sleeper::start();
    let root = ProcRoot::default();
    let notes = tempfile::tempdir().unwrap();
    let notes = crate::action::Restraints::new(notes.path().join("undo"));
    let victim = Victim::open(&root, &who).unwrap();
    let restraint =
        Restraint { measure: Measure::Freeze, means: Means::Sigstop, ..throttled(&who, Path::new("/"), "") };
    notes.note(&restraint).unwrap();
    assert!(notes.note(&restraint).is_err(), "what was before is not overwritten");
    assert!(apply(&victim, &restraint.means).await.unwrap().passed);
    assert_eq!(root.state(who.key).unwrap(), Some('T'));
    let (all, unreadable) = notes.all().unwrap();
    assert_eq!((all.as_slice(), unreadable.len()), ([restraint.clone()].as_slice(), 0));
    undo(&root, &all[0]).await.unwrap();
    assert_ne!(root.state(who.key).unwrap(), Some('T'));
    notes.forget(&restraint).unwrap();
    assert!(notes.all().unwrap().0.is_empty());
}

#[tokio::test]
async fn whoever_has_the_pid_later_is_not_touched_by_an_undo() {
    let (_sleeper, who) = Sleeper::start();
    let root = ProcRoot::default();
    let victim = Victim::open(&root, &who).unwrap();
    apply(&victim, &Means::Sigstop).await.unwrap();
    let another = Restraint {
        start_time_ticks: Ticks(who.key.start.0 - 1),
        means: Means::Sigstop,
        ..throttled(&who, Path::new("/"), "")
    };
    assert!(undo(&root, &another).await.unwrap().contains("is gone"));
    assert_eq!(root.state(who.key).unwrap(), Some('T'), "it was stopped by somebody else");
}

#[tokio::test]
async fn a_throttle_is_lifted_to_what_was_before_unless_somebody_changed_it() {
    let (_sleeper, who) = Sleeper::start();
    let root = ProcRoot::default();
    let folder = cgroup(who.key.pid, "max");
    let victim = Victim::open(&root, &who).unwrap();
    let restraint = throttled(&who, folder.path(), "max");
    let high = || fs::read_to_string(folder.path().join("memory.high")).unwrap().trim().to_owned();
    apply(&victim, &restraint.means).await.unwrap();
    assert_eq!(high(), "8192000");
    undo(&root, &restraint).await.unwrap();
    assert_eq!(high(), "max");
    apply(&victim, &restraint.means).await.unwrap();
    fs::write(folder.path().join("memory.high"), "123000000").unwrap();
    assert!(undo(&root, &restraint).await.unwrap_err().contains("somebody changed it"));
    assert_eq!(high(), "123000000");
}

#[tokio::test]
async fn a_cgroup_with_anybody_else_in_it_is_not_touched() {
    let (_sleeper, who) = Sleeper::start();
    let folder = cgroup(who.key.pid, "max");
    let procs = folder.path().join("cgroup.procs");
    let victim = Victim::open(&ProcRoot::default(), &who).unwrap();
    fs::write(&procs, format!("{}\n1\n", who.key.pid)).unwrap();
    let NotDone::Untouched(refused) =
        apply(&victim, &throttled(&who, folder.path(), "max").means).await.unwrap_err()
    else {
        panic!("something was touched")
    };
    assert!(refused.contains("with 1 other processes"), "{refused}");
    fs::write(&procs, format!("{}\n", who.key.pid)).unwrap();
    fs::create_dir(folder.path().join("child")).unwrap();
    fs::write(folder.path().join("child/cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    assert!(alone_in(&group(folder.path()), who.key.pid).unwrap_err().contains("there are others in"));
    fs::write(folder.path().join("child/cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
    assert_eq!(alone_in(&group(folder.path()), who.key.pid), Ok(()));
}

#[tokio::test]
async fn nothing_is_done_that_could_not_be_written_down() {
    let (_sleeper, who) = Sleeper::start();
    let root = ProcRoot::default();
    let nowhere = Restraints::new("/dev/null/undo");
    let protections = Protections::default();
    let outcome = restrain(&root, &who, Measure::Freeze, &protections, false, &nowhere).await;
    assert_eq!(outcome.kind, OutcomeKind::Failed);
    assert!(outcome.detail.contains("/dev/null/undo"), "{}", outcome.detail);
    assert_ne!(root.state(who.key).unwrap(), Some('T'));
    let dry = restrain(&root, &who, Measure::Freeze, &protections, true, &nowhere).await;
    assert_eq!(dry.kind, OutcomeKind::DryRun, "{}", dry.detail);
}

#[tokio::test]
async fn a_cgroup_that_the_process_has_left_is_not_touched_and_one_made_anew_is_another() {
    let (_sleeper, who) = Sleeper::start();
    let folder = cgroup(who.key.pid, "max");
    let victim = Victim::open(&ProcRoot::default(), &who).unwrap();
    let restraint = throttled(&who, folder.path(), "max");
    fs::write(folder.path().join("cgroup.procs"), "").unwrap();
    let left = apply(&victim, &restraint.means).await.unwrap_err();
    assert!(matches!(&left, NotDone::Untouched(why) if why.contains("not in the cgroup")), "{left:?}");
    let other = Means::MemoryHigh {
        group: Group { inode: 1, ..group(folder.path()) },
        before: "max".to_owned(),
        set: "1".to_owned(),
    };
    assert!(matches!(apply(&victim, &other).await, Err(NotDone::Untouched(_))));
    let told = undo(&ProcRoot::default(), &Restraint { means: other, ..restraint }).await.unwrap();
    assert!(told.contains("is gone"), "{told}");
    assert_eq!(fs::read_to_string(folder.path().join("memory.high")).unwrap(), "max\n");
}

#[tokio::test]
async fn what_was_stopped_by_somebody_else_is_refused_and_leaves_no_note() {
    let (_sleeper, who) = Sleeper::start();
    let root = ProcRoot::default();
    let place = tempfile::tempdir().unwrap();
    let notes = Restraints::new(place.path().join("undo"));
    let victim = Victim::open(&root, &who).unwrap();
    apply(&victim, &Means::Sigstop).await.unwrap();
    let stopped = root.identify(who.key.pid).unwrap();
    let outcome = restrain(&root, &stopped, Measure::Freeze, &Protections::default(), false, &notes).await;
    assert_eq!(outcome.kind, OutcomeKind::Refused, "{}", outcome.detail);
    assert!(notes.all().unwrap().0.is_empty());
}

#[tokio::test]
async fn a_process_that_cannot_be_read_is_not_taken_for_gone() {
    let (_sleeper, who) = Sleeper::start();
    let restraint = Restraint { means: Means::Sigstop, ..throttled(&who, Path::new("/"), "") };
    // A /proc that does not know the pid, while the kernel does: hidepid, or another pid namespace.
    let elsewhere = tempfile::tempdir().unwrap();
    let hidden = undo(&ProcRoot::new(elsewhere.path()), &restraint).await;
    assert!(hidden.is_err(), "{hidden:?}");
}
