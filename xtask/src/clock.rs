//! How long something took. The only clock of xtask, which runs programs and reports their time; leakscope itself takes
//! its time from its source (clippy.toml).

use std::{fmt, time::Duration, time::Instant};

/// Started when it is made; shows the seconds since then.
#[derive(Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "xtask reports how long its steps take")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

impl fmt::Display for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.elapsed().as_secs_f64())
    }
}
