//! The judgement: from the readings of all time-scales to one finding about growth.
//!
//! The widest time-scale whose rise passes every gate decides, because it is the one that saw the longest stretch. The
//! gates are: the rise must not bend towards a plateau; nothing of its size may ever have been given back at this or a
//! coarser scale; it must still be growing; and no longer history may say that the straight piece is only the end of
//! a curve. Start reading at [`judge`]; what outlives a moment of doubt is in [`Latch`].

use super::pyramid::{Level, width_s};
use super::reading::Reading;

/// Growth must be this many times the largest thing that was ever given back.
const RELEASES: f64 = 3.0;
/// The latest growth must go on at this share of the rate.
const STILL: f64 = 0.4;
/// Pages expected in a bucket, so that "still growing" is not asked of a count too coarse for it.
const STILL_PAGES: f64 = 3.0;
/// The straight piece must be this share of any longer rise.
const STRAIGHT_SHARE: f64 = 0.5;

/// What is found about growth at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Finding {
    /// No rise passes.
    #[default]
    None,
    /// It rises, but something holds the verdict back: a bend, or a longer history that is not straight.
    Held {
        /// The level that rises, if one does.
        level: Option<usize>,
        /// Pages at which the bend would end, where one was seen.
        plateau: Option<f64>,
    },
    /// It rose, and the last moments did not.
    Paused,
    /// Clean growth.
    Clean {
        /// The level that decides.
        level: usize,
    },
}

/// Seconds that a reading of level `k` rests on.
pub(super) fn span_s(reading: &Reading, k: usize) -> f64 {
    f64::from(reading.buckets) * width_s(k)
}

/// Judges the levels; `now` is the value now, in pages from the levels' origin.
///
/// How near the limit is has no say: a rise that bends is no leak because memory is short. Urgency is an axis of its own.
pub(super) fn judge(levels: &[Level], now: f64) -> Finding {
    let mut held = false;
    let mut held_level = None;
    let mut plateau = None;
    let mut given_back = 0.0_f32;
    for (k, level) in levels.iter().enumerate().rev() {
        let reading = &level.reading;
        given_back = given_back.max(reading.floor_fell);
        if !reading.rises {
            continue;
        }
        if reading.bends {
            held = true;
            held_level = held_level.or(Some(k));
            plateau = plateau.or(Some(now + still_to_come(reading, k)));
            continue;
        }
        // The bucket that is still open will have a floor no higher than the value now.
        let giving_back = f64::from(reading.last_floor) - now;
        if f64::from(reading.grown) >= RELEASES * giving_back.max(f64::from(given_back)) {
            return if !is_straight(levels, k) {
                Finding::Held { level: Some(held_level.unwrap_or(k)), plateau }
            } else if still_growing(levels, k) {
                Finding::Clean { level: k }
            } else {
                Finding::Paused
            };
        }
    }
    if held { Finding::Held { level: held_level, plateau } } else { Finding::None }
}

/// Pages that a bending rise will still add if it goes on as an exponential approach does: the slope at its end, times
/// the time constant that the ratio of the slopes at both ends shows.
fn still_to_come(reading: &Reading, k: usize) -> f64 {
    let half = f64::from(reading.lost) / 2.0;
    if half >= 1.0 {
        return 0.0;
    }
    let time_constant_s = span_s(reading, k) / ((1.0 + half) / (1.0 - half)).ln();
    f64::from(reading.slope) * (1.0 - half) * time_constant_s
}

/// Whether no longer rise says that the straight piece at level `k` is the end of a curve.
fn is_straight(levels: &[Level], k: usize) -> bool {
    let span = span_s(&levels[k].reading, k);
    let enough = |j: usize| span >= STRAIGHT_SHARE * f64::from(levels[j].reading.rising) * width_s(j);
    (0..levels.len()).all(enough)
}

/// Whether the growth found at level `k` went on until now, asked at the finest level that can tell.
fn still_growing(levels: &[Level], k: usize) -> bool {
    let reading = &levels[k].reading;
    let slope = f64::from(reading.slope);
    if slope <= 0.0 {
        return false;
    }
    let coarse_enough = |j: &usize| slope * width_s(*j) >= STILL_PAGES;
    let finest = (0..k).find(coarse_enough).unwrap_or(k).max(k.saturating_sub(2));
    // A level that was restarted after a gap has nothing to say yet; the next wider one has.
    let asked = (finest..k).find(|j| levels[*j].len() >= 4).unwrap_or(k);
    let recent = f64::from(levels[asked].reading.recent);
    recent >= STILL * slope || f64::from(reading.swing) > 3.0 * slope * width_s(k)
}

/// Keeps a leak a leak through short doubt: a pause of the load, one odd bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Latch {
    proved: Option<Proof>,
}

/// When a leak was last proved, and by what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Proof {
    /// When, in seconds of the grid.
    pub(super) at_s: f64,
    /// Pages from the origin then.
    pub(super) value: f64,
    /// Pages grown over the longest span that proved it.
    pub(super) grown: f64,
    /// The longest span that proved it, in seconds.
    pub(super) span_s: f64,
    /// Whether any of its proofs was long enough for a confirmation.
    pub(super) confirmed: bool,
}

impl Latch {
    /// Longest time that a verdict outlives its proof, in seconds.
    const LONGEST_S: f64 = 120.0;

    /// Whether a leak was proved and not taken back.
    pub(super) const fn is_on(&self) -> bool {
        self.proved.is_some()
    }

    /// Seconds since the proof, if there is one.
    pub(super) fn age_s(&self, now_s: f64) -> Option<f64> {
        self.proved.map(|proof| now_s - proof.at_s)
    }

    /// Notes a proof. A leak that goes on is proved again and again, at times over a shorter span than before: what the
    /// longer one showed stays shown.
    pub(super) fn prove(&mut self, proof: Proof) -> Proof {
        let proof = self.proved.map_or(proof, |before| Proof {
            grown: before.grown.max(proof.grown),
            span_s: before.span_s.max(proof.span_s),
            confirmed: before.confirmed || proof.confirmed,
            ..proof
        });
        self.proved = Some(proof);
        proof
    }

    /// Takes the verdict back when half of the growth was given back, when the proof is too old, or, sooner, when the
    /// growth turns out to bend. Returns whether it still stands.
    pub(super) fn doubt(&mut self, now_s: f64, value: f64, bends: bool) -> bool {
        let stands = |proof: &Proof| {
            let age = now_s - proof.at_s;
            let patience =
                if bends { (0.15 * proof.span_s).max(10.0) } else { (0.35 * proof.span_s).max(20.0) };
            value >= proof.value - 0.5 * proof.grown && age <= patience.min(Self::LONGEST_S)
        };
        self.proved = self.proved.filter(stands);
        self.is_on()
    }
}
