//! The loop's body: takes a batch, records what it says of each process, judges it, and keeps the source's closer look
//! on the suspects.
//!
//! It knows traits only: a [`Source`] that observes and a [`Directory`] that says who a process is, so that a recording
//! and a live host are judged by the same lines. What it keeps is bounded by the processes alive; what a process keeps is
//! bounded by [`history::CAPACITY`]. Start reading at [`Monitor::step`].

mod closer;
mod finding;
mod groups;
mod history;
mod moving;
mod ranking;
mod rejected;
mod resting;
mod shares;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tracked;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

pub use finding::Finding;
pub use groups::{Group, GroupTransition};
pub use history::{CAPACITY as HISTORY_CAPACITY, Point};
pub use tracked::Tracked;

use self::closer::Looks;
use self::groups::Groups;
use self::ranking::{Place, Ranking};
use self::rejected::Rejected;
use self::resting::{Beat, Beats};
use self::shares::Shares;
use crate::leak::{State, Thresholds, TimeToOom};
use crate::process::{Directory, Host, Identity, Selector};
use crate::source::{Batch, Event, ExitStatus, HostMemory, KernelSide, Lost, Reading, Source, SourceKind};
use crate::units::{Moment, Pid, ProcKey};

/// How old the limits above a process may be that grows: to read them costs several files a cgroup, and the kernel sums
/// up a whole tree for some of them. The host's memory is no younger.
const ROOMS_PERIOD: Duration = Duration::from_secs(1);

/// How long a process must have lived under our eyes before it is asked whose worker it is: most of those that a build
/// or a shell starts are gone by then.
const WORKER_AFTER: Duration = Duration::from_secs(2);

/// How many exits are remembered, for a kill that asks how its victim ended.
const EXITS_KEPT: usize = 1024;

/// What the monitor is told once.
pub struct Config {
    /// When a leak counts as confirmed.
    pub thresholds: Thresholds,
    /// Which processes are judged.
    pub selector: Selector,
    /// A process that is left out: leakscope itself.
    pub leave_out: Option<Pid>,
}

/// A change of what is thought of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// Which process.
    pub key: ProcKey,
    /// What was thought before.
    pub from: State,
    /// What is thought now.
    pub to: State,
    /// Whether the leak is confirmed now.
    pub confirmed: bool,
}

/// What one step brought.
#[derive(Clone, Debug)]
pub struct Tick {
    /// The present.
    pub at: Moment,
    /// Its date.
    pub wall: Timestamp,
    /// Verdicts that changed, in the order of the processes' keys.
    pub transitions: Vec<Transition>,
    /// The same of services.
    pub group_transitions: Vec<GroupTransition>,
    /// Processes of which there was a reading.
    pub read: Vec<ProcKey>,
    /// Pids that the kernel's OOM killer chose.
    pub oom_victims: Vec<Pid>,
    /// Processes that ended or became another program, as they were last known.
    pub ended: Vec<(ProcKey, Tracked)>,
    /// Services that have had no worker for so long that they are forgotten, as they were last known.
    pub ended_groups: Vec<Group>,
}

/// Watches every selected process of one source.
pub struct Monitor<S, D> {
    source: S,
    directory: D,
    config: Config,
    /// Boxed: a table doubles, and half of it may be empty.
    processes: HashMap<ProcKey, Box<Tracked>>,
    by_pid: HashMap<Pid, ProcKey>,
    ranking: Ranking,
    /// Processes that were looked at and are not selected, so that they are not looked at again each time they change.
    rejected: Rejected,
    /// Processes whose verdict may change while their memory does not.
    unsettled: BTreeSet<ProcKey>,
    inspected: BTreeSet<ProcKey>,
    groups: Groups,
    shares: Shares,
    beats: Beats,
    /// How long anybody was.
    inspected_for: Duration,
    exits: VecDeque<(ProcKey, Option<ExitStatus>)>,
    /// How many processes were ever judged.
    met: usize,
    began: Option<(Moment, Timestamp, HostMemory)>,
    now: Option<(Moment, Timestamp, HostMemory)>,
    lost: Lost,
}

impl<S: Source, D: Directory> Monitor<S, D> {
    /// A monitor that has seen nothing.
    pub fn new(source: S, directory: D, config: Config) -> Self {
        Self {
            source,
            directory,
            processes: HashMap::new(),
            by_pid: HashMap::new(),
            ranking: Ranking::default(),
            rejected: Rejected::default(),
            unsettled: BTreeSet::new(),
            inspected: BTreeSet::new(),
            groups: Groups::new(config.thresholds),
            shares: Shares::default(),
            beats: Beats::new(config.thresholds),
            inspected_for: Duration::ZERO,
            config,
            exits: VecDeque::new(),
            met: 0,
            began: None,
            now: None,
            lost: Lost::default(),
        }
    }

    /// Waits for the next batch and judges what it brought; `None` when the source has come to its end.
    ///
    /// # Errors
    /// When the source can no longer observe, or the closer look at a suspect cannot be switched.
    pub async fn step(&mut self) -> anyhow::Result<Option<Tick>> {
        let Some(batch) = self.source.next_batch().await? else { return Ok(None) };
        Ok(Some(self.take(batch)?))
    }

    fn take(&mut self, batch: Batch) -> anyhow::Result<Tick> {
        let Batch { at, wall, host, readings, events, lost } = batch;
        if let Some((before, ..)) = self.now.filter(|_| !self.inspected.is_empty()) {
            self.inspected_for += at.since(before);
        }
        self.began.get_or_insert((at, wall, host));
        self.now = Some((at, wall, host));
        self.beats.push(Beat { at, host_shmem: host.shmem });
        self.lost = lost;
        let mut tick = Tick {
            at,
            wall,
            transitions: Vec::new(),
            group_transitions: Vec::new(),
            read: Vec::new(),
            oom_victims: Vec::new(),
            ended: Vec::new(),
            ended_groups: Vec::new(),
        };

        let mut ended = BTreeSet::new();
        for event in events {
            match event {
                Event::Exec { key } => {
                    let before = self.forget(key);
                    // The same process goes on as another program, and is met again.
                    self.met -= usize::from(before.is_some());
                    tick.ended.extend(before);
                }
                Event::Exit { key, status } => {
                    ended.insert(key);
                    tick.ended.extend(self.forget(key));
                    if self.exits.len() == EXITS_KEPT {
                        self.exits.pop_front();
                    }
                    self.exits.push_back((key, status));
                }
                Event::OomVictim { pid } => tick.oom_victims.push(pid),
            }
        }

        let mut silent = std::mem::take(&mut self.unsettled);
        // Whoever ended in this batch holds nothing any more, whatever was read of it on the way.
        for reading in readings.into_iter().filter(|reading| !ended.contains(&reading.key)) {
            silent.remove(&reading.key);
            if self.processes.contains_key(&reading.key) {
                tick.read.push(reading.key);
                self.judge(reading.key, Some(reading), &mut tick);
            } else {
                self.admit(reading, &mut tick);
            }
        }
        for key in silent {
            self.judge(key, None, &mut tick);
        }
        (tick.group_transitions, tick.ended_groups) = self.groups.judge(at);
        self.shares = Shares::of(
            self.unsettled.iter().filter_map(|key| self.processes.get(key).map(|tracked| &**tracked)),
        );
        self.inspect_suspects(at)?;
        Ok(tick)
    }

    /// Makes room for a process that is new, and judges it, when it is one to judge.
    fn admit(&mut self, reading: Reading, tick: &mut Tick) {
        let key = reading.key;
        if self.config.leave_out == Some(key.pid) || self.rejected.holds(key, tick.at) {
            return;
        }
        if let Some(&former) = self.by_pid.get(&key.pid)
            && former != key
        {
            // The pid was used again and the exit went unseen.
            tick.ended.extend(self.forget(former));
        }
        let mut identity = None;
        if !self.config.selector.is_empty() {
            let Some(asked) = self.directory.identify(key) else { return };
            if !self.config.selector.matches(&asked) {
                self.rejected.insert(key, tick.at);
                return;
            }
            self.rejected.remove(key);
            identity = Some(asked);
        }
        self.by_pid.insert(key.pid, key);
        let tracked = Tracked::new(reading, identity, &mut self.beats);
        self.ranking.add(Place::of(key, &tracked));
        self.processes.insert(key, Box::new(tracked));
        self.met += 1;
        tick.read.push(key);
        self.judge(key, None, tick);
    }

    fn forget(&mut self, key: ProcKey) -> Option<(ProcKey, Tracked)> {
        self.rejected.remove(key);
        self.unsettled.remove(&key);
        if let Some((at, ..)) = self.now {
            self.groups.leave(key, at);
        }
        if self.by_pid.get(&key.pid) == Some(&key) {
            self.by_pid.remove(&key.pid);
        }
        let tracked = self.processes.remove(&key)?;
        self.ranking.remove(&Place::of(key, &tracked));
        Some((key, *tracked))
    }

    /// Judges a process by a new reading, or by its silence: unchanged memory is an observation too.
    fn judge(&mut self, key: ProcKey, reading: Option<Reading>, tick: &mut Tick) {
        let Some((at, _, host)) = self.now else { return };
        let Some(tracked) = self.processes.get_mut(&key) else { return };
        let place = Place::of(key, tracked);
        if let Some(reading) = reading {
            let (footprint, seen_at) = (reading.memory.footprint(), tracked.seen_at());
            if self.groups.knows(key) {
                self.groups.take(key, footprint);
            } else if !tracked.asked_for_service && at.since(seen_at) >= WORKER_AFTER {
                tracked.asked_for_service = true;
                if let Some(identity) = tracked.identified(|| self.directory.identify(key)) {
                    let before = self.began.is_some_and(|(began, ..)| seen_at == began);
                    self.groups.join(identity, footprint, before);
                }
            }
            tracked.take(reading, &self.beats);
        }
        let state = tracked.verdict().state;
        if state.severity() > 0 || state == State::WarmingUp {
            let due = tracked.rooms_read_at().is_none_or(|last| at.since(last) >= ROOMS_PERIOD);
            let identity = tracked.identified(|| self.directory.identify(key));
            if due {
                let host = limits_of(&host);
                let above = identity.and_then(|identity| self.directory.rooms(identity, &host, at));
                let mut rooms = above.unwrap_or_default();
                rooms.push(host.room());
                tracked.set_rooms(rooms, at);
            }
        }
        let before = (tracked.verdict().state, tracked.verdict().confirmed);
        tracked.observe(&self.beats);
        self.ranking.change(&place, Place::of(key, tracked));
        let verdict = tracked.verdict();
        if before != (verdict.state, verdict.confirmed) {
            tick.transitions.push(Transition {
                key,
                from: before.0,
                to: verdict.state,
                confirmed: verdict.confirmed,
            });
        }
        // Once it comes under suspicion it is looked at anew: its pid file and its title may be younger than it.
        let suspected = State::Suspect.severity();
        let severity = verdict.state.severity();
        let newly = before.0.severity() < suspected && severity >= suspected;
        if (newly || severity > 0 && tracked.identity().is_none())
            && let Some(identity) = self.directory.identify(key)
        {
            tracked.set_identity(identity);
        }
        if !tracked.is_settled() {
            self.unsettled.insert(key);
        }
    }

    /// Watches this process as well, when those that are watched were named one by one.
    pub fn also_watch(&mut self, key: ProcKey) {
        if self.config.selector.names_processes() {
            self.config.selector = std::mem::take(&mut self.config.selector).pids([key.pid]);
            self.config.selector.meet(key);
            self.rejected.remove(key);
        }
    }

    /// Whether everybody who was named by pid or pid file has gone, so that there is nothing left to see.
    pub fn nobody_left(&self) -> bool {
        self.began.is_some() && self.config.selector.names_processes() && self.processes.is_empty()
    }

    /// The processes that are judged.
    pub fn processes(&self) -> impl Iterator<Item = (ProcKey, &Tracked)> {
        self.processes.iter().map(|(key, tracked)| (*key, &**tracked))
    }

    /// How many they are.
    pub fn watched(&self) -> usize {
        self.processes.len()
    }

    /// Those that come into question: [`State::severity`] is above zero.
    pub fn growing(&self) -> impl Iterator<Item = (ProcKey, &Tracked)> {
        // Whoever rests is not suspected of anything.
        let unsettled = self.unsettled.iter().filter_map(|key| Some((*key, &**self.processes.get(key)?)));
        unsettled.filter(|(_, tracked)| tracked.verdict().state.severity() > 0)
    }

    /// One of them.
    pub fn process(&self, key: ProcKey) -> Option<&Tracked> {
        self.processes.get(&key).map(|tracked| &**tracked)
    }

    /// Who a process is; read at most once, and `None` when it was gone before it could be read.
    pub fn identity(&mut self, key: ProcKey) -> Option<&Identity> {
        self.processes.get_mut(&key)?.identified(|| self.directory.identify(key))
    }

    /// Reads anew who a process is: its user, its cgroup and its pid file may have changed since it was first looked at.
    /// Another program under the same key is not taken: it is not the one that was judged.
    pub fn identify_again(&mut self, key: ProcKey) {
        let Some(tracked) = self.processes.get_mut(&key) else { return };
        self.directory.refresh();
        let Some(now) = self.directory.identify(key) else { return };
        if tracked.identity().is_none_or(|before| before.runs_the_same(&now)) {
            tracked.set_identity(now);
        }
    }

    /// How many processes were judged since the start, those that have ended included.
    pub fn met(&self) -> usize {
        self.met
    }

    /// When the first of the limits above the process would be reached, by it and all others that grow below that limit.
    pub fn time_to_oom(&self, key: ProcKey) -> Option<TimeToOom> {
        self.shares.time_to_oom(self.processes.get(&key)?)
    }

    /// How a process ended, when it was seen to end: `Some(None)` when it ended and the source cannot tell how.
    pub fn exit_of(&self, key: ProcKey) -> Option<Option<ExitStatus>> {
        self.exits.iter().rev().find(|(gone, _)| *gone == key).map(|(_, status)| *status)
    }

    /// The moment, date and host memory of the first batch.
    pub fn began(&self) -> Option<(Moment, Timestamp, HostMemory)> {
        self.began
    }

    /// The moment, date and host memory of the newest batch.
    pub fn now(&self) -> Option<(Moment, Timestamp, HostMemory)> {
        self.now
    }

    /// The time between the two.
    pub fn elapsed(&self) -> Duration {
        match (self.began, self.now) {
            (Some((began, ..)), Some((now, ..))) => now.since(began),
            _ => Duration::ZERO,
        }
    }

    /// What was lost so far.
    pub fn lost(&self) -> &Lost {
        &self.lost
    }

    /// How long the closer look was on, whoever it was at.
    pub fn inspected_for(&self) -> Duration {
        self.inspected_for
    }

    /// The source.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Which kind of source observes.
    pub fn source_kind(&self) -> SourceKind {
        self.source.kind()
    }

    /// What the source's kernel side takes; `None` without one.
    pub fn kernel_side(&self) -> Option<KernelSide> {
        self.source.kernel_side()
    }

    /// Who is who.
    pub fn directory(&mut self) -> &mut D {
        &mut self.directory
    }
}

fn limits_of(host: &HostMemory) -> Host {
    Host { size: host.total + host.swap_total, available: host.available, swap_free: host.swap_free }
}
