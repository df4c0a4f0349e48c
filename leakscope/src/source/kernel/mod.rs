//! The kernel side as a source: tracepoints say who changed, /proc says how much. Only processes that changed are read.
//!
//! This folder alone knows aya and the wire. [`KernelSource::open`] loads and attaches (`programs`), checks that the
//! running kernel is the one that the programs expect (`formats`, `offsets`), and [`Source::next_batch`] turns what the
//! ring says into readings and events (`batch`). Start there.
//!
//! Why nothing is missed: each batch begins an epoch, and a process is reported once in each epoch in which it changes. A
//! report that carries the new epoch is left for the next batch, because the process may change again after it was read.
//! What is lost all the same (a full ring, a full map) is counted, all of /proc is read for it at most once a second, and a
//! slow walk over /proc and a comparison of pids every 20 seconds correct what nobody told of.

mod batch;
mod btf;
mod calls;
mod contract;
mod error;
mod faults;
mod formats;
mod loader;
mod maps;
mod misses;
mod offsets;
mod programs;
mod tracefs;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use aya_log::EbpfLogger;
use leakscope_common::{PROCESSES_DEFAULT, RING_BYTES, SUSPECTS_MAX, Tallies, Tally};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::time::Interval;

pub use calls::CallsBy;
pub use contract::{Contract, recorded as recorded_contracts};
pub use error::OpenError;
pub use maps::MapFill;
pub use programs::{Attached, Counters, TracepointKind};

use self::batch::Known;
use self::faults::FaultTrail;
use self::maps::Maps;
use self::programs::Programs;
use super::held::HeldFiles;
use super::host::Host;
use super::process::ProcRoot;
use super::procfs::ticking;
use super::unread::Unread;
use super::{Batch, Fill, KernelSide, Lost, SAMPLE_PERIOD, Source, SourceKind};
use crate::units::{Moment, Pid, ProcKey};

/// The pid namespace that the kernel was booted with (`PROC_PID_INIT_INO` in include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// How often the programs are asked what they missed.
const MISSED_PERIOD: Duration = Duration::from_secs(1);

/// How the kernel side is opened.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// How often a batch is made; longer than zero.
    pub period: Duration,
    /// The proc file system.
    pub proc_root: PathBuf,
    /// Which kind of tracepoints to attach.
    pub tracepoints: TracepointKind,
    /// Processes that the kernel side keeps counts for; `None`: as many as there can be pids, at most 65,536 (18 MB).
    pub max_processes: Option<u32>,
    /// Bytes of the ring, a power of two and at least a page; `None`: 512 KiB, enough for 16,000 processes that change
    /// within one period.
    pub ring_bytes: Option<u32>,
    /// Whether the kernel side says on stderr what it does.
    pub debug: bool,
    /// Where tracefs is; `None`: where it is found, or mounted.
    pub tracefs: Option<PathBuf>,
}

impl Default for KernelOptions {
    fn default() -> Self {
        Self {
            period: SAMPLE_PERIOD,
            proc_root: PathBuf::from("/proc"),
            tracepoints: TracepointKind::Auto,
            max_processes: None,
            ring_bytes: None,
            debug: false,
            tracefs: None,
        }
    }
}

/// The state of the kernel side, for `doctor` and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which kind of tracepoints the count tier uses.
    pub kind: TracepointKind,
    /// How the counters of an address space are told; `None` where tracepoints are classic.
    pub counters: Option<Counters>,
    /// How a suspect's memory system calls are traced; `None` where they cannot be.
    pub calls: Option<CallsBy>,
    /// Why they are not traced at the ends of the kernel's functions.
    pub without_functions: Option<String>,
    /// The programs at work.
    pub attached: Vec<Attached>,
    /// How full the maps are.
    pub maps: Vec<MapFill>,
    /// Changes that only the walk over /proc found, since the source was opened.
    pub corrections: u64,
    /// Changes of somebody else's memory that the kernel did not attribute; includes exits where tracepoints are
    /// classic.
    pub remote_unknown: u64,
    /// `rss_stat` events of processes that had no entry: idle since before leakscope, or exiting.
    pub not_yet_known: u64,
}

impl Status {
    /// What is neither a loss nor a reading, in a line.
    pub fn summary(&self) -> String {
        format!(
            "{} changes found only by the walk over /proc, {} events of somebody else's memory that the kernel does not \
             attribute, {} events of processes that were idle since before the start or exiting",
            self.corrections, self.remote_unknown, self.not_yet_known
        )
    }
}

/// Tracepoints and /proc.
pub struct KernelSource {
    programs: Programs,
    maps: Maps,
    proc_root: ProcRoot,
    /// Of processes that change again and again.
    held: HeldFiles,
    host: Host,
    period: Duration,
    ticks: Option<Interval>,
    notes: Vec<String>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Every process that was reported and is not known to be gone.
    known: BTreeMap<Pid, Known>,
    /// To be read in the next batch.
    deferred: BTreeSet<Pid>,
    inspected: BTreeMap<Pid, (ProcKey, FaultTrail)>,
    /// Suspects that found no place.
    suspects_refused: u64,
    /// Whether all of /proc is to be read: at first, and after records were lost.
    rescan: bool,
    /// As the last batch read them.
    tallies: Tallies,
    ring_losses: u64,
    /// Whether a process ever found no place in the map, so that a missing entry says nothing.
    map_was_full: bool,
    walked_to: Pid,
    corrections: u64,
    vanished: u64,
    unread: Unread,
    /// Events that no program saw, and when that was asked: it takes a file for each program.
    missed: u64,
    missed_at: Option<Moment>,
    /// Known processes that were not found in the batch before.
    missing: BTreeSet<Pid>,
    rescanned_at: Option<Moment>,
    swept_at: Option<Moment>,
    /// Entries of PROCESSES that were left by then.
    kept: u32,
    /// Why the calls of suspects could not be traced, and how often.
    untraced: Option<(String, u64)>,
}

impl KernelSource {
    /// Loads the kernel side and attaches its count tier; dropping the source detaches it.
    ///
    /// # Errors
    /// Says what failed, why, and what to do: another architecture, missing privilege, a nested pid namespace, a kernel
    /// whose tracepoints or structs are not the expected ones.
    pub fn open(options: &KernelOptions) -> Result<Self, OpenError> {
        if options.period.is_zero() {
            return Err(OpenError::new("the sampling period is zero", "give one such as 250ms"));
        }
        programs::refuse_other_architectures(std::env::consts::ARCH)?;
        refuse_nested_pid_namespace()?;
        let mut notes = Vec::new();
        let tracefs = match &options.tracefs {
            Some(place) => place.clone(),
            None => tracefs::find(&mut notes)?,
        };
        let processes = options.max_processes.unwrap_or_else(pids_possible);
        lift_memory_lock_limit();
        let load = |kind| Programs::load(options, kind, &tracefs, processes);
        let mut programs = match options.tracepoints {
            TracepointKind::Auto => match load(TracepointKind::Btf) {
                Ok(programs) => programs,
                Err(error) => {
                    // A kernel that refuses the one may allow the other; if not, the first refusal says more.
                    let programs = load(TracepointKind::Classic);
                    let programs =
                        if error.denied { programs.map_err(|_| error.clone())? } else { programs? };
                    notes.push(format!("{}: using classic tracepoints", error.what));
                    programs
                }
            },
            kind => load(kind)?,
        };
        let ring_bytes = options.ring_bytes.unwrap_or(RING_BYTES);
        let maps = Maps::take(programs.ebpf_mut(), processes, ring_bytes)?;
        let logger = options.debug.then(|| kernel_messages(&mut programs)).transpose()?;
        programs.attach()?;
        notes.extend(programs.not_measured());
        give_back();
        Ok(Self {
            programs,
            maps,
            proc_root: ProcRoot::new(&options.proc_root),
            held: HeldFiles::new(),
            host: Host::new(&options.proc_root),
            period: options.period,
            ticks: None,
            notes,
            logger,
            known: BTreeMap::new(),
            deferred: BTreeSet::new(),
            inspected: BTreeMap::new(),
            suspects_refused: 0,
            rescan: true,
            tallies: Tallies::ZERO,
            ring_losses: 0,
            map_was_full: false,
            walked_to: Pid(0),
            corrections: 0,
            vanished: 0,
            unread: Unread::default(),
            missed: 0,
            missed_at: None,
            missing: BTreeSet::new(),
            rescanned_at: None,
            swept_at: None,
            kept: 0,
            untraced: None,
        })
    }

    /// What the user should know about how it was opened: tracefs was mounted, classic tracepoints had to do.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Has the kernel measure how long its BPF programs run, until what is returned is dropped: all of them, and each
    /// run takes some tens of nanoseconds more.
    ///
    /// # Errors
    /// Before 5.8, and without CAP_SYS_ADMIN.
    pub fn measure_run_times() -> Result<OwnedFd, OpenError> {
        aya::sys::enable_stats(aya::sys::Stats::RunTime)
            .map_err(|error| OpenError::while_doing("measuring run times (BPF_ENABLE_STATS)", &error))
    }

    /// What is at work, and how full it is.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn status(&self) -> Result<Status> {
        let tallies = self.maps.tallies()?;
        Ok(Status {
            kind: self.programs.kind(),
            counters: self.programs.counters(),
            calls: self.programs.calls_by(),
            without_functions: self.programs.without_functions().map(ToString::to_string),
            attached: self.programs.attached(),
            maps: self.maps.fill(),
            corrections: self.corrections,
            remote_unknown: tallies.get(Tally::RemoteUnknown),
            not_yet_known: tallies.get(Tally::NotYetKnown),
        })
    }

    fn lost(&self) -> Lost {
        let cause = |tally| Some((maps::cause(tally)?.into(), self.tallies.get(tally)));
        let mut causes: Vec<_> = Tally::ALL.into_iter().filter_map(cause).collect();
        causes.push((
            "a program was at work on that CPU already: an event was not counted".into(),
            self.missed,
        ));
        causes.extend(self.unread.causes());
        causes.push(("more suspects than can be inspected".into(), self.suspects_refused));
        causes.extend(self.untraced.as_ref().map(|(why, count)| (why.clone().into(), *count)));
        causes.retain(|(_, count)| *count > 0);
        Lost { causes, vanished: self.vanished }
    }
}

impl Source for KernelSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Ebpf
    }

    fn kernel_side(&self) -> Option<KernelSide> {
        Some(KernelSide {
            run_time: self.programs.run_time(),
            processes: Fill { used: self.kept, capacity: self.maps.processes_capacity() },
            suspects: Fill {
                used: u32::try_from(self.inspected.len()).unwrap_or(u32::MAX),
                capacity: SUSPECTS_MAX,
            },
        })
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>> {
        let period = self.period;
        let ticks = self.ticks.get_or_insert_with(|| ticking(period));
        ticks.tick().await;
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        let (at, wall) = Host::now();
        let (readings, events) = self.observe(at)?;
        let host = self.host.memory(at)?;
        if self.missed_at.is_none_or(|last| at.since(last) >= MISSED_PERIOD) {
            (self.missed, self.missed_at) = (self.programs.missed().unwrap_or(0), Some(at));
        }
        let lost = self.lost();
        Ok(Some(Batch { at, wall, host, readings, events, lost }))
    }

    fn inspect(&mut self, suspects: &[ProcKey]) -> Result<()> {
        let capacity = SUSPECTS_MAX as usize;
        self.suspects_refused += suspects.len().saturating_sub(capacity) as u64;
        let wanted: BTreeMap<Pid, ProcKey> =
            suspects.iter().take(capacity).map(|key| (key.pid, *key)).collect();
        let is_wanted = |key: &ProcKey| wanted.get(&key.pid) == Some(key);
        let over: Vec<Pid> =
            self.inspected.iter().filter(|(_, (key, _))| !is_wanted(key)).map(|(pid, _)| *pid).collect();
        for pid in over {
            self.maps.end_suspect(pid)?;
            self.inspected.remove(&pid);
        }
        for (pid, key) in wanted {
            if !self.inspected.contains_key(&pid) {
                self.maps.begin_suspect(pid)?;
                self.inspected.insert(pid, (key, FaultTrail::default()));
            }
        }
        self.switch_inspection()
    }
}

impl KernelSource {
    /// The tier is attached exactly while somebody is inspected. Where it cannot be, the watch goes on without it.
    fn switch_inspection(&mut self) -> Result<()> {
        let count = u32::try_from(self.inspected.len()).unwrap_or(u32::MAX);
        self.maps.set_suspects(count)?;
        if let Err(error) = self.programs.inspect(count > 0) {
            let times = self.untraced.as_ref().map_or(0, |(_, times)| *times) + 1;
            let why = format!("the system calls of a suspect could not be traced: {}", error.what);
            self.untraced = Some((why, times));
        }
        Ok(())
    }
}

/// BPF programs see the pids of the initial namespace; in another one they would name other processes.
fn refuse_nested_pid_namespace() -> Result<(), OpenError> {
    let Ok(own) = std::fs::read_link("/proc/self/ns/pid") else { return Ok(()) };
    if own.as_os_str() == INITIAL_PID_NAMESPACE {
        return Ok(());
    }
    Err(OpenError::new(
        format!("this is the pid namespace {}, and kernel programs see the host's pids", own.display()),
        "run in the host's pid namespace (docker run --pid=host, hostPID: true), or use --source procfs",
    ))
}

/// Before 5.11 the maps count against RLIMIT_MEMLOCK, of which few have more than 64 KB. Where it may not be lifted, it is
/// the map that is too large for it that fails, and says so.
fn lift_memory_lock_limit() {
    let without_limit = Rlimit { current: None, maximum: None };
    let _ = setrlimit(Resource::Memlock, without_limit);
}

/// The kernel's BTF takes megabytes for a moment, which the allocator would keep for ever.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: gives unused pages of the heap back; has no preconditions.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// As many pids as the kernel gives out, within reason.
fn pids_possible() -> u32 {
    const MOST: u32 = 65_536;
    let text = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    text.trim().parse().unwrap_or(PROCESSES_DEFAULT).clamp(1024, MOST)
}

fn kernel_messages(programs: &mut Programs) -> Result<EbpfLogger<&'static dyn log::Log>, OpenError> {
    EbpfLogger::init_with_logger(programs.ebpf_mut(), &Stderr as &'static dyn log::Log)
        .map_err(|error| OpenError::while_doing("opening the kernel side's messages", &error))
}

/// Writes the kernel side's messages where the user asked to see them.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("kernel: {}", record.args());
    }

    fn flush(&self) {}
}
