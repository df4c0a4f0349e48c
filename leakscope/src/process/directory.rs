//! Who is who, for a monitor: on a live host from /proc and the cgroup hierarchies, in a replay from the recording.

use std::path::PathBuf;

use super::{Host, Identity, Limits, Pidfiles, ProcRoot};
use crate::leak::Room;
use crate::units::{Moment, ProcKey};

/// Says who a process is and how much more it may take.
pub trait Directory {
    /// Who the process is; `None` when it is gone, or its pid is somebody else's by now.
    fn identify(&mut self, key: ProcKey) -> Option<Identity>;

    /// The tightest limit above a process at `at`.
    fn room(&mut self, identity: &Identity, host: &Host, at: Moment) -> Room;

    /// The same; `None` where the limits above it cannot be read, as when it is just gone, and [`Self::room`] falls back
    /// to the host's own.
    fn room_if_known(&mut self, identity: &Identity, host: &Host, at: Moment) -> Option<Room> {
        Some(self.room(identity, host, at))
    }
}

/// The live host's.
#[derive(Debug)]
pub struct LiveDirectory {
    root: ProcRoot,
    limits: Option<Limits>,
    pidfiles: Pidfiles,
    round: Option<Moment>,
}

impl LiveDirectory {
    /// Of the /proc at `root`; `pidfiles` are looked at before those that are found in the usual places.
    pub fn new(root: ProcRoot, pidfiles: Vec<PathBuf>) -> Self {
        let mut pidfiles = Pidfiles::new(pidfiles);
        pidfiles.scan();
        // Without a mount table no cgroup's limit can be found; the host's own remains.
        let limits = Limits::discover(&root).ok();
        Self { root, limits, pidfiles, round: None }
    }

    /// The /proc that it reads.
    pub fn root(&self) -> &ProcRoot {
        &self.root
    }
}

impl Directory for LiveDirectory {
    fn identify(&mut self, key: ProcKey) -> Option<Identity> {
        let mut identity = self.root.identify(key.pid).ok().filter(|identity| identity.key == key)?;
        self.pidfiles.name(&self.root, &mut identity);
        Some(identity)
    }

    fn room(&mut self, identity: &Identity, host: &Host, at: Moment) -> Room {
        self.room_if_known(identity, host, at).unwrap_or_else(|| host.room())
    }

    fn room_if_known(&mut self, identity: &Identity, host: &Host, at: Moment) -> Option<Room> {
        let Some(limits) = &mut self.limits else { return Some(host.room()) };
        if self.round != Some(at) {
            limits.new_round();
            self.round = Some(at);
        }
        limits.room(&self.root, identity.key.pid, host).ok()
    }
}
