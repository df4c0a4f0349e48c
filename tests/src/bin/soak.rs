//! leakscope for so many minutes while processes come and go: `cargo xtask soak` builds it, and names the binary in
//! `LEAKSCOPE_BIN`. With `--jump-clocks` the host's clock is set back and forward in the meantime.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use leakscope_tests::soak::{self, Options};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let minutes: u64 = arguments.next().context("how many minutes?")?.parse()?;
    let jump_clocks = match arguments.next().as_deref() {
        None => false,
        Some("--jump-clocks") => true,
        Some(other) => bail!("{other}: only --jump-clocks is known"),
    };
    let own = std::env::current_exe()?;
    let obedient = own.parent().context("a folder")?.join("obedient");
    let outcome = soak::run(&obedient, &Options { span: Duration::from_secs(60 * minutes), jump_clocks })?;
    println!("{outcome}");
    outcome.judge()
}
