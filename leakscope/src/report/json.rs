//! JSON as leakscope prints it: durations in seconds, and no character in it that a terminal acts on.

use std::time::Duration;

use anyhow::Context;
use serde::{Serialize, Serializer};

use super::printable::acts;

/// Seconds with milliseconds, and microseconds below one second.
pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let seconds = duration.as_secs_f64();
    let scale = if seconds < 1.0 { 1e6 } else { 1e3 };
    serializer.serialize_f64((seconds * scale).round() / scale)
}

/// The same, or `null`.
#[expect(clippy::ref_option, reason = "serde passes a field by reference")]
pub(crate) fn maybe_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// Any value as indented JSON with a line break at the end: the same value, and no character that a terminal acts on.
///
/// # Errors
/// Where the value cannot be written as JSON, such as a map with keys that are no strings.
pub fn pretty(value: &impl Serialize) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("writing JSON")?;
    text.push('\n');
    Ok(escaped(text))
}

/// The same on one line.
///
/// # Errors
/// As [`pretty`].
pub fn line(value: &impl Serialize) -> anyhow::Result<String> {
    let mut text = serde_json::to_string(value).context("writing JSON")?;
    text.push('\n');
    Ok(escaped(text))
}

/// serde_json escapes what JSON asks for: the control characters of ASCII, but neither DEL nor those of Latin-1, which
/// a terminal acts on as well. Outside of strings JSON has only ASCII and line breaks, so a replacement is an escape
/// within a string: the value stays the same.
fn escaped(json: String) -> String {
    // Nearly always, and a line of thousands of processes has megabytes.
    if json.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return json;
    }
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && acts(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_the_same_without_a_character_that_a_terminal_acts_on() {
        let hostile = "\u{9b}31m \u{7f} \u{202e} \u{e0041} \x1b[2J \n";
        let text = line(&hostile).unwrap();
        assert!(!text.trim_end().chars().any(acts), "{text:?}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), hostile);
        assert!(!(' '..='~').any(acts), "what is left as it is without a look at each character");
    }
}
