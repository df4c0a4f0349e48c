//! The commands: each takes its options as values and a source, and gives back what came of it.

pub mod analyze;
pub mod bundle;
pub mod demo;
pub mod doctor;
mod foreign;
pub mod hunt;
pub mod journal;
pub mod kill;
pub mod lab;
pub mod present;
pub mod record;
pub mod rules;
pub mod undo;
pub mod watch;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::process::Identity;
use crate::report::{Printable, cut, short_command_line};

/// `pid 4242 (python3 cache_service.py)`: safe to show, and at most 60 columns of the command line.
pub fn title(identity: &Identity) -> String {
    let command = Printable::new(&short_command_line(&identity.cmdline, &identity.comm));
    format!("pid {} ({})", identity.key.pid, cut(command.as_str(), 60))
}

/// `1 process`, `312 processes`.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Ctrl-C or SIGTERM.
#[derive(Debug)]
pub struct Interrupt {
    int: Signal,
    term: Signal,
    /// `None` where it is ignored, as `nohup` arranges it: that is to stay so.
    hup: Option<Signal>,
}

impl Interrupt {
    /// From now on the signals are taken here instead of ending the program.
    ///
    /// # Errors
    /// When no signal handler can be installed.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hup: (!hangup_is_ignored()).then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    /// Waits for one of them.
    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
            Some(_) = async { self.hup.as_mut()?.recv().await } => {}
        }
    }
}

fn hangup_is_ignored() -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & (1 << (SignalKind::hangup().as_raw_value() - 1)) != 0)
}
