//! Pid files, whole and broken, of living and of other processes.

use std::fs::File;
use std::os::unix::fs::symlink;

use super::*;
use crate::process::testing::{FakeProc, identity};
use crate::units::Ticks;

#[test]
fn each_thing_that_is_no_pid_file_is_refused_in_its_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let long = "1".repeat(65);
    for (content, expected) in [
        ("", "empty"),
        (" \n", "empty"),
        ("nginx\n", "holds `nginx`, which is no number"),
        ("12x", "which is no number"),
        ("-", "which is no number"),
        ("0\n", "holds 0, which is no pid"),
        ("-1\n", "holds -1, which is no pid"),
        ("4194305", "which is no pid"),
        ("99999999999999999999999", "which is no pid"),
        ("12\n13\n", "several lines"),
        (long.as_str(), "65 bytes"),
    ] {
        let path = dir.path().join("a.pid");
        std::fs::write(&path, content).unwrap();
        let error = read_pidfile(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("a.pid"), "{content:?}: {error}");
    }
    let missing = read_pidfile(&dir.path().join("b.pid")).unwrap_err().to_string();
    assert!(missing.contains("no such file"), "{missing}");
    let directory = read_pidfile(dir.path()).unwrap_err().to_string();
    assert!(directory.contains("not a regular file"), "{directory}");
}

#[test]
fn a_pid_may_be_surrounded_by_white_space() {
    for content in ["42", "42\n", "  42 \r\n", "0042\n"] {
        assert_eq!(parse(content).unwrap(), Pid(42), "{content:?}");
    }
}

/// A process that started ten seconds after boot, and a pid file written this many seconds after boot.
fn written_after(seconds: u64) -> (FakeProc, PathBuf) {
    let fake = FakeProc::new();
    fake.process(42, 1, 1000, Path::new("/nowhere"));
    fake.write("run/a.pid", "42\n");
    let path = fake.path("run/a.pid");
    touch(&path, seconds);
    (fake, path)
}

fn touch(path: &Path, seconds: u64) {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(FakeProc::BOOT + seconds);
    File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
}

#[test]
fn a_pid_file_names_the_process_that_started_before_it_was_written() {
    for seconds in [9, 10, 11, 100_000] {
        let (fake, path) = written_after(seconds);
        let identity = pidfile_process(&fake.root(), &path).unwrap();
        assert_eq!((identity.key.start, identity.owner.pidfile.as_ref()), (Ticks(1000), Some(&path)));
    }
}

#[test]
fn a_pid_file_that_is_older_than_the_process_does_not_name_it() {
    let (fake, path) = written_after(5);
    let error = pidfile_process(&fake.root(), &path).unwrap_err();
    assert!(matches!(error.problem, PidfileProblem::Reused(Pid(42))), "{error}");
    let mut files = Pidfiles::with_directories(vec![path], Vec::new());
    files.scan();
    assert_eq!(files.of(&fake.root(), &fake.root().identify(Pid(42)).unwrap()), None);
}

#[test]
fn a_pid_file_of_nobody_or_of_a_zombie_is_stale() {
    let (fake, path) = written_after(11);
    fake.stat(42, 'Z', 1, 1, 1000);
    let zombie = pidfile_process(&fake.root(), &path).unwrap_err();
    assert!(matches!(zombie.problem, PidfileProblem::Stale(Pid(42))), "{zombie}");
    std::fs::write(&path, "43\n").unwrap();
    let gone = pidfile_process(&fake.root(), &path).unwrap_err();
    assert!(gone.to_string().contains("pid 43, and there is no such process"), "{gone}");
}

#[test]
fn a_scan_finds_pid_files_and_follows_no_links() {
    let fake = FakeProc::new();
    let mut writer = identity(42);
    writer.uid = rustix::process::geteuid().as_raw();
    fake.write("run/deep/service.pid", "42\n");
    fake.write("run/deep/deeper/service.pid", "43\n");
    fake.write("run/service.conf", "44\n");
    fake.write("elsewhere", "45\n");
    symlink(fake.path("elsewhere"), fake.path("run/link.pid")).unwrap();
    rustix::fs::mkfifoat(CWD, fake.path("run/pipe.pid"), Mode::RWXU).unwrap();
    let mut files = Pidfiles::with_directories(Vec::new(), vec![(fake.path("run"), true)]);
    files.scan();
    assert_eq!(files.found.keys().collect::<Vec<_>>(), [&Pid(42)]);
    files.name(&fake.root(), &mut writer);
    assert_eq!(writer.owner.pidfile, Some(fake.path("run/deep/service.pid")));
}

#[test]
fn a_stranger_cannot_claim_a_process_with_a_pid_file_of_his_own() {
    let fake = FakeProc::new();
    let stranger = Found { path: "/tmp/a.pid".into(), written: None, writer: Some(2000) };
    let mut files = Pidfiles::with_directories(Vec::new(), Vec::new());
    files.found.insert(Pid(42), vec![stranger]);
    assert_eq!(files.of(&fake.root(), &identity(42)), None);
    for writer in [None, Some(0), Some(1000)] {
        files.found.get_mut(&Pid(42)).unwrap()[0].writer = writer;
        assert_eq!(files.of(&fake.root(), &identity(42)), Some(Path::new("/tmp/a.pid")));
    }
}
