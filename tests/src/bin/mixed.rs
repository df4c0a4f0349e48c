//! Records this host while programs of known truth run on it, and says whether each of them was judged rightly and whether
//! the recording is judged as the live host was: `cargo xtask bench mixed` starts the programs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use leakscope::leak::Thresholds;
use leakscope::report::SeriesReport;
use leakscope::source::Wanted;
use leakscope::units::{Bytes, Pid};
use leakscope_tests::judged::{Told, recorded, replayed, said};

/// How long clean growth must have lasted: what `analyze`, and a hunt that asks nobody, wait for.
const CONFIRM: Thresholds = Thresholds { confirm: Duration::from_secs(300) };

/// A program, and what is true of it.
struct Program {
    name: String,
    pid: Pid,
    /// What it leaks, in bytes a second; `None` of a healthy one.
    rate: Option<f64>,
}

impl Program {
    /// From `NAME=PID=healthy` or `NAME=PID=RATE`.
    fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('=').collect();
        let [name, pid, truth] = parts[..] else {
            bail!("`{text}` is not NAME=PID=RATE or NAME=PID=healthy")
        };
        let rate = if truth == "healthy" { None } else { Some(truth.parse().context("its rate")?) };
        Ok(Self { name: name.to_owned(), pid: Pid(pid.parse().context("its pid")?), rate })
    }

    /// Prints what was thought of it; whether that is right.
    fn tell(&self, told: &Told) -> bool {
        let of_it = told.iter().filter(|((pid, _), _)| *pid == Some(self.pid));
        let parts: Vec<&SeriesReport> = of_it.flat_map(|(_, series)| series).collect();
        let Some(last) = parts.last() else {
            println!("{:<20} was never read: WRONG", self.name);
            return false;
        };
        let changes = || parts.iter().flat_map(|series| &series.transitions);
        let confirmed_at = changes().find(|change| change.confirmed).map(|change| change.at_s);
        let right = match self.rate {
            Some(_) => last.confirmed && !last.ended,
            None => confirmed_at.is_none(),
        };
        let truth = self.rate.map_or_else(|| "healthy".to_owned(), |rate| format!("leaks {rate:.0} B/s"));
        let rate = last.rate.rate().map_or_else(String::new, |rate| format!("{:.0} B/s", rate.mean.0));
        let confirmed = confirmed_at.map_or_else(|| "never".to_owned(), |at| format!("after {at:.0} s"));
        println!(
            "{:<20} {truth:<18} {:<12} {rate:<12} confirmed {confirmed:<12} {} samples, {} changes: {}",
            self.name,
            last.verdict.name(),
            parts.iter().map(|series| series.samples).sum::<u64>(),
            changes().count(),
            if right { "right" } else { "WRONG" }
        );
        for change in changes().filter(|_| !right) {
            println!(
                "    {:>8.2} s  {} {}",
                change.at_s,
                change.verdict.name(),
                if change.confirmed { "confirmed" } else { "" }
            );
        }
        right
    }
}

async fn run() -> Result<bool> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().context("SECONDS FILE NAME=PID=RATE…")?.parse().context("SECONDS")?;
    let path = PathBuf::from(arguments.next().context("FILE")?);
    let programs = arguments.map(|text| Program::parse(&text)).collect::<Result<Vec<_>>>()?;
    let (span, every) = (Duration::from_secs(seconds), Duration::from_secs(1));
    let (live, written) = recorded(&path, Wanted::Ebpf, every, CONFIRM, span).await?;
    let file = std::fs::File::open(&path).with_context(|| format!("reading {}", path.display()))?;
    let (again, batches) = replayed(std::io::BufReader::new(file), CONFIRM).await?;

    let mut right = true;
    for program in &programs {
        right &= program.tell(&live);
    }
    let transitions =
        |told: &Told| told.values().flatten().map(|series| series.transitions.len()).sum::<usize>();
    println!(
        "live: {} processes, {} transitions in {} batches; replayed: {} processes, {} transitions in {batches} batches",
        live.len(),
        transitions(&live),
        written.batches,
        again.len(),
        transitions(&again)
    );
    let same = said(&live) == said(&again);
    println!(
        "the recording is judged {} the live host was",
        if same { "exactly as" } else { "OTHERWISE than" }
    );
    let day = written.bytes as f64 / seconds as f64 * 86_400.0;
    println!(
        "recorded: {} readings of {} processes, {}: {:.1} bytes a reading, {:.1} MB a day",
        written.readings,
        written.processes,
        Bytes(written.bytes),
        written.bytes as f64 / written.readings as f64,
        day / 1e6
    );
    Ok(right && same)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    Ok(if run().await? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
