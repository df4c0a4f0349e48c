//! The live host's source: the kernel side where it works, /proc alone where it does not.

use std::path::Path;
use std::time::Duration;

use super::paced::asked_every;
use super::{
    Batch, KernelOptions, KernelSide, KernelSource, KernelStatus, ProcfsSource, SAMPLE_PERIOD, Source,
    SourceKind, TracepointKind,
};
use crate::fault::Remedy;
use crate::units::ProcKey;

/// Which source is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The kernel side, or /proc alone where it does not work.
    #[default]
    Auto,
    /// The kernel side.
    Ebpf,
    /// /proc alone.
    Procfs,
}

/// What a source is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Which source.
    pub wanted: Wanted,
    /// How tracepoints are attached.
    pub tracepoints: TracepointKind,
    /// How often something is shown: a longer sampling period is shortened to it.
    pub at_least_every: Option<Duration>,
    /// How often a [`Paced`](super::Paced) source tells what it sees, where this one is to stand behind one: then it
    /// samples no more often than that takes.
    pub paced: Option<Duration>,
    /// Whether the kernel side logs what it does.
    pub debug: bool,
}

impl OpenOptions {
    /// The sampling period: the longest that is not longer than usual and after which something is shown each time it
    /// has passed so many times. (300 ms: every 150 ms, not 250, or every second line would be late.)
    fn period(&self, usual: Duration) -> Duration {
        if let Some(every) = self.paced {
            return asked_every(every);
        }
        self.at_least_every.map_or(usual, |every| {
            let times = every.as_nanos().div_ceil(usual.as_nanos().max(1)).max(1);
            every / u32::try_from(times).unwrap_or(u32::MAX)
        })
    }
}

/// A live source.
pub enum Live {
    /// The kernel side tells who changed.
    Kernel(Box<KernelSource>),
    /// /proc alone.
    Procfs(Box<ProcfsSource>),
}

/// A source, and what its user should know of it.
pub struct Opened {
    /// The source.
    pub source: Live,
    /// What was done to open it, and what is lost without the kernel side.
    pub notes: Vec<String>,
}

impl Live {
    /// Opens the source that is wanted.
    ///
    /// # Errors
    /// When the kernel side is wanted and does not work, or /proc cannot be read.
    pub fn open(options: &OpenOptions) -> anyhow::Result<Opened> {
        if options.wanted == Wanted::Procfs {
            return Ok(Opened { source: Self::procfs(options)?, notes: Vec::new() });
        }
        let kernel = KernelOptions {
            tracepoints: options.tracepoints,
            debug: options.debug,
            period: options.period(SAMPLE_PERIOD),
            ..KernelOptions::default()
        };
        match KernelSource::open(&kernel) {
            Ok(source) => {
                let notes = source.notes().to_vec();
                Ok(Opened { source: Self::Kernel(Box::new(source)), notes })
            }
            Err(error) if options.wanted == Wanted::Auto => {
                let notes = vec![
                    format!("the kernel side does not work here: {error} (fix: {})", error.fix),
                    "observing with procfs instead: no page faults, no exit status, no syscall counts, and every process \
                     is read once a second"
                        .to_owned(),
                ];
                Ok(Opened { source: Self::procfs(options)?, notes })
            }
            Err(error) => {
                let fix = error.fix.clone();
                Err(error).fix(fix)
            }
        }
    }

    /// The state of the kernel side; `None` without one.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn kernel_status(&self) -> anyhow::Result<Option<KernelStatus>> {
        match self {
            Self::Kernel(source) => source.status().map(Some),
            Self::Procfs(_) => Ok(None),
        }
    }

    fn procfs(options: &OpenOptions) -> anyhow::Result<Self> {
        let source = ProcfsSource::open(Path::new("/proc"), options.period(ProcfsSource::PERIOD))?;
        Ok(Self::Procfs(Box::new(source)))
    }
}

impl Source for Live {
    fn kind(&self) -> SourceKind {
        match self {
            Self::Kernel(source) => source.kind(),
            Self::Procfs(source) => source.kind(),
        }
    }

    fn kernel_side(&self) -> Option<KernelSide> {
        match self {
            Self::Kernel(source) => source.kernel_side(),
            Self::Procfs(source) => source.kernel_side(),
        }
    }

    async fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        match self {
            Self::Kernel(source) => source.next_batch().await,
            Self::Procfs(source) => source.next_batch().await,
        }
    }

    fn inspect(&mut self, suspects: &[ProcKey]) -> anyhow::Result<()> {
        match self {
            Self::Kernel(source) => source.inspect(suspects),
            Self::Procfs(source) => source.inspect(suspects),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sampling_period_divides_the_interval_and_is_never_longer_than_usual() {
        for (interval, period) in
            [(100, 100), (250, 250), (300, 150), (500, 250), (700, 233), (1000, 250), (3_600_000, 250)]
        {
            let every = Duration::from_millis(interval);
            let options = OpenOptions { at_least_every: Some(every), ..OpenOptions::default() };
            let chosen = options.period(SAMPLE_PERIOD);
            assert_eq!(chosen.as_millis(), period, "{interval} ms");
            let times = every.as_nanos().div_euclid(chosen.as_nanos());
            assert!(
                every - chosen * u32::try_from(times).unwrap() < Duration::from_micros(1),
                "{interval} ms"
            );
        }
        assert_eq!(OpenOptions::default().period(SAMPLE_PERIOD), SAMPLE_PERIOD);
    }
}
