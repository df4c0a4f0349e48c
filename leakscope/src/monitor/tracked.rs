//! What the monitor keeps of one process.
//!
//! Almost every process of a large host is read once and then never changes: it *rests*, and takes a reading and two
//! moments ([`Resting`]). Whoever is read again *moves*, and gets a detector, a past, and all else that growth needs
//! ([`Moving`]). It gets them by living through its rest once more, so nobody can tell which of the two it was.

use std::collections::VecDeque;

use super::moving::Moving;
use super::resting::{Beats, Resting};
use super::{Looks, Point};
use crate::leak::{Cadence, FaultStep, Memory, Room, Verdict, cadence};
use crate::process::Identity;
use crate::source::{KernelCounts, Reading};
use crate::units::{Bytes, Moment};

/// Page faults kept for the cadence.
const FAULTS_KEPT: usize = 256;

/// One process: who it is, what was last read, and what is thought of it.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// Boxed: few are ever asked for.
    identity: Option<Box<Identity>>,
    course: Course,
    /// The newest page faults, while it is inspected.
    faults: VecDeque<FaultStep>,
    /// Whether it was looked whose worker it is.
    pub(super) asked_for_service: bool,
}

#[derive(Clone, Debug)]
enum Course {
    Resting(Resting),
    Moving(Box<Moving>),
}

impl Tracked {
    /// A process that is read for the first time, and is to be observed now.
    pub(super) fn new(reading: Reading, identity: Option<Identity>, beats: &mut Beats) -> Self {
        Self {
            identity: identity.map(Box::new),
            course: Course::Resting(Resting::new(&reading, beats)),
            faults: reading.faults.into(),
            asked_for_service: false,
        }
    }

    /// Takes what was read of it again.
    pub(super) fn take(&mut self, reading: Reading, beats: &Beats) {
        self.move_on(beats, |moving| moving.take(&reading));
        self.faults.extend(reading.faults);
        let surplus = self.faults.len().saturating_sub(FAULTS_KEPT);
        self.faults.drain(..surplus);
    }

    /// Judges it by what was last read: unchanged memory is an observation too.
    pub(super) fn observe(&mut self, beats: &Beats) {
        if let Course::Resting(resting) = &mut self.course
            && resting.observe(beats)
        {
            return;
        }
        self.move_on(beats, |moving| moving.observe(beats.now()));
    }

    /// It moves from now on, if it does not yet, and then this happens to it.
    fn move_on(&mut self, beats: &Beats, then: impl FnOnce(&mut Moving)) {
        match &mut self.course {
            Course::Moving(moving) => then(moving),
            Course::Resting(resting) => {
                let mut moving = Box::new(Moving::after(resting, beats));
                then(&mut moving);
                self.course = Course::Moving(moving);
            }
        }
    }

    fn moving(&self) -> Option<&Moving> {
        match &self.course {
            Course::Moving(moving) => Some(moving),
            Course::Resting(_) => None,
        }
    }

    /// Who it is, once somebody asked.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// Who it is; asked if nobody did yet.
    pub(super) fn identified(&mut self, ask: impl FnOnce() -> Option<Identity>) -> Option<&Identity> {
        if self.identity.is_none() {
            self.identity = ask().map(Box::new);
        }
        self.identity()
    }

    /// It is known as this from now on.
    pub(super) fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(Box::new(identity));
    }

    /// What is thought of it.
    pub fn verdict(&self) -> &Verdict {
        match &self.course {
            Course::Resting(resting) => resting.verdict(),
            Course::Moving(moving) => &moving.verdict,
        }
    }

    /// Whether silence would leave the verdict as it is.
    pub fn is_settled(&self) -> bool {
        match &self.course {
            Course::Resting(resting) => resting.is_settled(),
            Course::Moving(moving) => moving.is_settled(),
        }
    }

    /// When it was first read.
    pub(super) fn seen_at(&self) -> Moment {
        match &self.course {
            Course::Resting(resting) => resting.seen_at(),
            Course::Moving(moving) => moving.seen_at,
        }
    }

    /// How many readings there were of it.
    pub fn samples(&self) -> u64 {
        self.moving().map_or(1, |moving| moving.samples)
    }

    /// What it held when it was last read.
    pub fn memory(&self) -> Memory {
        match &self.course {
            Course::Resting(resting) => resting.memory(),
            Course::Moving(moving) => moving.memory,
        }
    }

    /// What the kernel side has counted.
    pub fn kernel(&self) -> Option<KernelCounts> {
        match &self.course {
            Course::Resting(resting) => resting.kernel(),
            Course::Moving(moving) => moving.kernel,
        }
    }

    /// Its footprint when it was first read.
    pub fn first(&self) -> Bytes {
        self.moving().map_or_else(|| self.memory().footprint(), |moving| moving.first)
    }

    /// Its footprint when it was last thought steady.
    pub fn steady(&self) -> Option<Bytes> {
        match &self.course {
            Course::Resting(resting) => resting.steady(),
            Course::Moving(moving) => moving.steady,
        }
    }

    /// The limits above it, the innermost first and the host's last; read while it grows, and empty until then.
    pub fn rooms(&self) -> &[Room] {
        self.moving().map_or(&[], |moving| &moving.rooms)
    }

    /// When they were read; never, of one that rests.
    pub(super) fn rooms_read_at(&self) -> Option<Moment> {
        self.moving()?.rooms_read_at
    }

    /// These were the limits above it at `at`; one that rests does not keep them.
    pub(super) fn set_rooms(&mut self, rooms: Vec<Room>, at: Moment) {
        if let Course::Moving(moving) = &mut self.course {
            moving.rooms = rooms;
            moving.rooms_read_at = Some(at);
        }
    }

    /// When it was first suspected, since it last was not.
    pub fn suspected_at(&self) -> Option<Moment> {
        self.moving()?.suspected_at
    }

    /// When its leak was confirmed.
    pub fn confirmed_at(&self) -> Option<Moment> {
        self.moving()?.confirmed_at
    }

    /// When it was, and is, looked at closely, with what is thought of it; `None` for who rests, and needs no look.
    pub(super) fn looks(&mut self) -> Option<(&mut Looks, &Verdict)> {
        match &mut self.course {
            Course::Moving(moving) => Some((&mut moving.looks, &moving.verdict)),
            Course::Resting(_) => None,
        }
    }

    /// Its past, oldest first. Of a time without any change both ends may be all that is kept.
    pub fn history(&self) -> impl Iterator<Item = Point> {
        let (rest, past) = match &self.course {
            Course::Resting(resting) => (Some(resting.points()), None),
            Course::Moving(moving) => (None, Some(moving.history.points().copied())),
        };
        rest.into_iter().flatten().chain(past.into_iter().flatten())
    }

    /// The rhythm of its growth.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn cadence(&self) -> Result<Cadence, &'static str> {
        let steps: Vec<FaultStep> = self.faults.iter().copied().collect();
        cadence(&steps, self.verdict().rate.as_ref())
    }

    /// All that it gave back within the verdict's window of clean growth at `now`; zero is a measurement.
    pub fn given_back(&self, now: Moment) -> Bytes {
        self.moving().map_or(Bytes::ZERO, |moving| moving.given_back(now))
    }

    /// How much of the growth over the verdict's window the kernel's counters account for, from 0 to 1.
    ///
    /// `rss_stat` says what was added to the footprint less what was taken away, and is right to within `lag`: each CPU
    /// keeps some pages to itself. Within that the page faults decide: the pages that the process touched first, less
    /// those that were no anonymous ones or were given back. Where `rss_stat` has no values, the faults are all there is.
    ///
    /// `None` without a kernel side, and where nothing grew. What stays below 1 was populated unseen: before the start,
    /// or by somebody else.
    pub fn explained(&self, page: Bytes, lag: Bytes) -> Option<f64> {
        self.moving()?.explained(page, lag)
    }

    /// Makes it thought of like this, which only a process that moves can be.
    #[cfg(test)]
    pub(super) fn say(&mut self, state: crate::leak::State) {
        if let Course::Moving(moving) = &mut self.course {
            moving.verdict.state = state;
        }
    }

    /// Bytes on the heap that are its own, without what the identity's texts take.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let identity = self.identity.as_ref().map_or(0, |_| size_of::<Identity>());
        let course = match &self.course {
            Course::Resting(resting) => resting.heap_bytes(),
            Course::Moving(moving) => size_of::<Moving>() + moving.heap_bytes(),
        };
        identity + course + self.faults.capacity() * size_of::<FaultStep>()
    }
}

#[cfg(test)]
mod tests;
