//! Who was started in a victim's place: looked for from the death on, for as long as a supervisor usually waits.

use std::collections::HashSet;
use std::time::Duration;

use super::bystander::Lookalikes;
use crate::process::{Identity, ProcRoot, pidfile_process};
use crate::units::{Moment, Pid, ProcKey, Ticks};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A death is seen a little after it happened, on a loaded host so much: a keeper may be faster.
const LATE: Duration = Duration::from_millis(500);

/// Looks for the process that takes a victim's place.
pub(super) struct Succession<'a> {
    proc: &'a ProcRoot,
    victim: &'a Identity,
    /// Processes that ran before the signal: a twin is no successor.
    before: &'a Lookalikes,
    since: Ticks,
    /// Pids of processes that are older than that, so that each is read once.
    older: HashSet<Pid>,
}

impl<'a> Succession<'a> {
    /// Of a victim that got its first signal at `signalled` and was seen dead at `died`.
    pub(super) fn new(
        proc: &'a ProcRoot,
        victim: &'a Identity,
        before: &'a Lookalikes,
        signalled: Moment,
        died: Moment,
    ) -> Self {
        let late = u64::try_from(LATE.as_nanos()).unwrap_or(u64::MAX);
        let earliest = Moment(died.0.saturating_sub(late)).max(signalled);
        // A start time is rounded down to its tick.
        let since = Ticks::from_boottime_nanos(earliest.0);
        Self { proc, victim, before, since, older: HashSet::new() }
    }

    /// Waits for it for at most `span`.
    pub(super) async fn wait(mut self, span: Duration) -> Option<Pid> {
        let found = async {
            loop {
                if let Some(pid) = self.look() {
                    return pid;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(span, found).await.ok()
    }

    /// The oldest process that took the victim's place, if there is one by now.
    fn look(&mut self) -> Option<Pid> {
        let mut found: Option<ProcKey> = None;
        for pid in self.proc.pids().unwrap_or_default() {
            if self.older.contains(&pid) {
                continue;
            }
            let Ok(who) = self.proc.identify(pid) else { continue };
            if who.key.start < self.since {
                self.older.insert(pid);
            } else if self.takes_its_place(&who)
                && found.is_none_or(|first| (who.key.start, pid) < (first.start, first.pid))
            {
                found = Some(who.key);
            }
        }
        found.map(|key| key.pid).or_else(|| self.by_pidfile())
    }

    /// Whether it is the same service: the same command line and user, kept by the same one.
    fn takes_its_place(&self, who: &Identity) -> bool {
        let victim = self.victim;
        let (own, its) = (&victim.owner, &who.owner);
        // A session or a folder of batch jobs holds what different parents start; what init keeps, a cgroup tells apart,
        // unless it is the root, where everybody is.
        let by_init = victim.ppid == Pid(1) && own.cgroup == its.cgroup && own.cgroup.as_deref() != Some("/");
        let kept_alike = victim.ppid == who.ppid
            || by_init
            || (own.unit.is_some() && own.unit == its.unit)
            || (own.container.is_some() && own.container == its.container)
            // A container that is started again in its pod is a new one beside the old one's place.
            || (own.container.is_some() && folder(own.cgroup.as_deref()) == folder(its.cgroup.as_deref()));
        // A child that the victim forked in its last moments lives on with init. It has the stack of the victim's own exec,
        // which nobody draws who starts a program; a worker that its master forked anew has that too, and its parent.
        let orphan = who.image.is_some()
            && who.image == victim.image
            && (who.ppid != victim.ppid || victim.ppid == Pid(1));
        self.is_new(who) && who.cmdline == victim.cmdline && who.uid == victim.uid && kept_alike && !orphan
    }

    /// The process that wrote itself into the victim's pid file.
    fn by_pidfile(&self) -> Option<Pid> {
        let file = self.victim.owner.pidfile.as_deref()?;
        let who = pidfile_process(self.proc, file).ok()?;
        (who.key.start >= self.since && self.is_new(&who)).then_some(who.key.pid)
    }

    fn is_new(&self, who: &Identity) -> bool {
        !who.zombie && who.key != self.victim.key && !self.before.has(who.key)
    }
}

fn folder(cgroup: Option<&str>) -> Option<&str> {
    cgroup.and_then(|path| path.rsplit_once('/')).map(|(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::testing::FakeProc;
    use std::path::Path;

    /// 42 is the victim, and 41 a twin from before.
    fn host() -> (FakeProc, Identity) {
        let fake = FakeProc::new();
        for (pid, ticks) in [(41, 1500), (42, 1000), (43, 1400), (44, 900)] {
            fake.process(pid, 1, ticks, Path::new("/nowhere"));
        }
        let mut victim = fake.root().identify(Pid(42)).unwrap();
        // Each exec draws its own stack; the fake processes all have one.
        victim.image = victim.image.map(|image| image + 16);
        (fake, victim)
    }

    fn looked(fake: &FakeProc, victim: &Identity, twins: &[u32], signalled: u64) -> Option<Pid> {
        let root = fake.root();
        let twins: Vec<_> = twins.iter().map(|pid| root.identify(Pid(*pid)).unwrap()).collect();
        let (twins, at) = (Lookalikes::from(twins), Ticks(signalled).moment());
        Succession::new(&root, victim, &twins, at, at).look()
    }

    #[test]
    fn the_oldest_that_started_since_is_the_successor_and_a_twin_from_before_is_none() {
        let (fake, victim) = host();
        assert_eq!(looked(&fake, &victim, &[], 1200), Some(Pid(43)));
        assert_eq!(looked(&fake, &victim, &[43], 1200), Some(Pid(41)), "a twin that started meanwhile");
        assert_eq!(looked(&fake, &victim, &[], 1501), None);
        fake.write("43/cmdline", "other\0");
        assert_eq!(looked(&fake, &victim, &[], 1200), Some(Pid(41)));
    }

    #[test]
    fn a_service_that_is_kept_elsewhere_is_another_one() {
        let (fake, mut victim) = host();
        fake.stat(43, 'S', 9, 1, 1400);
        fake.stat(41, 'S', 9, 1, 1500);
        assert_eq!(looked(&fake, &victim, &[], 1200), Some(Pid(43)), "init keeps it in its cgroup");
        victim.ppid = Pid(7);
        victim.owner.unit = None;
        assert_eq!(looked(&fake, &victim, &[], 1200), None, "another parent, and no unit that tells");
        victim.owner.unit = Some("worker.service".to_owned());
        assert_eq!(looked(&fake, &victim, &[], 1200), Some(Pid(43)), "the same unit");
        victim.owner.unit = None;
        victim.ppid = Pid(9);
        assert_eq!(looked(&fake, &victim, &[], 1200), Some(Pid(43)), "the same parent");
        victim.ppid = Pid(1);
        victim.owner.cgroup = Some("/".to_owned());
        for pid in [41, 43] {
            fake.write(&format!("{pid}/cgroup"), "0::/\n");
        }
        assert_eq!(looked(&fake, &victim, &[], 1200), None, "everybody is in the root");
    }

    #[test]
    fn a_child_that_outlives_the_victim_is_no_successor_and_a_worker_forked_anew_is_one() {
        let (fake, mut victim) = host();
        victim.image = fake.root().identify(Pid(43)).unwrap().image;
        assert!(victim.image.is_some());
        assert_eq!(looked(&fake, &victim, &[], 1200), None, "init keeps what the victim forked");
        victim.ppid = Pid(9);
        assert_eq!(looked(&fake, &victim, &[], 1200), None, "of the same unit, and nobody's worker");
        fake.stat(43, 'S', 9, 1, 1400);
        assert_eq!(looked(&fake, &victim, &[], 1200), Some(Pid(43)), "its master forked it anew");
    }

    #[tokio::test]
    async fn one_that_comes_late_is_waited_for() {
        let (fake, victim) = host();
        let (root, none, at) = (fake.root(), Lookalikes::default(), Ticks(1600).moment());
        let waiting = Succession::new(&root, &victim, &none, at, at).wait(Duration::from_secs(20));
        let coming = async {
            tokio::time::sleep(Duration::from_millis(450)).await;
            fake.process(45, 1, 1700, Path::new("/nowhere"));
        };
        assert_eq!(tokio::join!(waiting, coming).0, Some(Pid(45)));
    }
}
