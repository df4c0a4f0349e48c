//! Why the kernel side cannot be used, in words that name the object, the cause and the remedy.

use std::error::Error;
use std::fmt;
use std::io;

/// The kernel side could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// What failed and why: `attaching kmem:rss_stat: operation not permitted`.
    pub what: String,
    /// What to do about it.
    pub fix: String,
    /// Whether privilege is what is missing.
    pub denied: bool,
}

impl OpenError {
    pub(super) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into(), denied: false }
    }

    /// From an error of the loader, while `doing` something to an object.
    pub(super) fn while_doing(doing: &str, error: &(dyn Error + 'static)) -> Self {
        let os = os_error(error);
        let denied = os.is_some_and(|os| os.kind() == io::ErrorKind::PermissionDenied);
        let cause = match os {
            Some(os) => plain(os),
            None => innermost(error).to_string(),
        };
        let fix = if denied {
            "run as root, or grant CAP_BPF and CAP_PERFMON (leakscope doctor)"
        } else {
            "leakscope doctor shows what this kernel offers; --source procfs needs none of it"
        };
        // The verifier's reason is the last line but one of its log; it is what a bug report needs.
        let verifier = verifier_reason(error).map(|line| format!(" (verifier: {line})")).unwrap_or_default();
        Self { what: format!("{doing}: {cause}{verifier}"), fix: fix.to_owned(), denied }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for OpenError {}

/// The operating system's words in lower case and without the number: `operation not permitted`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

fn os_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(os) = current.downcast_ref::<io::Error>()
            && os.raw_os_error().is_some()
        {
            return Some(os);
        }
        error = current.source();
    }
    None
}

fn verifier_reason(error: &(dyn Error + 'static)) -> Option<String> {
    match error.downcast_ref::<aya::programs::ProgramError>()? {
        aya::programs::ProgramError::LoadError { verifier_log, .. } => {
            let log = verifier_log.to_string();
            log.lines()
                .rev()
                .find(|line| !line.is_empty() && !line.starts_with("processed "))
                .map(str::to_owned)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_object_and_the_capabilities() {
        let error = OpenError::while_doing("attaching kmem:rss_stat", &io::Error::from_raw_os_error(1));
        assert_eq!(error.what, "attaching kmem:rss_stat: operation not permitted");
        assert!(error.denied);
        assert!(error.fix.contains("CAP_PERFMON"));
    }
}
