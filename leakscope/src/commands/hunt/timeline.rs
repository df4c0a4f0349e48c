//! What happened when, as the report tells it: bounded, in the order of the dates, and honest about what was left out.

use std::collections::VecDeque;

use jiff::Timestamp;

/// So many entries are kept from the start, and as many from the end: more than a report shows.
const HALF: usize = 256;

/// A timeline in the making.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    first: Vec<(Timestamp, String)>,
    last: VecDeque<(Timestamp, String)>,
    left_out: usize,
}

impl Timeline {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(super) fn push(&mut self, at: Timestamp, text: String) {
        if self.first.len() < HALF {
            self.first.push((at, text));
            return;
        }
        if self.last.len() == HALF {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back((at, text));
    }

    /// The entries in the order of their dates, and how many were left out between the first and the last half. A signal
    /// is noted when its kill is over, and stands where it was sent.
    pub(super) fn finish(self) -> (Vec<(Timestamp, String)>, usize) {
        let mut entries = self.first;
        let kept = entries.len();
        entries.extend(self.last);
        if self.left_out == 0 {
            entries.sort_by_key(|(at, _)| *at);
        } else {
            // The gap stays where it is.
            entries[..kept].sort_by_key(|(at, _)| *at);
            entries[kept..].sort_by_key(|(at, _)| *at);
        }
        (entries, self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn a_month_of_news_keeps_its_ends_and_counts_the_rest() {
        let mut timeline = Timeline::default();
        for second in 0..100_000 {
            timeline.push(at(second), format!("news {second}"));
        }
        let (entries, left_out) = timeline.finish();
        assert_eq!((entries.len(), left_out), (2 * HALF, 100_000 - 2 * HALF));
        assert_eq!((entries[0].0, entries[HALF - 1].0), (at(0), at(HALF as u64 - 1)));
        assert_eq!(entries.last().unwrap().1, "news 99999");
    }

    #[test]
    fn what_is_noted_late_stands_where_it_happened() {
        let mut timeline = Timeline::default();
        for second in [0, 9, 4, 4] {
            timeline.push(at(second), format!("news {second}"));
        }
        let (entries, left_out) = timeline.finish();
        let order: Vec<_> = entries.iter().map(|(at, _)| at.as_second()).collect();
        assert_eq!((order, left_out), (vec![0, 4, 4, 9], 0));
    }
}
