//! Workers of one service, judged together: each may leak too slowly to be told alone.
//!
//! A service is what one parent started of one program in one cgroup. What is judged is the sum of its workers'
//! footprints, by the same detector that judges a process: generations that grow and die make a sawtooth of it, and only
//! a sum that grows is a leak of the service. A worker that was there before it joined adds nothing to the sum's growth;
//! one that was born while the service was watched adds what it holds; whoever dies takes away all that it held. Start
//! reading at [`Groups::take`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::leak::{Detector, Memory, Sample, State, Thresholds, Verdict};
use crate::process::Identity;
use crate::units::{Bytes, Moment, Pid, ProcKey};

/// Services that are judged at a time.
const MAX_GROUPS: usize = 4096;
/// How long a service without workers is remembered: between two generations there may be none.
const EMPTY_FOR: Duration = Duration::from_secs(300);
/// Where the sum begins, so that it stays above zero when workers die that were there before.
const BASE: Bytes = Bytes(1 << 40);

/// What makes processes workers of one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Service {
    parent: Pid,
    program: (u64, u64),
    script: Option<String>,
    cgroup: Option<String>,
}

impl Service {
    /// `None` for what is no worker: a thread of the kernel, whose program is unknown, or who lost its parent and has no
    /// unit or container that would hold it together with others.
    fn of(identity: &Identity) -> Option<Self> {
        let exe = identity.exe.as_ref()?;
        let kept = identity.owner.unit.is_some() || identity.owner.container.is_some();
        (identity.ppid.0 > 1 || kept).then(|| Self {
            parent: identity.ppid,
            program: (exe.dev, exe.ino),
            script: script(identity),
            cgroup: identity.owner.cgroup.clone(),
        })
    }
}

/// What an interpreter runs: two scripts of one interpreter are two programs.
fn script(identity: &Identity) -> Option<String> {
    const INTERPRETERS: [&str; 8] = ["python", "node", "java", "perl", "ruby", "php", "bash", "sh"];
    let program = identity.program();
    let versionless = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    let interpreter = INTERPRETERS.contains(&versionless) || INTERPRETERS.contains(&program.as_str());
    let mut arguments = identity.cmdline.iter().skip(1);
    interpreter.then(|| arguments.find(|word| !word.starts_with('-')).cloned()).flatten()
}

/// Workers of one service, and what is thought of them together.
#[derive(Clone, Debug)]
pub struct Group {
    /// The worker that was known first: its program and command line stand for all.
    pub first: Identity,
    /// What is thought of the sum.
    pub verdict: Verdict,
    workers: BTreeMap<ProcKey, Bytes>,
    /// How many were ever known.
    known: u64,
    sum: Bytes,
    /// What workers held that were there before they joined.
    held_before: Bytes,
    detector: Detector,
    emptied_at: Option<Moment>,
}

impl Group {
    fn new(first: Identity, thresholds: Thresholds) -> Self {
        Self {
            first,
            verdict: Verdict::learning(),
            workers: BTreeMap::new(),
            known: 0,
            sum: Bytes::ZERO,
            held_before: Bytes::ZERO,
            detector: Detector::new(thresholds),
            emptied_at: None,
        }
    }

    /// The workers that live.
    pub fn workers(&self) -> impl Iterator<Item = ProcKey> {
        self.workers.keys().copied()
    }

    /// How many workers live.
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// How many workers were known since the service was first seen.
    pub const fn known(&self) -> u64 {
        self.known
    }

    /// What they hold together.
    pub const fn footprint(&self) -> Bytes {
        self.sum
    }

    fn observe(&mut self, at: Moment) {
        let anon = BASE + self.sum - self.held_before;
        let memory = Memory { anon, ..Memory::default() };
        self.verdict = self.detector.observe(&Sample { at, memory, host_shmem: None });
        // The sum begins at an arbitrary height, so where it would end says nothing.
        self.verdict.evidence.plateau = None;
    }
}

/// A change of what is thought of a service.
#[derive(Clone, Debug)]
pub struct GroupTransition {
    /// The worker that stands for all.
    pub first: ProcKey,
    /// What was thought before.
    pub from: State,
    /// What is thought now.
    pub to: State,
    /// Whether the leak is confirmed now.
    pub confirmed: bool,
}

/// Every service that is watched.
#[derive(Debug)]
pub(super) struct Groups {
    thresholds: Thresholds,
    groups: BTreeMap<Arc<Service>, Group>,
    of: HashMap<ProcKey, Arc<Service>>,
    left_out: u64,
}

impl Groups {
    pub(super) fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, groups: BTreeMap::new(), of: HashMap::new(), left_out: 0 }
    }

    /// Whether the process has a service.
    pub(super) fn knows(&self, key: ProcKey) -> bool {
        self.of.contains_key(&key)
    }

    /// Workers that found no place, because too many services are watched.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// All services that ever had two workers at least.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().filter(|group| group.known > 1)
    }

    /// A process becomes a worker; `before` says that it was there before anybody watched.
    pub(super) fn join(&mut self, identity: &Identity, footprint: Bytes, before: bool) {
        let Some(service) = Service::of(identity) else { return };
        if !self.groups.contains_key(&service) && self.groups.len() >= MAX_GROUPS {
            self.left_out += 1;
            return;
        }
        let service = Arc::new(service);
        let thresholds = self.thresholds;
        let group = self
            .groups
            .entry(Arc::clone(&service))
            .or_insert_with(|| Group::new(identity.clone(), thresholds));
        group.workers.insert(identity.key, footprint);
        group.known += 1;
        group.emptied_at = None;
        group.sum += footprint;
        if before {
            group.held_before += footprint;
        }
        self.of.insert(identity.key, service);
    }

    /// A worker was read.
    pub(super) fn take(&mut self, key: ProcKey, footprint: Bytes) {
        let Some(group) = self.of.get(&key).and_then(|service| self.groups.get_mut(service)) else { return };
        if let Some(held) = group.workers.insert(key, footprint) {
            group.sum = group.sum + footprint - held;
        }
    }

    /// A worker is gone, or became another program.
    pub(super) fn leave(&mut self, key: ProcKey, at: Moment) {
        let Some(service) = self.of.remove(&key) else { return };
        let Some(group) = self.groups.get_mut(&service) else { return };
        if let Some(held) = group.workers.remove(&key) {
            group.sum = group.sum - held;
        }
        if group.workers.is_empty() {
            group.emptied_at = Some(at);
        }
    }

    /// Judges every service as it stands, and forgets those that have had no worker for long.
    pub(super) fn judge(&mut self, at: Moment) -> Vec<GroupTransition> {
        self.groups.retain(|_, group| group.emptied_at.is_none_or(|since| at.since(since) < EMPTY_FOR));
        let mut transitions = Vec::new();
        for group in self.groups.values_mut().filter(|group| group.known > 1) {
            let before = (group.verdict.state, group.verdict.confirmed);
            group.observe(at);
            let (to, confirmed) = (group.verdict.state, group.verdict.confirmed);
            if before != (to, confirmed) {
                transitions.push(GroupTransition { first: group.first.key, from: before.0, to, confirmed });
            }
        }
        transitions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::testing;
    use crate::units::Ticks;

    const MB: u64 = 1_000_000;

    fn worker(pid: u32, script: &str) -> Identity {
        let key = ProcKey { pid: Pid(pid), start: Ticks(u64::from(pid)) };
        let cmdline = vec!["python3".to_owned(), "-u".to_owned(), script.to_owned()];
        Identity { key, ppid: Pid(500), cmdline, ..testing::identity(pid) }
    }

    fn at(tick: u64) -> Moment {
        Moment(1_000_000_000 + tick * 250_000_000)
    }

    fn groups() -> Groups {
        Groups::new(Thresholds { confirm: Duration::from_secs(60) })
    }

    fn only(groups: &Groups) -> &Group {
        let mut all = groups.iter();
        let group = all.next().expect("a group");
        assert!(all.next().is_none());
        group
    }

    /// Deterministic noise between -1 and 1 that changes once a minute, at another second for each worker.
    fn noise(tick: u64, worker: u32) -> f64 {
        let minute = (tick + 7 * u64::from(worker)) / 240;
        let x = (minute as f64 * 12.9898 + f64::from(worker) * 78.233).sin() * 43_758.545;
        2.0 * (x - x.floor()) - 1.0
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive sizes")]
    fn noisy(tick: u64, worker: u32, rate: f64) -> Bytes {
        let bytes = 50e6 + rate * tick as f64 / 4.0 + 0.7e6 * noise(tick, worker);
        Bytes((bytes / 4096.0) as u64 * 4096)
    }

    #[test]
    fn workers_that_leak_too_slowly_to_be_told_alone_are_told_together() {
        let mut groups = groups();
        let mut alone = Detector::new(Thresholds { confirm: Duration::from_secs(60) });
        let workers: Vec<Identity> = (0..40).map(|i| worker(1000 + i, "app.py")).collect();
        for identity in &workers {
            groups.join(identity, noisy(0, identity.key.pid.0, 2000.0), true);
        }
        let (mut told, mut told_alone) = (None, false);
        for tick in 1..4 * 900 {
            for identity in &workers {
                groups.take(identity.key, noisy(tick, identity.key.pid.0, 2000.0));
            }
            let memory = Memory { anon: noisy(tick, 1000, 2000.0), ..Memory::default() };
            told_alone |= alone.observe(&Sample { at: at(tick), memory, host_shmem: None }).confirmed;
            groups.judge(at(tick));
            if told.is_none() && only(&groups).verdict.confirmed {
                told = Some(tick / 4);
            }
        }
        assert!(!told_alone, "one worker of forty is not told in a quarter of an hour");
        let told = told.expect("the service is told");
        let rate = only(&groups).verdict.rate.expect("a rate").mean.0;
        assert!((rate / 80_000.0 - 1.0).abs() < 0.25, "{rate} after {told} s");
    }

    #[test]
    fn generations_that_grow_and_die_are_no_leak_of_the_service() {
        let mut groups = groups();
        let mut living: Vec<(Identity, u64)> = Vec::new();
        for tick in 0..4 * 1800_u64 {
            if tick % 40 == 0 {
                let pid = 2000 + u32::try_from(tick / 40).unwrap();
                let identity = worker(pid, "job.py");
                groups.join(&identity, Bytes(5 * MB), false);
                living.push((identity, tick));
            }
            for (identity, born) in &living {
                groups.take(identity.key, Bytes(5 * MB + (tick - born) * 100_000));
            }
            let (dead, rest) = living.into_iter().partition(|(_, born)| tick - born > 110);
            living = rest;
            for (identity, _) in &dead {
                groups.leave(identity.key, at(tick));
            }
            groups.judge(at(tick));
            let group = groups.iter().next();
            assert!(group.is_none_or(|group| !group.verdict.confirmed), "at {} s", tick / 4);
        }
    }

    #[test]
    fn a_service_whose_workers_are_replaced_by_new_ones_of_the_same_size_does_not_grow() {
        let mut groups = groups();
        let mut workers: Vec<Identity> = (0..8).map(|i| worker(1000 + i, "app.py")).collect();
        for identity in &workers {
            groups.join(identity, Bytes(100 * MB), true);
        }
        for tick in 1..4 * 900_u64 {
            if tick % 200 == 0 {
                let pid = 5000 + u32::try_from(tick).unwrap();
                let old = std::mem::replace(
                    &mut workers[usize::try_from(tick / 200 % 8).unwrap()],
                    worker(pid, "app.py"),
                );
                groups.leave(old.key, at(tick));
                groups.join(&worker(pid, "app.py"), Bytes(100 * MB), false);
            }
            groups.judge(at(tick));
            assert_eq!(only(&groups).verdict.state.severity(), 0, "at {} s", tick / 4);
        }
        assert_eq!(only(&groups).footprint(), Bytes(800 * MB));
    }

    #[test]
    fn two_scripts_of_one_interpreter_are_two_services() {
        let mut groups = groups();
        groups.join(&worker(1, "a.py"), Bytes(MB), true);
        groups.join(&worker(2, "b.py"), Bytes(MB), true);
        assert_eq!(groups.iter().count(), 0, "neither has two workers");
        groups.join(&worker(3, "a.py"), Bytes(MB), true);
        assert_eq!(only(&groups).workers().count(), 2);
    }

    #[test]
    fn services_without_workers_are_forgotten_and_too_many_are_counted() {
        let mut groups = groups();
        for pid in 0..2 {
            groups.join(&worker(10 + pid, "a.py"), Bytes(MB), true);
        }
        for pid in 0..2 {
            groups.leave(worker(10 + pid, "a.py").key, at(0));
        }
        groups.judge(at(4 * 299));
        assert_eq!(groups.groups.len(), 1);
        groups.judge(at(4 * 301));
        assert_eq!((groups.groups.len(), groups.of.len()), (0, 0));
        for pid in 0..u32::try_from(MAX_GROUPS).unwrap() + 3 {
            groups.join(&worker(100 + pid, &format!("{pid}.py")), Bytes(MB), true);
        }
        assert_eq!(groups.left_out(), 3);
    }
}
