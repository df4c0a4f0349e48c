//! Writing a report to its place: whole or not at all, and never over an older one.
//!
//! The report often goes to /tmp, where anybody may plant a link under its name, and root often writes it. So everything
//! happens relative to one open directory, no name is followed, and the new file takes its name by a rename. An older
//! file is moved aside as `NAME.1`, `NAME.2`, … (the next free number). Start at [`write_report`].

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

/// How many older reports are kept beside the newest, and how many unfinished ones may lie there.
const MOST: u32 = 10_000;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where the file that had the name before is now; `None` where there was none.
    pub kept: Option<PathBuf>,
}

/// Why a report was not written: what, why, and what to do. Nothing was changed at its place.
#[derive(Debug)]
pub struct WriteError {
    path: PathBuf,
    cause: String,
    fix: String,
}

impl WriteError {
    /// What to do about it.
    pub fn fix(&self) -> &str {
        &self.fix
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = super::Printable::new(&self.path.to_string_lossy());
        write!(f, "writing the report {path}: {}\n  fix: {}", self.cause, self.fix)
    }
}

impl std::error::Error for WriteError {}

/// Writes `bytes` to `path`, mode 0644 whatever the umask says.
///
/// # Errors
/// Where the directory is missing or not writable, `path` is a directory or a device, or the disk is full. A file that
/// had the name is then still there, and no part of the new one is.
pub fn write_report(path: &Path, bytes: &[u8]) -> Result<Written, WriteError> {
    let place = Place::open(path)?;
    let unfinished = place.write_beside(bytes)?;
    let kept = place.put(&unfinished).inspect_err(|_| {
        // The report did not get its name: nothing of it may stay. There is nobody left to tell if that fails too.
        let _ = rustix::fs::unlinkat(&place.dir, &unfinished, AtFlags::empty());
    })?;
    // The data are safe; a directory that cannot be synced (some network file systems) loses at most the name.
    let _ = rustix::fs::fsync(&place.dir);
    Ok(Written { kept: kept.map(|name| path.with_file_name(name)) })
}

/// Finds out early what [`write_report`] would find out late. Nothing is written.
///
/// # Errors
/// As [`write_report`], but for what only writing shows.
pub fn check_report_place(path: &Path) -> Result<(), WriteError> {
    let place = Place::open(path)?;
    rustix::fs::accessat(&place.dir, ".", Access::WRITE_OK, AtFlags::EACCESS)
        .map_err(|errno| failed(path, "writing into its directory", errno))?;
    place.check_sticky()
}

const NAME_A_FILE: &str = "give --report the name of a file";

/// A name in an open directory.
struct Place<'a> {
    path: &'a Path,
    name: &'a OsStr,
    dir: OwnedFd,
}

impl<'a> Place<'a> {
    fn open(path: &'a Path) -> Result<Self, WriteError> {
        let name =
            path.file_name().ok_or_else(|| error(path, "it names a directory, not a file", NAME_A_FILE))?;
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(parent, flags, Mode::empty()).map_err(|errno| {
            let parent = parent.display();
            match errno {
                Errno::NOENT => error(
                    path,
                    &format!("the directory {parent} does not exist"),
                    &format!("create it (mkdir -p {parent}), or give --report another place"),
                ),
                Errno::NOTDIR => error(path, &format!("{parent} is not a directory"), NAME_A_FILE),
                errno => failed(path, &format!("opening the directory {parent}"), errno),
            }
        })?;
        let place = Self { path, name, dir };
        place.check_target(parent)?;
        Ok(place)
    }

    /// Refuses what must not be moved aside: a directory, a device, and anything where names are not files.
    fn check_target(&self, parent: &Path) -> Result<(), WriteError> {
        let real = std::fs::canonicalize(parent).unwrap_or_else(|_| parent.to_owned());
        if real == Path::new("/dev") || real.starts_with("/proc") || real.starts_with("/sys") {
            let cause = format!("{} holds no regular files", real.display());
            return Err(error(self.path, &cause, "name a regular file, or print the result with --json"));
        }
        let Ok(found) = rustix::fs::statat(&self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(());
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => Err(error(self.path, "it is a directory", NAME_A_FILE)),
            FileType::BlockDevice | FileType::CharacterDevice => {
                Err(error(self.path, "it is a device", NAME_A_FILE))
            }
            _ => Ok(()),
        }
    }

    /// Refuses an older file that could not be moved aside: in a directory like /tmp only its owner may do so, the
    /// directory's, and who has CAP_FOWNER.
    fn check_sticky(&self) -> Result<(), WriteError> {
        let Ok(found) = rustix::fs::statat(&self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(());
        };
        let dir = rustix::fs::fstat(&self.dir).map_err(|errno| failed(self.path, "its directory", errno))?;
        let own = rustix::process::geteuid().as_raw();
        if !Mode::from_raw_mode(dir.st_mode).contains(Mode::SVTX) || [found.st_uid, dir.st_uid].contains(&own)
        {
            return Ok(());
        }
        let may = rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::FOWNER));
        if may {
            return Ok(());
        }
        let cause = format!(
            "the file that is there belongs to user id {}, and in its directory only the owner may move it",
            found.st_uid
        );
        Err(error(self.path, &cause, "give --report another name, or have its owner remove it"))
    }

    /// Writes the bytes to a new file in the same directory, on the disk and with its final mode, and returns its name.
    fn write_beside(&self, bytes: &[u8]) -> Result<OsString, WriteError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for number in 0..MOST {
            let mut name = OsString::from(".");
            name.push(self.name);
            name.push(format!(".{}-{number}.tmp", std::process::id()));
            match rustix::fs::openat(&self.dir, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => {
                    return self.fill(File::from(fd), bytes).map(|()| name.clone()).inspect_err(|_| {
                        // As in `write_report`: the error that matters is on its way already.
                        let _ = rustix::fs::unlinkat(&self.dir, &name, AtFlags::empty());
                    });
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(self.path, "creating a file beside it", errno)),
            }
        }
        Err(error(
            self.path,
            "its directory is full of unfinished reports",
            "remove the files that end in .tmp",
        ))
    }

    fn fill(&self, mut file: File, bytes: &[u8]) -> Result<(), WriteError> {
        let step = |what: &str, result: std::io::Result<()>| {
            result.map_err(|e| failed(self.path, what, Errno::from_io_error(&e).unwrap_or(Errno::IO)))
        };
        step("writing it", file.write_all(bytes))?;
        step("setting its mode", rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644)).map_err(Into::into))?;
        step("bringing it to the disk", file.sync_all())
    }

    /// Gives the unfinished file its name; returns the name that the older file has now.
    fn put(&self, unfinished: &OsStr) -> Result<Option<OsString>, WriteError> {
        match self.rename(unfinished, self.name, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(None),
            Err(Errno::EXIST) => {}
            // Not every file system knows the flags of renameat2.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return self.put_simply(unfinished),
            Err(errno) => return Err(failed(self.path, "renaming it into place", errno)),
        }
        // The two change names at once: there is no moment without a report under the name.
        match self.rename(unfinished, self.name, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return self.put_simply(unfinished),
            Err(errno) => return Err(failed(self.path, "moving the file aside that is there", errno)),
        }
        match self.move_to_free_number(unfinished) {
            Ok(kept) => Ok(Some(kept)),
            // The older file gets its name back, and the caller removes the new one. Where even that fails, the new
            // one stays in place, and the older one is kept under the only name it has.
            Err(e) => match self.rename(unfinished, self.name, RenameFlags::EXCHANGE) {
                Ok(()) => Err(e),
                Err(_) => Ok(Some(unfinished.to_owned())),
            },
        }
    }

    /// The same in two steps, for file systems that cannot exchange names.
    fn put_simply(&self, unfinished: &OsStr) -> Result<Option<OsString>, WriteError> {
        let kept = if self.exists(self.name) { Some(self.move_to_free_number(self.name)?) } else { None };
        self.rename(unfinished, self.name, RenameFlags::empty()).map_err(|errno| {
            if let Some(kept) = &kept {
                let _ = self.rename(kept, self.name, RenameFlags::empty());
            }
            failed(self.path, "renaming it into place", errno)
        })?;
        Ok(kept)
    }

    fn move_to_free_number(&self, from: &OsStr) -> Result<OsString, WriteError> {
        for number in 1..=MOST {
            let mut kept = self.name.to_owned();
            kept.push(format!(".{number}"));
            let moved = match self.rename(from, &kept, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if !self.exists(&kept) => {
                    self.rename(from, &kept, RenameFlags::empty())
                }
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Err(Errno::EXIST),
                other => other,
            };
            match moved {
                Ok(()) => return Ok(kept),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(self.path, "moving the file aside that is there", errno)),
            }
        }
        let fix = "move them elsewhere, or give --report another name";
        Err(error(self.path, &format!("{MOST} older reports are kept beside it"), fix))
    }

    fn rename(&self, from: &OsStr, to: &OsStr, flags: RenameFlags) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.dir, from, &self.dir, to, flags)
    }

    fn exists(&self, name: &OsStr) -> bool {
        rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }
}

fn error(path: &Path, cause: &str, fix: &str) -> WriteError {
    let shown = |text| super::Printable::new(text).to_string();
    WriteError { path: path.to_owned(), cause: shown(cause), fix: shown(fix) }
}

fn failed(path: &Path, what: &str, errno: Errno) -> WriteError {
    let fix = match errno {
        Errno::ACCESS | Errno::PERM => "run as a user who may write there, or give --report another place",
        Errno::ROFS => "the file system is read-only: give --report another place",
        Errno::NOSPC | Errno::DQUOT => "free some space, or give --report another place",
        Errno::NAMETOOLONG => "give --report a shorter name",
        _ => "give --report another place",
    };
    error(path, &format!("{what}: {}", std::io::Error::from(errno)), fix)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_system_that_cannot_exchange_names_keeps_the_older_report_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.txt");
        for (text, kept) in [("one", None), ("two", Some("r.txt.1")), ("three", Some("r.txt.2"))] {
            let place = Place::open(&path).unwrap();
            let unfinished = place.write_beside(text.as_bytes()).unwrap();
            assert_eq!(place.put_simply(&unfinished).unwrap(), kept.map(OsString::from));
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!([read("r.txt"), read("r.txt.1"), read("r.txt.2")], ["three", "one", "two"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn where_no_number_is_free_the_older_report_stays_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        fs::write(&path, "older").unwrap();
        for number in 1..=MOST {
            fs::write(dir.path().join(format!("r.{number}")), "").unwrap();
        }
        let error = write_report(&path, b"newer").unwrap_err();
        assert!(error.fix().contains("another name"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "older");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), MOST as usize + 1);
    }
}
