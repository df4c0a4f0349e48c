//! A process's history at every time-scale at once: the floor pyramid.
//!
//! Level k holds the last 16 buckets of 0.25·2^k seconds, each with the least, the greatest and the mean value of its
//! time. Two buckets of a level make one of the next, so a tick closes two buckets on average, and twenty levels
//! reach from two seconds to weeks in about 5 KB. A stretch in which nothing changes is entered in one step, however
//! long it is. Start reading at [`Pyramid::extend`].

use super::reading::Reading;

/// Buckets that a level remembers.
pub(super) const DEPTH: usize = 16;
/// Levels; the widest bucket is 36 hours long.
pub(super) const LEVELS: usize = 20;
/// Length of a bucket of level 0, in seconds.
pub(super) const TICK_S: f64 = 0.25;

/// Seconds in a bucket of level `k`.
pub(super) fn width_s(k: usize) -> f64 {
    TICK_S * (1_u64 << k.min(63)) as f64
}

/// What was seen during a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bucket {
    pub(super) min: f32,
    pub(super) max: f32,
    pub(super) mean: f32,
}

impl Bucket {
    const fn flat(value: f32) -> Self {
        Self { min: value, max: value, mean: value }
    }

    fn then(self, later: Self) -> Self {
        Self {
            min: self.min.min(later.min),
            max: self.max.max(later.max),
            mean: f32::midpoint(self.mean, later.mean),
        }
    }
}

/// The last buckets of one width, and what was read from them.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    ring: [Bucket; DEPTH],
    next: usize,
    len: usize,
    /// A closed bucket that waits for its partner to go up together.
    pending: Option<Bucket>,
    /// What the buckets say, as of the last one that closed.
    pub(super) reading: Reading,
}

/// Values of a level's buckets, oldest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    values: [f64; DEPTH],
    len: usize,
}

impl std::ops::Deref for Row {
    type Target = [f64];
    fn deref(&self) -> &[f64] {
        &self.values[..self.len]
    }
}

impl Level {
    /// How many buckets have closed, at most [`DEPTH`].
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// One figure of each bucket, oldest first.
    pub(super) fn row(&self, of: impl Fn(&Bucket) -> f32) -> Row {
        let mut row = Row { values: [0.0; DEPTH], len: self.len };
        let oldest = self.next + DEPTH - self.len;
        for (i, value) in row.values[..self.len].iter_mut().enumerate() {
            *value = f64::from(of(&self.ring[(oldest + i) % DEPTH]));
        }
        row
    }

    fn push(&mut self, bucket: Bucket) {
        self.ring[self.next] = bucket;
        self.next = (self.next + 1) % DEPTH;
        self.len = (self.len + 1).min(DEPTH);
    }

    /// Enters `mixed`, if any, and then `flats` times `flat`. Returns what goes up to the next level, in the same form:
    /// at most one bucket differs from the flat ones, because at most one pair straddles the change.
    fn extend(&mut self, mixed: Option<Bucket>, flat: Bucket, mut flats: u64) -> (Option<Bucket>, u64) {
        if let Some(bucket) = mixed {
            self.push(bucket);
        }
        for _ in 0..flats.min(DEPTH as u64) {
            self.push(flat);
        }
        let (first, second) = match (self.pending.take(), mixed) {
            (Some(older), later) => (Some(older), later),
            (None, mixed) => (mixed, None),
        };
        let up = match (first, second) {
            (Some(first), Some(second)) => Some(first.then(second)),
            (Some(first), None) if flats > 0 => {
                flats -= 1;
                Some(first.then(flat))
            }
            (alone, _) => {
                self.pending = alone;
                None
            }
        };
        if flats % 2 == 1 {
            self.pending = Some(flat);
        }
        (up, flats / 2)
    }
}

/// All levels, created as time passes.
#[derive(Clone, Debug, Default)]
pub(super) struct Pyramid {
    levels: Vec<Level>,
}

impl Pyramid {
    /// The levels that exist, finest first.
    pub(super) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The same, to be read anew.
    pub(super) fn levels_mut(&mut self) -> &mut [Level] {
        &mut self.levels
    }

    /// Enters `ticks` ticks during which the value was `value`; returns how many levels, from the finest up, closed a
    /// bucket. Takes O(levels), whatever `ticks` is.
    pub(super) fn extend(&mut self, value: f32, ticks: u64) -> usize {
        let flat = Bucket::flat(value);
        let (mut mixed, mut flats, mut k) = (None, ticks, 0);
        while k < LEVELS && (mixed.is_some() || flats > 0) {
            if k == self.levels.len() {
                // One at a time: doubling would hold twice the memory that a process is granted.
                self.levels.reserve_exact(1);
                self.levels.push(Level::default());
            }
            (mixed, flats) = self.levels[k].extend(mixed, flat, flats);
            k += 1;
        }
        k
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.levels.capacity() * size_of::<Level>()
    }

    /// Forgets the buckets of every level whose buckets are shorter than `width_limit_s`.
    pub(super) fn restart_finer_than(&mut self, width_limit_s: f64) {
        for (k, level) in self.levels.iter_mut().enumerate() {
            if width_s(k) < width_limit_s {
                // What is pending stays: it is the time that the next wider level still has to be given.
                level.len = 0;
                level.reading = Reading::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn floors(pyramid: &Pyramid) -> Vec<Vec<(f64, f64, f64)>> {
        let row = |level: &Level| {
            let (min, max, mean) = (level.row(|b| b.min), level.row(|b| b.max), level.row(|b| b.mean));
            (0..level.len()).map(|i| (min[i], max[i], mean[i])).collect()
        };
        pyramid.levels().iter().map(row).collect()
    }

    #[test]
    fn a_level_holds_the_least_value_of_each_pair_below() {
        let mut pyramid = Pyramid::default();
        for value in [5.0, 3.0, 4.0, 9.0] {
            pyramid.extend(value, 1);
        }
        assert_eq!(*pyramid.levels()[1].row(|b| b.min), [3.0, 4.0]);
        assert_eq!(*pyramid.levels()[1].row(|b| b.max), [5.0, 9.0]);
        assert_eq!(*pyramid.levels()[2].row(|b| b.mean), [5.25]);
    }

    #[test]
    fn a_century_of_silence_takes_no_longer_than_a_second_of_it() {
        let mut pyramid = Pyramid::default();
        pyramid.extend(1.0, 4 * 86_400 * 365 * 100);
        assert_eq!(pyramid.levels().len(), LEVELS);
        assert!(pyramid.levels().iter().all(|level| level.len() == DEPTH));
    }

    proptest! {
        #[test]
        fn a_flat_stretch_entered_at_once_is_the_same_as_tick_by_tick(
            runs in prop::collection::vec((0_u16..1000, 1_u64..200), 1..20)
        ) {
            let (mut at_once, mut by_tick) = (Pyramid::default(), Pyramid::default());
            for (value, ticks) in runs {
                at_once.extend(f32::from(value), ticks);
                for _ in 0..ticks {
                    by_tick.extend(f32::from(value), 1);
                }
            }
            prop_assert_eq!(floors(&at_once), floors(&by_tick));
        }
    }
}
