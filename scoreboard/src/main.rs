//! `cargo xtask bench detection`: runs the corpus and prints the scoreboard.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use leakscope_scoreboard::corpus::{Kind, Split, kinds};
use leakscope_scoreboard::headline::{Headline, TOLERANCE, Written, reduced, written};
use leakscope_scoreboard::run::{Judge, Judges, Plan, Row, detectors, run};
use leakscope_scoreboard::table::{Summary, kind_table, main_table};
use leakscope_scoreboard::{cost, headline};
use serde_json::json;

#[derive(Parser)]
#[command(about = "Scores leakscope's detector, and the rules in use elsewhere, on synthetic processes")]
struct Arguments {
    /// Only the kinds whose name contains one of these
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<String>,
    /// Traces of each kind, with the seeds from --first-seed on
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Only this part of the corpus: tune or held-out
    #[arg(long, value_parser = ["tune", "held-out"])]
    split: Option<String>,
    /// Look at each process once a second instead of four times
    #[arg(long)]
    once_a_second: bool,
    /// Leave the published rules out
    #[arg(long)]
    no_baselines: bool,
    /// Show what it costs to wait: the detector alone, confirming after 15 seconds to half an hour
    #[arg(long, conflicts_with_all = ["no_baselines", "check", "write_headline"])]
    curve: bool,
    /// Show what a process's age tells somebody who comes when it has run for a while: the detector, and a rule that uses it
    #[arg(long, conflicts_with_all = ["no_baselines", "check", "write_headline", "curve"])]
    past: bool,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Fail when a headline figure is worse than written down
    #[arg(long, conflicts_with_all = ["kinds", "split", "once_a_second", "first_seed", "seeds"])]
    check: bool,
    /// Write the headline figures down, in headline.json
    #[arg(long, conflicts_with_all = ["kinds", "split", "once_a_second", "first_seed", "seeds"])]
    write_headline: bool,
}

fn main() -> ExitCode {
    match scoreboard(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn scoreboard(arguments: &Arguments) -> Result<()> {
    let kinds = chosen(arguments)?;
    let plan = Plan {
        kinds,
        seeds: (arguments.first_seed..arguments.first_seed + arguments.seeds).collect(),
        every: if arguments.once_a_second { 4 } else { 1 },
        judges: match (arguments.curve, arguments.no_baselines) {
            _ if arguments.past => Judges::ThePast,
            (true, _) => Judges::WaitingTimes,
            (_, true) => Judges::Detector,
            _ => Judges::DetectorAndRules,
        },
    };
    let rows = run(&plan);
    let cost = cost::measure(&plan.kinds);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&figures(&plan, &rows, &cost))?);
    } else {
        print(&plan, &rows, &cost);
    }
    if matches!(plan.judges, Judges::WaitingTimes | Judges::ThePast) {
        return Ok(());
    }
    let now = Headline::of(&rows);
    if arguments.write_headline {
        let text =
            serde_json::to_string_pretty(&Written { whole: now, reduced: Headline::of(&run(&reduced())) })?;
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/headline.json");
        std::fs::write(file, text + "\n").with_context(|| format!("writing {file}"))?;
    }
    if arguments.check {
        let before = written().context("reading scoreboard/headline.json")?.whole;
        let worse: Vec<String> = now.worse_than(&before).iter().map(headline::Worse::to_string).collect();
        ensure!(
            worse.is_empty(),
            "worse than written down, by more than {TOLERANCE}:\n  {}\n  fix: mend the detector; if the change is meant, \
             write the figures down with --write-headline and say why",
            worse.join("\n  ")
        );
        eprintln!("no headline figure is worse than written down (tolerance {TOLERANCE})");
    }
    Ok(())
}

fn chosen(arguments: &Arguments) -> Result<Vec<Kind>> {
    let named = |kind: &Kind| {
        arguments.kinds.is_empty() || arguments.kinds.iter().any(|part| kind.name.contains(part.as_str()))
    };
    let on_side = |kind: &Kind| match arguments.split.as_deref() {
        Some("tune") => kind.split == Split::Tune,
        Some(_) => kind.split == Split::HeldOut,
        None => true,
    };
    let chosen: Vec<Kind> = kinds().into_iter().filter(|kind| named(kind) && on_side(kind)).collect();
    ensure!(
        !chosen.is_empty(),
        "no kind is named like {:?}\n  fix: the kinds are listed by a run with --no-baselines --seeds 1",
        arguments.kinds.join(",")
    );
    Ok(chosen)
}

fn parts(rows: &[Row]) -> Vec<(&'static str, Vec<&Row>)> {
    let part = |split: Split| (split.name(), rows.iter().filter(|row| row.kind.split == split).collect());
    let parts: Vec<(_, Vec<&Row>)> = [Split::Tune, Split::HeldOut].map(part).into();
    parts.into_iter().filter(|(_, rows)| !rows.is_empty()).collect()
}

fn print(plan: &Plan, rows: &[Row], cost: &cost::Cost) {
    let judges = detectors(plan.judges);
    for (name, rows) in parts(rows) {
        println!("{}", main_table(&format!("kinds of {name}"), &rows, &judges));
    }
    println!(
        "Recall and time to detection (median/p90; inf: never) over the leaks that last 1.25 times the waiting time, which\n\
         doubles above 2 MB/s. FPleak: accused before the onset, or at first with a rate off by more than three times. ETA\n\
         error at the verdict, median/p90. coverage: intervals that hold the true rate, at the verdict/at the last claim.\n"
    );
    if matches!(plan.judges, Judges::WaitingTimes | Judges::ThePast) {
        return;
    }
    println!("{}", kind_table(&rows.iter().collect::<Vec<_>>()));
    println!(
        "cost: {:.0} ns a sample (mean of {}), {} bytes for a process that moves, {} for one that never did",
        cost.ns_per_sample, cost.samples, cost.bytes_per_process, cost.resting_bytes
    );
}

fn figures(plan: &Plan, rows: &[Row], cost: &cost::Cost) -> serde_json::Value {
    let judges = detectors(plan.judges);
    let summary = |rows: &[&Row]| -> serde_json::Map<String, serde_json::Value> {
        let line = |(column, judge): (usize, &Judge)| {
            (judge.name.to_owned(), json!(Summary::of(rows, column, *judge)))
        };
        judges.iter().enumerate().map(line).collect()
    };
    let traces = rows.iter().map(|row| {
        json!({
            "kind": row.kind.name, "seed": row.seed, "class": format!("{:?}", row.kind.class),
            "split": row.kind.split.name(), "hours": row.hours, "leak_s": row.leak_s, "rate": row.rate,
            "outcomes": row.outcomes,
        })
    });
    json!({
        "seeds": plan.seeds,
        "seconds_between_looks": plan.every as f64 / 4.0,
        "cost": cost,
        "summary": parts(rows).into_iter().map(|(name, rows)| (name.to_owned(), summary(&rows).into()))
            .collect::<serde_json::Map<String, serde_json::Value>>(),
        "traces": traces.collect::<Vec<_>>(),
    })
}
