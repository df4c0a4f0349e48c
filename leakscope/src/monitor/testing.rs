//! A service whose workers each leak too slowly to be told alone, as a source and a directory say it.

use std::time::Duration;

use jiff::Timestamp;

use crate::leak::{Memory, Room};
use crate::process::{Directory, Host, Identity, testing};
use crate::source::{Batch, Event, HostMemory, Lost, Reading, Source, SourceKind};
use crate::units::{Bytes, Moment, Pid, ProcKey, Ticks};

/// How many workers there are.
pub(crate) const WORKERS: u32 = 40;
/// Bytes a second that each of them leaks.
pub(crate) const RATE: f64 = 1000.0;
/// What each worker's footprint goes up and down by, at random.
const NOISE: f64 = 1e6;

/// Workers of one service, read once a second.
pub(crate) struct Workers {
    /// The next second.
    pub(crate) second: u64,
    /// When it is over.
    pub(crate) seconds: u64,
    /// When all of them end; never, if that is later.
    pub(crate) end_at: u64,
}

impl Workers {
    /// So many seconds of it.
    pub(crate) fn for_seconds(seconds: u64) -> Self {
        Self { second: 0, seconds, end_at: u64::MAX }
    }
}

/// One of them.
pub(crate) fn worker(number: u32) -> ProcKey {
    ProcKey { pid: Pid(1000 + number), start: Ticks(5000 + u64::from(number)) }
}

impl Source for Workers {
    fn kind(&self) -> SourceKind {
        SourceKind::Procfs
    }

    async fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        let second = self.second;
        self.second += 1;
        let reading = |number| Reading {
            key: worker(number),
            memory: Memory { anon: footprint(second, number), ..Memory::default() },
            kernel: None,
            faults: Vec::new(),
        };
        let there = if second < self.end_at { WORKERS } else { 0 };
        let gone = if second == self.end_at { WORKERS } else { 0 };
        let batch = Batch {
            at: Moment(1_000_000_000 * (second + 1)),
            wall: Timestamp::UNIX_EPOCH + Duration::from_secs(second),
            host: HostMemory { total: Bytes(8 << 30), available: Bytes(4 << 30), ..HostMemory::default() },
            readings: (0..there).map(reading).collect(),
            events: (0..gone).map(|number| Event::Exit { key: worker(number), status: None }).collect(),
            lost: Lost::default(),
        };
        Ok((second < self.seconds).then_some(batch))
    }

    fn inspect(&mut self, _: &[ProcKey]) -> anyhow::Result<()> {
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive sizes")]
fn footprint(second: u64, number: u32) -> Bytes {
    let x = (second as f64 * 12.9898 + f64::from(number) * 78.233).sin() * 43_758.545;
    let noise = 2.0 * (x - x.floor()) - 1.0;
    Bytes(((50e6 + RATE * second as f64 + NOISE * noise) / 4096.0) as u64 * 4096)
}

/// Says that all are workers of one parent.
pub(crate) struct OneParent;

impl Directory for OneParent {
    fn identify(&mut self, key: ProcKey) -> Option<Identity> {
        Some(Identity { key, ppid: Pid(500), ..testing::identity(key.pid.0) })
    }

    fn rooms(&mut self, _: &Identity, _: &Host, _: Moment) -> Option<Vec<Room>> {
        Some(Vec::new())
    }
}
