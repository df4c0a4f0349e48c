//! The monitoring log that the lab writes: `RFC3339 total_bytes=N used_bytes=N available_bytes=N`, one series, the host.

use jiff::Timestamp;

use super::lines::Lines;
use super::{Bad, Name, Place, Row, Rows, SeriesError, bytes};
use crate::leak::{Limit, Memory, Room};

/// What the one series is called.
const HOST: &str = "host";

/// Whether a line is one of a monitoring log, or at least meant to be.
pub(super) fn looks_like_one(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    line.contains("used_bytes=") || row(&line, Place::Line(1)).is_ok()
}

pub(super) fn read(mut lines: Lines<'_>, rows: &mut dyn Rows) -> Result<(), SeriesError> {
    while let Some((number, line)) = lines.next()? {
        let place = Place::Line(number);
        let Some(line) = line else {
            rows.bad(Bad { place, why: "it is longer than 64 KiB".to_owned() });
            continue;
        };
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() {
            continue;
        }
        match row(&line, place) {
            Ok(row) => rows.row(row),
            Err(why) => rows.bad(Bad { place, why }),
        }
    }
    Ok(())
}

fn row(line: &str, place: Place) -> Result<Row, String> {
    let mut words = line.split_whitespace();
    let date = words.next().unwrap_or_default();
    let date: Timestamp = date.parse().map_err(|_| "it does not begin with a date".to_owned())?;
    let (mut total, mut used, mut available) = (None, None, None);
    for word in words {
        let Some((name, value)) = word.split_once('=') else { continue };
        let slot = match name {
            "total_bytes" => &mut total,
            "used_bytes" => &mut used,
            "available_bytes" => &mut available,
            _ => continue,
        };
        *slot = Some(bytes(value).map_err(|why| format!("{name}: {why}"))?);
    }
    let used = used.ok_or("used_bytes is missing")?;
    let room = total.zip(available).map(|(total, available)| Room {
        limit: Limit::Host,
        size: total,
        left: available,
    });
    Ok(Row {
        name: Name { pid: None, comm: HOST.to_owned() },
        at_s: date.as_duration().as_secs_f64(),
        memory: Memory { anon: used, ..Memory::default() },
        room,
        place,
    })
}
