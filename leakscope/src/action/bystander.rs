//! Bystanders: every process of the host that could be taken for the victim, and must live on.

use crate::process::{Identity, ProcRoot};
use crate::units::{Pid, ProcKey};

use super::outcome::{Bystander, Check};

/// So many are followed; a host may have thousands of workers under one name.
const MOST: usize = 1024;

/// So many are named in a check.
const NAMED: usize = 5;

/// Processes that could be taken for a victim.
#[derive(Clone, Debug, Default)]
pub struct Lookalikes {
    /// Who they are.
    pub who: Vec<Identity>,
    /// How many more there are that are not followed.
    pub left_out: usize,
}

impl Lookalikes {
    /// Every other process that looks like the victim, in all of /proc: also one that nobody selected may be hit by
    /// mistake. Those that vanish meanwhile are none.
    pub fn of(proc: &ProcRoot, victim: &Identity) -> Self {
        let mut pids = proc.pids().unwrap_or_default();
        pids.sort_unstable();
        let mut found = Self::default();
        for pid in pids.into_iter().filter(|pid| *pid != victim.key.pid) {
            let Ok(identity) = proc.identify(pid) else { continue };
            if identity.zombie || !identity.looks_like(victim) {
                continue;
            }
            if found.who.len() < MOST {
                found.who.push(identity);
            } else {
                found.left_out += 1;
            }
        }
        found
    }

    /// Whether this process was there before.
    pub(super) fn has(&self, key: ProcKey) -> bool {
        self.who.iter().any(|who| who.key == key)
    }

    /// How they are now.
    pub(super) fn look(&self, proc: &ProcRoot) -> Vec<Bystander> {
        let now = |who: &Identity| {
            let now = proc.identify(who.key.pid).ok().filter(|now| !now.zombie);
            let same_process = now.as_ref().is_some_and(|now| now.key == who.key);
            Bystander { pid: who.key.pid, alive: now.is_some(), same_process }
        };
        self.who.iter().map(now).collect()
    }

    /// What is to be said of them after a signal to `victim`.
    pub(super) fn check(&self, victim: Pid, now: &[Bystander]) -> Check {
        let hurt: Vec<String> = self
            .who
            .iter()
            .zip(now)
            .filter(|(_, now)| !now.same_process)
            .map(|(who, now)| {
                let what = if now.alive { "is another process now" } else { "is gone" };
                let child = if who.ppid == victim { ", a child of the victim," } else { "" };
                format!("pid {}{child} {what}", now.pid)
            })
            .collect();
        let more = match self.left_out {
            0 => String::new(),
            more => format!("; {more} more were not followed"),
        };
        if hurt.is_empty() {
            let detail = match now.len() {
                0 => "no other process looks like it".to_owned(),
                1 => format!("pid {}, which looks like it, is alive and the same process", now[0].pid),
                many => format!("{many} processes that look like it are alive and the same"),
            };
            return Check::new("bystanders", true, detail + &more);
        }
        let named = hurt[..hurt.len().min(NAMED)].join("; ");
        let rest = match hurt.len().saturating_sub(NAMED) {
            0 => String::new(),
            rest => format!("; and {rest} others"),
        };
        Check::new("bystanders", false, format!("{named}{rest}{more}"))
    }
}

impl From<Vec<Identity>> for Lookalikes {
    fn from(who: Vec<Identity>) -> Self {
        Self { who, left_out: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::testing::{FakeProc, identity};
    use std::path::Path;

    #[test]
    fn who_looks_like_the_victim_is_found_in_all_of_proc_and_the_victim_is_not() {
        let fake = FakeProc::new();
        for pid in [40, 42, 43] {
            fake.process(pid, 1, 1000, Path::new("/nowhere"));
        }
        let victim = fake.root().identify(Pid(42)).unwrap();
        let found = Lookalikes::of(&fake.root(), &victim);
        let pids: Vec<_> = found.who.iter().map(|who| who.key.pid.0).collect();
        assert_eq!((pids, found.left_out), (vec![40, 43], 0));
    }

    #[test]
    fn a_bystander_that_is_gone_or_replaced_fails_the_check_by_its_pid() {
        let fake = FakeProc::new();
        for (pid, ticks) in [(40, 100_000), (41, 7)] {
            fake.process(pid, 1, ticks, Path::new("/nowhere"));
        }
        let mut child = identity(43);
        child.ppid = Pid(42);
        let before = Lookalikes::from(vec![identity(40), identity(41), child]);
        let now = before.look(&fake.root());
        let check = before.check(Pid(42), &now);
        assert!(!check.passed);
        assert_eq!(check.detail, "pid 41 is another process now; pid 43, a child of the victim, is gone");
        let well = Lookalikes { who: vec![identity(40)], left_out: 3 };
        let check = well.check(Pid(42), &well.look(&fake.root()));
        assert!(check.passed && check.detail.contains("pid 40") && check.detail.contains("3 more"));
    }
}
