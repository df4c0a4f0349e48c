//! The kernel side leaves nothing behind, however its holder ends. Needs root, as `kernel_counts` does.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use leakscope::source::{KernelOptions, KernelSource, Source as _};
use leakscope::units::Pid;
use leakscope_tests::{Watch, programs_held};

fn still_loaded(ids: &[u32]) -> bool {
    aya::programs::loaded_programs().flatten().any(|program| ids.contains(&program.id()))
}

/// The kernel frees programs a moment after their last descriptor is gone.
async fn freed(ids: &[u32]) -> bool {
    for _ in 0..100 {
        if !still_loaded(ids) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

#[tokio::test]
async fn nothing_is_left_loaded_after_a_drop() -> Result<()> {
    let options = KernelOptions { period: Duration::from_millis(100), ..KernelOptions::default() };
    let mut source = KernelSource::open(&options).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut watch = Watch::default();
    watch.next(&mut source).await?;
    source.inspect(&[watch.key(Pid(std::process::id()))?])?;
    let ids: Vec<u32> = source.status()?.attached.iter().filter_map(|attached| attached.id).collect();
    assert!(ids.len() >= 12, "{ids:?}");
    assert!(still_loaded(&ids));
    drop(source);
    assert!(freed(&ids).await, "left behind: {ids:?}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_loaded_after_a_kill() -> Result<()> {
    use std::io::BufRead as _;
    let mut holder = Command::new(env!("CARGO_BIN_EXE_hold_source"))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let mut line = String::new();
    let stdout = holder.stdout.take().context("stdout")?;
    std::io::BufReader::new(stdout).read_line(&mut line)?;
    assert_eq!(line, "ready\n");
    let held = programs_held(Pid(holder.id()))?;
    assert!(held.len() >= 12, "{held:?}");
    assert!(still_loaded(&held));
    holder.kill()?;
    holder.wait()?;
    assert!(freed(&held).await, "left behind by a killed process: {held:?}");
    Ok(())
}
