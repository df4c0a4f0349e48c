//! What runs a program, as far as its name tells: what the report says of the cause and of prevention depends on it.

use super::super::hunt::Suspect;

/// The runtime that a program is written for, or the server that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runtime {
    Python,
    Node,
    Java,
    /// Redis and those that came from it.
    Redis,
    /// Nothing that is known here.
    Other,
}

impl Runtime {
    pub(super) fn of(suspect: &Suspect) -> Self {
        let program = suspect.exe.as_ref().or(suspect.cmdline.first());
        let name = program.and_then(|path| path.rsplit('/').next()).unwrap_or(&suspect.comm);
        match name {
            name if name.starts_with("python") || name.starts_with("pypy") => Self::Python,
            "node" | "nodejs" => Self::Node,
            "java" => Self::Java,
            name if ["redis-server", "valkey-server", "keydb-server"]
                .iter()
                .any(|server| name.starts_with(server)) =>
            {
                Self::Redis
            }
            _ => Self::Other,
        }
    }

    /// What it is, in words, where that is known.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Python => "a Python program",
            Self::Node => "a Node.js program",
            Self::Java => "a Java program",
            Self::Redis => "a Redis server",
            Self::Other => "a program",
        }
    }

    /// The script, module or archive that an interpreter runs: its own name, where many run under the interpreter's.
    pub(super) fn script(self, suspect: &Suspect) -> Option<&str> {
        if matches!(self, Self::Redis | Self::Other) {
            return None;
        }
        let mut after_name = suspect.cmdline.iter().skip(1).map(String::as_str);
        while let Some(word) = after_name.next() {
            match word {
                "-m" | "-jar" => return after_name.next().and_then(|script| script.rsplit('/').next()),
                "-c" | "-e" => return None,
                // Takes the next word as its value.
                "-W" | "-X" | "-r" | "--require" | "-cp" | "-classpath" => drop(after_name.next()),
                option if option.starts_with('-') => {}
                script => return script.rsplit('/').next(),
            }
        }
        None
    }
}
