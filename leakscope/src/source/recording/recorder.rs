//! Makes a recording of whatever a monitor sees and asks.
//!
//! It stands between the live source and directory and the monitor, passes everything on, and keeps what it passed:
//! each batch as it came, who each process is (read once, when it is first seen and after an exec), and the limits above
//! it (whenever the monitor asks, and for a process of each cgroup every ten seconds besides, for judges yet to come).
//! Every ten seconds it makes sure that what was written outlasts a loss of power. Start reading at [`record()`].

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;

use super::delta::Encoder;
use super::file::{BlockWriter, Start, Store};
use super::levels::Levels;
use super::who::{self, Who};
use super::{Answer, BEYOND, MAX_PROCESSES, cgroup_of};
use crate::fault::Remedy;
use crate::leak::Room;
use crate::process::{Directory, Host, Identity, Selector};
use crate::source::{Batch, Event, HostMemory, KernelSide, Reading, Source, SourceKind};
use crate::units::{Moment, Pid, ProcKey};

/// How long a block lasts: what a crash may cost.
const BLOCK_SPAN: Duration = Duration::from_secs(10);
/// Readings and the like in a block, at which it is written early.
const BLOCK_LENGTH: usize = 50_000;
/// Bytes of identities that are written at a time: those of a first frame may fill more than a block.
const IDENTITIES_LENGTH: usize = 1 << 20;
/// How often it is made sure that what was written outlasts a loss of power.
const SURE_PERIOD: Duration = Duration::from_secs(10);
/// Processes that are not selected and remembered as such.
const MAX_REJECTED: usize = 1 << 16;

/// What is kept, and how much of it.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Which processes.
    pub selector: Selector,
    /// A process that is left out: leakscope itself.
    pub leave_out: Option<Pid>,
    /// Whether command lines are reduced to the programs' names.
    pub redact: bool,
}

/// What stands in for a source and a directory that are being recorded, and the hand on the recording.
pub type Tap<S, D> = (Recording<S, D>, RecordingDirectory<D>, Recorder<D>);

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Batches.
    pub batches: u64,
    /// Readings of processes.
    pub readings: u64,
    /// Processes that were identified; one that called exec counts again.
    pub processes: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The source's side of a recording.
pub struct Recording<S, D> {
    source: S,
    desk: Rc<RefCell<Desk<D>>>,
}

/// The directory's side of a recording.
pub struct RecordingDirectory<D> {
    desk: Rc<RefCell<Desk<D>>>,
}

/// The hand on a recording: ends it.
pub struct Recorder<D> {
    desk: Rc<RefCell<Desk<D>>>,
}

/// Opens the file of a new recording.
///
/// # Errors
/// When there is a file of that name that is not empty, or none can be made.
pub fn create(path: &Path) -> anyhow::Result<File> {
    // For its owner alone: command lines may hold what is not for everybody.
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let file = opened
        .with_context(|| format!("recording to {}", path.display()))
        .fix("name a file in a folder that is there and that you may write to")?;
    let is = file.metadata().with_context(|| format!("recording to {}", path.display()))?;
    if is.is_file() && is.len() > 0 {
        return Err(anyhow::anyhow!("recording to {}: the file is there and is not empty", path.display()))
            .fix("name another file, or remove this one");
    }
    // So that the name outlasts a loss of power as well; where a folder cannot be made sure of, nothing is worse for it.
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(file)
}

/// Records what passes between `source` and `directory` and whoever uses what this returns in their stead.
///
/// # Errors
/// When the beginning cannot be written.
pub fn record<S: Source, D: Directory>(
    source: S,
    directory: D,
    terms: Terms,
    out: Box<dyn Store>,
) -> io::Result<Tap<S, D>> {
    let uname = rustix::system::uname();
    let start = Start {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        ebpf: source.kind() == SourceKind::Ebpf,
        redacted: terms.redact,
    };
    let desk = Desk {
        directory,
        terms,
        out: BlockWriter::new(out, &start)?,
        encoder: Encoder::new(),
        began: None,
        sure: None,
        frame: None,
        beyond: 0,
        known: HashMap::new(),
        rejected: HashSet::new(),
        levels: Levels::default(),
        written: Written::default(),
    };
    let desk = Rc::new(RefCell::new(desk));
    let recording = Recording { source, desk: Rc::clone(&desk) };
    Ok((recording, RecordingDirectory { desk: Rc::clone(&desk) }, Recorder { desk }))
}

impl<S: Source, D: Directory> Source for Recording<S, D> {
    fn kind(&self) -> SourceKind {
        self.source.kind()
    }

    fn kernel_side(&self) -> Option<KernelSide> {
        self.source.kernel_side()
    }

    async fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        // Whoever asks for the next batch has asked all there was to ask about the one before.
        self.desk.borrow_mut().seal().context("writing the recording")?;
        let Some(batch) = self.source.next_batch().await? else { return Ok(None) };
        self.desk.borrow_mut().begin(&batch);
        Ok(Some(batch))
    }

    fn inspect(&mut self, suspects: &[ProcKey]) -> anyhow::Result<()> {
        self.source.inspect(suspects)
    }
}

impl<D: Directory> Directory for RecordingDirectory<D> {
    fn identify(&mut self, key: ProcKey) -> Option<Identity> {
        self.desk.borrow_mut().identify(key)
    }

    fn rooms(&mut self, identity: &Identity, host: &Host, at: Moment) -> Option<Vec<Room>> {
        self.desk.borrow_mut().rooms(identity, host, at)
    }
}

impl<D: Directory> Recorder<D> {
    /// Writes what is left, and says how much was written in all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(&self) -> anyhow::Result<Written> {
        let mut desk = self.desk.borrow_mut();
        desk.finish().context("writing the recording")?;
        Ok(desk.so_far())
    }

    /// How much was written so far.
    pub fn written(&self) -> Written {
        self.desk.borrow().so_far()
    }
}

/// A batch while it is judged.
struct Draft {
    batch: Batch,
    identities: Vec<Who>,
    answers: Vec<Answer>,
    /// Of whom the room was asked.
    asked: HashSet<ProcKey>,
}

/// Where both sides of a recording meet.
struct Desk<D> {
    directory: D,
    terms: Terms,
    out: BlockWriter,
    encoder: Encoder,
    /// When the first frame of the block was.
    began: Option<Moment>,
    /// When it was last made sure that what was written outlasts a loss of power.
    sure: Option<Moment>,
    /// The batch that is being judged, and what was asked meanwhile.
    frame: Option<Draft>,
    /// Readings that found no place.
    beyond: u64,
    /// Processes that are kept, and who they are where that could be read. By pid: bounded by the pids there are.
    known: HashMap<Pid, (ProcKey, Option<Identity>)>,
    rejected: HashSet<ProcKey>,
    levels: Levels,
    written: Written,
}

impl<D: Directory> Desk<D> {
    fn so_far(&self) -> Written {
        Written { bytes: self.out.written(), ..self.written }
    }

    fn begin(&mut self, batch: &Batch) {
        let Batch { at, wall, host, readings, events, lost } = batch;
        let (at, wall, host, lost) = (*at, *wall, *host, lost.clone());
        let empty = Batch { at, wall, host, lost, readings: Vec::new(), events: Vec::new() };
        self.frame =
            Some(Draft { batch: empty, identities: Vec::new(), answers: Vec::new(), asked: HashSet::new() });
        let events: Vec<Event> = events.iter().filter(|event| self.note(event)).copied().collect();
        let readings: Vec<Reading> =
            readings.iter().filter(|reading| self.admit(reading.key)).cloned().collect();
        for reading in &readings {
            self.read_rooms(reading.key, &host, at);
        }
        if let Some(Draft { batch, .. }) = &mut self.frame {
            (batch.events, batch.readings) = (events, readings);
            if self.beyond > 0 {
                batch.lost.causes.push((BEYOND.into(), self.beyond));
            }
        }
    }

    /// Forgets whom an event makes another; whether it is to be kept.
    fn note(&mut self, event: &Event) -> bool {
        let all = self.terms.selector.is_empty();
        match event {
            Event::Exec { key } | Event::Exit { key, .. } => {
                self.rejected.remove(key);
                let kept = self.known.get(&key.pid).is_some_and(|(known, _)| known == key);
                if kept {
                    self.known.remove(&key.pid);
                }
                (kept || all) && self.terms.leave_out != Some(key.pid)
            }
            Event::OomVictim { pid } => all || self.known.contains_key(pid),
        }
    }

    /// Whether the process is one to keep; learns who it is.
    fn admit(&mut self, key: ProcKey) -> bool {
        if self.known.get(&key.pid).is_some_and(|(known, _)| *known == key) {
            return true;
        }
        if self.terms.leave_out == Some(key.pid) || self.rejected.contains(&key) {
            return false;
        }
        if self.known.len() >= MAX_PROCESSES && !self.known.contains_key(&key.pid) {
            self.beyond += 1;
            return false;
        }
        let identity = self.directory.identify(key);
        if !self.terms.selector.is_empty() {
            let Some(identity) = &identity else { return false };
            if !self.terms.selector.matches(identity) {
                if self.rejected.len() >= MAX_REJECTED {
                    // Exits that were lost left entries behind; whoever lives is looked at once more.
                    self.rejected.clear();
                }
                self.rejected.insert(key);
                return false;
            }
        }
        if let Some(identity) = &identity {
            self.keep(identity);
        }
        self.known.insert(key.pid, (key, identity));
        true
    }

    fn keep(&mut self, identity: &Identity) {
        let Some(frame) = &mut self.frame else { return };
        let mut identity = identity.clone();
        if self.terms.redact {
            who::redact(&mut identity.cmdline);
        }
        frame.identities.push(Who::from(&identity));
        self.written.processes += 1;
    }

    fn identify(&mut self, key: ProcKey) -> Option<Identity> {
        match self.known.get(&key.pid) {
            Some((known, Some(identity))) if *known == key => Some(identity.clone()),
            Some((known, None)) if *known == key => {
                let identity = self.directory.identify(key)?;
                self.keep(&identity);
                self.known.insert(key.pid, (key, Some(identity.clone())));
                Some(identity)
            }
            _ => self.directory.identify(key),
        }
    }

    fn rooms(&mut self, identity: &Identity, host: &Host, at: Moment) -> Option<Vec<Room>> {
        let mut rooms = self.directory.rooms(identity, host, at);
        rooms.iter_mut().flatten().for_each(|room| self.levels.as_told(room));
        let key = identity.key;
        if let Some(frame) = &mut self.frame
            && frame.asked.insert(key)
        {
            frame.answers.push(Answer { key, rooms: rooms.clone() });
        }
        rooms
    }

    /// Reads the limits above a process now and then, though nobody asks today.
    fn read_rooms(&mut self, key: ProcKey, host: &HostMemory, at: Moment) {
        let Some((_, Some(identity))) = self.known.get(&key.pid) else { return };
        if !self.levels.due(cgroup_of(identity), at) {
            return;
        }
        let host =
            Host { size: host.total + host.swap_total, available: host.available, swap_free: host.swap_free };
        let identity = identity.clone();
        self.rooms(&identity, &host, at);
    }

    /// Puts the frame that was judged into the block, and writes the block when it is long enough.
    fn seal(&mut self) -> io::Result<()> {
        let Some(Draft { batch, identities, answers, .. }) = self.frame.take() else { return Ok(()) };
        let at = batch.at;
        self.written.batches += 1;
        self.written.readings += batch.readings.len() as u64;
        if self.encoder.len() + batch.readings.len() > BLOCK_LENGTH {
            self.write(at)?;
        }
        let rest = self.write_ahead(identities, at)?;
        self.encoder.push(&batch, rest, &answers);
        let began = *self.began.get_or_insert(at);
        if at.since(began) >= BLOCK_SPAN || self.encoder.len() >= BLOCK_LENGTH {
            self.write(at)?;
        }
        Ok(())
    }

    /// Writes identities in blocks before the one of their frame, as long as there are too many of them for one; the rest.
    fn write_ahead(&mut self, identities: Vec<Who>, at: Moment) -> io::Result<Vec<Who>> {
        let mut some = Vec::new();
        let mut bytes = 0;
        for who in identities {
            bytes += who.size();
            some.push(who);
            if bytes >= IDENTITIES_LENGTH {
                self.encoder.ahead(some.drain(..));
                self.write(at)?;
                bytes = 0;
            }
        }
        Ok(some)
    }

    fn write(&mut self, at: Moment) -> io::Result<()> {
        if self.encoder.len() > 0 {
            self.out.write(&self.encoder.take())?;
        }
        self.began = None;
        if at.since(*self.sure.get_or_insert(at)) >= SURE_PERIOD {
            self.sure = Some(at);
            self.out.make_sure()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.seal()?;
        if self.encoder.len() > 0 {
            self.out.write(&self.encoder.take())?;
        }
        self.out.make_sure()
    }
}
