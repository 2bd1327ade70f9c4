//! What sealing costs a writer, and what it saves.
//!
//! `cargo bench --bench sealing`; `-- 31` for 31 turns instead of 15.
//!
//! A turn writes the same files under each setting, one after the other, so
//! that a busy machine disturbs all. No guest is in it: what a guest's calls
//! take comes on top on both sides and makes the share of sealing smaller.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench ends at the first error"
)]

use std::hint::black_box;
use std::time::Instant;

use stratafs::chunk::Scope;
use stratafs::image::Image;
use stratafs::vfs::{Access, Follow, Fs, OpenFlags, Sealing};

const FILES: usize = 64;
const PIECE: usize = 4096;

/// Bytes of which no block is like another.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..len / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}

/// Writes all files, in pieces as a guest does, and closes each.
fn write(fs: &Fs, files: &[Vec<u8>]) {
    let top = fs.root().unwrap();
    for (number, bytes) in files.iter().enumerate() {
        let name = format!("f{number}");
        let file = top
            .open_at(
                Follow::Yes,
                name.as_bytes(),
                OpenFlags::CREATE,
                Access::WRITE,
            )
            .unwrap();
        for (at, piece) in bytes.chunks(PIECE).enumerate() {
            file.write_at((at * PIECE) as u64, piece).unwrap();
        }
    }
}

/// Nanoseconds for each KiB written into a new instance, which is dropped.
fn turn(image: &Image, scope: &Scope, when: Sealing, files: &[Vec<u8>]) -> f64 {
    let fs = Fs::builder(image).scope(scope).sealing(when).build();
    let start = Instant::now();
    write(&fs, files);
    let took = start.elapsed();
    black_box(&fs);
    let bytes: usize = files.iter().map(Vec::len).sum();
    took.as_nanos() as f64 / (bytes as f64 / 1024.0)
}

fn spread(samples: &mut [f64]) -> String {
    samples.sort_by(f64::total_cmp);
    let middle = samples[samples.len() / 2];
    let (least, most) = (samples[0], samples[samples.len() - 1]);
    format!("{middle:.1} [{least:.1}..{most:.1}]")
}

fn costs(turns: usize) {
    let image = Image::empty();
    println!(
        "| ns a KiB: median [least..most] | not sealed | sealed, new | sealed, there already | new to not sealed |"
    );
    println!("|---|---|---|---|---|");
    for size in [4096, 65_536, 1 << 20] {
        let files: Vec<_> = (0..FILES).map(|n| noise(n as u64 + 1, size)).collect();
        let (mut off, mut new, mut known) = (Vec::new(), Vec::new(), Vec::new());
        let held = Scope::new();
        let holder = Fs::builder(&image).scope(&held).build();
        write(&holder, &files);
        for _ in 0..turns {
            let scope = Scope::new();
            off.push(turn(&image, &scope, Sealing::Off, &files));
            new.push(turn(&image, &scope, Sealing::AtClose, &files));
            known.push(turn(&image, &held, Sealing::AtClose, &files));
        }
        let [a, b, c] = [&mut off, &mut new, &mut known].map(|all| spread(all));
        let ratio = 100.0 * new[turns / 2] / off[turns / 2];
        let size = size / 1024;
        println!("| files of {size} KiB | {a} | {b} | {c} | {ratio:.0} % |");
    }
}

fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}

/// Resident bytes of a hundred instances that wrote the same 10 MiB.
fn saves() -> Option<()> {
    let image = Image::empty();
    let files = vec![noise(7, 10 << 20)];
    for (what, when) in [("sealed", Sealing::AtClose), ("not sealed", Sealing::Off)] {
        let scope = Scope::new();
        let before = resident()?;
        let all: Vec<Fs> = (0..100)
            .map(|_| {
                let fs = Fs::builder(&image).scope(&scope).sealing(when).build();
                write(&fs, &files);
                fs
            })
            .collect();
        let more = (resident()? - before) as f64 / f64::from(1 << 20);
        println!("a hundred instances with the same 10 MiB, {what}: {more:.1} MiB resident");
        drop(all);
    }
    Some(())
}

fn main() {
    let turns = std::env::args().filter_map(|arg| arg.parse().ok()).next();
    let turns = turns.unwrap_or(15_usize).max(1);
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    costs(turns);
    if saves().is_none() {
        println!("resident memory is not told on this system");
    }
}
