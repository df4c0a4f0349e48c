//! A recording: what a source and a directory said, kept in a file and said again.
//!
//! It holds what was observed and nothing derived: batches as they were, who the processes were, and how much room was
//! above them. A replay judges with today's code. The file is a header and then blocks of a few seconds, each with its
//! length and checksum (`file`); within a block, columns of differences (`block`, `delta`). Writing starts at
//! [`record()`], reading at [`replay()`].

mod block;
mod bounded;
mod column;
mod delta;
mod file;
mod levels;
mod recorder;
mod replay;
mod who;

#[cfg(test)]
mod tests;

pub use file::{FileError, MAGIC, Start, Store, Torn};
pub use recorder::{Recorder, Recording, RecordingDirectory, Tap, Terms, Written, create, record};
pub use replay::{Replay, ReplayDirectory, replay};

use self::who::Who;
use super::Batch;
use crate::leak::{Limit, Room};
use crate::process::Identity;
use crate::units::{Pid, ProcKey};

/// Processes that a recording holds at a time: as many as the kernel side counts.
const MAX_PROCESSES: usize = 1 << 16;
/// What is said of readings that are left out because of it.
const BEYOND: &str = "readings of more processes than the 65536 that a recording holds";

/// A batch, and what the directory was asked while it was judged.
#[derive(Clone, Debug)]
struct Frame {
    batch: Batch,
    /// What was said of rooms before this frame counts no longer.
    anew: bool,
    /// Who processes are, as far as it was not known before.
    identities: Vec<Who>,
    /// What was learned of rooms.
    rooms: Vec<RoomNews>,
}

/// What was learned of how much room there is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RoomNews {
    /// Above the processes of a cgroup, as identities name it, is this much room; `None` where the tightest limit is the
    /// host's own, which every batch has. Format 1 has this alone.
    Cgroup(String, Option<Room>),
    /// Under the limit of this number is this much room.
    Limit(u32, Room),
    /// A process is in this place.
    Process(Pid, Place),
}

impl RoomNews {
    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        let texts = match self {
            Self::Cgroup(cgroup, room) => cgroup.len() + room.as_ref().map_or(0, path_bytes),
            Self::Limit(_, room) => path_bytes(room),
            Self::Process(_, Place::Under(numbers)) => size_of_val(&**numbers),
            Self::Process(_, Place::Unread) => 0,
        };
        texts + size_of::<Self>()
    }
}

/// Bytes of the path of a room's limit.
const fn path_bytes(room: &Room) -> usize {
    match &room.limit {
        Limit::Cgroup(path) => path.len(),
        Limit::Host => 0,
    }
}

/// Which limits are above a process.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// They could not be read, as when the process is just gone.
    Unread,
    /// Those of these numbers, the innermost first, and the host's own. Format 2 has the tightest of them alone.
    Under(Box<[u32]>),
}

/// What the directory answered to the question for the limits above a process; `None` when it could not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    key: ProcKey,
    rooms: Option<Vec<Room>>,
}

/// The cgroup that the rooms are kept by which nobody asked for.
fn cgroup_of(identity: &Identity) -> &str {
    identity.owner.cgroup.as_deref().unwrap_or_default()
}
