//! libFuzzer's entry to `stratafs_fuzz::sealing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stratafs_fuzz::sealing::run(data));
