//! bpf-linker, which makes one BPF object out of the kernel side's LLVM bitcode.
//!
//! It must be linked with the LLVM major that nightly's rustc writes bitcode with. Distributions have another one, or
//! none; so it is linked with the libLLVM that this very rustc ships, through a folder of links that llvm-sys takes for an
//! LLVM installation. A stamp says which nightly it was made for: another nightly may have removed that library.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    setup::State,
    toolchain::{self, Version},
    tools::{self, Tool},
    workspace::{Workspace, shown},
};

const BPF_LINKER: Tool = Tool { krate: "bpf-linker", program: "bpf-linker", version: "0.13.0" };
/// The LLVM majors that this bpf-linker has a feature for.
const LLVM_MAJORS: std::ops::RangeInclusive<u32> = 21..=23;

/// What the stamp has to say for the installed linker to be the right one.
fn stamp(nightly: &Version) -> String {
    format!(
        "bpf-linker {}, nightly {} ({}), LLVM {}\n",
        BPF_LINKER.version, nightly.release, nightly.commit, nightly.llvm
    )
}

fn stamp_file(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("bpf-linker.stamp")
}

pub fn check(workspace: &Workspace) -> State {
    let nightly = match toolchain::nightly(workspace) {
        Ok(nightly) => nightly,
        Err(error) => return State::Missing(format!("no nightly to link for: {error:#}")),
    };
    let found = fs::read_to_string(stamp_file(workspace)).ok();
    judge(BPF_LINKER.works(workspace), found.as_deref(), &stamp(&nightly))
}

fn judge(works: Result<(), String>, found: Option<&str>, wanted: &str) -> State {
    match (works, found) {
        (Err(why), _) => State::Missing(why),
        (Ok(()), None) => State::Missing("it is not known which nightly it was linked for".to_owned()),
        (Ok(()), Some(found)) if found == wanted => State::Ready(wanted.trim().to_owned()),
        (Ok(()), Some(found)) => {
            State::Missing(format!("it was made for {}, this is {}", found.trim(), wanted.trim()))
        }
    }
}

fn command(workspace: &Workspace, llvm: u32) -> Command {
    let mut command = BPF_LINKER.command(workspace);
    command.args(["--no-default-features", "--features"]).arg(format!("llvm-{llvm}"));
    command.env("LLVM_PREFIX", workspace.tools().join("llvm"));
    command
}

pub fn remedy(workspace: &Workspace) -> String {
    match toolchain::nightly(workspace) {
        Ok(nightly) => shown(&command(workspace, nightly.llvm)),
        Err(_) => "rustup toolchain install nightly --profile minimal, then cargo xtask setup".to_owned(),
    }
}

pub fn install(workspace: &Workspace) -> Result<()> {
    let nightly = toolchain::nightly(workspace)?;
    if !LLVM_MAJORS.contains(&nightly.llvm) {
        bail!(
            "nightly {} uses LLVM {}, and bpf-linker {} knows LLVM {} to {}\n  fix: take a newer bpf-linker \
             (xtask/src/linker.rs), or `rustup update nightly` when the nightly is the older one",
            nightly.release,
            nightly.llvm,
            BPF_LINKER.version,
            LLVM_MAJORS.start(),
            LLVM_MAJORS.end()
        );
    }
    let library = llvm_library(&toolchain::nightly_sysroot(workspace)?.join("lib"))?;
    link_llvm(&library, &workspace.tools().join("llvm/lib"))?;
    // Written last: a stamp beside a linker that was never finished would be believed.
    let stamp_file = stamp_file(workspace);
    if stamp_file.exists() {
        fs::remove_file(&stamp_file).with_context(|| format!("removing {}", stamp_file.display()))?;
    }
    tools::install(workspace, command(workspace, nightly.llvm))?;
    fs::write(&stamp_file, stamp(&nightly)).with_context(|| format!("writing {}", stamp_file.display()))
}

/// The shared LLVM that rustc ships in `folder`: the largest of its libLLVM files, as the others are linker scripts.
fn llvm_library(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let libraries = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let size = fs::metadata(entry.path()).ok()?.len();
        (name.starts_with("libLLVM") && name.contains(".so")).then(|| (size, entry.path()))
    });
    let (_, path) = libraries.max().with_context(|| {
        format!(
            "no libLLVM.so in {}: this nightly has its LLVM linked in\n  fix: install an LLVM of the same major version \
             with its headers, and bpf-linker by hand",
            folder.display()
        )
    })?;
    Ok(path)
}

/// Makes `folder` look like the `lib` of an LLVM installation: the library by its own name, which is what the finished
/// program looks for, and by the name that `-lLLVM` looks for.
fn link_llvm(library: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let own = library.file_name().context("the LLVM library has no name")?;
    for name in [own, "libLLVM.so".as_ref()] {
        let link = folder.join(name);
        if !link.exists() {
            symlink(library, &link).with_context(|| format!("linking {}", link.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "bpf-linker 0.13.0, nightly 1.97.0-nightly (e50a), LLVM 22\n";

    fn missing(state: State) -> String {
        match state {
            State::Missing(why) => why,
            State::Ready(detail) => panic!("ready: {detail}"),
        }
    }

    #[test]
    fn a_linker_that_runs_and_carries_the_stamp_of_this_nightly_is_ready() {
        assert!(matches!(judge(Ok(()), Some(NOW), NOW), State::Ready(_)));
    }

    #[test]
    fn another_nightly_asks_for_another_linker_even_with_the_same_llvm() {
        let why = missing(judge(Ok(()), Some(&NOW.replace("e50a", "f00d")), NOW));
        assert!(why.contains("f00d") && why.contains("e50a"), "{why}");
    }

    #[test]
    fn a_linker_without_a_stamp_or_that_does_not_run_is_not_believed() {
        missing(judge(Ok(()), None, NOW));
        assert_eq!(missing(judge(Err("no such library".to_owned()), Some(NOW), NOW)), "no such library");
    }

    #[test]
    fn the_library_is_found_beside_its_linker_script_and_linked_by_both_names() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("libLLVM-22-rust-1.97.0-nightly.so");
        let library = folder.path().join("libLLVM.so.22.1-rust-1.97.0-nightly");
        fs::write(script, "INPUT(libLLVM.so.22.1-rust-1.97.0-nightly)").unwrap();
        fs::write(&library, [0; 4096]).unwrap();
        fs::write(folder.path().join("librustc_driver-b5a9.so"), [0; 8192]).unwrap();
        assert_eq!(llvm_library(folder.path()).unwrap(), library);

        let links = folder.path().join("llvm/lib");
        for _ in 0..2 {
            link_llvm(&library, &links).unwrap();
            assert_eq!(fs::read_link(links.join("libLLVM.so")).unwrap(), library);
            assert_eq!(fs::read_link(links.join("libLLVM.so.22.1-rust-1.97.0-nightly")).unwrap(), library);
        }
    }

    #[test]
    fn a_nightly_without_a_shared_llvm_is_an_error_that_names_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let error = llvm_library(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()) && error.contains("fix:"), "{error}");
    }
}
