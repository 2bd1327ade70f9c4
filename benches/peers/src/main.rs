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

/// What is measured, and for how many operations its time is.
const WHAT: &[(&str, usize)] = &[
    ("new file of 8 MiB by 4 KiB", 2048),
    ("8 MiB in one write, each 4 KiB", 2048),
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
        ["memory", who] => memory(who),
        [] => compare(5),
        [rounds] if rounds.parse::<u32>().is_ok() => compare(rounds.parse().unwrap()),
        _ => eprintln!("usage: stratafs-peers [ROUNDS]"),
    }
}

/// Runs all cases in turns.
fn compare(rounds: u32) {
    let mut all: BTreeMap<(usize, usize, &str), Vec<u64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (what, (name, _)) in WHAT.iter().enumerate() {
            for (who, peer) in WHO.iter().enumerate() {
                let this = std::env::current_exe().unwrap();
                let out = Command::new(this)
                    .args(["case", peer, name])
                    .output()
                    .unwrap();
                let text = String::from_utf8(out.stdout).unwrap();
                assert!(
                    out.status.success(),
                    "{peer}, {name}: {}",
                    String::from_utf8_lossy(&out.stderr)
                );
                for line in text.lines() {
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
        2 => Box::new(move |round| {
            let mut file = fs.create(&format!("/append{round}"));
            (0..times).for_each(|_| file.append(&block));
        }),
        3 => {
            fs.write("/log", &[]);
            Box::new(move |_| (0..times).for_each(|_| fs.open_to_append("/log").append(&block)))
        }
        4 => {
            own(fs);
            let mut file = fs.open("/own");
            Box::new(move |_| offsets(2048, times).for_each(|at| file.write_at(at, &block)))
        }
        5 => {
            own(fs);
            random_reads(fs.open("/own"), 2048, times)
        }
        6 => random_reads(fs.open("/base"), 16_384, times),
        7 => Box::new(move |_| {
            let path = format!("{deep}/module.py");
            (0..times).for_each(|_| assert_eq!(fs.len(&path), Some(4096)));
        }),
        8 => Box::new(move |_| {
            let path = format!("{deep}/missng.py");
            (0..times).for_each(|_| assert_eq!(fs.len(&path), None));
        }),
        9 => Box::new(move |_| {
            let path = format!("{deep}/module.py");
            (0..times).for_each(|_| drop(fs.open(&path)));
        }),
        10 => Box::new(move |_| {
            for _ in 0..times {
                fs.create("/small").append(&block[..1024]);
                fs.remove("/small");
            }
        }),
        11 => {
            fs.write("/one", &block);
            Box::new(move |_| {
                for _ in 0..times / 2 {
                    fs.rename("/one", "/two");
                    fs.rename("/two", "/one");
                }
            })
        }
        12 => Box::new(move |_| {
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

/// Prints how much the process grows by 20,000 files of 100 bytes.
fn memory(who: &str) {
    let fs = make(who, 0);
    fs.create_dir_all("/many");
    let before = resident();
    (0..20_000).for_each(|n| fs.write(&format!("/many/entry{n:05}"), &[7; 100]));
    println!("{} bytes a file", (resident() - before) / 20_000);
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}
