//! leakscope for as long as one likes while processes come and go: whether it grows itself, and finds whoever leaks.
//!
//! 200 processes begin and end each second, and among them every few seconds one that leaks begins. What the watch holds
//! is read from outside. Beside it a source without room loses events all the time ([`cramped`]); on request the clock of
//! the day jumps ([`clock`]). Start reading at [`run`].

pub mod clock;
pub mod cramped;
mod growth;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leakscope::units::Pid;
use serde_json::Value;

use self::clock::JumpingClock;
use self::cramped::{Beside, Losses};
use self::growth::{growth, settled, tenths};
use crate::command::{leakscope, pause};
use crate::{Obedient, programs_held};

/// How often processes are begun, and how many then: 200 a second.
const BEAT: Duration = Duration::from_millis(100);
const BORN: &str = "churn 20";
/// What a leaker takes with each beat: about 250 kB a second.
const LEAKS: &str = "touch 6";
/// Beats from leaker to leaker, and in a leaker's life: there are three or four at a time.
const NEXT_LEAKER: usize = 80;
const LEAKER_LIVES: usize = 300;
/// How long a leaker must have lived to be found for certain: a suspicion takes six seconds of clean growth.
const LONG_ENOUGH: usize = 200;
/// Beats from one jump of the clock to the next, and for how long it is wrong: not for long, others use it as well.
const NEXT_JUMP: usize = 150;
const CLOCK_IS_WRONG: usize = 20;
/// The longest that a line a second may be waited for: the machine may be busy, an hour's jump is far from this.
const PATIENCE: Duration = Duration::from_secs(15);
/// Files that may be open at a time: three of each of a hundred processes, and what is read once in a while.
const FILES: usize = 3 * 100 + 20;

/// What the soak is to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long processes come and go.
    pub span: Duration,
    /// Whether the host's clock of the day is set back an hour and forward again, every quarter of a minute.
    pub jump_clocks: bool,
}

/// What leakscope said, as far as this test asks.
#[derive(Debug, Default)]
struct Said {
    suspected: BTreeSet<u32>,
    lines: usize,
    longest_silence: Duration,
    lost_events: u64,
    adds_up: bool,
}

/// What a process holds open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Descriptors {
    /// Files: those of processes that change stay open.
    pub files: usize,
    /// All else: programs, links, maps, pipes.
    pub others: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How long processes came and went.
    pub span: Duration,
    /// Resident bytes of leakscope, at each second.
    pub rss: Vec<f64>,
    /// Resident bytes of this process, at each second: it has the source without room, and little else.
    pub own_rss: Vec<f64>,
    /// Its open descriptors at each second.
    pub descriptors: Vec<Descriptors>,
    /// The same before the first leaker, and after the last one.
    pub idle_descriptors: (usize, usize),
    /// Leakers that lived long enough, and those of them that were found.
    pub leakers: (usize, usize),
    /// Lines that it printed.
    pub lines: usize,
    /// The longest time between two of them.
    pub longest_silence: Duration,
    /// Events that it said were lost, and whether its causes came to the same in each line, never fewer than before.
    pub lost: (u64, bool),
    /// What the source without room lost.
    pub cramped: Losses,
    /// Processes that came and went.
    pub churned: usize,
    /// How often the clock was set, and by how many nanoseconds it was off afterwards.
    pub clock: Option<(u32, i128)>,
}

impl Outcome {
    /// Bytes by which leakscope's memory grew from the warm-up to the end.
    pub fn growth(&self) -> f64 {
        growth(settled(&self.rss))
    }

    /// The most descriptors that are no files, in the first third after the warm-up and in the last: in both there
    /// is a suspect for a while, and with it what traces its calls.
    pub fn busy_descriptors(&self) -> (usize, usize) {
        let settled = settled(&self.descriptors);
        let third = settled.len() / 3;
        let most =
            |part: Option<&[Descriptors]>| part.unwrap_or_default().iter().map(|held| held.others).max();
        (most(settled.get(..third)).unwrap_or(0), most(settled.get(settled.len() - third..)).unwrap_or(0))
    }

    /// The most files that were open at a time.
    pub fn most_files(&self) -> usize {
        self.descriptors.iter().map(|held| held.files).max().unwrap_or(0)
    }

    /// Fails with all that was not as it should be.
    ///
    /// # Errors
    /// When leakscope grew, kept descriptors, fell silent, missed a leaker, or did not count its losses.
    pub fn judge(&self) -> Result<()> {
        /// The allocator's own to and fro; over a longer run a leak of leakscope's outgrows it.
        const ALLOWED: f64 = 3e6;
        let mut wrong = Vec::new();
        for (whose, rss) in [("resident memory", &self.rss), ("the source without room", &self.own_rss)] {
            let growth = growth(settled(rss));
            if growth > ALLOWED {
                wrong.push(format!("{whose} grew by {:.1} MB", growth / 1e6));
            }
        }
        let (first, last) = self.busy_descriptors();
        if last > first {
            wrong.push(format!("{first} descriptors became {last} while it had suspects"));
        }
        if self.most_files() > FILES {
            wrong.push(format!("{} files were open, more than {FILES}", self.most_files()));
        }
        // Somebody else on this host may be a suspect in the end; then they are no more than before with one.
        let (before, after) = self.idle_descriptors;
        if after > before && after > first {
            wrong.push(format!("{before} descriptors became {after}"));
        }
        if self.longest_silence > PATIENCE {
            wrong.push(format!("nothing was printed for {:.0} s", self.longest_silence.as_secs_f64()));
        }
        if self.leakers.0 == 0 || self.leakers.0 != self.leakers.1 {
            wrong.push(format!("{} of {} leakers were found", self.leakers.1, self.leakers.0));
        }
        if !self.lost.1 {
            wrong.push("the causes of losses do not come to their number, or it fell".to_owned());
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settled = settled(&self.rss);
        let (least, most) = settled.iter().fold((f64::INFINITY, 0.0_f64), |(l, m), v| (l.min(*v), m.max(*v)));
        let seconds = self.span.as_secs_f64();
        write!(
            f,
            "{seconds:.0} s, {} processes came and went, {:.0} a second; resident memory {:.1} to {:.1} MB after the \
             warm-up, growth {:+.2} MB (by tenths of the run:{}); {} descriptors before the first leaker, {} and then {} among \
             them, {} after the last, beside at most {} files; {} of {} leakers found; {} lines, the longest silence {:.1} s, {} events lost; without room: {} lost, told as counted in {} \
             batches, growth {:+.2} MB",
            self.churned,
            self.churned as f64 / seconds,
            least / 1e6,
            most / 1e6,
            self.growth() / 1e6,
            tenths(&self.rss),
            self.idle_descriptors.0,
            self.busy_descriptors().0,
            self.busy_descriptors().1,
            self.idle_descriptors.1,
            self.most_files(),
            self.leakers.1,
            self.leakers.0,
            self.lines,
            self.longest_silence.as_secs_f64(),
            self.lost.0,
            self.cramped.lost,
            self.cramped.batches,
            growth(growth::settled(&self.own_rss)) / 1e6,
        )?;
        self.clock.map_or(Ok(()), |(steps, off)| {
            write!(f, "; the clock was set {steps} times, and is off by {off} ns")
        })
    }
}

struct Watched(Child);

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Watched {
    fn start() -> Result<(Self, ChildStdout)> {
        let mut command = leakscope();
        // The fastest growing first: whoever is suspected is among them.
        command.args(["watch", "--json", "--interval", "1s", "--source", "ebpf", "--limit", "60"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("standard output is a pipe")?;
        Ok((Self(child), stdout))
    }

    fn resident(&self) -> Result<f64> {
        resident(self.0.id())
    }

    fn descriptors(&self) -> Result<Descriptors> {
        let mut held = Descriptors::default();
        for entry in std::fs::read_dir(format!("/proc/{}/fd", self.0.id()))? {
            // One that was closed in between is no longer held.
            let Ok(target) = std::fs::read_link(entry?.path()) else { continue };
            if target.starts_with("/") { held.files += 1 } else { held.others += 1 }
        }
        Ok(held)
    }
}

/// Watches with the programs at `obedient` (`env!("CARGO_BIN_EXE_obedient")`).
///
/// # Errors
/// When something could not be started, leakscope ended, told and counted losses differ, or the clock cannot be set.
pub fn run(obedient: &Path, options: &Options) -> Result<Outcome> {
    let obedient = obedient.to_str().context("a path in UTF-8")?;
    // First, so that its guard holds nothing of what comes.
    let mut clock = options.jump_clocks.then(JumpingClock::open).transpose()?;
    let (watched, stdout) = Watched::start()?;
    let said = Arc::new(Mutex::new(Said { adds_up: true, ..Said::default() }));
    let listener = std::thread::spawn({
        let said = Arc::clone(&said);
        move || listen(stdout, &said)
    });
    wait("its first line", || Ok(lock(&said).lines > 0))?;
    ensure!(!programs_held(Pid(watched.0.id()))?.is_empty(), "it watches without the kernel side");
    let mut outcome = Outcome::default();
    let before = wait_for_descriptors(&watched, None)?;
    let cramped = Beside::start()?;
    let beats = usize::try_from(options.span.as_millis() / BEAT.as_millis())?;
    let mut keeper = Obedient::start(obedient)?;
    let mut leakers: BTreeMap<u32, (Obedient, usize)> = BTreeMap::new();
    let mut old_enough = BTreeSet::new();
    let began = now();
    for beat in 0..beats {
        keeper.obey(BORN)?;
        outcome.churned += 20;
        if beat % NEXT_LEAKER == 0 && beat + LONG_ENOUGH < beats {
            let leaker = Obedient::start(obedient)?;
            leakers.insert(leaker.pid().0, (leaker, beat));
        }
        for (pid, (leaker, born)) in &mut leakers {
            leaker.obey(LEAKS)?;
            if beat - *born >= LONG_ENOUGH {
                old_enough.insert(*pid);
            }
        }
        leakers.retain(|_, (_, born)| beat - *born < LEAKER_LIVES);
        if beat % 10 == 0 {
            outcome.rss.push(watched.resident()?);
            outcome.descriptors.push(watched.descriptors()?);
            outcome.own_rss.push(resident(std::process::id())?);
        }
        if let Some(clock) = &mut clock
            && matches!(beat % NEXT_JUMP, at if at == NEXT_JUMP - CLOCK_IS_WRONG || (at == 0 && beat > 0))
        {
            clock.jump()?;
        }
        // What a beat took is no part of the time to the next; who is late does not catch up at once.
        let next = BEAT * u32::try_from(beat + 1)?;
        pause(next.saturating_sub(now() - began).max(BEAT / 10));
    }
    outcome.span = now() - began;
    outcome.clock = clock.map(JumpingClock::restore).transpose()?;
    drop((leakers, keeper));
    outcome.cramped = cramped.end()?;
    let after = wait_for_descriptors(&watched, Some(before))?;
    outcome.idle_descriptors = (before, after);
    drop(watched);
    listener.join().map_err(|_| anyhow::anyhow!("what leakscope printed could not be read"))??;
    let said = lock(&said);
    outcome.leakers = (old_enough.len(), old_enough.intersection(&said.suspected).count());
    outcome.lines = said.lines;
    outcome.longest_silence = said.longest_silence;
    outcome.lost = (said.lost_events, said.adds_up);
    Ok(outcome)
}

/// On a clock that nobody sets.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(time).unwrap_or_default()
}

fn resident(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    Ok(kib.with_context(|| format!("pid {pid} has ended"))?.parse::<f64>()? * 1024.0)
}

fn lock(said: &Mutex<Said>) -> std::sync::MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(stdout: ChildStdout, said: &Mutex<Said>) -> Result<()> {
    let mut heard = now();
    let mut silence = |said: &mut Said| {
        let silent = now() - std::mem::replace(&mut heard, now());
        said.longest_silence = said.longest_silence.max(silent);
    };
    for line in BufReader::new(stdout).lines() {
        // The last line may be cut off where leakscope was killed.
        let Ok(line) = serde_json::from_str::<Value>(&line?) else { continue };
        let mut said = lock(said);
        said.lines += 1;
        silence(&mut said);
        let before = said.lost_events;
        said.lost_events = line["lost_events"].as_u64().context("lost_events")?;
        let causes = line["lost"].as_array().context("lost")?;
        let sum: u64 = causes.iter().filter_map(|cause| cause["count"].as_u64()).sum();
        said.adds_up &= sum == said.lost_events && sum >= before;
        let suspects = line["processes"].as_array().into_iter().flatten();
        let suspects =
            suspects.filter(|process| matches!(process["verdict"].as_str(), Some("suspect" | "leaking")));
        said.suspected.extend(suspects.filter_map(|process| u32::try_from(process["pid"].as_u64()?).ok()));
    }
    // One that fell silent was waited for until it was ended.
    silence(&mut lock(said));
    Ok(())
}

/// What traces the calls of a suspect, who may be anybody on this host, are descriptors for a while: the number that
/// is looked for is the least within a minute, or `wanted`.
fn wait_for_descriptors(watched: &Watched, wanted: Option<usize>) -> Result<usize> {
    const SECONDS: usize = 60;
    let mut least = watched.descriptors()?.others;
    for second in 0..SECONDS {
        if wanted.map_or(second >= 3, |wanted| least <= wanted) {
            break;
        }
        pause(Duration::from_secs(1));
        least = least.min(watched.descriptors()?.others);
    }
    Ok(least)
}

fn wait(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..600 {
        if done()? {
            return Ok(());
        }
        pause(Duration::from_millis(100));
    }
    anyhow::bail!("waited for a minute in vain: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_as_it_should_be_is_named() {
        let good = Outcome {
            rss: vec![8e6; 60],
            idle_descriptors: (40, 40),
            descriptors: vec![Descriptors { files: 300, others: 50 }; 60],
            leakers: (3, 3),
            lost: (0, true),
            own_rss: vec![5e6; 60],
            ..Outcome::default()
        };
        good.judge().unwrap();
        let rising = (0..60).map(|n| 8e6 + 2e5 * f64::from(n)).collect();
        let bad = Outcome {
            rss: rising,
            idle_descriptors: (40, 60),
            descriptors: (0..60).map(|n| Descriptors { files: 300 + n, others: n }).collect(),
            leakers: (3, 2),
            lost: (1, false),
            longest_silence: Duration::from_secs(3600),
            ..good
        };
        let said = bad.judge().unwrap_err().to_string();
        for part in [
            "resident memory grew",
            "40 descriptors became 60",
            "while it had suspects",
            "359 files were open",
            "2 of 3 leakers",
            "do not come to",
            "for 3600 s",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}
