//! The file: magic bytes and a version, then blocks, each with its length and checksum.
//!
//! It is only ever appended to, block by block, so what a crash costs is the block that was being written: a reader
//! takes everything before it and says what it left. The checksum covers the length as well. No length is believed
//! beyond [`MAX_STORED`], and nothing is inflated beyond [`MAX_HELD`]: a reader's memory is bounded whatever the file says
//! (`bounded` and `column` see to it that the values take no more than some multiple of that).

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How a recording begins. The first byte is no text, and the line ends do not survive a transfer as text.
pub const MAGIC: [u8; 12] = *b"\x89leakscope\r\n";
/// The format that is written, and the newest that is read.
pub(super) const VERSION: u16 = 3;
/// The oldest format that is read: what formats differ in is how rooms are told (see `block::RoomIs`).
const OLDEST: u16 = 1;
/// Bytes of a block once inflated, at most. A full block has 1 to 2 MB, a first frame of as many processes as a
/// recording holds twice that.
pub(super) const MAX_HELD: usize = 8 << 20;
/// Bytes of a block in the file, at most: what cannot be compressed becomes a little longer.
const MAX_STORED: usize = MAX_HELD + (64 << 10);
/// Good compression; the time it takes does not show at a block each few seconds.
const LEVEL: u8 = 8;

/// What stands at the start of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The leakscope that made it.
    pub version: String,
    /// The machine's name.
    pub hostname: String,
    /// The kernel's release.
    pub kernel: String,
    /// Whether a kernel side was at work.
    pub ebpf: bool,
    /// Whether the command lines were left out.
    pub redacted: bool,
}

/// Why a file cannot be read as a recording.
#[derive(Debug)]
pub enum FileError {
    /// It does not begin like one.
    Foreign,
    /// It ends before its first block does.
    Cut,
    /// A newer leakscope wrote it, in this format.
    Newer(u16),
    /// A block's checksum is right and what it holds makes no sense: the byte at which it begins.
    Senseless(u64),
    /// Reading failed.
    Io(io::Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => write!(f, "it is no recording of leakscope"),
            Self::Cut => write!(f, "it is cut off before the first sample: nothing in it can be judged"),
            Self::Newer(version) => write!(
                f,
                "it was written by a newer leakscope (format {version}; this one reads up to {VERSION})"
            ),
            Self::Senseless(at) => {
                write!(f, "the block at byte {at} has the right checksum and makes no sense")
            }
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FileError {}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Where the readable part of a recording ends before the file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The byte at which the part that was left out begins.
    pub at: u64,
    /// Whether the file ends within a block, as after a crash; otherwise the block is damaged.
    pub cut: bool,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.cut { "the block there is cut off" } else { "the block there is damaged" };
        write!(f, "read up to byte {}: {what}; everything before it was judged", self.at)
    }
}

/// Where a recording goes.
pub trait Store: Write {
    /// Makes what was written outlast a loss of power.
    ///
    /// # Errors
    /// When that fails; where there is nothing to make sure of, it does not.
    fn make_sure(&mut self) -> io::Result<()>;
}

impl Store for File {
    fn make_sure(&mut self) -> io::Result<()> {
        match self.sync_data() {
            // A pipe or a device, which keeps nothing.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
            {
                Ok(())
            }
            done => done,
        }
    }
}

/// Writes blocks.
pub(super) struct BlockWriter {
    out: Box<dyn Store>,
    written: u64,
}

impl BlockWriter {
    /// Writes the beginning of a recording.
    pub(super) fn new(mut out: Box<dyn Store>, start: &Start) -> io::Result<Self> {
        let mut head = MAGIC.to_vec();
        head.extend(VERSION.to_le_bytes());
        head.extend(stored(start)?);
        out.write_all(&head)?;
        Ok(Self { out, written: head.len() as u64 })
    }

    /// Adds a block, in one write.
    pub(super) fn write(&mut self, block: &impl Serialize) -> io::Result<()> {
        let bytes = stored(block)?;
        self.out.write_all(&bytes)?;
        self.out.flush()?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Makes what was written outlast a loss of power.
    pub(super) fn make_sure(&mut self) -> io::Result<()> {
        self.out.make_sure()
    }

    /// Bytes written so far.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }
}

fn stored(block: &impl Serialize) -> io::Result<Vec<u8>> {
    let held = postcard::to_stdvec(block).map_err(io::Error::other)?;
    let packed = miniz_oxide::deflate::compress_to_vec(&held, LEVEL);
    if held.len() > MAX_HELD || packed.len() > MAX_STORED {
        let message = format!("a block of {} bytes is more than a recording takes", held.len());
        return Err(io::Error::other(message));
    }
    let length = u32::try_from(packed.len()).map_err(io::Error::other)?.to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend(checksum(length, &packed).to_le_bytes());
    bytes.extend(packed);
    Ok(bytes)
}

fn checksum(length: [u8; 4], packed: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(packed);
    hasher.finalize()
}

/// Reads blocks until the file ends or a block is not whole.
#[derive(Debug)]
pub(super) struct BlockReader<R> {
    input: R,
    at: u64,
    torn: Option<Torn>,
}

impl<R: Read> BlockReader<R> {
    /// Reads the beginning of a recording.
    pub(super) fn open(mut input: R) -> Result<(Start, Self), FileError> {
        let mut head = Vec::new();
        input.by_ref().take(MAGIC.len() as u64 + 2).read_to_end(&mut head)?;
        let (magic, version) = head.split_at(head.len().min(MAGIC.len()));
        if !MAGIC.starts_with(magic) || magic.is_empty() {
            return Err(FileError::Foreign);
        }
        let &[low, high] = version else { return Err(FileError::Cut) };
        match u16::from_le_bytes([low, high]) {
            OLDEST..=VERSION => {}
            0 => return Err(FileError::Foreign),
            newer => return Err(FileError::Newer(newer)),
        }
        let mut reader = Self { input, at: head.len() as u64, torn: None };
        let start = reader.next()?.ok_or(FileError::Cut)?;
        Ok((start, reader))
    }

    /// The next block; `None` at the end, or where what follows is not whole.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FileError> {
        if self.torn.is_some() {
            return Ok(None);
        }
        let mut head = Vec::new();
        self.input.by_ref().take(8).read_to_end(&mut head)?;
        if head.is_empty() {
            return Ok(None);
        }
        let &[a, b, c, d, e, f, g, h] = head.as_slice() else { return Ok(self.tear(true)) };
        let length = u32::from_le_bytes([a, b, c, d]);
        if length as usize > MAX_STORED {
            return Ok(self.tear(false));
        }
        let mut packed = Vec::new();
        self.input.by_ref().take(u64::from(length)).read_to_end(&mut packed)?;
        if packed.len() < length as usize {
            return Ok(self.tear(true));
        }
        if checksum([a, b, c, d], &packed) != u32::from_le_bytes([e, f, g, h]) {
            return Ok(self.tear(false));
        }
        let at = self.at;
        let senseless = || FileError::Senseless(at);
        let held =
            miniz_oxide::inflate::decompress_to_vec_with_limit(&packed, MAX_HELD).map_err(|_| senseless())?;
        let (block, rest) = postcard::take_from_bytes(&held).map_err(|_| senseless())?;
        if !rest.is_empty() {
            return Err(senseless());
        }
        self.at += 8 + u64::from(length);
        Ok(Some(block))
    }

    fn tear<T>(&mut self, cut: bool) -> Option<T> {
        self.torn = Some(Torn { at: self.at, cut });
        None
    }

    /// Where reading ended before the file did.
    pub(super) const fn torn(&self) -> Option<Torn> {
        self.torn
    }

    /// The byte at which the next block begins.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }
}
