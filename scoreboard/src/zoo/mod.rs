//! The same question asked of real programs: who was found, who was accused, and when.
//!
//! A recording that `cargo xtask zoo` made is replayed through the same monitor as a live host, once for each of two
//! spans of confirmation. A leak counts as found at the first moment at which it is called one *and* its rate is within
//! a factor of three of the truth. Whatever is said of a process that does not leak is a false alarm, at any moment; also
//! of a child of a leaking program, and of a process that nobody knows. Start reading at [`score`].

mod table;
#[cfg(test)]
mod tests;
mod truth;

pub use truth::{Program, Truth};

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use leakscope::leak::{Rate, State, Thresholds, Verdict};
use leakscope::monitor::{Config, Monitor};
use leakscope::process::Selector;
use leakscope::source::recording::replay;
use leakscope::units::ProcKey;

/// Confirmation of a hunt that asks a person, and of one that has nobody to ask.
const SHORT: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(300);
/// How far off a rate may be at which a leak counts as found.
const NEAR: f64 = 3.0;

/// What is said of a process, the stronger the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It has grown without a break for a while.
    Suspect,
    /// It leaks.
    Leaking,
    /// It leaks, and has for a minute of clean growth.
    Confirmed1m,
    /// It leaks, and has for five minutes of clean growth.
    Confirmed5m,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Suspect, Self::Leaking, Self::Confirmed1m, Self::Confirmed5m];

    /// What tables call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Suspect => "suspect",
            Self::Leaking => "leaking",
            Self::Confirmed1m => "confirmed 1m",
            Self::Confirmed5m => "confirmed 5m",
        }
    }
}

/// What was said of one process.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// When each level was first reached, in seconds from the start of the recording, and with which rate.
    pub reached: [Option<(f64, Option<Rate>)>; 4],
    /// When it was first reached with a rate near the truth; of leaking processes only.
    pub found: [Option<f64>; 4],
    /// Each change of verdict, with five minutes' confirmation.
    pub changes: Vec<(f64, State, bool)>,
    /// The last verdict, with five minutes' confirmation.
    pub last: Option<Verdict>,
    /// When it was first and last seen.
    pub seen: Option<(f64, f64)>,
}

/// What was said of a program.
#[derive(Clone, Debug)]
pub struct Score {
    /// The program.
    pub program: Program,
    /// What was said of the process that it was started as.
    pub said: Said,
    /// Its children, by pid.
    pub children: Vec<(u32, Said)>,
}

/// What was said in a whole recording.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Each program, in the order in which they were started.
    pub programs: Vec<Score>,
    /// Processes of which it is not known which program they belong to: short-lived children.
    pub others: Vec<(u32, Said)>,
    /// How long was recorded.
    pub seconds: f64,
}

/// Found, missed, wrongly accused, rightly left alone: programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leaks that were found.
    pub found: usize,
    /// Leaks that were not.
    pub missed: usize,
    /// Healthy programs that were accused, without those that are ramps.
    pub accused: usize,
    /// Healthy programs that were not.
    pub cleared: usize,
    /// Ramps that were accused.
    pub ramps_accused: usize,
    /// Ramps that were not.
    pub ramps_cleared: usize,
}

/// Judges a recording and compares what is said with what is true.
///
/// # Errors
/// When the recording, or what is true of it, cannot be read to its end.
pub fn score(recording: &Path) -> Result<Scores> {
    let truth = Truth::beside(recording)?;
    let mut said = BTreeMap::new();
    for confirm in [SHORT, LONG] {
        listen(recording, &truth, confirm, &mut said)?;
    }
    let mut programs: Vec<Score> = Vec::new();
    for program in truth.programs {
        let said = said.remove(&key(&program)).unwrap_or_default();
        programs.push(Score { program, said, children: Vec::new() });
    }
    let mut others = Vec::new();
    for (key, said) in said {
        let pid = key.pid.0;
        match programs.iter_mut().find(|score| score.program.children.contains(&pid)) {
            Some(score) => score.children.push((pid, said)),
            None => others.push((pid, said)),
        }
    }
    Ok(Scores { programs, others, seconds: truth.seconds })
}

fn key(program: &Program) -> ProcKey {
    ProcKey {
        pid: leakscope::units::Pid(program.pid),
        start: leakscope::units::Ticks(program.start_time_ticks),
    }
}

/// Replays the recording, and notes what is said after each batch.
fn listen(
    recording: &Path,
    truth: &Truth,
    confirm: Duration,
    said: &mut BTreeMap<ProcKey, Said>,
) -> Result<()> {
    let reading = || format!("reading the recording {}", recording.display());
    let file = BufReader::new(File::open(recording).with_context(reading)?);
    let (_, source, directory) = replay(file).with_context(reading)?;
    let config =
        Config { thresholds: Thresholds { confirm }, selector: Selector::default(), leave_out: None };
    let mut monitor = Monitor::new(source, directory, config);
    let rates: BTreeMap<ProcKey, f64> = truth
        .programs
        .iter()
        .filter_map(|program| Some((key(program), program.rate_bytes_per_s.filter(|_| program.leaking)?)))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("starting a runtime")?;
    while let Some(tick) = runtime.block_on(monitor.step()).with_context(reading)? {
        let at = monitor.elapsed().as_secs_f64();
        for (key, tracked) in monitor.processes() {
            let said = said.entry(key).or_default();
            said.hear(at, tracked.verdict(), confirm, rates.get(&key).copied());
        }
        for change in tick.transitions.iter().filter(|_| confirm == LONG) {
            said.entry(change.key).or_default().changes.push((at, change.to, change.confirmed));
        }
    }
    Ok(())
}

impl Said {
    fn hear(&mut self, at: f64, verdict: &Verdict, confirm: Duration, truth: Option<f64>) {
        let long = confirm == LONG;
        self.seen = Some((self.seen.map_or(at, |(first, _)| first), at));
        for level in Level::ALL {
            let is_reached = match level {
                Level::Suspect => long && verdict.state.severity() >= State::Suspect.severity(),
                Level::Leaking => long && verdict.state == State::Leaking,
                Level::Confirmed1m => !long && verdict.confirmed,
                Level::Confirmed5m => long && verdict.confirmed,
            };
            if !is_reached {
                continue;
            }
            let index = level as usize;
            self.reached[index].get_or_insert((at, verdict.rate));
            if let (Some(truth), Some(rate)) = (truth, verdict.rate)
                && (truth / NEAR..=truth * NEAR).contains(&rate.mean.0)
            {
                self.found[index].get_or_insert(at);
            }
        }
        if long {
            self.last = Some(verdict.clone());
        }
    }

    /// Whether that much was ever said.
    pub const fn reached(&self, level: Level) -> bool {
        self.reached[level as usize].is_some()
    }
}

impl Score {
    /// Whether the leak was found at that level.
    pub const fn found(&self, level: Level) -> bool {
        self.said.found[level as usize].is_some()
    }

    /// Whether a process of the program that does not leak was accused at that level.
    pub fn accused(&self, level: Level) -> bool {
        let own = !self.program.leaking && self.said.reached(level);
        own || self.children.iter().any(|(_, said)| said.reached(level))
    }
}

impl Scores {
    /// How many programs were found and accused at a level.
    pub fn counts(&self, level: Level) -> Counts {
        let mut counts = Counts::default();
        // Of whom nothing was recorded, nothing was said.
        for score in self.programs.iter().filter(|score| score.said.seen.is_some()) {
            let accused = score.accused(level);
            let Program { leaking, ramp, .. } = &score.program;
            let cell = match (leaking, ramp.is_some()) {
                (true, _) if score.found(level) => &mut counts.found,
                (true, _) => &mut counts.missed,
                (false, true) if accused => &mut counts.ramps_accused,
                (false, true) => &mut counts.ramps_cleared,
                (false, false) if accused => &mut counts.accused,
                (false, false) => &mut counts.cleared,
            };
            *cell += 1;
        }
        counts
    }

    /// Everybody who was wrongly accused at a level, ramps left out: the program's name, or the pid of a child.
    pub fn false_alarms(&self, level: Level) -> Vec<String> {
        let mut names = Vec::new();
        for score in self.programs.iter().filter(|score| score.program.ramp.is_none()) {
            if !score.program.leaking && score.said.reached(level) {
                names.push(score.program.name.clone());
            }
            let children = score.children.iter().filter(|(_, said)| said.reached(level));
            names.extend(children.map(|(pid, _)| format!("{} (child {pid})", score.program.name)));
        }
        let others = self.others.iter().filter(|(_, said)| said.reached(level));
        names.extend(others.map(|(pid, _)| format!("pid {pid}")));
        names
    }

    /// The leaks that were not found at a level.
    pub fn misses(&self, level: Level) -> Vec<String> {
        let missed = self.programs.iter().filter(|score| score.program.leaking && !score.found(level));
        missed.map(|score| score.program.name.clone()).collect()
    }

    /// How many of the leaks that are still seen to grow at the end have the truth in the 95 % interval of their rate,
    /// and how many that are.
    pub fn coverage(&self) -> (usize, usize) {
        let mut covered = (0, 0);
        for score in &self.programs {
            let truth = score.program.rate_bytes_per_s.filter(|_| score.program.leaking);
            let rate = score.said.last.as_ref().and_then(|verdict| verdict.rate);
            if let Some((truth, rate)) = truth.zip(rate) {
                covered.1 += 1;
                covered.0 += usize::from((rate.low.0..=rate.high.0).contains(&truth));
            }
        }
        covered
    }

    /// Minutes for which healthy programs were watched, by the process that each was started as.
    pub fn healthy_minutes(&self) -> f64 {
        let healthy = self.programs.iter().filter(|score| !score.program.leaking);
        healthy.filter_map(|score| score.said.seen).map(|(first, last)| (last - first) / crate::MINUTE).sum()
    }
}
