//! The table: what was measured, and the page docs/costs.md that says it.

use std::fmt::Write as _;

use crate::bench::measure::Spread;

/// The unit of a section whose sides name their own.
pub const MIXED: &str = "as named";

/// One thing that was measured, on several sides.
pub struct Section {
    pub title: String,
    /// How it was measured.
    pub how: String,
    /// What the figures are, such as `ms`.
    pub unit: &'static str,
    pub sides: Vec<Side>,
    pub bars: Vec<Bar>,
}

/// One side of it.
pub struct Side {
    pub name: String,
    /// The values of all runs, or why there are none.
    pub values: Result<Vec<f64>, String>,
}

/// What was asked for, and whether it was reached.
pub struct Bar {
    pub asked: String,
    pub measured: String,
    pub reached: bool,
    /// What there is to say where it was not reached.
    pub because: &'static str,
}

impl Side {
    pub fn of(name: impl Into<String>) -> Self {
        Self { name: name.into(), values: Ok(Vec::new()) }
    }

    pub fn missing(name: impl Into<String>, why: String) -> Self {
        Self { name: name.into(), values: Err(why) }
    }

    pub fn push(&mut self, value: f64) {
        if let Ok(values) = &mut self.values {
            values.push(value);
        }
    }

    pub fn spread(&self) -> Option<Spread> {
        Spread::of(self.values.as_ref().ok()?.iter().copied())
    }
}

impl Section {
    pub fn median(&self, side: usize) -> Option<f64> {
        self.sides.get(side)?.spread().map(|spread| spread.median)
    }

    /// The median of one side by that of another.
    pub fn ratio(&self, side: usize, by: usize) -> Option<f64> {
        Some(self.median(side)? / self.median(by)?).filter(|ratio| ratio.is_finite())
    }

    /// How far the second side is from the first, of which it is a repetition; `None` where there is none.
    fn noise(&self) -> Option<f64> {
        self.sides.get(1).filter(|side| side.name.ends_with("again"))?;
        self.ratio(1, 0).map(|ratio| (ratio - 1.0).abs())
    }

    /// Adds a bar on a ratio of two sides, where both were measured. A percentage is told with the noise floor.
    pub fn hold(&mut self, asked: &str, side: usize, by: usize, at_most: f64, because: &'static str) {
        if let Some(ratio) = self.ratio(side, by) {
            let measured = if at_most < 0.5 {
                format!("1/{:.0}", 1.0 / ratio)
            } else {
                let noise = self.noise().map(|noise| format!(", noise floor {:.1} %", 100.0 * noise));
                format!("{:+.1} %{}", 100.0 * (ratio - 1.0), noise.unwrap_or_default())
            };
            self.bars.push(Bar { asked: asked.to_owned(), measured, reached: ratio <= at_most, because });
        }
    }

    /// As Markdown; the ratios are to the first side that was measured, where all sides have one unit.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("## {}\n{}\n\n", self.title, self.how);
        let _ = writeln!(
            text,
            "| | median, {} | least to most | runs | ratio |\n|---|---|---|---|---|",
            self.unit
        );
        let first = self.sides.iter().position(|side| side.spread().is_some()).unwrap_or(0);
        for (index, side) in self.sides.iter().enumerate() {
            let _ = match (&side.values, side.spread()) {
                (Err(why), _) => writeln!(text, "| {} | not measured: {why} | | | |", side.name),
                (Ok(_), None) => writeln!(text, "| {} | not measured | | | |", side.name),
                (Ok(values), Some(spread)) => writeln!(
                    text,
                    "| {} | {} | {} to {} | {} | {} |",
                    side.name,
                    digits(spread.median),
                    digits(spread.least),
                    digits(spread.most),
                    values.len(),
                    self.ratio(index, first).filter(|_| self.unit != MIXED).map_or_else(String::new, digits)
                ),
            };
        }
        if let Some(noise) = self.noise() {
            let _ =
                write!(text, "\nNoise floor: {:.1} %, between the first side and itself.\n", 100.0 * noise);
        }
        for bar in &self.bars {
            let Bar { asked, measured, reached, because } = bar;
            let said = if *reached { "reached".to_owned() } else { format!("**not reached**: {because}") };
            let _ = write!(text, "\nBar: {asked}. Measured: {measured}, {said}.\n");
        }
        text.push('\n');
        text
    }
}

/// Three significant digits.
fn digits(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        large if large >= 1.0 => format!("{value:.2}"),
        large if large >= 0.01 => format!("{value:.4}"),
        _ => format!("{value:.6}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(sides: &[(&str, &[f64])]) -> Section {
        let side =
            |(name, values): &(&str, &[f64])| Side { name: (*name).to_owned(), values: Ok(values.to_vec()) };
        Section {
            title: "t".into(),
            how: "h".into(),
            unit: "ms",
            sides: sides.iter().map(side).collect(),
            bars: Vec::new(),
        }
    }

    #[test]
    fn a_bar_compares_medians_and_says_what_was_measured() {
        let mut section = section(&[("one", &[1.0, 2.0, 9.0]), ("other", &[100.0])]);
        section.hold("at most 1/50", 0, 1, 1.0 / 50.0, "");
        section.hold("at most 1/100", 0, 1, 1.0 / 100.0, "reason");
        let text = section.to_markdown();
        assert!(text.contains("| one | 2.00 | 1.00 to 9.00 | 3 | 1.00 |"), "{text}");
        assert!(text.contains("| other | 100 | 100 to 100 | 1 | 50.0 |"), "{text}");
        assert!(text.contains("Bar: at most 1/50. Measured: 1/50, reached."), "{text}");
        assert!(text.contains("Bar: at most 1/100. Measured: 1/50, **not reached**: reason."), "{text}");
    }

    #[test]
    fn a_peer_that_cannot_be_had_is_named_and_no_bar_is_held_against_it() {
        let mut section = section(&[("one", &[1.0])]);
        section.sides.push(Side::missing("other", "could not be installed: no network".into()));
        section.hold("less than other", 0, 1, 1.0, "");
        let text = section.to_markdown();
        assert!(text.contains("| other | not measured: could not be installed: no network |"), "{text}");
        assert!(section.bars.is_empty());
    }
}
