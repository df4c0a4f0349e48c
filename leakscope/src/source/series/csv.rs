//! CSV with a header: `at_s,pid,comm,anon_bytes`, and perhaps more.
//!
//! A record is a line: a field in quotes may hold commas and quotes, and no line break, so that one quote that is never
//! closed costs one line and not the rest of the file.

use csv_core::{ReadRecordResult, ReaderBuilder, Terminator};

use super::lines::Lines;
use super::{Bad, Name, Place, Row, Rows, SeriesError, bytes, clip, room, seconds};
use crate::leak::Memory;
use crate::units::{Bytes, Pid};

/// The columns that are read; the first four must be there.
const COLUMNS: [&str; 8] =
    ["at_s", "pid", "comm", "anon_bytes", "file_bytes", "shmem_bytes", "swap_bytes", "limit_bytes"];
const NEEDED: usize = 4;

/// Where the columns stand.
struct Header([Option<usize>; COLUMNS.len()]);

pub(super) fn read(first: &[u8], mut lines: Lines<'_>, rows: &mut dyn Rows) -> Result<(), SeriesError> {
    let header = Header::of(first)?;
    lines.next()?;
    while let Some((number, line)) = lines.next()? {
        let place = Place::Line(number);
        let Some(line) = line else {
            rows.bad(Bad { place, why: "it is longer than 64 KiB".to_owned() });
            continue;
        };
        if line.trim_ascii().is_empty() {
            continue;
        }
        match header.row(&line, place) {
            Ok(row) => rows.row(row),
            Err(why) => rows.bad(Bad { place, why }),
        }
    }
    Ok(())
}

impl Header {
    fn of(line: &[u8]) -> Result<Self, SeriesError> {
        let fields = fields(line).map_err(|_| SeriesError::Unknown)?;
        let at = COLUMNS.map(|name| fields.iter().position(|field| field.trim() == name));
        let missing: Vec<&str> = COLUMNS
            .iter()
            .zip(at)
            .take(NEEDED)
            .filter(|(_, at)| at.is_none())
            .map(|(name, _)| *name)
            .collect();
        match missing.len() {
            0 => Ok(Self(at)),
            // Nothing of it is known: it is rather something else than a CSV file with another header.
            NEEDED if fields.len() < 2 => Err(SeriesError::Unknown),
            _ => Err(SeriesError::Columns(missing)),
        }
    }

    fn row(&self, line: &[u8], place: Place) -> Result<Row, String> {
        let fields = fields(line)?;
        let [at_s, pid, comm, anon, file, shmem, swap, limit] = self.0.map(|at| {
            let field = fields.get(at?)?.trim();
            (!field.is_empty()).then_some(field)
        });
        let needed = |field: Option<&str>, index: usize| {
            field.map(str::to_owned).ok_or_else(|| format!("{} is missing", COLUMNS[index]))
        };
        let size = |field: Option<&str>, index: usize| {
            field.map_or(Ok(Bytes::ZERO), |text| {
                bytes(text).map_err(|why| format!("{}: {why}", COLUMNS[index]))
            })
        };
        let at_s = seconds(&needed(at_s, 0)?).map_err(|why| format!("at_s: {why}"))?;
        let pid = needed(pid, 1)?;
        let pid = pid.parse().map_err(|_| format!("pid: `{}` is no pid", clip(&pid)))?;
        needed(anon, 3)?;
        let memory = Memory {
            anon: size(anon, 3)?,
            file: size(file, 4)?,
            shmem: size(shmem, 5)?,
            swap: size(swap, 6)?,
        };
        let room = match limit {
            Some(_) => Some(room(size(limit, 7)?, memory.footprint())),
            None => None,
        };
        let name = Name { pid: Some(Pid(pid)), comm: comm.unwrap_or_default().to_owned() };
        Ok(Row { name, at_s, memory, room, place })
    }
}

/// The fields of a line.
fn fields(line: &[u8]) -> Result<Vec<String>, String> {
    const MOST: usize = 1024;
    let mut text = vec![0; line.len() + 1];
    let mut ends = [0; MOST];
    // A carriage return within a line is a byte like others: as the end of a record it would hide what follows.
    let mut reader = ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build();
    let (result, read, written, count) = reader.read_record(line, &mut text, &mut ends);
    if !matches!(result, ReadRecordResult::InputEmpty | ReadRecordResult::Record) {
        return Err(format!("it has more than {MOST} fields"));
    }
    // The end of the line is told by an empty input.
    let (result, _, _, last) = reader.read_record(&line[read..], &mut text[written..], &mut ends[count..]);
    if result == ReadRecordResult::OutputEndsFull {
        return Err(format!("it has more than {MOST} fields"));
    }
    let mut from = 0;
    let mut fields = Vec::new();
    for end in &ends[..count + last] {
        fields.push(String::from_utf8_lossy(text.get(from..*end).unwrap_or_default()).into_owned());
        from = *end;
    }
    Ok(fields)
}
