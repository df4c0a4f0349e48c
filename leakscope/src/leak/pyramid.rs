//! A process's history at every time-scale at once: the floor pyramid.
//!
//! Level k holds the last 16 buckets of 0.25·2^k seconds, each with the least, the greatest and the mean value of its
//! time. Two buckets of a level make one of the next, so a tick closes two buckets on average, and twenty levels
//! reach from two seconds to weeks in about 4 KB. A stretch in which nothing changes is entered in one step, however
//! long it is. Start reading at [`Pyramid::extend`].

use super::reading::Reading;

/// Buckets that a level remembers.
pub(super) const DEPTH: usize = BUCKETS as usize;
const BUCKETS: u8 = 16;
/// Levels; the widest bucket is 36 hours long.
pub(super) const LEVELS: usize = 20;
/// Length of a bucket of level 0, in seconds.
pub(super) const TICK_S: f64 = 0.25;

/// Seconds in a bucket of level `k`.
pub(super) fn width_s(k: usize) -> f64 {
    TICK_S * (1_u64 << k.min(63)) as f64
}

/// What was seen during a stretch of time, in eight bytes: there are hundreds of them for each process.
///
/// The least value is exact, because verdicts rest on it. The span up to the greatest is kept to 8 binary digits, and the
/// mean as a share of that span to 16.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bucket {
    min: f32,
    /// The upper half of an `f32`, known as bfloat16.
    span: u16,
    mean: u16,
}

impl Bucket {
    const fn flat(value: f32) -> Self {
        Self { min: value, span: 0, mean: 0 }
    }

    /// A bucket whose mean lies within `min..=max`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of u16::MAX")]
    pub(super) fn spanning(min: f32, max: f32, mean: f32) -> Self {
        // Rounded to the nearest; a span is far from the largest f32, where that would carry into infinity.
        let span = ((max - min).to_bits().saturating_add(1 << 15) >> 16) as u16;
        let mut bucket = Self { min, span, mean: 0 };
        let share = (mean - min) / bucket.span().max(f32::MIN_POSITIVE);
        bucket.mean = (share.clamp(0.0, 1.0) * f32::from(u16::MAX)).round() as u16;
        bucket
    }

    /// The least value.
    pub(super) const fn min(&self) -> f32 {
        self.min
    }

    const fn span(&self) -> f32 {
        f32::from_bits((self.span as u32) << 16)
    }

    /// The greatest value, to within a two-hundredth of the span.
    pub(super) fn max(&self) -> f32 {
        self.min + self.span()
    }

    /// The mean value.
    pub(super) fn mean(&self) -> f32 {
        self.min + self.span() * (f32::from(self.mean) / f32::from(u16::MAX))
    }

    fn then(self, later: Self) -> Self {
        let (max, mean) = (self.max().max(later.max()), f32::midpoint(self.mean(), later.mean()));
        Self::spanning(self.min.min(later.min), max, mean)
    }
}

/// The last buckets of one width, and what was read from them.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    ring: [Bucket; DEPTH],
    next: u8,
    len: u8,
    /// Whether a closed bucket waits for its partner to go up together.
    waits: bool,
    waiting: Bucket,
    /// What the buckets say, as of the last one that closed.
    pub(super) reading: Reading,
}

/// Values of a level's buckets, oldest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    values: [f32; DEPTH],
    len: usize,
}

impl std::ops::Deref for Row {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl Level {
    /// How many buckets have closed, at most [`DEPTH`].
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// One figure of each bucket, oldest first.
    pub(super) fn row(&self, of: impl Fn(&Bucket) -> f32) -> Row {
        let oldest = self.next() + DEPTH - self.len();
        // All places, whatever is in them: a loop of known length is worth more than what it saves to stop early.
        Row { values: std::array::from_fn(|i| of(&self.ring[(oldest + i) % DEPTH])), len: self.len() }
    }

    /// The least value of the bucket that closed last.
    pub(super) const fn last_floor(&self) -> f32 {
        self.ring[(self.next as usize + DEPTH - 1) % DEPTH].min
    }

    /// Where the next bucket goes.
    pub(super) fn next(&self) -> usize {
        usize::from(self.next)
    }

    /// Enters a closed bucket, over the oldest when there are [`DEPTH`].
    pub(super) fn push(&mut self, bucket: Bucket) {
        self.ring[usize::from(self.next)] = bucket;
        self.next = (self.next + 1) % BUCKETS;
        self.len = (self.len + 1).min(BUCKETS);
    }

    fn take_waiting(&mut self) -> Option<Bucket> {
        std::mem::take(&mut self.waits).then_some(self.waiting)
    }

    const fn keep_waiting(&mut self, bucket: Bucket) {
        (self.waits, self.waiting) = (true, bucket);
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
        let (first, second) = match (self.take_waiting(), mixed) {
            (Some(older), later) => (Some(older), later),
            (None, mixed) => (mixed, None),
        };
        let up = match (first, second) {
            (Some(first), Some(second)) => Some(first.then(second)),
            (Some(first), None) if flats > 0 => {
                flats -= 1;
                Some(first.then(flat))
            }
            (Some(alone), None) => {
                self.keep_waiting(alone);
                None
            }
            (None, _) => None,
        };
        if flats % 2 == 1 {
            self.keep_waiting(flat);
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
                // What waits stays: it is the time that the next wider level still has to be given.
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

    fn floors(pyramid: &Pyramid) -> Vec<Vec<(f32, f32, f32)>> {
        let row = |level: &Level| {
            let (min, max, mean) = (level.row(Bucket::min), level.row(Bucket::max), level.row(Bucket::mean));
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
        assert_eq!(*pyramid.levels()[1].row(Bucket::min), [3.0, 4.0]);
        assert_eq!(*pyramid.levels()[1].row(Bucket::max), [5.0, 9.0]);
        assert!((pyramid.levels()[2].row(Bucket::mean)[0] - 5.25).abs() < 1e-3);
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
        fn a_bucket_keeps_its_floor_and_nearly_its_span_and_mean(
            min in -1e9_f32..1e9, span in 0.0_f32..1e9, share in 0.0_f32..=1.0
        ) {
            // Values that an f32 of this size can tell apart.
            let (max, mean) = (min + span, share.mul_add(span, min).min(min + span));
            let bucket = Bucket::spanning(min, max, mean);
            prop_assert_eq!(bucket.min(), min);
            let within = |kept: f32, true_value: f32| (kept - true_value).abs() <= (max - min) / 200.0 + 128.0;
            prop_assert!(within(bucket.max(), max) && within(bucket.mean(), mean), "{bucket:?}");
        }

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
