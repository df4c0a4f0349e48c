//! A recording said again: a source and a directory that answer as the live ones did.
//!
//! Both come from [`replay()`] and share what the frames say, so that a question is answered as of the batch that is being
//! judged. Nothing of the machine that replays is looked at.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::rc::Rc;

use super::block::Block;
use super::delta::Decoder;
use super::file::{BlockReader, FileError, Start, Torn};
use super::who::Who;
use super::{BEYOND, Frame, MAX_PROCESSES, Place, RoomNews, cgroup_of};
use crate::leak::{Limit, Room};
use crate::process::{Directory, Host, Identity};
use crate::source::{Batch, Event, Source, SourceKind};
use crate::units::{Moment, Pid, ProcKey};

/// Bytes of what is remembered of who processes are. Those beyond it stay without a name.
const MAX_IDENTITIES: usize = 64 << 20;

/// Processes of which it is remembered where they are: more than one block of those that a writer remembers (see
/// `delta::Encoder::take`).
const MAX_PLACES: usize = 4 * MAX_PROCESSES;

/// What the frames have said so far, of processes that have not ended.
#[derive(Debug, Default)]
struct Told {
    identities: HashMap<Pid, Identity>,
    identity_bytes: usize,
    /// Processes that are there.
    alive: HashSet<Pid>,
    /// Processes that ended with the newest frame: asked for once more, then forgotten.
    leaving: Vec<ProcKey>,
    limits: HashMap<u32, Room>,
    places: HashMap<Pid, Place>,
    /// What is known of some process of a cgroup, for one that nobody asked for when the recording was made.
    cgroups: HashMap<String, Around>,
    /// Readings that were left out.
    beyond: u64,
    torn: Option<Torn>,
}

/// How much room there is in a cgroup.
#[derive(Debug)]
enum Around {
    Place(Place),
    /// Format 1; `None` is the host's.
    Room(Option<Room>),
}

/// The source of a recording.
pub struct Replay<R> {
    blocks: BlockReader<R>,
    decoder: Decoder,
    /// The byte at which the block begins that is being read.
    at: u64,
    kind: SourceKind,
    told: Rc<RefCell<Told>>,
}

/// The directory of a recording.
#[derive(Debug)]
pub struct ReplayDirectory {
    told: Rc<RefCell<Told>>,
}

/// Opens a recording.
///
/// # Errors
/// When it is none, is newer than this program, or ends before its first block does.
pub fn replay<R: Read>(input: R) -> Result<(Start, Replay<R>, ReplayDirectory), FileError> {
    let (start, blocks) = BlockReader::open(input)?;
    let told = Rc::new(RefCell::new(Told::default()));
    let kind = if start.ebpf { SourceKind::Ebpf } else { SourceKind::Procfs };
    let directory = ReplayDirectory { told: Rc::clone(&told) };
    let source = Replay { blocks, decoder: Decoder::default(), at: 0, kind, told };
    Ok((start, source, directory))
}

impl<R: Read> Replay<R> {
    fn next_frame(&mut self) -> Result<Option<Frame>, FileError> {
        loop {
            let senseless = |_| FileError::Senseless(self.at);
            if let Some(frame) = self.decoder.next().map_err(senseless)? {
                return Ok(Some(frame));
            }
            self.at = self.blocks.at();
            let senseless = |_| FileError::Senseless(self.at);
            let Some(block) = self.blocks.next::<Block>()? else {
                self.told.borrow_mut().torn = self.blocks.torn();
                return Ok(None);
            };
            self.decoder.begin(block).map_err(senseless)?;
        }
    }
}

impl<R: Read> Source for Replay<R> {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    async fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        let Some(frame) = self.next_frame()? else { return Ok(None) };
        Ok(Some(self.told.borrow_mut().take(frame)))
    }

    fn inspect(&mut self, _suspects: &[ProcKey]) -> anyhow::Result<()> {
        // What was looked at closely was decided when the recording was made.
        Ok(())
    }
}

impl Told {
    /// Learns what a frame says; its batch.
    fn take(&mut self, frame: Frame) -> Batch {
        let Frame { mut batch, anew, identities, rooms } = frame;
        for key in std::mem::take(&mut self.leaving) {
            self.forget_identity(key);
        }
        for event in &batch.events {
            self.note(event);
        }
        batch.readings.retain(|reading| {
            let pid = reading.key.pid;
            let fits = self.alive.len() < MAX_PROCESSES || self.alive.contains(&pid);
            if fits {
                self.alive.insert(pid);
            } else {
                self.beyond += 1;
            }
            fits
        });
        if self.beyond > 0 {
            batch.lost.causes.push((BEYOND.into(), self.beyond));
        }
        identities.into_iter().for_each(|who| self.learn(who));
        if anew {
            self.limits.clear();
            self.places.clear();
            self.cgroups.clear();
        }
        rooms.into_iter().for_each(|news| self.learn_room(news));
        batch
    }

    fn note(&mut self, event: &Event) {
        match event {
            // An identity does not outlive its program.
            Event::Exec { key } => self.forget_identity(*key),
            Event::Exit { key, .. } => {
                self.alive.remove(&key.pid);
                self.places.remove(&key.pid);
                self.leaving.push(*key);
            }
            Event::OomVictim { .. } => {}
        }
    }

    fn learn(&mut self, who: Who) {
        let bytes = bytes_of(&who);
        if self.identity_bytes + bytes > MAX_IDENTITIES {
            return;
        }
        let identity = Identity::from(who);
        self.identity_bytes += bytes;
        if let Some(before) = self.identities.insert(identity.key.pid, identity) {
            self.identity_bytes -= bytes_of(&Who::from(&before));
        }
    }

    fn forget_identity(&mut self, key: ProcKey) {
        if self.identities.get(&key.pid).is_some_and(|identity| identity.key == key)
            && let Some(gone) = self.identities.remove(&key.pid)
        {
            self.identity_bytes -= bytes_of(&Who::from(&gone));
        }
    }

    fn learn_room(&mut self, news: RoomNews) {
        let (cgroup, around) = match news {
            RoomNews::Limit(number, room) => {
                self.limits.insert(number, room);
                return;
            }
            RoomNews::Process(pid, place) => {
                if self.places.len() >= MAX_PLACES {
                    self.places.clear();
                }
                self.places.insert(pid, place.clone());
                match self.identities.get(&pid) {
                    Some(identity) if place != Place::Unread => {
                        (cgroup_of(identity).to_owned(), Around::Place(place))
                    }
                    _ => return,
                }
            }
            RoomNews::Cgroup(cgroup, room) => (cgroup, Around::Room(room)),
        };
        if self.cgroups.len() >= MAX_PROCESSES {
            self.cgroups.clear();
        }
        self.cgroups.insert(cgroup, around);
    }

    fn rooms(&self, identity: &Identity) -> Option<Vec<Room>> {
        match (self.places.get(&identity.key.pid), self.cgroups.get(cgroup_of(identity))) {
            (Some(place), _) | (None, Some(Around::Place(place))) => match place {
                Place::Unread => None,
                Place::Under(numbers) => {
                    Some(numbers.iter().filter_map(|number| self.limits.get(number).cloned()).collect())
                }
            },
            (None, Some(Around::Room(room))) => {
                Some(room.iter().filter(|room| room.limit != Limit::Host).cloned().collect())
            }
            (None, None) => Some(Vec::new()),
        }
    }
}

/// About how many bytes an identity takes in memory.
fn bytes_of(who: &Who) -> usize {
    who.size() + size_of::<Identity>()
}

impl ReplayDirectory {
    /// Where the readable part of the recording ended before the file did; known once the source has come to its end.
    pub fn torn(&self) -> Option<Torn> {
        self.told.borrow().torn
    }
}

impl Directory for ReplayDirectory {
    fn identify(&mut self, key: ProcKey) -> Option<Identity> {
        self.told.borrow().identities.get(&key.pid).filter(|identity| identity.key == key).cloned()
    }

    fn rooms(&mut self, identity: &Identity, _host: &Host, _at: Moment) -> Option<Vec<Room>> {
        self.told.borrow().rooms(identity)
    }
}
