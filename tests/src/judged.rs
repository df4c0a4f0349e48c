//! What is thought of a host, live while it is recorded and again from the recording: to be compared.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use leakscope::commands::Interrupt;
use leakscope::commands::journal::Journal;
use leakscope::commands::record;
use leakscope::leak::Thresholds;
use leakscope::monitor::{Config, Monitor};
use leakscope::process::{LiveDirectory, ProcRoot, Selector};
use leakscope::report::{SeriesReport, TransitionLine};
use leakscope::source::recording::{self, Terms, Written, replay};
use leakscope::source::{Live, OpenOptions, Paced, Wanted};
use leakscope::ui::{Ui, Verbosity};
use leakscope::units::{Pid, Ticks};

/// A process: its pid and start time.
pub type Key = (Option<Pid>, Option<Ticks>);

/// What was thought of each process; one that called exec has the parts of all its programs.
pub type Told = BTreeMap<Key, Vec<SeriesReport>>;

/// How many samples there were, and each change of the verdict.
pub type Said<'a> = (u64, &'a [TransitionLine]);

/// What a replay must say as well.
pub fn said(told: &Told) -> BTreeMap<&Key, Vec<Said<'_>>> {
    told.iter()
        .map(|(key, series)| (key, series.iter().map(|s| (s.samples, &*s.transitions)).collect()))
        .collect()
}

fn by_process(series: Vec<SeriesReport>) -> Told {
    let mut told = Told::new();
    for series in series {
        told.entry((series.pid, series.start_time_ticks)).or_default().push(series);
    }
    told
}

/// Records the whole host to a new file for `span`, a sample each `every`, with a monitor that remembers what it thought.
///
/// # Errors
/// When the host cannot be observed, or the file cannot be written.
pub async fn recorded(
    path: &Path,
    wanted: Wanted,
    every: Duration,
    thresholds: Thresholds,
    span: Duration,
) -> Result<(Told, Written)> {
    let options = OpenOptions { wanted, paced: Some(every), ..OpenOptions::default() };
    let source = Paced::new(Live::open(&options)?.source, every);
    let directory = LiveDirectory::new(ProcRoot::default(), Vec::new());
    let out = Box::new(recording::create(path)?);
    let (source, directory, recorder) = recording::record(source, directory, Terms::default(), out)?;
    let config = Config { thresholds, selector: Selector::default(), leave_out: None };
    let mut monitor = Monitor::new(source, directory, config);
    let mut journal = Journal::new("live".to_owned());
    let options = record::Options { interval: Duration::from_secs(1), duration: Some(span) };
    let mut ui = Ui::new(Verbosity::Quiet, Some(false));
    let mut note = |monitor: &mut _, tick| journal.note(monitor, tick);
    let mut interrupt = Interrupt::new()?;
    let written = record::run(&mut monitor, &recorder, options, &mut interrupt, &mut ui, &mut note).await?;
    Ok((by_process(journal.finish(&mut monitor).series), written))
}

/// What a monitor thinks of a recording, and how many batches it saw.
///
/// # Errors
/// When it is no recording, or is damaged.
pub async fn replayed(input: impl Read, thresholds: Thresholds) -> Result<(Told, usize)> {
    let (_, source, directory) = replay(input).context("reading the recording")?;
    let config = Config { thresholds, selector: Selector::default(), leave_out: None };
    let mut monitor = Monitor::new(source, directory, config);
    let mut journal = Journal::new("replay".to_owned());
    let mut batches = 0;
    while let Some(tick) = monitor.step().await? {
        journal.note(&mut monitor, tick);
        batches += 1;
    }
    Ok((by_process(journal.finish(&mut monitor).series), batches))
}
