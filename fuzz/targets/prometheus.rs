#![no_main]
//! Prometheus' answers: as they are, and as the samples of a series.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    const HEAD: &[u8] =
        br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"pid":"7"},"values":["#;
    leakscope_fuzz::analyze(data);
    leakscope_fuzz::analyze(&[HEAD, data].concat());
    leakscope_fuzz::analyze(&[HEAD, data, b"]}]}}"].concat());
});
