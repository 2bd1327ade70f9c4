//! What sealing costs a writer, and what it saves.
//!
//! `cargo bench --bench sealing`; `-- 31` for 31 turns instead of 15.
//!
//! A turn writes the same files under each setting, one after the other, so
//! that a busy machine disturbs all: first by a guest that does nothing but
//! write through preview1, then by the host, without a guest's calls.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench ends at the first error"
)]

use std::hint::black_box;
use std::time::Instant;

use stratafs::chunk::Scope;
use stratafs::image::Image;
use stratafs::vfs::{Access, Follow, Fs, OpenFlags, Share};
use stratafs::wasi::p1;
use wasmtime::{Engine, Linker, Module, Store};
use wasmtime_wasi::WasiCtxBuilder;

const FILES: u32 = 64;
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
            file.write_at(piece, (at * PIECE) as u64).unwrap();
        }
    }
}

/// Writes files of so many blocks, no two alike, and closes each.
const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "file")
    (func (export "run") (param $files i32) (param $blocks i32)
        (local $file i32) (local $block i32) (local $fd i32)
        (i32.store (i32.const 16) (i32.const 4096))
        (i32.store (i32.const 20) (i32.const 4096))
        (loop $next
            (i32.store (i32.const 4) (i32.add (i32.const 0x30303030) (local.get $file)))
            (if (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 8)
                    (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 24))
                (then unreachable))
            (local.set $fd (i32.load (i32.const 24)))
            (local.set $block (i32.const 0))
            (loop $more
                (i32.store (i32.const 4096) (local.get $file))
                (i32.store (i32.const 4100) (i32.add (local.get $block) (i32.const 1)))
                (if (call $write (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 28))
                    (then unreachable))
                (local.set $block (i32.add (local.get $block) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $block) (local.get $blocks))))
            (drop (call $close (local.get $fd)))
            (local.set $file (i32.add (local.get $file) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $file) (local.get $files))))))
"#;

/// Nanoseconds for each KiB that the guest writes into a new instance.
fn guest_turn(image: &Image, guest: &(Linker<p1::Ctx>, Module), share: Share, blocks: u32) -> f64 {
    let (linker, module) = guest;
    let fs = Fs::builder(image).share(share).build();
    let ctx = p1::Ctx::new(WasiCtxBuilder::new().build_p1());
    let ctx = ctx.preopen(fs.root().unwrap(), "/");
    let mut store = Store::new(linker.engine(), ctx);
    let instance = linker.instantiate(&mut store, module).unwrap();
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    memory.write(&mut store, 4096, &noise(3, PIECE)).unwrap();
    let run = instance
        .get_typed_func::<(u32, u32), ()>(&mut store, "run")
        .unwrap();
    let start = Instant::now();
    run.call(&mut store, (FILES, blocks)).unwrap();
    let took = start.elapsed();
    black_box(&fs);
    took.as_nanos() as f64 / (f64::from(FILES) * f64::from(blocks) * 4.0)
}

fn guest_costs(turns: usize) {
    let image = Image::empty();
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |ctx: &mut p1::Ctx| ctx).unwrap();
    let guest = (linker, Module::new(&engine, GUEST).unwrap());
    println!(
        "| a guest, ns a KiB: median [least..most] | not sealed | sealed | sealed to not sealed |"
    );
    println!("|---|---|---|---|");
    for blocks in [1, 16, 256] {
        let (mut off, mut on) = (Vec::new(), Vec::new());
        for _ in 0..turns {
            off.push(guest_turn(&image, &guest, Share::None, blocks));
            on.push(guest_turn(&image, &guest, Share::Own, blocks));
        }
        let [a, b] = [&mut off, &mut on].map(|all| spread(all));
        let ratio = 100.0 * on[turns / 2] / off[turns / 2];
        println!("| files of {} KiB | {a} | {b} | {ratio:.0} % |", 4 * blocks);
    }
    println!();
}

/// Nanoseconds for each KiB written into a new instance, which is dropped.
fn turn(image: &Image, share: Share, files: &[Vec<u8>]) -> f64 {
    let fs = Fs::builder(image).share(share).build();
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
        "| the host, ns a KiB: median [least..most] | not sealed | sealed, new | sealed, there already | new to not sealed |"
    );
    println!("|---|---|---|---|---|");
    for size in [4096, 65_536, 1 << 20] {
        let files: Vec<_> = (0..FILES).map(|n| noise(u64::from(n) + 1, size)).collect();
        let (mut off, mut new, mut known) = (Vec::new(), Vec::new(), Vec::new());
        let held = Scope::new();
        let holder = Fs::builder(&image).share(&held).build();
        write(&holder, &files);
        for _ in 0..turns {
            let scope = Scope::new();
            off.push(turn(&image, Share::None, &files));
            new.push(turn(&image, Share::from(&scope), &files));
            known.push(turn(&image, Share::from(&held), &files));
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
    let scope = Scope::new();
    let ways = [("sealed", Share::from(&scope)), ("not sealed", Share::None)];
    for (what, share) in ways {
        let before = resident()?;
        let all: Vec<Fs> = (0..100)
            .map(|_| {
                let fs = Fs::builder(&image).share(share.clone()).build();
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
    // Before the others, whose freed pages would hide what is taken.
    if saves().is_none() {
        println!("resident memory is not told on this system");
    }
    guest_costs(turns);
    costs(turns);
}
