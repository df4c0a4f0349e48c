//! Stands before the JSON parser: ends an input that is longer than allowed, or that holds a word so long that the parser,
//! which keeps a word whole, would take too much memory for it.

use std::io::{self, Read};

/// Bytes of a string, a number or blanks in JSON, at most; label values are cut at far less.
const LONGEST_WORD: usize = 64 << 10;

/// Passes JSON on.
pub(super) struct Guard<'a> {
    input: &'a mut dyn Read,
    most: u64,
    passed: u64,
    /// Bytes of the word that is being passed.
    word: usize,
    in_string: bool,
    escaped: bool,
}

impl<'a> Guard<'a> {
    pub(super) fn new(input: &'a mut dyn Read, most: u64) -> Self {
        Self { input, most, passed: 0, word: 0, in_string: false, escaped: false }
    }

    fn follow(&mut self, byte: u8) {
        self.word += 1;
        match (self.in_string, self.escaped, byte) {
            (true, true, _) => self.escaped = false,
            (true, false, b'\\') => self.escaped = true,
            (_, _, b'"') => (self.in_string, self.word) = (!self.in_string, 0),
            (false, _, b',' | b':' | b'[' | b']' | b'{' | b'}') => self.word = 0,
            _ => {}
        }
    }
}

impl Read for Guard<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.passed += count as u64;
        if self.passed > self.most {
            return Err(refused(format!("it is longer than {} MiB", self.most >> 20)));
        }
        for byte in &buffer[..count] {
            self.follow(*byte);
            if self.word > LONGEST_WORD {
                let longest = LONGEST_WORD >> 10;
                return Err(refused(format!("a value in it is longer than {longest} KiB")));
            }
        }
        Ok(count)
    }
}

/// The one kind of error that is about what was read, not about reading.
fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(text: &[u8], most: u64) -> io::Result<usize> {
        Guard::new(&mut &*text, most).read_to_end(&mut Vec::new())
    }

    #[test]
    fn a_long_word_is_refused_whatever_is_escaped_in_it_and_many_short_ones_are_not() {
        let many = br#"["\"",1,"ab\\","#.repeat(LONGEST_WORD);
        assert_eq!(passed(&many, 1 << 30).unwrap(), many.len());
        for part in [&b"x"[..], b"\\\"", b"{", b"\\\\"] {
            let text = [b"[\"", &*part.repeat(LONGEST_WORD + 1)].concat();
            let error = passed(&text, 1 << 30).unwrap_err().to_string();
            assert_eq!(error, "a value in it is longer than 64 KiB");
        }
        assert!(passed(&vec![b'1'; LONGEST_WORD + 1], 1 << 30).is_err());
        assert!(passed(&vec![b' '; LONGEST_WORD + 1], 1 << 30).is_err());
    }

    #[test]
    fn what_is_longer_than_allowed_ends() {
        let text = b"[1,".repeat(1 << 20);
        assert_eq!(passed(&text, 2 << 20).unwrap_err().to_string(), "it is longer than 2 MiB");
    }
}
