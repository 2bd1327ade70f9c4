//! libFuzzer's entry to `stratafs_fuzz::instance`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stratafs_fuzz::instance::run(data));
