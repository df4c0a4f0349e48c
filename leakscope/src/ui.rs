//! What a person sees while leakscope works: messages and one progress line on standard error, results on standard
//! output. A closed standard output (`| head`) ends the printing, never the work.

use std::io::{IsTerminal, Write};

use anyhow::Context;

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// What a user wants to know.
    Normal,
    /// What an investigator wants to know.
    Verbose,
    /// What the kernel side has to say as well.
    Debug,
}

/// Standard output and standard error as this run uses them.
#[derive(Debug)]
pub struct Ui {
    verbosity: Verbosity,
    /// Whether tables and messages on standard output are coloured.
    pub color: bool,
    progress_on_terminal: bool,
    progress_shown: bool,
    /// A question that waits for its answer.
    question: Option<String>,
    out_closed: bool,
    out_error: Option<std::io::Error>,
}

/// Columns of a terminal that will not say.
const DEFAULT_COLUMNS: usize = 100;

impl Ui {
    /// A user interface on this process's standard streams. `color`: `None` leaves it to the terminal and NO_COLOR.
    pub fn new(verbosity: Verbosity, color: Option<bool>) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            verbosity,
            color: color.unwrap_or_else(|| std::io::stdout().is_terminal() && !plain),
            progress_on_terminal: verbosity >= Verbosity::Normal && std::io::stderr().is_terminal(),
            progress_shown: false,
            question: None,
            out_closed: false,
            out_error: None,
        }
    }

    /// Prints a result. What cannot be printed because nobody reads any more is dropped.
    pub fn out(&mut self, text: &str) {
        self.clear_progress();
        if self.out_closed {
            return;
        }
        let mut stdout = std::io::stdout().lock();
        if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            self.out_closed = true;
            self.out_error = (error.kind() != std::io::ErrorKind::BrokenPipe).then_some(error);
        }
    }

    /// That results were printed as far as anybody wanted to read them.
    ///
    /// # Errors
    /// What kept them from being printed, such as a full disk; a reader that went away is none.
    pub fn out_failure(&mut self) -> anyhow::Result<()> {
        self.out_error.take().map_or(Ok(()), |error| Err(error).context("writing to standard output"))
    }

    /// How much is said.
    pub fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Says why the job could not be done, quiet or not.
    pub fn error(&mut self, text: &str) {
        self.say_at(Verbosity::Quiet, text);
    }

    /// Whether the reader of standard output has gone.
    pub fn out_closed(&self) -> bool {
        self.out_closed
    }

    /// Says something on standard error, unless quiet.
    pub fn say(&mut self, text: &str) {
        self.say_at(Verbosity::Normal, text);
    }

    /// Says something on standard error when `-v` was given.
    pub fn say_verbose(&mut self, text: &str) {
        self.say_at(Verbosity::Verbose, text);
    }

    fn say_at(&mut self, level: Verbosity, text: &str) {
        if self.verbosity >= level {
            self.clear_progress();
            match &self.question {
                Some(question) => write_stderr(&format!("\n{text}\n{question}")),
                None => write_stderr(&format!("{text}\n")),
            }
        }
    }

    /// Replaces the progress line; nothing where standard error is no terminal.
    pub fn progress(&mut self, text: &str) {
        if self.progress_on_terminal {
            let line: String = text.chars().take(columns(&std::io::stderr()).saturating_sub(1)).collect();
            write_stderr(&format!("\r\x1b[2K{line}"));
            self.progress_shown = true;
        }
    }

    /// Takes the progress line away.
    pub fn clear_progress(&mut self) {
        if std::mem::take(&mut self.progress_shown) {
            write_stderr("\r\x1b[2K");
        }
    }

    /// Asks a question on the terminal; `None` when there is nobody to ask. The answer is waited for with what is given
    /// back (`None`: it could not be read). Until [`Self::asked`] is called the question stands again below whatever is
    /// said meanwhile.
    pub fn ask(&mut self, question: &str) -> Option<impl Future<Output = Option<bool>> + use<>> {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return None;
        }
        self.clear_progress();
        let question = format!("{question} [y/N] ");
        write_stderr(&question);
        self.question = Some(question);
        let answer = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map(|_| line)
        });
        Some(async {
            match answer.await {
                Ok(Ok(line)) => Some(matches!(line.trim(), "y" | "Y" | "yes" | "Yes")),
                _ => None,
            }
        })
    }

    /// The question was answered, or does not matter any more.
    pub fn asked(&mut self) {
        self.question = None;
    }

    /// Columns of standard output's terminal.
    pub fn columns(&self) -> usize {
        columns(&std::io::stdout())
    }

    /// Rows of standard output's terminal; `None` when it is none, or does not say.
    pub fn rows(&self) -> Option<usize> {
        window(&std::io::stdout()).map(|(_, rows)| rows).filter(|rows| *rows > 0)
    }
}

fn columns<F: std::os::fd::AsFd>(stream: &F) -> usize {
    window(stream).map_or(DEFAULT_COLUMNS, |(columns, _)| columns)
}

fn window<F: std::os::fd::AsFd>(stream: &F) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_col > 0).then(|| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// A standard error that is closed is no reason to stop.
fn write_stderr(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
