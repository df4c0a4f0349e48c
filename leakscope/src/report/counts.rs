//! What the kernel side counted, whole, as JSON objects: beside the few figures that a report speaks of, for programs.
//!
//! What was not measured is `None` and becomes `null`: calls of a process that was not inspected, forks that classic
//! tracepoints cannot tell, and in a replay what recordings do not keep.

use serde::Serialize;

use crate::source::{Calls, Flow, KernelCounts, Lost, SyscallCounts};
use crate::units::Bytes;

/// Bytes that were added to and taken from a counter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FlowLine {
    /// Added.
    pub grown_bytes: Bytes,
    /// Taken away.
    pub shrunk_bytes: Bytes,
}

impl From<Flow> for FlowLine {
    fn from(flow: Flow) -> Self {
        Self { grown_bytes: flow.grown, shrunk_bytes: flow.shrunk }
    }
}

/// The counters of `rss_stat`, by kind of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RssLine {
    /// Resident anonymous pages.
    pub anon: Option<FlowLine>,
    /// Resident pages of mapped files.
    pub file: Option<FlowLine>,
    /// Resident shared memory.
    pub shmem: Option<FlowLine>,
    /// Anonymous pages in swap.
    pub swap: Option<FlowLine>,
}

impl From<&KernelCounts> for RssLine {
    fn from(counts: &KernelCounts) -> Self {
        Self {
            anon: counts.rss_anon.map(FlowLine::from),
            file: counts.rss_file.map(FlowLine::from),
            shmem: counts.rss_shmem.map(FlowLine::from),
            swap: counts.rss_swap.map(FlowLine::from),
        }
    }
}

/// Successful calls and their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CallLine {
    /// Calls.
    pub calls: u64,
    /// Their bytes.
    pub bytes: Bytes,
}

impl From<Calls> for CallLine {
    fn from(calls: Calls) -> Self {
        Self { calls: calls.count, bytes: calls.bytes }
    }
}

/// `mremap` moves what is there, and may make it larger or smaller.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RemapLine {
    /// Successful calls; `None` in a replay.
    pub calls: Option<u64>,
    /// Bytes added and taken away.
    #[serde(flatten)]
    pub flow: FlowLine,
}

/// The memory system calls of a process while it was inspected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CallsLine {
    /// `brk`.
    pub brk: FlowLine,
    /// `mmap` without a file.
    pub mmap_anon: CallLine,
    /// `mmap` of a file.
    pub mmap_file: CallLine,
    /// `munmap`.
    pub munmap: CallLine,
    /// `mremap`.
    pub mremap: RemapLine,
    /// `madvise` with `MADV_DONTNEED` or `MADV_FREE`.
    pub madvise_free: CallLine,
}

impl From<SyscallCounts> for CallsLine {
    fn from(counts: SyscallCounts) -> Self {
        let SyscallCounts { brk, mmap_anon, mmap_file, munmap, mremap, mremap_calls, madvise_free } = counts;
        Self {
            brk: brk.into(),
            mmap_anon: mmap_anon.into(),
            mmap_file: mmap_file.into(),
            munmap: munmap.into(),
            mremap: RemapLine { calls: mremap_calls, flow: mremap.into() },
            madvise_free: madvise_free.into(),
        }
    }
}

/// One cause of loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LossLine {
    /// In words.
    pub cause: String,
    /// How often.
    pub count: u64,
}

impl LossLine {
    /// Every cause that there was; their counts add up to `lost_events`.
    pub fn of(lost: &Lost) -> Vec<Self> {
        lost.causes.iter().map(|(cause, count)| Self { cause: cause.to_string(), count: *count }).collect()
    }
}
