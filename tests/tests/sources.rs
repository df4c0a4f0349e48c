//! Both sources on the same processes at once: what one says, the other says; and what each says of a process that ends.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use leakscope::source::{Event, KernelOptions, KernelSource, ProcfsSource, Source};
use leakscope::units::Bytes;
use leakscope_tests::command::{Ran, Workload, leakscope, require_root, suspect};
use leakscope_tests::{Obedient, Watch};

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

#[test]
fn both_sources_say_the_same_of_a_leak_and_of_a_process_that_sleeps() {
    require_root();
    let (mut leaker, mut quiet) = (Workload::python("leak.py", LEAK), Workload::python("quiet.py", QUIET));
    leaker.wait_for_line();
    quiet.wait_for_line();
    let (leaks, sleeps) = (leaker.pid_text(), quiet.pid_text());
    // Both at once, on the same memory; each is read as it writes, or one would wait for a reader.
    let hunts = ["ebpf", "procfs"].map(|source| {
        let child = leakscope()
            .args(["hunt", "--json", "--no-report", "--all", "--confirm", "15s", "--timeout", "45s"])
            .args(["--source", source, "--pid", &leaks, "--pid", &sleeps])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("leakscope starts");
        std::thread::spawn(move || Ran::from(child.wait_with_output().expect("it can be waited for")))
    });
    let found = hunts.map(|hunt| {
        let ran = hunt.join().expect("the reader reads");
        assert_eq!(ran.code(), 1, "the leak is still there: {}", ran.stderr);
        let hunt = ran.json();
        assert_eq!(suspect(&hunt, quiet.pid()), None, "it sleeps");
        let found = suspect(&hunt, leaker.pid()).unwrap_or_else(|| panic!("it leaks: {hunt:#}"));
        assert_eq!((&found["verdict"], &found["confirmed"]), (&"leaking".into(), &true.into()), "{found:#}");
        found.clone()
    });
    let each = |field: &str| found.each_ref().map(|found| found[field].as_f64().expect("it was measured"));
    let rates = each("rate_bytes_per_s");
    eprintln!("rates {rates:?}, the truth {RATE}; confirmed after {:?} s", each("confirmed_after_s"));
    for (rate, other) in [(rates[0], RATE), (rates[1], RATE), (rates[0], rates[1])] {
        assert!((rate / other - 1.0).abs() < TOLERANCE, "{rates:?}, and the truth is {RATE}");
    }
    // At about the same time: /proc alone samples four times as seldom.
    let suspected = each("suspected_after_s");
    assert!((suspected[0] - suspected[1]).abs() <= 10.0, "{suspected:?}");
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
