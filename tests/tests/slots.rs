//! Processes whose pids have the same low bits would have their counts in the same place (docs/decisions/0005): they are
//! counted apart all the same. Hosts that give out four million pids have such processes all the time. Needs root.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leakscope::source::{KernelOptions, KernelSource};
use leakscope::units::Pid;
use leakscope_tests::command::require_root;
use leakscope_tests::{Obedient, PREEMPTED, Watch};

/// `SLOTS` of leakscope-common.
const PLACES: u32 = 32_768;
/// Batches to wait for what must come: twenty seconds.
const PATIENCE: usize = 200;
const PID_MAX: &str = "/proc/sys/kernel/pid_max";

/// More pids than there are places, until this goes.
struct ManyPids {
    before: u32,
    now: u32,
}

impl ManyPids {
    fn new() -> Result<Self> {
        let before: u32 = fs::read_to_string(PID_MAX)?.trim().parse()?;
        let now = before.max(4 * PLACES);
        fs::write(PID_MAX, now.to_string()).with_context(|| format!("raising {PID_MAX}"))?;
        Ok(Self { before, now })
    }
}

impl Drop for ManyPids {
    fn drop(&mut self) {
        if self.before < self.now {
            // The next pid is a small one again, as those of a host with fewer are.
            let _ = fs::write("/proc/sys/kernel/ns_last_pid", "1000");
            let _ = fs::write(PID_MAX, self.before.to_string());
        }
    }
}

/// Starts a process of this pid; others of the host may be faster.
fn start_as(pid: u32) -> Result<Obedient> {
    for _ in 0..50 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).context("choosing the next pid")?;
        let process = Obedient::start(env!("CARGO_BIN_EXE_obedient"))?;
        if process.pid() == Pid(pid) {
            return Ok(process);
        }
    }
    anyhow::bail!("pid {pid} was never to be had")
}

/// Waits until as many first touches were counted of each of them, and looks that there are no more.
async fn count(source: &mut KernelSource, watch: &mut Watch, touched: &[(Pid, u64)]) -> Result<()> {
    let all = |watch: &Watch| touched.iter().all(|(pid, pages)| watch.has_touched(*pid, *pages));
    watch.until(source, PATIENCE, &format!("{touched:?}"), all).await?;
    touched.iter().for_each(|(pid, pages)| watch.assert_touched(*pid, *pages));
    Ok(())
}

#[tokio::test]
async fn processes_that_would_have_the_same_place_are_counted_apart() -> Result<()> {
    require_root();
    let many = ManyPids::new()?;
    let options = KernelOptions { period: Duration::from_millis(100), ..KernelOptions::default() };
    let mut source = KernelSource::open(&options).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut watch = Watch::default();
    watch.next(&mut source).await?;
    let mut first = Obedient::start(env!("CARGO_BIN_EXE_obedient"))?;
    ensure!(first.pid().0 + 2 * PLACES < many.now, "pid {} leaves no room for two more", first.pid());
    let mut second = start_as(first.pid().0 + PLACES)?;
    let (one, other) = (first.pid(), second.pid());
    for _ in 0..5 {
        first.tell("touch 1000")?;
        second.tell("threads 4 500")?;
        first.wait_ok()?;
        second.wait_ok()?;
    }
    count(&mut source, &mut watch, &[(one, 5000), (other, 10_000)]).await?;
    // The place becomes free, and its neighbour goes on as it was; who comes next has it.
    first.kill()?;
    first.wait()?;
    let mut third = start_as(other.0 + PLACES)?;
    let next = third.pid();
    second.tell("touch 3000")?;
    third.obey("touch 2000")?;
    second.wait_ok()?;
    count(&mut source, &mut watch, &[(other, 13_000), (next, 2000)]).await?;
    // An end in the other order: the one that has no place of its own goes first.
    second.kill()?;
    second.wait()?;
    third.obey("threads 4 1000")?;
    count(&mut source, &mut watch, &[(next, 6000)]).await?;
    let lost = watch.batch.context("a batch")?.lost.causes;
    assert!(lost.iter().all(|(cause, _)| cause.starts_with(PREEMPTED)), "{lost:?}");
    Ok(())
}
