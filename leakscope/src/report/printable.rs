//! Text that is safe to show: no control character, no escape sequence, no direction override.
//!
//! A process chooses its own name and command line, and root reads the report. [`Printable`] is the only way for such
//! text into a table or a document, so nothing a process calls itself can move a cursor, forge a line or hide a word.
//! Renderers add their own escapes (Markdown, HTML) on top. Start reading at [`Printable::new`].

use std::fmt;

/// Text without characters that a terminal or a browser would act on; they are shown as escapes (`\n`, `\u{1b}`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printable(String);

impl Printable {
    /// Makes `text` safe to show.
    pub fn new(text: &str) -> Self {
        let mut safe = String::with_capacity(text.len());
        for c in text.chars() {
            if acts(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
        }
        Self(safe)
    }

    /// The same, at most `limit` characters of it; what is cut off is counted.
    pub fn limited(text: &str, limit: usize) -> Self {
        match text.char_indices().nth(limit) {
            None => Self::new(text),
            Some((end, _)) => {
                let more = text[end..].chars().count();
                Self(format!("{}... ({more} more characters)", Self::new(&text[..end]).0))
            }
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Printable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for Printable {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Printable {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

/// Whether a terminal or a browser acts on the character, or shows nothing for it: the control characters of ASCII and
/// of Latin-1 (U+009B starts an escape sequence as ESC [ does), line separators, and invisible or direction-changing
/// format characters.
pub(super) fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A command line on one line: arguments with blanks in them are quoted, so that one sees where each begins.
///
/// For reading, not for pasting into a shell. Falls back to `comm` for a process without arguments.
pub fn command_line(cmdline: &[String], comm: &str) -> String {
    if cmdline.is_empty() {
        return format!("[{comm}]");
    }
    let quoted = |arg: &String| {
        if arg.is_empty() || arg.contains(char::is_whitespace) { format!("'{arg}'") } else { arg.clone() }
    };
    cmdline.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The same for a narrow place: of the program's path only the name.
pub fn short_command_line(cmdline: &[String], comm: &str) -> String {
    let mut cmdline = cmdline.to_vec();
    if let Some(program) = cmdline.first_mut()
        && let Some((_, name)) = program.rsplit_once('/')
        && !name.is_empty()
    {
        *program = name.to_owned();
    }
    command_line(&cmdline, comm)
}

/// A piece of a [`Line`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// Words.
    Text(Printable),
    /// A name, a path or a command, shown as it is.
    Code(Printable),
}

impl Span {
    /// The text of either kind.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Code(text) => text.as_str(),
        }
    }
}

/// Words and code in one paragraph or cell; it never contains a line break.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(pub Vec<Span>);

impl Line {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds words.
    #[must_use]
    pub fn text(mut self, text: impl AsRef<str>) -> Self {
        self.0.push(Span::Text(Printable::new(text.as_ref())));
        self
    }

    /// Adds a name, a path or a command.
    #[must_use]
    pub fn code(mut self, text: impl AsRef<str>) -> Self {
        self.0.push(Span::Code(Printable::new(text.as_ref())));
        self
    }

    /// Adds another line's spans.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether there is nothing to read in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|span| span.as_str().is_empty())
    }

    /// Without marks for code.
    pub fn plain(&self) -> String {
        self.0.iter().map(Span::as_str).collect()
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::new().text(text)
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        Self::new().text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_shown_as_an_escape() {
        let hostile = "a\x1b[2Jb\r\n\x07\u{9b}31m\u{202e}gpj\u{7f}";
        assert_eq!(Printable::new(hostile).as_str(), "a\\u{1b}[2Jb\\r\\n\\u{7}\\u{9b}31m\\u{202e}gpj\\u{7f}");
        assert_eq!(Printable::new("/srv/größe 日本").as_str(), "/srv/größe 日本");
    }

    #[test]
    fn a_cut_says_how_much_is_missing() {
        assert_eq!(Printable::limited("abcdef", 4).as_str(), "abcd... (2 more characters)");
        assert_eq!(Printable::limited("abcd", 4).as_str(), "abcd");
    }

    #[test]
    fn a_command_line_shows_where_an_argument_begins() {
        let args = ["python3", "-c", "import time", ""].map(String::from);
        assert_eq!(command_line(&args, "python3"), "python3 -c 'import time' ''");
        assert_eq!(command_line(&[], "kworker/0:1"), "[kworker/0:1]");
    }
}
