//! The compilers: which are there, and which parts of them are missing.
//!
//! The user side is built by the toolchain that cargo was started with, the kernel side by `nightly`, whichever nightly
//! that is: a dated one cannot be had on every machine. Everything is asked of `rustc` itself and of its folders, so
//! that a check needs no network and works without rustup.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::workspace::{Workspace, output};

/// What `rustc -vV` says.
#[derive(Debug, PartialEq, Eq)]
pub struct Version {
    /// As in `1.95.0` or `1.97.0-nightly`.
    pub release: String,
    /// The target triple of the machine.
    pub host: String,
    /// Which commit it was built from; distributions' own builds may say `unknown`.
    pub commit: String,
    /// The major version of the LLVM it uses.
    pub llvm: u32,
}

impl Version {
    /// Reads what `rustc -vV` prints; `None` when a line is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.trim().to_owned()))
        };
        Some(Self {
            release: field("release")?,
            host: field("host")?,
            commit: field("commit-hash")?,
            llvm: field("LLVM version")?.split('.').next()?.parse().ok()?,
        })
    }

    pub fn architecture(&self) -> &str {
        self.host.split('-').next().unwrap_or(&self.host)
    }

    /// Whether this is at least `minimum`, as in `1.88`.
    pub fn is_at_least(&self, minimum: &str) -> bool {
        numbers(&self.release) >= numbers(minimum)
    }
}

fn numbers(version: &str) -> Vec<u32> {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    plain.split('.').map_while(|part| part.parse().ok()).collect()
}

fn ask(mut command: Command) -> Result<Version> {
    command.arg("-vV");
    Version::parse(&output(&mut command)?).context("`rustc -vV` prints something unknown")
}

/// The toolchain of the user side.
pub fn host() -> Result<Version> {
    ask(Command::new("rustc"))
}

/// The toolchain of the kernel side.
///
/// # Errors
/// When rustup or its nightly is missing.
pub fn nightly(workspace: &Workspace) -> Result<Version> {
    ask(workspace.nightly("rustc"))
}

pub fn nightly_sysroot(workspace: &Workspace) -> Result<PathBuf> {
    Ok(output(workspace.nightly("rustc").args(["--print", "sysroot"]))?.trim().into())
}

/// What is checked to compile for arm64: musl, so that no C compiler is asked for.
pub const ARM64: &str = "aarch64-unknown-linux-musl";

/// The target of a static build on this machine.
pub fn musl(version: &Version) -> String {
    format!("{}-unknown-linux-musl", version.architecture())
}

/// Whether the user side's toolchain can build for `target`.
pub fn has_target(target: &str) -> bool {
    let asked = output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
    asked.is_ok_and(|folder| PathBuf::from(folder.trim()).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHTLY: &str = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
        commit-hash: e50aa6fba4e63ab34c72bf9acfd2c307c1155d1a\ncommit-date: 2026-05-19\n\
        host: aarch64-unknown-linux-gnu\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";

    #[test]
    fn the_version_is_read_from_what_rustc_prints() {
        let version = Version::parse(NIGHTLY).unwrap();
        assert_eq!(version.llvm, 22);
        assert_eq!(version.commit, "e50aa6fba4e63ab34c72bf9acfd2c307c1155d1a");
        assert_eq!(musl(&version), "aarch64-unknown-linux-musl");
    }

    #[test]
    fn a_version_with_a_line_missing_is_none() {
        assert_eq!(Version::parse(&NIGHTLY.replace("LLVM version", "GCC version")), None);
    }

    #[test]
    fn versions_compare_by_number_and_not_by_letter() {
        let version = Version::parse(NIGHTLY).unwrap();
        assert!(version.is_at_least("1.88"));
        assert!(version.is_at_least("1.97.0"));
        assert!(!version.is_at_least("1.98"));
        assert!(!version.is_at_least("1.100.0"));
    }
}
