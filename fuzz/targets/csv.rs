#![no_main]
//! CSV: as it is, and below a good header.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    const HEADER: &[u8] = b"at_s,pid,comm,anon_bytes,file_bytes,shmem_bytes,swap_bytes,limit_bytes\n";
    leakscope_fuzz::analyze(data);
    leakscope_fuzz::analyze(&[HEADER, data].concat());
});
