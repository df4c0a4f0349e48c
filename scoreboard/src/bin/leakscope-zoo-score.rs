//! `cargo xtask bench zoo FILE`: judges a recording of real programs and prints who was found and who was accused.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use leakscope_scoreboard::zoo;

#[derive(Parser)]
#[command(about = "Scores leakscope's detector on a recording of real programs")]
struct Arguments {
    /// The recording; what is true of it is beside it, FILE.truth.json
    recording: PathBuf,
    /// Leave out how each verdict came about
    #[arg(long)]
    no_histories: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match zoo::score(&arguments.recording) {
        Ok(scores) => {
            print!("{}", scores.table());
            if !arguments.no_histories {
                print!("\n{}", scores.histories());
            }
            print!("\n{}", scores.totals());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
