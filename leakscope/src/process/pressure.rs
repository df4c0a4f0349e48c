//! Memory pressure: which part of the time tasks stood still for want of memory, as the kernel counts it (PSI,
//! Documentation/accounting/psi.rst; Linux 4.20).
//!
//! For the host it stands in /proc/pressure/memory, for a cgroup of version 2 in its `memory.pressure`. A kernel that was
//! built or booted without it has no such file, or refuses to read it (EOPNOTSUPP): then there is no pressure to tell,
//! which is not the same as none.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use procfs::{FromBufRead as _, MemoryPressure, PressureRecord};

/// How tasks waited for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stalls,
    /// All that had something to do waited.
    pub full: Stalls,
}

/// How long the waiting was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stalls {
    /// Of the last ten seconds or so.
    pub avg10: Share,
    /// Of the last minute or so.
    pub avg60: Share,
    /// Altogether, since the host was booted or the cgroup was made.
    pub total: Duration,
}

/// A part of the time, in hundredths of a percent: the kernel tells two decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share(pub u16);

impl Share {
    /// The same in percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl Pressure {
    /// Reads the file of a host or a cgroup; `None` where pressure is not counted.
    pub fn read(path: &Path) -> Option<Self> {
        Self::read_again(&File::open(path).ok()?)
    }

    /// Reads the same file anew.
    pub fn read_again(file: &File) -> Option<Self> {
        // Two lines of some 60 bytes, written anew at each read from the beginning.
        let mut text = [0; 512];
        let length = file.read_at(&mut text, 0).ok()?;
        Self::parse(&text[..length])
    }

    fn parse(text: &[u8]) -> Option<Self> {
        // The parser cuts five bytes off each line, whatever they are.
        if !text.is_ascii() || text.split(|byte| *byte == b'\n').any(|line| (1..5).contains(&line.len())) {
            return None;
        }
        let MemoryPressure { some, full } = MemoryPressure::from_buf_read(text).ok()?;
        Some(Self { some: Stalls::from(&some), full: Stalls::from(&full) })
    }
}

impl From<&PressureRecord> for Stalls {
    fn from(record: &PressureRecord) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100; saturates")]
        let share = |percent: f32| Share((percent * 100.0).round() as u16);
        Self {
            avg10: share(record.avg10),
            avg60: share(record.avg60),
            total: Duration::from_micros(record.total),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::testing::FakeProc;

    const TEXT: &str = "some avg10=12.34 avg60=0.07 avg300=0.00 total=933137\n\
                        full avg10=1.50 avg60=0.00 avg300=0.00 total=664564\n";

    #[test]
    fn what_the_kernel_tells_is_read_to_its_last_digit() {
        let fake = FakeProc::new();
        fake.write("pressure/memory", TEXT);
        let pressure = Pressure::read(&fake.path("pressure/memory")).unwrap();
        assert_eq!((pressure.some.avg10, pressure.some.avg60), (Share(1234), Share(7)));
        assert_eq!((pressure.full.avg10.percent(), pressure.full.avg60), (1.5, Share(0)));
        assert_eq!(pressure.some.total, Duration::from_micros(933_137));
    }

    #[test]
    fn a_kernel_that_does_not_count_pressure_tells_none() {
        let fake = FakeProc::new();
        assert_eq!(Pressure::read(&fake.path("pressure/memory")), None);
        for text in
            ["", "some", "some\nfull\n", "some avg10=0.00\nfull avg10=0.00\n", "other\u{e9} avg10=1.00\n"]
        {
            fake.write("pressure/memory", text);
            assert_eq!(Pressure::read(&fake.path("pressure/memory")), None, "{text:?}");
        }
    }
}
