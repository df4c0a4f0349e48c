//! Who shares which limit: all that grow below a limit use it up together.
//!
//! So the limit that is reached first need not be the one with the least room: an outer one may leave more and have ten
//! growers below it. Start reading at [`Shares::time_to_oom`].

use std::collections::HashMap;

use super::Tracked;
use crate::leak::{Demand, Limit, Rate, State, TimeToOom, tightest, time_to_oom};

/// What grows below each limit, as of one batch.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<Limit, Demand>);

impl Shares {
    /// Adds up what these processes take.
    pub(super) fn of<'a>(processes: impl Iterator<Item = &'a Tracked>) -> Self {
        let mut shares = HashMap::new();
        for (tracked, rate) in processes.filter_map(|tracked| Some((tracked, demanded(tracked)?))) {
            for room in tracked.rooms() {
                // A path is copied for the first process below it only.
                match shares.get_mut(&room.limit) {
                    Some(demand) => *demand = Demand::and(*demand, &rate),
                    None => drop(shares.insert(room.limit.clone(), Demand::of(&rate))),
                }
            }
        }
        Self(shares)
    }

    /// When the first of the limits above a process would be reached; `None` while it does not grow, or before its limits
    /// were read.
    pub(super) fn time_to_oom(&self, tracked: &Tracked) -> Option<TimeToOom> {
        let rate = tracked.verdict().rate.filter(|rate| rate.mean.0 > 0.0)?;
        let counted = demanded(tracked).is_some();
        let times = tracked.rooms().iter().filter_map(|room| {
            let demand = match self.0.get(&room.limit) {
                Some(demand) if counted => *demand,
                Some(others) => others.and(&rate),
                None => Demand::of(&rate),
            };
            time_to_oom(room.clone(), &demand)
        });
        tightest(times)
    }
}

/// What a process takes from those that share a limit with it: its growth, where that has lasted as long as a suspicion
/// takes. A compiler that grows by a gigabyte a second for two seconds must not make days of a leak into minutes.
fn demanded(tracked: &Tracked) -> Option<Rate> {
    let goes_on = tracked.verdict().state.severity() >= State::Suspect.severity() && !tracked.is_settled();
    tracked.verdict().rate.filter(|rate| goes_on && rate.mean.0 > 0.0)
}
