//! libFuzzer's entry to `stratafs_fuzz::filesystem2`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stratafs_fuzz::filesystem2::run(data));
