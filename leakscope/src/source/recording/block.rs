//! What a block holds: the frames of a few seconds, turned into columns.
//!
//! Like values stand together, so that the compression sees how alike they are. A column that a frame or reading has no
//! value in is simply shorter: the frames' counts and the readings' flags say which come next. A change here is another
//! format: raise [`super::file::VERSION`].

use serde::{Deserialize, Serialize};

use super::bounded;
use super::column::Column;
use super::who::Who;

/// Frames, by columns.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Block {
    /// What was known from earlier blocks counts no longer.
    pub(super) reset: bool,
    /// Moments: the difference to the frame before, less the difference before that.
    pub(super) at: Column,
    /// Dates, as nanoseconds less those of the moment.
    pub(super) wall: Column,
    /// The host's memory: total, available, swap, free swap, shared.
    pub(super) host: [Column; 5],
    /// For each frame, how many readings it has.
    pub(super) readings: Vec<u32>,
    /// For each frame, how many events it has.
    #[serde(deserialize_with = "bounded::list")]
    pub(super) events: Vec<Happened>,
    /// What was lost, when that changed: the frame's number, and the new counts.
    #[serde(deserialize_with = "bounded::list")]
    pub(super) lost: Vec<LostLine>,
    /// Pids: the difference to that of the reading before.
    pub(super) pids: Column,
    /// What a reading says; see [`flag`].
    pub(super) flags: Vec<u8>,
    /// Start times of processes that were not known.
    pub(super) starts: Vec<u64>,
    /// Anonymous, file, shared and swapped bytes, where they changed.
    pub(super) memory: [Column; 4],
    /// First touches, protection faults, anonymous bytes shrunk and grown; see `delta.rs` for what they differ from.
    pub(super) counts: [Column; 4],
    /// Whether `rss_stat` could be read, and what the syscalls did where they were counted; see [`flag::UNUSUAL`].
    #[serde(deserialize_with = "bounded::list")]
    pub(super) unusual: Vec<(bool, Option<Box<[u64; 12]>>)>,
    /// How many fault steps the readings have that have some.
    pub(super) fault_counts: Vec<u32>,
    /// Fault steps: nanoseconds, the address's difference, and two bits.
    pub(super) fault_after: Vec<u64>,
    /// Differences of addresses.
    pub(super) fault_delta: Column,
    /// Bit 0: page aligned, bit 1: after a gap.
    pub(super) fault_bits: Vec<u8>,
    /// Who processes are: the frame's number and the identity. One with the number of no frame of this block belongs to
    /// the first frame of the next.
    #[serde(deserialize_with = "bounded::list")]
    pub(super) identities: Vec<(u32, Who)>,
    /// Format 1: cgroups that a room was read of, in the order of their numbers.
    #[serde(deserialize_with = "bounded::list")]
    pub(super) cgroups: Vec<String>,
    /// Rooms that changed: the frame's number, whose room (see [`RoomIs`]), and the room.
    #[serde(deserialize_with = "bounded::list")]
    pub(super) rooms: Vec<(u32, u32, RoomIs)>,
    /// What is left, where nothing else of a room changed.
    pub(super) left: Column,
}

/// What was lost by a frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LostLine {
    /// The frame's number.
    pub(super) frame: u32,
    /// The processes that had vanished by then.
    pub(super) vanished: u64,
    /// By cause.
    #[serde(deserialize_with = "bounded::list")]
    pub(super) causes: Vec<(String, u64)>,
}

/// What became of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RoomIs {
    /// Format 1, above this cgroup: only what is left is another amount, the next value of [`Block::left`].
    Left,
    /// Format 1, above this cgroup: the host's own limit is the tightest.
    Host,
    /// Format 1, above this cgroup: a cgroup's limit is the tightest: its path, its size, what is left.
    Cgroup(String, u64, u64),
    /// A limit that was not known gets this number: its path, its size, what is left.
    Limit(String, u64, u64),
    /// What is left under the limit of this number is another amount: the next value of [`Block::left`].
    LimitLeft,
    /// The limit of the number given here is the only one above this pid; in format 2, the tightest.
    Under(u32),
    /// Above this pid is the host's own limit alone; in format 2, it is the tightest.
    UnderHost,
    /// The limits above this pid could not be read.
    Unread,
    /// The limits of the numbers given here are above this pid, the innermost first. Formats 1 and 2 do not have it.
    UnderAll(#[serde(deserialize_with = "bounded::list")] Vec<u32>),
}

/// An event, with the number of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Happened {
    pub(super) frame: u32,
    pub(super) pid: u32,
    pub(super) what: What,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// It became another program; its start time.
    Exec(u64),
    /// It ended; its start time, and how where that is known.
    Exit(u64, Option<Ended>),
    /// The kernel's OOM killer chose it.
    OomVictim,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ended {
    /// With this status.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

/// The bits of [`Block::flags`].
pub(super) mod flag {
    /// The process was not known: its start time is given, and it is compared with nothing.
    pub(in super::super) const NEW: u8 = 1;
    /// Its memory changed, one bit for each kind.
    pub(in super::super) const MEMORY: [u8; 4] = [2, 4, 8, 16];
    /// The kernel side counted for it.
    pub(in super::super) const KERNEL: u8 = 32;
    /// Syscalls were counted, or `rss_stat` could not be read; [`super::Block::unusual`] has the details.
    pub(in super::super) const UNUSUAL: u8 = 64;
    /// It has fault steps.
    pub(in super::super) const FAULTS: u8 = 128;
}

impl Block {
    /// Makes the columns small; nothing is to be added after it.
    pub(super) fn pack(&mut self) {
        let Self { at, wall, host, pids, memory, counts, fault_delta, left, .. } = self;
        let many = host.iter_mut().chain(memory).chain(counts);
        for column in many.chain([at, wall, pids, fault_delta, left]) {
            column.pack();
        }
    }

    /// How many frames it holds.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.readings.len()).unwrap_or(u32::MAX)
    }
}
