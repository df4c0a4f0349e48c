//! Where the kernel shows its tracepoints. On many hosts tracefs is mounted; where it is not, root may mount it, and is
//! told so.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};

use super::error::OpenError;

const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Finds tracefs, or mounts it; what had to be done is added to `notes`.
pub(super) fn find(notes: &mut Vec<String>) -> Result<PathBuf, OpenError> {
    for place in PLACES.map(Path::new) {
        match std::fs::metadata(place.join("events")) {
            Ok(_) => return Ok(place.to_owned()),
            // It is there, and only root may look into it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && place == Path::new(PLACES[0]) => {
                return Err(OpenError::while_doing(&format!("reading {}", place.display()), &error));
            }
            Err(_) => {}
        }
    }
    let place = PLACES[0];
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tracefs", place, "tracefs", flags, None).map_err(|errno| {
        let error = std::io::Error::from(errno);
        let mut error = OpenError::while_doing(&format!("mounting tracefs at {place}"), &error);
        error.fix = if rustix::process::geteuid().is_root() {
            format!("mount it where that is allowed (mount -t tracefs tracefs {place}); mounting needs CAP_SYS_ADMIN")
        } else {
            format!("run as root, or have root run: mount -t tracefs tracefs {place}")
        };
        error
    })?;
    notes.push(format!("tracefs was not mounted: mounted it at {place}, and left it there"));
    Ok(PathBuf::from(place))
}
