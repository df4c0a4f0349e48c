//! The judgement: from the readings of all time-scales to one finding about growth.
//!
//! The widest time-scale whose rise passes every gate decides, because it is the one that saw the longest stretch. The
//! gates are: the rise must not bend towards a plateau; nothing of its size may ever have been given back at this or a
//! coarser scale; it must still be growing; and no longer history may say that the straight piece is only the end of
//! a curve. Start reading at [`judge`]; what outlives a moment of doubt is in [`Latch`].

use super::pyramid::width_s;
use super::scales::{Scale, Scales};

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
        /// The scale that rises, if one does.
        scale: Option<Scale>,
        /// Pages at which the bend would end, where one was seen.
        plateau: Option<f64>,
    },
    /// It rose, and the last moments did not.
    Paused,
    /// Clean growth.
    Clean {
        /// The scale that decides.
        scale: Scale,
    },
}

/// Judges all time-scales; `now` is the value now, in pages from the levels' origin.
///
/// How near the limit is has no say: a rise that bends is no leak because memory is short. Urgency is an axis of its own.
///
/// A rise that is said to bend is let pass when its slope loses no more than `tolerated` over the row.
pub(super) fn judge(scales: &Scales<'_>, now: f64, tolerated: f32) -> Finding {
    let mut held = false;
    let mut held_scale = None;
    let mut plateau = None;
    let mut given_back = 0.0_f32;
    for scale in scales.widest_first() {
        let reading = scales.reading(scale);
        let fell = match scale {
            Scale::Level(_) => given_back.max(reading.floor_fell),
            // Only what is sure to hold a trough in each bucket says what a collector never takes back.
            Scale::Cycles => reading.floor_fell.max(released(scales, 2.0 * scales.width_s(scale))),
        };
        if matches!(scale, Scale::Level(_)) {
            given_back = fell;
        }
        if !reading.rises {
            continue;
        }
        if reading.bends && reading.lost > tolerated {
            held = true;
            held_scale = held_scale.or(Some(scale));
            plateau = plateau.or_else(|| Some(now + still_to_come(scales, scale)));
            continue;
        }
        // The bucket that is still open will have a floor no higher than the value now.
        let giving_back = f64::from(scales.level(scale).last_floor()) - now;
        if f64::from(reading.grown) >= RELEASES * giving_back.max(f64::from(fell)) {
            return if !is_straight(scales, scale) {
                Finding::Held { scale: Some(held_scale.unwrap_or(scale)), plateau }
            } else if still_growing(scales, scale) {
                Finding::Clean { scale }
            } else {
                Finding::Paused
            };
        }
    }
    if held { Finding::Held { scale: held_scale, plateau } } else { Finding::None }
}

/// The deepest fall of a floor at the levels whose buckets have at least `from_s` seconds, in pages.
fn released(scales: &Scales<'_>, from_s: f64) -> f32 {
    let wide = scales.levels.iter().enumerate().filter(|(k, _)| width_s(*k) >= from_s);
    wide.map(|(_, level)| level.reading.floor_fell).fold(0.0, f32::max)
}

/// Pages that a bending rise will still add if it goes on as an exponential approach does: the slope at
/// its end, times the time constant that the ratio of the slopes at both ends shows.
fn still_to_come(scales: &Scales<'_>, scale: Scale) -> f64 {
    let half = f64::from(scales.reading(scale).lost) / 2.0;
    if half >= 1.0 {
        return 0.0;
    }
    let time_constant_s = scales.span_s(scale) / ((1.0 + half) / (1.0 - half)).ln();
    scales.slope(scale) * (1.0 - half) * time_constant_s
}

/// Whether no longer rise says that the straight piece is the end of a curve.
fn is_straight(scales: &Scales<'_>, scale: Scale) -> bool {
    let span_s = scales.span_s(scale);
    let rising_s = |other| f64::from(scales.reading(other).rising) * scales.width_s(other);
    scales.widest_first().all(|other| span_s >= STRAIGHT_SHARE * rising_s(other))
}

/// Whether the growth that was found went on until now, asked at the finest level that can tell.
fn still_growing(scales: &Scales<'_>, scale: Scale) -> bool {
    let slope = scales.slope(scale);
    if slope <= 0.0 {
        return false;
    }
    let still = |scale| scales.level(scale).recent(scales.width_s(scale)) >= STILL * slope;
    let Scale::Level(k) = scale else { return still(scale) };
    let coarse_enough = |j: &usize| slope * width_s(*j) >= STILL_PAGES;
    let finest = (0..k).find(coarse_enough).unwrap_or(k).max(k.saturating_sub(2));
    // A level that was restarted after a gap has nothing to say yet; the next wider one has.
    let asked = (finest..k).find(|j| scales.levels[*j].len() >= 4).unwrap_or(k);
    still(Scale::Level(asked)) || scales.levels[k].swing() > 3.0 * slope * width_s(k)
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

    /// What a rise may lose of its slope over a row and still stand for the leak that was proved: for one that was
    /// confirmed, a quarter. An exponential approach that loses a quarter ends four rows later at the earliest, and most
    /// interpreters add something to a leak in their first minutes that dries up slowly.
    pub(super) fn tolerates(&self) -> f32 {
        if self.proved.is_some_and(|proof| proof.confirmed) { 0.25 } else { 0.0 }
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
