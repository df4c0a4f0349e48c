//! The diagnosis: from samples of a process's memory to a verdict with its reasons.
//!
//! Pure: no clock, no I/O, no kernel. Whatever it says follows from the samples it was given, so a recording judged
//! again gives the same verdicts. Start reading at [`Detector::observe`].

mod cadence;
mod cycles;
mod detector;
mod evidence;
mod judge;
mod label;
mod oom;
mod pyramid;
mod reading;
mod scales;
mod signal;
mod trend;
mod verdict;

#[cfg(test)]
mod tests;

pub use cadence::{Cadence, FaultStep, cadence};
pub use detector::Detector;
pub use oom::{Demand, Limit, Room, TimeToOom, tightest, time_to_oom};
pub use verdict::{Evidence, Rate, State, Verdict};

use std::time::Duration;

use crate::units::{Bytes, Moment};

/// A process's memory by kind, as `/proc/PID/status` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `RssAnon`: anonymous resident pages.
    pub anon: Bytes,
    /// `RssFile`: resident pages of mapped files. Shown, never counted as a leak: the kernel can drop them.
    pub file: Bytes,
    /// `RssShmem`: resident pages of shared memory.
    pub shmem: Bytes,
    /// `VmSwap`: anonymous pages in swap.
    pub swap: Bytes,
}

impl Memory {
    /// Resident set size: what `ps` and `top` show as RSS.
    pub fn rss(&self) -> Bytes {
        self.anon + self.file + self.shmem
    }

    /// Anonymous resident and swapped bytes: what a leak grows and reclaim cannot give back.
    pub fn footprint(&self) -> Bytes {
        self.anon + self.swap
    }
}

/// What the detector is told of a process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was read.
    pub at: Moment,
    /// What the process held then.
    pub memory: Memory,
    /// Shared memory of the whole host then (`Shmem` of /proc/meminfo), where it was read. A process that maps a
    /// segment that was there before grows its `shmem` and not this, and does not leak.
    pub host_shmem: Option<Bytes>,
}

/// What the detector asks for before it says `leaking`, and before a leak counts as confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// How long clean growth must have lasted, by the evidence, before a leak is confirmed.
    /// `leaking` needs the lesser of this and one minute.
    pub confirm: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { confirm: Duration::from_secs(60) }
    }
}
