//! How long until a limit is reached, and which limit.

use std::time::Duration;

use super::Rate;
use crate::units::{Bytes, BytesPerSec};

/// Which limit would be reached first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The host's memory and swap.
    Host,
    /// The limit of a cgroup, by its path in the hierarchy.
    Cgroup(String),
}

/// A limit above a process and what is left under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Which limit.
    pub limit: Limit,
    /// Its size: the cgroup's limit, or the host's memory and swap together.
    pub size: Bytes,
    /// What may still be taken before it is reached; page cache that reclaim can drop counts as free.
    pub left: Bytes,
}

/// When a limit would be reached if the growth went on as it does.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeToOom {
    /// Which limit, how large, how much is left.
    pub room: Room,
    /// What uses it up: all that grows under it.
    pub demand: Demand,
    /// The estimate.
    pub eta: Duration,
    /// The earliest, by the upper end of the rate of all that grow under it.
    pub low: Duration,
    /// The latest, by the lower end; `None` where the interval reaches down to no growth.
    pub high: Option<Duration>,
}

impl TimeToOom {
    /// Under two minutes: urgent, whatever the verdict.
    pub const RUNAWAY: Duration = Duration::from_secs(120);

    /// Whether the limit is less than [`Self::RUNAWAY`] away.
    pub fn runaway(&self) -> bool {
        self.eta < Self::RUNAWAY
    }
}

/// What grows under one limit, and shares the room there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// How many processes.
    pub growers: usize,
    /// How fast they grow together, bytes a second.
    pub rate: Rate,
}

impl Demand {
    /// One process that grows at `rate`.
    pub const fn of(rate: &Rate) -> Self {
        Self { growers: 1, rate: *rate }
    }

    /// One more process. The errors of two rates have nothing to do with each other, so the halves of their intervals add
    /// up as the sides of a right angle do.
    #[must_use]
    pub fn and(self, rate: &Rate) -> Self {
        let own = self.rate;
        let mean = own.mean.0 + rate.mean.0;
        let low = (own.mean.0 - own.low.0).hypot(rate.mean.0 - rate.low.0);
        let high = (own.high.0 - own.mean.0).hypot(rate.high.0 - rate.mean.0);
        let rate =
            Rate { mean: BytesPerSec(mean), low: BytesPerSec(mean - low), high: BytesPerSec(mean + high) };
        Self { growers: self.growers + 1, rate }
    }
}

/// What a cgroup may be charged for ahead of each process that grows in it: a CPU takes 64 pages at a time
/// (`MEMCG_CHARGE_BATCH`, mm/memcontrol.c) and gives them back before a limit counts as reached, and so does the one that the
/// process ran on before.
const CHARGED_AHEAD: Bytes = Bytes(2 * 64 * 4096);

/// When `room` is used up by `demand`; `None` when that is not a growth.
///
/// The latest time knows that a cgroup may leave more than its counter says: near the end that is more than the rate's error.
pub fn time_to_oom(room: Room, demand: &Demand) -> Option<TimeToOom> {
    let after = |left: f64, rate: BytesPerSec| {
        (rate.0 > 0.0).then(|| Duration::try_from_secs_f64(left / rate.0).unwrap_or(Duration::MAX))
    };
    let left = room.left.as_f64();
    let ahead = match room.limit {
        Limit::Host => 0.0,
        Limit::Cgroup(_) => CHARGED_AHEAD.as_f64() * demand.growers as f64,
    };
    let Rate { mean, low, high } = demand.rate;
    let eta = after(left, mean)?;
    let earliest = after(left, high).unwrap_or(eta).min(eta);
    Some(TimeToOom { eta, low: earliest, high: after(left + ahead, low), demand: *demand, room })
}

/// Of the limits above a process, the one that is reached first; the first of those that are reached at the same time.
pub fn tightest(times: impl IntoIterator<Item = TimeToOom>) -> Option<TimeToOom> {
    times.into_iter().min_by_key(|time| time.eta)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(left: u64) -> Room {
        Room { limit: Limit::Host, size: Bytes(10_000_000), left: Bytes(left) }
    }

    fn time(left: u64, rate: Rate) -> Option<TimeToOom> {
        time_to_oom(room(left), &Demand::of(&rate))
    }

    fn rate(low: f64, mean: f64, high: f64) -> Rate {
        Rate { mean: BytesPerSec(mean), low: BytesPerSec(low), high: BytesPerSec(high) }
    }

    #[test]
    fn the_time_left_is_the_room_over_the_rate_and_its_interval() {
        let time = time(1_000_000, rate(500.0, 1000.0, 2000.0)).expect("it grows");
        assert_eq!(time.eta, Duration::from_secs(1000));
        assert_eq!((time.low, time.high), (Duration::from_secs(500), Some(Duration::from_secs(2000))));
        assert!(!time.runaway());
    }

    #[test]
    fn other_growth_under_the_limit_shares_the_room() {
        let one = rate(500.0, 1000.0, 2000.0);
        let ten = (1..10).fold(Demand::of(&one), |demand, _| demand.and(&one));
        let time = time_to_oom(room(1_000_000), &ten).expect("it grows");
        assert_eq!((time.eta, time.demand.growers), (Duration::from_secs(100), 10));
        assert!(time.runaway());
        // Ten rates are surer together than each alone: their errors partly cancel.
        let (low, high) = (time.low.as_secs_f64(), time.high.expect("it grows").as_secs_f64());
        assert!((low - 1e6 / (10_000.0 + 1000.0 * 10_f64.sqrt())).abs() < 1e-6, "{low}");
        assert!((high - 1e6 / (10_000.0 - 500.0 * 10_f64.sqrt())).abs() < 1e-6, "{high}");
    }

    #[test]
    fn of_limits_that_are_reached_at_the_same_time_the_innermost_is_told() {
        let at = |path: &str, left| TimeToOom {
            room: Room { limit: Limit::Cgroup(path.to_owned()), ..room(left) },
            ..time(left, rate(1.0, 1.0, 1.0)).expect("it grows")
        };
        let tightest = tightest([at("/a/b", 700), at("/a", 600), at("/", 600)]).expect("some");
        assert_eq!(tightest.room.limit, Limit::Cgroup("/a".to_owned()));
        assert_eq!(super::tightest([]), None);
    }

    #[test]
    fn what_does_not_grow_reaches_no_limit_and_what_may_not_grow_has_no_latest_time() {
        assert_eq!(time(1_000_000, rate(-20.0, 0.0, 20.0)), None);
        assert_eq!(time(1_000_000, rate(-20.0, 10.0, 40.0)).expect("it grows").high, None);
    }

    #[test]
    fn what_a_cgroup_was_charged_for_ahead_may_still_be_used() {
        let one = rate(500_000.0, 500_000.0, 500_000.0);
        let room = Room { limit: Limit::Cgroup("/a".to_owned()), ..room(0) };
        let alone = time_to_oom(room.clone(), &Demand::of(&one)).expect("it grows");
        assert_eq!((alone.low, alone.eta), (Duration::ZERO, Duration::ZERO));
        assert_eq!(alone.high, Some(Duration::from_secs_f64(524_288.0 / 500_000.0)));
        let two = time_to_oom(room, &Demand::of(&one).and(&one)).expect("they grow");
        assert_eq!(two.high, alone.high, "each has its own");
    }

    #[test]
    fn a_century_of_room_is_no_overflow() {
        let time = time(u64::MAX, rate(1e-9, 1e-9, 1e-9)).expect("it grows");
        assert_eq!(time.eta, Duration::MAX);
    }
}
