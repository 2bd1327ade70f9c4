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

use peers::{DEEP, Files, Handle, WHO, load, make, make_layered};

const BLOCK: usize = 4096;

/// What memory is measured of.
const HELD: &[&str] = &[
    "an empty file",
    "a file of 100 bytes",
    "a file of 1 KiB",
    "a file of 64 MiB",
    "a file of 100 bytes, of the base",
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
    ("base of 64 MiB read by 64 KiB", 1024),
    ("base of 64 MiB read by 1 MiB", 64),
    ("load of a base of 68 MB, 1,000 files", 1),
];

/// What is measured of a file of the lowest layer, and for how many operations.
const LAYERED: &[(&str, usize)] = &[
    ("metadata", 4096),
    ("missing name", 4096),
    ("open + close", 4096),
];

const LAYERS: &[usize] = &[1, 8, 128];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["case", who, what] => case(who, what),
        ["memory", who, what] => memory(who, what),
        ["layers", who, what, layers] => layered_case(who, what, layers.parse().unwrap()),
        ["copy", piece] => copy(piece.parse().unwrap()),
        [] => compare_all(5),
        [rounds] if rounds.parse::<u32>().is_ok() => compare_all(rounds.parse().unwrap()),
        _ => eprintln!("usage: stratafs-peers [ROUNDS]"),
    }
}

fn compare_all(rounds: u32) {
    compare(rounds);
    compare_copies(rounds);
    compare_layers(rounds);
    compare_memory();
}

/// Prints what copying alone takes of what is read in pieces.
fn compare_copies(rounds: u32) {
    for (name, piece) in [("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        let copies = (0..rounds).map(|_| output_of(&["copy", &piece.to_string()]));
        let spread = Spread::of(copies.map(|said| said.trim().parse().unwrap()).collect());
        println!("a copy of {name} out of 64 MiB into one buffer, ns: {spread}");
    }
}

/// Copies a file's worth of bytes piece by piece into one buffer, five times, and prints what a
/// piece took the last time.
fn copy(piece: usize) {
    let bytes = vec![7_u8; 64 << 20];
    let mut buf = vec![0; piece];
    let mut ns = 0;
    for _ in 0..5 {
        let began = Instant::now();
        for piece in bytes.chunks(piece) {
            buf.copy_from_slice(std::hint::black_box(piece));
            std::hint::black_box(&buf);
        }
        ns = began.elapsed().as_nanos() / (bytes.len() / piece) as u128;
    }
    println!("{ns}");
}

/// Prints what a file of the lowest layer costs under 1, 8 and 128 layers, warm.
fn compare_layers(rounds: u32) {
    let peers = &WHO[..WHO.len() - 1];
    println!(
        "\n| ns, warm: median [least..most] | layers | {} |",
        peers.join(" | ")
    );
    println!("|---|---|{}", "---|".repeat(peers.len()));
    for (what, _) in LAYERED {
        for layers in LAYERS {
            let mut all = vec![Vec::new(); peers.len()];
            for _ in 0..rounds {
                for (figures, peer) in all.iter_mut().zip(peers) {
                    let said = output_of(&["layers", peer, what, &layers.to_string()]);
                    figures.push(said.trim().parse().unwrap());
                }
            }
            let cells: Vec<_> = all
                .into_iter()
                .map(|all| Spread::of(all).to_string())
                .collect();
            println!("| {what}, depth 8 | {layers} | {} |", cells.join(" | "));
        }
    }
}

fn layered_case(who: &str, what: &str, layers: usize) {
    let fs = make_layered(who, layers).unwrap();
    let (_, times) = LAYERED.iter().find(|(name, _)| *name == what).unwrap();
    let (path, missing) = (format!("/{DEEP}/module.py"), format!("/{DEEP}/missng.py"));
    let mut ns = 0;
    for _ in 0..5 {
        let began = Instant::now();
        for _ in 0..*times {
            match what {
                "metadata" => assert_eq!(fs.len(&path), Some(4096)),
                "missing name" => assert_eq!(fs.len(&missing), None),
                _ => drop(fs.open_to_read(&path)),
            }
        }
        ns = began.elapsed().as_nanos() / *times as u128;
    }
    println!("{ns}");
}

/// A median, and the least and the most.
struct Spread(u64, u64, u64);

impl Spread {
    fn of(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        Self(
            samples[samples.len() / 2],
            samples[0],
            samples[samples.len() - 1],
        )
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}..{}]", self.0, self.1, self.2)
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
                    let spread = Spread::of(all.remove(&(what, who, state)).unwrap());
                    medians.push(spread.0);
                    spread.to_string()
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
    let mut work = match what.starts_with("load") {
        true => loads(who),
        false => prepare(at, &*fs),
    };
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
    let deep = format!("/{DEEP}");
    fs.create_dir_all(&deep);
    fs.write(&format!("{deep}/module.py"), &block);
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
        15 => reads_in_order(fs.open_to_read("/base"), 64 << 10, times),
        16 => reads_in_order(fs.open_to_read("/base"), 1 << 20, times),
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

fn reads_in_order<'a>(
    mut file: Box<dyn Handle + 'a>,
    piece: usize,
    times: usize,
) -> Box<dyn FnMut(u32) + 'a> {
    let mut buf = vec![0; piece];
    Box::new(move |_| (0..times).for_each(|n| file.read_at((n * piece) as u64, &mut buf)))
}

/// Loads a base of 1,000 files, no two blocks of them alike.
fn loads<'a>(who: &'a str) -> Box<dyn FnMut(u32) + 'a> {
    let file = |number: usize| {
        let word = |at: usize| {
            (number << 32 | at)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes()
        };
        let bytes: Vec<u8> = (0..8500).flat_map(word).collect();
        (format!("file{number:04}"), bytes)
    };
    let files: Vec<_> = (0..1000).map(file).collect();
    Box::new(move |_| drop(load(who, &files)))
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
        "a file of 100 bytes, of the base" => {
            let all: Vec<_> = (0..20_000_u64)
                .map(|n| {
                    (
                        format!("entry{n:05}"),
                        n.to_le_bytes().repeat(13)[..100].to_vec(),
                    )
                })
                .collect();
            let before = resident();
            let made = load(who, &all);
            let held = (resident() - before) / all.len() as u64;
            drop(made);
            held.saturating_sub(100)
        }
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
