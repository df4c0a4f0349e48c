//! Who is who, for a monitor: on a live host from /proc and the cgroup hierarchies, in a replay from the recording.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Host, Identity, Limits, Pidfiles, Pressure, ProcRoot};
use crate::leak::Room;
use crate::units::{Moment, ProcKey};

/// Says who a process is and how much more it may take.
pub trait Directory {
    /// Who the process is; `None` when it is gone, or its pid is somebody else's by now.
    fn identify(&mut self, key: ProcKey) -> Option<Identity>;

    /// The limits of the cgroups above a process at `at`, the innermost first; the host's own is above all of them and is
    /// not told. `None` where they cannot be read, as when the process is just gone.
    fn rooms(&mut self, identity: &Identity, host: &Host, at: Moment) -> Option<Vec<Room>>;

    /// How the tasks of the process's own cgroup wait for memory. `None` where that is not known: it is counted for cgroups
    /// of version 2 only, and recordings do not keep it.
    fn pressure(&mut self, _identity: &Identity) -> Option<Pressure> {
        None
    }

    /// Looks again at what is read once for all processes: pid files that were written since are found. Nothing to do
    /// where nothing changes, as in a recording.
    fn refresh(&mut self) {}
}

/// How old what is known of pid files may be when a process is identified: a service that starts during a long watch
/// writes its own then.
const RESCAN_PERIOD: Duration = Duration::from_secs(10);

#[expect(clippy::disallowed_methods, reason = "how often files are read is no part of what is judged")]
fn now() -> Instant {
    Instant::now()
}

/// The live host's.
#[derive(Debug)]
pub struct LiveDirectory {
    root: ProcRoot,
    limits: Option<Limits>,
    pidfiles: Pidfiles,
    /// When the pid files were read.
    scanned: Instant,
    round: Option<Moment>,
}

impl LiveDirectory {
    /// Of the /proc at `root`; `pidfiles` are looked at before those that are found in the usual places.
    pub fn new(root: ProcRoot, pidfiles: Vec<PathBuf>) -> Self {
        let mut pidfiles = Pidfiles::new(pidfiles);
        pidfiles.scan();
        // Without a mount table no cgroup's limit can be found; the host's own remains.
        let limits = Limits::discover(&root).ok();
        Self { root, limits, pidfiles, scanned: now(), round: None }
    }

    /// The /proc that it reads.
    pub fn root(&self) -> &ProcRoot {
        &self.root
    }
}

impl Directory for LiveDirectory {
    fn identify(&mut self, key: ProcKey) -> Option<Identity> {
        let mut identity = self.root.identify(key.pid).ok().filter(|identity| identity.key == key)?;
        if now().duration_since(self.scanned) >= RESCAN_PERIOD {
            self.pidfiles.scan();
            self.scanned = now();
        }
        self.pidfiles.name(&self.root, &mut identity);
        Some(identity)
    }

    fn refresh(&mut self) {
        self.pidfiles.scan();
    }

    fn rooms(&mut self, identity: &Identity, host: &Host, at: Moment) -> Option<Vec<Room>> {
        let Some(limits) = &mut self.limits else { return Some(Vec::new()) };
        if self.round != Some(at) {
            limits.new_round();
            self.round = Some(at);
        }
        limits.rooms(&self.root, identity.key.pid, host).ok()
    }

    fn pressure(&mut self, identity: &Identity) -> Option<Pressure> {
        let membership = self.root.membership(identity.key.pid).ok()?;
        Pressure::read(&self.limits.as_ref()?.unified(&membership)?.join("memory.pressure"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::testing::FakeProc;
    use crate::units::Pid;

    #[test]
    fn a_pid_file_that_is_written_later_is_found_and_not_looked_for_each_time() {
        let fake = FakeProc::new();
        fake.process(42, 1, 1000, std::path::Path::new("/nowhere"));
        let file = fake.path("late.pid");
        let mut directory = LiveDirectory::new(fake.root(), vec![file.clone()]);
        let key = fake.root().identify(Pid(42)).unwrap().key;
        let found = |directory: &mut LiveDirectory| directory.identify(key).unwrap().owner.pidfile;
        fake.write("late.pid", "42\n");
        assert_eq!(found(&mut directory), None, "it was scanned a moment ago");
        directory.scanned -= RESCAN_PERIOD;
        assert_eq!(found(&mut directory), Some(file));
    }
}
