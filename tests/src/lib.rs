//! What the live tests share: [`bystander`] holds who must live on; [`command`] runs leakscope as its users do; [`cgroup`]
//! limits their memory; [`judged`] compares a live judgement with a replay; [`soak`] keeps leakscope busy for long; here are
//! obedient processes, and a watch that remembers what a source said.

pub mod bystander;
pub mod cgroup;
pub mod command;
pub mod judged;
pub mod soak;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use leakscope::source::{Batch, Event, Reading, Source};
use leakscope::units::{Pid, ProcKey};

/// A child that does as it is told; killed when dropped.
pub struct Obedient {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Obedient {
    /// Starts the program at `path` (`env!("CARGO_BIN_EXE_obedient")`).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(path: &str) -> Result<Self> {
        let mut child = Command::new(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().context("stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("stdout")?);
        Ok(Self { child, stdin, stdout })
    }

    /// Its pid.
    pub fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    /// Sends a command and does not wait.
    ///
    /// # Errors
    /// When it is gone.
    pub fn tell(&mut self, command: &str) -> Result<()> {
        writeln!(self.stdin, "{command}")?;
        Ok(self.stdin.flush()?)
    }

    /// Waits until the command before was done.
    ///
    /// # Errors
    /// When it is gone, or answers something else.
    pub fn wait_ok(&mut self) -> Result<()> {
        let mut answer = String::new();
        self.stdout.read_line(&mut answer)?;
        ensure!(answer == "ok\n", "pid {} answered {answer:?}", self.pid());
        Ok(())
    }

    /// Sends a command and waits until it was done.
    ///
    /// # Errors
    /// As [`Self::tell`] and [`Self::wait_ok`].
    pub fn obey(&mut self, command: &str) -> Result<()> {
        self.tell(command)?;
        self.wait_ok()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Kills it, with SIGKILL.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill()?)
    }
}

impl Drop for Obedient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process touches besides what it was told to: its own start, stacks of its threads.
pub const SLACK: u64 = 400;

/// The one loss that is no fault: only a kernel with preemptible programs tells of it.
pub const PREEMPTED: &str = "a program was at work on that CPU already";

/// What a source said so far.
#[derive(Default)]
pub struct Watch {
    /// The last reading of each process.
    pub last: BTreeMap<Pid, Reading>,
    /// Every event, in order.
    pub events: Vec<Event>,
    /// Every batch's fault steps, of each process.
    pub faults: BTreeMap<Pid, Vec<leakscope::leak::FaultStep>>,
    /// The last batch.
    pub batch: Option<Batch>,
}

impl Watch {
    /// Takes batches until `enough`, at most `most`.
    ///
    /// # Errors
    /// What the source says, or that it was never enough.
    pub async fn until(
        &mut self,
        source: &mut impl Source,
        most: usize,
        what: &str,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        for _ in 0..most {
            self.next(source).await?;
            if enough(self) {
                return Ok(());
            }
        }
        anyhow::bail!("{most} batches, and still not: {what}")
    }

    /// Takes one batch.
    ///
    /// # Errors
    /// What the source says.
    pub async fn next(&mut self, source: &mut impl Source) -> Result<()> {
        let batch = source.next_batch().await?.context("the source ended")?;
        for reading in &batch.readings {
            self.last.insert(reading.key.pid, reading.clone());
            self.faults.entry(reading.key.pid).or_default().extend(&reading.faults);
        }
        self.events.extend(&batch.events);
        self.batch = Some(batch);
        Ok(())
    }

    /// The first-touch faults last reported of a process; 0 before the first.
    pub fn first_touch(&self, pid: Pid) -> u64 {
        self.last.get(&pid).and_then(|reading| reading.kernel).map_or(0, |kernel| kernel.first_touch_faults)
    }

    /// Events that no program saw, of anybody: where a program can be preempted, it may be at work on a CPU already when
    /// the next one comes. They are told.
    pub fn missed(&self) -> u64 {
        let causes = self.batch.iter().flat_map(|batch| &batch.lost.causes);
        causes.filter(|(cause, _)| cause.starts_with(PREEMPTED)).map(|(_, count)| *count).sum()
    }

    /// Whether as many first touches were counted of a process, but for those that were missed: a few.
    pub fn has_touched(&self, pid: Pid, pages: u64) -> bool {
        self.first_touch(pid) + self.missed().min(pages / 20) >= pages
    }

    /// Panics unless exactly these first touches were counted, but for those of its own start and those that were missed.
    ///
    /// # Panics
    /// See above.
    #[track_caller]
    pub fn assert_touched(&self, pid: Pid, pages: u64) {
        let (counted, missed) = (self.first_touch(pid), self.missed());
        assert!(
            self.has_touched(pid, pages) && counted < pages + SLACK,
            "pid {pid}: {counted} faults, touched {pages} pages, {missed} events missed"
        );
    }

    /// Who a pid is.
    ///
    /// # Errors
    /// When it was never reported.
    pub fn key(&self, pid: Pid) -> Result<ProcKey> {
        Ok(self.last.get(&pid).with_context(|| format!("pid {pid} was never reported"))?.key)
    }
}

/// Ids of the BPF programs that a process holds, from its descriptors.
///
/// # Errors
/// When the process is gone.
pub fn programs_held(pid: Pid) -> Result<Vec<u32>> {
    let mut held = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        held.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    held.sort_unstable();
    held.dedup();
    Ok(held)
}
