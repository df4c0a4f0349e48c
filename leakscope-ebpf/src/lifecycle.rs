//! Processes begin, become another program, and end. Threads count for their process.
//!
//! What is reported as gone stays gone: an exit removes the entry, and only a fault or a fork makes one.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use leakscope_common::{Offsets, Process, RSS_KINDS, Record, RssKind, Tally, record};

use crate::maps::{add, mark_changed, offset, push};
use crate::memory::{field, insert};
use crate::processes;
use crate::task::{self, Address};

/// `signal_struct.flags`: the whole group exits with `group_exit_code` (include/linux/sched/signal.h).
const SIGNAL_GROUP_EXIT: u32 = 4;

/// `sched_process_fork(parent, child)`.
#[inline(always)]
pub fn try_fork_btf(ctx: &BtfTracePointContext) -> Result<(), Tally> {
    let child = ctx.arg::<*const u8>(1) as Address;
    let pid: u32 = task::load(child, offset!(task_pid))?;
    let tgid: u32 = task::load(child, offset!(task_tgid))?;
    let mm: Address = task::load(child, offset!(task_mm))?;
    // A thread counts for its process, and a thread of the kernel has no memory of its own.
    if pid != tgid || mm == 0 {
        return Ok(());
    }
    let parent_mm: Address = task::read(task::current(), offset!(task_mm))?;
    let start_boottime = task::load(child, offset!(task_start_boottime))?;
    // BPF_ANY: whatever is there is a leftover of a process that had this pid before.
    processes::begin(tgid, start_boottime, u64::from(mm == parent_mm), u64::from(BPF_ANY));
    let process = processes::find(tgid).ok_or(Tally::ProcessesFull)?;
    aya_log_ebpf::debug!(ctx, "pid {} forked", tgid);
    mark_changed(tgid, process)?;
    count_fork(ctx)
}

/// The process that forks is the running one, whoever will be called the parent (`CLONE_PARENT`).
#[inline(always)]
fn count_fork(ctx: &impl EbpfContext) -> Result<(), Tally> {
    let tgid = task::current_tgid();
    let process = match processes::find(tgid) {
        Some(process) => process,
        None => insert(ctx, tgid, task::current(), 0)?,
    };
    // SAFETY: `process` points to the counts of a process.
    add(unsafe { &raw mut (*process).forks }, 1);
    mark_changed(tgid, process)
}

/// `sched_process_exec`, both kinds: by now the process has one thread and its new address space.
#[inline(always)]
pub fn try_exec(ctx: &impl EbpfContext) -> Result<(), Tally> {
    let tgid = task::current_tgid();
    let process = match processes::find(tgid) {
        Some(process) => process,
        None => {
            processes::begin(tgid, task::start_boottime(task::current()), 0, u64::from(BPF_ANY));
            processes::find(tgid).ok_or(Tally::ProcessesFull)?
        }
    };
    // SAFETY: `process` points to the counts of a process.
    unsafe { (*process).execs += 1 };
    // From here on it has an address space of its own.
    // SAFETY: as above.
    unsafe { (*process).shares_mm = 0 };
    begin_again(process);
    // What was counted while its place was being taken.
    if let Some(entry) = processes::entry(tgid) {
        begin_again(entry);
    }
    aya_log_ebpf::debug!(ctx, "pid {} became another program", tgid);
    mark_changed(tgid, process)
}

/// The counts of another program.
#[inline(always)]
fn begin_again(process: *mut Process) {
    // SAFETY: `process` points to the counts of a process, here and below.
    unsafe { (*process).forks = 0 };
    // SAFETY: as above.
    unsafe { (*process).first_touch = 0 };
    // SAFETY: as above.
    unsafe { (*process).protection = 0 };
    // SAFETY: as above.
    unsafe { (*process).rss = [RssKind::UNSEEN; RSS_KINDS] };
}

/// `sched_process_exit(task)`: since 6.16 before the address space is given up, earlier after it. `live` was counted
/// down before, on all kernels: it is 0 for the last thread.
#[inline(always)]
pub fn try_exit_btf(ctx: &BtfTracePointContext) -> Result<(), Tally> {
    let task = ctx.arg::<*const u8>(0) as Address;
    let signal: Address = task::load(task, offset!(task_signal))?;
    let live: i32 = task::load(signal, offset!(signal_live))?;
    if live > 0 {
        return Ok(());
    }
    let flags: u32 = task::load(signal, offset!(signal_flags))?;
    let leader: Address = task::load(task, offset!(task_group_leader))?;
    let code: u32 = if flags & SIGNAL_GROUP_EXIT != 0 {
        task::load(signal, offset!(signal_group_exit_code))?
    } else {
        task::load(leader, offset!(task_exit_code))?
    };
    let start_boottime = task::load(leader, offset!(task_start_boottime))?;
    let tgid = task::current_tgid();
    aya_log_ebpf::debug!(ctx, "pid {} exits with code {}", tgid, code);
    gone(Record { kind: record::EXITED, tgid, start_boottime, detail: code, flags: record::HAS_CODE })
}

/// The classic `sched_process_exit` has no exit code, and before 6.16 does not say which thread is the last: the leader's
/// exit stands for the process'.
#[inline(always)]
pub fn try_exit_classic(ctx: &TracePointContext) -> Result<(), Tally> {
    let tgid = task::current_tgid();
    let at = offset!(exit_group_dead);
    let last = if at == Offsets::ABSENT {
        field::<u32>(ctx, 24)? == tgid
    } else {
        field::<u8>(ctx, at as usize)? != 0
    };
    if !last {
        return Ok(());
    }
    gone(Record { kind: record::EXITED, tgid, start_boottime: 0, detail: 0, flags: 0 })
}

/// `oom:mark_victim`: pid at 8 on all kernels; everything after it is newer.
#[inline(always)]
pub fn try_mark_victim(ctx: &TracePointContext) -> Result<(), Tally> {
    let tgid: u32 = field(ctx, 8)?;
    push(Record { kind: record::OOM_VICTIM, tgid, start_boottime: 0, detail: 0, flags: 0 })
        .map_err(|()| Tally::ExitRingFull)
}

#[inline(always)]
fn gone(record: Record) -> Result<(), Tally> {
    processes::end(record.tgid);
    push(record).map_err(|()| Tally::ExitRingFull)
}
