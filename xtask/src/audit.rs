//! The dependencies and the spelling: cargo-deny and typos, installed under `target/tools` when they are missing.
//!
//! Known vulnerabilities are looked up in a database that has to be fetched. Where it cannot be, that is said and the rest
//! is checked: an audit without network is still worth having, and must not look like a complete one.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{
    clock::Stopwatch,
    tools::{self, Tool},
    workspace::{Workspace, output, run as run_command},
};

const DENY: Tool = Tool { krate: "cargo-deny", program: "cargo-deny", version: "0.20.2" };
const TYPOS: Tool = Tool { krate: "typos-cli", program: "typos", version: "1.52.0" };

pub fn run(workspace: &Workspace) -> Result<()> {
    for tool in [&DENY, &TYPOS] {
        ensure_installed(workspace, tool)?;
    }
    let mut failed = Vec::new();
    let mut check = |name: &'static str, result: Result<()>| {
        if let Err(error) = result {
            eprintln!("audit: {name} ... FAILED: {error:#}");
            failed.push(name);
        } else {
            eprintln!("audit: {name} ... ok");
        }
    };
    check(
        "licences, bans, sources",
        run_command(deny(workspace).args(["check", "licenses", "bans", "sources"])),
    );
    check("spelling", run_command(program(workspace, &TYPOS).args(["--config", "typos.toml", "."])));
    match output(deny(workspace).args(["fetch", "db"])) {
        Ok(_) => {
            check("advisories", run_command(deny(workspace).args(["check", "--disable-fetch", "advisories"])))
        }
        Err(error) => {
            let error = format!("{error:#}");
            let cause = error.lines().last().unwrap_or_default();
            eprintln!(
                "audit: advisories ... NOT CHECKED: the database could not be fetched: {}",
                cause.trim()
            );
            eprintln!("  fix: `cargo xtask audit` where github.com can be reached");
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("audit: failed: {}", failed.join("; "))
}

fn ensure_installed(workspace: &Workspace, tool: &Tool) -> Result<()> {
    let Err(why) = tool.works(workspace) else { return Ok(()) };
    eprintln!("{}: {why}; installing {} (some minutes)", tool.program, tool.version);
    let watch = Stopwatch::start();
    tools::install(workspace, tool.command(workspace))?;
    tool.works(workspace)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("after installing {}", tool.program))?;
    eprintln!("{}: {} installed ({watch})", tool.program, tool.version);
    Ok(())
}

fn program(workspace: &Workspace, tool: &Tool) -> Command {
    let mut command = Command::new(workspace.tools().join("bin").join(tool.program));
    command.current_dir(&workspace.root);
    command
}

fn deny(workspace: &Workspace) -> Command {
    let mut command = program(workspace, &DENY);
    command.args(["--color", "never", "--log-level", "warn", "--workspace", "--all-features", "--locked"]);
    command
}
