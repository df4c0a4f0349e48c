//! Series that somebody else recorded: CSV, the lab's monitoring log, Prometheus.
//!
//! They come as rows, each of one process or other thing at one time, and each series has its own past: rows of two
//! series need not be in order. A row that makes no sense is reported with its place and costs nothing but itself.
//! Start reading at [`read`].

mod csv;
mod guard;
mod http;
mod lines;
mod log;
mod prometheus;

#[cfg(test)]
mod tests;

pub use http::{Query, fetch};

use std::io::{self, BufRead, Read};

use crate::leak::{Limit, Memory, Room};
use crate::units::{Bytes, Pid};

/// What a row is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// A process's pid; `None` for what is no process.
    pub pid: Option<Pid>,
    /// Its name. For a process, rows of one pid are one series whatever they call it.
    pub comm: String,
}

/// One process or other thing at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Of what.
    pub name: Name,
    /// When, in seconds from wherever the writer counts. Finite.
    pub at_s: f64,
    /// What it held.
    pub memory: Memory,
    /// How much more it may take, where the writer says so.
    pub room: Option<Room>,
    /// Where it stands.
    pub place: Place,
}

/// Where a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this line.
    Line(u64),
    /// It is this sample of this series, both counted from 1.
    Sample(u64, u64),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Sample(number, series) => write!(f, "sample {number} of series {series}"),
        }
    }
}

/// A row that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Where it stands.
    pub place: Place,
    /// What is wrong with it.
    pub why: String,
}

/// What takes the rows.
pub trait Rows {
    /// The next row.
    fn row(&mut self, row: Row);
    /// A row that makes no sense.
    fn bad(&mut self, bad: Bad);
}

/// Why nothing can be read.
#[derive(Debug)]
pub enum SeriesError {
    /// Nothing is in it.
    Empty,
    /// It begins like nothing that is known.
    Unknown,
    /// The header lacks these columns.
    Columns(Vec<&'static str>),
    /// It is JSON, and not Prometheus' answer to a range query, for this reason.
    NotAMatrix(String),
    /// Prometheus answered that the query failed.
    Refused(String),
    /// Reading failed.
    Io(io::Error),
}

impl std::fmt::Display for SeriesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::Unknown => write!(f, "it begins like no format that is known"),
            Self::Columns(missing) => {
                write!(f, "line 1: the CSV header lacks {}", missing.join(" and "))
            }
            Self::NotAMatrix(why) => write!(f, "it is no answer of Prometheus to a range query: {why}"),
            Self::Refused(why) => write!(f, "Prometheus answered with an error: {why}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SeriesError {}

impl From<io::Error> for SeriesError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl SeriesError {
    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Io(_) => "check the path and its permissions",
            Self::NotAMatrix(_) | Self::Refused(_) => {
                "ask /api/v1/query_range for series of bytes, such as process_resident_memory_bytes, over a range that is not \
                 longer than needed"
            }
            _ => {
                "give a recording, a CSV file with the header at_s,pid,comm,anon_bytes, a log with lines of \
                 `RFC3339 total_bytes=N used_bytes=N available_bytes=N`, or Prometheus' answer to a range query"
            }
        }
    }
}

/// Reads whatever `input` holds: it is told from its first bytes.
///
/// # Errors
/// When nothing in it can be read as rows, or no more of it than the rows that were told; single rows that make no sense
/// go to [`Rows::bad`].
pub fn read(input: &mut dyn BufRead, rows: &mut dyn Rows) -> Result<(), SeriesError> {
    let (blank_lines, first) = skip_blanks(input)?;
    match first {
        None => return Err(SeriesError::Empty),
        Some(b'{') => return prometheus::read(&mut &mut *input, rows),
        Some(_) => {}
    }
    let mut lines = lines::Lines::new(input, blank_lines);
    let Some(first) = lines.first()? else { return Err(SeriesError::Unknown) };
    if log::looks_like_one(&first) {
        return log::read(lines, rows);
    }
    csv::read(&first, lines, rows)
}

/// Reads Prometheus' answer to a range query.
///
/// # Errors
/// As [`read`], and when it is none or says that the query failed.
pub fn read_answer(answer: &mut dyn Read, rows: &mut dyn Rows) -> Result<(), SeriesError> {
    prometheus::read(answer, rows)
}

/// Skips a byte order mark and what is blank; how many lines that ended, and the byte that comes next.
fn skip_blanks(input: &mut dyn BufRead) -> io::Result<(u64, Option<u8>)> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    if input.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        input.consume(BYTE_ORDER_MARK.len());
    }
    let mut lines = 0;
    loop {
        let some = input.fill_buf()?;
        let blanks = some.iter().take_while(|byte| byte.is_ascii_whitespace());
        let blanks = blanks.inspect(|byte| lines += u64::from(**byte == b'\n')).count();
        let next = some.get(blanks).copied();
        if next.is_some() || some.is_empty() {
            input.consume(blanks);
            return Ok((lines, next));
        }
        input.consume(blanks);
    }
}

/// Most bytes that anything can hold: a 57-bit address space.
const MOST_BYTES: f64 = (1_u64 << 57) as f64;

/// Seconds that a time may be from zero, in either direction: the year 2255. Milliseconds since 1970 are beyond.
const LATEST_S: f64 = 9e9;

/// A size in bytes, written as a whole number, or as a float as some tools do.
fn bytes(text: &str) -> Result<Bytes, String> {
    if let Ok(whole) = text.parse::<u64>()
        && (whole as f64) <= MOST_BYTES
    {
        return Ok(Bytes(whole));
    }
    let value: f64 = text.parse().map_err(|_| format!("`{}` is no number of bytes", clip(text)))?;
    size(value).ok_or_else(|| format!("`{}` is no possible number of bytes", clip(text)))
}

/// A size that is a number, not negative, and not larger than an address space.
fn size(value: f64) -> Option<Bytes> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    (0.0..=MOST_BYTES).contains(&value).then(|| Bytes(value.round() as u64))
}

/// A time in seconds.
fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{}` is no time in seconds", clip(text)))?;
    if value.abs() <= LATEST_S { Ok(value) } else { Err(format!("`{}` is no time in seconds", clip(text))) }
}

/// What is left under a limit that the writer gives.
fn room(limit: Bytes, used: Bytes) -> Room {
    Room { limit: Limit::Host, size: limit, left: limit - used }
}

/// So much of a field as a message has room for.
fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}
