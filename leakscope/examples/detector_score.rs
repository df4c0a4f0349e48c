//! Judges series read from CSV files and prints every change of mind: for comparing the detector with others, trace by
//! trace. A laboratory tool; `leakscope analyze` is the one for users.
//!
//! Usage: `detector_score [--confirm SECONDS] [--every SECONDS] FILE...`. Columns: `at_s,anon,file,shmem,swap,host_shmem,room`
//! in bytes, no quoting. Prints, for each file, `# NAME`, then a line `at_s state confirmed rate low high span`
//! whenever state, confirmation or rate changes.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use leakscope::leak::{Detector, Memory, Sample, Thresholds};
use leakscope::units::{Bytes, Moment};

fn main() -> Result<()> {
    let mut thresholds = Thresholds { confirm: Duration::from_secs(300) };
    let mut every = 0.0;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut arguments = std::env::args().skip(1);
    let (mut samples, mut spent) = (0_u64, Duration::ZERO);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--confirm" => {
                let seconds: f64 = arguments.next().context("--confirm needs seconds")?.parse()?;
                thresholds.confirm = Duration::from_secs_f64(seconds);
            }
            "--every" => every = arguments.next().context("--every needs seconds")?.parse()?,
            file => {
                let (n, time) = score(file, thresholds, every, &mut out).with_context(|| file.to_owned())?;
                samples += n;
                spent += time;
            }
        }
    }
    eprintln!("{samples} samples, {:.0} ns a sample", spent.as_nanos() as f64 / samples.max(1) as f64);
    Ok(())
}

/// Judges one file; returns the number of samples and the time that judging took.
fn score(file: &str, thresholds: Thresholds, every: f64, out: &mut impl Write) -> Result<(u64, Duration)> {
    writeln!(out, "# {file}")?;
    let mut samples = Vec::new();
    let mut due = 0.0;
    for line in BufReader::new(std::fs::File::open(file)?).lines().skip(1) {
        let line = line?;
        let fields = line.split(',').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        let &[at_s, anon, memory_file, shmem, swap, host, room] = fields.as_slice() else {
            anyhow::bail!("seven columns are needed, not {}", fields.len());
        };
        if at_s + 1e-6 < due {
            continue;
        }
        due = if every > 0.0 { at_s + every } else { 0.0 };
        samples.push(Sample {
            at: Moment(count(at_s * 1e9)),
            memory: Memory {
                anon: Bytes(count(anon)),
                file: Bytes(count(memory_file)),
                shmem: Bytes(count(shmem)),
                swap: Bytes(count(swap)),
            },
            host_shmem: Some(Bytes(count(host))),
            room: Some(Bytes(count(room))),
        });
    }
    let mut detector = Detector::new(thresholds);
    let mut before = None;
    #[expect(clippy::disallowed_methods, reason = "measures what judging costs")]
    let begun = std::time::Instant::now();
    for sample in &samples {
        let verdict = detector.observe(sample);
        let now = (verdict.state, verdict.confirmed, verdict.rate, verdict.clean_growth);
        if before != Some(now) {
            before = Some(now);
            let rate = verdict.rate.map_or((0.0, 0.0, 0.0), |r| (r.mean.0, r.low.0, r.high.0));
            let at_s = sample.at.0 as f64 / 1e9;
            writeln!(
                out,
                "{at_s} {} {} {} {} {} {}",
                verdict.state.name(),
                u8::from(verdict.confirmed),
                rate.0,
                rate.1,
                rate.2,
                verdict.clean_growth.as_secs_f64()
            )?;
        }
    }
    Ok((samples.len() as u64, begun.elapsed()))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
fn count(value: f64) -> u64 {
    value.round() as u64
}
