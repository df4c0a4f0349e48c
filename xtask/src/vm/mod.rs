//! The live tests on other kernels: each is booted in a virtual machine of its own, from Debian's packages, with the
//! test executables in its initial RAM disk. No KVM is needed, nothing of the system's own packages is touched, and what is
//! downloaded stays in `target/vm`.
//!
//! [`apt`] and [`debian`] get QEMU, busybox and kernels, [`image`] packs what is booted, [`boot`] runs one machine and reads what it
//! says, [`outcome`] makes a table of it: kernel by test. Start reading at [`run`].

mod apt;
mod boot;
mod debian;
mod image;
mod outcome;
mod processor;

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread::ScopedJoinHandle,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::{
    setup::{self, Purpose},
    toolchain,
    workspace::{Artifact, Workspace, artifacts},
};

pub use self::apt::Unavailable;
use self::debian::{Debian, Kernel};
use self::image::Image;
pub use self::outcome::Matrix;
use self::outcome::Outcome;
use self::processor::Processor;

/// The kernels that are tried unless others are named: the oldest that is supported, two of long life, the newest there is,
/// and one of another processor.
pub const USUAL: [&str; 5] = ["5.10", "6.1", "6.12", "newest", "6.12-arm64"];

/// Machines at a time: their tests wait for a third of the time.
const AT_ONCE: usize = 2;

/// How often a machine is booted that does not come to its tests.
const ATTEMPTS: u32 = 3;

/// A fault that is planted in one machine, so that it can be seen how it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planted {
    kind: Fault,
    series: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A test executable that fails.
    FailingTest,
    /// A kernel that panics.
    Panic,
    /// A test executable that never ends.
    Hang,
}

impl std::str::FromStr for Planted {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{word:?} is no fault: give failing-test:SERIES, panic:SERIES or hang:SERIES");
        let (kind, series) = word.split_once(':').ok_or_else(wrong)?;
        let kind = match kind {
            "failing-test" => Fault::FailingTest,
            "panic" => Fault::Panic,
            "hang" => Fault::Hang,
            _ => return Err(wrong()),
        };
        Ok(Self { kind, series: series.to_owned() })
    }
}

/// What is asked of the machines.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// Series such as `6.1`, `newest`, or `all`; none: [`USUAL`].
    pub series: &'a [String],
    /// Only the tests whose name contains this.
    pub filter: &'a [String],
    /// Faults to be told of.
    pub planted: &'a [Planted],
    /// Whether the tracepoints that the machines show are written down as the contract.
    pub record: bool,
}

/// QEMU and the kernels.
pub struct Ready {
    debian: Debian,
    kernels: Vec<Kernel>,
}

/// Gets QEMU and the kernels.
///
/// # Errors
/// With [`Unavailable`] where there can be no machines: without Debian's package manager or a mirror, without network, on
/// another architecture. Anything else is a fault.
pub fn prepare(workspace: &Workspace, wanted: &Wanted<'_>) -> Result<Ready> {
    if std::env::consts::ARCH != "x86_64" {
        let why = "the machines are x86_64, and so must be the one that builds their tests";
        return Err(Unavailable(why.to_owned()).into());
    }
    let debian = Debian::ready(&workspace.target.join("vm"))?;
    let kernels = match wanted.series {
        // An old suite can vanish any day: who asked for none in particular is told of it, and gets the rest.
        [] => debian.some_of(&USUAL)?,
        some => debian.kernels(some)?,
    };
    let known = |planted: &&Planted| kernels.iter().any(|kernel| kernel.series == planted.series);
    if let Some(planted) = wanted.planted.iter().find(|planted| !known(planted)) {
        bail!(
            "no fault can be planted in {}: that kernel is not among those that are booted",
            planted.series
        );
    }
    Ok(Ready { debian, kernels })
}

/// Boots every kernel and returns what became of each test.
///
/// # Errors
/// When what is booted cannot be built or packed; what goes wrong in a machine is in the matrix.
pub fn run(workspace: &Workspace, Ready { debian, kernels }: &Ready, wanted: &Wanted<'_>) -> Result<Matrix> {
    let folder = workspace.target.join("vm");
    let mut machines = VecDeque::new();
    for processor in Processor::ALL {
        let its: Vec<&Kernel> = kernels.iter().filter(|kernel| kernel.processor == processor).collect();
        if its.is_empty() {
            continue;
        }
        let stage = image::stage(workspace, debian, &build(workspace, processor)?, wanted.filter)?;
        for kernel in its {
            let planted = wanted.planted.iter().find(|planted| planted.series == kernel.series);
            machines.push_back((kernel, stage.pack(&kernel.series, planted.map(|planted| planted.kind))?));
        }
    }
    let waiting = Mutex::new(machines);
    let next = || waiting.lock().map_or(None, |mut waiting| waiting.pop_front());
    let work = || {
        let mut done = Vec::new();
        while let Some((kernel, image)) = next() {
            done.push((kernel, boot_to_the_tests(debian, kernel, &image, &folder)?));
            fs::remove_file(&image.path).with_context(|| format!("removing {}", image.path.display()))?;
        }
        Ok(done)
    };
    let outcomes: Vec<Result<Vec<_>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let ended = |worker: ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked")))
        };
        workers.into_iter().map(ended).collect()
    });
    let mut outcomes: Vec<_> =
        outcomes.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    outcomes.sort_by_key(|(kernel, _)| kernels.iter().position(|one| one.release == kernel.release));
    let mut matrix = Matrix::default();
    outcomes.into_iter().for_each(|(kernel, outcome)| matrix.add(kernel, outcome));
    if wanted.record {
        matrix.write_record(workspace)?;
        for series in matrix.wrong() {
            eprintln!("error: nothing is recorded of {series}: something went wrong there");
        }
    }
    Ok(matrix)
}

/// Boots a machine; again where it did not come to its tests. QEMU's emulator loses a race with a kernel that patches its
/// own code now and then (an `int3` that nobody set, in the first seconds): none of what is tested has run by then.
fn boot_to_the_tests(debian: &Debian, kernel: &Kernel, image: &Image, folder: &Path) -> Result<Outcome> {
    for attempt in 1.. {
        eprintln!("-- vm: {}", kernel.release);
        let outcome = boot::boot(debian, kernel, image, folder)?;
        if outcome.began || attempt == ATTEMPTS {
            return Ok(outcome);
        }
        eprintln!("{:>7}  it did not come to its tests: once more", kernel.series);
    }
    bail!("no attempt was made")
}

/// What is put into machines with this processor.
struct Built {
    processor: Processor,
    leakscope: PathBuf,
    tests: Vec<Artifact>,
    /// Programs that the tests start, at the very paths that they were compiled with.
    workloads: Vec<PathBuf>,
}

/// Builds static executables, which need no library in the machine.
fn build(workspace: &Workspace, processor: Processor) -> Result<Built> {
    setup::ensure(workspace, &[Purpose::Build, Purpose::Machines])?;
    let target = processor.target();
    ensure!(
        toolchain::has_target(target),
        "Rust's target {target} is not installed, and the machines have no C library\n  fix: rustup target add {target}"
    );
    let cargo = |subcommand| {
        let mut cargo = workspace.cargo(subcommand);
        processor.link(&mut cargo);
        cargo.args(["--locked", "--target", target]);
        cargo
    };
    let mut leakscope = cargo("build");
    leakscope.args(["--package", "leakscope", "--bin", "leakscope"]);
    let leakscope = artifacts(&mut leakscope)?.into_iter().find(|artifact| artifact.name == "leakscope");
    let mut tests = cargo("test");
    tests.args(["--no-run", "--package", "leakscope-tests"]);
    for name in processor.executables() {
        tests.args(["--test", name]);
    }
    let (tests, workloads): (Vec<Artifact>, Vec<Artifact>) =
        artifacts(&mut tests)?.into_iter().partition(|artifact| artifact.is_test);
    Ok(Built {
        processor,
        leakscope: leakscope.context("cargo built no program named leakscope")?.executable,
        tests: processor
            .executables()
            .iter()
            .map(|name| {
                let found = tests.iter().find(|artifact| artifact.name == *name);
                let found = found.with_context(|| format!("cargo built no test executable {name}"))?;
                Ok(Artifact { name: found.name.clone(), executable: found.executable.clone(), is_test: true })
            })
            .collect::<Result<_>>()?,
        workloads: workloads.into_iter().map(|artifact| artifact.executable).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_named_with_the_kernel_that_it_is_planted_in() {
        let planted: Planted = "panic:6.1".parse().unwrap();
        assert_eq!(planted, Planted { kind: Fault::Panic, series: "6.1".into() });
        for wrong in ["panic", "fire:6.1", ""] {
            assert!(wrong.parse::<Planted>().is_err(), "{wrong}");
        }
    }
}
