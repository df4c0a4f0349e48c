//! What the live sources ask the host for: the time, and its memory.
//!
//! The clock of a batch is `CLOCK_BOOTTIME`, the one that process start times are in. /proc/meminfo is read at most once
//! a second, and /proc/pressure/memory with it: both are summed over all CPUs at each read.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use procfs::{FromBufRead as _, Meminfo};
use rustix::time::{ClockId, clock_gettime};

use super::HostMemory;
use crate::process::Pressure;
use crate::units::{Bytes, Moment};

const MEMINFO_PERIOD: Duration = Duration::from_secs(1);

/// The host as a live source sees it.
#[derive(Debug)]
pub(super) struct Host {
    meminfo: PathBuf,
    file: Option<File>,
    /// `None` where the kernel does not count pressure, which is decided when it is booted.
    pressure: Option<File>,
    memory: Option<(Moment, HostMemory)>,
}

impl Host {
    /// Now, as a moment and as a date.
    pub(super) fn now() -> (Moment, Timestamp) {
        now()
    }

    pub(super) fn new(proc_root: &Path) -> Self {
        let pressure = File::open(proc_root.join("pressure/memory")).ok();
        Self { meminfo: proc_root.join("meminfo"), file: None, pressure, memory: None }
    }

    /// The host's memory, at most [`MEMINFO_PERIOD`] old at the moment `now`.
    pub(super) fn memory(&mut self, now: Moment) -> Result<HostMemory> {
        if let Some((at, memory)) = self.memory
            && now.since(at) < MEMINFO_PERIOD
        {
            return Ok(memory);
        }
        let info = self.read().with_context(|| format!("reading {}", self.meminfo.display()))?;
        let memory = HostMemory {
            total: Bytes(info.mem_total),
            // Before 3.14 there is no such line: what is free is the least that is available.
            available: Bytes(info.mem_available.unwrap_or(info.mem_free)),
            swap_total: Bytes(info.swap_total),
            swap_free: Bytes(info.swap_free),
            shmem: Bytes(info.shmem.unwrap_or(0)),
            pressure: self.pressure.as_ref().and_then(Pressure::read_again),
        };
        self.memory = Some((now, memory));
        Ok(memory)
    }

    fn read(&mut self) -> Result<Meminfo> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.meminfo)?),
        };
        // Some sixty lines of 28 bytes, written anew at each read from the beginning.
        let mut text = [0; 8192];
        let length = file.read_at(&mut text, 0)?;
        Ok(Meminfo::from_buf_read(&text[..length])?)
    }
}

/// Now, as a moment and as a date: for the sources, and for an action, whose signals and deaths have dates of their own
/// between two batches.
pub fn now() -> (Moment, Timestamp) {
    (moment_of(ClockId::Boottime), Timestamp::now())
}

/// What a clock of the kernel shows.
fn moment_of(clock: ClockId) -> Moment {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Moment(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
