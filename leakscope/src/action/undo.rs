//! What was done and may be undone, on disk: one file for each process, written before it is done.
//!
//! The files lie in `/run/leakscope/undo`, for other users than root in `XDG_RUNTIME_DIR` (`cli/usable.rs`): it is emptied at
//! boot, as stopped processes and cgroups are gone then. Start reading at [`Restraints::note`].

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
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
        let writing = || format!("writing {}", path.display());
        // It gets its name when it is whole: half of a note is worse than none.
        let mut file = tempfile::NamedTempFile::new_in(&self.directory).with_context(writing)?;
        let text = serde_json::to_vec_pretty(restraint)?;
        file.write_all(&text).and_then(|()| file.as_file().sync_all()).with_context(writing)?;
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => anyhow::bail!(
                "{} is there: pid {} is restrained already (leakscope undo {})",
                path.display(),
                restraint.pid,
                restraint.pid
            ),
            Err(error) => Err(error.error).with_context(writing),
        }
    }

    /// Forgets one.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget(&self, restraint: &Restraint) -> anyhow::Result<()> {
        let path = self.path(restraint);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("removing {}", path.display())),
        }
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
