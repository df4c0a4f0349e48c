//! leakscope for so many minutes while processes come and go: `cargo xtask soak` builds it, and names the binary in
//! `LEAKSCOPE_BIN`.

use std::time::Duration;

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let minutes: u64 = std::env::args().nth(1).context("how many minutes?")?.parse()?;
    let own = std::env::current_exe()?;
    let obedient = own.parent().context("a folder")?.join("obedient");
    let outcome = leakscope_tests::soak::run(&obedient, Duration::from_secs(60 * minutes))?;
    println!("{outcome}");
    outcome.judge()
}
