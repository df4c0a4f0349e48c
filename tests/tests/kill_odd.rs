//! `leakscope kill` on processes that are hard to end, each beside a living bystander of the same name, command line and
//! cgroup: a zombie leader, the frozen, a vfork parent, a fork bomb.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use leakscope::process::ProcRoot;
use leakscope_tests::bystander::{Bystander, Group, identity};
use leakscope_tests::command::{Ran, Workload, folder, require_root, run, wait_until};
use serde_json::Value;

/// Its first thread ends, the second one waits for good; with an argument it is deaf to SIGTERM.
const ZOMBIE_LEADER: &str = r#"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
static void *stay(void *leader) {
    pthread_join(*(pthread_t *)leader, NULL);
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}
int main(int count, char **arguments) {
    static pthread_t leader, other;
    if (count > 1) signal(SIGTERM, SIG_IGN);
    leader = pthread_self();
    pthread_create(&other, NULL, stay, &leader);
    pthread_exit(NULL);
}
"#;
/// Exits with status 5 on SIGTERM, once it can act on it.
const CATCHES: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
static void leave(int signal) { _exit(5); }
int main(void) {
    signal(SIGTERM, leave);
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}
"#;
/// The same, in the midst of a vfork; the child, which says its pid, has SIGTERM as the kernel has it.
const VFORKS: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>
static void leave(int signal) { _exit(5); }
int main(void) {
    signal(SIGTERM, leave);
    if (vfork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        char text[16];
        int length = snprintf(text, sizeof text, "%d\n", getpid());
        if (write(1, text, length) != length) _exit(1);
        for (;;) pause();
    }
    for (;;) pause();
}
"#;

fn assert_ended(ran: &Ran, outcome: &str, code: i32) -> Value {
    let json = ran.json();
    assert_eq!(json["outcome"], outcome, "{json:#}");
    assert_eq!(ran.code(), code, "{json:#}");
    json
}

/// That the outcome followed the bystander, and found it alive and the same.
fn assert_followed(outcome: &Value, bystander: &Bystander) {
    let followed = outcome["bystanders"].as_array().expect("who was followed");
    let found = followed.iter().find(|who| who["pid"] == bystander.pid());
    let found = found.unwrap_or_else(|| panic!("{} was not followed: {outcome:#}", bystander.pid()));
    assert_eq!((&found["alive"], &found["same_process"]), (&Value::Bool(true), &Value::Bool(true)));
}

fn detail(outcome: &Value) -> &str {
    outcome["detail"].as_str().expect("a sentence")
}

/// How a workload ended, once it did.
fn ended(workload: &mut Workload) -> ExitStatus {
    let mut status = None;
    wait_until("its end", || {
        status = workload.ended();
        status.is_some()
    });
    status.expect("it was waited for")
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.count())
}

#[test]
fn a_process_whose_first_thread_has_ended_dies_with_all_its_threads() {
    for (arguments, signal) in [(&[][..], 15), (&["deaf"][..], 9)] {
        let compiled = Workload::c("leaderless", ZOMBIE_LEADER);
        let start = || {
            let mut command = Command::new(compiled.folder().join("leaderless"));
            command.args(arguments);
            let mut workload = Workload::start(command, folder());
            assert_eq!(workload.wait_for_line(), "ready");
            workload
        };
        let (mut victim, twin) = (start(), start());
        let mut twin = Bystander::of(victim.pid(), twin);
        let who = identity(victim.pid());
        assert_eq!((who.state, who.zombie, threads(victim.pid())), ('Z', false, 2));
        assert!(who.exe.is_some() && who.image.is_some(), "the living thread tells the program: {who:?}");
        let ran = run(&["kill", "--json", "--grace", "500ms", &victim.pid_text()]);
        let json = assert_ended(&ran, "killed", 0);
        assert_eq!(json["exit"], format!("signal {signal}"), "{json:#}");
        assert_followed(&json, &twin);
        assert_eq!(threads(victim.pid()), 1, "only the zombie is left");
        assert_eq!(ended(&mut victim).signal(), Some(signal));
        twin.assert_unhurt();
    }
}

#[test]
fn a_frozen_process_is_not_called_dead_and_acts_on_its_signal_when_it_is_thawed() {
    require_root();
    for group in [Some(Group::unified()), Group::old_freezer()].into_iter().flatten() {
        let mut victim = Workload::c("frozen", CATCHES);
        assert_eq!(victim.wait_for_line(), "ready");
        let mut twin = Bystander::of_compiled(&victim, "frozen");
        twin.join(&group, victim.pid());
        let frozen = group.freeze();
        let ran = run(&["kill", "--json", "--grace", "1s", "--no-escalate", &victim.pid_text()]);
        let json = assert_ended(&ran, "failed", 1);
        assert!(detail(&json).contains("still alive") && detail(&json).contains("frozen"), "{json:#}");
        assert!(victim.lives());
        drop(frozen);
        assert_eq!(ended(&mut victim).code(), Some(5), "the signal was pending");
        twin.assert_unhurt();
    }
}

/// The freezer of version 2 lets a process die of SIGKILL, that of version 1 does not.
#[test]
fn a_frozen_process_that_catches_sigterm_dies_of_sigkill_or_is_said_to_be_frozen() {
    require_root();
    for (group, dies) in [(Some(Group::unified()), true), (Group::old_freezer(), false)] {
        let Some(group) = group else { continue };
        let mut victim = Workload::c("frozen", CATCHES);
        assert_eq!(victim.wait_for_line(), "ready");
        let mut twin = Bystander::of_compiled(&victim, "frozen");
        twin.join(&group, victim.pid());
        let frozen = group.freeze();
        let ran = run(&["kill", "--json", "--grace", "500ms", &victim.pid_text()]);
        let (outcome, code) = if dies { ("killed", 0) } else { ("failed", 1) };
        let json = assert_ended(&ran, outcome, code);
        assert_eq!(json["escalated"], true, "{json:#}");
        assert_followed(&json, &twin);
        assert_eq!(victim.lives(), !dies);
        assert!(dies || detail(&json).contains("frozen"), "{json:#}");
        drop(frozen);
        let status = ended(&mut victim);
        assert_eq!(status.signal(), Some(9), "{status:?}");
        twin.assert_unhurt();
    }
}

#[test]
fn a_parent_that_waits_for_its_vfork_is_not_called_dead_and_its_child_is_left_alone() {
    let start = || Workload::c("vforks", VFORKS);
    let mut victim = start();
    let child: u32 = victim.wait_for_line().parse().expect("the child's pid");
    let child_before = identity(child);
    assert_eq!(identity(victim.pid()).state, 'D', "a vfork parent sleeps uninterruptibly");
    let ran = run(&["kill", "--json", "--grace", "1s", "--no-escalate", &victim.pid_text()]);
    let json = assert_ended(&ran, "failed", 1);
    assert!(detail(&json).contains("still alive") && detail(&json).contains("vforked"), "{json:#}");
    assert!(victim.lives());
    assert!(child_before.differences(&identity(child)).is_empty(), "the child is a bystander as well");
    // The child belongs to this test's own process: its end lets the parent go on.
    let ran = run(&["kill", "--json", &child.to_string()]);
    assert_ended(&ran, "killed", 0);
    assert_eq!(ended(&mut victim).code(), Some(5), "the signal was pending");
}

/// Everybody who works in this folder.
fn at_work_in(folder: &Path) -> Vec<u32> {
    let pids = ProcRoot::default().pids().expect("/proc can be read").into_iter().map(|pid| pid.0);
    let here = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|at| at == folder);
    pids.filter(here).collect()
}

/// Once as a child of this test, and once as an orphan, as services are: what it forked last, deaf to SIGTERM and in its
/// grace, then looks like what somebody started in its place.
#[test]
fn a_fork_bomb_is_ended_alone_and_its_children_live_and_are_no_successors() {
    // At most 200 children, which wait for the end of a pipe that this test holds.
    const BOMB: &str = r"
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
for child in range(200):
    if os.fork() == 0:
        open('hold').read()
        os._exit(0)
    time.sleep(0.03)
time.sleep(60)
";
    for script in ["exec python3 bomb.py", "python3 bomb.py &"] {
        let folder = folder();
        std::fs::write(folder.path().join("bomb.py"), BOMB).unwrap();
        let pipe = folder.path().join("hold");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let held = File::options().read(true).write(true).open(&pipe).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder.path());
        let mut shell = Workload::start(command, folder);
        let victim: u32 = shell.wait_for_line().parse().expect("the bomb's pid");
        let who = identity(victim);
        wait_until("some children", || at_work_in(shell.folder()).len() > 5);
        let ran = run(&["kill", "--json", "--grace", "500ms", &victim.to_string()]);
        let json = assert_ended(&ran, "killed", 0);
        assert_eq!(json["exit"], "signal 9", "{json:#}");
        let children: Vec<u32> =
            at_work_in(shell.folder()).into_iter().filter(|child| *child != victim).collect();
        assert!((5..=200).contains(&children.len()), "{} children: {json:#}", children.len());
        let living = children.iter().map(|child| identity(*child));
        assert!(living.into_iter().all(|child| !child.zombie && child.cmdline == who.cmdline));
        let followed = json["bystanders"].as_array().expect("who was followed");
        let followed: Vec<_> =
            followed.iter().filter(|who| children.iter().any(|child| who["pid"] == *child)).collect();
        assert!(followed.len() >= 5, "{json:#}");
        assert!(followed.iter().all(|who| who["alive"] == true && who["same_process"] == true), "{json:#}");
        assert_eq!(json["respawned_as"], Value::Null, "a child that lives on is no successor: {json:#}");
        drop(held);
        wait_until("the children's end", || {
            at_work_in(shell.folder()).iter().all(|left| !children.contains(left))
        });
    }
}
