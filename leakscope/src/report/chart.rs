//! A footprint over time, with what a reader compares it to: the trend that the verdict rests on, the limit above it, the
//! end of it, its look-alikes and the host. `svg` draws it; text and Markdown say it in words ([`Chart::in_words`]).

use jiff::Timestamp;

use super::duration::span;
use super::printable::Line;
use crate::leak::Rate;
use crate::units::Bytes;

/// Sizes over time, oldest first.
pub type Curve = Vec<(Timestamp, Bytes)>;

/// A footprint over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub caption: Line,
    /// The footprint.
    pub points: Curve,
    /// What was fitted to it.
    pub trend: Option<Trend>,
    /// The limit that it grew towards.
    pub limit: Option<Ceiling>,
    /// How it was killed, where it was.
    pub end: Option<Ending>,
    /// When the observation ended.
    pub until: Option<Timestamp>,
    /// Others over the same time.
    pub beside: Vec<Beside>,
    /// The host's available memory over the same time.
    pub host: Option<Available>,
}

/// A rate over the window that a verdict rests on, and where the line through it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Where the window begins.
    pub from: Timestamp,
    /// Where it ends.
    pub to: Timestamp,
    /// The rate with its confidence interval.
    pub rate: Rate,
    /// The middle of the samples in the window, through which every line of the band goes.
    centre: (Timestamp, f64),
}

/// A limit, as the footprint at which it is reached if nobody else moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceiling {
    /// That footprint.
    pub at: Bytes,
    /// Which limit.
    pub name: Line,
}

/// The end of a process that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// When the signal was sent that ended it.
    pub killed_at: Timestamp,
    /// What it held right before.
    pub held: Option<Bytes>,
    /// When it was seen dead.
    pub died_at: Option<Timestamp>,
}

/// Another process over the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct Beside {
    /// Which one.
    pub name: Line,
    /// Its footprint.
    pub points: Curve,
    /// What was thought of it.
    pub verdict: &'static str,
}

/// The host's available memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Available {
    /// `MemAvailable` over time.
    pub points: Curve,
    /// `MemTotal`.
    pub total: Bytes,
}

impl Chart {
    /// At most `count` of the samples, evenly apart, the first and the last among them.
    pub fn thinned(&self, count: usize) -> Curve {
        thinned(&self.points, count)
    }

    /// The footprint up to its end: what was read right before the signal and the nothing after the death included.
    pub fn drawn(&self) -> Curve {
        let mut points = self.points.clone();
        let Some(Ending { killed_at, held, died_at }) = self.end else { return points };
        points.retain(|&(at, _)| at <= killed_at);
        points.extend(held.map(|held| (killed_at, held)));
        if let Some(died) = died_at {
            let last = points.last().map(|&(_, bytes)| bytes);
            points.extend(held.or(last).map(|held| (died, held)));
            points.push((died, Bytes::ZERO));
            points.extend(self.until.filter(|until| *until > died).map(|until| (until, Bytes::ZERO)));
        }
        points
    }

    /// Everything but the curve itself, in sentences.
    pub fn in_words(&self) -> Vec<Line> {
        let mut words = Vec::new();
        let clock = self.clock();
        words.extend(self.trend.as_ref().map(|trend| trend.in_words(clock)));
        words.extend(self.limit.as_ref().map(|limit| limit.in_words(self.most())));
        words.extend(self.end.as_ref().and_then(|end| end.in_words(clock)));
        words.extend(self.beside.iter().filter_map(|other| other.in_words(clock)));
        words
    }

    /// How its dates are written.
    pub(super) fn clock(&self) -> Clock {
        let ends = self.points.first().zip(self.points.last());
        ends.map_or(Clock::within(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH), |(first, last)| {
            Clock::within(first.0, last.0)
        })
    }

    /// The largest footprint that was read.
    pub fn most(&self) -> Bytes {
        let held = self.end.and_then(|end| end.held);
        self.points.iter().map(|&(_, bytes)| bytes).chain(held).max().unwrap_or_default()
    }
}

/// At most `count` of `points`, evenly apart, the first and the last among them.
pub(super) fn thinned(points: &[(Timestamp, Bytes)], count: usize) -> Curve {
    let last = points.len().saturating_sub(1);
    if points.len() <= count || count < 2 {
        return points.to_vec();
    }
    (0..count).map(|i| points[i * last / (count - 1)]).collect()
}

/// What `points` said at a time: the last reading by then.
pub(super) fn at_or_before(points: &[(Timestamp, Bytes)], at: Timestamp) -> Option<Bytes> {
    points.iter().take_while(|(read, _)| *read <= at).last().map(|&(_, bytes)| bytes)
}

impl Trend {
    /// Lays `rate` through the samples between `from` and `to`; `None` where there are fewer than two.
    pub fn through(
        points: &[(Timestamp, Bytes)],
        from: Timestamp,
        to: Timestamp,
        rate: Rate,
    ) -> Option<Self> {
        let inside: Vec<_> = points.iter().filter(|(at, _)| (from..=to).contains(at)).collect();
        if inside.len() < 2 {
            return None;
        }
        let count = inside.len() as f64;
        let after = inside.iter().map(|(at, _)| between(from, *at)).sum::<f64>() / count;
        let level = inside.iter().map(|(_, bytes)| bytes.as_f64()).sum::<f64>() / count;
        let centre = (from + std::time::Duration::from_secs_f64(after.max(0.0)), level);
        Some(Self { from, to, rate, centre })
    }

    /// The line at a time, and the edges of its band: lower, line, upper.
    pub fn at(&self, at: Timestamp) -> [f64; 3] {
        let (centre, level) = self.centre;
        let after = between(centre, at);
        let line = |rate: f64| level + rate * after;
        let (low, high) = (line(self.rate.low.0), line(self.rate.high.0));
        [low.min(high).max(0.0), line(self.rate.mean.0).max(0.0), low.max(high).max(0.0)]
    }

    fn in_words(&self, clock: Clock) -> Line {
        let [low, last, high] = self.at(self.to).map(bytes);
        let [_, first, _] = self.at(self.from).map(bytes);
        let window = span(self.to.duration_since(self.from).unsigned_abs());
        let ends = match (low.to_string(), high.to_string()) {
            (low, high) if low == high => String::new(),
            (low, high) => format!(", or by the ends of its confidence interval between {low} and {high}"),
        };
        format!(
            "The fitted trend over the {window} that the verdict rests on: {}, from {first} at {} to {last} at {}{ends}.",
            self.rate.mean,
            clock.show(self.from),
            clock.show(self.to)
        )
        .into()
    }
}

impl Ceiling {
    fn in_words(&self, most: Bytes) -> Line {
        let line = self.name.clone().text(format!(" would be reached at a footprint of about {}", self.at));
        line.text(format!("{} (if nobody else under it moves; an estimate).", self.times(most)))
    }

    /// How far it is above what was read: `, 6700 times what it held`.
    pub fn times(&self, most: Bytes) -> String {
        match self.at.as_f64() / most.as_f64().max(1.0) {
            times if times >= 9.5 => format!(", {times:.0} times what it held"),
            times if times >= 1.05 => format!(", {times:.1} times what it held"),
            _ => String::new(),
        }
    }
}

impl Ending {
    fn in_words(&self, clock: Clock) -> Option<Line> {
        let (held, died) = (self.held?, self.died_at?);
        let took = span(died.duration_since(self.killed_at).unsigned_abs());
        let at = clock.show(self.killed_at);
        Some(format!("It held {held} when the signal was sent at {at}, and nothing {took} later.").into())
    }
}

impl Beside {
    fn in_words(&self, clock: Clock) -> Option<Line> {
        let (&(from, first), &(to, last)) = (self.points.first()?, self.points.last()?);
        let least = self.points.iter().map(|&(_, bytes)| bytes).min()?;
        let most = self.points.iter().map(|&(_, bytes)| bytes).max()?;
        let held = if least.to_string() == most.to_string() {
            format!(" held {most} from {} to {}", clock.show(from), clock.show(to))
        } else {
            format!(
                " held {first} at {} and {last} at {}, never less than {least} nor more than {most}",
                clock.show(from),
                clock.show(to)
            )
        };
        let line = self.name.clone().text(", which looks like it,").text(held);
        Some(line.text(format!(": {}.", self.verdict)))
    }
}

pub(super) fn between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size: positive; saturates")]
pub(super) fn bytes(size: f64) -> Bytes {
    Bytes(size as u64)
}

/// How dates are written: the hour alone says too little of more than a day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(&'static str);

impl Clock {
    /// For times within this span.
    pub(super) fn within(from: Timestamp, to: Timestamp) -> Self {
        const DAY: f64 = 86_400.0;
        Self(if between(from, to) > DAY { "%m-%d %H:%M" } else { "%H:%M:%S" })
    }

    pub(super) fn show(self, at: Timestamp) -> impl std::fmt::Display {
        at.strftime(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::units::BytesPerSec;

    fn at(second: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn rate(low: f64, mean: f64, high: f64) -> Rate {
        Rate { low: BytesPerSec(low), mean: BytesPerSec(mean), high: BytesPerSec(high) }
    }

    #[test]
    fn the_trend_of_a_straight_growth_lies_on_its_samples_and_its_band_is_narrowest_in_their_middle() {
        let points: Curve = (0..=100).map(|s| (at(s), Bytes(5_000_000 + 1000 * s))).collect();
        let trend = Trend::through(&points, at(40), at(100), rate(900.0, 1000.0, 1100.0)).unwrap();
        assert_eq!(trend.at(at(40)).map(bytes), [5_037_000, 5_040_000, 5_043_000].map(Bytes));
        assert_eq!(trend.at(at(70)).map(bytes), [5_070_000; 3].map(Bytes));
        assert_eq!(trend.at(at(100)).map(bytes), [5_097_000, 5_100_000, 5_103_000].map(Bytes));
        assert_eq!(Trend::through(&points, at(200), at(300), rate(0.0, 1.0, 2.0)), None);
    }

    #[test]
    fn a_curve_ends_where_the_process_did_and_not_at_its_last_sample() {
        let end = Ending { killed_at: at(10), held: Some(Bytes(120)), died_at: Some(at(11)) };
        let chart = Chart {
            points: vec![(at(0), Bytes(1)), (at(9), Bytes(100)), (at(12), Bytes(7))],
            end: Some(end),
            until: Some(at(15)),
            ..Chart::default()
        };
        let drawn: Vec<_> = chart.drawn().iter().map(|(at, bytes)| (at.as_second(), bytes.0)).collect();
        assert_eq!(drawn, [(0, 1), (9, 100), (10, 120), (11, 120), (11, 0), (15, 0)]);
        assert_eq!(chart.most(), Bytes(120));
        let refused = Chart { end: None, ..chart };
        assert_eq!(refused.drawn(), refused.points, "who was not killed has no end");
    }

    #[test]
    fn what_takes_days_has_dates() {
        let chart =
            |seconds| Chart { points: vec![(at(0), Bytes(1)), (at(seconds), Bytes(2))], ..Chart::default() };
        assert_eq!(chart(3600).clock().show(at(60)).to_string(), "00:01:00");
        assert_eq!(chart(200_000).clock().show(at(90_000)).to_string(), "01-02 01:00");
    }

    #[test]
    fn what_a_process_held_at_a_time_is_its_last_reading_by_then() {
        let points = [(at(1), Bytes(10)), (at(5), Bytes(50))];
        assert_eq!(
            [0, 1, 4, 5, 9].map(|s| at_or_before(&points, at(s)).map(|b| b.0)),
            [None, Some(10), Some(10), Some(50), Some(50)]
        );
    }
}
