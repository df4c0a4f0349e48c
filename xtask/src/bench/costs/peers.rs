//! What others use, from the distribution's packages: found, installed where it is missing, and prepared to run here.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{Bench, page::Side, watcher::Watcher};
use crate::{
    packages::{self, Package},
    unpacked,
    workspace::{Workspace, output},
};

/// A side, and how it is watched where it can be.
pub type Watched = (Side, Option<Watcher>);

/// A peer as a side and, where it can be had, as a watcher.
pub fn beside(program: &str, package: Package, arguments: &[&str]) -> Watched {
    had(peer(program, package).map(|path| Watcher::new(&path, arguments)), program, arguments)
}

fn had(watcher: Result<Watcher, String>, program: &str, arguments: &[&str]) -> Watched {
    match watcher {
        Ok(watcher) => (Side::of(watcher.name.clone()), Some(watcher.of_a_peer())),
        Err(why) => (Side::missing(format!("{program} {}", arguments.join(" ")), why), None),
    }
}

/// A program that others use, installed where it is missing; why not, where it cannot be had.
fn peer(program: &str, package: Package) -> Result<PathBuf, String> {
    if let Some(path) = find(program) {
        return Ok(path);
    }
    packages::install(package).map_err(|error| format!("could not be installed: {error:#}"))?;
    find(program).ok_or_else(|| format!("its package was installed and holds no {program}"))
}

/// On the PATH and where administrators have theirs, which is not on everybody's.
fn find(program: &str) -> Option<PathBuf> {
    let mut places = std::env::var_os("PATH").unwrap_or_default();
    places.push(OsString::from(":/usr/sbin:/sbin"));
    which::which_in_global(program, Some(places)).ok()?.next()
}

/// prometheus-process-exporter for all processes by their names, asked each second. Unpacked and not installed: its package
/// starts a server.
pub fn exporter(bench: &Bench<'_>) -> Watched {
    const PROGRAM: &str = "prometheus-process-exporter";
    const ALL: &str = "process_names:\n  - name: \"{{.Comm}}\"\n    cmdline: ['.+']\n";
    let watcher = || -> Result<Watcher> {
        let program = unpacked::program(&bench.workspace, PROGRAM)?;
        let config = bench.load.file("exporter.yaml", ALL)?;
        let mut watcher = Watcher::new(&program, &["-config.path", &config.to_string_lossy()])
            .serving("-web.listen-address")?;
        watcher.name = format!("{PROGRAM}, asked each second");
        Ok(watcher)
    };
    had(watcher().map_err(|error| format!("could not be had: {error:#}")), PROGRAM, &[])
}

/// bpfcc-tools: what they are compiled against, or why they cannot be.
pub struct Bpfcc {
    headers: Result<Headers, String>,
}

enum Headers {
    /// The kernel's own.
    Own,
    /// Those of another kernel, and the packages they are of.
    Others(PathBuf, String),
}

impl Bpfcc {
    pub fn find(workspace: &Workspace) -> Self {
        let release = output(Command::new("uname").arg("-r")).unwrap_or_default();
        let own = Path::new("/lib/modules").join(release.trim()).join("build/include");
        if own.is_dir() || Path::new("/sys/kernel/kheaders.tar.xz").exists() {
            return Self { headers: Ok(Headers::Own) };
        }
        let others = unpacked::kernel_headers(workspace);
        let headers = others.map(|(tree, packages)| Headers::Others(tree, packages));
        Self {
            headers: headers.map_err(|error| {
                format!(
                    "this kernel comes without its headers, and the distribution's cannot be had: {error:#}"
                )
            }),
        }
    }

    /// What there is to know of the figures.
    pub fn note(&self) -> String {
        match &self.headers {
            Ok(Headers::Others(_, packages)) => format!(
                " The tools of bpfcc are compiled when they start, against the kernel's headers. This kernel comes without, \
                 so they were given those of another ({packages}): tracepoints and uprobes do not depend on them."
            ),
            _ => String::new(),
        }
    }

    /// One of the tools, by the name that it has outside of Debian.
    pub fn beside(&self, tool: &str, arguments: &[&str]) -> Watched {
        let debian = format!("{tool}-bpfcc");
        let tree = match &self.headers {
            Err(why) => return had(Err(why.clone()), &debian, arguments),
            Ok(Headers::Own) => None,
            Ok(Headers::Others(tree, _)) => Some(tree),
        };
        let elsewhere = Path::new("/usr/share/bcc/tools").join(tool);
        let program = if elsewhere.is_file() { Ok(elsewhere) } else { peer(&debian, Package::Bpfcc) };
        let watcher = program.map(|program| Watcher::new(&program, arguments));
        let with_headers = |watcher: Watcher| match tree {
            Some(tree) => watcher.with_variable("BCC_KERNEL_SOURCE", tree),
            None => watcher,
        };
        had(watcher.map(with_headers), &debian, arguments)
    }
}
