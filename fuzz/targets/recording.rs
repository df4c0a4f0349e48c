#![no_main]
//! Recordings, with their checksums right.

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    leakscope_fuzz::mutate_recording(data, size, max_size, seed)
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| leakscope_fuzz::analyze(data));
