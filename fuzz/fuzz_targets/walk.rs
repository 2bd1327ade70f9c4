//! libFuzzer's entry to `stratafs_fuzz::walk`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stratafs_fuzz::walk::run(data));
