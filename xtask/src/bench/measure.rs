//! What a program cost: CPU seconds as the kernel billed them, and the most memory it had resident.
//!
//! The CPU time comes from wait4(2), exact to the microsecond and with the program's own children in it. Its ru_maxrss is
//! not used: it starts at what the parent had when it forked. `VmHWM` in /proc/PID/status does not, and only grows, so
//! the last reading before the end is the peak, unless that came in the last moments.

use std::{
    fmt, fs,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::shown;

/// How often the memory's peak is read; a hundredth of a percent of a core.
const BETWEEN_READINGS: Duration = Duration::from_millis(100);

/// What one run of one program cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    pub cpu_seconds: f64,
    /// The peak of the resident set, in MB (10^6 bytes).
    pub peak_mb: f64,
    /// How long it ran.
    pub wall_seconds: f64,
}

/// Runs `command` to its end, without its output.
///
/// # Errors
/// When it does not start, or does not succeed: what failed cost nothing worth comparing.
pub fn run(command: &mut Command) -> Result<Cost> {
    let watch = crate::clock::Stopwatch::start();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let child = child.with_context(|| format!("starting `{}`", shown(command)))?;
    let status_file = format!("/proc/{}/status", child.id());
    let pid = libc::pid_t::try_from(child.id()).context("the child's pid")?;
    let mut peak_mb = None;
    let (status, usage) = loop {
        if let Some(peak) = fs::read_to_string(&status_file).ok().and_then(|text| peak_of(&text)) {
            peak_mb = Some(peak);
        }
        if let Some(ended) = ended(pid)? {
            break ended;
        }
        pause();
    };
    ensure!(status == 0, "`{}` failed: wait status {status:#x}", shown(command));
    let seconds =
        |time: libc::timeval| Duration::from_micros((time.tv_sec * 1_000_000 + time.tv_usec).unsigned_abs());
    Ok(Cost {
        cpu_seconds: (seconds(usage.ru_utime) + seconds(usage.ru_stime)).as_secs_f64(),
        peak_mb: peak_mb.with_context(|| format!("`{}` ended before its memory was read", shown(command)))?,
        wall_seconds: watch.elapsed().as_secs_f64(),
    })
}

/// The wait status and what was used, once the child has ended.
fn ended(pid: libc::pid_t) -> Result<Option<(libc::c_int, libc::rusage)>> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live variables of the types that wait4 writes, and the pid is a child of this process
    // that nothing else waits for: `Child` is not waited on.
    let waited = unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    ensure!(waited >= 0, "waiting for pid {pid}: {}", std::io::Error::last_os_error());
    // SAFETY: rusage is integers only, for which the zeroes it was made of are values too.
    let usage = unsafe { usage.assume_init() };
    Ok((waited == pid).then_some((status, usage)))
}

#[expect(clippy::disallowed_methods, reason = "a measurement looks at intervals, and nothing wakes it")]
fn pause() {
    std::thread::sleep(BETWEEN_READINGS);
}

/// `VmHWM` in MB; `None` in a zombie's status, which has no memory.
fn peak_of(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// The middle of several runs, and how far apart they were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// `None` of no values.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Self { median, least, most })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ({:.3} to {:.3})", self.median, self.least, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0].into_iter()).unwrap();
        assert_eq!(spread, Spread { median: 2.5, least: 1.0, most: 4.0 });
        assert_eq!(Spread::of([5.0, 1.0, 3.0].into_iter()).unwrap().median, 3.0);
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn the_peak_is_read_in_kib_and_a_zombie_has_none() {
        assert_eq!(peak_of("Name:\ttop\nVmHWM:\t    4000 kB\nVmRSS:\t 1 kB\n"), Some(4.096));
        assert_eq!(peak_of("Name:\ttop\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn a_shell_that_computes_costs_cpu_time_and_memory() {
        let mut busy = Command::new("sh");
        busy.args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]);
        let cost = run(&mut busy).unwrap();
        assert!(cost.cpu_seconds > 0.0 && cost.peak_mb > 0.1, "{cost:?}");
    }

    #[test]
    fn a_program_that_fails_is_an_error_that_names_it() {
        let error = run(Command::new("sh").args(["-c", "sleep 0.2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("0x300"), "{error}");
    }
}
