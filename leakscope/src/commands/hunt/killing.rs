//! One confirmed leak, from the question to the proof. The watch goes on all the while: a verdict must not go stale while
//! somebody thinks or a victim has its grace, and the source's own word on the death must not be missed.
//!
//! Start reading at [`Chase::kill`].

use std::pin::pin;

use tokio::sync::Notify;

use super::KillMode;
use super::chase::{Chase, growth};
use crate::action::{self, Followed, KillOptions, Lookalikes, Measure, Outcome, OutcomeKind, Restraints};
use crate::commands::title;
use crate::monitor::Finding;
use crate::process::{Directory, ProcRoot};
use crate::source::{Source, SourceKind};
use crate::units::{BytesPerSec, Pid, ProcKey};

impl<S: Source, D: Directory> Chase<'_, S, D> {
    pub(super) async fn kill(&mut self, finding: Finding) -> anyhow::Result<()> {
        let key = finding.key;
        let asks = self.options.kill == KillMode::Ask && !self.options.how.dry_run;
        let consent = if asks { self.consent(&finding).await? } else { Ok(()) };
        let done = match consent.and_then(|()| self.still_leaks(key)) {
            Ok(()) => match &self.options.instead {
                Some((measure, notes)) => Ok(self.restrain(&finding, *measure, notes).await),
                None => self.end(&finding).await,
            },
            Err((check, why)) => Ok(Outcome::refused(key, check, why)),
        };
        let mut outcome = done?;
        let now = self.monitor.now().map_or(finding.wall, |(_, wall, _)| wall);
        for sent in &outcome.signals {
            let text = format!("{} was sent to {}", sent.signal, title(&finding.identity));
            self.timeline.push(sent.at, text);
        }
        let at = outcome.died_at.unwrap_or(now);
        self.tell(at, format!("{}: {}", title(&finding.identity), outcome.detail));
        if let Some(newcomer) = outcome.respawned_as {
            self.tell(now.max(at), format!("its keeper started it again as pid {newcomer}"));
            outcome.followed = self.follow(newcomer).await?;
        }
        self.actions.push((key, outcome));
        Ok(())
    }

    /// Watches the process that was started in the victim's place, and says what became of it; `None` where that was not
    /// asked for, or it cannot be watched.
    async fn follow(&mut self, newcomer: Pid) -> anyhow::Result<Option<Followed>> {
        let Some(span) = self.options.follow.filter(|_| self.options.only.is_none()) else { return Ok(None) };
        let Ok(identity) = ProcRoot::default().identify(newcomer) else { return Ok(None) };
        let (key, began) = (identity.key, self.monitor.elapsed());
        self.monitor.also_watch(key);
        self.ui.say(&format!("watching {} for {} s", title(&identity), span.as_secs_f64()));
        let watched = |chase: &Self| chase.monitor.elapsed().saturating_sub(began);
        let mut followed = None;
        while watched(self) < span && self.step().await?.is_some() {
            let alive = self.monitor.exit_of(key).is_none();
            if let Some(finding) = self.monitor.finding(key) {
                followed = Some(Followed {
                    for_s: 0.0,
                    alive: true,
                    verdict: finding.verdict.state,
                    rate_bytes_per_s: finding.verdict.rate.map(|rate| rate.mean.0),
                });
            }
            if !alive {
                followed = followed.map(|seen| Followed { alive, ..seen });
                break;
            }
        }
        let followed = followed.map(|seen| Followed { for_s: watched(self).as_secs_f64(), ..seen });
        if let (Some(seen), Some((_, wall, _))) = (followed, self.monitor.now()) {
            let rate =
                seen.rate_bytes_per_s.map_or_else(String::new, |rate| format!(", {}", BytesPerSec(rate)));
            let verdict = seen.verdict.name();
            self.tell(wall, format!("{} after {:.0} s: {verdict}{rate}", title(&identity), seen.for_s));
        }
        Ok(followed)
    }

    /// Asks whether to kill.
    async fn consent(&mut self, finding: &Finding) -> anyhow::Result<Result<(), (&'static str, String)>> {
        let verb = self.options.instead.as_ref().map_or("kill", |(measure, _)| measure.name());
        let question = format!("{verb} {}{}?", title(&finding.identity), growth(finding));
        let against = |why: &str| Ok(Err(("consent", why.to_owned())));
        let Some(answer) = self.ui.ask(&question) else {
            return against("nobody could be asked: no terminal (--yes does not ask)");
        };
        let answer = self.meanwhile(answer).await;
        self.ui.asked();
        match answer? {
            Some(Some(true)) => Ok(Ok(())),
            Some(Some(false)) => against("the answer was no"),
            Some(None) => against("the answer could not be read from the terminal"),
            // Whoever would be asked next would not be heard: the question before still waits for its line.
            None => against("interrupted before an answer"),
        }
    }

    /// What is killed must still leak, however long an answer or a kill before it took.
    fn still_leaks(&mut self, key: ProcKey) -> Result<(), (&'static str, String)> {
        if self.became_another.contains(&key) {
            return Err((
                "verdict",
                "it became another program, which is not the one that leaked".to_owned(),
            ));
        }
        match self.monitor.process(key).map(|tracked| tracked.verdict()) {
            Some(verdict) if !verdict.confirmed => {
                let now = verdict.state.name();
                Err(("verdict", format!("the leak was confirmed and no longer is: now {now}")))
            }
            // One that is gone is found to be so by the kill.
            _ => Ok(()),
        }
    }

    /// Less than a kill. It takes milliseconds, so the watch can wait.
    async fn restrain(&mut self, finding: &Finding, measure: Measure, notes: &Restraints) -> Outcome {
        let how = &self.options.how;
        let root = ProcRoot::default();
        action::restrain(&root, &finding.identity, measure, &how.protections, how.dry_run, notes).await
    }

    /// The kill itself, with every process of the host that looks like the victim as a bystander that must live.
    async fn end(&mut self, finding: &Finding) -> anyhow::Result<Outcome> {
        let (victim, root) = (&finding.identity, ProcRoot::default());
        let bystanders = Lookalikes::of(&root, victim);
        let how = KillOptions { bystanders, ..self.options.how.clone() };
        if !how.dry_run {
            let (escalate, grace) = (how.escalate, how.grace.as_secs_f64());
            let then = if escalate { format!(", SIGKILL after {grace} s") } else { String::new() };
            let by = if how.via.is_systemd() { "by systemd".to_owned() } else { format!("SIGTERM{then}") };
            self.ui.say(&format!("ending {}: {by}", title(victim)));
        }
        // What was read before took its time, in which nobody was heard.
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            () = self.interrupt.received() => {
                self.interrupted = true;
                return Ok(Outcome::refused(victim.key, "consent", "interrupted before a signal was sent"));
            }
            () = std::future::ready(()) => {}
        }
        let called_off = Notify::new();
        let mut ending = pin!(action::end(&root, victim, &how, called_off.notified()));
        let mut outcome = match self.meanwhile(ending.as_mut()).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                called_off.notify_one();
                ending.await
            }
            Err(error) => {
                // The source is gone. What was sent until now is told before the hunt ends with its error.
                called_off.notify_one();
                let detail = ending.await.detail;
                self.ui.say(&format!("{}: {detail}", title(victim)));
                return Err(error);
            }
        };
        self.add_exit_event(&mut outcome);
        Ok(outcome)
    }

    /// Adds the source's own word on how the victim ended.
    fn add_exit_event(&self, outcome: &mut Outcome) {
        if outcome.kind != OutcomeKind::Killed {
            return;
        }
        match (self.monitor.exit_of(outcome.key()), self.monitor.source_kind()) {
            (Some(Some(status)), _) => outcome.confirm_exit(outcome.key(), status),
            (_, SourceKind::Procfs) => outcome.without_exit_event("the source is /proc alone"),
            (Some(None), _) => outcome.without_exit_event("it carried no status"),
            (None, _) => outcome.without_exit_event("none came"),
        }
    }

    /// Keeps on watching until `done` is; `None` when somebody interrupts, or there is nothing more to watch.
    async fn meanwhile<T>(&mut self, done: impl Future<Output = T>) -> anyhow::Result<Option<T>> {
        let mut done = pin!(done);
        loop {
            tokio::select! {
                biased;
                value = &mut done => return Ok(Some(value)),
                stepped = self.step() => {
                    if stepped?.is_none() {
                        return Ok(None);
                    }
                }
            }
        }
    }
}
