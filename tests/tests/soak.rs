//! A minute of `cargo xtask soak`, and losses that are forced: what is told of them is what the kernel side counted.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use leakscope_tests::Obedient;
use leakscope_tests::command::{pause, require_root};
use leakscope_tests::soak::cramped::Cramped;
use leakscope_tests::soak::{self, Options};

const OBEDIENT: &str = env!("CARGO_BIN_EXE_obedient");

#[test]
fn while_processes_come_and_go_leakscope_does_not_grow_and_every_leaker_is_found() -> Result<()> {
    require_root();
    let options = Options { span: Duration::from_secs(50), jump_clocks: false };
    let outcome = soak::run(Path::new(OBEDIENT), &options)?;
    eprintln!("{outcome}");
    outcome.judge().with_context(|| outcome.to_string())
}

#[tokio::test]
async fn losses_that_are_told_are_those_that_the_kernel_side_counted() -> Result<()> {
    require_root();
    let mut cramped = Cramped::open()?;
    cramped.compare().await?;
    let mut keeper = Obedient::start(OBEDIENT)?;
    // More than there is room for come and go between two batches.
    for _ in 0..10 {
        for _ in 0..5 {
            keeper.obey("churn 40")?;
            pause(Duration::from_millis(100));
        }
    }
    drop(keeper);
    // The host does not stand still: between the batch and the look at the map something else may be lost.
    cramped.settle().await?;
    Ok(())
}
