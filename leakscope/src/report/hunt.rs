//! What a hunt found, as the one JSON object that `hunt --json` prints: schema `leakscope.hunt/1`.
//!
//! The serde names are a contract (fields may be added, none renamed or removed); what was not measured is `None` and
//! becomes `null`, never 0. Everything that a report says of a hunt starts from these values. Start at [`Hunt`].

use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::action::Outcome;
use crate::leak::{Limit, Memory, Rate, State, TimeToOom, Verdict};
use crate::process::{Identity, Owner};
use crate::source::{KernelCounts, SourceKind};
use crate::units::{Bytes, BytesPerSec, Pid, ProcKey, Ticks};

use super::counts::{CallsLine, LossLine, RssLine};
use super::json;
use super::pressure::PressureLine;
use super::service::Service;

/// The whole result of a hunt.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "schema", rename = "leakscope.hunt/1")]
pub struct Hunt {
    /// When the first batch was read.
    pub started_at: Timestamp,
    /// When the last one was.
    pub finished_at: Timestamp,
    /// The machine.
    pub host: Host,
    /// Which kind of source observed it.
    #[serde(serialize_with = "source_name")]
    pub source: SourceKind,
    /// Events that the source could not keep; see [`crate::source::Lost::total`].
    pub lost_events: u64,
    /// The same by cause.
    pub lost: Vec<LossLine>,
    /// Whether anything leaks.
    pub verdict: HostVerdict,
    /// The processes that came under suspicion, the fastest growing first.
    pub suspects: Vec<Suspect>,
    /// Services whose workers grew together while none of them was told alone.
    pub services: Vec<Service>,
    /// What was done, in order.
    pub actions: Vec<Outcome>,
    /// Where the incident report was written; `None` where none was.
    pub report: Option<String>,
}

impl Hunt {
    /// The object as `hunt --json` prints it, indented, with a line break at its end.
    pub fn to_json(&self) -> anyhow::Result<String> {
        json::pretty(self)
    }
}

/// The machine that was observed, as it stood when the hunt began; its pressure is from later.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    /// Its name.
    pub hostname: String,
    /// The kernel's release, such as `6.18.44`.
    pub kernel: String,
    /// `MemTotal`.
    pub memory_total_bytes: Bytes,
    /// `MemAvailable` at the start.
    pub memory_available_bytes: Bytes,
    /// How tasks waited for memory when the first leak was confirmed, or at the end where none was; `None` where the kernel
    /// does not count that.
    pub pressure: Option<PressureLine>,
}

/// What is thought of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostVerdict {
    /// At least one process leaked.
    Leak,
    /// None did.
    Clean,
}

/// One process under suspicion, and all that is known of it.
#[derive(Clone, Debug, Serialize)]
pub struct Suspect {
    /// Its pid.
    pub pid: Pid,
    /// When it was started, in clock ticks since boot.
    pub start_time_ticks: Ticks,
    /// Its name of at most 15 bytes.
    pub comm: String,
    /// Its arguments.
    pub cmdline: Vec<String>,
    /// Its program, where that may be read.
    pub exe: Option<String>,
    /// Its effective user id.
    pub uid: u32,
    /// That user's name, where it has one.
    pub user: Option<String>,
    /// Who keeps it.
    pub owner: OwnerLine,
    /// What is thought of it.
    pub verdict: State,
    /// Whether clean growth lasted as long as was asked for.
    pub confirmed: bool,
    /// Always `null`: the verdict and its interval say it better than one number could.
    pub confidence: Option<f64>,
    /// How long the growth that the verdict rests on had lasted.
    #[serde(rename = "clean_growth_s", serialize_with = "json::seconds")]
    pub clean_growth: Duration,
    /// Why, one clause each, the weightiest first.
    pub reasons: Vec<String>,
    /// What it held, by kind.
    #[serde(flatten)]
    pub memory: MemoryLine,
    /// How fast it grew, while it grew.
    #[serde(flatten)]
    pub rate: RateLine,
    /// From the start of the hunt to `suspect`.
    #[serde(rename = "suspected_after_s", serialize_with = "json::maybe_seconds")]
    pub suspected_after: Option<Duration>,
    /// From the start of the hunt to confirmation.
    #[serde(rename = "confirmed_after_s", serialize_with = "json::maybe_seconds")]
    pub confirmed_after: Option<Duration>,
    /// When a limit would have been reached.
    pub oom: Option<Oom>,
    /// How the tasks of its own cgroup waited for memory; `None` where that is not counted.
    pub pressure: Option<PressureLine>,
    /// What the kernel side counted; `None` with a source that has none.
    pub kernel: Option<Kernel>,
    /// The rhythm of its growth, where it has one.
    pub cadence: Option<Cadence>,
    /// Why no rhythm is known, where none is.
    pub cadence_unknown: Option<String>,
    /// Where in the code it grew, the largest share first; `None` where that was not looked at.
    #[serde(rename = "where")]
    pub places: Option<Vec<Place>>,
}

impl Suspect {
    /// A suspect with what identity, verdict and memory say of it; the rest is not measured yet.
    pub fn new(identity: &Identity, verdict: &Verdict, memory: &Memory) -> Self {
        Self {
            pid: identity.key.pid,
            start_time_ticks: identity.key.start,
            comm: identity.comm.clone(),
            cmdline: identity.cmdline.clone(),
            exe: identity.exe.as_ref().map(|exe| exe.path.to_string_lossy().into_owned()),
            uid: identity.uid,
            user: identity.user.clone(),
            owner: OwnerLine::from(&identity.owner),
            verdict: verdict.state,
            confirmed: verdict.confirmed,
            confidence: None,
            clean_growth: verdict.clean_growth,
            reasons: verdict.reasons(),
            memory: MemoryLine::from(memory),
            rate: RateLine::from_verdict(verdict),
            suspected_after: None,
            confirmed_after: None,
            oom: None,
            pressure: None,
            kernel: None,
            cadence: None,
            cadence_unknown: None,
            places: None,
        }
    }

    /// Which process it is, for good.
    pub fn key(&self) -> ProcKey {
        ProcKey { pid: self.pid, start: self.start_time_ticks }
    }
}

/// Who keeps a process: [`Owner`] with paths as text.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OwnerLine {
    /// Its cgroup.
    pub cgroup: Option<String>,
    /// Its systemd unit.
    pub unit: Option<String>,
    /// Its container.
    pub container: Option<String>,
    /// The pid file that names it.
    pub pidfile: Option<String>,
}

impl From<&Owner> for OwnerLine {
    fn from(owner: &Owner) -> Self {
        let Owner { cgroup, unit, container, pidfile } = owner.clone();
        Self { cgroup, unit, container, pidfile: pidfile.map(|path| path.to_string_lossy().into_owned()) }
    }
}

/// A process's memory by kind, as JSON and tables name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryLine {
    /// Resident, all kinds.
    pub rss_bytes: Bytes,
    /// Resident, anonymous.
    pub anon_bytes: Bytes,
    /// Resident pages of mapped files.
    pub file_bytes: Bytes,
    /// Resident shared memory.
    pub shmem_bytes: Bytes,
    /// Anonymous pages in swap.
    pub swap_bytes: Bytes,
}

impl MemoryLine {
    /// Anonymous resident and swapped bytes together.
    pub fn footprint(&self) -> Bytes {
        self.anon_bytes + self.swap_bytes
    }
}

impl From<&Memory> for MemoryLine {
    fn from(memory: &Memory) -> Self {
        let Memory { anon, file, shmem, swap } = *memory;
        Self {
            rss_bytes: memory.rss(),
            anon_bytes: anon,
            file_bytes: file,
            shmem_bytes: shmem,
            swap_bytes: swap,
        }
    }
}

/// A growth rate with its 95 % confidence interval; all `None` for a process that does not grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RateLine {
    /// The estimate.
    pub rate_bytes_per_s: Option<BytesPerSec>,
    /// The interval's lower end.
    pub rate_low_bytes_per_s: Option<BytesPerSec>,
    /// The interval's upper end.
    pub rate_high_bytes_per_s: Option<BytesPerSec>,
}

impl RateLine {
    /// The rate, where there is one.
    pub fn rate(&self) -> Option<Rate> {
        let (mean, low, high) =
            (self.rate_bytes_per_s?, self.rate_low_bytes_per_s?, self.rate_high_bytes_per_s?);
        Some(Rate { mean, low, high })
    }

    /// The rate that a verdict carries.
    pub fn from_verdict(verdict: &Verdict) -> Self {
        Self {
            rate_bytes_per_s: verdict.rate.map(|rate| rate.mean),
            rate_low_bytes_per_s: verdict.rate.map(|rate| rate.low),
            rate_high_bytes_per_s: verdict.rate.map(|rate| rate.high),
        }
    }
}

/// When a limit would be reached if the growth went on: an estimate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Oom {
    /// `host`, or the path of the cgroup whose limit it is.
    pub limit: String,
    /// How large the limit is.
    pub limit_bytes: Bytes,
    /// What was left under it.
    pub left_bytes: Bytes,
    /// How many processes grow under it and use it up together, this one included.
    pub growers: usize,
    /// How fast they grow together.
    pub growth_bytes_per_s: BytesPerSec,
    /// Whether it is less than two minutes away.
    pub runaway: bool,
    /// The estimate.
    #[serde(rename = "eta_s", serialize_with = "json::seconds")]
    pub eta: Duration,
    /// The earliest.
    #[serde(rename = "eta_low_s", serialize_with = "json::seconds")]
    pub low: Duration,
    /// The latest; `None` where the rate's interval reaches down to no growth.
    #[serde(rename = "eta_high_s", serialize_with = "json::maybe_seconds")]
    pub high: Option<Duration>,
}

impl From<&TimeToOom> for Oom {
    fn from(oom: &TimeToOom) -> Self {
        Self {
            limit: match &oom.room.limit {
                Limit::Host => "host".to_owned(),
                Limit::Cgroup(path) => path.clone(),
            },
            limit_bytes: oom.room.size,
            left_bytes: oom.room.left,
            growers: oom.demand.growers,
            growth_bytes_per_s: oom.demand.rate.mean,
            runaway: oom.runaway(),
            eta: oom.eta,
            low: oom.low,
            high: oom.high,
        }
    }
}

/// What the kernel side counted for a suspect. The three of the syscalls are counted only while it is inspected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Kernel {
    /// User page faults: first touches and copies on write.
    pub page_faults: u64,
    /// Heap that `brk` added.
    pub brk_bytes: Option<Bytes>,
    /// What `mmap` added without a file behind it.
    pub mmap_bytes: Option<Bytes>,
    /// What `munmap` took away.
    pub munmap_bytes: Option<Bytes>,
    /// How much of the growth that /proc shows these counts account for; 1 is all of it.
    pub explained: Option<f64>,
    /// Of the page faults, those on pages that were not present.
    pub first_touch_faults: u64,
    /// And those on present pages: copies on write.
    pub protection_faults: u64,
    /// What `rss_stat` showed, by kind of memory.
    pub rss: RssLine,
    /// The memory system calls, while it was inspected.
    pub calls: Option<CallsLine>,
    /// Processes that it forked.
    pub forks: Option<u64>,
    /// How often it became another program while it was watched; each starts the other counts again.
    pub execs: Option<u64>,
}

impl Kernel {
    /// From the counts of one process; `explained` is left open.
    pub fn new(counts: &KernelCounts) -> Self {
        let calls = counts.syscalls.as_ref();
        Self {
            page_faults: counts.first_touch_faults.saturating_add(counts.protection_faults),
            brk_bytes: calls.map(|calls| calls.brk.grown),
            mmap_bytes: calls.map(|calls| calls.mmap_anon.bytes),
            munmap_bytes: calls.map(|calls| calls.munmap.bytes),
            explained: None,
            first_touch_faults: counts.first_touch_faults,
            protection_faults: counts.protection_faults,
            rss: RssLine::from(counts),
            calls: counts.syscalls.map(CallsLine::from),
            forks: counts.forks,
            execs: counts.execs,
        }
    }
}

/// The rhythm of a growth: so many bytes, once a period.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cadence {
    /// From one step to the next.
    #[serde(rename = "period_s", serialize_with = "json::seconds")]
    pub period: Duration,
    /// The size of a step as the allocator counts it; `None` where no size repeats.
    pub bytes: Option<Bytes>,
}

/// One place in the code, by the stack that first touched the pages that stayed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// Its share of the growth that was looked at, 0 to 1.
    pub share: f64,
    /// How much of it.
    pub bytes: Bytes,
    /// The stack, innermost first: `function (file:line)`.
    pub frames: Vec<String>,
}

fn source_name<S: Serializer>(source: &SourceKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(source.name())
}
