//! Loading, attaching and detaching the kernel side. The count tier is attached from open to drop; what traces system calls
//! (`calls`) only while somebody is inspected.
//!
//! Nothing is pinned: the programs live as long as this process holds their descriptors, and end with it however it ends.

use std::path::Path;
use std::time::Duration;

use aya::programs::{BtfTracePoint, Program, ProgramInfo, TracePoint};
use aya::{Btf, Ebpf, Endianness, include_bytes_aligned};
use leakscope_common::Offsets;

use super::calls::{self, Calls, CallsBy};
use super::error::OpenError;
use super::misses::Misses;
use super::{KernelOptions, formats, loader, offsets};

/// The kernel side, compiled by build.rs.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/leakscope"));

/// The architecture whose kernels tell of user page faults by a tracepoint.
const ARCHITECTURE: &str = "x86_64";

/// Without the page faults nobody would be told of who is older than leakscope, or grows by less than `rss_stat` tells of.
pub(super) fn refuse_other_architectures(here: &str) -> Result<(), OpenError> {
    if here == ARCHITECTURE {
        return Ok(());
    }
    Err(OpenError::new(
        format!(
            "there is none on {here}: its kernels have no tracepoint of user page faults, as {ARCHITECTURE}'s have"
        ),
        "use --source procfs, which reads every process once a second",
    ))
}

/// How a tracepoint is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TracepointKind {
    /// BTF where the kernel has it, classic otherwise.
    #[default]
    Auto,
    /// BTF tracepoints: cheaper, with exit codes, and able to attribute what is done to somebody else's memory.
    Btf,
    /// Classic tracepoints: for kernels without BTF.
    Classic,
}

impl TracepointKind {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Btf => "btf",
            Self::Classic => "classic",
        }
    }
}

/// A program at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its tracepoint, or function: `kmem:rss_stat`, `fexit:__x64_sys_mmap`.
    pub tracepoint: String,
    /// BTF or classic.
    pub kind: TracepointKind,
    /// Its id, as `bpftool prog show id` takes it; `None` where the kernel does not say.
    pub id: Option<u32>,
    /// How often it ran and for how long altogether; `None` unless the kernel measures it (`kernel.bpf_stats_enabled`).
    pub runs: Option<(u64, Duration)>,
}

/// How a kernel tells of the counters of an address space, and how they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The kernel says how many events it passed over because a program was at work on their CPU: since 5.12.
    pub misses_are_told: bool,
    /// Each CPU has a part of its own: since 6.2. Before, each thread has, of 64 events at most.
    pub per_cpu: bool,
    /// They are read by loads whose types the verifier checks, and not by a helper that copies.
    pub typed_loads: bool,
}

/// A program and what it is attached to: a tracepoint, or the beginning or end of a function.
pub(super) struct Entry {
    pub(super) program: &'static str,
    pub(super) category: &'static str,
    pub(super) name: &'static str,
}

pub(super) const fn entry(program: &'static str, category: &'static str, name: &'static str) -> Entry {
    Entry { program, category, name }
}

const COUNT_BTF: &[Entry] = &[
    entry("btf_exit", "sched", "sched_process_exit"),
    entry("btf_fork", "sched", "sched_process_fork"),
    entry("btf_exec", "sched", "sched_process_exec"),
    entry("btf_rss_stat", "kmem", "rss_stat"),
    entry("btf_page_fault", "exceptions", "page_fault_user"),
];

/// Without BTF a fork does not say whether a process or a thread begins: a process is known from its first fault on.
const COUNT_CLASSIC: &[Entry] = &[
    entry("tp_exit", "sched", "sched_process_exit"),
    entry("tp_exec", "sched", "sched_process_exec"),
    entry("tp_rss_stat", "kmem", "rss_stat"),
    entry("tp_page_fault", "exceptions", "page_fault_user"),
];

/// Its BTF arguments changed with almost every release; the classic field that is read never did. One can do without.
const VICTIM: Entry = entry("tp_mark_victim", "oom", "mark_victim");

/// How BTF programs read the kernel's structs where an event is frequent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// By loads whose types the verifier checks.
    Typed,
    /// By a helper that copies.
    Copied,
}

/// The loaded programs.
pub(super) struct Programs {
    ebpf: Ebpf,
    kind: TracepointKind,
    offsets: Offsets,
    calls: Calls,
    misses: Misses,
    /// Why there is no program for what one can do without: the kernel was built without the tracepoint.
    without_victims: Option<OpenError>,
}

impl Programs {
    /// Loads everything and attaches nothing yet, so that the maps can be taken before the first event.
    pub(super) fn load(
        options: &KernelOptions,
        kind: TracepointKind,
        tracefs: &Path,
        processes: u32,
    ) -> Result<Self, OpenError> {
        let mut programs = match Self::load_counts(options, kind, tracefs, processes, Reads::Typed) {
            // A kernel that does not take typed loads may take the dearer way.
            Err(error) if kind == TracepointKind::Btf && !error.denied => {
                Self::load_counts(options, kind, tracefs, processes, Reads::Copied)?
            }
            loaded => loaded?,
        };
        programs.without_victims = load_classic(&mut programs.ebpf, &[VICTIM], tracefs).err();
        Ok(programs)
    }

    fn load_counts(
        options: &KernelOptions,
        kind: TracepointKind,
        tracefs: &Path,
        processes: u32,
        reads: Reads,
    ) -> Result<Self, OpenError> {
        // 0 is below every level: the verifier drops the messages from the programs.
        let level: u8 = if options.debug { aya_log::Level::Debug as u8 } else { 0 };
        // First: where it reads all of the kernel's BTF after all, nothing else is held.
        let mut loader = loader::new();
        let Known { mut offsets, tracepoints, without_type } = known(kind, tracefs)?;
        offsets.typed_loads = u32::from(reads == Reads::Typed);
        loader.override_global("OFFSETS", &offsets, true).override_global("AYA_LOG_LEVEL", &level, false);
        loader.map_max_entries("PROCESSES", processes);
        if let Some(bytes) = options.ring_bytes {
            loader.map_max_entries("RECORDS", bytes);
        }
        let mut ebpf = loader
            .load(OBJECT)
            .map_err(|error| OpenError::while_doing("creating the kernel side's maps", &error))?;
        if let Some(tracepoints) = &tracepoints {
            load_btf(&mut ebpf, tracepoints)?;
        }
        load_classic(&mut ebpf, classic(kind), tracefs)?;
        let functions = match &tracepoints {
            Some(btf) => without_type.map_or(Ok(btf), Err),
            None => Err(OpenError::new("not tried with classic tracepoints", "use a kernel with BTF")),
        };
        let calls = Calls::load(&mut ebpf, functions, tracefs);
        let misses = Misses::of(ebpf.programs().map(|(_, program)| program));
        Ok(Self { ebpf, kind, offsets, calls, misses, without_victims: None })
    }

    /// Attaches the count tier.
    pub(super) fn attach(&mut self) -> Result<(), OpenError> {
        if self.kind == TracepointKind::Btf {
            for entry in COUNT_BTF {
                let program: &mut BtfTracePoint = program(&mut self.ebpf, entry)?;
                program.attach().map_err(|error| failed("attaching", entry, &error))?;
            }
        }
        for entry in classic(self.kind) {
            self.attach_classic(entry)?;
        }
        if self.without_victims.is_none() {
            self.without_victims = self.attach_classic(&VICTIM).err();
        }
        Ok(())
    }

    /// What is not measured because this kernel does not offer it, and why.
    pub(super) fn not_measured(&self) -> Vec<String> {
        let victims =
            self.without_victims.as_ref().map(|error| ("the OOM killer's choices are not seen", error));
        let calls =
            self.calls.missing().map(|error| ("the memory system calls of suspects are not counted", error));
        let said = |(what, error): (&str, &OpenError)| format!("{what}: {error}");
        victims.into_iter().chain(calls).map(said).collect()
    }

    /// Whether the memory system calls of suspects are traced.
    pub(super) fn is_inspecting(&self) -> bool {
        self.calls.are_traced()
    }

    /// Attaches or detaches what traces them.
    pub(super) fn inspect(&mut self, on: bool) -> Result<(), OpenError> {
        if on {
            return self.calls.attach(&mut self.ebpf);
        }
        self.calls.detach();
        Ok(())
    }

    /// How they are traced; `None` where they cannot be.
    pub(super) fn calls_by(&self) -> Option<CallsBy> {
        self.calls.by()
    }

    /// Why they are not traced where nobody else would pay for it.
    pub(super) fn without_functions(&self) -> Option<&OpenError> {
        self.calls.without_functions()
    }

    /// What is attached now.
    pub(super) fn attached(&self) -> Vec<Attached> {
        let kind = match self.calls.by() {
            Some(CallsBy::Functions) => TracepointKind::Btf,
            _ => TracepointKind::Classic,
        };
        let inspecting = self.calls.attached().iter().map(|entry| (entry, kind));
        let btf: &[Entry] = if self.kind == TracepointKind::Btf { COUNT_BTF } else { &[] };
        let victim = self.without_victims.is_none().then_some(&VICTIM);
        let classic = classic(self.kind).iter().chain(victim);
        btf.iter()
            .map(|entry| (entry, TracepointKind::Btf))
            .chain(classic.map(|entry| (entry, TracepointKind::Classic)))
            .chain(inspecting)
            .map(|(entry, kind)| self.at_work(entry, kind))
            .collect()
    }

    /// How long all programs have run altogether; `None` unless the kernel measures it.
    pub(super) fn run_time(&self) -> Option<Duration> {
        let measured = self.ebpf.programs().filter_map(|(_, program)| info(program));
        let times = measured.filter(|info| info.run_count() > 0).map(|info| info.run_time());
        times.reduce(|sum, time| sum + time)
    }

    /// How the running kernel's counters are told and read; `None` where tracepoints are classic.
    pub(super) fn counters(&self) -> Option<Counters> {
        (self.kind == TracepointKind::Btf).then_some(Counters {
            // A bare counter takes eight bytes, one that is summed over the CPUs has a lock and a list beside it.
            per_cpu: self.offsets.mm_rss_stride > 8,
            typed_loads: self.offsets.typed_loads != 0,
            misses_are_told: self.missed().is_some(),
        })
    }

    /// Events that no program saw; `None` where the kernel does not count them.
    pub(super) fn missed(&self) -> Option<u64> {
        self.misses.count()
    }

    pub(super) fn kind(&self) -> TracepointKind {
        self.kind
    }

    pub(super) fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    fn at_work(&self, entry: &Entry, kind: TracepointKind) -> Attached {
        let info = self.ebpf.program(entry.program).and_then(info);
        let measured = info.as_ref().filter(|info| info.run_count() > 0);
        Attached {
            tracepoint: entry.to_string(),
            kind,
            id: info.as_ref().map(ProgramInfo::id),
            runs: measured.map(|info| (info.run_count(), info.run_time())),
        }
    }

    fn attach_classic(&mut self, entry: &Entry) -> Result<(), OpenError> {
        let program: &mut TracePoint = program(&mut self.ebpf, entry)?;
        let attached = program.attach(entry.category, entry.name);
        attached.map(drop).map_err(|error| failed("attaching", entry, &error))
    }
}

/// The program of an entry.
pub(super) fn program<'a, P: TryFrom<&'a mut Program>>(
    ebpf: &'a mut Ebpf,
    entry: &Entry,
) -> Result<P, OpenError> {
    ebpf.program_mut(entry.program).and_then(|program| program.try_into().ok()).ok_or_else(|| {
        OpenError::new(
            format!("{entry}: the kernel side has no program for it on this architecture"),
            "use --source procfs",
        )
    })
}

fn load_btf(ebpf: &mut Ebpf, tracepoints: &Btf) -> Result<(), OpenError> {
    for entry in COUNT_BTF {
        let program: &mut BtfTracePoint = program(ebpf, entry)?;
        program.load(entry.name, tracepoints).map_err(|error| failed("loading", entry, &error))?;
    }
    Ok(())
}

/// Loads the programs of classic tracepoints whose fields are where they are expected.
pub(super) fn load_classic(ebpf: &mut Ebpf, entries: &[Entry], tracefs: &Path) -> Result<(), OpenError> {
    for entry in entries {
        formats::check(tracefs, entry.category, entry.name)?;
        let program: &mut TracePoint = program(ebpf, entry)?;
        program.load().map_err(|error| failed("loading", entry, &error))?;
    }
    Ok(())
}

fn classic(kind: TracepointKind) -> &'static [Entry] {
    if kind == TracepointKind::Btf { &[] } else { COUNT_CLASSIC }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.category, self.name)
    }
}

/// What the kernel says of a program; `None` of one that is not loaded.
fn info(program: &Program) -> Option<ProgramInfo> {
    match program {
        Program::BtfTracePoint(program) => program.info().ok(),
        Program::TracePoint(program) => program.info().ok(),
        Program::FEntry(program) => program.info().ok(),
        Program::FExit(program) => program.info().ok(),
        _ => None,
    }
}

pub(super) fn failed(doing: &str, entry: &Entry, error: &aya::programs::ProgramError) -> OpenError {
    OpenError::while_doing(&format!("{doing} {entry}"), error)
}

/// What the programs are told of the running kernel.
struct Known {
    offsets: Offsets,
    /// The BTF tracepoints' types, for the loader; `None` where tracepoints are classic.
    tracepoints: Option<Btf>,
    /// A function of which the BTF does not tell what it is given.
    without_type: Option<OpenError>,
}

fn known(kind: TracepointKind, tracefs: &Path) -> Result<Known, OpenError> {
    let mut known = match kind {
        TracepointKind::Btf => {
            let btf = offsets::read(Path::new(offsets::VMLINUX))?;
            let without_type =
                calls::functions().into_iter().find(|name| btf.call(name).is_none()).map(|name| {
                    let what = format!("the kernel's BTF does not tell what {name} is given");
                    OpenError::new(what, "use a newer kernel")
                });
            Known { offsets: offsets::look_up(&btf)?, tracepoints: Some(tracepoints(&btf)?), without_type }
        }
        // Classic is for kernels without BTF, and shows here what it would be there.
        TracepointKind::Classic | TracepointKind::Auto => {
            Known { offsets: Offsets::NONE, tracepoints: None, without_type: None }
        }
    };
    known.offsets.exit_group_dead = formats::exit_group_dead(tracefs)?;
    known.offsets.page_shift = page_size().trailing_zeros();
    Ok(known)
}

/// The loader asks for nothing but the ids of these types: all of the kernel's would take it 18 MB.
fn tracepoints(btf: &super::btf::Btf) -> Result<Btf, OpenError> {
    let names: Vec<String> = COUNT_BTF.iter().map(|entry| format!("btf_trace_{}", entry.name)).collect();
    Btf::parse(&btf.excerpt(&names, &calls::functions()), Endianness::default())
        .map_err(|error| OpenError::while_doing("reading the kernel's BTF", &error))
}

/// The size of a page in bytes.
pub(super) fn page_size() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}
