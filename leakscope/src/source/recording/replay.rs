//! A recording said again: a source and a directory that answer as the live ones did.
//!
//! Both come from [`replay()`] and share what the frames say, so that a question is answered as of the batch that is being
//! judged. Nothing of the machine that replays is looked at.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read;
use std::rc::Rc;

use super::block::Block;
use super::delta::Decoder;
use super::file::{BlockReader, FileError, Start, Torn};
use super::{CgroupRoom, Frame, cgroup_of};
use crate::leak::Room;
use crate::process::{Directory, Host, Identity};
use crate::source::{Batch, Event, Source, SourceKind};
use crate::units::{Moment, Pid, ProcKey};

/// What the frames have said so far.
#[derive(Debug, Default)]
struct Told {
    identities: HashMap<Pid, Identity>,
    rooms: HashMap<String, Room>,
    torn: Option<Torn>,
}

/// The source of a recording.
#[derive(Debug)]
pub struct Replay<R> {
    blocks: BlockReader<R>,
    decoder: Decoder,
    frames: std::vec::IntoIter<Frame>,
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
    let source = Replay { blocks, decoder: Decoder::default(), frames: Vec::new().into_iter(), kind, told };
    Ok((start, source, directory))
}

impl<R: Read> Replay<R> {
    fn next_frame(&mut self) -> Result<Option<Frame>, FileError> {
        loop {
            if let Some(frame) = self.frames.next() {
                return Ok(Some(frame));
            }
            let at = self.blocks.at();
            let Some(block) = self.blocks.next::<Block>()? else {
                self.told.borrow_mut().torn = self.blocks.torn();
                return Ok(None);
            };
            self.frames = self.decoder.frames(block).map_err(|_| FileError::Senseless(at))?.into_iter();
        }
    }
}

impl<R: Read> Source for Replay<R> {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    async fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        let Some(Frame { batch, identities, rooms }) = self.next_frame()? else { return Ok(None) };
        let mut told = self.told.borrow_mut();
        for event in &batch.events {
            told.note(event);
        }
        told.identities.extend(identities.into_iter().map(|identity| (identity.key.pid, identity)));
        for CgroupRoom { cgroup, room } in rooms {
            match room {
                Some(room) => told.rooms.insert(cgroup, room),
                None => told.rooms.remove(&cgroup),
            };
        }
        Ok(Some(batch))
    }

    fn inspect(&mut self, _suspects: &[ProcKey]) -> anyhow::Result<()> {
        // What was looked at closely was decided when the recording was made.
        Ok(())
    }
}

impl Told {
    /// An identity does not outlive its program.
    fn note(&mut self, event: &Event) {
        if let Event::Exec { key } = event
            && self.identities.get(&key.pid).is_some_and(|identity| identity.key == *key)
        {
            self.identities.remove(&key.pid);
        }
    }
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

    fn room(&mut self, identity: &Identity, host: &Host, _at: Moment) -> Room {
        let told = self.told.borrow().rooms.get(cgroup_of(identity)).cloned();
        told.unwrap_or_else(|| host.room())
    }
}
