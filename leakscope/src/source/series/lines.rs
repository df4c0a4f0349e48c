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
    pub(super) fn new(input: &'a mut dyn BufRead) -> Self {
        Self { input, number: 0, again: None }
    }

    /// The first line that is not empty, which stays the next one; `None` when there is none.
    pub(super) fn first(&mut self) -> io::Result<Option<Vec<u8>>> {
        while let Some((number, line)) = self.next()? {
            let mut line = line.unwrap_or_default();
            if let Some(rest) = line.strip_prefix(b"\xef\xbb\xbf") {
                line = rest.to_vec();
            }
            if number > 1 || !line.trim_ascii().is_empty() {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                self.again = Some((number, line.clone()));
                return Ok(Some(line));
            }
        }
        Ok(None)
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

    /// Everything that is left, at most `most` bytes; `None` when there is more.
    pub(super) fn rest(mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        let mut all = self.again.take().map_or_else(Vec::new, |(_, line)| line);
        all.push(b'\n');
        self.input.take(most as u64 + 1).read_to_end(&mut all)?;
        Ok((all.len() <= most).then_some(all))
    }
}
