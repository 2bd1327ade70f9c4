//! libFuzzer's entry to `stratafs_fuzz::merge`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stratafs_fuzz::merge::run(data));
