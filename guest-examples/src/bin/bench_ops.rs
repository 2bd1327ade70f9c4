//! Times preview1's file calls from inside a guest.
//!
//! `bench_ops [DIR [ROUNDS]]`: one line a kind of operation: its name, then
//! nanoseconds for one (median, least, most of ROUNDS rounds, default 15).
//!
//! DIR (default `bench`) may come with the base, so that reads are of base
//! files; what is missing there is made first, outside the measured time:
//! `f`, `1/2/3/4/5/6/7/f`, `many/0000` to `many/0999`, `big.bin` of 64 MiB,
//! and `first/N.bin` of 64 MiB each, as many as rounds, which get one byte.

use guest_examples::check::{arg, number};
use guest_examples::preview1::{self as p1, APPEND, CREAT, DIRECTORY, READ, ROOT, WRITE};
use guest_examples::random::Random;

const BIG: u64 = 64 << 20;
const MANY: usize = 1_000;

struct Bench {
    dir: u32,
    rounds: usize,
}

impl Bench {
    /// Times `times` operations a round.
    fn time(&self, name: &str, times: usize, mut act: impl FnMut(usize)) {
        let each = (0..self.rounds)
            .map(|round| {
                let start = p1::now();
                for time in 0..times {
                    act(round * times + time);
                }
                (p1::now() - start) as f64 / times as f64
            })
            .collect();
        print(name, each);
    }

    fn open(&self, path: &str) -> u32 {
        p1::open(self.dir, path, 0, READ, 0).unwrap()
    }
}

/// Makes a file of this size, unless it is there.
fn provide(dir: u32, path: &str, size: u64) {
    if p1::stat(dir, 0, path).is_ok() {
        return;
    }
    let fd = p1::open(dir, path, CREAT, READ | WRITE, 0).unwrap();
    let bytes = Random::new(size).bytes(size.min(1 << 20) as usize);
    let mut at = 0;
    while at < size {
        at += p1::pwrite(fd, &bytes, at).unwrap() as u64;
    }
    p1::close(fd).unwrap();
}

fn provide_all(dir: u32, rounds: usize) {
    provide(dir, "f", 100);
    let mut deep = String::new();
    for level in 1..8 {
        deep += &format!("{level}");
        let _ = p1::mkdir(dir, &deep);
        deep += "/";
    }
    provide(dir, &format!("{deep}f"), 100);
    let _ = p1::mkdir(dir, "many");
    for number in 0..MANY {
        provide(dir, &format!("many/{number:04}"), 10);
    }
    provide(dir, "big.bin", BIG);
    let _ = p1::mkdir(dir, "first");
    for round in 0..rounds {
        provide(dir, &format!("first/{round}.bin"), BIG);
    }
}

fn main() {
    let (path, rounds) = (arg(1, "bench"), number(2, 15) as usize);
    let path = path.trim_start_matches('/');
    let _ = p1::mkdir(ROOT, path);
    let dir = p1::open(ROOT, path, DIRECTORY, READ, 0).unwrap();
    provide_all(dir, rounds);
    let bench = Bench { dir, rounds };
    names(&bench);
    reads(&bench);
    writes(&bench);
}

fn names(bench: &Bench) {
    let dir = bench.dir;
    for (name, path) in [
        ("open_close_depth_1", "f"),
        ("open_close_depth_8", "1/2/3/4/5/6/7/f"),
    ] {
        bench.time(name, 2_000, |_| p1::close(bench.open(path)).unwrap());
    }
    for (name, path) in [("stat_depth_1", "f"), ("stat_depth_8", "1/2/3/4/5/6/7/f")] {
        bench.time(name, 2_000, |_| {
            p1::stat(dir, 0, path).unwrap();
        });
    }
    let fd = bench.open("f");
    bench.time("fstat", 5_000, |_| {
        p1::fstat(fd).unwrap();
    });
    bench.time("stat_missing", 2_000, |_| {
        p1::stat(dir, 0, "missing").unwrap_err();
    });
    let many = p1::open(dir, "many", DIRECTORY, READ, 0).unwrap();
    let mut buf = vec![0; 4096];
    let mut listed = 0;
    bench.time("readdir_1000_entries", 1, |_| listed = list(many, &mut buf));
    assert_eq!(listed, MANY + 2, "entries with the dots");
}

/// Lists a directory as a C library does and counts what it names.
fn list(dir: u32, buf: &mut [u8]) -> usize {
    let (mut cookie, mut count) = (0, 0);
    loop {
        let len = p1::readdir(dir, buf, cookie).unwrap();
        let mut at = 0;
        while at + 24 <= len {
            let name = u32::from_le_bytes(buf[at + 16..at + 20].try_into().unwrap()) as usize;
            if at + 24 + name > len {
                break;
            }
            cookie = u64::from_le_bytes(buf[at..at + 8].try_into().unwrap());
            at += 24 + name;
            count += 1;
        }
        if len < buf.len() {
            return count;
        }
    }
}

fn reads(bench: &Bench) {
    let fd = bench.open("big.bin");
    let mut random = Random::new(7);
    let mut buf = vec![0; 1 << 20];
    bench.time("read_4k_random", 2_000, |_| {
        let at = random.below((BIG / 4096) as usize) as u64 * 4096;
        assert_eq!(p1::pread(fd, &mut buf[..4096], at), Ok(4096));
    });
    for (name, len) in [
        ("read_64k_sequential", 64 << 10),
        ("read_1m_sequential", 1 << 20),
    ] {
        let times = (BIG / len as u64) as usize;
        bench.time(name, times, |time| {
            let at = (time % times * len) as u64;
            let mut have = 0;
            while have < len {
                have += p1::pread(fd, &mut buf[have..len], at + have as u64).unwrap();
            }
        });
    }
    p1::close(fd).unwrap();
}

fn writes(bench: &Bench) {
    let dir = bench.dir;
    let bytes = vec![7; 4096];
    let log = p1::open(dir, "log", CREAT, READ | WRITE, APPEND).unwrap();
    bench.time("append_4k", 500, |_| {
        assert_eq!(p1::write(log, &bytes), Ok(4096))
    });
    bench.time("create_write_1k_close_unlink", 500, |_| {
        let fd = p1::open(dir, "new", CREAT, READ | WRITE, 0).unwrap();
        assert_eq!(p1::write(fd, &bytes[..1024]), Ok(1024));
        p1::close(fd).unwrap();
        p1::unlink(dir, "new").unwrap();
    });
    provide(dir, "name-0", 10);
    let names = ["name-0", "name-1"];
    bench.time("rename", 2_000, |time| {
        p1::rename(dir, names[time % 2], names[(time + 1) % 2]).unwrap();
    });
    bench.time("mkdir_rmdir", 1_000, |_| {
        p1::mkdir(dir, "made").unwrap();
        p1::rmdir(dir, "made").unwrap();
    });
    first_byte(bench);
}

/// One byte into a large file, each time of another: as a whole, and the calls apart,
/// with the reading of a clock that is in each of them.
fn first_byte(bench: &Bench) {
    let mut parts: [Vec<f64>; 4] = Default::default();
    for round in 0..bench.rounds {
        let path = format!("first/{round}.bin");
        let start = p1::now();
        let fd = p1::open(bench.dir, &path, 0, READ | WRITE, 0).unwrap();
        let opened = p1::now();
        p1::pwrite(fd, b"x", 1 << 20).unwrap();
        let written = p1::now();
        p1::close(fd).unwrap();
        let closed = p1::now();
        let times = [
            closed - start,
            opened - start,
            written - opened,
            closed - written,
        ];
        for (part, time) in parts.iter_mut().zip(times) {
            part.push(time as f64);
        }
    }
    let names = ["of_64m", "of_64m_open", "of_64m_write", "of_64m_close"];
    for (name, part) in names.into_iter().zip(parts) {
        print(&format!("first_byte_{name}"), part);
    }
}

/// Prints the median, the least and the most of what a kind of operation took.
fn print(name: &str, mut each: Vec<f64>) {
    each.sort_by(f64::total_cmp);
    let (least, most) = (each[0], each[each.len() - 1]);
    println!("{name} {:.1} {least:.1} {most:.1}", each[each.len() / 2]);
}
