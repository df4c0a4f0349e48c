//! `leakscope record`: keeps what is observed until the time is up or somebody interrupts.
//!
//! A monitor judges meanwhile, only so that suspects are looked at as closely as in a hunt; what it thinks is not kept.

use std::time::Duration;

use super::Interrupt;
use crate::monitor::{Monitor, Tick};
use crate::process::Directory;
use crate::source::Source;
use crate::source::recording::{Recorder, Recording, RecordingDirectory, Written};
use crate::ui::Ui;
use crate::units::{Bytes, Moment};

/// What a recording is told.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often the progress is shown.
    pub interval: Duration,
    /// When to stop; `None` is on Ctrl-C.
    pub duration: Option<Duration>,
}

/// A monitor whose source and directory are being recorded.
pub type Recorded<S, D> = Monitor<Recording<S, D>, RecordingDirectory<D>>;

/// Records until the time is up, everybody who was named is gone, or somebody interrupts: `interrupt` is older than the
/// source, so that a Ctrl-C while that was opened counts as well. `every_tick` sees each tick.
///
/// # Errors
/// When the source can no longer observe, or the recording cannot be written. What was written stays readable.
pub async fn run<S: Source, D: Directory>(
    monitor: &mut Recorded<S, D>,
    recorder: &Recorder<D>,
    options: Options,
    interrupt: &mut Interrupt,
    ui: &mut Ui,
    every_tick: &mut dyn FnMut(&mut Recorded<S, D>, Tick),
) -> anyhow::Result<Written> {
    let mut shown: Option<Moment> = None;
    let ended = loop {
        let tick = tokio::select! {
            biased;
            () = interrupt.received() => break Ok(()),
            tick = monitor.step() => tick,
        };
        let at = match tick {
            Ok(Some(tick)) => {
                let at = tick.at;
                every_tick(monitor, tick);
                at
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        let over = options.duration.is_some_and(|duration| monitor.elapsed() >= duration);
        if over || monitor.nobody_left() {
            break Ok(());
        }
        if shown.is_none_or(|last| at.since(last) >= options.interval) {
            shown = Some(at);
            ui.progress(&line(&recorder.written(), monitor.elapsed()));
        }
    };
    ui.clear_progress();
    // What was seen before a failure is worth as much as ever.
    let written = recorder.finish();
    ended.and(written)
}

/// How much was recorded, in words.
pub fn line(written: &Written, elapsed: Duration) -> String {
    let Written { batches, readings, processes, bytes } = *written;
    format!(
        "{:.0} s, {batches} batches, {readings} readings of {processes} processes, {}",
        elapsed.as_secs_f64(),
        Bytes(bytes)
    )
}
