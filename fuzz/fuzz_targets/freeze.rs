//! libFuzzer's entry to `stratafs_fuzz::freeze`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stratafs_fuzz::freeze::run(data));
