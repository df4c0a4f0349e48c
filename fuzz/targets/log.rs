#![no_main]
//! The lab's monitoring log, below a good line.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    const LINE: &[u8] = b"2026-11-23T01:00:00Z total_bytes=1000 used_bytes=400 available_bytes=600\n";
    leakscope_fuzz::analyze(&[LINE, data].concat());
});
