//! `leakscope kill` where memory is short: its own cgroup is full, and every page that it takes must be reclaimed first.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use leakscope_tests::bystander::{Bystander, Group};
use leakscope_tests::command::{Ran, Workload, folder, leakscope, pause, require_root, wait_until};

const QUIET: &str = "import time\nprint('ready', flush=True)\nwhile True:\n    time.sleep(60)\n";
/// Holds as many megabytes as its second argument says, and reads the file that its first one names again and again, as
/// fast as the cgroup lets it: the page cache of it fills what is left, and is reclaimed for whoever needs a page. It is
/// the OOM killer's first choice.
const BALLOON: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **arguments) {
    static char page[65536];
    FILE *score = fopen("/proc/self/oom_score_adj", "w");
    if (count < 3 || !score || fputs("1000", score) < 0 || fclose(score)) return 1;
    size_t size = strtoul(arguments[2], NULL, 10) << 20;
    char *held = malloc(size);
    if (!held) return 1;
    memset(held, 1, size);
    int file = open(arguments[1], O_RDONLY);
    // Pages that are there already are somebody else's, and would cost this cgroup nothing.
    if (file < 0 || posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED)) return 1;
    puts("ready");
    fflush(stdout);
    for (;;) {
        lseek(file, 0, SEEK_SET);
        while (read(file, page, sizeof page) > 0) held[rand() % size]++;
    }
}
"#;

/// Runs leakscope in a cgroup.
fn run_in(group: &Group, arguments: &[&str]) -> Ran {
    let procs = group.file("cgroup.procs");
    let script = "echo $$ > \"$0\" && exec timeout 120 \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(procs).arg(leakscope().get_program()).args(arguments);
    let ran: Ran = command.stdin(Stdio::null()).output().expect("sh starts").into();
    ran.assert_no_panic();
    ran
}

/// The most that was ever charged to a cgroup.
fn peak(group: &Group) -> u64 {
    let name = if group.has("memory.peak") { "memory.peak" } else { "memory.max_usage_in_bytes" };
    group.read(name).trim().parse().expect("a number")
}

fn limit(group: &Group, bytes: u64) {
    let one = group.has("memory.limit_in_bytes");
    let swap = if one { "memory.swappiness" } else { "memory.swap.max" };
    if group.has(swap) {
        group.write(swap, "0");
    }
    group.write(if one { "memory.limit_in_bytes" } else { "memory.max" }, &bytes.to_string());
}

/// How often a page could only be had by reclaiming another one.
fn stalls(group: &Group) -> u64 {
    if group.has("memory.failcnt") {
        return group.read("memory.failcnt").trim().parse().expect("a number");
    }
    let events = group.read("memory.events");
    let max = events.lines().find_map(|line| line.strip_prefix("max ")).expect("memory.events has max");
    max.parse().expect("a number")
}

fn ready() -> Workload {
    let mut workload = Workload::python("app.py", QUIET);
    assert_eq!(workload.wait_for_line(), "ready");
    workload
}

#[test]
fn in_a_cgroup_without_a_free_page_the_right_process_is_killed_in_time() {
    require_root();
    let free = Group::of_memory();
    // What a kill takes where memory is plenty, maps and programs of the kernel side included.
    let victim = ready();
    let ran = run_in(&free, &["kill", "--json", &victim.pid_text()]);
    assert_eq!(ran.json()["outcome"], "killed", "{}", ran.stdout);
    let needs = peak(&free);

    let (mut victim, tight) = (ready(), Group::of_memory());
    let mut twin = Bystander::of(victim.pid(), ready());
    limit(&tight, needs + (16 << 20));
    let file = folder();
    let large = file.path().join("large");
    let size = usize::try_from(needs).unwrap() + (64 << 20);
    std::fs::File::create(&large)
        .and_then(|mut file| file.write_all(&vec![1; size]).and_then(|()| file.sync_all()))
        .expect("room for a large file");
    let compiled = Workload::c("balloon", BALLOON);
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(tight.file("cgroup.procs"));
    command.arg(compiled.folder().join("balloon")).arg(&large).arg("12");
    let mut balloon = Workload::start(command, folder());
    assert_eq!(balloon.wait_for_line(), "ready");
    wait_until("a full cgroup", || stalls(&tight) > 100);
    pause(Duration::from_millis(200));

    let before = stalls(&tight);
    let ran = run_in(&tight, &["kill", "--json", &victim.pid_text()]);
    let during = stalls(&tight) - before;
    let json = ran.json();
    assert_eq!((json["outcome"].as_str(), ran.code()), (Some("killed"), 0), "{json:#}");
    eprintln!("needs {needs} bytes; {during} stalls while it ran; died after {}", json["died_after_s"]);
    assert!(during > 100, "memory was not short: {during} pages had to be reclaimed");
    assert_eq!((json["signal"].as_str(), json["escalated"].as_bool()), (Some("SIGTERM"), Some(false)));
    assert!(json["died_after_s"].as_f64().expect("measured") < 5.0, "{json:#}");
    let status = victim.ended().expect("it is dead");
    assert_eq!(status.signal(), Some(15));
    twin.assert_unhurt();
    // It may have been chosen by the OOM killer, and nobody else.
    assert!(balloon.ended().is_none_or(|status| status.signal() == Some(9)));
}
