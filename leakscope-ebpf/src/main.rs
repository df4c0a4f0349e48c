//! leakscope's kernel side. Each entry point names what it is attached to, calls a `try_…` and lets [`maps::settle`] tally what
//! did not work out; start reading there.
//!
//! `btf_…` are BTF tracepoints, `tp_…` classic ones: the loader attaches one kind of each (`mark_victim` and the syscalls
//! are classic always: the first has had three BTF signatures, the others none). Of `enter_…` and `exit_…` on the one hand
//! and `fentry_…` and `fexit_…` (in `functions`) on the other it loads one kind as well.
#![no_std]
#![no_main]
// For one instruction, in maps::add.
#![feature(asm_experimental_arch)]

#[cfg(bpf_target_arch = "x86_64")]
mod faults;
#[cfg(bpf_target_arch = "x86_64")]
mod functions;
mod lifecycle;
mod maps;
mod memory;
mod processes;
mod syscalls;
mod task;

use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};

use maps::settle;

#[btf_tracepoint(function = "rss_stat")]
fn btf_rss_stat(ctx: BtfTracePointContext) -> i32 {
    settle(memory::try_rss_stat_btf(&ctx))
}

#[tracepoint(category = "kmem", name = "rss_stat")]
fn tp_rss_stat(ctx: TracePointContext) -> i32 {
    settle(memory::try_rss_stat_classic(&ctx))
}

#[cfg(bpf_target_arch = "x86_64")]
#[btf_tracepoint(function = "page_fault_user")]
fn btf_page_fault(ctx: BtfTracePointContext) -> i32 {
    settle(faults::try_page_fault_btf(&ctx))
}

#[cfg(bpf_target_arch = "x86_64")]
#[tracepoint(category = "exceptions", name = "page_fault_user")]
fn tp_page_fault(ctx: TracePointContext) -> i32 {
    settle(faults::try_page_fault_classic(&ctx))
}

#[btf_tracepoint(function = "sched_process_fork")]
fn btf_fork(ctx: BtfTracePointContext) -> i32 {
    settle(lifecycle::try_fork_btf(&ctx))
}

#[btf_tracepoint(function = "sched_process_exec")]
fn btf_exec(ctx: BtfTracePointContext) -> i32 {
    settle(lifecycle::try_exec(&ctx))
}

#[tracepoint(category = "sched", name = "sched_process_exec")]
fn tp_exec(ctx: TracePointContext) -> i32 {
    settle(lifecycle::try_exec(&ctx))
}

#[btf_tracepoint(function = "sched_process_exit")]
fn btf_exit(ctx: BtfTracePointContext) -> i32 {
    settle(lifecycle::try_exit_btf(&ctx))
}

#[tracepoint(category = "sched", name = "sched_process_exit")]
fn tp_exit(ctx: TracePointContext) -> i32 {
    settle(lifecycle::try_exit_classic(&ctx))
}

#[tracepoint(category = "oom", name = "mark_victim")]
fn tp_mark_victim(ctx: TracePointContext) -> i32 {
    settle(lifecycle::try_mark_victim(&ctx))
}

#[tracepoint(category = "syscalls", name = "sys_enter_brk")]
fn enter_brk(_ctx: TracePointContext) -> i32 {
    settle(syscalls::try_enter_brk())
}

#[tracepoint(category = "syscalls", name = "sys_exit_brk")]
fn exit_brk(ctx: TracePointContext) -> i32 {
    settle(syscalls::try_exit_brk(&ctx))
}

#[tracepoint(category = "syscalls", name = "sys_enter_mmap")]
fn enter_mmap(ctx: TracePointContext) -> i32 {
    settle(syscalls::try_enter_mmap(&ctx))
}

#[tracepoint(category = "syscalls", name = "sys_exit_mmap")]
fn exit_mmap(ctx: TracePointContext) -> i32 {
    settle(syscalls::try_exit_mmap(&ctx))
}

#[tracepoint(category = "syscalls", name = "sys_enter_munmap")]
fn enter_munmap(ctx: TracePointContext) -> i32 {
    settle(syscalls::try_enter_munmap(&ctx))
}

#[tracepoint(category = "syscalls", name = "sys_exit_munmap")]
fn exit_munmap(ctx: TracePointContext) -> i32 {
    settle(syscalls::try_exit_munmap(&ctx))
}

#[tracepoint(category = "syscalls", name = "sys_enter_mremap")]
fn enter_mremap(ctx: TracePointContext) -> i32 {
    settle(syscalls::try_enter_mremap(&ctx))
}

#[tracepoint(category = "syscalls", name = "sys_exit_mremap")]
fn exit_mremap(ctx: TracePointContext) -> i32 {
    settle(syscalls::try_exit_mremap(&ctx))
}

#[tracepoint(category = "syscalls", name = "sys_enter_madvise")]
fn enter_madvise(ctx: TracePointContext) -> i32 {
    settle(syscalls::try_enter_madvise(&ctx))
}

#[tracepoint(category = "syscalls", name = "sys_exit_madvise")]
fn exit_madvise(ctx: TracePointContext) -> i32 {
    settle(syscalls::try_exit_madvise(&ctx))
}

/// Most helpers that read kernel memory are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
