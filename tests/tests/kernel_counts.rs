//! The kernel side on the running kernel: it counts exactly and charges nobody for another one's memory. Needs root: without
//! it these tests fail, they do not pass unseen.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leakscope::source::{
    Attached, CallsBy, Event, ExitStatus, KernelOptions, KernelSource, Source as _, TracepointKind,
};
use leakscope::units::{Bytes, Pid};
use leakscope_tests::{Obedient, PREEMPTED, SLACK, Watch};

/// Batches to wait for what must come: twenty seconds.
const PATIENCE: usize = 200;

fn open(kind: TracepointKind) -> Result<KernelSource> {
    let options =
        KernelOptions { period: Duration::from_millis(100), tracepoints: kind, ..KernelOptions::default() };
    KernelSource::open(&options).map_err(|error| anyhow::anyhow!("{error}; fix: {}", error.fix))
}

fn start() -> Result<Obedient> {
    Obedient::start(env!("CARGO_BIN_EXE_obedient"))
}

/// One of eight: what it does in each round, and how many of its own pages it then has.
struct Busy {
    round: &'static [&'static str],
    pages: u64,
    forks: u64,
}

/// Some with threads, some with forks, some that become another program, whose counts begin again with each exec.
const BUSY: [Busy; 8] = [
    Busy { round: &["touch 1000"], pages: 5000, forks: 0 },
    Busy { round: &["touch 2000"], pages: 10_000, forks: 0 },
    Busy { round: &["threads 4 750"], pages: 15_000, forks: 0 },
    Busy { round: &["threads 2 1000", "touch 2000"], pages: 20_000, forks: 0 },
    Busy { round: &["fork 1500", "touch 5000"], pages: 25_000, forks: 5 },
    Busy { round: &["touch 3000", "fork 700", "touch 3000"], pages: 30_000, forks: 5 },
    Busy { round: &["touch 2500", "exec", "touch 7000"], pages: 7000, forks: 0 },
    Busy { round: &["fork 900", "exec", "threads 4 2000"], pages: 8000, forks: 0 },
];

/// Each process does its own, all at once, in rounds, and each is charged with what it touched itself.
async fn eight_busy_processes(kind: TracepointKind) -> Result<()> {
    let mut source = open(kind)?;
    let mut watch = Watch::default();
    watch.next(&mut source).await?;
    let mut children = BUSY.iter().map(|_| start()).collect::<Result<Vec<_>>>()?;
    for _round in 0..5 {
        let longest = BUSY.iter().map(|busy| busy.round.len()).max().unwrap_or(0);
        for step in 0..longest {
            let mut told = Vec::new();
            for (busy, child) in BUSY.iter().zip(&mut children) {
                if let Some(command) = busy.round.get(step) {
                    child.tell(command)?;
                    told.push(child);
                }
            }
            for child in told {
                child.wait_ok()?;
            }
        }
    }
    let pids: Vec<_> = children.iter().zip(&BUSY).map(|(child, busy)| (child.pid(), busy.pages)).collect();
    // Its start is the first.
    let executed =
        |watch: &Watch, pid: Pid| watch.last.get(&pid).and_then(|reading| reading.kernel?.execs) == Some(6);
    let last_program = |watch: &Watch| [6, 7].iter().all(|n| executed(watch, pids[*n].0));
    let all = |watch: &Watch| {
        last_program(watch) && pids.iter().all(|(pid, pages)| watch.has_touched(*pid, *pages))
    };
    let waited = watch.until(&mut source, PATIENCE, "all faults counted", all).await;
    waited.with_context(|| {
        let counted = |(pid, pages): &(Pid, u64)| {
            let execs = watch.last.get(pid).and_then(|reading| reading.kernel?.execs);
            format!("pid {pid}: {} of {pages}, execs {execs:?}", watch.first_touch(*pid))
        };
        let counted = pids.iter().map(counted).collect::<Vec<_>>().join("; ");
        format!("{counted}; {} events missed", watch.missed())
    })?;
    for (pid, pages) in &pids {
        watch.assert_touched(*pid, *pages);
        let reading = &watch.last[pid];
        // Before 6.2 each thread keeps up to 64 pages to itself, also from /proc.
        assert!(reading.memory.anon >= Bytes((pages - 64) * 4096), "{reading:?}");
        let kernel = reading.kernel.context("counts")?;
        let grown = kernel.rss_anon.context("rss_stat was not seen")?.grown;
        // Before 6.2 the counter is told every 64 faults; since then it is summed over batches of each CPU.
        assert!(grown.as_f64() > 0.9 * (pages * 4096) as f64, "{reading:?}");
        // Its program's pages, which are shared memory where it lies in a RAM disk; before 6.2 they are too few for a
        // second event, and it is the second that shows growth.
        assert!(kernel.rss_file.or(kernel.rss_shmem).is_some(), "{reading:?}");
    }
    for ((pid, _), busy) in pids.iter().zip(&BUSY) {
        let forks = watch.last[pid].kernel.and_then(|kernel| kernel.forks);
        assert_eq!(forks, (kind == TracepointKind::Btf).then_some(busy.forks), "pid {pid}: {:?}", busy.round);
    }
    let lost = watch.batch.context("a batch")?.lost.causes;
    assert!(lost.iter().all(|(cause, _)| cause.starts_with(PREEMPTED)), "{lost:?}");
    Ok(())
}

#[tokio::test]
async fn eight_busy_processes_are_counted_exactly_by_btf_tracepoints() -> Result<()> {
    eight_busy_processes(TracepointKind::Btf).await
}

#[tokio::test]
async fn eight_busy_processes_are_counted_exactly_by_classic_tracepoints() -> Result<()> {
    eight_busy_processes(TracepointKind::Classic).await
}

async fn threads_count_for_their_process(kind: TracepointKind) -> Result<()> {
    let mut source = open(kind)?;
    let mut watch = Watch::default();
    watch.next(&mut source).await?;
    let mut child = start()?;
    for _round in 0..5 {
        child.obey("threads 4 2000")?;
    }
    let pid = child.pid();
    let waited = watch.until(&mut source, PATIENCE, "40,000 faults", |watch| watch.has_touched(pid, 40_000));
    waited.await.with_context(|| format!("{:?} of {:?}", watch.last.get(&pid), watch.batch))?;
    watch.assert_touched(pid, 40_000);
    assert!(!watch.events.iter().any(|event| matches!(event, Event::Exit { key, .. } if key.pid == pid)));
    Ok(())
}

#[tokio::test]
async fn threads_count_for_their_process_with_btf_tracepoints() -> Result<()> {
    threads_count_for_their_process(TracepointKind::Btf).await
}

#[tokio::test]
async fn threads_count_for_their_process_with_classic_tracepoints() -> Result<()> {
    threads_count_for_their_process(TracepointKind::Classic).await
}

async fn forks_are_processes_of_their_own(kind: TracepointKind) -> Result<()> {
    let mut source = open(kind)?;
    let mut watch = Watch::default();
    let mut parent = start()?;
    parent.obey("touch 100")?;
    let pid = parent.pid();
    watch.until(&mut source, PATIENCE, "the parent", |watch| watch.last.contains_key(&pid)).await?;
    let before = watch.first_touch(pid);
    let known: Vec<Pid> = watch.last.keys().copied().collect();
    parent.tell("fork 3000")?;
    let child_of = |watch: &Watch| {
        let new = watch.last.keys().filter(|pid| !known.contains(pid));
        new.copied().find(|pid| (3000..3000 + SLACK).contains(&watch.first_touch(*pid)))
    };
    watch.until(&mut source, PATIENCE, "the child's faults", |watch| child_of(watch).is_some()).await?;
    let child = child_of(&watch).context("the child")?;
    let gone = |watch: &Watch| {
        watch.events.iter().any(|event| matches!(event, Event::Exit { key, .. } if key.pid == child))
    };
    watch.until(&mut source, PATIENCE, "the child's end", gone).await?;
    parent.wait_ok()?;
    watch.next(&mut source).await?;
    assert!(watch.first_touch(pid) < before + SLACK, "the parent paid for its child");
    Ok(())
}

#[tokio::test]
async fn forks_are_processes_of_their_own_with_btf_tracepoints() -> Result<()> {
    forks_are_processes_of_their_own(TracepointKind::Btf).await
}

#[tokio::test]
async fn forks_are_processes_of_their_own_with_classic_tracepoints() -> Result<()> {
    forks_are_processes_of_their_own(TracepointKind::Classic).await
}

async fn an_exec_is_told_and_starts_the_counts_again(kind: TracepointKind) -> Result<()> {
    let mut source = open(kind)?;
    let mut watch = Watch::default();
    let mut child = start()?;
    child.obey("touch 5000")?;
    let pid = child.pid();
    watch.until(&mut source, PATIENCE, "the child", |watch| watch.last.contains_key(&pid)).await?;
    let key = watch.key(pid)?;
    child.obey("exec")?;
    child.obey("touch 1000")?;
    watch
        .until(&mut source, PATIENCE, "the exec", |watch| watch.events.contains(&Event::Exec { key }))
        .await?;
    watch.until(&mut source, PATIENCE, "the faults after it", |watch| watch.has_touched(pid, 1000)).await?;
    watch.assert_touched(pid, 1000);
    assert_eq!(watch.key(pid)?, key, "an exec does not make another process");
    Ok(())
}

#[tokio::test]
async fn an_exec_is_told_and_starts_the_counts_again_with_btf_tracepoints() -> Result<()> {
    an_exec_is_told_and_starts_the_counts_again(TracepointKind::Btf).await
}

#[tokio::test]
async fn an_exec_is_told_and_starts_the_counts_again_with_classic_tracepoints() -> Result<()> {
    an_exec_is_told_and_starts_the_counts_again(TracepointKind::Classic).await
}

/// The events that ended these processes, once all have come.
async fn ends(kind: TracepointKind) -> Result<Vec<Option<ExitStatus>>> {
    let mut source = open(kind)?;
    let mut watch = Watch::default();
    let mut by_status = start()?;
    let mut by_signal = start()?;
    let mut with_threads = start()?;
    let pids = [by_status.pid(), by_signal.pid(), with_threads.pid()];
    for child in [&mut by_status, &mut by_signal, &mut with_threads] {
        child.obey("touch 10")?;
    }
    let all = |watch: &Watch| pids.iter().all(|pid| watch.last.contains_key(pid));
    watch.until(&mut source, PATIENCE, "three processes", all).await?;
    by_status.tell("exit 42")?;
    by_signal.kill()?;
    with_threads.obey("threads 3 10")?;
    with_threads.tell("exit 7")?;
    for child in [&mut by_status, &mut by_signal, &mut with_threads] {
        child.wait()?;
    }
    let end_of = |watch: &Watch, pid: Pid| {
        watch.events.iter().find_map(|event| match event {
            Event::Exit { key, status } if key.pid == pid => Some((*key, *status)),
            _ => None,
        })
    };
    let gone = |watch: &Watch| pids.iter().all(|pid| end_of(watch, *pid).is_some());
    watch.until(&mut source, PATIENCE, "three ends", gone).await?;
    // Nothing brings them back.
    for _ in 0..5 {
        let ended = pids.map(|pid| end_of(&watch, pid).map(|(key, _)| key));
        watch.next(&mut source).await?;
        let readings = watch.batch.iter().flat_map(|batch| &batch.readings);
        for reading in readings {
            ensure!(!ended.contains(&Some(reading.key)), "{} came back", reading.key);
        }
    }
    Ok(pids.iter().filter_map(|pid| end_of(&watch, *pid)).map(|(_, status)| status).collect())
}

#[tokio::test]
async fn exit_statuses_and_signals_are_reported_by_btf_tracepoints() -> Result<()> {
    let wanted = [ExitStatus::Code(42), ExitStatus::Signal(9), ExitStatus::Code(7)];
    assert_eq!(ends(TracepointKind::Btf).await?, wanted.map(Some));
    Ok(())
}

#[tokio::test]
async fn ends_without_a_status_are_reported_by_classic_tracepoints() -> Result<()> {
    assert_eq!(ends(TracepointKind::Classic).await?, [None; 3]);
    Ok(())
}

#[tokio::test]
async fn identities_agree_with_proc() -> Result<()> {
    let mut source = open(TracepointKind::Btf)?;
    let mut watch = Watch::default();
    let own = Pid(std::process::id());
    let mut child = start()?;
    child.obey("touch 500")?;
    let pid = child.pid();
    watch.until(&mut source, PATIENCE, "both", |watch| watch.first_touch(pid) >= 500).await?;
    for pid in [own, pid] {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after_name = stat.rsplit(')').next().context("stat")?;
        // Field 22, counted from the third, which follows the name.
        let start: u64 = after_name.split_whitespace().nth(19).context("start time")?.parse()?;
        assert_eq!(watch.key(pid)?.start.0, start);
    }
    Ok(())
}

/// Programs at memory system calls that are attached, and how many they are while somebody is inspected.
fn call_programs(source: &KernelSource) -> Result<(usize, usize)> {
    let status = source.status()?;
    let traces_calls = |attached: &&Attached| attached.tracepoint.contains("sys_");
    let all = status.calls.context("they can be traced")?.programs();
    Ok((status.attached.iter().filter(traces_calls).count(), all))
}

async fn syscalls_are_counted_exactly(kind: TracepointKind) -> Result<()> {
    let mut source = open(kind)?;
    let mut watch = Watch::default();
    let mut child = start()?;
    let mut other = start()?;
    // What the run-time needs for itself is there after the first round.
    for command in ["touch 10", "brk 4096", "mmap 4096", "munmap 4096", "mapfile 4096"] {
        child.obey(command)?;
        other.obey(command)?;
    }
    let pid = child.pid();
    watch.until(&mut source, PATIENCE, "the child", |watch| watch.last.contains_key(&pid)).await?;
    assert_eq!(call_programs(&source)?.0, 0, "attached without a suspect");
    source.inspect(&[watch.key(pid)?])?;
    let (attached, all) = call_programs(&source)?;
    assert_eq!(attached, all);
    if kind == TracepointKind::Classic {
        assert_eq!(source.status()?.calls, Some(CallsBy::Tracepoints), "there is no BTF");
    }
    // Without BTF the first call shows where the heap ends.
    child.obey("brk 0")?;
    for command in [
        "brk 1052672",
        "brk -4096",
        "mmap 204800",
        "mmap 100",
        "munmap 4096",
        "munmap 204800",
        "mapfile 8192",
        "mremap 8192 40960",
        "mremap 40960 8192",
        "dontneed 81920",
        "refused",
    ] {
        child.obey(command)?;
        other.obey(command)?;
    }
    child.obey("touch 50")?;
    let settled = |watch: &Watch| watch.faults.get(&pid).is_some_and(|steps| steps.len() >= 40);
    watch.until(&mut source, PATIENCE, "the faults of the inspection", settled).await?;
    watch.next(&mut source).await?;
    let kernel = watch.last[&pid].kernel.context("counts")?;
    let calls = kernel.syscalls.context("syscall counts")?;
    assert_eq!((calls.brk.grown, calls.brk.shrunk), (Bytes(1_052_672), Bytes(4096)), "{calls:?}");
    // 204,800 and a page; two to be moved; one to be given back; one to be touched.
    assert_eq!(calls.mmap_anon.count, 6, "{calls:?}");
    assert_eq!(
        calls.mmap_anon.bytes,
        Bytes(204_800 + 4096 + 8192 + 40_960 + 81_920 + 50 * 4096),
        "{calls:?}"
    );
    assert_eq!((calls.mmap_file.count, calls.mmap_file.bytes), (1, Bytes(8192)), "{calls:?}");
    assert_eq!(
        (calls.munmap.count, calls.munmap.bytes),
        (4, Bytes(4096 + 204_800 + 40_960 + 8192)),
        "{calls:?}"
    );
    assert_eq!((calls.mremap.grown, calls.mremap.shrunk), (Bytes(32_768), Bytes(32_768)), "{calls:?}");
    assert_eq!(calls.mremap_calls, Some(2), "{calls:?}");
    assert_eq!((calls.madvise_free.count, calls.madvise_free.bytes), (1, Bytes(81_920)), "{calls:?}");
    assert!(watch.last[&other.pid()].kernel.is_none_or(|kernel| kernel.syscalls.is_none()));
    source.inspect(&[])?;
    assert_eq!(call_programs(&source)?.0, 0, "attached after the last suspect");
    Ok(())
}

#[tokio::test]
async fn syscalls_are_counted_exactly_while_inspected_with_btf_tracepoints() -> Result<()> {
    syscalls_are_counted_exactly(TracepointKind::Btf).await
}

#[tokio::test]
async fn syscalls_are_counted_exactly_while_inspected_with_classic_tracepoints() -> Result<()> {
    syscalls_are_counted_exactly(TracepointKind::Classic).await
}

#[tokio::test]
async fn touching_page_after_page_shows_as_steps_of_a_page() -> Result<()> {
    let mut source = open(TracepointKind::Auto)?;
    let mut watch = Watch::default();
    let mut child = start()?;
    child.obey("touch 10")?;
    let pid = child.pid();
    watch.until(&mut source, PATIENCE, "the child", |watch| watch.last.contains_key(&pid)).await?;
    source.inspect(&[watch.key(pid)?])?;
    child.obey("touch 40")?;
    let enough = |watch: &Watch| watch.faults.get(&pid).is_some_and(|steps| steps.len() >= 39);
    watch.until(&mut source, PATIENCE, "40 faults", enough).await?;
    let steps = &watch.faults[&pid];
    let pages =
        steps.iter().filter(|step| step.address_delta == 4096 && step.page_aligned && !step.after_gap);
    assert!(pages.count() >= 39, "{steps:?}");
    child.tell("exit 0")?;
    child.wait()?;
    watch.until(&mut source, PATIENCE, "its end", |watch| !watch.events.is_empty()).await?;
    let gone = |watch: &Watch| {
        watch.events.iter().any(|event| matches!(event, Event::Exit { key, .. } if key.pid == pid))
    };
    if !gone(&watch) {
        watch.until(&mut source, PATIENCE, "its end", gone).await?;
    }
    assert_eq!(call_programs(&source)?.0, 0, "the only suspect is gone");
    Ok(())
}

#[tokio::test]
async fn the_programs_still_load_when_they_say_what_they_do() -> Result<()> {
    for tracepoints in [TracepointKind::Btf, TracepointKind::Classic] {
        let options = KernelOptions { tracepoints, debug: true, ..KernelOptions::default() };
        let mut source = KernelSource::open(&options).map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut watch = Watch::default();
        let mut child = start()?;
        child.obey("touch 10")?;
        let pid = child.pid();
        watch.until(&mut source, PATIENCE, "the child", |watch| watch.first_touch(pid) >= 10).await?;
    }
    Ok(())
}
