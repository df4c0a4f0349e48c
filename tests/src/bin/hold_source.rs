//! Opens the kernel side, inspects itself, says `ready`, and waits to be killed.

use leakscope::source::{KernelOptions, KernelSource, Source as _};
use leakscope::units::Pid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut source = KernelSource::open(&KernelOptions::default())?;
    let own = Pid(std::process::id());
    loop {
        let Some(batch) = source.next_batch().await? else { return Ok(()) };
        if let Some(reading) = batch.readings.iter().find(|reading| reading.key.pid == own) {
            source.inspect(&[reading.key])?;
            println!("ready");
        }
    }
}
