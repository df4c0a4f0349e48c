//! A bounded history of one process: thinned as it grows longer, so that hours fit into the room of minutes.

use std::collections::VecDeque;
use std::time::Duration;

use crate::leak::Memory;
use crate::source::{Flow, KernelCounts};
use crate::units::{Bytes, Moment};

/// Points kept for a process that grows. When there are more, every second one goes and the spacing doubles.
pub const CAPACITY: usize = 240;

/// Points kept for a process that does not grow: the newest, so that a growth has a beginning.
const QUIET_CAPACITY: usize = 32;

/// What was read of a process at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub at: Moment,
    /// What it held.
    pub memory: Memory,
    /// What the kernel side had seen populated by then; `None` where no kernel side is at work.
    pub populated: Option<Populated>,
    /// All that it had given back by then: the sum of the falls between samples, those included that no point is kept of.
    pub given_back: Bytes,
}

/// Pages of a file that one fault maps (`fault_around_bytes`, 64 KiB): so many fewer faults went there than pages came.
const FAULT_AROUND: i64 = 16;

/// What the kernel side had seen populated by some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Populated {
    /// Pages touched for the first time.
    pub first_touches: u64,
    /// Bytes that `rss_stat` added to the footprint, less those it took away; `None` where its values cannot be read.
    pub footprint: Option<i64>,
    /// Bytes whose first touch did not last in the footprint: file and shared pages, what was given back, swap-ins.
    pub elsewhere: i64,
}

impl From<KernelCounts> for Populated {
    fn from(counts: KernelCounts) -> Self {
        let bytes = |bytes: Bytes| i64::try_from(bytes.0).unwrap_or(i64::MAX);
        let flow =
            |flow: Option<Flow>| flow.map_or((0, 0), |Flow { grown, shrunk }| (bytes(grown), bytes(shrunk)));
        let (anon, swap) = (flow(counts.rss_anon), flow(counts.rss_swap));
        let (file, shmem) = (flow(counts.rss_file), flow(counts.rss_shmem));
        Self {
            first_touches: counts.first_touch_faults,
            footprint: counts
                .rss_anon
                .map(|_| anon.0.saturating_sub(anon.1).saturating_add(swap.0).saturating_sub(swap.1)),
            elsewhere: [file.0 / FAULT_AROUND, shmem.0, anon.1, swap.1, -swap.0]
                .into_iter()
                .fold(0, i64::saturating_add),
        }
    }
}

/// A process's past.
#[derive(Clone, Debug, Default)]
pub struct History {
    points: VecDeque<Point>,
    spacing: Duration,
}

impl History {
    /// Adds a point. Of a process that does not grow only the newest few are kept; of one that grows all since then,
    /// thinned.
    pub fn push(&mut self, point: Point, grows: bool) {
        if !grows {
            self.spacing = Duration::ZERO;
            let surplus = (self.points.len() + 1).saturating_sub(QUIET_CAPACITY);
            self.points.drain(..surplus);
            self.points.push_back(point);
            return;
        }
        if self.points.back().is_some_and(|last| point.at.since(last.at) < self.spacing) {
            return;
        }
        self.points.push_back(point);
        if self.points.len() > CAPACITY {
            let mut odd = false;
            self.points.retain(|_| {
                odd = !odd;
                odd
            });
            let span = self.points.back().map_or(Duration::ZERO, |last| last.at.since(self.points[0].at));
            self.spacing = span / u32::try_from(self.points.len()).unwrap_or(u32::MAX);
        }
    }

    /// All points, oldest first.
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.points.iter()
    }

    /// Bytes that it holds on the heap.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.points.capacity() * size_of::<Point>()
    }

    /// The newest point that is not later than `at`, or the oldest.
    pub fn at_or_before(&self, at: Moment) -> Option<&Point> {
        let later = self.points.partition_point(|point| point.at <= at);
        self.points.get(later.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(second: u64) -> Point {
        let memory = Memory { anon: Bytes(second), ..Memory::default() };
        Point { at: Moment(second * 1_000_000_000), memory, populated: None, given_back: Bytes::ZERO }
    }

    #[test]
    fn a_day_of_seconds_keeps_its_first_point_a_bounded_number_and_an_even_spacing() {
        let mut history = History::default();
        for second in 0..86_400 {
            history.push(point(second), true);
        }
        let points: Vec<_> = history.points().collect();
        assert!(points.len() <= CAPACITY && points.len() > CAPACITY / 3, "{} points", points.len());
        assert_eq!(points[0].at, Moment(0));
        let gaps: Vec<_> = points.windows(2).map(|pair| pair[1].at.since(pair[0].at).as_secs()).collect();
        let (low, high) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
        assert!(*high <= 3 * *low, "gaps from {low} to {high} s");
    }

    #[test]
    fn a_quiet_process_keeps_only_its_newest_points() {
        let mut history = History::default();
        for second in 0..1000 {
            history.push(point(second), false);
        }
        let points: Vec<_> = history.points().collect();
        assert_eq!((points.len(), points[0].at), (QUIET_CAPACITY, Moment(968_000_000_000)));
    }

    #[test]
    fn the_point_at_a_moment_is_the_last_one_before_it() {
        let mut history = History::default();
        for second in 10..20 {
            history.push(point(second), true);
        }
        assert_eq!(history.at_or_before(Moment(12_500_000_000)).unwrap().memory.anon, Bytes(12));
        assert_eq!(history.at_or_before(Moment(0)).unwrap().memory.anon, Bytes(10));
        assert!(History::default().at_or_before(Moment(0)).is_none());
    }
}
