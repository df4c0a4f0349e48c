//! A hunt under way: every sample is noted, every confirmed leak dealt with once, and Ctrl-C heard at every wait.
//!
//! The watch never stops: not while somebody is asked, and not while a victim has its grace ([`super::killing`]). Start
//! reading at [`Chase::until_over`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::beside::Beside;
use super::evidence::oom_choice;
use super::thinned::Thinned;
use super::timeline::Timeline;
use super::{EveryTick, Hunted, KillMode, Options};
use crate::action::Outcome;
use crate::commands::present::service;
use crate::commands::{Interrupt, counted, title};
use crate::leak::{Limit, State, TimeToOom};
use crate::monitor::{Finding, Group, GroupTransition, Monitor, Tick, Transition};
use crate::process::{Directory, ProcRoot};
use crate::report::{AnatomyLine, OomChoice};
use crate::source::Source;
use crate::ui::Ui;
use crate::units::{Bytes, Moment, ProcKey};

/// How many processes the table of the cleared ones shows.
const CLEARED_SHOWN: usize = 8;

/// After something was done it is watched for so long before the next: what is freed moves everything else.
const COOLDOWN: Duration = Duration::from_secs(5);

/// How many look-alikes of a suspect it shows besides, and among how many processes they are looked for: who they are is
/// read from /proc, once.
const LOOKALIKES_SHOWN: usize = 8;
const LOOKED_AT: usize = 1024;

/// A hunt ends when it has confirmed so many leaks: with `--all` it may last for weeks, and each is kept for the report.
const MOST_CONFIRMED: usize = 256;

/// The state of a hunt.
pub(super) struct Chase<'a, S, D> {
    pub(super) monitor: &'a mut Monitor<S, D>,
    pub(super) options: &'a Options,
    pub(super) ui: &'a mut Ui,
    every_tick: &'a mut EveryTick<'a>,
    pub(super) interrupt: Interrupt,
    pub(super) interrupted: bool,
    /// As they were when they were confirmed.
    confirmed: Vec<Finding>,
    /// Confirmed leaks that were dealt with; one that became another program may be found again.
    dealt_with: BTreeSet<ProcKey>,
    /// Confirmed leaks that became another program.
    pub(super) became_another: BTreeSet<ProcKey>,
    pub(super) anatomies: BTreeMap<ProcKey, AnatomyLine>,
    pub(super) actions: Vec<(ProcKey, Outcome)>,
    /// Whose limit was told to be near.
    warned: BTreeSet<ProcKey>,
    oom_choice: Option<OomChoice>,
    /// When something may be done again.
    rested_at: Option<Moment>,
    host_available: Thinned,
    beside: Beside,
    pub(super) timeline: Timeline,
}

impl<'a, S: Source, D: Directory> Chase<'a, S, D> {
    pub(super) fn new(
        monitor: &'a mut Monitor<S, D>,
        options: &'a Options,
        ui: &'a mut Ui,
        every_tick: &'a mut EveryTick<'a>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            monitor,
            options,
            ui,
            every_tick,
            interrupt: Interrupt::new()?,
            interrupted: false,
            confirmed: Vec::new(),
            dealt_with: BTreeSet::new(),
            became_another: BTreeSet::new(),
            anatomies: BTreeMap::new(),
            actions: Vec::new(),
            warned: BTreeSet::new(),
            oom_choice: None,
            rested_at: None,
            host_available: Thinned::default(),
            beside: Beside::default(),
            timeline: Timeline::default(),
        })
    }

    pub(super) async fn until_over(&mut self) -> anyhow::Result<()> {
        let mut shown: Option<Moment> = None;
        while let Some(at) = self.step().await? {
            let dealt_with = self.deal_with_confirmed().await?;
            let service = self
                .monitor
                .groups()
                .any(|group| group.verdict.confirmed && self.options.is_about_group(group));
            // Who is confirmed and waits for its turn is not left for want of a few seconds.
            let over = (dealt_with || service) && !self.options.all
                || self.monitor.elapsed() >= self.options.timeout && self.waiting().is_empty();
            if self.interrupted || over {
                break;
            }
            if self.confirmed.len() >= MOST_CONFIRMED {
                self.ui.say(&format!("{MOST_CONFIRMED} leaks were confirmed: the hunt ends here"));
                break;
            }
            if self.monitor.nobody_left() {
                self.ui.say("every process that was named has ended");
                break;
            }
            if shown.is_none_or(|last| at.since(last) >= self.options.interval) {
                shown = Some(at);
                let line = self.progress_line();
                self.ui.progress(&line);
            }
        }
        self.ui.clear_progress();
        Ok(())
    }

    /// Waits for the next sample and notes what it brought; `None` when there is none, or somebody interrupts.
    pub(super) async fn step(&mut self) -> anyhow::Result<Option<Moment>> {
        let tick = tokio::select! {
            biased;
            () = self.interrupt.received() => {
                self.interrupted = true;
                return Ok(None);
            }
            tick = self.monitor.step() => tick?,
        };
        let Some(tick) = tick else { return Ok(None) };
        if let Some((.., host)) = self.monitor.now() {
            (self.every_tick)(&tick, &host)?;
            // Not every source says; zero would draw a host without memory.
            if host.available > Bytes::ZERO {
                self.host_available.push(tick.wall, host.available);
            }
            let monitor = &*self.monitor;
            self.beside.note(tick.wall, |key| Some(monitor.process(key)?.memory().footprint()));
        }
        self.note(&tick);
        self.warn_of_near_limits(tick.wall);
        Ok(Some(tick.at))
    }

    /// Puts what a reader of the report wants to know of this tick into the timeline.
    fn note(&mut self, tick: &Tick) {
        if self.timeline.is_empty() {
            let processes = counted(self.monitor.watched(), "process", "processes");
            let source = self.monitor.source_kind().name();
            self.timeline.push(tick.wall, format!("started to watch {processes} (source: {source})"));
        }
        for (key, _) in &tick.ended {
            self.note_exec(*key, tick.wall);
        }
        for transition in &tick.transitions {
            self.note_transition(transition, tick.wall);
        }
        for transition in &tick.group_transitions {
            self.note_service(transition, tick.wall);
        }
        for pid in &tick.oom_victims {
            self.tell(tick.wall, format!("the kernel's OOM killer chose pid {pid}"));
        }
    }

    /// A confirmed leak that became another program leaks no more: what it held went with the exec.
    fn note_exec(&mut self, key: ProcKey, wall: Timestamp) {
        let confirmed = self.confirmed.iter().find(|finding| finding.key == key);
        let Some(confirmed) = confirmed.filter(|_| self.monitor.exit_of(key).is_none()) else { return };
        let text = format!("{} became another program; what leaked is gone", title(&confirmed.identity));
        self.dealt_with.remove(&key);
        self.became_another.insert(key);
        self.tell(wall, text);
    }

    fn note_transition(&mut self, transition: &Transition, wall: Timestamp) {
        if !self.options.is_about(transition.key) {
            return;
        }
        let Some(what) = news(transition.from, transition.to, transition.confirmed) else {
            let (pid, from, to) = (transition.key.pid, transition.from.name(), transition.to.name());
            self.ui.say_verbose(&format!("pid {pid}: {from}, now {to}"));
            return;
        };
        let Some(finding) = self.monitor.finding(transition.key) else { return };
        if transition.to.severity() >= State::Suspect.severity() && !self.beside.is_full() {
            let keys: Vec<ProcKey> = self.monitor.keys_by_growth().collect();
            for key in self.lookalikes(&keys, std::slice::from_ref(&finding)) {
                if let Some(other) = self.monitor.finding(key) {
                    self.beside.follow(&other);
                }
            }
        }
        self.tell(wall, format!("{} {what}{}", title(&finding.identity), growth(&finding)));
    }

    /// The same of a service, as long as none of its workers is told alone.
    fn note_service(&mut self, transition: &GroupTransition, wall: Timestamp) {
        let Some(what) = news(transition.from, transition.to, transition.confirmed) else { return };
        let mut groups = self.monitor.groups();
        let Some(group) = groups.find(|group| group.number == transition.number) else { return };
        if !self.options.is_about_group(group) {
            return;
        }
        let rate = group.verdict.rate.map_or_else(String::new, |rate| format!(", +{}", rate.mean));
        let text = format!("{} together: {what}{rate}", service(group).title());
        drop(groups);
        self.tell(wall, text);
    }

    /// Urgency is no verdict: whoever would use up its limit within two minutes is told of while it is but a suspect.
    fn warn_of_near_limits(&mut self, wall: Timestamp) {
        let suspects: Vec<ProcKey> = self
            .monitor
            .growing()
            .filter(|(_, tracked)| tracked.verdict().state.severity() >= State::Suspect.severity())
            .map(|(key, _)| key)
            .filter(|key| self.options.is_about(*key) && !self.warned.contains(key))
            .collect();
        for key in suspects {
            let Some(oom) = self.monitor.time_to_oom(key).filter(TimeToOom::runaway) else { continue };
            let Some(identity) = self.monitor.identity(key) else { continue };
            let limit = match &oom.room.limit {
                Limit::Host => "the host's memory and swap".to_owned(),
                Limit::Cgroup(path) => format!("the limit of cgroup {path}"),
            };
            let others = match oom.demand.growers {
                0 | 1 => String::new(),
                growers => format!(", together with {} more that grow under it,", growers - 1),
            };
            let text = format!(
                "{}{others} would use up {limit} ({} left) in {:.0} s if it goes on like this, whether it leaks or not",
                title(identity),
                oom.room.left,
                oom.eta.as_secs_f64()
            );
            self.warned.insert(key);
            self.tell(wall, text);
        }
    }

    /// Says something now and in the report.
    pub(super) fn tell(&mut self, wall: Timestamp, text: String) {
        self.ui.say(&text);
        self.timeline.push(wall, text);
    }

    /// The leaks that are confirmed now and were not dealt with yet.
    fn waiting(&self) -> Vec<ProcKey> {
        let mut keys: Vec<ProcKey> = self
            .monitor
            .growing()
            .filter(|(_, tracked)| tracked.verdict().confirmed)
            .map(|(key, _)| key)
            .filter(|key| self.options.is_about(*key) && !self.dealt_with.contains(key))
            .collect();
        keys.sort();
        keys
    }

    /// Takes every leak that is confirmed and was not dealt with yet; whether there was one. After something was done the
    /// others wait for a while, and are then judged by what is true by then.
    async fn deal_with_confirmed(&mut self) -> anyhow::Result<bool> {
        let now = self.monitor.now().map(|(at, ..)| at);
        if self.rested_at.is_some_and(|rested| now < Some(rested)) {
            return Ok(false);
        }
        let keys = self.waiting();
        keys.iter().for_each(|key| self.monitor.identify_again(*key));
        // As they are now: dealing with the first takes its time.
        let mut findings = Vec::new();
        for key in keys {
            match self.monitor.finding(key) {
                Some(finding) => findings.push(finding),
                // It was gone before it could be identified: nothing waits for it any more.
                None => drop(self.dealt_with.insert(key)),
            }
        }
        let any = !findings.is_empty();
        if any && self.oom_choice.is_none() {
            self.oom_choice = oom_choice(&ProcRoot::default());
        }
        for finding in findings {
            self.dealt_with.insert(finding.key);
            self.became_another.remove(&finding.key);
            self.confirmed.push(finding.clone());
            self.gather_evidence(&finding).await;
            if self.options.kill != KillMode::Never {
                self.kill(finding).await?;
                self.rested_at = self.monitor.now().map(|(at, ..)| at + COOLDOWN);
            }
            if self.interrupted || !self.options.all || self.rested_at.is_some() {
                break;
            }
        }
        Ok(any)
    }

    pub(super) fn finish(mut self) -> Hunted {
        let (_, started, host_before) = self.monitor.began().unwrap_or_default();
        let (_, finished, host_after) = self.monitor.now().unwrap_or_default();
        let ended = self.ended_by_themselves(finished);
        let mut findings = std::mem::take(&mut self.confirmed);
        let mut cleared = Vec::new();
        let keys: Vec<ProcKey> = self.monitor.keys_by_growth().collect();
        let mut lookalikes = self.lookalikes(&keys, &findings);
        if !findings.is_empty() {
            lookalikes.extend(self.beside.keys());
        }
        for key in keys {
            let grows = self.options.is_about(key)
                && self.monitor.process(key).is_some_and(|tracked| tracked.verdict().state.severity() > 0);
            let known = findings.iter().any(|finding| finding.key == key);
            let shown = grows || cleared.len() < CLEARED_SHOWN || lookalikes.contains(&key);
            if known || !self.options.is_about(key) || !shown {
                continue;
            }
            if let Some(finding) = self.monitor.finding(key) {
                if grows { findings.push(finding) } else { cleared.push(finding) }
            }
        }
        let what = if self.interrupted { "interrupted" } else { "ended" };
        let seconds = self.monitor.elapsed().as_secs_f64();
        self.timeline.push(finished, format!("{what} after {seconds:.1} s"));
        let groups = self.monitor.groups_by_concern().into_iter();
        let groups: Vec<Group> = groups.filter(|group| self.options.is_about_group(group)).cloned().collect();
        let (timeline, timeline_left_out) = self.timeline.finish();
        Hunted {
            started,
            finished,
            observed: self.monitor.elapsed(),
            host_before,
            host_after,
            host_available: self.host_available.finish(),
            source: self.monitor.source_kind(),
            lost: self.monitor.lost().clone(),
            findings,
            groups,
            anatomies: self.anatomies,
            actions: self.actions,
            ended,
            cleared,
            beside: self.beside.finish(),
            watched: self.monitor.met(),
            oom_choice: self.oom_choice,
            timeline,
            timeline_left_out,
            interrupted: self.interrupted,
        }
    }

    /// Of those that are watched, some that could be taken for one of these: a report shows them beside it.
    fn lookalikes(&mut self, keys: &[ProcKey], suspects: &[Finding]) -> BTreeSet<ProcKey> {
        let mut found = BTreeSet::new();
        if suspects.is_empty() {
            return found;
        }
        for key in keys.iter().take(LOOKED_AT).filter(|key| self.options.is_about(**key)) {
            let Some(identity) = self.monitor.identity(*key) else { continue };
            let alike = |suspect: &Finding| suspect.key != *key && identity.looks_like(&suspect.identity);
            if suspects.iter().any(alike) && found.insert(*key) && found.len() == LOOKALIKES_SHOWN {
                break;
            }
        }
        found
    }

    /// Confirmed leaks whose process is gone without our doing, or is another program by now.
    fn ended_by_themselves(&mut self, wall: Timestamp) -> Vec<ProcKey> {
        let of = |key| self.actions.iter().filter(move |(victim, _)| *victim == key);
        let killed = |key| of(key).any(|(_, outcome)| outcome.is_dead());
        let gone: Vec<_> = self
            .confirmed
            .iter()
            .filter(|finding| self.monitor.process(finding.key).is_none() && !killed(finding.key))
            .filter(|finding| !self.became_another.contains(&finding.key))
            .map(|finding| {
                let signal = of(finding.key).find_map(|(_, outcome)| outcome.signal);
                let why =
                    signal.map_or("by itself".to_owned(), |signal| format!("after all, after {signal}"));
                (finding.key, format!("{} ended {why}", title(&finding.identity)))
            })
            .collect();
        for (key, text) in &gone {
            let how = match self.monitor.exit_of(*key) {
                Some(Some(status)) => format!(" with {status}"),
                _ => String::new(),
            };
            self.tell(wall, format!("{text}{how}"));
        }
        gone.into_iter().map(|(key, _)| key).chain(self.became_another.iter().copied()).collect()
    }

    /// What is being watched, and how far the confirmation is.
    fn progress_line(&mut self) -> String {
        let seconds = self.monitor.elapsed().as_secs();
        let processes = counted(self.monitor.watched(), "process", "processes");
        let head = format!("{seconds} s of {} s, {processes}", self.options.timeout.as_secs());
        let worst =
            self.monitor.worst(|key| self.options.is_about(key)).and_then(|key| self.monitor.finding(key));
        let Some(finding) = worst else { return format!("{head}; none grows") };
        let verdict = &finding.verdict;
        let rate = verdict.rate.map_or_else(String::new, |rate| format!(", +{}", rate.mean));
        format!(
            "{head}; {} is {}{rate}, clean for {:.0} of {} s",
            title(&finding.identity),
            verdict.state.name(),
            verdict.clean_growth.as_secs_f64(),
            self.options.confirm.as_secs()
        )
    }
}

/// What is news of a verdict that changed, in words. Growing comes and goes; a suspicion that is raised or dropped is news.
fn news(from: State, to: State, confirmed: bool) -> Option<String> {
    let (before, now) = (from.severity(), to.severity());
    if now.max(before) < State::Suspect.severity() || (now == before && !confirmed) {
        return None;
    }
    Some(match (confirmed, now > before) {
        (true, _) => "leak confirmed".to_owned(),
        (_, true) => format!("now {}", to.name()),
        (_, false) => format!("no longer {}: {}", from.name(), to.name()),
    })
}

pub(super) fn growth(finding: &Finding) -> String {
    finding.verdict.rate.map_or_else(String::new, |rate| {
        let sign = if rate.mean.0 >= 0.0 { "+" } else { "" };
        format!(", {sign}{} for {:.0} s", rate.mean, finding.verdict.clean_growth.as_secs_f64())
    })
}
