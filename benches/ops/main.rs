//! What a guest pays for one call on files: stratafs beside wasmtime-wasi.
//!
//! The guest `bench_ops` makes raw preview1 calls and times them itself. It
//! runs in turns under stratafs and under wasmtime-wasi's best setting
//! (synchronous, blocking calls on the calling thread) on a host directory on
//! tmpfs: one engine, one compiled module, one base, so that whatever disturbs
//! the machine disturbs both.
//!
//! `cargo bench --bench ops [-- TURNS] [0.2]` (15 turns by default): all figures
//! of all turns, then a table. With `0.2` the guest is a component: wasmtime's
//! adapter makes 0.2 calls of its calls, and costs both sides the same.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench ends at the first error"
)]

#[allow(dead_code, unreachable_pub, reason = "other benches use the rest")]
#[path = "../support/mod.rs"]
mod support;

mod component;
mod preview1;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::source::{SourceOptions, dir_ambient};
use stratafs::vfs::{Access, Follow, Fs, OpenFlags};
use support::{Spread, World, guest, memory_dir, print_load};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

/// Rounds of the guest in one turn; it gives the median of them. The first is
/// its warm-up.
const ROUNDS: u32 = 5;

/// Turns before those that count.
const WARM_UP: usize = 2;

const BIG: usize = 64 << 20;

/// One operation of a guest in one turn: its name, and nanoseconds.
type Figures = Vec<(String, f64)>;

/// Bytes that no deduplication makes fewer: a 64-bit xorshift's.
fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(size + 8);
    while out.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(size);
    out
}

/// Writes what the guest looks for, so that it measures files of the base.
fn write_base(root: &Path) {
    let bench = root.join("bench");
    for dir in ["1/2/3/4/5/6/7", "many", "first"] {
        fs::create_dir_all(bench.join(dir)).unwrap();
    }
    let write = |path: &str, bytes: &[u8]| fs::write(bench.join(path), bytes).unwrap();
    write("f", &bytes(1, 100));
    write("1/2/3/4/5/6/7/f", &bytes(2, 100));
    for number in 0..1_000 {
        write(&format!("many/{number:04}"), &bytes(number, 10));
    }
    write("big.bin", &bytes(3, BIG));
    for round in 0..ROUNDS {
        write(
            &format!("first/{round}.bin"),
            &bytes(u64::from(round) + 4, BIG),
        );
    }
}

fn wasi(out: &MemoryOutputPipe) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder
        .args(&["bench_ops", "bench", &ROUNDS.to_string()])
        .stdout(out.clone())
        .inherit_stderr()
        .allow_blocking_current_thread(true);
    builder
}

/// What a guest wrote to its output.
fn figures(out: &MemoryOutputPipe) -> Figures {
    let text = String::from_utf8(out.contents().to_vec()).unwrap();
    text.lines().map(figure).collect()
}

/// `NAME MEDIAN LEAST MOST`, as the guest says it. A listing counts by entry.
fn figure(line: &str) -> (String, f64) {
    let mut words = line.split(' ');
    let (name, median) = (words.next().unwrap(), words.next().unwrap());
    let median: f64 = median.parse().unwrap();
    match name {
        "readdir_1000_entries" => ("readdir_entry_of_1000".to_owned(), median / 1_000.0),
        name => (name.to_owned(), median),
    }
}

/// The same guest under both, over the same base.
trait Sides {
    /// Runs it once under stratafs, on a new instance.
    fn ours(&self, image: &Image) -> Figures;

    /// Runs it once under wasmtime-wasi, on a directory of the host.
    fn theirs(&self, host: &Path) -> Figures;
}

/// Prints what one byte into a 64 MiB file of the base makes private.
fn print_first_byte(image: &Image) {
    let fs = Fs::new(image);
    let (root, path) = (fs.root().unwrap(), b"bench/first/0.bin");
    let access = Access::READ | Access::WRITE;
    let file = root
        .open_at(Follow::Yes, path, OpenFlags::empty(), access)
        .unwrap();
    file.write_at(b"x", 1 << 20).unwrap();
    let usage = fs.usage();
    println!(
        "one byte into a base file of 64 MiB: {} private bytes",
        usage.private_bytes
    );
}

/// How many turns, and whether the guest is a component.
fn arguments() -> (usize, bool) {
    let mut asked = (15, false);
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "0.2" => asked.1 = true,
            "--bench" => {}
            word => asked.0 = word.parse().expect("a number of turns, or 0.2"),
        }
    }
    asked
}

fn main() {
    let (turns, is_component) = arguments();
    let module = guest("bench_ops", World::P1);
    let sides: Box<dyn Sides> = match is_component {
        true => Box::new(component::Component::new(&module)),
        false => Box::new(preview1::Preview1::new(&module)),
    };
    let host = memory_dir();
    write_base(host.path());
    let options = SourceOptions::default();
    let base = dir_ambient(&ChunkPool::new(), host.path(), &options).unwrap();
    let image = Image::new(&[base]).unwrap();
    print_load("before");
    let mut all = Table::default();
    for turn in 0..WARM_UP + turns {
        let figures = [sides.ours(&image), sides.theirs(host.path())];
        // Only this and bytes in `first` outlast a run.
        fs::remove_file(host.path().join("bench/log")).unwrap();
        if turn >= WARM_UP {
            all.add(turn - WARM_UP, figures);
        }
    }
    print_load("after");
    all.print();
    print_first_byte(&image);
}

/// Figures by operation: stratafs's and wasmtime-wasi's.
#[derive(Default)]
struct Table {
    order: Vec<String>,
    figures: BTreeMap<String, [Vec<f64>; 2]>,
}

impl Table {
    /// Takes and prints the figures of one turn.
    fn add(&mut self, turn: usize, [ours, theirs]: [Figures; 2]) {
        for ((name, ours), (same, theirs)) in ours.into_iter().zip(theirs) {
            assert_eq!(name, same, "one guest, one order");
            println!("turn {turn} {name} stratafs {ours:.1} wasmtime-wasi {theirs:.1}");
            if !self.figures.contains_key(&name) {
                self.order.push(name.clone());
            }
            let [left, right] = self.figures.entry(name).or_default();
            left.push(ours);
            right.push(theirs);
        }
    }

    fn print(&self) {
        println!("\n| ns an operation: median [least..most] | stratafs | wasmtime-wasi | ratio |");
        println!("|---|---|---|---|");
        for name in &self.order {
            let [ours, theirs] = self.figures.get(name).unwrap().clone().map(Spread::of);
            let ratio = theirs.median / ours.median;
            println!("| {name} | {ours} | {theirs} | {ratio:.1} |");
        }
        println!();
    }
}
