//! libFuzzer's entry to `stratafs_fuzz::preview1`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stratafs_fuzz::preview1::run(data));
