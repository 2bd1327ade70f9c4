//! libFuzzer's entry to `stratafs_fuzz::archive`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stratafs_fuzz::archive::run(data));
