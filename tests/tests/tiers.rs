//! The two tiers of tracing, on the binary as its users run it: what costs the whole host something is attached while
//! somebody is suspected, and not before or after. (`kernel_counts` holds the same for the source alone.)

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use leakscope::source::{KernelOptions, KernelSource};
use leakscope::units::Pid;
use leakscope_tests::command::{leakscope, pause, require_root, wait_until};
use leakscope_tests::{Obedient, programs_held};

/// What is attached always: five programs that count, and the one that sees the OOM killer.
const COUNT_PROGRAMS: usize = 6;

struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Watch {
    /// Programs that it has attached: each is a link among its descriptors, or before 5.15, at a classic tracepoint, an
    /// event.
    fn attached(&self) -> Result<usize> {
        let (mut links, mut perf_links, mut events) = (0, 0, 0);
        for entry in std::fs::read_dir(format!("/proc/{}/fd", self.0.id()))?.flatten() {
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            events += usize::from(target.as_os_str() == "anon_inode:[perf_event]");
            let info = format!("/proc/{}/fdinfo/{}", self.0.id(), entry.file_name().to_string_lossy());
            let info = std::fs::read_to_string(info).unwrap_or_default();
            perf_links += usize::from(info.lines().any(|line| line == "link_type:\tperf"));
            links += usize::from(info.lines().any(|line| line.starts_with("link_type:")));
        }
        Ok(links - perf_links + perf_links.max(events))
    }
}

#[test]
fn the_calls_of_suspects_are_traced_while_somebody_is_suspected_and_not_before_or_after() -> Result<()> {
    require_root();
    let here = KernelSource::open(&KernelOptions::default()).map_err(|error| anyhow!("{error}"))?;
    let programs = here.status()?.calls.context("they can be traced")?.programs();
    drop(here);
    let obedient = env!("CARGO_BIN_EXE_obedient");
    let (mut quiet, mut leaker) = (Obedient::start(obedient)?, Obedient::start(obedient)?);
    quiet.obey("touch 100")?;
    leaker.obey("touch 100")?;
    let mut command = leakscope();
    command.args(["watch", "--json", "--interval", "1s", "--source", "ebpf"]);
    // Only these two can be suspected, whatever else this host does.
    for pid in [quiet.pid(), leaker.pid()] {
        command.args(["--pid", &pid.to_string()]);
    }
    let watch = Watch(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    let loaded = || programs_held(Pid(watch.0.id())).is_ok_and(|held| held.len() >= 12);
    wait_until("the kernel side", loaded);
    pause(Duration::from_secs(2));
    let before = watch.attached()?;
    assert!(before <= COUNT_PROGRAMS, "{before} attached without a suspect");
    wait_until("the closer look at a suspect", || {
        // A leak as steady as a clock, in between the looks.
        let leaks = leaker.obey("touch 6").is_ok();
        leaks && watch.attached().is_ok_and(|attached| attached == before + programs)
    });
    leaker.kill()?;
    leaker.wait().context("the leaker's end")?;
    wait_until("the end of the closer look", || watch.attached().is_ok_and(|attached| attached == before));
    Ok(())
}
