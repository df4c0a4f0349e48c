//! A synthetic process: what it holds of each kind of memory at each quarter of a second, and what of that is a leak.
//!
//! A kind builds one by adding parts ([`Process::hold`], [`Process::saw`], [`Process::leaks`]...); [`Process::run`] makes
//! the [`Trace`] that detectors see, in whole pages, with the truth beside it. Sizes are bytes, times seconds. Allocators
//! and counters act on the anonymous memory as it is when they are added, so they come last.

use leakscope::leak::Memory;
use leakscope::units::Bytes;

use crate::dice::Dice;
use crate::{PAGE, TICK_S};

/// A process while it is being made.
#[derive(Clone, Debug)]
pub struct Process {
    pub(crate) anon: Vec<f64>,
    pub(crate) file: Vec<f64>,
    pub(crate) shmem: Vec<f64>,
    pub(crate) host_shmem: Vec<f64>,
    pub(crate) swap: Vec<f64>,
    leak: Vec<f64>,
    onset_s: f64,
    stop_s: Option<f64>,
    steady: bool,
}

/// How an allocator gives memory back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocator {
    /// Keeps what it has, and now and then gives half of the slack back (glibc's trim).
    Trims,
    /// Gives the slack back within half a minute (jemalloc's decay).
    Decays,
}

/// Pages to a float's nearest whole page, downwards.
fn paged(bytes: f64) -> f64 {
    (bytes.max(0.0) / PAGE).floor() * PAGE
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of synthetic processes are positive and far below 2^53"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

/// How many ticks `seconds` are.
pub(crate) fn ticks(seconds: f64) -> usize {
    usize::try_from(whole(seconds / TICK_S)).unwrap_or(usize::MAX)
}

impl Process {
    /// One that holds nothing, for `seconds`.
    pub fn lasting(seconds: f64) -> Self {
        let zero = vec![0.0; ticks(seconds).max(1)];
        Self {
            anon: zero.clone(),
            file: zero.clone(),
            shmem: zero.clone(),
            host_shmem: zero.clone(),
            swap: zero.clone(),
            leak: zero,
            onset_s: 0.0,
            stop_s: None,
            steady: true,
        }
    }

    /// How long it lives, in seconds.
    pub fn seconds(&self) -> f64 {
        self.anon.len() as f64 * TICK_S
    }

    /// Adds `part(seconds)`.
    #[must_use]
    pub fn shape(mut self, mut part: impl FnMut(f64) -> f64) -> Self {
        for (i, value) in self.anon.iter_mut().enumerate() {
            *value += part(i as f64 * TICK_S);
        }
        self
    }

    /// Adds `bytes` from the first sample on.
    #[must_use]
    pub fn hold(self, bytes: f64) -> Self {
        self.shape(|_| bytes)
    }

    /// Adds `bytes` that come up in the first second or two of the process's life.
    #[must_use]
    pub fn start_up(self, dice: &mut Dice, bytes: f64) -> Self {
        let pace = dice.scale(0.1, 0.4);
        self.shape(|s| bytes * (1.0 - 0.7 * (-s / pace).exp()))
    }

    /// Adds a straight rise of `height` from `from` to `to`, which then stays.
    #[must_use]
    pub fn ramp(self, from: f64, to: f64, height: f64) -> Self {
        self.shape(|s| height * ((s - from) / (to - from)).clamp(0.0, 1.0))
    }

    /// Adds noise that returns to its mean within about `tau` seconds.
    #[must_use]
    pub fn noise(self, dice: &mut Dice, sigma: f64, tau: f64) -> Self {
        let keep = (-TICK_S / tau).exp();
        let push = sigma * (1.0 - keep * keep).sqrt();
        let mut value = sigma * dice.normal();
        self.shape(|_| {
            value = keep * value + push * dice.normal();
            value
        })
    }

    /// Adds the small change of every process: up to `most` pages.
    #[must_use]
    pub fn jitter(self, dice: &mut Dice, most: f64) -> Self {
        let (sigma, tau) = (PAGE * dice.scale(0.3, most), dice.scale(0.5, 10.0));
        self.noise(dice, sigma, tau)
    }

    /// Adds noise with as much power in every octave from a second to an hour.
    #[must_use]
    pub fn pink(mut self, dice: &mut Dice, sigma: f64) -> Self {
        for octave in 0..6 {
            self = self.noise(dice, sigma / 6_f64.sqrt(), 4_f64.powi(octave));
        }
        self
    }

    /// Adds a random walk of `step` a tick, thrown back at 0 and at `span`.
    #[must_use]
    pub fn walk(self, dice: &mut Dice, step: f64, span: f64) -> Self {
        let mut value = span * dice.share();
        self.shape(|_| {
            value += step * dice.normal();
            value = if value < 0.0 { -value } else { value };
            value = if value > span { 2.0 * span - value } else { value };
            value.clamp(0.0, span)
        })
    }

    /// Adds a collector's sawtooth: climbs by about `height` in about `period`, and falls back to a floor that differs
    /// by some hundredths of the height.
    #[must_use]
    pub fn saw(self, dice: &mut Dice, period: f64, height: f64) -> Self {
        self.uneven_saw(dice, period, height, (0.15, 0.1, 0.04))
    }

    /// The same, with the spread of the period and of the height (as of [`Dice::factor`]) and of the floor (as a share
    /// of the height).
    #[must_use]
    pub fn uneven_saw(self, dice: &mut Dice, period: f64, height: f64, spread: (f64, f64, f64)) -> Self {
        let mut begin = -period * dice.share();
        let tooth = |dice: &mut Dice, begin: f64| {
            let end = begin + (period * dice.factor(spread.0)).max(2.0 * TICK_S);
            let top = height * dice.factor(spread.1);
            (end, top, (spread.2 * height * dice.normal().abs()).min(top))
        };
        let (mut end, mut top, mut floor) = tooth(dice, begin);
        self.shape(|s| {
            while s >= end {
                begin = end;
                (end, top, floor) = tooth(dice, begin);
            }
            floor + (top - floor) * (s - begin) / (end - begin)
        })
    }

    /// Adds jobs: after each pause, for some time, some memory; `shape` gives the share of it that is held at a share of
    /// the job's time. Ranges are scales, low to high.
    #[must_use]
    pub fn jobs(
        self,
        dice: &mut Dice,
        (pause, length, height): ((f64, f64), (f64, f64), (f64, f64)),
        shape: impl Fn(f64) -> f64,
    ) -> Self {
        let job = |dice: &mut Dice, after: f64| {
            let begin = after + dice.scale(pause.0, pause.1);
            (begin, begin + dice.scale(length.0, length.1), dice.scale(height.0, height.1))
        };
        let before = -pause.0 * dice.share();
        let (mut begin, mut end, mut size) = job(dice, before);
        self.shape(|s| {
            while s >= end {
                (begin, end, size) = job(dice, end);
            }
            if s < begin { 0.0 } else { size * shape((s - begin) / (end - begin)) }
        })
    }

    /// Leaks `rate` bytes a second from the start.
    #[must_use]
    pub fn leaks(self, rate: f64) -> Self {
        self.leaks_from(0.0, rate)
    }

    /// Leaks `rate` bytes a second from `onset` on.
    #[must_use]
    pub fn leaks_from(self, onset: f64, rate: f64) -> Self {
        self.leaks_as(onset, |s| rate * s)
    }

    /// Leaks so that `leaked(s)` bytes are gone `s` seconds after `onset`.
    #[must_use]
    pub fn leaks_as(mut self, onset: f64, leaked: impl Fn(f64) -> f64) -> Self {
        for (i, (leak, anon)) in self.leak.iter_mut().zip(&mut self.anon).enumerate() {
            let more = leaked((i as f64 * TICK_S - onset).max(0.0));
            *leak += more;
            *anon += more;
        }
        self.onset_s = onset;
        self
    }

    /// Leaks entries of about `size` bytes, one about every `interval` seconds: evenly, or each by itself (`at_random`);
    /// `spread` as of [`Dice::factor`].
    #[must_use]
    pub fn leaks_entries(
        mut self,
        dice: &mut Dice,
        interval: f64,
        size: f64,
        at_random: bool,
        spread: f64,
    ) -> Self {
        let (mut held, mut next) = (0.0, interval * dice.share());
        for (i, (leak, anon)) in self.leak.iter_mut().zip(&mut self.anon).enumerate() {
            while next <= i as f64 * TICK_S {
                held += size * dice.factor(spread);
                next += if at_random { dice.wait(interval) } else { interval };
            }
            *leak += held;
            *anon += held;
        }
        self
    }

    /// Says that the leak's pace changes: its interval is not held against the whole run's mean.
    #[must_use]
    pub fn unsteadily(mut self) -> Self {
        self.steady = false;
        self
    }

    /// Says that the leak begins to show at `onset`, or stops at `stop`.
    #[must_use]
    pub fn visible(mut self, onset: f64, stop: Option<f64>) -> Self {
        self.onset_s = onset;
        self.stop_s = stop;
        self
    }

    /// Puts an allocator between what was asked for so far and what is resident.
    #[must_use]
    pub fn behind(mut self, dice: &mut Dice, allocator: Allocator) -> Self {
        let mut resident = self.anon[0];
        for value in &mut self.anon {
            if *value > resident {
                resident = *value;
            } else {
                resident = match allocator {
                    Allocator::Trims if dice.happens(0.002) => f64::midpoint(resident, *value),
                    Allocator::Trims => resident,
                    Allocator::Decays => *value + (resident - *value) * (-TICK_S / 10.0).exp(),
                };
            }
            *value = resident;
        }
        self
    }

    /// Counts the anonymous memory in steps of `bytes`: huge pages, or a counter that is folded in batches.
    #[must_use]
    pub fn counted_in(mut self, bytes: f64) -> Self {
        self.anon.iter_mut().for_each(|value| *value = (*value / bytes).floor() * bytes);
        self
    }

    /// The trace of this process, which leaks or does not; `dice` choose how far its limit is.
    pub fn run(self, dice: &mut Dice, leaks: bool) -> Trace {
        let total = |i: usize| self.anon[i] + self.swap[i] + self.shmem[i];
        let most = (0..self.anon.len()).map(total).fold(0.0, f64::max);
        let limit = if leaks {
            // It would be reached half a run to five runs after the end.
            let leaked = self.leak.last().copied().unwrap_or_default();
            most + leaked * dice.scale(0.5, 5.0)
        } else {
            // People size a container to what its program needs: a warm-up that ends just below the limit is no leak.
            most * dice.scale(1.05, 5.0)
        };
        Trace { process: self, leaks, limit, age_s: 0.0 }
    }
}

/// What a detector sees of a process, and the truth.
#[derive(Clone, Debug)]
pub struct Trace {
    process: Process,
    leaks: bool,
    limit: f64,
    /// How old it was before the first tick.
    age_s: f64,
}

impl Trace {
    /// The same trace as somebody sees it who comes when half of it is over.
    #[must_use]
    pub fn second_half(mut self) -> Self {
        let half = self.ticks() / 2;
        let p = &mut self.process;
        for row in [&mut p.anon, &mut p.file, &mut p.shmem, &mut p.host_shmem, &mut p.swap, &mut p.leak] {
            row.drain(..half);
        }
        let gone_s = half as f64 * TICK_S;
        self.age_s = gone_s;
        p.onset_s = (p.onset_s - gone_s).max(0.0);
        p.stop_s = p.stop_s.map(|stop| (stop - gone_s).max(0.0));
        self
    }

    /// How old the process was at its first tick, in seconds.
    pub const fn age_s(&self) -> f64 {
        self.age_s
    }

    /// Ticks that it has.
    pub fn ticks(&self) -> usize {
        self.process.anon.len()
    }

    /// Its length in seconds.
    pub fn seconds(&self) -> f64 {
        self.process.seconds()
    }

    /// What the process holds at tick `i`, as /proc has it.
    pub fn memory(&self, i: usize) -> Memory {
        let of = |row: &[f64]| Bytes(whole(paged(row[i])));
        let p = &self.process;
        Memory { anon: of(&p.anon), file: of(&p.file), shmem: of(&p.shmem), swap: of(&p.swap) }
    }

    /// The host's shared memory at tick `i`.
    pub fn host_shmem(&self, i: usize) -> Bytes {
        Bytes(whole(paged(self.process.host_shmem[i])))
    }

    /// The resident set at tick `i`, in bytes: what most tools look at.
    pub fn rss(&self, i: usize) -> f64 {
        self.memory(i).rss().as_f64()
    }

    /// The size at which its memory is exhausted, in bytes.
    pub const fn limit(&self) -> f64 {
        self.limit
    }

    /// Whether it leaks.
    pub const fn leaks(&self) -> bool {
        self.leaks
    }

    /// When the leak begins to show, and when it stops.
    pub fn leaking_from_to(&self) -> (f64, f64) {
        (self.process.onset_s, self.process.stop_s.unwrap_or_else(|| self.seconds()))
    }

    /// Whether it leaks at one pace all the time.
    pub const fn is_steady(&self) -> bool {
        self.process.steady
    }

    /// Bytes a second leaked between two moments, by the truth.
    pub fn true_rate(&self, from_s: f64, to_s: f64) -> f64 {
        // Between the ticks that there are: the last lies a quarter of a second before the end.
        let tick = |s: f64| ticks(s).min(self.ticks() - 1);
        let (from, to) = (tick(from_s), tick(to_s));
        (self.process.leak[to] - self.process.leak[from]) / ((to - from).max(1) as f64 * TICK_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KB, MB};

    #[test]
    fn a_leak_is_in_the_memory_and_in_the_truth() {
        let mut dice = Dice::of("test", 1);
        let trace = Process::lasting(100.0).hold(10.0 * MB).leaks_from(40.0, 50.0 * KB).run(&mut dice, true);
        assert_eq!(trace.memory(100).anon, Bytes(whole(paged(10.0 * MB))));
        assert!((trace.true_rate(40.0, 90.0) - 50.0 * KB).abs() < 1.0);
        assert_eq!(trace.leaking_from_to(), (40.0, 100.0));
        assert!(trace.rss(399) > 12.9 * MB && trace.limit() > trace.rss(399));
    }

    #[test]
    fn an_allocator_that_decays_gives_slack_back_and_one_that_trims_keeps_it_longer() {
        let peak = |s: f64| if (10.0..20.0).contains(&s) { 100.0 * MB } else { 10.0 * MB };
        let after = |allocator| {
            let mut dice = Dice::of("test", 1);
            let process = Process::lasting(80.0).shape(peak).behind(&mut dice, allocator);
            process.anon[4 * 30]
        };
        assert!(after(Allocator::Decays) < 50.0 * MB);
        assert!(after(Allocator::Trims) > 50.0 * MB);
    }

    #[test]
    fn a_sawtooth_has_about_the_period_that_was_asked_for() {
        let process = Process::lasting(3000.0).saw(&mut Dice::of("test", 3), 30.0, 80.0 * MB);
        let falls = process.anon.windows(2).filter(|pair| pair[1] < pair[0] - 20.0 * MB).count();
        assert!((80..125).contains(&falls), "{falls}");
    }
}
