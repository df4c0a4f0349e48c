//! Events that no program saw, because it was at work on that CPU already: where programs can be preempted, another process
//! may come in between. Since 5.12 the kernel tells how many it passed over, for BTF tracepoints and functions in any
//! case, in the file of a program's descriptor, where aya does not look.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;

use aya::programs::Program;

/// More than such a file has ever had.
const LENGTH: usize = 1024;

/// The files of some programs' descriptors. They stay open: they are read once a second.
pub(super) struct Misses(Vec<File>);

impl Misses {
    pub(super) fn of<'a>(programs: impl Iterator<Item = &'a Program>) -> Self {
        let file = |program: &Program| {
            let program = match program {
                Program::BtfTracePoint(program) => program.fd(),
                Program::FEntry(program) => program.fd(),
                Program::FExit(program) => program.fd(),
                _ => return None,
            };
            let descriptor = program.ok()?.as_fd().as_raw_fd();
            File::open(format!("/proc/self/fdinfo/{descriptor}")).ok()
        };
        Self(programs.filter_map(file).collect())
    }

    /// How many there were; `None` where the kernel does not say.
    pub(super) fn count(&self) -> Option<u64> {
        let counts = self.0.iter().filter_map(|file| {
            let mut text = [0; LENGTH];
            let length = file.read_at(&mut text, 0).ok()?;
            recursion_misses(text.get(..length)?)
        });
        counts.reduce(|sum, count| sum + count)
    }
}

fn recursion_misses(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_does_not_count_them_is_not_one_that_had_none() {
        let text = b"pos:\t0\nprog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t7\nverified_insns:\t12\n";
        assert_eq!(recursion_misses(text), Some(7));
        assert_eq!(recursion_misses(b"pos:\t0\nprog_type:\t26\nrun_cnt:\t0\n"), None);
        assert_eq!(Misses(Vec::new()).count(), None);
    }
}
