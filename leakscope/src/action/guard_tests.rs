//! Each rule of the guard, by name.

use std::os::unix::fs::symlink;

use super::*;
use crate::process::Exe;
use crate::process::testing::{FakeProc, identity};
use crate::units::Ticks;

/// A host on which leakscope is pid 90, started from the shell 80, started from pid 1.
fn host() -> FakeProc {
    let fake = FakeProc::new();
    for (pid, ppid) in [(1, 0), (80, 1), (90, 80), (42, 1)] {
        fake.process(pid, ppid, 100, Path::new("/nowhere"));
    }
    symlink("90", fake.path("self")).unwrap();
    fake
}

fn refused(protections: &Protections, fake: &FakeProc, who: &Identity) -> Vec<&'static str> {
    let checks = protections.check(&fake.root(), who);
    checks.into_iter().filter(|check| !check.passed).map(|check| check.check).collect()
}

fn running(path: &str) -> Identity {
    let mut who = identity(42);
    who.exe = Some(Exe { path: path.into(), dev: 1, ino: 1, deleted: false });
    who
}

#[test]
fn an_ordinary_service_is_not_protected() {
    assert!(refused(&Protections::default(), &host(), &identity(42)).is_empty());
}

#[test]
fn each_rule_refuses_by_its_name() {
    type Change = fn(&mut Identity);
    let table: [(&str, Change); 7] = [
        ("init", |who| who.key.pid = Pid(1)),
        ("kernel-thread", |who| who.kernel_thread = true),
        ("self", |who| who.key.pid = Pid(90)),
        ("ancestor", |who| who.key.pid = Pid(80)),
        ("session-leader", |who| who.key.pid = Pid(1)),
        ("oom-score-adj", |who| who.oom_score_adj = -1000),
        ("infrastructure", |who| who.exe.as_mut().unwrap().path = "/usr/sbin/sshd".into()),
    ];
    for (rule, change) in table {
        let mut who = identity(42);
        change(&mut who);
        assert!(refused(&Protections::default(), &host(), &who).contains(&rule), "{rule}");
    }
}

#[test]
fn infrastructure_is_known_by_its_executable_and_not_by_a_word() {
    for (path, protected) in [
        ("/usr/lib/systemd/systemd", true),
        ("/usr/lib/systemd/systemd-journald", true),
        ("/usr/bin/dbus-daemon", true),
        ("/usr/bin/containerd-shim-runc-v2", true),
        ("/usr/bin/containerd", true),
        ("/pause", true),
        ("/usr/local/bin/kubelet", true),
        ("/usr/local/bin/kube-apiserver", true),
        ("/usr/bin/vim", false),
        ("/opt/systemdlike/app", false),
        ("/opt/sshd-exporter", false),
    ] {
        let mut who = running(path);
        who.cmdline = vec!["x".to_owned(), "/etc/ssh/sshd".to_owned(), "systemd".to_owned()];
        who.comm = "sshd".to_owned();
        assert_eq!(!infrastructure(&who).passed, protected, "{path}");
    }
}

#[test]
fn where_the_executable_cannot_tell_the_name_of_the_process_does() {
    let mut who = running("/bin/busybox");
    who.comm = "init".to_owned();
    assert!(!infrastructure(&who).passed);
    who.exe = None;
    assert!(!infrastructure(&who).passed);
    who.comm = "worker".to_owned();
    assert!(infrastructure(&who).passed);
}

#[test]
fn the_first_process_of_a_pid_namespace_may_go_only_when_it_is_alone() {
    let fake = host();
    let mut who = identity(42);
    who.ns_pid = Pid(1);
    assert_eq!(refused(&Protections::default(), &fake, &who), ["init"], "the namespace cannot be read");
    let namespace = |pid: u32, name: &str| {
        std::fs::create_dir_all(fake.path(&format!("{pid}/ns"))).unwrap();
        symlink(name, fake.path(&format!("{pid}/ns/pid"))).unwrap();
    };
    namespace(42, "pid:[7]");
    namespace(80, "pid:[1]");
    assert!(refused(&Protections::default(), &fake, &who).is_empty());
    namespace(90, "pid:[7]");
    assert_eq!(refused(&Protections::default(), &fake, &who), ["init"]);
}

#[test]
fn when_leakscopes_own_parents_cannot_be_read_nothing_is_killed() {
    let fake = host();
    std::fs::remove_dir_all(fake.path("80")).unwrap();
    assert_eq!(
        refused(&Protections::default(), &fake, &identity(42)),
        ["self", "ancestor", "session-leader"]
    );
}

#[test]
fn a_pattern_protects_by_the_whole_command_line() {
    let protect = |pattern: &str| Protections::default().patterns([Regex::new(pattern).unwrap()]);
    assert_eq!(refused(&protect("python3 cache"), &host(), &identity(42)), ["protect"]);
    assert!(refused(&protect("other"), &host(), &identity(42)).is_empty());
}

#[test]
fn a_protected_pid_file_is_read_at_each_check() {
    let fake = host();
    let protections = Protections::default().pidfiles([fake.path("app.pid")]);
    assert_eq!(refused(&protections, &fake, &identity(42)), ["protect-pidfile"], "missing: fail closed");
    fake.write("app.pid", "80\n");
    assert!(refused(&protections, &fake, &identity(42)).is_empty());
    fake.write("app.pid", "42\n");
    assert_eq!(refused(&protections, &fake, &identity(42)), ["protect-pidfile"]);
    fake.write("app.pid", "not a pid\n");
    assert_eq!(refused(&protections, &fake, &identity(42)), ["protect-pidfile"], "unreadable: fail closed");
}

#[test]
fn a_stale_pid_file_protects_only_what_may_be_its_service_started_again() {
    let fake = host();
    let protections = Protections::default().pidfiles([fake.path("app.pid")]);
    fake.write("app.pid", "4000\n");
    let written = fake.path("app.pid").metadata().unwrap().modified().unwrap();
    let since_boot = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() - FakeProc::BOOT;
    let mut who = identity(42);
    who.key.start = Ticks((since_boot - 60) * 100);
    assert!(refused(&protections, &fake, &who).is_empty(), "it ran before the file was written");
    who.key.start = Ticks((since_boot + 60) * 100);
    assert_eq!(refused(&protections, &fake, &who), ["protect-pidfile"]);
}

#[test]
fn every_check_has_the_name_of_its_rule() {
    let rule = Rule {
        name: "\"cache\" (/c.toml:1)".to_owned(),
        reason: None,
        who: crate::process::Selector::default().user("1000").unwrap(),
        exe: None,
    };
    let protections = Protections::default()
        .patterns([Regex::new("x.*y").unwrap()])
        .pidfiles([PathBuf::from("/run/x.pid")])
        .rules([rule]);
    let named: Vec<_> = protections.check_each(&host().root(), &identity(42)).collect();
    assert_eq!(named.len(), protections.check(&host().root(), &identity(42)).len());
    for (name, check) in &named {
        assert_eq!(name.split(' ').next(), Some(check.check));
    }
    let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[7..], ["protect x.*y", "protect-pidfile /run/x.pid", "config \"cache\" (/c.toml:1)"]);
}
