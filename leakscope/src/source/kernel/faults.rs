//! From the last fault addresses of a suspect to steps. Absolute addresses end here.

use std::time::Duration;

use leakscope_common::{FAULTS_MAX, Fault, Suspect};

use super::programs::page_size;
use crate::leak::FaultStep;

/// What was seen of one suspect's faults.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FaultTrail {
    count: u64,
    last: Option<Fault>,
}

impl FaultTrail {
    /// The steps since the last call.
    pub(super) fn follow(&mut self, suspect: &Suspect) -> Vec<FaultStep> {
        let fresh = suspect.fault_count.saturating_sub(self.count);
        let mut gap = fresh > FAULTS_MAX as u64;
        self.count = suspect.fault_count;
        let after = self.last.map_or(0, |last| last.time);
        let mut faults: Vec<Fault> =
            suspect.faults.iter().copied().filter(|fault| fault.time > after).collect();
        // The ring goes round, and threads on several CPUs may store out of order.
        faults.sort_unstable_by_key(|fault| fault.time);
        let mut steps = Vec::with_capacity(faults.len());
        for fault in faults {
            if let Some(last) = self.last.replace(fault) {
                steps.push(FaultStep {
                    after: Duration::from_nanos(fault.time - last.time),
                    address_delta: fault.address.wrapping_sub(last.address).cast_signed(),
                    page_aligned: fault.address.is_multiple_of(page_size()),
                    after_gap: std::mem::take(&mut gap),
                });
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel side does it.
    fn remember(suspect: &mut Suspect, time: u64, address: u64) {
        let slot = usize::try_from(suspect.fault_count).unwrap() % FAULTS_MAX;
        suspect.faults[slot] = Fault { time, address };
        suspect.fault_count += 1;
    }

    #[test]
    fn steps_are_differences_and_each_is_told_once() {
        let mut suspect = Suspect::NEW;
        let mut trail = FaultTrail::default();
        remember(&mut suspect, 1000, 0x7f00_0000_0010);
        assert_eq!(trail.follow(&suspect), [], "one fault is no step");
        remember(&mut suspect, 3000, 0x7f00_0000_2820);
        remember(&mut suspect, 4000, 0x7f00_0000_1000);
        let steps = trail.follow(&suspect);
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[0].after, Duration::from_nanos(2000));
        assert_eq!(steps[0].address_delta, 0x2810);
        assert!(!steps[0].page_aligned);
        assert_eq!(steps[1].address_delta, -0x1820);
        assert!(steps[1].page_aligned);
        assert_eq!(trail.follow(&suspect), []);
    }

    #[test]
    fn faults_that_were_written_over_leave_a_gap_that_is_said() {
        let mut suspect = Suspect::NEW;
        let mut trail = FaultTrail::default();
        remember(&mut suspect, 1, 0);
        trail.follow(&suspect);
        for n in 2..=(FAULTS_MAX as u64 + 10) {
            remember(&mut suspect, n, n * 4096);
        }
        let steps = trail.follow(&suspect);
        assert_eq!(steps.len(), FAULTS_MAX);
        assert!(steps[0].after_gap);
        assert!(steps[1..].iter().all(|step| !step.after_gap && step.address_delta == 4096));
    }
}
