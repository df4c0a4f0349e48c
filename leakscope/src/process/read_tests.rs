//! Identities read from trees of the tests' own making, and from the test process itself.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use super::*;
use crate::process::testing::{FakeProc, status};

#[test]
fn every_part_of_an_identity_is_read() {
    let fake = FakeProc::new();
    let exe = fake.path("worker");
    std::fs::write(&exe, "").unwrap();
    fake.process(42, 7, 5000, &exe);
    let identity = fake.root().identify(Pid(42)).unwrap();
    let file = std::fs::metadata(&exe).unwrap();
    assert_eq!(identity.key, ProcKey { pid: Pid(42), start: Ticks(5000) });
    assert_eq!((identity.ppid, identity.comm.as_str()), (Pid(7), "a ) b"));
    assert_eq!(identity.cmdline, ["worker", "--fast"]);
    assert_eq!(identity.exe, Some(Exe { path: exe, dev: file.dev(), ino: file.ino(), deleted: false }));
    assert_eq!(identity.uid, 1001, "the effective id, not the real one");
    assert_eq!(identity.owner.unit.as_deref(), Some("worker.service"));
    assert_eq!(identity.oom_score_adj, -500);
    assert_eq!(identity.image, Some(140_730_315_477_424));
    assert_eq!(identity.boot_id.as_deref(), Some("4508a5f7"));
    assert!(!identity.kernel_thread && !identity.zombie);
}

#[test]
fn a_pid_that_nobody_has_is_vanished() {
    let error = FakeProc::new().root().identify(Pid(42)).unwrap_err();
    assert!(vanished(&error), "{error}");
}

#[test]
fn a_thread_is_refused_and_its_process_named() {
    let fake = FakeProc::new();
    fake.process(42, 7, 5000, Path::new("/nowhere"));
    fake.write("42/status", status(42, "", "").replace("Tgid:\t42", "Tgid:\t40"));
    let error = fake.root().identify(Pid(42)).unwrap_err();
    assert!(!vanished(&error) && error.to_string().contains("thread of process 40"), "{error}");
}

#[test]
fn an_address_that_was_not_drawn_at_random_proves_nothing() {
    let fake = FakeProc::new();
    fake.process(42, 7, 5000, Path::new("/nowhere"));
    fake.write("42/personality", "00040000\n");
    assert_eq!(fake.root().identify(Pid(42)).unwrap().image, None);
    fake.write("42/personality", "00000000\n");
    fake.write("sys/kernel/randomize_va_space", "0\n");
    assert_eq!(fake.root().identify(Pid(42)).unwrap().image, None);
}

#[test]
fn a_leader_that_ended_before_its_threads_is_no_zombie_and_keeps_its_program() {
    let fake = FakeProc::new();
    let exe = fake.path("worker");
    std::fs::write(&exe, "").unwrap();
    fake.process(43, 7, 5000, &exe);
    std::fs::create_dir_all(fake.path("42/task")).unwrap();
    std::fs::rename(fake.path("43"), fake.path("42/task/43")).unwrap();
    fake.stat(42, 'Z', 7, 2, 5000);
    fake.write("42/status", status(42, "", ""));
    fake.write("42/cmdline", "");
    fake.write("42/oom_score_adj", "0");
    let identity = fake.root().identify(Pid(42)).unwrap();
    assert!(!identity.zombie);
    assert_eq!((identity.state, identity.cmdline.join(" ").as_str()), ('Z', "worker --fast"));
    assert_eq!(identity.exe.unwrap().path, exe);
    assert_eq!(identity.image, Some(140_730_315_477_424));
}

#[test]
fn a_zombie_is_recognised() {
    let fake = FakeProc::new();
    fake.process(42, 7, 5000, Path::new("/nowhere"));
    fake.stat(42, 'Z', 7, 1, 5000);
    assert!(fake.root().identify(Pid(42)).unwrap().zombie);
}

#[test]
fn a_name_that_is_not_utf8_does_not_hide_a_process() {
    let fake = FakeProc::new();
    fake.process(42, 7, 5000, Path::new("/nowhere"));
    let mut text = status(42, "\t1", "").into_bytes();
    text[6] = 0xff;
    fake.write("42/status", text);
    fake.write("42/cmdline", b"\xffx\0\0y\0\0\0");
    let identity = fake.root().identify(Pid(42)).unwrap();
    assert_eq!(identity.cmdline, ["\u{fffd}x", "", "y"]);
    assert_eq!(identity.ns_pid, Pid(1));
}

#[test]
fn a_program_whose_file_was_replaced_is_marked() {
    let fake = FakeProc::new();
    std::fs::write(fake.path("old (deleted)"), "").unwrap();
    fake.process(42, 7, 5000, &fake.path("old (deleted)"));
    assert!(!fake.root().identify(Pid(42)).unwrap().exe.unwrap().deleted, "the file is really called so");
    let mut child = std::process::Command::new("sh")
        .args(["-c", "cp \"$(command -v sleep)\" \"$0\" && exec \"$0\" 1000"])
        .arg(fake.path("mine"))
        .spawn()
        .unwrap();
    let program = wait_for_program(child.id(), &fake.path("mine"));
    assert!(!program.deleted);
    std::fs::remove_file(fake.path("mine")).unwrap();
    let deleted = ProcRoot::default().identify(Pid(child.id())).unwrap().exe.unwrap();
    assert_eq!(deleted, Exe { deleted: true, ..program });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test waits for a process that it started")]
fn wait_for_program(pid: u32, path: &Path) -> Exe {
    for _ in 0..2000 {
        let exe = ProcRoot::default().identify(Pid(pid)).ok().and_then(|identity| identity.exe);
        match exe {
            Some(exe) if exe.path == path => return exe,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    panic!("pid {pid} never ran {}", path.display());
}

#[test]
fn the_parents_are_followed_to_the_first_process_and_a_circle_is_an_error() {
    let fake = FakeProc::new();
    for (pid, ppid) in [(1, 0), (7, 1), (42, 7)] {
        fake.process(pid, ppid, 1, Path::new("/nowhere"));
    }
    assert_eq!(fake.root().ancestors(Pid(42)).unwrap(), [Pid(7), Pid(1)]);
    fake.stat(7, 'S', 42, 1, 1);
    assert!(fake.root().ancestors(Pid(42)).is_err());
}

#[test]
fn the_test_process_identifies_itself_and_starts_when_the_clock_says() {
    let proc = ProcRoot::default();
    let own = proc.own_pid().unwrap();
    assert_eq!(own, Pid(std::process::id()));
    let identity = proc.identify(own).unwrap();
    assert_eq!(identity.exe.unwrap().path, std::env::current_exe().unwrap());
    assert!(identity.image.is_some());
    let memory = proc.memory(own).unwrap().unwrap();
    assert!(memory.anon > Bytes::ZERO && memory.file > Bytes::ZERO);
    assert!(proc.available().unwrap() > Bytes::ZERO);
    assert!(proc.ancestors(own).unwrap().contains(&identity.ppid));
    #[expect(clippy::disallowed_methods, reason = "the test compares with the clock")]
    let age = SystemTime::now().duration_since(proc.started_at(identity.key.start).unwrap()).unwrap();
    assert!(age < Duration::from_secs(3600));
}

#[test]
fn memory_that_is_gone_is_absent() {
    let fake = FakeProc::new();
    fake.process(42, 7, 5000, Path::new("/nowhere"));
    assert_eq!(fake.root().memory(Pid(42)).unwrap(), None);
    fake.write(
        "42/status",
        status(42, "", "RssAnon:\t 100 kB\nRssFile:\t 20 kB\nRssShmem:\t 3 kB\nVmSwap:\t 1 kB\n"),
    );
    let memory = fake.root().memory(Pid(42)).unwrap().unwrap();
    assert_eq!((memory.footprint(), memory.rss()), (Bytes::from_kib(101), Bytes::from_kib(123)));
}

#[test]
fn processes_in_the_same_pid_namespace_are_counted() {
    let fake = FakeProc::new();
    for (pid, namespace) in [(40, "pid:[1]"), (41, "pid:[2]"), (42, "pid:[2]"), (43, "pid:[2]")] {
        std::fs::create_dir_all(fake.path(&format!("{pid}/ns"))).unwrap();
        symlink(namespace, fake.path(&format!("{pid}/ns/pid"))).unwrap();
    }
    assert_eq!(fake.root().namespace_peers(Pid(42)).unwrap(), 2);
    assert_eq!(fake.root().namespace_peers(Pid(40)).unwrap(), 0);
}

#[test]
fn a_process_that_was_started_just_now_is_seen_whole() {
    for _ in 0..200 {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let identity = ProcRoot::default().identify(Pid(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        let identity = identity.unwrap();
        assert_eq!(identity.cmdline, ["sleep", "1000"]);
        assert!(identity.image.is_some());
    }
}

#[test]
fn a_command_line_that_is_cut_says_so_and_one_that_just_fits_does_not() {
    let fake = FakeProc::new();
    fake.process(42, 7, 5000, Path::new("/nowhere"));
    let cmdline = |bytes: usize| {
        fake.write("42/cmdline", [b"worker\0", "x".repeat(bytes - 8).as_bytes(), b"\0"].concat());
        fake.root().identify(Pid(42)).unwrap().cmdline
    };
    assert!(!cmdline(64 * 1024)[1].ends_with(CUT));
    let cut = cmdline(5 * 1024 * 1024);
    assert_eq!(cut[0], "worker");
    assert!(cut[1].ends_with(CUT) && cut[1].len() <= 64 * 1024, "{} bytes", cut[1].len());
}

#[test]
fn a_process_in_tens_of_thousands_of_groups_keeps_its_memory_lines() {
    let fake = FakeProc::new();
    fake.process(42, 7, 5000, Path::new("/nowhere"));
    let groups: String = (0..65_536).map(|group| format!("{} ", 4_000_000 + group)).collect();
    let lines = "RssAnon:\t 1000 kB\nRssFile:\t 10 kB\nRssShmem:\t 1 kB\n";
    fake.write("42/status", status(42, "", lines).replace("Groups:\t0 ", &format!("Groups:\t{groups}")));
    let memory = fake.root().memory(Pid(42)).unwrap().unwrap();
    assert_eq!(memory.anon, Bytes::from_kib(1000));
}
