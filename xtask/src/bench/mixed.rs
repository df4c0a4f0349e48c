//! A host with the lab, Node and a JVM on it, each leaking and healthy: whether each is judged rightly within ten minutes,
//! and whether a recording of that is judged as the live host was.
//!
//! The programs are the lab's and some of the zoo's; `leakscope-tests`' program `mixed` watches them.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use super::Arguments;
use crate::{
    setup::{self, Purpose},
    workspace::{Privilege, Workspace, artifacts, run as run_command},
    zoo::{
        keeper::{self, Keeper, pause},
        manifest::{Manifest, Program},
    },
};

/// Which programs of the zoo stand beside the lab. Not `java-serial`: its old generation takes longer to fill for the first
/// time than is watched, so that nobody could tell (docs/how-it-decides.md counts it among the false alarms).
const FROM_THE_ZOO: [&str; 6] =
    ["node-buffers-50k", "node-server", "node-garbage", "java-g1-100k", "java-g1", "java-idle"];
/// What the lab's cache service leaks: five strings a second of 10240 bytes, a head of 49 and the allocator's 7 of rounding,
/// and about 100 for their keys and places in the table.
const LAB_RATE: f64 = 5.0 * (10_296.0 + 100.0);
/// How long the programs run before they are watched: interpreters start, and a JVM compiles its source.
const WARM_UP: Duration = Duration::from_secs(20);

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    ensure!(
        Privilege::now() == Privilege::Root,
        "the host is watched with eBPF programs, which needs root\n  fix: run `cargo xtask bench mixed` again as root"
    );
    setup::ensure(workspace, &[Purpose::Build, Purpose::Lab])?;
    let mut build = workspace.cargo("build");
    build.args(["--locked", "--release", "--package", "leakscope-tests", "--bin", "mixed"]);
    let built = artifacts(&mut build)?.into_iter().find(|artifact| artifact.name == "mixed");
    let mixed = built.context("cargo built no program named mixed")?.executable;

    let place = tempfile::Builder::new().prefix("leakscope-mixed-").tempdir().context("making a folder")?;
    let sources = workspace.root.join("tests/zoo");
    keeper::prepare(&sources, place.path())?;
    let mut programs = lab(workspace, place.path())?;
    programs.extend(chosen(&sources)?);
    let wanted = programs.len();
    let mut keeper = Keeper::start(programs, place.path())?;
    eprintln!("{wanted} programs started, {} s to warm up", WARM_UP.as_secs());
    pause(WARM_UP);
    let ended = keeper.remove_ended();
    ensure!(ended.is_empty(), "ended before they were watched: {}", ended.join("; "));

    let mut watch = Command::new(mixed);
    watch.arg((arguments.minutes * 60).to_string()).arg(place.path().join("host.leakscope"));
    for watched in keeper.watched() {
        let truth = watched.program.rate_bytes_per_s.map_or("healthy".to_owned(), |rate| rate.to_string());
        watch.arg(format!("{}={}={truth}", watched.program.name, watched.pid));
    }
    let done = run_command(&mut watch);
    let ended = keeper.remove_ended();
    keeper.end();
    ensure!(ended.is_empty(), "ended while they were watched: {}", ended.join("; "));
    done
}

/// The walkthrough's two programs.
fn lab(workspace: &Workspace, place: &Path) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for (file, rate) in [("cache_service.py", Some(LAB_RATE)), ("legit_app.py", None)] {
        let source = workspace.root.join("leakscope/lab").join(file);
        fs::copy(&source, place.join(file)).with_context(|| format!("copying {}", source.display()))?;
        programs.push(Program {
            name: format!("lab-{}", file.trim_end_matches(".py")),
            kind: "cpython".to_owned(),
            leaking: rate.is_some(),
            rate_bytes_per_s: rate,
            truth: None,
            ramp: None,
            command: vec!["python3".to_owned(), file.to_owned()],
            needs: Vec::new(),
        });
    }
    Ok(programs)
}

/// Those of the zoo; all of them must be able to run here.
fn chosen(sources: &Path) -> Result<Vec<Program>> {
    let (runnable, missing) = Manifest::read(&sources.join("manifest.json"))?.runnable();
    let here: Vec<Program> =
        runnable.into_iter().filter(|program| FROM_THE_ZOO.contains(&program.name.as_str())).collect();
    if here.len() < FROM_THE_ZOO.len() {
        bail!("some of {} cannot run here:\n{}", FROM_THE_ZOO.join(", "), missing.join("\n"));
    }
    Ok(here)
}
