//! A protection of the administrator's own: whoever matches every part that a rule names must not be killed.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::outcome::Check;
use crate::process::{Identity, Selector};

/// One `[[protect]]` of a configuration file.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it is called there, with the place where it stands.
    pub name: String,
    /// Why, in the administrator's words.
    pub reason: Option<String>,
    /// Whom it is about, but for the program.
    pub who: Selector,
    /// The program's file, where that is asked for.
    pub exe: Option<PathBuf>,
}

impl Rule {
    /// Whether it is about this process.
    pub fn catches(&self, who: &Identity) -> bool {
        // Whose program may not be read may be the one that is meant; a thread of the kernel has none.
        let runs = |asked: &PathBuf| {
            let Some(exe) = &who.exe else { return !who.kernel_thread };
            // `python3` is a link to the program that the kernel names.
            let same =
                || std::fs::metadata(asked).is_ok_and(|file| (file.dev(), file.ino()) == (exe.dev, exe.ino));
            exe.path == *asked || same()
        };
        self.exe.as_ref().is_none_or(runs) && self.who.matches(who)
    }

    /// What it says of a process.
    pub fn check(&self, who: &Identity) -> Check {
        if !self.catches(who) {
            return Check::new("config", true, format!("not protected by {}", self.name));
        }
        let reason = self.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        Check::new("config", false, format!("protected by {}{reason}", self.name))
    }
}
