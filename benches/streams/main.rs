//! Reading one file of 64 MiB from start to end, in pieces of three sizes: an
//! 0.2 guest (synchronous store) and an 0.3 guest, each under stratafs and under
//! wasmtime-wasi, which reads a file of the host on tmpfs.
//!
//! The guests, `read_through` for 0.2 and `streams read` for 0.3, time
//! themselves; they run in turns, so that whatever disturbs the machine
//! disturbs all. Then calls of 0.3 on names and descriptors (`bench_calls`), likewise.
//!
//! `cargo bench --bench streams [-- TURNS]` (15 by default): all figures of
//! all turns, then a table of each.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench ends at the first error"
)]

#[allow(dead_code, unreachable_pub, reason = "other benches use the rest")]
#[path = "../support/mod.rs"]
mod support;

mod calls;
mod theirs;

use std::sync::Arc;

use parking_lot::Mutex;
use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::Image;
use stratafs::layer::LayerBuilder;
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::runner::{Guest, GuestDir, OutputSink, RunPlan, Runner, RunnerConfig, Stdio, Stream};
use stratafs::vfs::Rights;
use support::{Spread, World, guest, memory_dir, print_load};
use theirs::Theirs;

const SIZE: usize = 64 << 20;

const PIECES: [&str; 3] = ["4096", "65536", "1048576"];

/// Turns before those that count.
const WARM_UP: usize = 2;

#[derive(Default)]
struct Said(Mutex<String>);

impl OutputSink for Said {
    fn write(&self, _instance: u32, _stream: Stream, bytes: &[u8]) {
        self.0.lock().push_str(&String::from_utf8_lossy(bytes));
    }
}

/// Runs a guest once and returns what it printed.
fn turn(runner: &Runner, image: &Image, args: &[&str]) -> String {
    let said = Arc::new(Said::default());
    let mut plan = RunPlan::default();
    plan.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    plan.stdio = Stdio::Collect(said.clone());
    plan.preopens = vec![GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    let report = runner.run(image, &plan).unwrap();
    assert_eq!(report.failed().count(), 0);
    said.0.lock().clone()
}

/// The time of a guest that read all of the file.
fn nanoseconds(said: &str) -> f64 {
    let mut words = said.split_whitespace();
    assert_eq!(words.next(), Some(SIZE.to_string().as_str()));
    words.nth(1).unwrap().parse().unwrap()
}

fn content() -> Vec<u8> {
    (0..SIZE as u64 / 8)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

fn base(files: &[(&str, &[u8])]) -> Image {
    let mut layer = LayerBuilder::new();
    let pool = ChunkPool::new();
    for (path, bytes) in files {
        let content = ContentBuilder::of(&pool, bytes);
        let path = LayerPath::parse(path.as_bytes()).unwrap();
        layer.file(&path, Meta::with_mode(0o644), content).unwrap();
    }
    Image::new(&[layer.finish().unwrap()]).unwrap()
}

fn runner_of(guest: &[u8]) -> Runner {
    let guest = Guest::from_bytes("guest", guest.to_vec()).unwrap();
    Runner::new(&guest, RunnerConfig::default()).unwrap()
}

fn main() {
    let number = |arg: String| arg.parse().ok();
    let turns = std::env::args().skip(1).find_map(number).unwrap_or(15);
    let (bytes, host) = (content(), memory_dir());
    std::fs::write(host.path().join("big"), &bytes).unwrap();
    let image = base(&[("big", &bytes)]);
    let guests = [
        guest("read_through", World::P2),
        guest("streams", World::P3),
    ];
    let ours = guests.each_ref().map(|bytes| runner_of(bytes));
    let theirs = Theirs::new(host.path(), &guests);
    print_load("before");
    let mut rows = Vec::new();
    for piece in PIECES {
        let (two, three) = (["guest", "/big", piece], ["guest", "read", "/big", piece]);
        let mut all = [const { Vec::new() }; 4];
        for turn_number in 0..WARM_UP + turns {
            let figures = [
                turn(&ours[0], &image, &two),
                theirs.two(&two),
                turn(&ours[1], &image, &three),
                theirs.three(&three),
            ]
            .map(|said| nanoseconds(&said));
            if turn_number >= WARM_UP {
                let number = turn_number - WARM_UP;
                println!("turn {number} {piece} {figures:.0?}");
                all.iter_mut()
                    .zip(figures)
                    .for_each(|(all, one)| all.push(one / 1e3));
            }
        }
        rows.push((piece, all.map(Spread::of)));
    }
    let calls = calls::measure(turns);
    print_load("after");
    print_table(&rows);
    calls::print_table(&calls);
}

fn print_table(rows: &[(&str, [Spread; 4])]) {
    println!(
        "\n| us for 64 MiB: median [least..most] | 0.2 | wasmtime-wasi's 0.2 | ratio | 0.3 | wasmtime-wasi's 0.3 | ratio | 0.2 / 0.3 |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (piece, [two, their_two, three, their_three]) in rows {
        println!(
            "| in pieces of {piece} bytes | {two} | {their_two} | {:.1}x | {three} | {their_three} | {:.1}x | {:.2} |",
            their_two.median / two.median,
            their_three.median / three.median,
            two.median / three.median
        );
    }
}
