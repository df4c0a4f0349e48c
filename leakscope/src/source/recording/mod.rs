//! A recording: what a source and a directory said, kept in a file and said again.
//!
//! It holds what was observed and nothing derived: batches as they were, who the processes were, and how much room was
//! above them. A replay judges with today's code. The file is a header and then blocks of a few seconds, each with its
//! length and checksum (`file`); within a block, columns of differences (`block`, `delta`). Writing starts at
//! [`record()`], reading at [`replay()`].

mod block;
mod column;
mod delta;
mod file;
mod recorder;
mod replay;
mod who;

#[cfg(test)]
mod tests;

pub use file::{FileError, MAGIC, Start, Torn};
pub use recorder::{Recorder, Recording, RecordingDirectory, Tap, Terms, Written, create, record};
pub use replay::{Replay, ReplayDirectory, replay};

use crate::leak::Room;
use crate::process::Identity;

use super::Batch;

/// A batch, and what the directory was asked while it was judged.
#[derive(Clone, Debug)]
struct Frame {
    batch: Batch,
    /// Who processes are, as far as it was not known before.
    identities: Vec<Identity>,
    /// What was left above the processes of a cgroup.
    rooms: Vec<CgroupRoom>,
}

/// How much room there was above the processes of one cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CgroupRoom {
    /// The cgroup as identities name it; empty where they name none.
    cgroup: String,
    /// The tightest limit; `None` where that is the host's own, which every batch has.
    room: Option<Room>,
}

impl Frame {
    const fn new(batch: Batch) -> Self {
        Self { batch, identities: Vec::new(), rooms: Vec::new() }
    }
}

/// The cgroup that rooms are kept by.
fn cgroup_of(identity: &Identity) -> &str {
    identity.owner.cgroup.as_deref().unwrap_or_default()
}
