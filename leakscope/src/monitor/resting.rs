//! A process that has not changed since it was first read: what it would take to tell its past, and no more.
//!
//! What is thought of it follows from how long it has rested, and is asked of a detector that is made for the question
//! and thrown away. Start reading at [`Resting::observe`].

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use super::Point;
use super::history::Populated;
use crate::leak::{Detector, Memory, Sample, State, Thresholds, Verdict};
use crate::source::{KernelCounts, Reading};
use crate::units::{Bytes, Moment};

/// Batches that are remembered: 16 s of a live source's. Whether shared memory grew together with the host's is asked of
/// the last four seconds at most (`leak/signal.rs`).
const BEATS_KEPT: usize = 64;

/// A batch, as far as it concerns a process of which it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) at: Moment,
    /// Shared memory of the whole host.
    pub(super) host_shmem: Bytes,
}

impl Beat {
    /// What a process shows then that holds so much.
    pub(super) fn sample(self, memory: Memory) -> Sample {
        Sample { at: self.at, memory, host_shmem: Some(self.host_shmem) }
    }
}

/// The newest batches, and how a process is judged: what one that rests is judged by.
#[derive(Debug)]
pub(super) struct Beats {
    pub(super) thresholds: Thresholds,
    /// Oldest first.
    kept: VecDeque<Beat>,
    now: Beat,
    /// What is counted of a process that did nothing since the kernel side was attached: the same of most.
    nothing: Option<Arc<KernelCounts>>,
}

impl Beats {
    pub(super) fn new(thresholds: Thresholds) -> Self {
        let now = Beat { at: Moment::default(), host_shmem: Bytes::ZERO };
        Self { thresholds, kept: VecDeque::with_capacity(BEATS_KEPT), now, nothing: None }
    }

    /// The next batch has come.
    pub(super) fn push(&mut self, beat: Beat) {
        if self.kept.len() == BEATS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(beat);
        self.now = beat;
    }

    /// The newest batch.
    pub(super) const fn now(&self) -> Beat {
        self.now
    }

    /// Counts to keep of one that rests: shared where they say that it did nothing.
    fn shared(&mut self, counts: KernelCounts) -> Arc<KernelCounts> {
        if let Some(nothing) = self.nothing.as_ref().filter(|nothing| ***nothing == counts) {
            return Arc::clone(nothing);
        }
        let counts = Arc::new(counts);
        if counts.first_touch_faults == 0 {
            self.nothing = Some(Arc::clone(&counts));
        }
        counts
    }

    /// The batches from one to another, both of them included; where the first is no longer remembered, only these two.
    fn between(&self, first: Beat, last: Beat) -> impl Iterator<Item = Beat> {
        let known = self.kept.front().is_some_and(|oldest| oldest.at <= first.at);
        let inner = self.kept.iter().filter(move |beat| known && first.at < beat.at && beat.at < last.at);
        let end = Some(last).filter(|last| last.at > first.at);
        std::iter::once(first).chain(inner.copied()).chain(end)
    }
}

/// All that can be thought of a process that rests.
static THOUGHTS: LazyLock<[Verdict; 2]> =
    LazyLock::new(|| [State::Learning, State::Steady].map(|state| Verdict { state, ..Verdict::learning() }));

/// A process that has not changed since it was first read.
#[derive(Clone, Debug)]
pub(super) struct Resting {
    memory: Memory,
    kernel: Option<Arc<KernelCounts>>,
    first: Beat,
    /// The last batch that it was judged in: once silence changes nothing any more, it is not.
    last: Beat,
    verdict: &'static Verdict,
    settled: bool,
}

impl Resting {
    /// A process that is read for the first time. The reading's page faults are not kept.
    pub(super) fn new(reading: &Reading, beats: &mut Beats) -> Self {
        let kernel = reading.kernel.map(|counts| beats.shared(counts));
        let (memory, now) = (reading.memory, beats.now());
        Self { memory, kernel, first: now, last: now, verdict: &THOUGHTS[0], settled: false }
    }

    /// Judges it by its silence until now. `false` when more is to be said of it than one that rests can tell: it must be
    /// made to move.
    pub(super) fn observe(&mut self, beats: &Beats) -> bool {
        let mut detector = Detector::new(beats.thresholds);
        detector.observe(&self.first.sample(self.memory));
        let verdict = detector.observe(&beats.now().sample(self.memory));
        let Some(thought) = THOUGHTS.iter().find(|thought| **thought == verdict) else { return false };
        self.verdict = thought;
        self.settled = detector.is_settled();
        self.last = beats.now();
        true
    }

    /// The batches that it lived through.
    pub(super) fn lived(&self, beats: &Beats) -> impl Iterator<Item = Beat> {
        beats.between(self.first, self.last)
    }

    pub(super) const fn verdict(&self) -> &'static Verdict {
        self.verdict
    }

    pub(super) const fn is_settled(&self) -> bool {
        self.settled
    }

    pub(super) const fn memory(&self) -> Memory {
        self.memory
    }

    pub(super) fn kernel(&self) -> Option<KernelCounts> {
        self.kernel.as_deref().copied()
    }

    /// Bytes on the heap that are its own.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let own = self.kernel.as_ref().filter(|counts| counts.first_touch_faults > 0);
        own.map_or(0, |_| size_of::<KernelCounts>())
    }

    pub(super) const fn seen_at(&self) -> Moment {
        self.first.at
    }

    /// What it holds, once it is thought steady.
    pub(super) fn steady(&self) -> Option<Bytes> {
        (self.verdict.state == State::Steady).then(|| self.memory.footprint())
    }

    /// Both ends of its past.
    pub(super) fn points(&self) -> impl Iterator<Item = Point> {
        let end = Some(self.last.at).filter(|last| *last > self.first.at);
        std::iter::once(self.first.at).chain(end).map(|at| Point {
            at,
            memory: self.memory,
            populated: self.kernel().map(Populated::from),
            given_back: Bytes::ZERO,
        })
    }
}
