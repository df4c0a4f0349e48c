//! What this kernel says of its tracepoints, against what the kernel side expects and what was recorded of its series.
//! `LEAKSCOPE_CONTRACT` names a file to write it to: `cargo xtask test --vm --record` collects those. Needs root.

use anyhow::{Context as _, Result, ensure};
use leakscope::source::{Contract, recorded_contracts};
use leakscope_tests::command::require_root;

#[test]
fn the_tracepoints_of_this_kernel_are_those_that_are_read_and_that_were_recorded_of_its_series() -> Result<()>
{
    require_root();
    let contract =
        Contract::of_the_running_kernel().map_err(|error| anyhow::anyhow!("{error}; fix: {}", error.fix))?;
    if let Some(file) = std::env::var_os("LEAKSCOPE_CONTRACT") {
        std::fs::write(file, serde_json::to_string(&contract)?)?;
    }
    contract.holds().map_err(|error| anyhow::anyhow!("{error}; fix: {}", error.fix))?;
    ensure!(contract.formats.len() == 15, "these are not all tracepoints: {contract:?}");
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let series = release.split('.').take(2).collect::<Vec<_>>().join(".");
    // A kernel of no recorded series is a newer one, or one of a distribution that is not tried here.
    if let Some(recorded) = recorded_contracts()?.get(&series) {
        for (event, fields) in &recorded.formats {
            let found = contract.formats.get(event).with_context(|| format!("{event} is gone"))?;
            ensure!(found == fields, "{event} of {series} was recorded as {fields:?} and is {found:?}");
        }
        ensure!(recorded.arguments == contract.arguments, "{:?} was recorded", recorded.arguments);
    }
    Ok(())
}
