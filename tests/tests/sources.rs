//! Both sources on the same processes at once: what one says, the other says. Needs root, for the kernel side.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use leakscope::source::{Event, KernelOptions, KernelSource, ProcfsSource, Source};
use leakscope::units::Bytes;
use leakscope_tests::command::{Ran, Workload, leakscope, require_root};
use leakscope_tests::{Obedient, Watch};
use serde_json::Value;

/// A page each 10 ms, by the clock and not by the length of the sleeps: [`RATE`]. In small steps, or a sample that is a
/// little late would hold a step more, which at a sample a second is noise.
const LEAK: &str = "import mmap, time
pool = mmap.mmap(-1, 1 << 28, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
pool.madvise(mmap.MADV_NOHUGEPAGE)
print('ready', flush=True)
due = time.monotonic()
for page in range(0, 1 << 28, 4096):
    pool[page] = 1
    due += 0.01
    time.sleep(max(0, due - time.monotonic()))
";
const RATE: f64 = 4096.0 / 0.01;
const QUIET: &str = "import time\nprint('ready', flush=True)\nwhile True:\n    time.sleep(60)\n";
/// By how much rates may differ from each other and from the truth.
const TOLERANCE: f64 = 0.15;

/// What `watch --json` said of a process, line by line.
fn of(lines: &[Value], pid: u32) -> Vec<&Value> {
    let processes = lines.iter().filter_map(|line| line["processes"].as_array()).flatten();
    processes.filter(|process| process["pid"] == pid).collect()
}

/// Each change of what was thought, and the growth that each line showed: what a reader needs where something is wrong.
fn course(lines: &[&Value]) -> String {
    let held = |line: &Value| line["anon_bytes"].as_i64().unwrap_or(0);
    let mut text = String::new();
    for pair in lines.windows(2) {
        text += &format!("{} ", (held(pair[1]) - held(pair[0])) / 4096);
        if pair[0]["verdict"] != pair[1]["verdict"] {
            text += &format!("{} ", pair[1]["verdict"]);
        }
    }
    text
}

#[test]
fn both_sources_say_the_same_of_a_leak_and_of_a_process_that_sleeps() {
    require_root();
    let (mut leaker, mut quiet) = (Workload::python("leak.py", LEAK), Workload::python("quiet.py", QUIET));
    leaker.wait_for_line();
    quiet.wait_for_line();
    let (leaks, sleeps) = (leaker.pid_text(), quiet.pid_text());
    let start = |source| {
        leakscope()
            .args([
                "watch",
                "--json",
                "--duration",
                "80s",
                "--source",
                source,
                "--pid",
                &leaks,
                "--pid",
                &sleeps,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("leakscope starts")
    };
    // Both at once, on the same memory; each is read as it writes, or it would wait for a reader and not for its process.
    let readers = ["ebpf", "procfs"].map(|source| {
        let child = start(source);
        std::thread::spawn(move || Ran::from(child.wait_with_output().expect("it can be waited for")))
    });
    let said = readers.map(|reader| {
        let ran = reader.join().expect("the reader reads");
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        let lines = ran.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON"));
        lines.collect::<Vec<Value>>()
    });
    let rates = said.each_ref().map(|lines| {
        let leak = of(lines, leaker.pid());
        let last = leak.last().expect("the leaker was watched");
        assert_eq!(last["verdict"], "leaking", "{last:#} {}", course(&leak));
        assert_eq!(last["confirmed"], true, "{last:#}");
        let quiet = of(lines, quiet.pid());
        assert!(quiet.len() > 60, "{} lines", quiet.len());
        assert!(quiet.iter().all(|line| line["rate_bytes_per_s"].is_null()), "{quiet:#?}");
        assert_eq!(quiet.last().expect("lines")["verdict"], "steady");
        last["rate_bytes_per_s"].as_f64().expect("a rate")
    });
    eprintln!("rates {rates:?}, the truth {RATE}");
    for (rate, other) in [(rates[0], RATE), (rates[1], RATE), (rates[0], rates[1])] {
        assert!((rate / other - 1.0).abs() < TOLERANCE, "{rates:?}, and the truth is {RATE}");
    }
    // The suspicion comes at about the same line: /proc alone samples four times as seldom.
    let suspected = said.each_ref().map(|lines| {
        let first = of(lines, leaker.pid()).iter().position(|line| line["verdict"] == "suspect");
        first.expect("it was a suspect before it was told")
    });
    assert!(suspected[0].abs_diff(suspected[1]) <= 10, "{suspected:?}");
}

/// Half a gigabyte in small pages: giving it up takes the kernel long enough to be looked at meanwhile.
const PAGES: u64 = 122_100;

/// Watches a process that holds much until its end; the last that was read of it must be all that it held.
async fn watched_to_its_end(
    source: &mut impl Source,
    end: impl FnOnce(&mut Obedient) -> Result<()>,
) -> Result<()> {
    let mut watch = Watch::default();
    let mut process = Obedient::start(env!("CARGO_BIN_EXE_obedient"))?;
    process.obey(&format!("touch {PAGES}"))?;
    let pid = process.pid();
    let held = Bytes(PAGES * 4096);
    let whole =
        |watch: &Watch| watch.last.get(&pid).is_some_and(|reading| reading.memory.footprint() >= held);
    watch.until(source, 2000, "all that it holds", whole).await?;
    end(&mut process)?;
    let is_end = |event: &Event| matches!(event, Event::Exit { key, .. } if key.pid == pid);
    watch.until(source, 2000, "its end", |watch| watch.events.iter().any(is_end)).await?;
    let last = watch.last[&pid].memory.footprint();
    ensure!(last >= held, "of {held} it held {last} at last: a fall that was its end");
    // Nor does it come back while the kernel is still giving its memory up, or its parent has not asked how it ended.
    watch.last.remove(&pid);
    for _ in 0..20 {
        watch.next(source).await?;
    }
    ensure!(!watch.last.contains_key(&pid), "it was read after its end");
    ensure!(watch.events.iter().filter(|event| is_end(event)).count() == 1, "it ended more than once");
    process.wait()?;
    Ok(())
}

async fn ends_of_all_kinds(source: &mut impl Source) -> Result<()> {
    for _ in 0..3 {
        watched_to_its_end(source, |process| process.tell("exit 0")).await?;
        watched_to_its_end(source, Obedient::kill).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_large_process_that_exits_is_never_seen_half_empty_by_the_kernel_side() -> Result<()> {
    let options = KernelOptions { period: Duration::from_millis(20), ..KernelOptions::default() };
    let mut source =
        KernelSource::open(&options).map_err(|error| anyhow::anyhow!("{error}; fix: {}", error.fix))?;
    ends_of_all_kinds(&mut source).await
}

#[tokio::test]
async fn a_large_process_that_exits_is_never_seen_half_empty_in_proc() -> Result<()> {
    let mut source = ProcfsSource::open(std::path::Path::new("/proc"), Duration::from_millis(5))?;
    ends_of_all_kinds(&mut source).await
}
