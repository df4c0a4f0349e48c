//! Compiles the kernel side for the BPF target and leaves the object in `OUT_DIR`, where `source/kernel` embeds it.
//!
//! What this needs (bpf-linker, nightly with rust-src) is brought by `cargo xtask setup`; where it is missing, the
//! message says so instead of what the compiler would say.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use aya_build::{Package, Toolchain};

const REMEDY: &str = "run `cargo xtask setup`";

fn main() -> Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?);
    let workspace = manifest.parent().context("the crate lies in no workspace")?;
    use_tools(&workspace.join("target/tools/bin"))?;
    ensure!(has_rust_src(), "the nightly toolchain or its component rust-src is missing: {REMEDY}");
    let ebpf = workspace.join("leakscope-ebpf");
    let root_dir = ebpf.to_str().context("the workspace's path is not UTF-8")?;
    // The wire is compiled into the kernel side as well.
    println!("cargo:rerun-if-changed={}", workspace.join("leakscope-common/src").display());
    // What cargo says of its progress would come back as warnings of every later build.
    // SAFETY: as in `use_tools`.
    unsafe { env::set_var("CARGO_TERM_QUIET", "true") };
    aya_build::build_ebpf(
        [Package { name: "leakscope-ebpf", root_dir, ..Default::default() }],
        Toolchain::Nightly,
    )
    .with_context(|| format!("compiling the kernel side failed; if a tool is missing, {REMEDY}"))
}

/// Puts the project's own tools before those of the machine, and looks for bpf-linker.
fn use_tools(tools: &Path) -> Result<()> {
    let mut path = vec![tools.to_owned()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let linker = path.iter().map(|folder| folder.join("bpf-linker")).find(|file| file.is_file());
    let linker = linker.with_context(|| format!("bpf-linker is missing: {REMEDY}"))?;
    println!("cargo:rerun-if-changed={}", linker.display());
    let path = env::join_paths(path).context("PATH cannot be extended")?;
    // SAFETY: a build script has one thread here, and nothing reads the environment meanwhile.
    unsafe { env::set_var("PATH", path) };
    // aya-build passes on what cargo says as warnings: each crate that it compiles would be one.
    // SAFETY: as above.
    unsafe { env::set_var("CARGO_TERM_QUIET", "true") };
    Ok(())
}

fn has_rust_src() -> bool {
    let sysroot = Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]).output();
    match sysroot {
        Ok(output) if output.status.success() => {
            let sysroot = String::from_utf8_lossy(&output.stdout);
            Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library").is_dir()
        }
        _ => false,
    }
}
