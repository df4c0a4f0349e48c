//! Lists that are read from a file and must not be longer than a writer makes them: a byte of the file can stand for a
//! value of some hundred bytes.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Values of a list, at most: what a block holds before it is full, or the processes of one frame.
pub(super) const MAX_LISTED: usize = 1 << 17;
/// Bytes of a command line that are kept.
pub(super) const MAX_COMMAND_LINE: usize = 4096;
/// What stands for the arguments that were cut off.
const CUT: &str = "…";

/// Reads a list; one that is too long is an error.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(input: D) -> Result<Vec<T>, D::Error> {
    struct Reads<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Reads<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_LISTED} values")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(value) = input.next_element()? {
                if list.len() == MAX_LISTED {
                    return Err(A::Error::custom("a list is too long"));
                }
                list.push(value);
            }
            Ok(list)
        }
    }
    input.deserialize_seq(Reads(PhantomData))
}

/// Reads a command line, and cuts one that is too long as [`cut`] does.
pub(super) fn command_line<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    struct Reads;
    impl<'de> Visitor<'de> for Reads {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "arguments")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Vec<String>, A::Error> {
            let mut left = MAX_COMMAND_LINE;
            let mut arguments = Vec::new();
            while let Some(argument) = input.next_element()? {
                if !keep(argument, &mut left, &mut arguments) {
                    while input.next_element::<String>()?.is_some() {}
                    break;
                }
            }
            Ok(arguments)
        }
    }
    input.deserialize_seq(Reads)
}

/// Cuts a command line to what is kept of it: its end is marked by an argument `…`.
pub(super) fn cut(command_line: &mut Vec<String>) {
    let mut left = MAX_COMMAND_LINE;
    let mut kept = Vec::new();
    for argument in command_line.drain(..) {
        if !keep(argument, &mut left, &mut kept) {
            break;
        }
    }
    *command_line = kept;
}

/// Whether the argument was kept whole, so that there may be more.
fn keep(mut argument: String, left: &mut usize, kept: &mut Vec<String>) -> bool {
    // An argument costs something even where it is empty. The mark is no longer than that.
    let costs = argument.len().saturating_add(std::mem::size_of::<String>());
    if let Some(rest) = left.checked_sub(costs) {
        *left = rest;
        kept.push(argument);
        return true;
    }
    let end = (0..=(*left).min(argument.len())).rev().find(|at| argument.is_char_boundary(*at)).unwrap_or(0);
    // A command line that was cut before ends with the mark, and stays as it is.
    if argument != CUT {
        argument.truncate(end);
        if !argument.is_empty() {
            kept.push(argument);
        }
    }
    kept.push(CUT.to_owned());
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize, Deserialize)]
    struct Lists {
        #[serde(deserialize_with = "list")]
        numbers: Vec<u8>,
        #[serde(deserialize_with = "command_line")]
        arguments: Vec<String>,
    }

    fn again(numbers: usize, arguments: Vec<String>) -> Result<Lists, postcard::Error> {
        let bytes = postcard::to_stdvec(&Lists { numbers: vec![7; numbers], arguments }).unwrap();
        postcard::from_bytes(&bytes)
    }

    #[test]
    fn a_list_as_long_as_allowed_is_read_and_a_longer_one_refused() {
        assert_eq!(again(MAX_LISTED, Vec::new()).unwrap().numbers.len(), MAX_LISTED);
        assert!(again(MAX_LISTED + 1, Vec::new()).is_err());
    }

    #[test]
    fn a_long_command_line_is_cut_the_same_way_by_writer_and_reader_and_only_once() {
        for line in [
            vec!["a".to_owned(); 10],
            vec!["é".repeat(3000)],
            vec![String::new(); 5000],
            vec!["x".repeat(4000), "y".repeat(90), "z".to_owned()],
            vec!["x".repeat(4096)],
        ] {
            let mut cut_line = line.clone();
            cut(&mut cut_line);
            assert_eq!(again(0, line.clone()).unwrap().arguments, cut_line);
            let mut twice = cut_line.clone();
            cut(&mut twice);
            assert_eq!(twice, cut_line);
            let bytes: usize = cut_line.iter().map(String::len).sum();
            assert!(bytes <= MAX_COMMAND_LINE + CUT.len() && cut_line.len() < 200);
            assert_eq!(cut_line == line, line.len() == 10, "{line:?}");
        }
    }
}
