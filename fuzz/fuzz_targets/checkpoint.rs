//! libFuzzer's entry to `stratafs_fuzz::checkpoint`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stratafs_fuzz::checkpoint::run(data));
