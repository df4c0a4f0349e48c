//! leakscope's kernel source without room: its map of processes and its ring are full all the time, and what it says was
//! lost is compared with what the kernel side counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::maps::{Map, MapData, PerCpuArray};
use leakscope::source::{KernelOptions, KernelSource};

use crate::Watch;

/// Batches that are taken at the end until one is told in a moment of rest.
const LAST: usize = 40;

/// What was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Batches in which what was told lay between what was counted before and after.
    pub batches: usize,
    /// What was told in the last of them.
    pub lost: u64,
}

/// Such a source in this process, and the counters of its kernel side.
pub struct Cramped {
    source: KernelSource,
    tallies: PerCpuArray<MapData, [u64; 16]>,
    watch: Watch,
}

impl Cramped {
    /// Room for 64 processes and 128 records, a batch each second.
    ///
    /// # Errors
    /// When the source cannot be opened.
    pub fn open() -> Result<Self> {
        let options = KernelOptions {
            period: Duration::from_secs(1),
            ring_bytes: Some(4096),
            max_processes: Some(64),
            ..KernelOptions::default()
        };
        let source = KernelSource::open(&options).map_err(|error| anyhow!("{error}"))?;
        let tallies = Map::PerCpuArray(own_map("TALLIES")?).try_into()?;
        Ok(Self { source, tallies, watch: Watch::default() })
    }

    fn counted(&self) -> Result<u64> {
        // The first six are losses, see `Tally`; the others are nobody's.
        Ok(self.tallies.get(&0, 0)?.iter().map(|cpu| cpu[..6].iter().sum::<u64>()).sum())
    }

    /// Takes a batch and compares. The losses that were told, and whether as many were counted before and after: the host
    /// need not stand still in between.
    ///
    /// # Errors
    /// When fewer or more are told than were counted.
    pub async fn compare(&mut self) -> Result<(u64, bool)> {
        let before = self.counted()?;
        self.watch.next(&mut self.source).await?;
        // What no program saw, no program of ours counted.
        let lost = self.watch.batch.as_ref().context("a batch")?.lost.total() - self.watch.missed();
        let after = self.counted()?;
        ensure!(before <= lost && lost <= after, "{lost} losses were told, {before} to {after} counted");
        // What is remembered of processes that have gone is no part of the source.
        self.watch = Watch { batch: self.watch.batch.take(), ..Watch::default() };
        Ok((lost, before == after))
    }

    /// Compares until a moment of rest, in which something had been lost.
    ///
    /// # Errors
    /// As [`Self::compare`], when there was no such moment, or nothing was lost.
    pub async fn settle(&mut self) -> Result<Losses> {
        for batches in 1..=LAST {
            if let (lost, true) = self.compare().await? {
                ensure!(lost > 0, "nothing was lost where there was no room");
                return Ok(Losses { batches, lost });
            }
        }
        bail!("there was no moment of rest in which told and counted losses could be compared")
    }
}

/// A map of this process', by its name: read past everything that leakscope does with it.
fn own_map(name: &str) -> Result<MapData> {
    for entry in std::fs::read_dir("/proc/self/fdinfo")? {
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse::<u32>().ok());
        let Some(id) = id else { continue };
        let map = MapData::from_id(id)?;
        if map.info()?.name_as_str() == Some(name) {
            return Ok(map);
        }
    }
    bail!("no map {name} is held")
}

/// A cramped source on a thread of its own.
pub struct Beside {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Result<Losses>>,
}

impl Beside {
    /// Opens it and has it compare batch by batch.
    ///
    /// # Errors
    /// When there is no runtime for it; what fails later is told by [`Self::end`].
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let enough = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let enough = Arc::clone(&enough);
            move || {
                runtime.block_on(async {
                    let mut cramped = Cramped::open()?;
                    let mut losses = Losses::default();
                    while !enough.load(Ordering::Relaxed) {
                        losses.lost = cramped.compare().await?.0;
                        losses.batches += 1;
                    }
                    ensure!(losses.lost > 0, "nothing was lost where there was no room");
                    Ok(losses)
                })
            }
        });
        Ok(Self { enough, thread })
    }

    /// Lets it come to its end.
    ///
    /// # Errors
    /// What it found wrong.
    pub fn end(self) -> Result<Losses> {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the source without room panicked"))?
    }
}
