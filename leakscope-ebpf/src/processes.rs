//! Where a process' counts are.
//!
//! A hash lookup is a call into the kernel, and two of them were half of what a first touch paid. An array's element is
//! found by arithmetic. So a process has its counts in the array `SLOTS`, at the low bits of its tgid, if the place was
//! free when it came, and in its entry of `PROCESSES` otherwise; it has an entry in any case, which user space finds it by
//! and which keeps what another thread counted while the place was being taken. User space adds the two.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use leakscope_common::{PROCESSES_DEFAULT, Process, SLOTS as PLACES, Slot};

use crate::maps::add;

/// By tgid. Preallocated: allocation in a tracepoint can deadlock before 6.1.
#[map]
static PROCESSES: HashMap<u32, Process> = HashMap::with_max_entries(PROCESSES_DEFAULT, 0);

/// By the low bits of the tgid.
#[map]
static SLOTS: Array<Slot> = Array::with_max_entries(PLACES, 0);

/// The counts of a process.
#[inline(always)]
pub fn find(tgid: u32) -> Option<*mut Process> {
    match slot(tgid) {
        // SAFETY: `slot` points to a value of SLOTS.
        Some(slot) if tag(slot) == Slot::tag(tgid) => Some(unsafe { &raw mut (*slot).process }),
        _ => entry(tgid),
    }
}

/// Its entry of `PROCESSES`.
#[inline(always)]
pub fn entry(tgid: u32) -> Option<*mut Process> {
    PROCESSES.get_ptr_mut(tgid)
}

/// Makes room for a process: `flags` are those of an insertion. Rare, and large: kept out of the path of every fault.
#[inline(never)]
pub fn begin(tgid: u32, start_boottime: u64, shares_mm: u64, flags: u64) {
    let mut process = Process::new(start_boottime);
    process.shares_mm = shares_mm;
    if PROCESSES.insert(tgid, process, flags).is_err() {
        // Another thread was faster, or there is no room: whoever asks next sees which.
        return;
    }
    let Some(slot) = slot(tgid) else { return };
    let kept = tag(slot) == Slot::tag(tgid);
    if !kept {
        // SAFETY: `slot` points to a value of SLOTS.
        let claims = unsafe { &raw mut (*slot).claims };
        add(claims, 1);
        // Who comes second sees two. If both do, the place stays free.
        // SAFETY: as above.
        if unsafe { claims.read_volatile() } != 1 {
            add(claims, u64::MAX);
            return;
        }
    }
    // SAFETY: as above; nobody finds it before it has a tag, and a process that is forked does not run yet.
    unsafe { (*slot).process = process };
    set_tag(slot, Slot::tag(tgid));
}

/// Forgets a process.
#[inline(always)]
pub fn end(tgid: u32) {
    // Not there: older than leakscope and idle since, which user space may know from /proc all the same; or several threads
    // that end at once each take themselves for the last: the first one's removal counts, and who has a place has an entry.
    if PROCESSES.remove(tgid).is_err() {
        return;
    }
    let Some(slot) = slot(tgid) else { return };
    if tag(slot) != Slot::tag(tgid) {
        return;
    }
    set_tag(slot, 0);
    // SAFETY: `slot` points to a value of SLOTS.
    add(unsafe { &raw mut (*slot).claims }, u64::MAX);
}

#[inline(always)]
fn slot(tgid: u32) -> Option<*mut Slot> {
    SLOTS.get_ptr_mut(Slot::index(tgid))
}

/// Volatile: other CPUs write it.
#[inline(always)]
fn tag(slot: *mut Slot) -> u64 {
    // SAFETY: `slot` points to a value of SLOTS.
    let tag = unsafe { &raw const (*slot).tag };
    // SAFETY: as above.
    unsafe { tag.read_volatile() }
}

/// Volatile: other CPUs read it, and nothing before it may come after.
#[inline(always)]
fn set_tag(slot: *mut Slot, value: u64) {
    // SAFETY: `slot` points to a value of SLOTS.
    let tag = unsafe { &raw mut (*slot).tag };
    // SAFETY: as above.
    unsafe { tag.write_volatile(value) };
}
