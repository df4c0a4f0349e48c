//! The maps and the few ways of using them. Every map has a stated capacity; what finds no room is tallied.
//!
//! Counters are added to with `xadd`, which every kernel since 3.18 has; anything that needs the old value would need
//! 5.12.

use core::arch::asm;

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray, RingBuf};
use leakscope_common::{
    CALLS_MAX, Control, Offsets, Process, RING_BYTES, Record, SUSPECTS_MAX, Suspect, Tallies, Tally, record,
};

use crate::syscalls::Call;

/// Who changed, who is gone.
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Written by user space, as the only element of the map `.bss`: nothing else may be in there.
#[unsafe(no_mangle)]
static mut CONTROL: Control = Control { epoch: 0, suspects: 0 };

/// One element for each CPU.
#[map]
static TALLIES: PerCpuArray<Tallies> = PerCpuArray::with_max_entries(1, 0);

/// By tgid; user space inserts and removes.
#[map]
pub static SUSPECTS: HashMap<u32, Suspect> = HashMap::with_max_entries(SUSPECTS_MAX, 0);

/// Calls under way in inspected threads, by pid and tgid as the helper gives them.
#[map]
pub static CALLS: LruHashMap<u64, Call> = LruHashMap::with_max_entries(CALLS_MAX, 0);

/// Filled in by the loader before the programs are verified, so that each read is a constant to the verifier.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::NONE;

/// The offsets; volatile, because what the compiler sees is not what will be loaded.
macro_rules! offset {
    ($field:ident) => {{
        // SAFETY: a valid, initialised static; nobody writes it once the programs run.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::maps::offsets()).$field) }
    }};
}
pub(crate) use offset;

/// Where the offsets are; read them with [`offset!`].
#[inline(always)]
pub fn offsets() -> *const Offsets {
    &raw const OFFSETS
}

/// Ends an entry point: what did not work out is tallied, and never an error to the kernel.
#[inline(always)]
pub fn settle(result: Result<(), Tally>) -> i32 {
    if let Err(tally) = result {
        count(tally);
    }
    0
}

/// Adds one to a tally of this CPU.
#[inline(always)]
pub fn count(tally: Tally) {
    let Some(tallies) = TALLIES.get_ptr_mut(0) else { return };
    let mut place = tally as u64;
    // The compiler knows that no tally is above the last and would drop a mask of its own; the verifier may not.
    // SAFETY: arithmetic on one register.
    unsafe { asm!("{place} &= {mask}", place = inout(reg) place, mask = const Tallies::PLACES - 1) };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the target has 64-bit pointers, and the place is masked"
    )]
    let place = place as usize;
    // SAFETY: the place is within the element.
    add(unsafe { tallies.cast::<u64>().add(place) }, 1);
}

/// Adds to a counter in a map that other CPUs add to as well.
#[inline(always)]
pub fn add(counter: *mut u64, amount: u64) {
    // The target has no atomics that return the old value, so `core` offers none at all.
    // SAFETY: `counter` points into a map value, which lives as long as the program runs, and is aligned to 8.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {amount}", counter = in(reg) counter, amount = in(reg) amount)
    };
}

/// What user space says now.
#[inline(always)]
pub fn control() -> Control {
    let control = &raw const CONTROL;
    // SAFETY: a valid, initialised static; volatile because user space writes it.
    unsafe { core::ptr::read_volatile(control) }
}

/// Says that this process changed, once in an epoch. A full ring leaves the epoch as it was: the next event tries again.
#[inline(always)]
pub fn mark_changed(tgid: u32, process: *mut Process) -> Result<(), Tally> {
    let epoch = control().epoch;
    // SAFETY: `process` points to the counts of a process.
    if unsafe { (*process).epoch } == epoch {
        return Ok(());
    }
    // SAFETY: as above.
    let start_boottime = unsafe { (*process).start_boottime };
    push(Record { kind: record::CHANGED, tgid, start_boottime, detail: epoch, flags: 0 })
        .map_err(|()| Tally::ChangeRingFull)?;
    // SAFETY: as above. Two CPUs may both have pushed: user space reads the process once anyway.
    unsafe { (*process).epoch = epoch };
    Ok(())
}

/// Hands a record to user space, which drains the ring at its own pace and needs no wake-up.
#[inline(always)]
pub fn push(record: Record) -> Result<(), ()> {
    match RECORDS.reserve::<Record>(0) {
        Some(mut entry) => {
            entry.write(record);
            entry.submit(u64::from(BPF_RB_NO_WAKEUP));
            Ok(())
        }
        None => Err(()),
    }
}
