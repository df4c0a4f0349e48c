//! Where observations come from. Every source answers [`Source::next_batch`]; no caller can tell them apart.
//!
//! Live: [`KernelSource`] (tracepoints say who changed, /proc how much) and [`ProcfsSource`] (/proc alone). Kept:
//! [`recording`]. Made by others: [`series`], which have no events and no identities and come as rows.

mod held;
mod host;
mod kernel;
mod live;
mod paced;
mod process;
mod procfs;
pub mod recording;
pub mod series;
mod unread;

pub use host::now;
pub use kernel::{
    Attached, CallsBy, Contract, Counters, KernelOptions, KernelSource, MapFill, OpenError,
    Status as KernelStatus, TracepointKind, recorded_contracts,
};
pub use live::{Live, OpenOptions, Opened, Wanted};
pub use paced::Paced;
pub use procfs::ProcfsSource;

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;

use crate::leak::{FaultStep, Memory};
use crate::process::Pressure;
use crate::units::{Bytes, Moment, Pid, ProcKey};

/// What was observed since the batch before.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The only present there is.
    pub at: Moment,
    /// The date of `at`.
    pub wall: Timestamp,
    /// The host's memory.
    pub host: HostMemory,
    /// The processes whose memory changed since the batch before. In the first batch: every process.
    pub readings: Vec<Reading>,
    /// What happened to processes, oldest first.
    pub events: Vec<Event>,
    /// Losses since the source was opened.
    pub lost: Lost,
}

/// One process, read once.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Which process.
    pub key: ProcKey,
    /// What it holds, by /proc.
    pub memory: Memory,
    /// What the kernel side counted for it; `None` where no kernel side is at work.
    pub kernel: Option<KernelCounts>,
    /// The page faults seen since the reading before, oldest first; empty unless the process is inspected.
    pub faults: Vec<FaultStep>,
}

/// What the kernel side counted for one process since it was first seen; an exec starts the counts again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// User page faults on pages that were not present: first touches, and swap-ins.
    pub first_touch_faults: u64,
    /// User page faults on present pages: copy on write.
    pub protection_faults: u64,
    /// Growth and shrinkage of the anonymous counter as `rss_stat` showed it; `None` where its values cannot be read.
    pub rss_anon: Option<Flow>,
    /// The same of resident pages of mapped files; of this and what follows a recording keeps nothing.
    pub rss_file: Option<Flow>,
    /// The same of resident shared memory.
    pub rss_shmem: Option<Flow>,
    /// The same of anonymous pages in swap.
    pub rss_swap: Option<Flow>,
    /// Processes that it forked; `None` with classic tracepoints, which cannot tell a fork from a thread.
    pub forks: Option<u64>,
    /// How often it became another program; the one count that an exec does not start again.
    pub execs: Option<u64>,
    /// What the syscalls did, counted only while the process was inspected.
    pub syscalls: Option<SyscallCounts>,
}

/// Bytes that were added to and taken from a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Added.
    pub grown: Bytes,
    /// Taken away.
    pub shrunk: Bytes,
}

/// Successful calls that changed an address space, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyscallCounts {
    /// `brk`: heap grown and shrunk.
    pub brk: Flow,
    /// `mmap` without a file behind it.
    pub mmap_anon: Calls,
    /// `mmap` of a file.
    pub mmap_file: Calls,
    /// `munmap`.
    pub munmap: Calls,
    /// `mremap`: bytes added and taken away.
    pub mremap: Flow,
    /// `mremap`: successful calls; `None` in a recording, which keeps the bytes only.
    pub mremap_calls: Option<u64>,
    /// `madvise` with `MADV_DONTNEED` or `MADV_FREE`.
    pub madvise_free: Calls,
}

/// How often a call succeeded, and on how many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Successful calls.
    pub count: u64,
    /// Their bytes.
    pub bytes: Bytes,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It became another program: same pid, same start time, everything else new.
    Exec {
        /// Which process.
        key: ProcKey,
    },
    /// It is gone.
    Exit {
        /// Which process.
        key: ProcKey,
        /// How it ended; `None` where the source cannot tell.
        status: Option<ExitStatus>,
    },
    /// The kernel's OOM killer chose it.
    OomVictim {
        /// Its pid.
        pid: Pid,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this status.
    Code(u8),
    /// A signal ended it.
    Signal(u8),
}

impl ExitStatus {
    /// From the kernel's `exit_code`: the status in the second byte, the signal in the lowest seven bits.
    pub const fn from_exit_code(code: u32) -> Self {
        match (code & 0x7f) as u8 {
            0 => Self::Code(((code >> 8) & 0xff) as u8),
            signal => Self::Signal(signal),
        }
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "status {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// The host's memory, from /proc/meminfo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// `MemTotal`.
    pub total: Bytes,
    /// `MemAvailable`.
    pub available: Bytes,
    /// `SwapTotal`.
    pub swap_total: Bytes,
    /// `SwapFree`.
    pub swap_free: Bytes,
    /// `Shmem`.
    pub shmem: Bytes,
    /// How tasks wait for memory; `None` where the kernel does not count that, and in a recording, which does not keep it.
    pub pressure: Option<Pressure>,
}

/// What was not seen, per cause, since the source was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Cause in words and how often, causes that did not happen left out.
    pub causes: Vec<(Cow<'static, str>, u64)>,
    /// Processes that were gone before they could be read: normal, and no loss.
    pub vanished: u64,
}

impl Lost {
    /// All causes together.
    pub fn total(&self) -> u64 {
        self.causes.iter().map(|(_, count)| count).sum()
    }
}

/// Which kind of source is at work, as the JSON names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// The kernel side tells who changed, /proc how much.
    Ebpf,
    /// /proc alone.
    Procfs,
}

impl SourceKind {
    /// The word that the JSON uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Procfs => "procfs",
        }
    }
}

/// How full something is that has a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// What it holds.
    pub used: u32,
    /// What it can hold.
    pub capacity: u32,
}

/// What a kernel side takes while it observes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelSide {
    /// How long its programs have run, in whoever's time; `None` where the kernel does not measure that
    /// (`kernel.bpf_stats_enabled`).
    pub run_time: Option<Duration>,
    /// Processes that it keeps counts for, as of the last comparison with the pids that there are: 20 s ago at most.
    pub processes: Fill,
    /// Processes that it looks at closely.
    pub suspects: Fill,
}

/// Where observations come from.
pub trait Source {
    /// Which kind it is, for the reader of a report.
    fn kind(&self) -> SourceKind;

    /// What its kernel side takes; `None` without one.
    fn kernel_side(&self) -> Option<KernelSide> {
        None
    }

    /// Waits for the next sampling moment and returns what was observed; `None` when there is nothing more to come.
    /// Dropping the future while it waits loses nothing: a hunt drops it when a victim has died.
    fn next_batch(&mut self) -> impl Future<Output = anyhow::Result<Option<Batch>>>;

    /// Watches these processes more closely (their syscalls, their fault addresses) until told otherwise. What costs
    /// the whole host something is on only while the list is not empty.
    fn inspect(&mut self, suspects: &[ProcKey]) -> anyhow::Result<()>;
}

/// How often a live source samples: often enough for a first verdict within seconds, and cheap because only processes
/// that changed are read.
pub const SAMPLE_PERIOD: Duration = Duration::from_millis(250);
