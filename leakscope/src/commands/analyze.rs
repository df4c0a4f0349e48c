//! `leakscope analyze` and `leakscope replay`: judges what was recorded, by leakscope or by somebody else.
//!
//! A recording goes through the same [`Monitor`] as a live host; a foreign series, which has no events and shares no
//! clock with its neighbours, through a detector of its own (`Foreign`). Both end in an [`Analysis`]. What is reported and left
//! out never stops what can be judged. Start reading at [`Analyst`].

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;

use super::foreign::Foreign;
use super::journal::Journal;
use crate::fault::Remedy;
use crate::leak::Thresholds;
use crate::monitor::{Config, Monitor};
use crate::process::Selector;
use crate::report::{Analysis, HostVerdict, SeriesReport, ServiceReport};
use crate::source::Source;
use crate::source::recording::{FileError, MAGIC, ReplayDirectory, replay};
use crate::source::series::{self, Query, SeriesError};
use crate::ui::Ui;

/// Judges files and answers, one after the other.
pub struct Analyst {
    thresholds: Thresholds,
    series: Vec<SeriesReport>,
    services: Vec<ServiceReport>,
    ignored: u64,
    left_out: u64,
}

impl Analyst {
    /// An analyst that has seen nothing.
    pub fn new(confirm: Duration) -> Self {
        Self {
            thresholds: Thresholds { confirm },
            series: Vec::new(),
            services: Vec::new(),
            ignored: 0,
            left_out: 0,
        }
    }

    /// Judges a file, whatever it is.
    ///
    /// # Errors
    /// As [`Self::input`], and when it cannot be opened.
    pub async fn file(&mut self, path: &Path, ui: &mut Ui) -> anyhow::Result<()> {
        self.input(open(path)?, &path.display().to_string(), ui).await
    }

    /// Judges what is called `name`, whatever it is.
    ///
    /// # Errors
    /// When nothing in it can be judged, or only what comes before a fault: that much is judged all the same.
    pub async fn input(&mut self, mut input: impl BufRead, name: &str, ui: &mut Ui) -> anyhow::Result<()> {
        let reading = || format!("reading {name}");
        let head = input.fill_buf().with_context(reading)?;
        // Longer than a pipe's first write is not needed: the first byte of a recording is no text.
        if head.first() == MAGIC.first() {
            return self.recording_from(input, name, ui).await;
        }
        let mut foreign = Foreign::new(self.thresholds, name, ui);
        let read = series::read(&mut input, &mut foreign);
        let judged = foreign.finish();
        let Err(error) = read else {
            return self.take_foreign(judged, name, "give a file that holds samples");
        };
        self.series.extend(judged.0);
        self.ignored += judged.1;
        let fix = error.fix();
        Err(error).with_context(reading).fix(fix)
    }

    /// Judges a recording.
    ///
    /// # Errors
    /// When it is none, or nothing in it can be judged.
    pub async fn recording(&mut self, path: &Path, ui: &mut Ui) -> anyhow::Result<()> {
        self.recording_from(open(path)?, &path.display().to_string(), ui).await
    }

    async fn recording_from<R: Read>(&mut self, input: R, name: &str, ui: &mut Ui) -> anyhow::Result<()> {
        let reading = || format!("reading the recording {name}");
        let (start, source, directory) = replay(input)
            .map_err(|error| (fix(&error), error))
            .or_else(|(fix, error)| Err(error).with_context(reading).fix(fix))?;
        ui.say_verbose(&format!(
            "{}: made by leakscope {} on {}, Linux {}",
            name, start.version, start.hostname, start.kernel
        ));
        let config = Config { thresholds: self.thresholds, selector: Selector::default(), leave_out: None };
        let mut monitor = Monitor::new(source, directory, config);
        let mut journal = Journal::new(name.to_owned());
        let ended = loop {
            match monitor.step().await {
                Ok(Some(tick)) => journal.note(&mut monitor, tick),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if monitor.now().is_none() {
            let error = ended.err().unwrap_or_else(|| FileError::Cut.into());
            let fix = error.downcast_ref().map_or("copy the file again from where it was made", fix);
            return Err(error).with_context(reading).fix(fix);
        }
        if let Err(error) = ended {
            ui.say(&format!("warning: {}: {error:#}; everything before it was judged", name));
        }
        if let Some(torn) = monitor.directory().torn() {
            ui.say(&format!("warning: {}: {torn}", name));
        }
        self.told_lost(&monitor, name, ui);
        let closed = journal.finish(&mut monitor);
        self.series.extend(closed.series);
        self.services.extend(closed.services);
        self.left_out += closed.left_out;
        Ok(())
    }

    fn told_lost<S: Source>(&self, monitor: &Monitor<S, ReplayDirectory>, name: &str, ui: &mut Ui) {
        let lost = monitor.lost();
        if lost.total() > 0 {
            let causes: Vec<String> =
                lost.causes.iter().map(|(cause, count)| format!("{cause}: {count}")).collect();
            ui.say(&format!("{}: events were lost when it was made ({})", name, causes.join(", ")));
        }
    }

    /// Asks a Prometheus server as of `now` and judges its answer.
    ///
    /// # Errors
    /// When there is no answer, or nothing in it can be judged.
    pub fn prometheus(&mut self, query: &Query, now: Timestamp, ui: &mut Ui) -> anyhow::Result<()> {
        const FIX: &str = "try the query in Prometheus' own expression browser: it must give series of bytes over \
                           the whole --range";
        let url = query.url(now);
        let mut answer = Head { input: series::fetch(&url, query.timeout)?, head: Vec::new() };
        let mut foreign = Foreign::new(self.thresholds, &url, ui);
        let read = series::read_answer(&mut answer, &mut foreign);
        let judged = foreign.finish();
        let Err(error) = read else { return self.take_foreign(judged, &url, FIX) };
        self.series.extend(judged.0);
        self.ignored += judged.1;
        if let SeriesError::Io(error) = error {
            return Err(error)
                .with_context(|| format!("reading the answer of {url}: it is not whole"))
                .fix("give the server longer (--timeout), or ask it for less (--range, --step)");
        }
        let head = String::from_utf8_lossy(&answer.head);
        Err(error).with_context(|| format!("asking {url}: it answered {}", head.trim())).fix(FIX)
    }

    fn take_foreign(
        &mut self,
        judged: (Vec<SeriesReport>, u64),
        name: &str,
        fix: &str,
    ) -> anyhow::Result<()> {
        let (series, ignored) = judged;
        self.ignored += ignored;
        if series.is_empty() {
            let why = match ignored {
                0 => "it holds no sample".to_owned(),
                _ => format!("none of its {ignored} samples makes sense"),
            };
            return Err(anyhow::anyhow!("judging {name}: {why}")).fix(fix);
        }
        self.series.extend(series);
        Ok(())
    }

    /// What came of it.
    pub fn finish(self) -> Analysis {
        let leak =
            self.series.iter().any(SeriesReport::leaks) || self.services.iter().any(ServiceReport::leaks);
        Analysis {
            verdict: if leak { HostVerdict::Leak } else { HostVerdict::Clean },
            series: self.series,
            services: self.services,
            ignored: self.ignored,
            left_out: self.left_out,
        }
    }
}

/// Passes an answer on and keeps how it begins, for a message.
struct Head<R> {
    input: R,
    head: Vec<u8>,
}

impl<R: Read> Read for Head<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        const KEPT: usize = 200;
        let count = self.input.read(buffer)?;
        let room = KEPT.saturating_sub(self.head.len());
        self.head.extend(&buffer[..count.min(room)]);
        Ok(count)
    }
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    let file = File::open(path)
        .with_context(|| format!("reading {}", path.display()))
        .fix("check the path and its permissions")?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

const fn fix(error: &FileError) -> &'static str {
    match error {
        FileError::Foreign => {
            "give a file that `leakscope record` made; other formats are for `leakscope analyze`"
        }
        FileError::Cut => "record again: a recording holds something after the first few seconds",
        FileError::Newer(_) => "update leakscope, or judge it with the leakscope that made it",
        FileError::Senseless(_) | FileError::Io(_) => "copy the file again from where it was made",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Verbosity;

    /// What the fuzz targets begin with, and what once brought one down: `fuzz/seeds/TARGET/FILE`.
    #[test]
    fn every_seed_of_the_fuzz_targets_is_judged_or_refused_with_its_name_and_a_remedy() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut judged = 0;
        for target in std::fs::read_dir(seeds).unwrap() {
            for seed in std::fs::read_dir(target.unwrap().path()).unwrap() {
                let path = seed.unwrap().path();
                let mut ui = Ui::new(Verbosity::Quiet, Some(false));
                let mut analyst = Analyst::new(Duration::from_secs(5));
                match runtime.block_on(analyst.file(&path, &mut ui)) {
                    Ok(()) => judged += 1,
                    Err(error) => {
                        let text = crate::fault::render(&error);
                        let name = path.file_name().unwrap().to_string_lossy().into_owned();
                        assert!(text.contains(&name) && text.contains("fix: "), "{text}");
                    }
                }
                assert!(analyst.finish().to_json().unwrap().contains("leakscope.analyze/1"));
            }
        }
        assert!(judged >= 4, "most seeds are good: {judged}");
    }
}
