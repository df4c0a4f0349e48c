use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::report::write_report;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_report_is_written_readable_for_all_and_leaves_nothing_else_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.txt");
    assert_eq!(write_report(&path, b"one").unwrap().kept, None);
    assert_eq!(fs::read(&path).unwrap(), b"one");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(names(dir.path()), ["r.txt"]);
}

#[test]
fn older_reports_are_kept_under_the_next_free_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.txt");
    fs::write(dir.path().join("r.txt.2"), "not mine").unwrap();
    for text in ["one", "two", "three"] {
        write_report(&path, text.as_bytes()).unwrap();
    }
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(names(dir.path()), ["r.txt", "r.txt.1", "r.txt.2", "r.txt.3"]);
    assert_eq!(
        [read("r.txt"), read("r.txt.1"), read("r.txt.2"), read("r.txt.3")],
        ["three", "one", "not mine", "two"]
    );
}

#[test]
fn a_planted_link_is_moved_aside_and_its_target_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (target, path) = (dir.path().join("passwd"), dir.path().join("r.txt"));
    fs::write(&target, "precious").unwrap();
    symlink(&target, &path).unwrap();
    let kept = write_report(&path, b"report").unwrap().kept.unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
    assert_eq!(fs::read_link(kept).unwrap(), target);
}

#[test]
fn a_link_that_leads_nowhere_is_no_way_to_create_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (target, path) = (dir.path().join("created"), dir.path().join("r.txt"));
    symlink(&target, &path).unwrap();
    write_report(&path, b"report").unwrap();
    assert!(!target.exists());
    assert_eq!(fs::read(&path).unwrap(), b"report");
}

#[test]
fn a_missing_directory_is_named_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let error = write_report(&dir.path().join("no/r.txt"), b"x").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("does not exist\n  fix: create it (mkdir -p "), "{text}");
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn a_directory_and_a_device_are_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d");
    fs::create_dir(&path).unwrap();
    assert!(write_report(&path, b"x").unwrap_err().to_string().contains("it is a directory"));
    assert!(path.is_dir());
    assert_eq!(names(dir.path()), ["d"]);
    for device in ["/dev/null", "/dev/stdout", "/proc/self/fd/1"] {
        assert!(write_report(Path::new(device), b"x").is_err(), "{device}");
    }
    for no_file in ["/", "..", "a/.."] {
        assert!(write_report(Path::new(no_file), b"x").is_err(), "{no_file}");
    }
}

#[test]
fn a_name_that_is_too_long_is_an_error_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let error = write_report(&dir.path().join("n".repeat(255)), b"x").unwrap_err();
    assert!(error.fix().contains("shorter name"), "{error}");
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn a_full_disk_leaves_the_older_report() {
    // A file may not grow beyond RLIMIT_FSIZE; lowering it here would hit every other test of this process, so the
    // write happens in a child that a shell limits.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.txt");
    if let Some(path) = std::env::var_os("LEAKSCOPE_TEST_FULL_DISK") {
        let error = write_report(Path::new(&path), &vec![b'x'; 1 << 20]).unwrap_err();
        assert!(error.to_string().contains("writing it"), "{error}");
        return;
    }
    fs::write(&path, "older").unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg("report::tests::writing::a_full_disk_leaves_the_older_report")
        .env("LEAKSCOPE_TEST_FULL_DISK", &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(names(dir.path()), ["r.txt"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "older");
}
