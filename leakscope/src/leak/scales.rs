//! All time-scales at one moment: the levels of the pyramid, and the cycles where there is a rhythm.

use super::cycles::Cycles;
use super::pyramid::{Level, width_s};
use super::reading::Reading;

/// One time-scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// A level of the pyramid.
    Level(usize),
    /// The cycles of a collector.
    Cycles,
}

/// What was read at every time-scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales<'a> {
    /// The pyramid, finest first.
    pub(super) levels: &'a [Level],
    /// The cycles and their mean length in seconds, while they go on.
    cycles: Option<(&'a Level, f64)>,
}

impl<'a> Scales<'a> {
    /// Those of a process at tick `now`.
    pub(super) fn at(now: u64, levels: &'a [Level], cycles: Option<&'a Cycles>) -> Self {
        Self { levels, cycles: cycles.and_then(|cycles| cycles.going_on(now)) }
    }

    /// From the widest to the finest.
    pub(super) fn widest_first(&self) -> impl Iterator<Item = Scale> {
        let cycle_s = self.cycles.map(|(_, cycle_s)| cycle_s);
        // The cycles come after the last level that is wider.
        let wider =
            (0..self.levels.len()).filter(|k| cycle_s.is_none_or(|cycle_s| width_s(*k) >= cycle_s)).count();
        let finer = self.levels.len() - wider;
        let level = Scale::Level;
        (finer..self.levels.len())
            .rev()
            .map(level)
            .chain(cycle_s.map(|_| Scale::Cycles))
            .chain((0..finer).rev().map(level))
    }

    /// The buckets of a scale.
    pub(super) fn level(&self, scale: Scale) -> &'a Level {
        match scale {
            Scale::Level(k) => &self.levels[k],
            Scale::Cycles => self.cycles.map_or(&self.levels[0], |(level, _)| level),
        }
    }

    /// What they say.
    pub(super) fn reading(&self, scale: Scale) -> &'a Reading {
        &self.level(scale).reading
    }

    /// Pages a second that a scale rises, if it does.
    pub(super) fn slope(&self, scale: Scale) -> f64 {
        self.level(scale).slope(self.width_s(scale))
    }

    /// Seconds in a bucket.
    pub(super) fn width_s(&self, scale: Scale) -> f64 {
        match scale {
            Scale::Level(k) => width_s(k),
            Scale::Cycles => self.cycles.map_or(0.0, |(_, cycle_s)| cycle_s),
        }
    }

    /// Seconds that a scale's reading rests on.
    pub(super) fn span_s(&self, scale: Scale) -> f64 {
        f64::from(self.reading(scale).buckets) * self.width_s(scale)
    }
}
