//! The processors that machines can have, and what differs between them.

use std::process::Command;

use crate::toolchain;

/// A machine's processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Processor {
    X86,
    Arm,
}

impl Processor {
    pub const ALL: [Self; 2] = [Self::X86, Self::Arm];

    /// Debian's name of it.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm => "arm64",
        }
    }

    /// Whose kernels a series is of.
    pub fn of_series(series: &str) -> Self {
        if series.ends_with(Self::Arm.suffix()) { Self::Arm } else { Self::X86 }
    }

    /// What stands behind the numbers of a series.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::X86 => "",
            Self::Arm => "-arm64",
        }
    }

    pub const fn qemu(self) -> &'static str {
        match self {
            Self::X86 => "qemu-system-x86_64",
            Self::Arm => "qemu-system-aarch64",
        }
    }

    /// What Rust calls it: musl, because the machines have no C library.
    pub const fn target(self) -> &'static str {
        match self {
            Self::X86 => "x86_64-unknown-linux-musl",
            Self::Arm => toolchain::ARM64,
        }
    }

    /// Has cargo link without symbols and debugging information, which are nine tenths of a program, and for another
    /// processor with what Rust brings along: a system's own linker is for its own.
    pub fn link(self, cargo: &mut Command) {
        let name = self.target().to_uppercase().replace('-', "_");
        cargo.env(format!("CARGO_TARGET_{name}_RUSTFLAGS"), "-Cstrip=symbols");
        if self == Self::Arm {
            cargo.env(format!("CARGO_TARGET_{name}_LINKER"), "rust-lld");
        }
    }

    /// The serial ports: the kernel's, and the tests'.
    pub const fn ports(self) -> (&'static str, &'static str) {
        match self {
            Self::X86 => ("ttyS0", "ttyS1"),
            Self::Arm => ("ttyAMA0", "ttyAMA1"),
        }
    }

    /// What QEMU is to emulate.
    pub const fn machine(self) -> &'static [&'static str] {
        match self {
            Self::X86 => &["-cpu", "max"],
            // Pointer authentication as the architecture has it is most of what such a processor would do here.
            Self::Arm => &["-machine", "virt", "-cpu", "max,pauth-impdef=on"],
        }
    }

    /// The live tests that need no interpreter, no compiler and no more than busybox; without a kernel side, what is left of
    /// them.
    pub const fn executables(self) -> &'static [&'static str] {
        match self {
            Self::X86 => {
                &["contract", "everywhere", "kernel_counts", "kernel_edges", "left_behind", "tiers", "budget"]
            }
            Self::Arm => &["everywhere"],
        }
    }
}
