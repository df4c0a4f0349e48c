//! A hunt under way: every sample is noted, every confirmed leak dealt with once, and Ctrl-C heard at every wait.
//!
//! Start reading at [`Chase::until_over`].

use jiff::Timestamp;

use super::{EveryTick, Hunted, KillMode, Options};
use crate::action::{self, KillOptions, Outcome, find_successor};
use crate::commands::{Interrupt, counted, title};
use crate::leak::State;
use crate::monitor::{Finding, Monitor, Tick, Transition};
use crate::process::{Directory, Identity, ProcRoot};
use crate::source::Source;
use crate::ui::Ui;
use crate::units::{Moment, ProcKey};

/// How many processes the table of the cleared ones shows.
const CLEARED_SHOWN: usize = 8;

/// Samples that are waited for the source's own word on how a victim ended.
const SAMPLES_FOR_EXIT: usize = 8;

/// The state of a hunt.
pub(super) struct Chase<'a, S, D> {
    monitor: &'a mut Monitor<S, D>,
    options: &'a Options,
    ui: &'a mut Ui,
    every_tick: &'a mut EveryTick<'a>,
    interrupt: Interrupt,
    interrupted: bool,
    confirmed: Vec<Finding>,
    actions: Vec<(ProcKey, Outcome)>,
    timeline: Vec<(Timestamp, String)>,
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
            actions: Vec::new(),
            timeline: Vec::new(),
        })
    }

    pub(super) async fn until_over(&mut self) -> anyhow::Result<()> {
        let mut shown: Option<Moment> = None;
        while let Some(at) = self.step().await? {
            let dealt_with = self.deal_with_confirmed().await?;
            let over = dealt_with && !self.options.all || self.monitor.elapsed() >= self.options.timeout;
            if self.interrupted || over {
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
    async fn step(&mut self) -> anyhow::Result<Option<Moment>> {
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
        }
        self.note(&tick);
        Ok(Some(tick.at))
    }

    /// Puts what a reader of the report wants to know of this tick into the timeline.
    fn note(&mut self, tick: &Tick) {
        if self.timeline.is_empty() {
            let processes = counted(self.monitor.processes().count(), "process", "processes");
            let source = self.monitor.source_kind().name();
            self.timeline.push((tick.wall, format!("started to watch {processes} (source: {source})")));
        }
        for transition in &tick.transitions {
            self.note_transition(transition, tick.wall);
        }
        for pid in &tick.oom_victims {
            self.tell(tick.wall, format!("the kernel's OOM killer chose pid {pid}"));
        }
    }

    fn note_transition(&mut self, transition: &Transition, wall: Timestamp) {
        if !self.options.is_about(transition.key) {
            return;
        }
        let (before, now) = (transition.from.severity(), transition.to.severity());
        // Growing comes and goes; a suspicion that is raised or dropped is news.
        if now.max(before) < State::Suspect.severity() || (now == before && !transition.confirmed) {
            let (pid, from, to) = (transition.key.pid, transition.from.name(), transition.to.name());
            self.ui.say_verbose(&format!("pid {pid}: {from}, now {to}"));
            return;
        }
        let Some(finding) = self.monitor.finding(transition.key) else { return };
        let what = match (transition.confirmed, now > before) {
            (true, _) => "leak confirmed".to_owned(),
            (_, true) => format!("now {}", transition.to.name()),
            (_, false) => format!("no longer {}: {}", transition.from.name(), transition.to.name()),
        };
        self.tell(wall, format!("{} {what}{}", title(&finding.identity), growth(&finding)));
    }

    /// Says something now and in the report.
    fn tell(&mut self, wall: Timestamp, text: String) {
        self.ui.say(&text);
        self.timeline.push((wall, text));
    }

    /// Takes every leak that is confirmed and was not dealt with yet; whether there was one.
    async fn deal_with_confirmed(&mut self) -> anyhow::Result<bool> {
        let mut keys: Vec<ProcKey> = self
            .monitor
            .processes()
            .filter(|(_, tracked)| tracked.verdict.confirmed)
            .map(|(key, _)| key)
            .filter(|key| self.options.is_about(*key))
            .filter(|key| self.confirmed.iter().all(|finding| finding.key != *key))
            .collect();
        keys.sort();
        let mut any = false;
        for key in keys {
            let Some(finding) = self.monitor.finding(key) else { continue };
            any = true;
            self.confirmed.push(finding.clone());
            if self.options.kill != KillMode::Never {
                self.kill(finding).await?;
            }
            if self.interrupted || !self.options.all {
                break;
            }
        }
        Ok(any)
    }

    async fn kill(&mut self, finding: Finding) -> anyhow::Result<()> {
        let key = finding.key;
        let asks = self.options.kill == KillMode::Ask && !self.options.how.dry_run;
        let consent = if asks { self.consent(&finding).await } else { Ok(()) };
        let mut outcome = match consent {
            Ok(()) => self.signal(&finding.identity).await?,
            Err(why) => Outcome::refused(key, "consent", why),
        };
        if outcome.is_dead() && !self.interrupted {
            self.follow(&finding.identity, &mut outcome).await?;
        }
        let wall = self.monitor.now().map_or(finding.wall, |(_, wall, _)| wall);
        self.tell(wall, format!("{}: {}", title(&finding.identity), outcome.detail));
        if let Some(newcomer) = outcome.respawned_as {
            self.tell(wall, format!("its keeper started it again as pid {newcomer}"));
        }
        self.actions.push((key, outcome));
        Ok(())
    }

    /// Asks whether to kill.
    async fn consent(&mut self, finding: &Finding) -> Result<(), &'static str> {
        let question = format!("kill {}{}?", title(&finding.identity), growth(finding));
        tokio::select! {
            biased;
            () = self.interrupt.received() => {
                // Whoever would be asked next would not be heard: the question before still waits for its line.
                self.interrupted = true;
                Err("interrupted before an answer")
            }
            answer = self.ui.ask(&question) => match answer {
                Some(true) => Ok(()),
                Some(false) => Err("the answer was no"),
                None => Err("nobody could be asked: no terminal (--yes does not ask)"),
            },
        }
    }

    /// The kill itself, with every process that looks like the victim as a bystander that must live.
    async fn signal(&mut self, victim: &Identity) -> anyhow::Result<Outcome> {
        // An answer may have taken its time: what is killed must still leak.
        self.step().await?;
        if self.interrupted {
            return Ok(Outcome::refused(victim.key, "consent", "interrupted before a signal was sent"));
        }
        if let Some(tracked) = self.monitor.process(victim.key)
            && !tracked.verdict.confirmed
        {
            let now = tracked.verdict.state.name();
            let detail = format!("the leak was confirmed and no longer is: now {now}");
            return Ok(Outcome::refused(victim.key, "verdict", detail));
        }
        let how = KillOptions { bystanders: self.lookalikes(victim), ..self.options.how.clone() };
        let root = ProcRoot::default();
        let outcome = tokio::select! {
            biased;
            () = self.interrupt.received() => {
                self.interrupted = true;
                Outcome::interrupted(victim.key)
            }
            outcome = action::end(&root, victim, &how) => outcome,
        };
        Ok(outcome)
    }

    fn lookalikes(&mut self, victim: &Identity) -> Vec<Identity> {
        let keys: Vec<ProcKey> = self.monitor.processes().map(|(key, _)| key).collect();
        keys.into_iter()
            .filter(|key| *key != victim.key)
            .filter_map(|key| self.monitor.identity(key).cloned())
            .filter(|identity| identity.looks_like(victim))
            .collect()
    }

    /// Waits a few samples for the source's own word on how the victim ended and for the host's memory after it, and
    /// looks whether somebody started it again.
    async fn follow(&mut self, victim: &Identity, outcome: &mut Outcome) -> anyhow::Result<()> {
        let killed_at = self.monitor.now().map(|(at, ..)| at);
        for _ in 0..SAMPLES_FOR_EXIT {
            if self.step().await?.is_none() {
                break;
            }
            if let Some(status) = self.monitor.exit_of(victim.key) {
                if let Some(status) = status {
                    outcome.confirm_exit(victim.key, status);
                }
                break;
            }
        }
        outcome.respawned_as = killed_at.and_then(|at| find_successor(&ProcRoot::default(), victim, at));
        Ok(())
    }

    pub(super) fn finish(mut self) -> Hunted {
        let (_, started, host_before) = self.monitor.began().unwrap_or_default();
        let (_, finished, host_after) = self.monitor.now().unwrap_or_default();
        let ended = self.ended_by_themselves(finished);
        let mut findings = std::mem::take(&mut self.confirmed);
        let mut cleared = Vec::new();
        for key in self.monitor.keys_by_growth() {
            let grows = self.options.is_about(key)
                && self.monitor.process(key).is_some_and(|tracked| tracked.verdict.state.severity() > 0);
            let known = findings.iter().any(|finding| finding.key == key);
            if known || (!grows && cleared.len() == CLEARED_SHOWN) {
                continue;
            }
            if let Some(finding) = self.monitor.finding(key) {
                if grows { findings.push(finding) } else { cleared.push(finding) }
            }
        }
        let what = if self.interrupted { "interrupted" } else { "ended" };
        let seconds = self.monitor.elapsed().as_secs_f64();
        self.timeline.push((finished, format!("{what} after {seconds:.1} s")));
        Hunted {
            started,
            finished,
            observed: self.monitor.elapsed(),
            host_before,
            host_after,
            source: self.monitor.source_kind(),
            lost: self.monitor.lost().clone(),
            findings,
            actions: self.actions,
            ended,
            cleared,
            watched: self.monitor.processes().count(),
            timeline: self.timeline,
            interrupted: self.interrupted,
        }
    }

    /// Confirmed leaks whose process is gone without our doing.
    fn ended_by_themselves(&mut self, wall: Timestamp) -> Vec<ProcKey> {
        let killed = |key| self.actions.iter().any(|(victim, outcome)| *victim == key && outcome.is_dead());
        let gone: Vec<_> = self
            .confirmed
            .iter()
            .filter(|finding| self.monitor.process(finding.key).is_none() && !killed(finding.key))
            .map(|finding| (finding.key, title(&finding.identity)))
            .collect();
        for (key, title) in &gone {
            let how = match self.monitor.exit_of(*key) {
                Some(Some(status)) => format!(" with {status}"),
                _ => String::new(),
            };
            self.tell(wall, format!("{title} ended by itself{how}"));
        }
        gone.into_iter().map(|(key, _)| key).collect()
    }

    /// What is being watched, and how far the confirmation is.
    fn progress_line(&mut self) -> String {
        let seconds = self.monitor.elapsed().as_secs();
        let processes = counted(self.monitor.processes().count(), "process", "processes");
        let head = format!("{seconds} s of {} s, {processes}", self.options.timeout.as_secs());
        let worst = self.monitor.worst().and_then(|key| self.monitor.finding(key));
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

fn growth(finding: &Finding) -> String {
    finding.verdict.rate.map_or_else(String::new, |rate| {
        let sign = if rate.mean.0 >= 0.0 { "+" } else { "" };
        format!(", {sign}{} for {:.0} s", rate.mean, finding.verdict.clean_growth.as_secs_f64())
    })
}
