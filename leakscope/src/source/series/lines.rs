//! Lines with their numbers, none held beyond a bound.

use std::io::{self, BufRead, Read};

/// Bytes of a line, at most; what is longer is no line of any format that is read here.
const LONGEST: usize = 64 << 10;

/// Reads lines.
pub(super) struct Lines<'a> {
    input: &'a mut dyn BufRead,
    number: u64,
    again: Option<(u64, Vec<u8>)>,
}

/// A line: its number, and its bytes without the line's end, or `None` when it is too long.
pub(super) type Line = (u64, Option<Vec<u8>>);

impl<'a> Lines<'a> {
    /// The lines of `input`, of which `before` lines were read already.
    pub(super) fn new(input: &'a mut dyn BufRead, before: u64) -> Self {
        Self { input, number: before, again: None }
    }

    /// The first line, which stays the next one; `None` when it is too long, or there is none.
    pub(super) fn first(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some((number, Some(line))) = self.next()? else { return Ok(None) };
        self.again = Some((number, line.clone()));
        Ok(Some(line))
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        if let Some((number, line)) = self.again.take() {
            return Ok(Some((number, Some(line))));
        }
        let mut line = Vec::new();
        let mut limited = Read::take(&mut *self.input, LONGEST as u64 + 1);
        if limited.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if line.len() > LONGEST && line.last() != Some(&b'\n') {
            self.input.skip_until(b'\n')?;
            return Ok(Some((self.number, None)));
        }
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        Ok(Some((self.number, Some(line))))
    }
}
