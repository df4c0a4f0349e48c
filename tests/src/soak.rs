//! leakscope for as long as one likes while processes come and go: whether it grows itself, and finds whoever leaks.
//!
//! 200 processes begin and end each second, and among them every few seconds one that leaks begins. What the watch holds
//! is read from outside. Start reading at [`run`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leakscope::units::Pid;
use serde_json::Value;

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
/// The first of the run are left out of what is said of its memory: its tables fill.
const WARM_UP: f64 = 0.35;
/// How long a leaker must have lived to be found for certain: a suspicion takes six seconds of clean growth.
const LONG_ENOUGH: usize = 200;

/// What leakscope said, as far as this test asks.
#[derive(Debug, Default)]
struct Said {
    suspected: BTreeSet<u32>,
    lines: usize,
    lost_events: u64,
    adds_up: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Resident bytes of leakscope, at each second.
    pub rss: Vec<f64>,
    /// Its open descriptors before the first leaker, and after the last one.
    pub descriptors: (usize, usize),
    /// Leakers that lived long enough, and those of them that were found.
    pub leakers: (usize, usize),
    /// Lines that it printed.
    pub lines: usize,
    /// Events that it said were lost, and whether its causes came to the same in each line.
    pub lost: (u64, bool),
    /// Processes that came and went.
    pub churned: usize,
}

impl Outcome {
    /// Bytes by which the memory would have grown from the warm-up to the end, by the median of all slopes (Theil and Sen).
    pub fn growth(&self) -> f64 {
        let settled = self.settled();
        median_slope(settled) * settled.len() as f64
    }

    /// The memory after the warm-up.
    pub fn settled(&self) -> &[f64] {
        let skipped = (self.rss.len() as f64 * WARM_UP).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
        self.rss.get(skipped as usize..).unwrap_or_default()
    }

    /// Fails with all that was not as it should be.
    ///
    /// # Errors
    /// When leakscope grew, kept descriptors, missed a leaker, or did not count its losses.
    pub fn judge(&self) -> Result<()> {
        /// The allocator's own to and fro; over a longer run a leak of leakscope's outgrows it.
        const ALLOWED: f64 = 3e6;
        let mut wrong = Vec::new();
        if self.growth() > ALLOWED {
            wrong.push(format!("resident memory grew by {:.1} MB", self.growth() / 1e6));
        }
        if self.descriptors.0 != self.descriptors.1 {
            wrong.push(format!("{} descriptors became {}", self.descriptors.0, self.descriptors.1));
        }
        if self.leakers.0 == 0 || self.leakers.0 != self.leakers.1 {
            wrong.push(format!("{} of {} leakers were found", self.leakers.1, self.leakers.0));
        }
        if !self.lost.1 {
            wrong.push("the causes of losses do not come to their number".to_owned());
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settled = self.settled();
        let (least, most) = settled.iter().fold((f64::INFINITY, 0.0_f64), |(l, m), v| (l.min(*v), m.max(*v)));
        write!(
            f,
            "{} s, {} processes came and went; resident memory {:.1} to {:.1} MB after the warm-up, growth {:+.2} MB; \
             {} descriptors before the first leaker and {} after the last; {} of {} leakers found; {} lines, {} events \
             lost",
            self.rss.len(),
            self.churned,
            least / 1e6,
            most / 1e6,
            self.growth() / 1e6,
            self.descriptors.0,
            self.descriptors.1,
            self.leakers.1,
            self.leakers.0,
            self.lines,
            self.lost.0
        )
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
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Ok(kib.context("leakscope has ended")?.parse::<f64>()? * 1024.0)
    }

    fn descriptors(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.0.id()))?.count())
    }
}

/// Watches for `span` with the programs at `obedient` (`env!("CARGO_BIN_EXE_obedient")`).
///
/// # Errors
/// When something could not be started, or leakscope ended.
pub fn run(obedient: &Path, span: Duration) -> Result<Outcome> {
    let obedient = obedient.to_str().context("a path in UTF-8")?;
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
    let beats = usize::try_from(span.as_millis() / BEAT.as_millis())?;
    let mut keeper = Obedient::start(obedient)?;
    let mut leakers: BTreeMap<u32, (Obedient, usize)> = BTreeMap::new();
    let mut old_enough = BTreeSet::new();
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
        }
        pause(BEAT);
    }
    drop((leakers, keeper));
    let after = wait_for_descriptors(&watched, Some(before))?;
    outcome.descriptors = (before, after);
    drop(watched);
    listener.join().map_err(|_| anyhow::anyhow!("what leakscope printed could not be read"))??;
    let said = lock(&said);
    outcome.leakers = (old_enough.len(), old_enough.intersection(&said.suspected).count());
    outcome.lines = said.lines;
    outcome.lost = (said.lost_events, said.adds_up);
    Ok(outcome)
}

fn lock(said: &Mutex<Said>) -> std::sync::MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(stdout: ChildStdout, said: &Mutex<Said>) -> Result<()> {
    for line in BufReader::new(stdout).lines() {
        // The last line may be cut off where leakscope was killed.
        let Ok(line) = serde_json::from_str::<Value>(&line?) else { continue };
        let mut said = lock(said);
        said.lines += 1;
        said.lost_events = line["lost_events"].as_u64().context("lost_events")?;
        let causes = line["lost"].as_array().context("lost")?;
        let sum: u64 = causes.iter().filter_map(|cause| cause["count"].as_u64()).sum();
        said.adds_up &= sum == said.lost_events;
        let suspects = line["processes"].as_array().into_iter().flatten();
        let suspects =
            suspects.filter(|process| matches!(process["verdict"].as_str(), Some("suspect" | "leaking")));
        said.suspected.extend(suspects.filter_map(|process| u32::try_from(process["pid"].as_u64()?).ok()));
    }
    Ok(())
}

/// The syscall tracepoints of a suspect, which may be anybody on this host, are descriptors for a while: the number that
/// is looked for is the least within a minute, or `wanted`.
fn wait_for_descriptors(watched: &Watched, wanted: Option<usize>) -> Result<usize> {
    const SECONDS: usize = 60;
    let mut least = watched.descriptors()?;
    for second in 0..SECONDS {
        if wanted.map_or(second >= 3, |wanted| least <= wanted) {
            break;
        }
        pause(Duration::from_secs(1));
        least = least.min(watched.descriptors()?);
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

/// The median of the slopes between all pairs, for each step; 0 of fewer than two values. Long series are thinned out.
fn median_slope(values: &[f64]) -> f64 {
    const ENOUGH: usize = 400;
    let step = values.len().div_ceil(ENOUGH).max(1);
    let points: Vec<(f64, f64)> =
        values.iter().enumerate().step_by(step).map(|(at, value)| (at as f64, *value)).collect();
    let pairs =
        points.iter().enumerate().flat_map(|(n, one)| points[n + 1..].iter().map(move |other| (one, other)));
    let mut slopes: Vec<f64> = pairs.map(|(one, other)| (other.1 - one.1) / (other.0 - one.0)).collect();
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_leap_is_no_growth_and_a_steady_rise_is() {
        let mut leap = vec![10e6; 60];
        leap[50] = 40e6;
        assert_eq!(median_slope(&leap), 0.0);
        let rise: Vec<f64> = (0..1000).map(|n| f64::from(n) * 1e5).collect();
        assert!((median_slope(&rise) - 1e5).abs() < 1.0);
        assert_eq!(median_slope(&[]), 0.0);
    }

    #[test]
    fn whatever_is_not_as_it_should_be_is_named() {
        let good = Outcome {
            rss: vec![8e6; 60],
            descriptors: (40, 40),
            leakers: (3, 3),
            lost: (0, true),
            ..Outcome::default()
        };
        good.judge().unwrap();
        let rising = (0..60).map(|n| 8e6 + 2e5 * f64::from(n)).collect();
        let bad = Outcome { rss: rising, descriptors: (40, 60), leakers: (3, 2), lost: (1, false), ..good };
        let said = bad.judge().unwrap_err().to_string();
        for part in ["resident memory grew", "40 descriptors became 60", "2 of 3 leakers", "do not come to"] {
            assert!(said.contains(part), "{said}");
        }
    }
}
