//! What is watched of a process: the bytes that a leak grows and that the kernel cannot take back.
//!
//! The signal is anonymous memory, resident or in swap, plus shared memory that the process *and* the host gained
//! since the first sample: whoever maps a segment that was there before grows its own count and not the host's.
//! Start reading at [`Signal::of`].

use super::{Memory, Sample};
use crate::units::Bytes;

/// Bytes in a page, the detector's unit; also on kernels whose pages are larger.
const PAGE: f64 = 4096.0;

/// The first sample's shared memory, which growth is counted from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signal {
    shmem: Bytes,
    host_shmem: Option<Bytes>,
}

impl Signal {
    /// A signal that counts shared memory from `first` on.
    pub(super) const fn starting_at(first: &Sample) -> Self {
        Self { shmem: first.memory.shmem, host_shmem: first.host_shmem }
    }

    /// The watched bytes at `sample`.
    pub(super) fn of(&mut self, sample: &Sample) -> Bytes {
        sample.memory.footprint() + self.new_shared(sample)
    }

    /// Shared bytes that came into being since the first sample. Where the host's count was not read, the process's own
    /// growth is all that is known.
    fn new_shared(&mut self, sample: &Sample) -> Bytes {
        let own = sample.memory.shmem - self.shmem;
        match sample.host_shmem {
            Some(host) => own.min(host - *self.host_shmem.get_or_insert(host)),
            None => own,
        }
    }

    /// Shared bytes that the process gained without the host gaining them, and pages of files: growth to be named and
    /// not counted.
    pub(super) fn uncounted(&mut self, sample: &Sample) -> (Bytes, Bytes) {
        let Memory { shmem, file, .. } = sample.memory;
        (file, shmem - self.shmem - self.new_shared(sample))
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
