//! The only way in: `cargo xtask <command>`.
//!
//! Each command is a module of its name. [`workspace`] knows where things lie and how a child is run, [`setup`] what a
//! machine needs, [`toolchain`], [`packages`], [`unpacked`], [`tools`] and [`linker`] how it is got. Everything that is installed goes to
//! `target/tools` or to rustup; the home folder's `~/.cargo/bin` is left alone. Start reading at [`Task`].

mod audit;
mod bench;
mod build;
mod clock;
mod demo;
mod fuzz;
mod lint;
mod readme;
mod samples;
mod soak;
mod test;
mod vm;
mod zoo;

mod linker;
mod packages;
mod setup;
mod toolchain;
mod tools;
mod unpacked;
mod workspace;

#[cfg(test)]
mod arrows;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The only way in")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need, and say what could not be installed
    Setup,
    /// Set up, then build target/debug/leakscope; with --release target/release/leakscope, static where musl is there
    Build(build::Arguments),
    /// Formatting, clippy on both sides, documentation, file lengths
    Lint,
    /// Set up, lint, unit tests, the live tests as root, then some of them on other kernels, in virtual machines
    Test(test::Arguments),
    /// Set up, build for release, and run the lab as root
    Demo(demo::Arguments),
    /// Run a benchmark by its name, or list them
    Bench(bench::Arguments),
    /// Run the lab and show it in README.md: the picture docs/demo.svg, the report, the help texts
    Readme,
    /// Run the lab in namespaces of its own and keep its report in every form in docs/samples
    Samples,
    /// Start the real programs of tests/zoo, half of them leaking at a known rate, and record them as root
    Zoo(zoo::Arguments),
    /// leakscope for so many minutes while processes come and go: whether it grows, and finds every leaker
    Soak(soak::Arguments),
    /// Fuzz everything that is read from somebody else: recordings, CSV, logs, Prometheus' answers
    Fuzz(fuzz::Arguments),
    /// Licences, duplicate and banned crates, known vulnerabilities, spelling
    Audit,
}

fn main() -> ExitCode {
    let task = Arguments::parse().task;
    let done = Workspace::find().and_then(|workspace| match task {
        Task::Setup => setup::run(&workspace),
        Task::Build(arguments) => build::run(&workspace, &arguments),
        Task::Lint => lint::run(&workspace),
        Task::Test(arguments) => test::run(&workspace, &arguments),
        Task::Demo(arguments) => demo::run(&workspace, &arguments),
        Task::Bench(arguments) => bench::run(&workspace, &arguments),
        Task::Readme => readme::run(&workspace),
        Task::Samples => samples::run(&workspace),
        Task::Zoo(arguments) => zoo::run(&workspace, &arguments),
        Task::Soak(arguments) => soak::run(&workspace, &arguments),
        Task::Fuzz(arguments) => fuzz::run(&workspace, &arguments),
        Task::Audit => audit::run(&workspace),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
