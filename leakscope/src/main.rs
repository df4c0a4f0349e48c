//! The `leakscope` command: parse, wire, run, exit. The only place that prints an error.

mod cli;
mod wire;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let mut ui = cli.ui();
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let done = runtime.block_on(wire::run(cli.command, &mut ui));
            // A question on the terminal that nobody answered must not keep the program alive.
            runtime.shutdown_background();
            done
        });
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            ui.error(&leakscope::fault::render(&error));
            ExitCode::from(2)
        }
    }
}
