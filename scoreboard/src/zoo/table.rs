//! What was said of each program, in lines for people.

use std::fmt::Write as _;

use super::{Level, Said, Score, Scores};
use crate::{KB, MINUTE};

/// Changes of one program's verdict that are shown.
const SHOWN: usize = 14;

impl Scores {
    /// A line for each program: the truth, the rate that was found, and when each level was reached. A `!` marks what is
    /// wrong: a healthy program that was accused, or a leak that was called one with a rate that is off by more than
    /// three times.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<22} {:<14} {:>8} {:>9} {:>24} {:>7}  {:<15}",
            "program", "kind", "truth", "measured", "rate found [95 %], KB/s", "error", "at the end"
        );
        for level in Level::ALL {
            let _ = write!(text, " {:>13}", level.name());
        }
        text.push('\n');
        for score in &self.programs {
            self.line(score, &mut text);
        }
        for (name, said) in self.children() {
            let _ = writeln!(text, "{name:<107}{}", times(said, false));
        }
        text
    }

    fn line(&self, score: &Score, text: &mut String) {
        let Score { program, said, .. } = score;
        let kb =
            |bytes: Option<f64>| bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}", bytes / KB));
        let verdict = said.last.as_ref();
        let rate = verdict.filter(|verdict| verdict.state.severity() > 0).and_then(|verdict| verdict.rate);
        let shown = rate.map_or_else(String::new, |rate| {
            format!("{:.1} [{:.1}, {:.1}]", rate.mean.0 / KB, rate.low.0 / KB, rate.high.0 / KB)
        });
        let error = rate.zip(program.rate_bytes_per_s).map_or_else(String::new, |(rate, truth)| {
            format!("{:+.1} %", 100.0 * (rate.mean.0 / truth - 1.0))
        });
        let state = verdict.map_or("never seen", |verdict| verdict.state.name());
        let ended = if program.ended.is_some() { "ended" } else { state };
        let _ = writeln!(
            text,
            "{:<22} {:<14} {:>8} {:>9} {shown:>24} {error:>7}  {ended:<15}{}",
            program.name,
            program.kind,
            kb(program.rate_bytes_per_s),
            kb(program.measured(self.seconds)),
            times(said, program.leaking),
        );
    }

    /// Children of which anything was said.
    fn children(&self) -> Vec<(String, &Said)> {
        let of_programs = self.programs.iter().flat_map(|score| {
            let name = &score.program.name;
            score.children.iter().map(move |(pid, said)| (format!("  child {pid} of {name}"), said))
        });
        let others = self.others.iter().map(|(pid, said)| (format!("  pid {pid}"), said));
        of_programs.chain(others).filter(|(_, said)| said.reached(Level::Suspect)).collect()
    }

    /// How each verdict came about: the changes of every program that was ever suspected.
    pub fn histories(&self) -> String {
        let mut text = String::new();
        let own = self.programs.iter().map(|score| (score.program.name.clone(), &score.said));
        for (name, said) in own.chain(self.children()) {
            if !said.reached(Level::Suspect) {
                continue;
            }
            let changes = said.changes.iter().take(SHOWN).map(|(at, state, confirmed)| {
                format!("{at:.0} s {}{}", state.name(), if *confirmed { " confirmed" } else { "" })
            });
            let _ = write!(text, "{name}: {}", changes.collect::<Vec<_>>().join(", "));
            let more = said.changes.len().saturating_sub(SHOWN);
            let _ = if more > 0 { writeln!(text, ", and {more} more changes") } else { writeln!(text) };
        }
        text
    }

    /// The figures over all programs.
    pub fn totals(&self) -> String {
        let mut text = format!(
            "{:<14} {:>6} {:>7} {:>8} {:>8} {:>14} {:>14}\n",
            "", "found", "missed", "accused", "cleared", "ramps accused", "ramps cleared"
        );
        for level in Level::ALL {
            let counts = self.counts(level);
            let _ = writeln!(
                text,
                "{:<14} {:>6} {:>7} {:>8} {:>8} {:>14} {:>14}",
                level.name(),
                counts.found,
                counts.missed,
                counts.accused,
                counts.cleared,
                counts.ramps_accused,
                counts.ramps_cleared
            );
        }
        for level in Level::ALL {
            let _ = writeln!(
                text,
                "{}: missed {}; accused {}",
                level.name(),
                listed(&self.misses(level)),
                listed(&self.false_alarms(level))
            );
        }
        let (covered, rated) = self.coverage();
        let _ = writeln!(text, "the 95 % interval at the end holds the truth in {covered} of {rated} leaks");
        let _ = writeln!(
            text,
            "{:.1} minutes recorded; healthy programs were watched for {:.0} program-minutes",
            self.seconds / MINUTE,
            self.healthy_minutes()
        );
        text
    }
}

/// When each level was reached; for a leak, when it was found.
fn times(said: &Said, leaking: bool) -> String {
    let mut text = String::new();
    for level in Level::ALL {
        let (reached, found) = (said.reached[level as usize], said.found[level as usize]);
        let shown = match (leaking, found, reached) {
            (true, Some(at), _) => format!("{at:.1} s"),
            (_, _, Some((at, _))) => format!("! {at:.1} s"),
            (_, _, None) => "-".to_owned(),
        };
        let _ = write!(text, " {shown:>13}");
    }
    text
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}
