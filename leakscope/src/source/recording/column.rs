//! A column of whole numbers that are mostly small or mostly multiples of a page.
//!
//! Everything is exact: differences wrap, and come back by wrapping.

use serde::{Deserialize, Serialize};

/// Differences, without the zero bits at the end that all of them share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    shift: u8,
    values: Vec<i64>,
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
        let all = self.values.iter().fold(0, |all, value| all | *value);
        self.shift = if all == 0 { 0 } else { u8::try_from(all.trailing_zeros()).unwrap_or(0) };
        for value in &mut self.values {
            *value >>= self.shift;
        }
    }

    /// Reads from the beginning.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { shift: u32::from(self.shift).min(63), values: self.values.iter() }
    }
}

/// Reads a column from its beginning.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    shift: u32,
    values: std::slice::Iter<'a, i64>,
}

/// A block says less than it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Short;

impl Reader<'_> {
    /// The next value as it was added.
    pub(super) fn next_raw(&mut self) -> Result<i64, Short> {
        self.values.next().map(|value| value << self.shift).ok_or(Short)
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
            let mut reader = column.reader();
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
        assert_eq!((column.shift, column.values), (12, vec![8, -1]));
    }
}
