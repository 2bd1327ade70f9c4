//! Archives that are larger than the memory that there is for them.

use std::io::Read;
use std::process::Command;

use stratafs::image::ImageConfig;
use stratafs::source::{SourceOptions, tar};
use stratafs::store::{LayerOrigin, Store};

use super::support::noise;
use crate::support::archive::Head;

/// Tells a process of this test to import, and how many MiB.
const IMPORT: &str = "STRATAFS_TEST_LARGE";

/// Bytes of each file.
const FILE: usize = 64 << 20;

/// A tar of files of [`FILE`] bytes that do not repeat, made as it is read.
struct Made {
    files: u64,
    /// What is to be given next, and how much of it has been.
    block: Vec<u8>,
    at: usize,
    /// Blocks given so far.
    blocks: u64,
}

impl Made {
    const BLOCK: usize = 1 << 20;

    fn new(mib: u64) -> Self {
        Self {
            files: mib * (1 << 20) / FILE as u64,
            block: Vec::new(),
            at: 0,
            blocks: 0,
        }
    }

    /// Gives a header before each file, and zeros at the end.
    fn next(&self) -> Vec<u8> {
        let per_file = (FILE / Self::BLOCK) as u64 + 1;
        let (file, part) = (self.blocks / per_file, self.blocks % per_file);
        if file == self.files {
            return vec![0; if part == 0 { 1024 } else { 0 }];
        }
        match part {
            0 => Head::new(b'0', format!("f{file}"))
                .size(FILE as u64)
                .bytes()
                .to_vec(),
            _ => noise(self.blocks, Self::BLOCK),
        }
    }
}

impl Read for Made {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.block.len() {
            (self.block, self.at) = (self.next(), 0);
            self.blocks += 1;
        }
        let len = buf.len().min(self.block.len() - self.at);
        buf[..len].copy_from_slice(&self.block[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// Bytes that were resident at most.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}

/// Imports, if this is a process for it, and looks at what it took.
fn imported() -> bool {
    let Ok(mib) = std::env::var(IMPORT) else {
        return false;
    };
    let mib: u64 = mib.parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let before = peak();
    let mut import = store.import().unwrap();
    let options = SourceOptions::default();
    let layer = tar(import.pool(), Made::new(mib), &options).unwrap();
    import.layer(layer, LayerOrigin::new());
    import.commit(ImageConfig::new(), Some("a")).unwrap();
    let taken = peak() - before;
    let stat = store.stat().unwrap();
    assert_eq!(stat.chunk_bytes, mib << 20);
    // A few buffers, and about 120 bytes for each chunk of 8 KiB.
    let allowed = (24 << 20) + (mib << 20) / 8192 * 160;
    println!("\ntaken {taken} of {allowed}");
    assert!(taken < allowed, "{taken} bytes, {allowed} allowed");
    true
}

/// `STRATAFS_TEST_LARGE_MIB` says how large; 2048 is a layer of 2 GiB.
#[cfg(target_os = "linux")]
#[test]
fn a_layer_needs_memory_for_its_chunks_names_and_no_more() {
    if imported() {
        return;
    }
    let mib = std::env::var("STRATAFS_TEST_LARGE_MIB").unwrap_or_else(|_| "256".to_owned());
    let test = "store::large::a_layer_needs_memory_for_its_chunks_names_and_no_more";
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(IMPORT, mib)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && told.contains("\ntaken "),
        "{told} {}",
        String::from_utf8_lossy(&done.stderr)
    );
}
