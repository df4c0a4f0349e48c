//! Builds `leakscope`, kernel side and all: one binary.
//!
//! A release build is static where Rust's musl target is there, so that it can be copied to any host of the same
//! architecture; where not, it is said which glibc the binary asks for, as read from the binary itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use object::{
    Endianness, FileKind,
    elf::{FileHeader32, FileHeader64},
    read::elf::{FileHeader, SectionHeader as _},
};

use crate::{
    setup::{self, Purpose},
    toolchain,
    workspace::{Workspace, artifacts},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Optimised, and static where Rust's musl target is there
    #[arg(long)]
    release: bool,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let binary = if arguments.release { release(workspace)? } else { debug(workspace)? };
    println!("{}", binary.display());
    Ok(())
}

/// Builds target/debug/leakscope.
pub fn debug(workspace: &Workspace) -> Result<PathBuf> {
    setup::ensure(workspace, &[Purpose::Build])?;
    compile(workspace, &[])
}

/// Builds target/release/leakscope and says what it needs to run.
pub fn release(workspace: &Workspace) -> Result<PathBuf> {
    setup::ensure(workspace, &[Purpose::Build, Purpose::Release])?;
    let musl = toolchain::musl(&toolchain::host()?);
    let built = match toolchain::has_target(&musl) {
        true => compile(workspace, &["--release", "--target", &musl])?,
        false => compile(workspace, &["--release"])?,
    };
    let binary = workspace.target.join("release/leakscope");
    if built != binary {
        place(&built, &binary)?;
    }
    let bytes = fs::read(&binary).with_context(|| format!("reading {}", binary.display()))?;
    let needs = needs(&bytes).with_context(|| format!("reading {}", binary.display()))?;
    // The size of a binary fits a float's 52 bits.
    #[expect(clippy::cast_precision_loss, reason = "a size shown to one decimal")]
    let size = bytes.len() as f64 / 1e6;
    eprintln!("{}: {size:.1} MB, {}", binary.display(), needs.told());
    Ok(binary)
}

fn compile(workspace: &Workspace, arguments: &[&str]) -> Result<PathBuf> {
    let mut cargo = workspace.cargo("build");
    cargo.args(["--locked", "--package", "leakscope", "--bin", "leakscope"]).args(arguments);
    let built = artifacts(&mut cargo)?.into_iter().find(|artifact| artifact.name == "leakscope");
    Ok(built.context("cargo built no program named leakscope")?.executable)
}

/// Copies by way of a second name: a running program's file cannot be written to, but its name can be given away.
fn place(built: &Path, binary: &Path) -> Result<()> {
    let folder = binary.parent().context("the binary has no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let half = binary.with_extension("new");
    fs::copy(built, &half).with_context(|| format!("copying {} to {}", built.display(), half.display()))?;
    fs::rename(&half, binary).with_context(|| format!("renaming {} to {}", half.display(), binary.display()))
}

/// What a program asks of the machine it runs on.
#[derive(Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// The newest glibc whose symbols it uses.
    Glibc(Vec<u32>),
    /// A dynamic linker, but no versioned glibc symbol.
    OtherLibc,
}

impl Needs {
    fn told(&self) -> String {
        match self {
            Self::Nothing => "static: runs on any Linux of this architecture".to_owned(),
            Self::Glibc(version) => {
                let version = version.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
                format!("dynamic: needs glibc {version} or newer where it runs")
            }
            Self::OtherLibc => "dynamic: needs this machine's C library where it runs".to_owned(),
        }
    }
}

fn needs(bytes: &[u8]) -> Result<Needs> {
    match FileKind::parse(bytes)? {
        FileKind::Elf64 => needs_of::<FileHeader64<Endianness>>(bytes),
        FileKind::Elf32 => needs_of::<FileHeader32<Endianness>>(bytes),
        other => bail!("this is no ELF program but {other:?}"),
    }
}

fn needs_of<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Result<Needs> {
    let header = Elf::parse(bytes)?;
    let endian = header.endian()?;
    let is_dynamic = header
        .program_headers(endian, bytes)?
        .iter()
        .any(|segment| object::read::elf::ProgramHeader::p_type(segment, endian) == object::elf::PT_INTERP);
    if !is_dynamic {
        return Ok(Needs::Nothing);
    }
    let sections = header.sections(endian, bytes)?;
    let mut newest: Option<Vec<u32>> = None;
    for section in sections.iter() {
        let Some((mut libraries, strings)) = section.gnu_verneed(endian, bytes)? else { continue };
        let strings = sections.strings(endian, bytes, strings)?;
        while let Some((_, mut versions)) = libraries.next()? {
            while let Some(version) = versions.next()? {
                let name = std::str::from_utf8(version.name(endian, strings)?).unwrap_or_default();
                newest = newest.max(glibc_version(name));
            }
        }
    }
    Ok(newest.map_or(Needs::OtherLibc, Needs::Glibc))
}

/// `2.34` of `GLIBC_2.34`; `None` for GLIBC_PRIVATE and for other libraries' versions.
fn glibc_version(name: &str) -> Option<Vec<u32>> {
    name.strip_prefix("GLIBC_")?.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glibc_versions_compare_by_number() {
        assert_eq!(glibc_version("GLIBC_2.2.5"), Some(vec![2, 2, 5]));
        assert!(glibc_version("GLIBC_2.34") > glibc_version("GLIBC_2.4"));
        assert_eq!(glibc_version("GLIBC_PRIVATE"), None);
        assert_eq!(glibc_version("GCC_3.0"), None);
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn this_very_test_needs_the_glibc_it_was_linked_with() {
        let bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        let Needs::Glibc(version) = needs(&bytes).unwrap() else {
            panic!("a glibc program was taken for another")
        };
        assert!(version >= vec![2, 17] && version < vec![3], "{version:?}");
    }

    #[test]
    #[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
    fn a_program_without_a_dynamic_linker_needs_nothing() {
        let mut bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        let header = FileHeader64::<Endianness>::parse(&*bytes).unwrap();
        let endian = header.endian().unwrap();
        let segments = header.program_headers(endian, &*bytes).unwrap();
        let index = segments.iter().position(|one| one.p_type.get(endian) == object::elf::PT_INTERP).unwrap();
        let at = usize::try_from(header.e_phoff.get(endian)).unwrap() + index * size_of_val(&segments[0]);
        bytes[at..at + 4].fill(0);
        assert_eq!(needs(&bytes).unwrap(), Needs::Nothing);
    }

    #[test]
    fn what_is_not_a_program_is_an_error() {
        assert!(needs(b"#!/bin/sh\nexit 0\n# long enough to hold a header\n").is_err());
    }
}
