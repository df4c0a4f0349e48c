//! The rules that are in use elsewhere, written from their descriptions, so that they see the same processes.
//!
//! They are given the resident set at even intervals, whether it changed or not, as monitoring takes it. Their names say
//! what they imitate; none is the original's code. Start reading at [`Rule`].

mod fits;
mod kendall;

use crate::TICK_S;
use crate::process::Trace;
use crate::score::{Claim, Outcome, Scorer};

/// A rule: what it is called, how often it looks, and a fresh one for a process with this limit.
pub struct Rule {
    /// Its name in the tables.
    pub name: &'static str,
    /// Seconds between two looks.
    pub every_s: f64,
    make: fn(limit: f64) -> Box<dyn Look>,
}

/// A rule at work on one process.
trait Look {
    /// Takes the resident set at a moment; a claim when the rule fires.
    fn look(&mut self, at_s: f64, rss: f64) -> Option<Claim>;
}

/// All rules.
pub const RULES: &[Rule] = &[
    Rule {
        name: "line fit 10 min, R2 >= .8",
        every_s: 1.0,
        make: |_| Box::new(fits::LineFit::ten_minutes()),
    },
    Rule { name: "deriv[10m] > 0 for 10m", every_s: 15.0, make: |_| Box::new(fits::Deriv::ten_minutes()) },
    Rule {
        name: "predict_linear[1h], 1h",
        every_s: 15.0,
        make: |limit| Box::new(fits::Predict::new(limit, 1.0)),
    },
    Rule {
        name: "predict_linear[1h], 4h",
        every_s: 15.0,
        make: |limit| Box::new(fits::Predict::new(limit, 4.0)),
    },
    Rule {
        name: "coroot-like: 10 %/h over 1 h",
        every_s: 15.0,
        make: |_| Box::new(fits::TenPercentAnHour::new()),
    },
    Rule {
        name: "Mann-Kendall HR + Sen, 5 min",
        every_s: 10.0,
        make: |_| Box::new(kendall::MannKendall::new(30)),
    },
    Rule {
        name: "Mann-Kendall HR + Sen, 30 min",
        every_s: 60.0,
        make: |_| Box::new(kendall::MannKendall::new(30)),
    },
];

impl Rule {
    /// Shows the trace to the rule and scores what it says.
    pub fn judge(&self, trace: &Trace) -> Outcome {
        let mut rule = (self.make)(trace.limit());
        let mut scorer = Scorer::of(trace);
        let every = crate::process::ticks(self.every_s).max(1);
        for i in (0..trace.ticks()).step_by(every) {
            let at_s = i as f64 * TICK_S;
            scorer.note(at_s, rule.look(at_s, trace.rss(i)));
        }
        scorer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::process::Process;
    use crate::{GB, HOUR, KB, MB};

    fn outcomes(process: Process, leaks: bool) -> Vec<(&'static str, Outcome)> {
        let trace = process.run(&mut Dice::of("test", 1), leaks);
        RULES.iter().map(|rule| (rule.name, rule.judge(&trace))).collect()
    }

    #[test]
    fn a_large_straight_leak_is_found_by_every_rule_but_those_that_look_at_the_limit() {
        let process = Process::lasting(3.0 * HOUR).hold(100.0 * MB).leaks(500.0 * KB);
        for (name, outcome) in outcomes(process, true) {
            let found = outcome.found.map(|found| found.eta_error);
            assert!(found.is_some_and(|error| error < 0.05) || name.contains("predict"), "{name}: {found:?}");
        }
    }

    #[test]
    fn a_prediction_fires_ten_minutes_after_the_limit_came_into_its_reach() {
        let mut rule = fits::Predict::new(2.0 * GB, 1.0);
        let grows = |s: f64| 100.0 * MB + 500.0 * KB * s;
        let mut looks = (0..400).map(|i| f64::from(i) * 15.0).filter(|s| rule.look(*s, grows(*s)).is_some());
        // 100 MB and an hour's 1800 MB: 100 MB more are there after 200 s.
        assert!(looks.next().is_some_and(|first| (800.0..830.0).contains(&first)));
    }

    #[test]
    fn a_flat_process_is_accused_by_none() {
        for (name, outcome) in outcomes(Process::lasting(2.0 * HOUR).hold(GB), false) {
            assert!(!outcome.false_alarm, "{name}");
        }
    }

    #[test]
    fn a_quick_warm_up_is_accused_by_the_line_fit_and_by_coroots_rule() {
        let warm = Process::lasting(HOUR).shape(|s| 100.0 * MB + 300.0 * MB * (1.0 - (-s / 60.0).exp()));
        let accused: Vec<&str> =
            outcomes(warm, false).into_iter().filter(|(_, o)| o.false_alarm).map(|(name, _)| name).collect();
        assert!(accused.iter().any(|name| name.starts_with("line fit")), "{accused:?}");
        assert!(accused.iter().any(|name| name.starts_with("coroot")), "{accused:?}");
    }
}
