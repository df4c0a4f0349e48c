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

use super::Monitor;
use crate::leak::{Detector, Memory, Sample, State, Thresholds, Verdict};
use crate::process::{Directory, Identity};
use crate::source::Source;
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
    /// Which service of this watch; none has it again.
    pub number: u64,
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
    fn new(number: u64, first: Identity, thresholds: Thresholds) -> Self {
        Self {
            number,
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
#[derive(Clone, Debug, PartialEq)]
pub struct GroupTransition {
    /// Which service: [`Group::number`].
    pub number: u64,
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
    /// How many services were ever known.
    known: u64,
    left_out: u64,
}

impl Groups {
    pub(super) fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, groups: BTreeMap::new(), of: HashMap::new(), known: 0, left_out: 0 }
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
        let group = self.groups.entry(Arc::clone(&service)).or_insert_with(|| {
            self.known += 1;
            Group::new(self.known, identity.clone(), self.thresholds)
        });
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

    /// Judges every service as it stands: what changed, and the services that are forgotten because they have had no
    /// worker for long.
    pub(super) fn judge(&mut self, at: Moment) -> (Vec<GroupTransition>, Vec<Group>) {
        let mut forgotten = Vec::new();
        self.groups.retain(|_, group| {
            let stays = group.emptied_at.is_none_or(|since| at.since(since) < EMPTY_FOR);
            if !stays && group.known > 1 {
                forgotten.push(group.clone());
            }
            stays
        });
        let mut transitions = Vec::new();
        for group in self.groups.values_mut().filter(|group| group.known > 1) {
            let before = (group.verdict.state, group.verdict.confirmed);
            group.observe(at);
            let (to, confirmed) = (group.verdict.state, group.verdict.confirmed);
            if before != (to, confirmed) {
                transitions.push(GroupTransition { number: group.number, from: before.0, to, confirmed });
            }
        }
        (transitions, forgotten)
    }
}

impl<S: Source, D: Directory> Monitor<S, D> {
    /// The services none of whose workers is told alone, whatever is thought of them.
    pub fn services(&self) -> impl Iterator<Item = &Group> {
        let leaks_alone = |key: ProcKey| {
            self.processes.get(&key).is_some_and(|tracked| tracked.verdict().state == State::Leaking)
        };
        self.groups.iter().filter(move |group| !group.workers().any(leaks_alone))
    }

    /// The services whose workers grow together and none of which is told alone, as far as they come into question.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.services().filter(|group| group.verdict.state.severity() > 0 && group.len() > 1)
    }

    /// The same, the one of most concern first.
    pub fn groups_by_concern(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.groups().collect();
        groups.sort_by(|one, other| other.verdict.cmp_by_concern(&one.verdict));
        groups
    }

    /// The service with this number, however its workers are told.
    pub fn group(&self, number: u64) -> Option<&Group> {
        self.groups.iter().find(|group| group.number == number)
    }

    /// Workers whose service is not judged, because too many services are.
    pub fn ungrouped(&self) -> u64 {
        self.groups.left_out()
    }
}

#[cfg(test)]
mod tests;
