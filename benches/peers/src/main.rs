//! The host API of stratafs beside file systems in memory that Rust programs use:
//! Wasmer's `virtual-fs`, the crate `vfs`, and `std::fs` on tmpfs.
//!
//! `cargo run --release -- [ROUNDS]` runs each piece of work in a process of its own,
//! in turns, and prints medians with the least and the most; `-- case WHO WHAT` is
//! one such process. Cold is the first time in a process, warm the fifth.

mod peers;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use peers::{Files, Handle, WHO, make};

const BLOCK: usize = 4096;

/// What memory is measured of.
const HELD: &[&str] = &[
    "an empty file",
    "a file of 100 bytes",
    "a file of 1 KiB",
    "a file of 64 MiB",
    "a file system with ten files of 1 KiB, contents and all",
];

/// What is measured, and for how many operations its time is.
const WHAT: &[(&str, usize)] = &[
    ("new file of 8 MiB by 4 KiB", 2048),
    ("8 MiB in one write, each 4 KiB", 2048),
    ("new file of 8 MiB by 4 KiB, no two alike", 2048),
    ("append of 4 KiB, open file", 2048),
    ("open, append 4 KiB, close", 256),
    ("4 KiB overwritten at random, own 8 MiB", 2048),
    ("4 KiB read at random, own 8 MiB", 2048),
    ("4 KiB read at random, base of 64 MiB", 4096),
    ("metadata, depth 8", 4096),
    ("missing name, depth 8", 4096),
    ("open + close, depth 8", 4096),
    ("create, write 1 KiB, close, unlink", 1024),
    ("rename", 1024),
    ("make and remove a directory", 1024),
    ("list 1,000 names", 1),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["case", who, what] => case(who, what),
        ["memory", who, what] => memory(who, what),
        [] => {
            compare(5);
            compare_memory();
        }
        [rounds] if rounds.parse::<u32>().is_ok() => {
            compare(rounds.parse().unwrap());
            compare_memory();
        }
        _ => eprintln!("usage: stratafs-peers [ROUNDS]"),
    }
}

/// Runs all cases in turns.
fn compare(rounds: u32) {
    let mut all: BTreeMap<(usize, usize, &str), Vec<u64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (what, (name, _)) in WHAT.iter().enumerate() {
            for (who, peer) in WHO.iter().enumerate() {
                for line in output_of(&["case", peer, name]).lines() {
                    let (state, ns) = line.split_once(' ').unwrap();
                    let state = if state == "cold" { "cold" } else { "warm" };
                    all.entry((what, who, state))
                        .or_default()
                        .push(ns.parse().unwrap());
                }
            }
        }
    }
    println!(
        "| ns: median [least..most] | | {} | of the best peer's |",
        WHO.join(" | ")
    );
    println!("|---|---|{}---|", "---|".repeat(WHO.len()));
    for (what, (name, _)) in WHAT.iter().enumerate() {
        for state in ["cold", "warm"] {
            let mut medians = Vec::new();
            let cells: Vec<String> = (0..WHO.len())
                .map(|who| {
                    let samples = all.get_mut(&(what, who, state)).unwrap();
                    samples.sort_unstable();
                    let median = samples[samples.len() / 2];
                    medians.push(median);
                    format!("{median} [{}..{}]", samples[0], samples[samples.len() - 1])
                })
                .collect();
            let best = *medians[1..].iter().min().unwrap();
            #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
            let ratio = medians[0] as f64 / best as f64;
            println!("| {name} | {state} | {} | {ratio:.2} |", cells.join(" | "));
        }
    }
}

/// Runs this program again, and returns what it prints.
fn output_of(words: &[&str]) -> String {
    let this = std::env::current_exe().unwrap();
    let out = Command::new(this).args(words).output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{words:?}: {errors}");
    String::from_utf8(out.stdout).unwrap()
}

/// Prints what the file systems in memory hold besides contents, each in a process
/// of its own.
fn compare_memory() {
    let peers = &WHO[..WHO.len() - 1];
    println!(
        "\n| bytes resident, besides contents | {} |",
        peers.join(" | ")
    );
    println!("|---|{}", "---|".repeat(peers.len()));
    for what in HELD {
        let held = |peer: &&str| output_of(&["memory", peer, what]).trim().to_owned();
        let cells: Vec<String> = peers.iter().map(held).collect();
        println!("| {what} | {} |", cells.join(" | "));
    }
}

/// Does one piece of work five times, and prints what the first and the last took.
fn case(who: &str, what: &str) {
    let (at, (_, times)) = WHAT
        .iter()
        .enumerate()
        .find(|(_, (name, _))| *name == what)
        .unwrap();
    let base = if what.contains("64 MiB") { 64 << 20 } else { 0 };
    let fs = make(who, base);
    let mut work = prepare(at, &*fs);
    for round in 0..5 {
        let began = Instant::now();
        work(round);
        let ns = began.elapsed().as_nanos() / *times as u128;
        match round {
            0 => println!("cold {ns}"),
            4 => println!("warm {ns}"),
            _ => {}
        }
    }
}

fn offsets(blocks: usize, count: usize) -> impl Iterator<Item = u64> {
    let at = move |n: usize| (n * 40_503 % blocks * BLOCK) as u64;
    (0..count).map(at)
}

/// Sets the case up and returns its work, which is given the number of the round.
fn prepare<'a>(what: usize, fs: &'a dyn Files) -> Box<dyn FnMut(u32) + 'a> {
    let times = WHAT[what].1;
    let block = vec![0xa5_u8; BLOCK];
    let deep = "/usr/lib/python3.11/site-packages/pkgname/sub/deep";
    fs.create_dir_all(deep);
    fs.write(
        "/usr/lib/python3.11/site-packages/pkgname/sub/deep/module.py",
        &block,
    );
    let own = |fs: &dyn Files| fs.write("/own", &vec![7; 8 << 20]);
    match what {
        0 => Box::new(move |_| {
            let mut file = fs.create("/new");
            (0..times).for_each(|_| file.append(&block));
            drop(file);
            fs.remove("/new");
        }),
        1 => {
            let bytes = vec![7; 8 << 20];
            Box::new(move |_| {
                fs.write("/new", &bytes);
                fs.remove("/new");
            })
        }
        2 => {
            let mut block = block;
            Box::new(move |_| {
                let mut file = fs.create("/new");
                for number in 0..times {
                    block[..8].copy_from_slice(&number.to_le_bytes());
                    file.append(&block);
                }
                drop(file);
                fs.remove("/new");
            })
        }
        3 => Box::new(move |round| {
            let mut file = fs.create(&format!("/append{round}"));
            (0..times).for_each(|_| file.append(&block));
        }),
        4 => {
            fs.write("/log", &[]);
            Box::new(move |_| (0..times).for_each(|_| fs.open_to_append("/log").append(&block)))
        }
        5 => {
            own(fs);
            let mut file = fs.open("/own");
            Box::new(move |_| offsets(2048, times).for_each(|at| file.write_at(at, &block)))
        }
        6 => {
            own(fs);
            random_reads(fs.open("/own"), 2048, times)
        }
        7 => random_reads(fs.open("/base"), 16_384, times),
        8 => Box::new(move |_| {
            let path = format!("{deep}/module.py");
            (0..times).for_each(|_| assert_eq!(fs.len(&path), Some(4096)));
        }),
        9 => Box::new(move |_| {
            let path = format!("{deep}/missng.py");
            (0..times).for_each(|_| assert_eq!(fs.len(&path), None));
        }),
        10 => Box::new(move |_| {
            let path = format!("{deep}/module.py");
            (0..times).for_each(|_| drop(fs.open(&path)));
        }),
        11 => Box::new(move |_| {
            for _ in 0..times {
                fs.create("/small").append(&block[..1024]);
                fs.remove("/small");
            }
        }),
        12 => {
            fs.write("/one", &block);
            Box::new(move |_| {
                for _ in 0..times / 2 {
                    fs.rename("/one", "/two");
                    fs.rename("/two", "/one");
                }
            })
        }
        13 => Box::new(move |_| {
            for _ in 0..times {
                fs.create_dir_all("/dir");
                fs.remove_dir("/dir");
            }
        }),
        _ => {
            fs.create_dir_all("/many");
            (0..1000).for_each(|n| fs.write(&format!("/many/entry{n:04}"), b"x"));
            Box::new(move |_| assert_eq!(fs.list("/many"), 1000))
        }
    }
}

fn random_reads<'a>(
    mut file: Box<dyn Handle + 'a>,
    blocks: usize,
    times: usize,
) -> Box<dyn FnMut(u32) + 'a> {
    let mut buf = vec![0; BLOCK];
    Box::new(move |_| offsets(blocks, times).for_each(|at| file.read_at(at, &mut buf)))
}

/// Prints how much the process grows by one of them, less what it contains.
fn memory(who: &str, what: &str) {
    let files = |len: usize, count: u64| {
        let fs = make(who, 0);
        fs.create_dir_all("/many");
        // No two blocks are alike.
        let mut content = vec![7; len];
        let before = resident();
        for n in 0..count {
            for (at, block) in (n << 32..).zip(content.chunks_mut(BLOCK)) {
                let mark = at.to_le_bytes();
                block.iter_mut().zip(mark).for_each(|(to, byte)| *to = byte);
            }
            fs.write(&format!("/many/entry{n:05}"), &content);
        }
        ((resident() - before) / count).saturating_sub(len as u64)
    };
    let held = match what {
        "an empty file" => files(0, 20_000),
        "a file of 100 bytes" => files(100, 20_000),
        "a file of 1 KiB" => files(1 << 10, 20_000),
        "a file of 64 MiB" => files(64 << 20, 1),
        _ => {
            let before = resident();
            let made: Vec<_> = (0..500).map(|_| ten_files(who)).collect();
            (resident() - before) / made.len() as u64
        }
    };
    println!("{held}");
}

/// A file system with ten files of a KiB, no two of them alike.
fn ten_files(who: &str) -> Box<dyn peers::Files> {
    let fs = make(who, 0);
    (0..10).for_each(|n| fs.write(&format!("/entry{n}"), &[n; 1 << 10]));
    fs
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}
