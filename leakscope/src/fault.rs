//! Errors that say what to do about them.
//!
//! Everything travels as [`anyhow::Error`]; [`Remedy`] attaches the advice, and `main` prints it under the error.

use std::fmt;

/// An error with the advice that goes with it.
#[derive(Debug)]
pub struct Advised {
    error: anyhow::Error,
    fix: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The whole chain, so that nothing is left for the outer chain to repeat.
        write!(f, "{:#}", self.error)
    }
}

impl std::error::Error for Advised {}

/// Attaches advice to a failure.
pub trait Remedy<T> {
    /// Says what to do about it.
    fn fix(self, fix: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Remedy<T> for Result<T, E> {
    fn fix(self, fix: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| Advised { error: error.into(), fix: fix.into() }.into())
    }
}

/// `error: object: cause`, and `  fix: …` below it where there is advice.
pub fn render(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error:#}");
    for cause in error.chain() {
        if let Some(advised) = cause.downcast_ref::<Advised>() {
            text.push_str("\n  fix: ");
            text.push_str(&advised.fix);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn advice_stands_below_the_error_and_context_before_it() {
        let refused: Result<(), _> = Err(std::io::Error::from_raw_os_error(1));
        let error = refused
            .context("attaching kmem:rss_stat")
            .fix("run as root")
            .context("opening the kernel side")
            .unwrap_err();
        assert_eq!(
            render(&error),
            "error: opening the kernel side: attaching kmem:rss_stat: Operation not permitted (os error 1)\n  fix: run as root"
        );
    }
}
