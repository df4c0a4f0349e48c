//! The zoo: real programs in many languages, a good third of them leaking at a known rate, started together and recorded
//! by leakscope.
//!
//! What is recorded is kept with what is true of it (`FILE` and `FILE.truth.json`), so that the detector can be judged by
//! it again and again (`cargo xtask bench zoo FILE`). The programs are files of tests/zoo and stay tiny; [`manifest`] says
//! what each one is, [`keeper`] starts and ends them. Start reading at [`run`].

pub mod keeper;
pub mod manifest;

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use self::{
    keeper::{Keeper, pause},
    manifest::{Manifest, TRUTH_SCHEMA, Truth},
};
use crate::{
    build,
    clock::Stopwatch,
    workspace::{Privilege, Workspace, shown},
};

/// Every command line of the zoo has this in it: its files' folder, a socket in it, or PostgreSQL's cluster name.
const SELECTED: &str = "(^|[ :=])zoo[/:]";
/// How often children and ends are looked for.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);
/// A name of its own for the recording: what a machine is called is nobody's business.
const RECORD: &str = "hostname zoo && exec \"$0\" \"$@\"";

#[derive(clap::Args)]
pub struct Arguments {
    /// How long to record
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Where the recording is written; what is true of it goes beside it, FILE.truth.json
    #[arg(short, long, value_name = "FILE", default_value = "target/zoo.leakscope")]
    output: PathBuf,
    /// How long the programs run before the recording begins, in seconds
    #[arg(long, default_value_t = 20)]
    warm_up: u64,
    /// Record with this binary instead of building target/release/leakscope
    #[arg(long)]
    binary: Option<PathBuf>,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    ensure!(
        Privilege::now() == Privilege::Root,
        "the zoo is recorded with eBPF programs and starts PostgreSQL as its own user, which needs root\n  fix: run \
         `cargo xtask zoo` again as root"
    );
    let sources = workspace.root.join("tests/zoo");
    let (programs, missing) = Manifest::read(&sources.join("manifest.json"))?.runnable();
    for told in missing {
        eprintln!("{told}");
    }
    let binary = match &arguments.binary {
        Some(binary) => fs::canonicalize(binary).with_context(|| format!("finding {}", binary.display()))?,
        None => build::release(workspace)?,
    };
    let place = tempfile::Builder::new().prefix("leakscope-zoo-").tempdir().context("making a folder")?;
    // PostgreSQL has a user of its own, which has to reach its files.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755))?;
    keeper::prepare(&sources, place.path())?;

    let mut keeper = Keeper::start(programs, place.path())?;
    eprintln!("{} programs started, {} s to warm up", keeper.len(), arguments.warm_up);
    pause(Duration::from_secs(arguments.warm_up));
    for told in keeper.remove_ended() {
        eprintln!("ended before the recording began, and stays out: {told}");
    }
    let seconds = record(&binary, arguments, &mut keeper)?;
    let truth = Truth { schema: TRUTH_SCHEMA.to_owned(), seconds, programs: keeper.end() };
    let beside = truth_of(&arguments.output);
    fs::write(&beside, serde_json::to_string_pretty(&truth)? + "\n")
        .with_context(|| format!("writing {}", beside.display()))?;
    eprintln!("{} and {} are written", arguments.output.display(), beside.display());
    Ok(())
}

/// Where the truth of a recording is.
pub fn truth_of(recording: &Path) -> PathBuf {
    let mut name = recording.as_os_str().to_owned();
    name.push(".truth.json");
    name.into()
}

/// Records until the time is over and returns how long that was, in seconds.
fn record(binary: &Path, arguments: &Arguments, keeper: &mut Keeper) -> Result<f64> {
    // Namespaces: the recording shows neither the machine's name nor where in its cgroups this was run.
    let mut command = Command::new("unshare");
    command.args(["--uts", "--cgroup", "sh", "-c", RECORD]).arg(binary);
    command.args(["record", "--redact", "--cmd", SELECTED, "--duration"]);
    command.arg(format!("{}m", arguments.minutes)).args([OsStr::new("-o"), arguments.output.as_os_str()]);
    let since = Stopwatch::start();
    keeper.weigh(true);
    let mut recorder = command.spawn().with_context(|| format!("starting `{}`", shown(&command)))?;
    let status = watch_over(&mut recorder, keeper);
    let seconds = since.elapsed().as_secs_f64();
    keeper.weigh(false);
    let status = status?;
    ensure!(status.success(), "`{}` failed: {status}", shown(&command));
    Ok(seconds)
}

fn watch_over(recorder: &mut Child, keeper: &mut Keeper) -> Result<std::process::ExitStatus> {
    loop {
        if let Some(status) = recorder.try_wait().context("waiting for the recorder")? {
            return Ok(status);
        }
        keeper.look();
        pause(BETWEEN_LOOKS);
    }
}
