//! Who a process is: identity, command line, owner (cgroup, systemd unit, container, pid file), limits.
//!
//! Every reader is rooted at a path, so that tests make their own /proc and cgroup trees. A process that vanishes
//! while it is read is normal: ask [`vanished`]. Start reading at [`ProcRoot::identify`].

mod cgroup;
mod directory;
mod identity;
mod limits;
mod owner;
mod pidfile;
mod pressure;
mod read;
mod select;
#[cfg(test)]
pub(crate) mod testing;
mod users;

pub use cgroup::Membership;
pub use directory::{Directory, LiveDirectory};
pub use identity::{Difference, Exe, Identity, Owner};
pub(crate) use limits::MAX_LEVELS;
pub use limits::{Host, Limits};
pub use pidfile::{PidfileError, PidfileProblem, Pidfiles, pidfile_process, read_pidfile};
pub use pressure::{Pressure, Share, Stalls};
pub use read::{ProcRoot, vanished};
pub use select::{Selector, UnknownUser};
