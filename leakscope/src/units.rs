//! Newtypes for what leakscope counts, so that a page is never added to a byte and a pid never taken for a process.
//!
//! Sizes are shown in decimal units: 1 KB = 1000 bytes, 1 MB = 1,000,000 bytes.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A size in bytes. Arithmetic saturates at 0 and at `u64::MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// No bytes.
    pub const ZERO: Self = Self(0);

    /// A size read in kibibytes, as most of /proc has it.
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1024))
    }

    /// The size as a float, for arithmetic that is approximate anyway.
    pub fn as_f64(self) -> f64 {
        self.0 as f64
    }
}

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Bytes {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&decimal(self.as_f64(), "B"))
    }
}

/// A rate in bytes per second; negative when something shrinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BytesPerSec(pub f64);

impl fmt::Display for BytesPerSec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&decimal(self.0, "B/s"))
    }
}

/// `51200.0` as `51.2 KB`: three significant figures, decimal prefixes.
fn decimal(value: f64, unit: &str) -> String {
    const PREFIXES: [&str; 6] = ["", "K", "M", "G", "T", "P"];
    let mut scaled = value;
    let mut prefix = 0;
    // 999.5 would print as 1000.
    while scaled.abs() >= 999.5 && prefix + 1 < PREFIXES.len() {
        scaled /= 1000.0;
        prefix += 1;
    }
    let decimals = match scaled.abs() {
        _ if prefix == 0 => 0,
        a if a < 9.995 => 2,
        a if a < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$} {}{unit}", PREFIXES[prefix])
}

/// A process id, or a thread group id, as the host's pid namespace has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Clock ticks since boot (`USER_HZ`, 100 a second on every Linux), the unit of field 22 of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticks(pub u64);

impl Ticks {
    /// Nanoseconds in a tick.
    pub const NANOS: u64 = 10_000_000;

    /// The tick in which a moment of `CLOCK_BOOTTIME`, in nanoseconds, lies: how the kernel rounds start times.
    pub const fn from_boottime_nanos(nanos: u64) -> Self {
        Self(nanos / Self::NANOS)
    }

    /// The moment at which the tick begins.
    pub const fn moment(self) -> Moment {
        Moment(self.0.saturating_mul(Self::NANOS))
    }
}

/// Which process, for good: a pid that is used again has another start time.
///
/// The kernel side (`start_boottime`) and /proc (`stat`, field 22) agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcKey {
    /// The thread group id.
    pub pid: Pid,
    /// When the process was forked.
    pub start: Ticks,
}

impl fmt::Display for ProcKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} started at tick {}", self.pid, self.start.0)
    }
}

/// A point in time: nanoseconds of `CLOCK_BOOTTIME`, which goes on while the machine is suspended.
/// In a recording, the nanoseconds of the machine that made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_print_with_three_figures_and_decimal_prefixes() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 KB"),
            (51_200, "51.2 KB"),
            (999_499, "999 KB"),
            (999_600, "1.00 MB"),
            (24_000_000_000, "24.0 GB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(BytesPerSec(-51_200.0).to_string(), "-51.2 KB/s");
    }

    #[test]
    fn sizes_saturate_instead_of_wrapping() {
        assert_eq!(Bytes(1) - Bytes(2), Bytes::ZERO);
        assert_eq!(Bytes(u64::MAX) + Bytes(1), Bytes(u64::MAX));
    }

    #[test]
    fn a_start_time_in_nanoseconds_falls_into_the_tick_that_proc_shows() {
        assert_eq!(Ticks::from_boottime_nanos(1_239_999_999), Ticks(123));
        assert_eq!(Ticks(123).moment(), Moment(1_230_000_000));
    }
}
