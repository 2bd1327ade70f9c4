//! Calls of 0.3 on names and descriptors, under stratafs and under wasmtime-wasi.

use crate::support::{Spread, World, guest, memory_dir};
use crate::theirs::Theirs;
use crate::{WARM_UP, base, runner_of, turn};

const FILES: [(&str, &[u8]); 2] = [("f", b"text"), ("1/2/3/4/5/6/7/f", b"text")];

/// What the guest calls each kind, and what the table does.
const KINDS: [(&str, &str); 6] = [
    ("open_close_depth_1", "open + close, depth 1"),
    ("open_close_depth_8", "open + close, depth 8"),
    ("stat_depth_1", "stat, depth 1"),
    ("stat_depth_8", "stat, depth 8"),
    ("fstat", "fstat"),
    ("stat_missing", "stat of a missing name"),
];

pub(crate) type Row = (&'static str, [Spread; 2]);

/// Runs both in turns.
pub(crate) fn measure(turns: usize) -> Vec<Row> {
    let host = memory_dir();
    std::fs::create_dir_all(host.path().join("1/2/3/4/5/6/7")).unwrap();
    for (path, bytes) in FILES {
        std::fs::write(host.path().join(path), bytes).unwrap();
    }
    let image = base(&FILES);
    let bytes = guest("bench_calls", World::P3);
    let ours = runner_of(&bytes);
    // Its 0.2 guest is not run.
    let theirs = Theirs::new(host.path(), &[guest("read_through", World::P2), bytes]);
    let mut all: Vec<[Vec<f64>; 2]> = KINDS.iter().map(|_| Default::default()).collect();
    for number in 0..WARM_UP + turns {
        let said = [turn(&ours, &image, &["guest"]), theirs.three(&["guest"])];
        if number < WARM_UP {
            continue;
        }
        for (figures, (kind, _)) in all.iter_mut().zip(KINDS) {
            let of_both = figures.iter_mut().zip(&said);
            of_both.for_each(|(figures, said)| figures.push(nanoseconds(said, kind)));
        }
    }
    let names = KINDS.iter().map(|(_, name)| *name);
    names
        .zip(all.into_iter().map(|all| all.map(Spread::of)))
        .collect()
}

/// Finds one line of what the guest printed.
fn nanoseconds(said: &str, kind: &str) -> f64 {
    let mut lines = said.lines().filter_map(|line| line.split_once(' '));
    let (_, figure) = lines.find(|(name, _)| *name == kind).unwrap();
    figure.parse().unwrap()
}

pub(crate) fn print_table(rows: &[Row]) {
    println!("\n| ns a call of 0.3: median [least..most] | stratafs | wasmtime-wasi | ratio |");
    println!("|---|---|---|---|");
    for (name, [ours, theirs]) in rows {
        let ratio = theirs.median / ours.median;
        println!("| {name} | {ours} | {theirs} | {ratio:.1}x |");
    }
}
