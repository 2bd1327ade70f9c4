//! Reading one file of 64 MiB from start to end: an 0.2 guest (synchronous
//! store) beside an 0.3 guest, in pieces of three sizes.
//!
//! The guests, `read_through` for 0.2 and `streams read` for 0.3, time
//! themselves; they run in turns off one base, so that whatever disturbs the
//! machine disturbs both.
//!
//! `cargo bench --bench streams [-- TURNS]` (15 by default): all figures of
//! all turns, then a table.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench ends at the first error"
)]

#[allow(dead_code, unreachable_pub, reason = "other benches use the rest")]
mod support;

use std::sync::Arc;

use parking_lot::Mutex;
use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::Image;
use stratafs::layer::LayerBuilder;
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::runner::{Guest, Preopen, RunPlan, Runner, RunnerConfig, Sink, Stdio, Stream};
use stratafs::vfs::Rights;
use support::{Spread, World, guest, print_load};

const SIZE: usize = 64 << 20;

const PIECES: [&str; 3] = ["4096", "65536", "1048576"];

/// Turns before those that count.
const WARM_UP: usize = 2;

#[derive(Default)]
struct Said(Mutex<String>);

impl Sink for Said {
    fn write(&self, _instance: u32, _stream: Stream, bytes: &[u8]) {
        self.0.lock().push_str(&String::from_utf8_lossy(bytes));
    }
}

/// Runs a guest once and gives the nanoseconds that it took.
fn turn(runner: &Runner, image: &Image, args: &[&str]) -> f64 {
    let said = Arc::new(Said::default());
    let mut plan = RunPlan::default();
    plan.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    plan.stdio = Stdio::Collect(said.clone());
    plan.preopens = vec![Preopen {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    let report = runner.run(image, &plan).unwrap();
    assert_eq!(report.failed().count(), 0);
    let said = said.0.lock();
    let mut words = said.split_whitespace();
    assert_eq!(words.next(), Some(SIZE.to_string().as_str()));
    words.nth(1).unwrap().parse().unwrap()
}

fn base() -> Image {
    let bytes: Vec<u8> = (0..SIZE as u64 / 8)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect();
    let mut layer = LayerBuilder::new();
    let content = ContentBuilder::of(&ChunkPool::new(), &bytes);
    let path = LayerPath::parse(b"big").unwrap();
    layer.file(&path, Meta::with_mode(0o644), content).unwrap();
    Image::new(&[layer.finish().unwrap()]).unwrap()
}

fn main() {
    let number = |arg: String| arg.parse().ok();
    let turns = std::env::args().skip(1).find_map(number).unwrap_or(15);
    let image = base();
    let runner = |name: &str, world| {
        let guest = Guest::from_bytes(name, guest(name, world)).unwrap();
        Runner::new(&guest, RunnerConfig::default()).unwrap()
    };
    let (two, three) = (
        runner("read_through", World::P2),
        runner("streams", World::P3),
    );
    print_load("before");
    let mut rows = Vec::new();
    for piece in PIECES {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for turn_number in 0..WARM_UP + turns {
            let a = turn(&two, &image, &["guest", "/big", piece]);
            let b = turn(&three, &image, &["guest", "read", "/big", piece]);
            if turn_number >= WARM_UP {
                let number = turn_number - WARM_UP;
                println!("turn {number} {piece} 0.2 {a:.0} 0.3 {b:.0}");
                left.push(a / 1e3);
                right.push(b / 1e3);
            }
        }
        rows.push((piece, Spread::of(left), Spread::of(right)));
    }
    print_load("after");
    println!("\n| us for 64 MiB: median [least..most] | 0.2 | 0.3 | 0.2 / 0.3 |");
    println!("|---|---|---|---|");
    for (piece, two, three) in rows {
        let ratio = two.median / three.median;
        println!("| in pieces of {piece} bytes | {two} | {three} | {ratio:.1} |");
    }
}
