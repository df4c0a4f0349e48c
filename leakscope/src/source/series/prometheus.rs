//! Prometheus' answer to a range query: a matrix of series of bytes.
//!
//! It is read as it comes, sample by sample: an answer of hundreds of megabytes takes no more memory than its longest
//! word (`guard`). So a row may be told before the end shows that the answer is broken; whoever takes the rows hears of
//! it by the error that [`read`] ends with. Start reading at [`Answer`].

use std::fmt;
use std::io::{BufReader, ErrorKind, Read};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::guard::Guard;
use super::{Bad, LATEST_S, Name, Place, Row, Rows, SeriesError, clip, size};
use crate::leak::Memory;
use crate::units::Pid;

/// Bytes of an answer, at most.
pub(super) const LONGEST: u64 = 256 << 20;
/// Labels of a series, at most; Prometheus itself advises against more than ten.
const MOST_LABELS: usize = 128;
/// Samples that are held until the labels of their series come. Prometheus writes the labels first, and never more
/// than 11,000 samples of a series.
const MOST_HELD: usize = 20_000;

pub(super) fn read(input: &mut dyn Read, rows: &mut dyn Rows) -> Result<(), SeriesError> {
    let input = BufReader::with_capacity(1 << 16, Guard::new(input, LONGEST));
    let mut json = serde_json::Deserializer::from_reader(input);
    let mut answer = Answer { rows, status: None, error: None, data: None };
    let read = answer.by_ref().deserialize(&mut json).and_then(|()| json.end());
    read.map_err(|error| match (error.classify(), error.io_error_kind()) {
        // What the guard refuses is read well enough.
        (Category::Io, Some(kind)) if kind != ErrorKind::InvalidData => SeriesError::Io(error.into()),
        _ => SeriesError::NotAMatrix(error.to_string()),
    })?;
    answer.verdict()
}

/// What an answer says apart from its samples, which go straight to `rows`.
struct Answer<'a> {
    rows: &'a mut dyn Rows,
    status: Option<String>,
    error: Option<String>,
    /// The kind of the result, where there are data.
    data: Option<Option<String>>,
}

impl Answer<'_> {
    /// The seed for the document.
    fn by_ref(&mut self) -> Document<'_> {
        let Answer { rows, status, error, data } = self;
        Document { rows: &mut **rows, status, error, data }
    }

    fn verdict(self) -> Result<(), SeriesError> {
        let broken = |why: &str| Err(SeriesError::NotAMatrix(why.to_owned()));
        match (self.status.as_deref(), self.data) {
            (Some("success"), Some(Some(kind))) if kind == "matrix" => Ok(()),
            (Some("success"), Some(Some(kind))) => {
                broken(&format!("its result is a {}, not a matrix", clip(&kind)))
            }
            (Some("success"), Some(None)) => broken("its data have no resultType"),
            (Some("success"), None) => broken("it has no data"),
            (Some(status), _) => Err(SeriesError::Refused(self.error.unwrap_or_else(|| status.to_owned()))),
            (None, _) => broken("it has no status"),
        }
    }
}

/// Reads the document, an object.
struct Document<'a> {
    rows: &'a mut dyn Rows,
    status: &'a mut Option<String>,
    error: &'a mut Option<String>,
    data: &'a mut Option<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with status and data")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "status" => *self.status = Some(map.next_value()?),
                "error" => *self.error = map.next_value()?,
                "data" => *self.data = map.next_value_seed(Data { rows: &mut *self.rows })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads the data, an object or null, and says of which kind they are.
struct Data<'a> {
    rows: &'a mut dyn Rows,
}

impl<'de> DeserializeSeed<'de> for Data<'_> {
    type Value = Option<Option<String>>;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Data<'_> {
    type Value = Option<Option<String>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with resultType and result")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut kind: Option<String> = None;
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "resultType" => kind = Some(map.next_value()?),
                // Of another kind, it has another form; that it is of another kind is what is told.
                "result" if kind.as_deref().is_none_or(|kind| kind == "matrix") => {
                    map.next_value_seed(Matrix { rows: &mut *self.rows })?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Some(kind))
    }
}

/// Reads the result, a list of series.
struct Matrix<'a> {
    rows: &'a mut dyn Rows,
}

impl<'de> DeserializeSeed<'de> for Matrix<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Matrix<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of series")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut number = 1;
        while list.next_element_seed(Series { rows: &mut *self.rows, number })?.is_some() {
            number += 1;
        }
        Ok(())
    }
}

/// Reads one series, an object.
struct Series<'a> {
    rows: &'a mut dyn Rows,
    number: u64,
}

impl<'de> DeserializeSeed<'de> for Series<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Series<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a series with metric and values")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (rows, series) = (self.rows, self.number);
        let mut name: Option<Name> = None;
        let mut held: Vec<Point> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match (key.as_str(), &name) {
                ("metric", _) => name = Some(map.next_value_seed(Labels)?),
                ("values", Some(name)) => {
                    let mut number = 0;
                    map.next_value_seed(Values(&mut |point: Point| {
                        number += 1;
                        tell(rows, name, &point, Place::Sample(number, series));
                        true
                    }))?;
                }
                ("values", None) => map.next_value_seed(Values(&mut |point| {
                    held.push(point);
                    held.len() <= MOST_HELD
                }))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let name = name.unwrap_or_else(|| name_of(&[]));
        for (number, point) in (1..).zip(&held) {
            tell(rows, &name, point, Place::Sample(number, series));
        }
        Ok(())
    }
}

fn tell(rows: &mut dyn Rows, name: &Name, point: &Point, place: Place) {
    let Point { at_s, value } = *point;
    // Prometheus writes NaN for what it has no number for.
    match size(value).filter(|_| at_s.abs() <= LATEST_S) {
        Some(anon) => {
            let memory = Memory { anon, ..Memory::default() };
            rows.row(Row { name: name.clone(), at_s, memory, room: None, place });
        }
        None => rows.bad(Bad { place, why: format!("`{value}` at {at_s} is no number of bytes at a time") }),
    }
}

/// One sample as it is written: the time, and a number in quotes.
struct Point {
    at_s: f64,
    value: f64,
}

/// Reads the samples of a series and hands each on, until it is told that there were enough.
struct Values<'a>(&'a mut dyn FnMut(Point) -> bool);

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of samples")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some((at_s, Number(value))) = list.next_element::<(f64, Number)>()? {
            if !(self.0)(Point { at_s, value }) {
                let why = format!("more than {MOST_HELD} samples of a series stand before its labels");
                return Err(A::Error::custom(why));
            }
        }
        Ok(())
    }
}

/// A number, in quotes or not; NaN for what is none.
struct Number(f64);

impl<'de> serde::Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Reads;
        #[expect(clippy::cast_precision_loss, reason = "a byte more or less in 2^53 is nothing")]
        impl Visitor<'_> for Reads {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number in quotes")
            }
            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.parse().unwrap_or(f64::NAN)))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }
            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(f64::NAN))
            }
        }
        json.deserialize_any(Reads)
    }
}

/// Reads the labels of a series, and names it by them.
struct Labels;

impl<'de> DeserializeSeed<'de> for Labels {
    type Value = Name;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Name, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Labels {
    type Value = Name;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "labels")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Name, A::Error> {
        let mut labels = Vec::new();
        while let Some(label) = map.next_entry::<String, String>()? {
            if labels.len() == MOST_LABELS {
                return Err(A::Error::custom(format!("a series has more than {MOST_LABELS} labels")));
            }
            labels.push(label);
        }
        labels.sort();
        Ok(name_of(&labels))
    }
}

/// The series as Prometheus writes it: `name{label="value"}`.
fn name_of(labels: &[(String, String)]) -> Name {
    let of = |name: &str| labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str());
    let shown: Vec<String> = labels
        .iter()
        .filter(|(label, _)| label != "__name__")
        .map(|(label, value)| format!("{label}={value:?}"))
        .collect();
    let comm = format!("{}{{{}}}", of("__name__").unwrap_or_default(), shown.join(","));
    Name { pid: of("pid").and_then(|pid| pid.parse().ok()).map(Pid), comm }
}
