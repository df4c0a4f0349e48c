//! How long until a limit is reached, and which limit.

use std::time::Duration;

use super::Rate;
use crate::units::Bytes;

/// Which limit would be reached first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The host's memory and swap.
    Host,
    /// The limit of a cgroup, by its path in the hierarchy.
    Cgroup(String),
}

/// The tightest limit above a process and what is left under it.
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
    /// The estimate.
    pub eta: Duration,
    /// The earliest, by the rate's upper end.
    pub low: Duration,
    /// The latest, by the rate's lower end; `None` where the interval reaches down to no growth.
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

/// When `room` is used up at `rate`; `None` when the rate is not a growth.
///
/// `others` is the growth of further processes under the same limit, in bytes a second: they share the room.
pub fn time_to_oom(room: Room, rate: &Rate, others: f64) -> Option<TimeToOom> {
    let after = |bytes_per_s: f64| {
        (bytes_per_s > 0.0)
            .then(|| Duration::try_from_secs_f64(room.left.as_f64() / bytes_per_s).unwrap_or(Duration::MAX))
    };
    let others = others.max(0.0);
    let eta = (rate.mean.0 > 0.0).then(|| after(rate.mean.0 + others)).flatten()?;
    let low = after(rate.high.0 + others).unwrap_or(eta).min(eta);
    let high = (rate.low.0 > 0.0).then(|| after(rate.low.0 + others)).flatten();
    Some(TimeToOom { eta, low, high, room })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::BytesPerSec;

    fn room(left: u64) -> Room {
        Room { limit: Limit::Host, size: Bytes(10_000_000), left: Bytes(left) }
    }

    fn rate(low: f64, mean: f64, high: f64) -> Rate {
        Rate { mean: BytesPerSec(mean), low: BytesPerSec(low), high: BytesPerSec(high) }
    }

    #[test]
    fn the_time_left_is_the_room_over_the_rate_and_its_interval() {
        let time = time_to_oom(room(1_000_000), &rate(500.0, 1000.0, 2000.0), 0.0).expect("it grows");
        assert_eq!(time.eta, Duration::from_secs(1000));
        assert_eq!((time.low, time.high), (Duration::from_secs(500), Some(Duration::from_secs(2000))));
        assert!(!time.runaway());
    }

    #[test]
    fn other_growth_under_the_limit_shares_the_room() {
        let time = time_to_oom(room(1_000_000), &rate(500.0, 1000.0, 2000.0), 9000.0).expect("it grows");
        assert_eq!(time.eta, Duration::from_secs(100));
        assert!(time.runaway());
    }

    #[test]
    fn what_does_not_grow_reaches_no_limit_and_what_may_not_grow_has_no_latest_time() {
        assert_eq!(time_to_oom(room(1_000_000), &rate(-20.0, 0.0, 20.0), 500.0), None);
        assert_eq!(time_to_oom(room(1_000_000), &rate(-20.0, 10.0, 40.0), 0.0).expect("it grows").high, None);
    }

    #[test]
    fn a_century_of_room_is_no_overflow() {
        let time = time_to_oom(room(u64::MAX), &rate(1e-9, 1e-9, 1e-9), 0.0).expect("it grows");
        assert_eq!(time.eta, Duration::MAX);
    }
}
