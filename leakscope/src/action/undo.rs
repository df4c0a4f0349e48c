//! What was done and may be undone, on disk: one file for each process, written before it is done.
//!
//! The files lie in the directory that systemd gives a service (`RUNTIME_DIRECTORY`), else in `/run/leakscope`, for other
//! users than root in `XDG_RUNTIME_DIR` (`cli/usable.rs`): it is emptied at boot, as are stopped processes and cgroups. Start reading at
//! [`Restraints::note`].

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::restrain::Restraint;
use crate::fault::Remedy;

/// A larger file is none of ours.
const MAX_BYTES: u64 = 1 << 20;

/// The directory of restraints.
#[derive(Clone, Debug)]
pub struct Restraints {
    directory: PathBuf,
}

impl Restraints {
    /// Those in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where they lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, restraint: &Restraint) -> PathBuf {
        self.directory.join(format!("{}-{}.json", restraint.pid, restraint.start_time_ticks.0))
    }

    /// Writes a restraint down, on the disk before this returns. One that is there already is not overwritten: what it says
    /// of the time before is the truth.
    ///
    /// # Errors
    /// When it cannot be written, or the process is restrained already.
    pub fn note(&self, restraint: &Restraint) -> anyhow::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .with_context(|| format!("making {}", self.directory.display()))?;
        let path = self.path(restraint);
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = match opened {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                anyhow::bail!(
                    "{} is there: pid {} is restrained already (leakscope undo {})",
                    path.display(),
                    restraint.pid,
                    restraint.pid
                )
            }
            opened => opened.with_context(|| format!("writing {}", path.display()))?,
        };
        let written = serde_json::to_vec_pretty(restraint)
            .map_err(std::io::Error::from)
            .and_then(|text| file.write_all(&text))
            .and_then(|()| file.sync_all());
        written.with_context(|| format!("writing {}", path.display())).inspect_err(|_| {
            // Half of a note is worse than none; the error that matters is on its way.
            let _ = fs::remove_file(&path);
        })
    }

    /// Forgets one.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget(&self, restraint: &Restraint) -> anyhow::Result<()> {
        let path = self.path(restraint);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }

    /// All that are written down, in the order of their pids; and the files that cannot be read, with the reason.
    ///
    /// # Errors
    /// When the directory is there and cannot be listed.
    pub fn all(&self) -> anyhow::Result<(Vec<Restraint>, Vec<anyhow::Error>)> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Default::default()),
            entries => entries
                .with_context(|| format!("listing {}", self.directory.display()))
                .fix("run leakscope as the user who restrained the process, mostly root")?,
        };
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                match read(&path) {
                    Ok(restraint) => found.push(restraint),
                    Err(error) => failed.push(error),
                }
            }
        }
        found.sort_by_key(|restraint: &Restraint| (restraint.pid, restraint.start_time_ticks));
        Ok((found, failed))
    }
}

fn read(path: &Path) -> anyhow::Result<Restraint> {
    let read = || {
        anyhow::ensure!(fs::metadata(path)?.len() <= MAX_BYTES, "too large");
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    };
    read().with_context(|| format!("reading {}", path.display()))
}
