//! The kernel side where something is full, missing, borrowed or somebody else's: what cannot be seen is counted or
//! absent, and nobody is charged for another one's memory. Needs root, as `kernel_counts` does.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leakscope::source::{
    CallsBy, Event, ExitStatus, KernelOptions, KernelSource, Source as _, TracepointKind,
};
use leakscope::units::{Bytes, Pid};
use leakscope_tests::cgroup::SmallGroup;
use leakscope_tests::{Obedient, Watch};

/// Batches to wait for what must come: twenty seconds.
const PATIENCE: usize = 200;

fn open(options: KernelOptions) -> Result<KernelSource> {
    let options = KernelOptions { period: Duration::from_millis(100), ..options };
    KernelSource::open(&options).map_err(|error| anyhow::anyhow!("{error}; fix: {}", error.fix))
}

fn btf() -> KernelOptions {
    KernelOptions { tracepoints: TracepointKind::Btf, ..KernelOptions::default() }
}

fn start() -> Result<Obedient> {
    Obedient::start(env!("CARGO_BIN_EXE_obedient"))
}

/// The child runs in its parent's memory until its exec, so what it touches is its parent's.
#[tokio::test]
async fn what_a_vfork_child_touches_is_its_parents_and_its_exec_takes_nothing_away() -> Result<()> {
    let mut source = open(btf())?;
    let mut watch = Watch::default();
    watch.next(&mut source).await?;
    let mut parent = start()?;
    parent.obey("touch 1000")?;
    for _ in 0..4 {
        parent.obey("vfork 2000")?;
    }
    let pid = parent.pid();
    let pages = 1000 + 4 * 2000;
    watch.until(&mut source, PATIENCE, "all faults", |watch| watch.has_touched(pid, pages)).await?;
    watch.assert_touched(pid, pages);
    let kernel = watch.last[&pid].kernel.context("counts")?;
    assert_eq!((kernel.forks, kernel.execs), (Some(4), Some(1)), "{kernel:?}");
    let anon = kernel.rss_anon.context("rss_stat was not seen")?;
    assert!(anon.shrunk < Bytes(1 << 20), "a child's exec was taken for the parent's loss: {anon:?}");
    assert!(anon.grown.as_f64() > 0.9 * (pages * 4096) as f64, "{anon:?}");
    Ok(())
}

/// Pages that somebody writes into another process (a debugger, `process_vm_writev`) are that process' pages.
#[tokio::test]
async fn memory_that_somebody_else_populates_is_charged_to_its_owner() -> Result<()> {
    const BYTES: usize = 8 << 20;
    let data = vec![1_u8; BYTES];
    let mut source = open(btf())?;
    let mut watch = Watch::default();
    let mut owner = start()?;
    owner.obey("touch 300")?;
    let (pid, own) = (owner.pid(), Pid(std::process::id()));
    let both = |watch: &Watch| watch.first_touch(pid) >= 300 && watch.last.contains_key(&own);
    watch.until(&mut source, PATIENCE, "both", both).await?;
    let grown = |watch: &Watch, pid: Pid| {
        let kernel = watch.last.get(&pid).and_then(|reading| reading.kernel);
        kernel.and_then(|kernel| kernel.rss_anon).map_or(0, |flow| flow.grown.0)
    };
    let before = (grown(&watch, pid), grown(&watch, own));
    let maps = regions(pid)?;
    owner.obey(&format!("mmap {BYTES}"))?;
    let fresh = new_region(&maps, &regions(pid)?, BYTES)?;
    write_into(pid, fresh, &data)?;
    let charged = |watch: &Watch| grown(watch, pid) - before.0 > 7 << 20;
    watch.until(&mut source, PATIENCE, "the owner's pages", charged).await?;
    let writer = grown(&watch, own) - before.1;
    assert!(writer < 2 << 20, "{writer} bytes of another process were charged to the writer");
    assert!(watch.last[&pid].memory.anon >= Bytes(BYTES as u64));
    Ok(())
}

fn regions(pid: Pid) -> Result<Vec<(usize, usize)>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let region = |line: &str| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
    };
    Ok(text.lines().filter_map(region).collect())
}

/// Where a mapping of this length appeared; it may have become a part of its neighbour.
fn new_region(before: &[(usize, usize)], after: &[(usize, usize)], bytes: usize) -> Result<usize> {
    let was_there = |at: usize| before.iter().any(|(start, end)| (*start..*end).contains(&at));
    let large = after.iter().filter(|(start, end)| end - start >= bytes);
    let found = large.flat_map(|(start, end)| [*start, end - bytes]).find(|at| !was_there(*at));
    found.context("the mapping is not in /proc/PID/maps")
}

fn write_into(pid: Pid, address: usize, data: &[u8]) -> Result<()> {
    let local = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: data.len() };
    // SAFETY: reads `data`; the kernel checks the other process' addresses.
    let written = unsafe { libc::process_vm_writev(pid.0.cast_signed(), &local, 1, &remote, 1, 0) };
    ensure!(usize::try_from(written) == Ok(data.len()), "{written} bytes were written");
    Ok(())
}

#[tokio::test]
async fn processes_that_find_no_room_are_counted_and_read_from_proc_without_counts() -> Result<()> {
    let mut source = open(KernelOptions { max_processes: Some(8), ..btf() })?;
    let mut watch = Watch::default();
    watch.next(&mut source).await?;
    let mut children = (0..24).map(|_| start()).collect::<Result<Vec<_>>>()?;
    for child in &mut children {
        child.obey("touch 100")?;
    }
    let pids: Vec<Pid> = children.iter().map(Obedient::pid).collect();
    let all = |watch: &Watch| pids.iter().all(|pid| watch.last.contains_key(pid));
    watch.until(&mut source, PATIENCE, "every child, by /proc", all).await?;
    let lost = watch.batch.as_ref().context("a batch")?.lost.clone();
    assert!(
        lost.causes.iter().any(|(cause, count)| cause.starts_with("no room for a process") && *count > 0),
        "{lost:?}"
    );
    let uncounted = pids.iter().filter(|pid| watch.last[pid].kernel.is_none()).count();
    assert!(uncounted >= 16, "{uncounted} of 24 without counts: what was not counted is absent, not zero");
    // Their ends find no room for a difference: they are seen all the same.
    drop(children);
    let gone = |watch: &Watch| {
        let ended = |pid: &Pid| {
            watch.events.iter().any(|event| matches!(event, Event::Exit { key, .. } if key.pid == *pid))
        };
        pids.iter().all(ended)
    };
    watch.until(&mut source, PATIENCE, "every end", gone).await?;
    Ok(())
}

/// A tracefs that shows what the real one shows, but for these.
fn tracefs_without(missing: &[&str]) -> Result<tempfile::TempDir> {
    let real = Path::new("/sys/kernel/tracing/events");
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("events"))?;
    for category in ["kmem", "exceptions", "sched", "oom", "syscalls"] {
        if !missing.contains(&category) {
            std::os::unix::fs::symlink(real.join(category), folder.path().join("events").join(category))?;
        }
    }
    Ok(folder)
}

#[tokio::test]
async fn a_kernel_without_syscall_tracepoints_counts_what_it_can_and_says_what_is_missing() -> Result<()> {
    // Where tracefs is not mounted, opening the usual way mounts it.
    drop(open(btf())?);
    let tracefs = tracefs_without(&["syscalls", "oom"])?;
    let mut source = open(KernelOptions { tracefs: Some(tracefs.path().to_owned()), ..btf() })?;
    // Where programs may run at the ends of functions, the calls are counted all the same.
    let traced = source.status()?.calls.is_some();
    for (named, missing) in [("system calls", !traced), ("OOM killer", true)] {
        let told = source.notes().iter().any(|note| note.contains(named));
        assert_eq!(told, missing, "{named}: {:?}", source.notes());
    }
    let mut watch = Watch::default();
    let mut child = start()?;
    child.obey("touch 100")?;
    let pid = child.pid();
    watch.until(&mut source, PATIENCE, "the child", |watch| watch.first_touch(pid) >= 100).await?;
    source.inspect(&[watch.key(pid)?])?;
    child.obey("mmap 4096")?;
    child.obey("touch 200")?;
    let stepped = |watch: &Watch| watch.faults.get(&pid).is_some_and(|steps| steps.len() >= 40);
    watch.until(&mut source, PATIENCE, "fault steps, which need no syscall", stepped).await?;
    let kernel = watch.last[&pid].kernel.context("counts")?;
    assert_eq!(kernel.syscalls.is_some(), traced, "calls that nobody traced are absent, not zero");
    Ok(())
}

/// The kernel's functions are not traced, until this goes.
struct WithoutFtrace(String);

impl WithoutFtrace {
    const SWITCH: &str = "/proc/sys/kernel/ftrace_enabled";

    /// `None` since 7.3, where nobody can switch them off any more.
    fn new() -> Result<Option<Self>> {
        let before = std::fs::read_to_string(Self::SWITCH).context(Self::SWITCH)?;
        match std::fs::write(Self::SWITCH, "0") {
            Ok(()) => Ok(Some(Self(before))),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(error).context(Self::SWITCH),
        }
    }
}

impl Drop for WithoutFtrace {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::SWITCH, &self.0);
    }
}

/// A child that is inspected by `source` from when the kernel's functions are traced no more. `None` where that is not for
/// a test to change, because the switch is the whole host's.
async fn inspected_without_functions(
    source: &mut KernelSource,
    watch: &mut Watch,
) -> Result<Option<(Obedient, Option<WithoutFtrace>)>> {
    let mut child = start()?;
    child.obey("touch 100")?;
    let pid = child.pid();
    watch.until(source, PATIENCE, "the child", |watch| watch.last.contains_key(&pid)).await?;
    let functions = source.status()?.calls == Some(CallsBy::Functions);
    if functions && std::env::var_os("LEAKSCOPE_MACHINE").is_none() {
        eprintln!("left to the machines of `cargo xtask test`");
        return Ok(None);
    }
    let without = if functions { WithoutFtrace::new()? } else { None };
    if functions && without.is_none() {
        eprintln!("functions are always to be had here");
        return Ok(None);
    }
    source.inspect(&[watch.key(pid)?])?;
    Ok(Some((child, without)))
}

/// Where programs may not run at the ends of functions after all, and there are no tracepoints, that is a loss.
#[tokio::test]
async fn calls_that_can_be_traced_in_no_way_any_more_are_told_as_lost() -> Result<()> {
    drop(open(btf())?);
    let tracefs = tracefs_without(&["syscalls"])?;
    let mut source = open(KernelOptions { tracefs: Some(tracefs.path().to_owned()), ..btf() })?;
    let had = source.status()?.calls.is_some();
    let mut watch = Watch::default();
    let Some((_child, without)) = inspected_without_functions(&mut source, &mut watch).await? else {
        return Ok(());
    };
    watch.next(&mut source).await?;
    let lost = watch.batch.context("a batch")?.lost.causes;
    let told = lost.iter().any(|(cause, _)| cause.contains("system calls of a suspect could not be traced"));
    assert_eq!(told, had, "{lost:?}");
    drop(without);
    Ok(())
}

/// Where programs may not run at the ends of functions after all, tracepoints count the same.
#[tokio::test]
async fn calls_are_counted_by_tracepoints_once_functions_are_not_to_be_had() -> Result<()> {
    let mut source = open(btf())?;
    let mut watch = Watch::default();
    let Some((mut child, without)) = inspected_without_functions(&mut source, &mut watch).await? else {
        return Ok(());
    };
    let pid = child.pid();
    assert_eq!(source.status()?.calls, Some(CallsBy::Tracepoints));
    child.obey("mmap 8192")?;
    child.obey("munmap 8192")?;
    child.obey("touch 50")?;
    watch.until(&mut source, PATIENCE, "the calls", |watch| watch.has_touched(pid, 150)).await?;
    watch.next(&mut source).await?;
    let calls = watch.last[&pid].kernel.and_then(|kernel| kernel.syscalls).context("syscall counts")?;
    // Two pages by itself, and fifty to be touched.
    assert_eq!((calls.mmap_anon.count, calls.mmap_anon.bytes), (2, Bytes(8192 + 50 * 4096)), "{calls:?}");
    assert_eq!((calls.munmap.count, calls.munmap.bytes), (1, Bytes(8192)), "{calls:?}");
    drop(without);
    Ok(())
}

#[tokio::test]
async fn whom_the_oom_killer_chooses_is_told_and_so_is_the_signal_that_ended_it() -> Result<()> {
    let group = SmallGroup::new("oom", 32 << 20)?;
    let mut source = open(btf())?;
    let mut watch = Watch::default();
    let mut child = start()?;
    child.obey("touch 100")?;
    let pid = child.pid();
    watch.until(&mut source, PATIENCE, "the child", |watch| watch.last.contains_key(&pid)).await?;
    std::fs::write(group.procs(), pid.to_string())?;
    child.tell("touch 20000")?;
    let ended = |event: &Event| matches!(event, Event::Exit { key, .. } if key.pid == pid);
    watch.until(&mut source, PATIENCE, "its end", |watch| watch.events.iter().any(ended)).await?;
    child.wait()?;
    assert!(watch.events.contains(&Event::OomVictim { pid }), "{:?}", watch.events);
    let key = watch.key(pid)?;
    assert!(watch.events.contains(&Event::Exit { key, status: Some(ExitStatus::Signal(9)) }));
    Ok(())
}

#[tokio::test]
async fn a_full_ring_is_counted_and_made_up_for() -> Result<()> {
    let options = KernelOptions {
        period: Duration::from_millis(500),
        // Room for 128 records.
        ring_bytes: Some(4096),
        ..KernelOptions::default()
    };
    let mut source = KernelSource::open(&options).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut watch = Watch::default();
    watch.next(&mut source).await?;
    let mut early = start()?;
    early.obey("touch 50")?;
    let early_pid = early.pid();
    watch.until(&mut source, PATIENCE, "the first", |watch| watch.first_touch(early_pid) >= 50).await?;
    // Each leaves two records: it began, it ended.
    for _ in 0..100 {
        Command::new(env!("CARGO_BIN_EXE_obedient")).stdin(Stdio::null()).status()?;
    }
    // The ring is full now: one end and one beginning cannot be told.
    early.kill()?;
    early.wait()?;
    let mut late = start()?;
    late.obey("touch 50")?;
    let late_pid = late.pid();
    let made_up = |watch: &Watch| {
        let ended = |event: &Event| matches!(event, Event::Exit { key, .. } if key.pid == early_pid);
        watch.first_touch(late_pid) >= 50 && watch.events.iter().any(ended)
    };
    watch.until(&mut source, PATIENCE, "what the ring lost", made_up).await?;
    let lost = watch.batch.as_ref().context("a batch")?.lost.clone();
    assert!(
        lost.causes.iter().any(|(cause, count)| cause.starts_with("no room in the ring") && *count > 0),
        "{lost:?}"
    );
    Ok(())
}

/// A zombie whose exit found no room in the ring has ended, however long its parent leaves it.
#[tokio::test]
async fn a_zombie_whose_exit_was_lost_is_seen_to_have_ended() -> Result<()> {
    let options = KernelOptions { period: Duration::from_millis(500), ring_bytes: Some(4096), ..btf() };
    let mut source = KernelSource::open(&options).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut watch = Watch::default();
    let mut child = start()?;
    child.obey("touch 50")?;
    let pid = child.pid();
    watch.until(&mut source, PATIENCE, "the child", |watch| watch.first_touch(pid) >= 50).await?;
    // Each leaves two records, and the ring has room for 128.
    for _ in 0..100 {
        Command::new(env!("CARGO_BIN_EXE_obedient")).stdin(Stdio::null()).status()?;
    }
    // Not waited for: it stays a zombie until the end of this test.
    child.kill()?;
    let ended = |event: &Event| matches!(event, Event::Exit { key, .. } if key.pid == pid);
    watch.until(&mut source, 20, "the lost end", |watch| watch.events.iter().any(ended)).await
}
