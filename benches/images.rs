//! Images at rest from within: what opening one costs, what stays resident,
//! and how much each size of chunk would keep. `images.sh` runs it beside
//! other tools; alone it says how.
#![allow(clippy::unwrap_used, reason = "a bench ends at the first error")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use fastcdc::v2020::FastCDC;
use serde_json::{Value, json};
use stratafs::digest::Digest;
use stratafs::meta::Kind;
use stratafs::store::Store;
use stratafs::vfs::Fs;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["open", store, image] => open(Path::new(store), image),
        ["hold", store, image, share] => hold(Path::new(store), image, share.parse().unwrap()),
        ["memory", store, image] => memory(store, image),
        ["chunks", dirs @ ..] if !dirs.is_empty() => chunks(dirs),
        _ => eprintln!(
            "usage: images open STORE IMAGE | memory STORE IMAGE | chunks DIR...\n\
             benches/images.sh runs all of them beside other tools"
        ),
    }
}

/// Opens store and image in this process, which has done nothing yet, and
/// makes an instance.
fn open(store: &Path, name: &str) {
    let start = Instant::now();
    let store = Store::open(store).unwrap();
    let opened = start.elapsed();
    let image = store.image(name).unwrap();
    let found = start.elapsed();
    let fs = Fs::new(&image);
    let made = start.elapsed();
    let entries = fs.read_dir("/").unwrap().len();
    let listed = start.elapsed();
    println!(
        "{}",
        json!({
            "case": "open and instance", "ns": nanos(made),
            "store_ns": nanos(opened), "image_ns": nanos(found - opened),
            "instance_ns": nanos(made - found), "list_root_ns": nanos(listed - made),
            "root_entries": entries,
        })
    );
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

/// Opens an image, reads one file of each `share`, and tells what is resident
/// before, between, after, and whenever it is asked again.
fn hold(store: &Path, name: &str, share: usize) {
    let before = resident();
    let store = Store::open(store).unwrap();
    let image = store.image(name).unwrap();
    let fs = Fs::new(&image);
    let opened = resident();
    let mut read = 0;
    if share > 0 {
        let mut files = Vec::new();
        list(&fs, b"/", &mut files);
        for file in files.iter().step_by(share) {
            read += fs.read(file).unwrap().len();
        }
    }
    let told =
        json!({"before": before, "opened": opened, "touched": resident(), "bytes_read": read});
    println!("{told}");
    for _ in std::io::stdin().lock().lines() {
        println!("{}", json!({ "touched": resident() }));
    }
}

fn list(fs: &Fs, dir: &[u8], files: &mut Vec<Vec<u8>>) {
    for entry in fs.read_dir(dir).unwrap() {
        match entry.kind() {
            Kind::Dir => list(fs, &entry.path(), files),
            Kind::File => files.push(entry.path()),
            Kind::Symlink => {}
        }
    }
}

/// What `/proc` says of this process and of the indexes that it maps, in KiB.
fn resident() -> Value {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut index, mut all, mut own) = (false, [0_u64; 2], [0_u64; 2]);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else {
            continue;
        };
        if first.contains('-') && !first.ends_with(':') {
            index = line.contains("/indexes/");
        }
        let count: u64 = second.parse().unwrap_or(0);
        let which = match first {
            "Rss:" => 0,
            "Pss:" => 1,
            _ => continue,
        };
        let of_index = own.get_mut(which).filter(|_| index);
        for sum in all.get_mut(which).into_iter().chain(of_index) {
            *sum += count;
        }
    }
    let ([rss, pss], [index_rss, index_pss]) = (all, own);
    json!({"rss": rss, "pss": pss, "index_rss": index_rss, "index_pss": index_pss})
}

/// One process that holds the image, then a second one.
fn memory(store: &str, name: &str) {
    for share in ["0", "1000", "10", "1"] {
        let (mut first, mut lines) = start(store, name, share);
        let alone = line(&mut lines);
        let (mut second, mut others) = start(store, name, share);
        let other = line(&mut others);
        writeln!(first.stdin.as_mut().unwrap(), "again").unwrap();
        let both = line(&mut lines);
        println!(
            "{}",
            json!({
                "case": "memory", "one_file_of": share, "first_alone": alone,
                "second": other, "first_beside_second": both,
            })
        );
        for child in [&mut first, &mut second] {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}

fn start(store: &str, name: &str, share: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["hold", store, name, share])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn line(lines: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// Counts what chunks of each average would keep of some trees, each chunk
/// once, with a quarter of the average as the least and eight times as the most.
fn chunks(dirs: &[&str]) {
    let mut files = Vec::new();
    for dir in dirs {
        walk(Path::new(dir), &mut files);
    }
    for kib in [2, 4, 8, 16, 32, 64] {
        let average = kib * 1024;
        let (mut seen, mut unique, mut total) = (HashSet::new(), 0, 0);
        for file in &files {
            let bytes = std::fs::read(file).unwrap();
            let mut rest = bytes.as_slice();
            for chunk in FastCDC::new(&bytes, average / 4, average, average * 8) {
                let (piece, after) = rest.split_at(chunk.length);
                rest = after;
                total += piece.len();
                if seen.insert(Digest::of(piece)) {
                    unique += piece.len();
                }
            }
        }
        let table = seen.len() * 36;
        println!(
            "{}",
            json!({
                "case": "chunks", "average_kib": kib, "bytes": total, "unique_bytes": unique,
                "chunks": seen.len(), "table_bytes": table, "at_rest": unique + table,
            })
        );
    }
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            walk(&entry.path(), files);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
}
