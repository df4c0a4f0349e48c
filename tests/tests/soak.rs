//! A minute of `cargo xtask soak`, and losses that are forced: what is told of them is what the kernel side counted.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, PerCpuArray};
use leakscope::source::{KernelOptions, KernelSource};
use leakscope_tests::command::{pause, require_root};
use leakscope_tests::{Obedient, Watch, soak};

const OBEDIENT: &str = env!("CARGO_BIN_EXE_obedient");

#[test]
fn while_processes_come_and_go_leakscope_does_not_grow_and_every_leaker_is_found() -> Result<()> {
    require_root();
    let outcome = soak::run(Path::new(OBEDIENT), Duration::from_secs(50))?;
    eprintln!("{outcome}");
    outcome.judge().with_context(|| outcome.to_string())
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
    anyhow::bail!("no map {name} is held")
}

#[tokio::test]
async fn losses_that_are_told_are_those_that_the_kernel_side_counted() -> Result<()> {
    require_root();
    // Room for 128 records and 64 processes, and more than that come and go between two batches.
    let options = KernelOptions {
        period: Duration::from_secs(1),
        ring_bytes: Some(4096),
        max_processes: Some(64),
        ..KernelOptions::default()
    };
    let mut source = KernelSource::open(&options).map_err(|error| anyhow::anyhow!("{error}"))?;
    let tallies: PerCpuArray<MapData, [u64; 16]> = Map::PerCpuArray(own_map("TALLIES")?).try_into()?;
    let counted = || -> Result<u64> {
        // The first six are losses, see `Tally`; the others are nobody's.
        Ok(tallies.get(&0, 0)?.iter().map(|cpu| cpu[..6].iter().sum::<u64>()).sum())
    };
    let mut watch = Watch::default();
    watch.next(&mut source).await?;
    let mut keeper = Obedient::start(OBEDIENT)?;
    for _ in 0..10 {
        for _ in 0..5 {
            keeper.obey("churn 40")?;
            pause(Duration::from_millis(100));
        }
    }
    drop(keeper);
    // The host does not stand still: between the batch and the look at the map something else may be lost.
    for _ in 0..20 {
        let before = counted()?;
        watch.next(&mut source).await?;
        let lost = watch.batch.as_ref().context("a batch")?.lost.total();
        let after = counted()?;
        assert!(lost >= before && lost <= after, "{before} <= {lost} <= {after} does not hold");
        assert!(before > 0, "nothing was lost where there was no room");
        if before == after {
            return Ok(());
        }
    }
    anyhow::bail!("there was no moment of rest in which the two could be compared")
}
