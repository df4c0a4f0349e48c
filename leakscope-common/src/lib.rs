//! What crosses from the kernel side to the user side: `repr(C)` structs without padding, map capacities,
//! and nothing that decides anything.
//!
//! Each struct is the only description of its bytes: both sides compile this file, and its sizes are asserted below.
//! Fields that several CPUs change are plain integers here; the kernel side adds to them atomically.
//! Start at [`Process`], which the kernel side keeps for each process, and [`Record`], which says who changed.
#![no_std]

/// Kinds of memory that the kernel counts for a process, and how `rss_stat`'s `member` numbers them
/// (include/linux/mm_types_task.h; the same since 4.5).
pub const RSS_KINDS: usize = 4;
/// Index of resident pages of mapped files.
pub const RSS_FILE: usize = 0;
/// Index of resident anonymous pages.
pub const RSS_ANON: usize = 1;
/// Index of anonymous pages in swap.
pub const RSS_SWAP: usize = 2;
/// Index of resident pages of shared memory.
pub const RSS_SHMEM: usize = 3;

/// Processes that `PROCESSES` holds unless the loader says otherwise.
pub const PROCESSES_DEFAULT: u32 = 32_768;
/// Processes that can be inspected at a time.
pub const SUSPECTS_MAX: u32 = 256;
/// System calls that can be under way in inspected threads; the least recently begun gives way.
pub const CALLS_MAX: u32 = 4096;
/// Bytes of the ring that carries [`Record`]s; a record takes 32 with the ring's own header.
pub const RING_BYTES: u32 = 512 * 1024;
/// Places that are found without a call, a power of two: 5 MB.
pub const SLOTS: u32 = 32_768;
/// Faults that are remembered for each suspect; a power of two, the newest replaces the oldest.
pub const FAULTS_MAX: usize = 64;

/// What the kernel side keeps for one process (thread group), keyed by its tgid.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// When it was forked, nanoseconds of `CLOCK_BOOTTIME`; 0 where the kernel side cannot tell (no BTF).
    pub start_boottime: u64,
    /// The epoch in which user space was last told that it changed; 0: never.
    pub epoch: u32,
    /// How often it became another program; each starts the counts below again.
    pub execs: u32,
    /// Not 0 while it runs in the address space of the process that forked it (vfork, `CLONE_VM`): what it does to that
    /// memory is the owner's.
    pub shares_mm: u64,
    /// Processes that it forked.
    pub forks: u64,
    /// User faults on pages that were not present.
    pub first_touch: u64,
    /// User faults on pages that were present.
    pub protection: u64,
    /// By kind, see [`RSS_ANON`].
    pub rss: [RssKind; RSS_KINDS],
}

impl Process {
    /// A process of which nothing was counted yet.
    pub const fn new(start_boottime: u64) -> Self {
        Self {
            start_boottime,
            epoch: 0,
            execs: 0,
            shares_mm: 0,
            forks: 0,
            first_touch: 0,
            protection: 0,
            rss: [RssKind::UNSEEN; RSS_KINDS],
        }
    }
}

/// A place in the array `SLOTS`, where the kernel side finds a process without a call. The process whose tgid is this
/// place's index in its low bits has its counts here, if the place was free when it came; otherwise in `PROCESSES`, where
/// it has an entry in any case.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Whose place it is: the tgid and 1; 0: nobody's.
    pub tag: u64,
    /// How many processes claim it: it belongs to the one that found no other.
    pub claims: u64,
    /// The counts.
    pub process: Process,
}

impl Slot {
    /// Nobody's.
    pub const FREE: Self = Self { tag: 0, claims: 0, process: Process::new(0) };

    /// What [`Slot::tag`] is of a place of this process'.
    pub const fn tag(tgid: u32) -> u64 {
        tgid as u64 + 1
    }

    /// The index of the place that a process may have.
    pub const fn index(tgid: u32) -> u32 {
        tgid & (SLOTS - 1)
    }
}

/// What `rss_stat` showed of one kind of memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RssKind {
    /// The last value, in pages; [`RssKind::NO_VALUE`] before the first.
    pub pages: i64,
    /// Pages by which the value rose from event to event.
    pub grown: u64,
    /// Pages by which it fell.
    pub shrunk: u64,
}

impl RssKind {
    /// `pages` before the first event.
    pub const NO_VALUE: i64 = -1;
    /// Before the first event.
    pub const UNSEEN: Self = Self { pages: Self::NO_VALUE, grown: 0, shrunk: 0 };
}

/// What [`Record::kind`] can be.
pub mod record {
    /// The process' memory changed in the epoch `detail`.
    pub const CHANGED: u32 = 1;
    /// The last thread of the process exits; `detail` is the kernel's exit code if `flags` has [`HAS_CODE`].
    pub const EXITED: u32 = 2;
    /// The OOM killer chose the process.
    pub const OOM_VICTIM: u32 = 3;
    /// In `flags`: `detail` holds an exit code.
    pub const HAS_CODE: u32 = 1;
}

/// What the ring carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// One of [`record`].
    pub kind: u32,
    /// Which process.
    pub tgid: u32,
    /// When it was forked, nanoseconds of `CLOCK_BOOTTIME`; 0 where the kernel side cannot tell.
    pub start_boottime: u64,
    /// See [`record`].
    pub detail: u32,
    /// See [`record`].
    pub flags: u32,
}

/// What user space tells the kernel side while it runs: the one element of `CONTROL`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Counts the batches, from 1. A process is reported once in each epoch in which it changes.
    pub epoch: u32,
    /// How many processes are being inspected.
    pub suspects: u32,
}

/// Successful calls and their bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCount {
    /// Calls.
    pub calls: u64,
    /// Bytes, in whole pages where the kernel works in pages.
    pub bytes: u64,
}

/// Bytes added and taken away.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCount {
    /// Added.
    pub grown: u64,
    /// Taken away.
    pub shrunk: u64,
}

/// One user fault on a page that was not present.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// When, nanoseconds of `CLOCK_MONOTONIC`; 0: this slot was never used.
    pub time: u64,
    /// The address that was touched.
    pub address: u64,
}

/// What the kernel side keeps for one inspected process, keyed by its tgid. User space inserts and removes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// `brk`.
    pub brk: FlowCount,
    /// `mmap` without a file.
    pub mmap_anon: CallCount,
    /// `mmap` of a file.
    pub mmap_file: CallCount,
    /// `munmap`.
    pub munmap: CallCount,
    /// `mremap`: bytes added and taken away.
    pub mremap: FlowCount,
    /// `mremap`: calls.
    pub mremap_calls: u64,
    /// `madvise` with `MADV_DONTNEED` or `MADV_FREE`.
    pub madvise_free: CallCount,
    /// The end of the heap after the last `brk`, for kernels whose `mm_struct` cannot be read; 0: not seen yet.
    pub last_brk: u64,
    /// How many faults were recorded: the next goes to the slot `fault_count % FAULTS_MAX`.
    pub fault_count: u64,
    /// The last faults.
    pub faults: [Fault; FAULTS_MAX],
}

impl Suspect {
    /// Nothing seen yet.
    pub const NEW: Self = Self {
        brk: FlowCount { grown: 0, shrunk: 0 },
        mmap_anon: CallCount { calls: 0, bytes: 0 },
        mmap_file: CallCount { calls: 0, bytes: 0 },
        munmap: CallCount { calls: 0, bytes: 0 },
        mremap: FlowCount { grown: 0, shrunk: 0 },
        mremap_calls: 0,
        madvise_free: CallCount { calls: 0, bytes: 0 },
        last_brk: 0,
        fault_count: 0,
        faults: [Fault { time: 0, address: 0 }; FAULTS_MAX],
    };
}

/// Where the running kernel keeps what the kernel side reads: byte offsets, looked up in its BTF when the programs are
/// loaded. [`Offsets::ABSENT`] stands for what it does not have.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.mm`.
    pub task_mm: u32,
    /// `task_struct.pid`.
    pub task_pid: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `task_struct.exit_code`.
    pub task_exit_code: u32,
    /// `task_struct.group_leader`.
    pub task_group_leader: u32,
    /// `task_struct.start_boottime`; `real_start_time` before 5.5.
    pub task_start_boottime: u32,
    /// `signal_struct.live`.
    pub signal_live: u32,
    /// `signal_struct.flags`.
    pub signal_flags: u32,
    /// `signal_struct.group_exit_code`.
    pub signal_group_exit_code: u32,
    /// `mm_struct.owner`: only with `CONFIG_MEMCG`.
    pub mm_owner: u32,
    /// The first counter of `mm_struct.rss_stat`.
    pub mm_rss: u32,
    /// From one counter of `mm_struct.rss_stat` to the next.
    pub mm_rss_stride: u32,
    /// `mm_struct.brk`.
    pub mm_brk: u32,
    /// `group_dead` in the classic `sched_process_exit`: since 6.16.
    pub exit_group_dead: u32,
    /// Not an offset: the page's size is 2 to the power of this.
    pub page_shift: u32,
    /// Not an offset: whether the BTF programs read what the verifier knows the type of by plain loads; 0: by checked
    /// copies, for a kernel that refuses those.
    pub typed_loads: u32,
}

impl Offsets {
    /// An offset that the kernel does not have.
    pub const ABSENT: u32 = u32::MAX;
    /// Nothing known.
    pub const NONE: Self = Self {
        task_mm: Self::ABSENT,
        task_pid: Self::ABSENT,
        task_tgid: Self::ABSENT,
        task_signal: Self::ABSENT,
        task_exit_code: Self::ABSENT,
        task_group_leader: Self::ABSENT,
        task_start_boottime: Self::ABSENT,
        signal_live: Self::ABSENT,
        signal_flags: Self::ABSENT,
        signal_group_exit_code: Self::ABSENT,
        mm_owner: Self::ABSENT,
        mm_rss: Self::ABSENT,
        mm_rss_stride: Self::ABSENT,
        mm_brk: Self::ABSENT,
        exit_group_dead: Self::ABSENT,
        page_shift: 12,
        typed_loads: 0,
    };
}

/// What one CPU counted: the one element of the per-CPU array `TALLIES`, so that user space reads all with one call.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tallies {
    /// By [`Tally`]; the rest is room for more.
    pub counts: [u64; Self::PLACES],
}

impl Tallies {
    /// A power of two: the kernel side masks its index with it, for the verifier.
    pub const PLACES: usize = 16;
    /// Nothing counted.
    pub const ZERO: Self = Self { counts: [0; Self::PLACES] };

    /// How often it was counted.
    pub const fn get(&self, tally: Tally) -> u64 {
        self.counts[tally as usize]
    }
}

/// What the kernel side counts of itself: an index into [`Tallies`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// A process had no room in `PROCESSES`.
    ProcessesFull = 0,
    /// "It changed" had no room in the ring: tried again at the process' next event.
    ChangeRingFull = 1,
    /// An exit or an OOM kill had no room in the ring.
    ExitRingFull = 2,
    /// A read of kernel memory failed.
    ReadFailed = 3,
    /// The arguments of an inspected call were evicted before it returned, or the call began before the inspection.
    CallUnmatched = 4,
    /// The arguments of an inspected call could not be stored.
    CallsFull = 5,
    /// The memory of somebody else was changed, and the kernel does not say whose. Classic tracepoints cannot tell this
    /// from an exit.
    RemoteUnknown = 6,
    /// `rss_stat` for a process that is not in `PROCESSES`: older than leakscope and idle since, exiting, or a loss
    /// that was counted as `ProcessesFull`.
    NotYetKnown = 7,
    /// `rss_stat` for a kind of memory that this build does not know.
    UnknownKind = 8,
}

impl Tally {
    /// How many there are.
    pub const COUNT: u32 = 9;
    /// All of them, in the order of their indices.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::ProcessesFull,
        Self::ChangeRingFull,
        Self::ExitRingFull,
        Self::ReadFailed,
        Self::CallUnmatched,
        Self::CallsFull,
        Self::RemoteUnknown,
        Self::NotYetKnown,
        Self::UnknownKind,
    ];
}

// Padding would be uninitialised bytes that cross to user space (and that the verifier refuses on the way).
const _: () = {
    assert!(size_of::<RssKind>() == 24);
    assert!(size_of::<Process>() == 48 + RSS_KINDS * size_of::<RssKind>());
    assert!(size_of::<Slot>() == 16 + size_of::<Process>());
    assert!(SLOTS.is_power_of_two());
    assert!(size_of::<Record>() == 24);
    assert!(size_of::<Control>() == 8);
    assert!(size_of::<Suspect>() == 2 * 16 + 4 * 16 + 24 + FAULTS_MAX * 16);
    assert!(size_of::<Offsets>() == 17 * 4);
    assert!(size_of::<Tallies>() == Tallies::PLACES * 8);
    assert!(FAULTS_MAX.is_power_of_two());
    assert!(Tallies::PLACES.is_power_of_two() && Tally::COUNT as usize <= Tallies::PLACES);
};

#[cfg(feature = "user")]
mod pod {
    // SAFETY: repr(C), integers only, no padding (asserted above).
    unsafe impl aya::Pod for super::Process {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Slot {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Control {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Suspect {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Offsets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Tallies {}
}
