//! Evidence: the numbers of the level that decided, and the same in words.
//!
//! Every clause is a statement about the samples; what fed no test is not named. Start reading at [`Evidence::of`] for
//! the numbers and [`Verdict::reasons`] for the words.

use std::time::Duration;

use super::pyramid::{Bucket, Level, width_s};
use super::scales::{Scale, Scales};
use super::signal::bytes;
use super::{Evidence, State, Verdict};

/// Steps shorter than this are not counted in words.
const LEAST_STEP_S: f64 = 1.0;

impl Evidence {
    /// The evidence of one scale.
    pub(super) fn of(scales: &Scales<'_>, scale: Scale) -> Self {
        let reading = scales.reading(scale);
        let buckets = usize::from(reading.buckets);
        let (bucket_s, window_s) = (scales.width_s(scale), scales.span_s(scale));
        let row = scales.level(scale).row(|b| if reading.by_means { b.mean() } else { b.min() });
        let last_third = thirds(&row[row.len().saturating_sub(buckets)..]);
        // Steps a reader can picture: the finest of at least a second whose memory spans the window. Under a collector
        // they are its cycles.
        let spans = |j: &usize| {
            width_s(*j) >= LEAST_STEP_S && scales.levels[*j].len() as f64 * width_s(*j) >= window_s
        };
        let counted = match scale {
            Scale::Level(k) => Scale::Level((0..k).find(spans).unwrap_or(k)),
            Scale::Cycles => scale,
        };
        let step_s = scales.width_s(counted);
        let (rose, steps) = rises(scales.level(counted), step_s, window_s);
        let wide = (0..scales.levels.len()).filter(|k| width_s(*k) >= bucket_s);
        let fell = |k: usize| scales.levels[k].reading.floor_fell;
        let given_back = match scale {
            Scale::Level(_) => wide.map(fell).fold(0.0, f32::max),
            Scale::Cycles => reading.floor_fell,
        };
        Self {
            grown: bytes(f64::from(reading.grown)),
            window: Duration::from_secs_f64(window_s),
            bucket: Duration::from_secs_f64(bucket_s),
            rose,
            steps,
            step: Duration::from_secs_f64(step_s),
            cycles: scale == Scale::Cycles,
            tau: f64::from(reading.tau),
            t: f64::from(reading.t),
            last_third,
            bend: f64::from(reading.lost),
            given_back: bytes(f64::from(given_back)),
            plateau: None,
            proved_ago: Duration::ZERO,
        }
    }
}

/// In how many of the last steps of `level`, each of `step_s`, that lie inside `window_s` the floor rose.
fn rises(level: &Level, step_s: f64, window_s: f64) -> (u32, u32) {
    let row = level.row(Bucket::min);
    let inside = |i: &usize| (*i as f64) * step_s <= window_s;
    let (mut rose, mut steps) = (0, 0);
    for (_, pair) in (1..).zip(row.windows(2).rev()).take_while(|(i, _)| inside(i)) {
        steps += 1;
        rose += u32::from(pair[1] > pair[0]);
    }
    (rose, steps)
}

/// The growth in the last third of `row` as a share of that in the first.
fn thirds(row: &[f32]) -> Option<f64> {
    let third = row.len().saturating_sub(1) / 3;
    let value = |i: usize| row.get(i).copied().map(f64::from);
    let at_first = value(third)? - value(0)?;
    let at_last = value(row.len() - 1)? - value(row.len() - 1 - third)?;
    (at_first > 0.0).then(|| at_last / at_first)
}

impl Verdict {
    /// Why, in words and numbers: one clause a line, the weightiest first. What fed no test is not named.
    pub fn reasons(&self) -> Vec<String> {
        let evidence = &self.evidence;
        let mut reasons = Vec::new();
        if evidence.steps > 0 {
            reasons.push(evidence.rose_in_words());
        }
        match self.state {
            State::Growing | State::Suspect | State::Leaking => self.growth_in_words(&mut reasons),
            State::WarmingUp => self.hold_in_words(&mut reasons),
            _ => {}
        }
        reasons
    }

    fn growth_in_words(&self, reasons: &mut Vec<String>) {
        let evidence = &self.evidence;
        if let Some(share) = evidence.last_third {
            reasons.push(format!("no plateau: last third grows at {share:.2} of the first"));
        }
        reasons.push(evidence.given_back_in_words());
        reasons.push(format!("grew by {} in {}", evidence.grown, length(evidence.window)));
        if evidence.proved_ago > Duration::ZERO {
            reasons.push(format!("last seen growing {} ago", length(evidence.proved_ago)));
        }
    }

    fn hold_in_words(&self, reasons: &mut Vec<String>) {
        let evidence = &self.evidence;
        if let Some(plateau) = evidence.plateau {
            reasons.push(format!("the growth flattens: it would end near {plateau}"));
        } else if evidence.window > Duration::ZERO {
            reasons.push(
                "grew faster, or otherwise, before: too short a part of the growth is straight".to_owned(),
            );
        }
    }
}

impl Evidence {
    fn rose_in_words(&self) -> String {
        let Self { rose, steps, step, .. } = *self;
        if self.cycles {
            return format!(
                "held more after {rose} of {steps} falls than after the one before, one each {}",
                length(step)
            );
        }
        if step == Duration::from_secs(1) {
            return format!("grew in {rose} of {steps} seconds");
        }
        format!("grew in {rose} of {steps} steps of {}", length(step))
    }

    fn given_back_in_words(&self) -> String {
        if self.given_back.0 == 0 {
            return "its floor never fell".to_owned();
        }
        format!("its floor gave back nothing larger than {}", self.given_back)
    }
}

/// A length of time in words.
fn length(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 10.0 && s.fract() != 0.0 => format!("{s} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
