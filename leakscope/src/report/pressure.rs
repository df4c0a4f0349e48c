//! Memory pressure as JSON and sentences tell it. Where the kernel does not count it there is none to tell: `null`, and no
//! sentence.

use std::time::Duration;

use serde::Serialize;

use super::json;
use crate::process::{Pressure, Stalls};

/// Which part of the time tasks waited for memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PressureLine {
    /// At least one task waited.
    pub some: StallLine,
    /// All that had something to do waited.
    pub full: StallLine,
}

/// How long the waiting was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StallLine {
    /// Percent of the last ten seconds or so.
    pub avg10: f64,
    /// Percent of the last minute or so.
    pub avg60: f64,
    /// Altogether, since the host was booted or the cgroup was made.
    #[serde(rename = "total_s", serialize_with = "json::seconds")]
    pub total: Duration,
}

impl From<&Stalls> for StallLine {
    fn from(stalls: &Stalls) -> Self {
        Self { avg10: stalls.avg10.percent(), avg60: stalls.avg60.percent(), total: stalls.total }
    }
}

impl From<&Pressure> for PressureLine {
    fn from(pressure: &Pressure) -> Self {
        Self { some: StallLine::from(&pressure.some), full: StallLine::from(&pressure.full) }
    }
}

impl PressureLine {
    /// What it says, as the part of a sentence.
    pub fn clause(&self) -> String {
        let Self { some, full } = self;
        format!(
            "for want of memory some task stood still {:.2} % of the last 10 s and {:.2} % of the last minute, and all at \
             once {:.2} % and {:.2} % (PSI)",
            some.avg10, some.avg60, full.avg10, full.avg60
        )
    }
}
