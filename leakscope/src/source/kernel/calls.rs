//! The inspect tier: the programs that count a suspect's memory system calls, attached while there is a suspect and not
//! otherwise.
//!
//! There are two ways. Where the kernel lets programs run at the ends of its functions, only who makes one of these calls
//! pays for it. Elsewhere tracepoints have to do, and any tracepoint of a system call slows all of them, everybody's.

use std::path::{Path, PathBuf};

use aya::programs::fentry::FEntryLink;
use aya::programs::fexit::FExitLink;
use aya::programs::trace_point::TracePointLink;
use aya::programs::{FEntry, FExit, TracePoint};
use aya::{Btf, Ebpf};

use super::error::OpenError;
use super::programs::{Entry, entry, failed, load_classic, program};

/// How a suspect's memory system calls are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallsBy {
    /// At the ends of the kernel's functions (fexit): nobody else's calls are touched.
    Functions,
    /// By tracepoints: every system call of the host is slower while somebody is suspected.
    Tracepoints,
}

impl CallsBy {
    /// Programs that are attached while somebody is suspected.
    pub const fn programs(self) -> usize {
        self.entries().len()
    }

    const fn entries(self) -> &'static [Entry] {
        match self {
            Self::Functions => FUNCTIONS,
            Self::Tracepoints => TRACEPOINTS,
        }
    }
}

/// `brk` is the only one that needs its beginning as well: afterwards nobody knows where the heap ended before.
const FUNCTIONS: &[Entry] = &[
    entry("fexit_brk", "fexit", "__x64_sys_brk"),
    entry("fentry_brk", "fentry", "__x64_sys_brk"),
    entry("fexit_mmap", "fexit", "__x64_sys_mmap"),
    entry("fexit_munmap", "fexit", "__x64_sys_munmap"),
    entry("fexit_mremap", "fexit", "__x64_sys_mremap"),
    entry("fexit_madvise", "fexit", "__x64_sys_madvise"),
];

/// Exits first, so that whatever enters is seen to leave.
const TRACEPOINTS: &[Entry] = &[
    entry("exit_brk", "syscalls", "sys_exit_brk"),
    entry("enter_brk", "syscalls", "sys_enter_brk"),
    entry("exit_mmap", "syscalls", "sys_exit_mmap"),
    entry("enter_mmap", "syscalls", "sys_enter_mmap"),
    entry("exit_munmap", "syscalls", "sys_exit_munmap"),
    entry("enter_munmap", "syscalls", "sys_enter_munmap"),
    entry("exit_mremap", "syscalls", "sys_exit_mremap"),
    entry("enter_mremap", "syscalls", "sys_enter_mremap"),
    entry("exit_madvise", "syscalls", "sys_exit_madvise"),
    entry("enter_madvise", "syscalls", "sys_enter_madvise"),
];

/// The functions whose types are needed.
pub(super) fn functions() -> Vec<&'static str> {
    FUNCTIONS.iter().map(|entry| entry.name).collect()
}

/// What is attached, until this goes.
#[expect(dead_code, reason = "held for what happens when they are dropped")]
enum Link {
    Entry(FEntryLink),
    Exit(FExitLink),
    Tracepoint(TracePointLink),
}

/// The tier.
pub(super) struct Calls {
    /// Which programs are loaded, or why none.
    by: Result<CallsBy, OpenError>,
    /// Why functions are not the way.
    without_functions: Option<OpenError>,
    links: Vec<Link>,
    tracefs: PathBuf,
}

impl Calls {
    /// Loads the programs of the better way that the kernel offers. `btf` has the functions, or says why not.
    pub(super) fn load(ebpf: &mut Ebpf, btf: Result<&Btf, OpenError>, tracefs: &Path) -> Self {
        let mut calls = Self {
            by: Ok(CallsBy::Functions),
            without_functions: None,
            links: Vec::new(),
            tracefs: tracefs.to_owned(),
        };
        if let Err(error) = btf.and_then(|btf| load_functions(ebpf, btf)) {
            calls.use_tracepoints(ebpf, error);
        }
        calls
    }

    /// Functions are not to be had: loads the tracepoints' programs instead.
    fn use_tracepoints(&mut self, ebpf: &mut Ebpf, why: OpenError) {
        unload_functions(ebpf);
        self.without_functions = Some(why);
        self.by = load_classic(ebpf, TRACEPOINTS, &self.tracefs).map(|()| CallsBy::Tracepoints);
    }

    /// How they are traced; `None` where they cannot be.
    pub(super) fn by(&self) -> Option<CallsBy> {
        self.by.as_ref().ok().copied()
    }

    /// Why they cannot be traced at all.
    pub(super) fn missing(&self) -> Option<&OpenError> {
        self.by.as_ref().err()
    }

    /// Why they are not traced at the functions' ends.
    pub(super) fn without_functions(&self) -> Option<&OpenError> {
        self.without_functions.as_ref()
    }

    pub(super) fn are_traced(&self) -> bool {
        !self.links.is_empty()
    }

    /// What is attached.
    pub(super) fn attached(&self) -> &'static [Entry] {
        match self.by {
            Ok(by) if self.are_traced() => by.entries(),
            _ => &[],
        }
    }

    /// Attaches what is loaded; where functions cannot be had after all, tracepoints.
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf) -> Result<(), OpenError> {
        if self.are_traced() {
            return Ok(());
        }
        if self.by() == Some(CallsBy::Functions) {
            match refuse_where_switched_off().and_then(|()| attached(ebpf, FUNCTIONS)) {
                Ok(links) => {
                    self.links = links;
                    return Ok(());
                }
                Err(error) => {
                    self.use_tracepoints(ebpf, error);
                    // What was missing from the beginning was said then.
                    self.by.clone()?;
                }
            }
        }
        if self.by() == Some(CallsBy::Tracepoints) {
            match attached(ebpf, TRACEPOINTS) {
                Ok(links) => self.links = links,
                Err(error) => {
                    self.by = Err(error.clone());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    pub(super) fn detach(&mut self) {
        // What enters is detached before what leaves.
        while self.links.pop().is_some() {}
    }
}

/// Before this kernel the code that runs a program at a function's end could be freed while somebody slept in that function:
/// "bpf: Fix fexit trampoline", of March 2021.
const SAFE_SINCE: (u32, u32) = (5, 12);

fn refuse_unsafe_kernels(release: &str) -> Result<(), OpenError> {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < SAFE_SINCE {
        let what = format!("kernel {release}: programs at a function's end are safe since 5.12");
        return Err(OpenError::new(what, "use a newer kernel"));
    }
    Ok(())
}

/// With this switched off the kernel takes programs at its functions, and runs none of them.
const SWITCH: &str = "/proc/sys/kernel/ftrace_enabled";

fn refuse_where_switched_off() -> Result<(), OpenError> {
    if std::fs::read_to_string(SWITCH).is_ok_and(|text| text.trim() == "0") {
        return Err(OpenError::new("kernel.ftrace_enabled is 0", "sysctl kernel.ftrace_enabled=1"));
    }
    Ok(())
}

fn load_functions(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), OpenError> {
    refuse_unsafe_kernels(&rustix::system::uname().release().to_string_lossy())?;
    refuse_where_switched_off()?;
    for entry in FUNCTIONS {
        let loaded = if entry.category == "fentry" {
            program::<&mut FEntry>(ebpf, entry)?.load(entry.name, btf)
        } else {
            program::<&mut FExit>(ebpf, entry)?.load(entry.name, btf)
        };
        loaded.map_err(|error| failed("loading", entry, &error))?;
    }
    Ok(())
}

/// None is left loaded for nothing.
fn unload_functions(ebpf: &mut Ebpf) {
    for entry in FUNCTIONS {
        // One that was not loaded has nothing to give back.
        if entry.category == "fentry" {
            let _ = program::<&mut FEntry>(ebpf, entry).map(|program| program.unload());
        } else {
            let _ = program::<&mut FExit>(ebpf, entry).map(|program| program.unload());
        }
    }
}

/// All or nothing: half of the tier would count half of the calls.
fn attached(ebpf: &mut Ebpf, entries: &[Entry]) -> Result<Vec<Link>, OpenError> {
    let mut links = Vec::new();
    for entry in entries {
        let link = match entry.category {
            "fentry" => {
                let program: &mut FEntry = program(ebpf, entry)?;
                program.attach().and_then(|id| program.take_link(id)).map(Link::Entry)
            }
            "fexit" => {
                let program: &mut FExit = program(ebpf, entry)?;
                program.attach().and_then(|id| program.take_link(id)).map(Link::Exit)
            }
            _ => {
                let program: &mut TracePoint = program(ebpf, entry)?;
                let id = program.attach(entry.category, entry.name);
                id.and_then(|id| program.take_link(id)).map(Link::Tracepoint)
            }
        };
        links.push(link.map_err(|error| failed("attaching", entry, &error))?);
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_may_crash_are_told_by_their_numbers() {
        for release in ["5.10.0-46-cloud-amd64", "5.4.17", "5.11", "no numbers"] {
            assert!(refuse_unsafe_kernels(release).is_err(), "{release}");
        }
        for release in ["5.12.0", "5.14.0-503.el9.x86_64", "6.18.44", "10.0-rc1"] {
            assert_eq!(refuse_unsafe_kernels(release), Ok(()), "{release}");
        }
    }
}
