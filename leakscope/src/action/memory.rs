//! What came back: memory before the signal and after the death, and what may be said of the difference.
//!
//! The victim's footprint is exact and no proof: pages that a forked relative shares stay. The host's `MemAvailable` and
//! the cgroup's charge are measured, and everybody else moves them too. So the first is an estimate that the others bear
//! out or contradict; what is smaller than the host's own noise they can do neither to. Start reading at [`judge`].

use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::outcome::Check;
use super::victim::Victim;
use crate::process::Limits;
use crate::source::now;
use crate::units::{Bytes, Moment};

/// How often memory is looked at after a death, and how long apart: freed pages pass through lists of each CPU.
const LOOKS: u32 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A host's available memory moves by as much within half a second without anything to learn from it: a compiler that
/// ends, a page cache that is dropped.
const NOISE: Bytes = Bytes(64_000_000);
/// And by this share of what is available.
const NOISE_SHARE: f64 = 0.01;

/// Memory before the signal and after the death.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryReturn {
    /// What the victim had resident right before the signal.
    pub rss_before_bytes: Option<Bytes>,
    /// Its anonymous resident and swapped bytes right before the signal.
    pub footprint_before_bytes: Option<Bytes>,
    /// The resident part of its footprint: what the host's available memory should rise by.
    pub anon_before_bytes: Option<Bytes>,
    /// The host's `MemAvailable` before; other processes move it too.
    pub host_available_before_bytes: Option<Bytes>,
    /// The host's `MemAvailable` after the death.
    pub host_available_after_bytes: Option<Bytes>,
    /// What the victim's cgroup was charged for before, page cache and all.
    pub cgroup_before_bytes: Option<Bytes>,
    /// The same after the death.
    pub cgroup_after_bytes: Option<Bytes>,
    /// From the verified death to the figures after it.
    #[serde(rename = "measured_after_s", serialize_with = "seconds")]
    pub measured_after: Option<Duration>,
}

fn seconds<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    span.map(|span| span.as_secs_f64()).serialize(to)
}

impl MemoryReturn {
    /// By how much the host's available memory rose; negative where it fell.
    pub fn host_rise(&self) -> Option<i128> {
        difference(self.host_available_before_bytes, self.host_available_after_bytes)
    }

    /// By how much the charge of the victim's cgroup fell; negative where it rose.
    pub fn cgroup_fall(&self) -> Option<i128> {
        difference(self.cgroup_after_bytes, self.cgroup_before_bytes)
    }

    /// The larger of the two: who moves one of them the other way need not move the other.
    fn measured(&self) -> Option<i128> {
        self.host_rise().max(self.cgroup_fall())
    }
}

fn difference(from: Option<Bytes>, to: Option<Bytes>) -> Option<i128> {
    Some(i128::from(to?.0) - i128::from(from?.0))
}

/// `rose by 4.1 MB`, `fell by 300 KB`, `did not move`.
pub fn moved(by: i128) -> String {
    let size = Bytes(u64::try_from(by.unsigned_abs()).unwrap_or(u64::MAX));
    match by {
        0 => "did not move".to_owned(),
        1.. => format!("rose by {size}"),
        _ => format!("fell by {size}"),
    }
}

/// What is measured before the signal, to be compared afterwards.
pub(super) struct Before {
    pub(super) memory: MemoryReturn,
    cgroup: Option<PathBuf>,
}

impl Before {
    pub(super) fn read(victim: &Victim) -> Self {
        let proc = victim.proc();
        let pid = victim.identity().key.pid;
        let held = proc.memory(pid).ok().flatten();
        let membership = proc.membership(pid).ok();
        let limits = Limits::discover(proc).ok();
        let cgroup = limits.zip(membership).and_then(|(limits, membership)| limits.directory(&membership));
        let memory = MemoryReturn {
            rss_before_bytes: held.map(|memory| memory.rss()),
            footprint_before_bytes: held.map(|memory| memory.footprint()),
            anon_before_bytes: held.map(|memory| memory.anon),
            host_available_before_bytes: proc.available(),
            cgroup_before_bytes: cgroup.as_deref().and_then(Limits::usage),
            ..MemoryReturn::default()
        };
        Self { memory, cgroup }
    }

    /// Measures again after a death at `died`: a few times within half a second, until what the victim held is back;
    /// the most that came back is kept.
    pub(super) async fn after(&self, victim: &Victim, died: Moment) -> MemoryReturn {
        let mut best = self.look(victim, died);
        let held = i128::from(self.memory.anon_before_bytes.unwrap_or_default().0);
        for _ in 1..LOOKS {
            if best.measured().is_none_or(|measured| measured >= held) {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            let next = self.look(victim, died);
            if next.measured() > best.measured() {
                best = next;
            }
        }
        best
    }

    fn look(&self, victim: &Victim, died: Moment) -> MemoryReturn {
        MemoryReturn {
            host_available_after_bytes: victim.proc().available(),
            cgroup_after_bytes: self.cgroup.as_deref().and_then(Limits::usage),
            measured_after: Some(now().0.since(died)),
            ..self.memory
        }
    }
}

/// How much came back, and the check that says what that rests on: none where something was not measured. Where the
/// figures cannot contradict the estimate, the estimate stands and the check says that it is one.
pub(super) fn judge(memory: &MemoryReturn) -> (Option<Bytes>, Option<Check>) {
    let footprint = memory.footprint_before_bytes;
    let (Some(footprint), Some(anon), Some(measured)) =
        (footprint, memory.anon_before_bytes, memory.measured())
    else {
        return (footprint, None);
    };
    let mut seen = Vec::new();
    seen.extend(memory.host_rise().map(|by| format!("available memory of the host {}", moved(by))));
    seen.extend(memory.cgroup_fall().map(|by| format!("the charge of its cgroup {}", moved(-by))));
    let seen = format!("its footprint was {footprint}; {}", seen.join(", "));
    let check = |passed, words: &str| Some(Check::new("memory", passed, format!("{seen}{words}")));
    if measured >= i128::from(anon.0 / 2) {
        return (Some(footprint), check(true, ""));
    }
    let available = memory.host_available_before_bytes.unwrap_or_default();
    if anon.as_f64() < NOISE.as_f64().max(available.as_f64() * NOISE_SHARE) {
        let words = " (what it held is too little to show beside what others do: an estimate)";
        return (Some(footprint), check(true, words));
    }
    let back = Bytes(u64::try_from(measured.max(0)).unwrap_or(u64::MAX));
    let words =
        ": its pages are shared with a process that it forked from or to, or others took memory meanwhile";
    (Some(back), check(false, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn figures(anon: u64, host: [u64; 2], cgroup: Option<[u64; 2]>) -> MemoryReturn {
        MemoryReturn {
            footprint_before_bytes: Some(Bytes(anon * MB)),
            anon_before_bytes: Some(Bytes(anon * MB)),
            host_available_before_bytes: Some(Bytes(host[0] * MB)),
            host_available_after_bytes: Some(Bytes(host[1] * MB)),
            cgroup_before_bytes: cgroup.map(|cgroup| Bytes(cgroup[0] * MB)),
            cgroup_after_bytes: cgroup.map(|cgroup| Bytes(cgroup[1] * MB)),
            ..MemoryReturn::default()
        }
    }

    #[test]
    fn what_came_back_is_an_estimate_that_the_figures_bear_out_or_contradict() {
        let table = [
            // Seen to come back, by the host or by the cgroup alone.
            (figures(500, [4000, 4510], None), 500, true, "rose by 510 MB"),
            (figures(500, [4000, 3900], Some([600, 120])), 500, true, "fell by 480 MB"),
            // Too little to be seen: the host's noise is no evidence either way.
            (figures(4, [4000, 3950], None), 4, true, "an estimate"),
            // Shared with its parent: it died, and nothing came back.
            (figures(500, [4000, 4003], Some([900, 899])), 3, false, "shared"),
            (figures(500, [4000, 3800], None), 0, false, "shared"),
        ];
        for (memory, back, passed, words) in table {
            let (returned, check) = judge(&memory);
            let check = check.unwrap();
            assert_eq!((returned, check.passed), (Some(Bytes(back * MB)), passed), "{}", check.detail);
            assert!(check.detail.contains(words), "{}", check.detail);
        }
    }

    #[test]
    fn what_was_not_measured_makes_no_check() {
        let mut memory = figures(500, [4000, 4500], None);
        memory.host_available_after_bytes = None;
        assert_eq!(judge(&memory), (Some(Bytes(500 * MB)), None));
        memory.footprint_before_bytes = None;
        assert_eq!(judge(&memory), (None, None));
    }
}
