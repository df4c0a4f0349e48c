//! A column of whole numbers that are mostly small or mostly multiples of a page.
//!
//! Everything is exact: differences wrap, and come back by wrapping. In memory a column takes what it takes in the file: a
//! small file must not become a large program.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Differences, without the zero bits at the end that all of them share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    shift: u8,
    values: Values,
}

/// Numbers as the file has them, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Values {
    count: usize,
    bytes: Vec<u8>,
}

impl Column {
    /// Adds what leads from `before` to `now`.
    pub(super) fn push(&mut self, now: u64, before: u64) {
        self.values.push(now.wrapping_sub(before).cast_signed());
    }

    /// Adds a value as it is.
    pub(super) fn push_raw(&mut self, value: i64) {
        self.values.push(value);
    }

    /// Takes the zero bits off that all values end with. Nothing is to be added after it.
    pub(super) fn pack(&mut self) {
        let all = self.values.iter().fold(0, |all, value| all | value);
        self.shift = if all == 0 { 0 } else { u8::try_from(all.trailing_zeros()).unwrap_or(0) };
        if self.shift > 0 {
            let mut packed = Values::default();
            self.values.iter().for_each(|value| packed.push(value >> self.shift));
            self.values = packed;
        }
    }

    /// Reads from the beginning.
    pub(super) fn into_reader(self) -> Reader {
        Reader { shift: u32::from(self.shift).min(63), values: self.values.bytes, at: 0 }
    }
}

impl Values {
    fn push(&mut self, value: i64) {
        self.count += 1;
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes = postcard::to_extend(&value, bytes).expect("a Vec has room for ten bytes more");
    }

    fn iter(&self) -> impl Iterator<Item = i64> {
        let mut at = 0;
        std::iter::from_fn(move || next(&self.bytes, &mut at))
    }
}

/// The value at `at`, which moves behind it; `None` at the end.
fn next(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let (value, rest) = postcard::take_from_bytes(bytes.get(*at..)?).ok()?;
    *at = bytes.len() - rest.len();
    Some(value)
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.count))?;
        for value in self.iter() {
            list.serialize_element(&value)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Values;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "numbers")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Values::default();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(values)
            }
        }
        deserializer.deserialize_seq(Reads)
    }
}

/// Reads a column from its beginning.
#[derive(Debug)]
pub(super) struct Reader {
    shift: u32,
    values: Vec<u8>,
    at: usize,
}

/// A block says less than it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Short;

impl Reader {
    /// The next value as it was added.
    pub(super) fn next_raw(&mut self) -> Result<i64, Short> {
        next(&self.values, &mut self.at).map(|value| value << self.shift).ok_or(Short)
    }

    /// What the next difference leads to.
    pub(super) fn next_after(&mut self, before: u64) -> Result<u64, Short> {
        Ok(before.wrapping_add(self.next_raw()?.cast_unsigned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(values: Vec<(u64, u64)>) {
            let mut column = Column::default();
            for (now, before) in &values {
                column.push(*now, *before);
            }
            column.pack();
            let bytes = postcard::to_stdvec(&column).unwrap();
            // The form of format 1, which the kept recordings have.
            let plain: Vec<i64> = column.values.iter().collect();
            prop_assert_eq!(&bytes, &postcard::to_stdvec(&(column.shift, plain)).unwrap());
            let mut reader = postcard::from_bytes::<Column>(&bytes).unwrap().into_reader();
            for (now, before) in &values {
                prop_assert_eq!(reader.next_after(*before), Ok(*now));
            }
            prop_assert_eq!(reader.next_raw(), Err(Short));
        }
    }

    #[test]
    fn whole_pages_become_small_numbers() {
        let mut column = Column::default();
        column.push(40960, 8192);
        column.push(4096, 8192);
        column.pack();
        assert_eq!((column.shift, column.values.iter().collect::<Vec<_>>()), (12, vec![8, -1]));
    }
}
