//! Prometheus' answer to a range query: a matrix of series of bytes.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::lines::Lines;
use super::{Bad, LATEST_S, Name, Place, Row, Rows, SeriesError, clip, size};
use crate::leak::Memory;
use crate::units::Pid;

/// Bytes of an answer, at most.
pub(super) const LONGEST: usize = 256 << 20;

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    #[serde(default)]
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

pub(super) fn read(lines: Lines<'_>, rows: &mut dyn Rows) -> Result<(), SeriesError> {
    let Some(answer) = lines.rest(LONGEST)? else {
        return Err(SeriesError::NotAMatrix(format!("it is longer than {} MiB", LONGEST >> 20)));
    };
    parse(&answer, rows)
}

pub(super) fn parse(answer: &[u8], rows: &mut dyn Rows) -> Result<(), SeriesError> {
    let broken = |error: serde_json::Error| SeriesError::NotAMatrix(error.to_string());
    let Answer { status, error, data } = serde_json::from_slice(answer).map_err(broken)?;
    if status != "success" {
        return Err(SeriesError::Refused(error.unwrap_or(status)));
    }
    let Some(Data { kind, result }) = data else {
        return Err(SeriesError::NotAMatrix("it has no data".to_owned()));
    };
    if kind != "matrix" {
        return Err(SeriesError::NotAMatrix(format!("its result is a {}, not a matrix", clip(&kind))));
    }
    let series: Vec<Series> = serde_json::from_value(result).map_err(broken)?;
    for (series, Series { metric, values }) in (1..).zip(series) {
        let name = name(&metric);
        for (number, (at_s, value)) in (1..).zip(values) {
            let place = Place::Sample(number, series);
            // Prometheus writes NaN for what it has no number for.
            let at_is_good = at_s.abs() <= LATEST_S;
            match value.parse().ok().and_then(size).filter(|_| at_is_good) {
                Some(anon) => {
                    let memory = Memory { anon, ..Memory::default() };
                    rows.row(Row { name: name.clone(), at_s, memory, room: None, place });
                }
                None => rows.bad(Bad {
                    place,
                    why: format!("`{}` at {at_s} is no number of bytes at a time", clip(&value)),
                }),
            }
        }
    }
    Ok(())
}

/// The series as Prometheus writes it: `name{label="value"}`.
fn name(metric: &BTreeMap<String, String>) -> Name {
    let labels: Vec<String> = metric
        .iter()
        .filter(|(label, _)| *label != "__name__")
        .map(|(label, value)| format!("{label}={value:?}"))
        .collect();
    let comm = format!("{}{{{}}}", metric.get("__name__").map_or("", String::as_str), labels.join(","));
    Name { pid: metric.get("pid").and_then(|pid| pid.parse().ok()).map(Pid), comm }
}
