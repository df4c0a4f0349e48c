//! What is watched of a process: the bytes that a leak grows and that the kernel cannot take back.
//!
//! The signal is anonymous memory, resident or in swap, plus shared memory that the process *and* the host gained at the
//! same time: whoever maps a segment that was there before grows its own count and not the host's.
//! Start reading at [`Signal::of`].

use std::time::Duration;

use super::Sample;
use crate::units::{Bytes, Moment};

/// Bytes in a page, the detector's unit; also on kernels whose pages are larger.
const PAGE: f64 = 4096.0;

/// How long growth of the process's shared memory and growth of the host's wait for each other: they are read at
/// different moments, the host's once a second.
const WINDOW: Duration = Duration::from_secs(2);

/// What was seen of shared memory so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signal {
    /// The process's at the first sample, and at the last.
    first: Bytes,
    own: Bytes,
    /// The host's at the last sample that had it.
    host: Option<Bytes>,
    /// What the process and the host gained together.
    counted: Bytes,
    /// Growth of each that the other has not matched yet: of this window, and of the one before.
    unmatched_own: [Bytes; 2],
    unmatched_host: [Bytes; 2],
    window: Moment,
}

impl Signal {
    /// A signal that counts shared memory from `first` on.
    pub(super) const fn starting_at(first: &Sample) -> Self {
        Self {
            first: first.memory.shmem,
            own: first.memory.shmem,
            host: first.host_shmem,
            counted: Bytes::ZERO,
            unmatched_own: [Bytes::ZERO; 2],
            unmatched_host: [Bytes::ZERO; 2],
            window: first.at,
        }
    }

    /// The watched bytes at `sample`.
    pub(super) fn of(&mut self, sample: &Sample) -> Bytes {
        let own = sample.memory.shmem;
        // What is given back is first what was never counted.
        let uncounted = self.own - self.first - self.counted;
        self.counted = self.counted - (self.own - own - uncounted);
        self.match_growth(own - self.own, sample);
        self.own = own;
        sample.memory.footprint() + self.counted
    }

    /// Counts what both gained within a window or two. Growth is taken sample by sample: what others free on the host an
    /// hour later must not undo it. Where the host's count was not read, the process's own growth is all that is known.
    fn match_growth(&mut self, grown: Bytes, sample: &Sample) {
        let Some(host) = sample.host_shmem else {
            self.counted += grown;
            return;
        };
        let since = sample.at.since(self.window);
        if since >= WINDOW {
            let keep =
                |[now, _]: [Bytes; 2]| [Bytes::ZERO, if since < WINDOW * 2 { now } else { Bytes::ZERO }];
            self.unmatched_own = keep(self.unmatched_own);
            self.unmatched_host = keep(self.unmatched_host);
            self.window = sample.at;
        }
        self.unmatched_own[0] += grown;
        self.unmatched_host[0] += host - self.host.replace(host).unwrap_or(host);
        let sum = |[now, before]: [Bytes; 2]| now + before;
        let both = sum(self.unmatched_own).min(sum(self.unmatched_host));
        self.counted += both;
        // From the older window first.
        for [now, before] in [&mut self.unmatched_own, &mut self.unmatched_host] {
            let from_before = both.min(*before);
            *before = *before - from_before;
            *now = *now - (both - from_before);
        }
    }

    /// Pages of files, and shared bytes that the process gained without the host gaining them: growth to be named and
    /// not counted.
    pub(super) fn uncounted(&self, sample: &Sample) -> (Bytes, Bytes) {
        (sample.memory.file, self.own - self.first - self.counted)
    }
}

/// Bytes in pages.
pub(super) fn pages(bytes: Bytes) -> f64 {
    bytes.as_f64() / PAGE
}

/// Pages in bytes; 0 for what is negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, as Bytes does"
)]
pub(super) fn bytes(pages: f64) -> Bytes {
    Bytes((pages * PAGE).round() as u64)
}

/// Pages a second in bytes a second.
pub(super) fn bytes_per_s(pages_per_s: f64) -> f64 {
    pages_per_s * PAGE
}
