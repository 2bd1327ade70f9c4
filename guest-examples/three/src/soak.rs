//! Random calls of `wasi:filesystem@0.3`, one line each, which two hosts have to
//! agree on: `NUMBER CALL = ANSWER`.
//!
//! `soak SEED COUNT [CALLS]`: see `guest_examples::soak`.

use std::ops::BitOr;

use guest_examples::random::Random;
use guest_examples::soak::{Plan, Seen, digest, nanos, offset, path, show, target, time};
use guest_examples::three::wasip3;
use wasip3::clocks::system_clock::Instant;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, NewTimestamp,
    OpenFlags, PathFlags,
};
use wasip3::wit_bindgen::{FutureReader, StreamReader, StreamResult, block_on};
use wasip3::wit_stream;

type Answer<T> = Result<T, ErrorCode>;

/// The calls, and how likely they are.
const KINDS: [(usize, &str); 20] = [
    (30, "open"),
    (6, "close"),
    (8, "read-stream"),
    (10, "write-stream"),
    (4, "set-size"),
    (8, "stat"),
    (10, "stat-at"),
    (3, "about"),
    (2, "sync"),
    (2, "set-times"),
    (3, "set-times-at"),
    (8, "mkdir"),
    (6, "rmdir"),
    (6, "unlink"),
    (8, "symlink"),
    (5, "readlink"),
    (9, "rename"),
    (8, "link"),
    (4, "hash-at"),
    (6, "list"),
];

/// Descriptors kept at most.
const OPEN: usize = 14;

/// An error's name as WIT has it.
fn name(code: &ErrorCode) -> String {
    let text = format!("{code:?}");
    let camel = text.rsplit("::").next().unwrap_or(&text);
    let mut name = String::new();
    for letter in camel.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

fn told<T>(answer: Answer<T>, shown: impl FnOnce(T) -> String) -> String {
    match answer {
        Ok(what) => format!("ok {}", shown(what)),
        Err(code) => name(&code),
    }
}

fn none((): ()) -> String {
    String::new()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Some of a few flags.
fn some_of<T: BitOr<Output = T> + Copy>(random: &mut Random, none: T, all: &[T]) -> T {
    let chosen = all.iter().filter(|_| random.below(3) == 0);
    chosen.fold(none, |some, one| some | *one)
}

fn follow(random: &mut Random) -> (bool, PathFlags) {
    match random.below(2) {
        0 => (false, PathFlags::empty()),
        _ => (true, PathFlags::SYMLINK_FOLLOW),
    }
}

fn new_time(random: &mut Random) -> (String, NewTimestamp) {
    match random.below(3) {
        0 => ("keep".into(), NewTimestamp::NoChange),
        1 => ("now".into(), NewTimestamp::Now),
        _ => {
            let nanos = nanos(random);
            let instant = Instant {
                seconds: (nanos / 1_000_000_000) as i64,
                nanoseconds: (nanos % 1_000_000_000) as u32,
            };
            (nanos.to_string(), NewTimestamp::Timestamp(instant))
        }
    }
}

/// What both hosts can know of an object.
fn shown(stat: DescriptorStat) -> String {
    let (links, size) = match stat.type_ {
        DescriptorType::Directory => (0, 0),
        _ => (stat.link_count, stat.size),
    };
    let nanos = |instant: Option<Instant>| {
        let instant = instant.expect("a time");
        time(instant.seconds as u64 * 1_000_000_000 + u64::from(instant.nanoseconds))
    };
    format!(
        "{:?} links {links} size {size} mtim {} atim {}",
        stat.type_,
        nanos(stat.data_modification_timestamp),
        nanos(stat.data_access_timestamp)
    )
}

async fn collect<T>(
    mut data: StreamReader<T>,
    end: FutureReader<Answer<()>>,
) -> (Vec<T>, Answer<()>) {
    let mut all = Vec::new();
    loop {
        let (result, piece) = data.read(Vec::with_capacity(5_000)).await;
        all.extend(piece);
        if result == StreamResult::Dropped {
            return (all, end.await);
        }
    }
}

/// The guest: what it has open, the root first, and the numbers of objects.
struct Caller {
    open: Vec<(Descriptor, bool)>,
    seen: Seen,
}

impl Caller {
    /// The place of one that is a directory or not, mostly.
    fn some(&self, random: &mut Random, directory: bool) -> usize {
        let places: Vec<usize> = (0..self.open.len())
            .filter(|place| self.open[*place].1 == directory)
            .collect();
        if places.is_empty() || random.below(12) == 0 {
            random.below(self.open.len())
        } else {
            *random.pick(&places)
        }
    }

    /// The place of one to walk from: mostly the root.
    fn dir(&self, random: &mut Random) -> usize {
        match random.below(16) {
            0..11 => 0,
            _ => self.some(random, true),
        }
    }

    fn at(&self, place: usize) -> &Descriptor {
        &self.open[place].0
    }

    async fn call(&mut self, kind: &str, random: &mut Random) -> String {
        match kind {
            "open" => self.open(random).await,
            "close" => self.close(random),
            "read-stream" | "write-stream" | "set-size" | "set-times" => {
                self.on_file(kind, random).await
            }
            "stat" | "about" | "sync" => self.on_any(kind, random).await,
            "rename" | "link" => self.on_two(kind, random).await,
            "list" => self.list(random).await,
            _ => self.on_path(kind, random).await,
        }
    }

    async fn open(&mut self, random: &mut Random) -> String {
        let (place, path) = (self.dir(random), text(path(random)));
        let (follows, follow) = follow(random);
        let all = [
            OpenFlags::CREATE,
            OpenFlags::DIRECTORY,
            OpenFlags::EXCLUSIVE,
            OpenFlags::TRUNCATE,
        ];
        let how = match random.below(2) {
            0 => OpenFlags::empty(),
            _ => some_of(random, OpenFlags::empty(), &all),
        };
        let (read, write) = (DescriptorFlags::READ, DescriptorFlags::WRITE);
        let odd = [
            read,
            write,
            DescriptorFlags::MUTATE_DIRECTORY,
            DescriptorFlags::FILE_INTEGRITY_SYNC,
        ];
        let flags = match random.below(8) {
            0 => some_of(random, DescriptorFlags::empty(), &odd),
            1 => DescriptorFlags::empty(),
            2 | 3 => read,
            4 => write,
            _ => read | write,
        };
        let asked = show(path.as_bytes());
        let opened = self.at(place).open_at(follow, path, how, flags).await;
        let what = match opened {
            Ok(fd) => {
                let kind = fd.get_type().await;
                let directory = matches!(kind, Ok(DescriptorType::Directory));
                if self.open.len() < OPEN {
                    self.open.push((fd, directory));
                    format!("ok at {} {kind:?}", self.open.len() - 1)
                } else {
                    "ok and closed".into()
                }
            }
            Err(code) => name(&code),
        };
        format!("open {place} {asked} follow {follows} {how:?} {flags:?} = {what}")
    }

    fn close(&mut self, random: &mut Random) -> String {
        if self.open.len() < 2 {
            return "close = none".into();
        }
        let place = 1 + random.below(self.open.len() - 1);
        drop(self.open.swap_remove(place));
        format!("close {place} = ok")
    }

    async fn on_file(&mut self, kind: &str, random: &mut Random) -> String {
        let (place, at) = (self.some(random, false), offset(random));
        let file = self.at(place);
        match kind {
            "read-stream" => {
                let (data, end) = file.read_via_stream(at);
                let (bytes, end) = collect(data, end).await;
                let what = told(end, none);
                format!(
                    "read-stream {place} at {at} = {what} {} {:x}",
                    bytes.len(),
                    digest(&bytes)
                )
            }
            "write-stream" => {
                let append = random.below(2) == 0;
                let len = *random.pick(&[0, 1, 3, 100, 4_096, 9_000]);
                let (mut data, reader) = wit_stream::new();
                let end = match append {
                    true => file.append_via_stream(reader),
                    false => file.write_via_stream(reader, at),
                };
                data.write_all(random.bytes(len)).await;
                drop(data);
                let what = told(end.await, none);
                format!("write-stream {place} {len} at {at} append {append} = {what}")
            }
            "set-size" => {
                let what = told(file.set_size(at).await, none);
                format!("set-size {place} {at} = {what}")
            }
            _ => {
                let ((a, atime), (m, mtime)) = (new_time(random), new_time(random));
                let what = told(file.set_times(atime, mtime).await, none);
                format!("set-times {place} {a} {m} = {what}")
            }
        }
    }

    async fn on_any(&mut self, kind: &str, random: &mut Random) -> String {
        let place = random.below(self.open.len());
        let fd = &self.open[place].0;
        let what = match kind {
            "stat" => told(fd.stat().await, shown),
            "sync" => format!(
                "{} {}",
                told(fd.sync().await, none),
                told(fd.sync_data().await, none)
            ),
            _ => {
                let (flags, kind) = (fd.get_flags().await, fd.get_type().await);
                let hash = fd.metadata_hash().await;
                let hash = hash.map(|hash| self.seen.number(hash.lower));
                format!("{flags:?} {kind:?} {hash:?}")
            }
        };
        format!("{kind} {place} = {what}")
    }

    async fn on_path(&mut self, kind: &str, random: &mut Random) -> String {
        let (place, path) = (self.dir(random), text(path(random)));
        let dir = &self.open[place].0;
        let asked = show(path.as_bytes());
        match kind {
            "stat-at" => {
                let (follows, follow) = follow(random);
                let what = told(dir.stat_at(follow, path).await, shown);
                format!("stat-at {place} {asked} follow {follows} = {what}")
            }
            "set-times-at" => {
                let (follows, follow) = follow(random);
                let ((a, atime), (m, mtime)) = (new_time(random), new_time(random));
                let what = told(dir.set_times_at(follow, path, atime, mtime).await, none);
                format!("set-times-at {place} {asked} follow {follows} {a} {m} = {what}")
            }
            "hash-at" => {
                // A slash behind a link's name would number two objects for good.
                let path = path.trim_end_matches(['/', '.']).to_owned();
                let asked = show(path.as_bytes());
                let hash = dir.metadata_hash_at(PathFlags::empty(), path).await;
                let what = told(hash, |hash| self.seen.number(hash.lower).to_string());
                format!("hash-at {place} {asked} follow false = {what}")
            }
            "symlink" => {
                let to = text(target(random));
                let shown = show(to.as_bytes());
                let what = told(dir.symlink_at(to, path).await, none);
                format!("symlink {place} {asked} to {shown} = {what}")
            }
            "readlink" => {
                let what = told(dir.readlink_at(path).await, |to| show(to.as_bytes()));
                format!("readlink {place} {asked} = {what}")
            }
            _ => {
                let done = match kind {
                    "mkdir" => dir.create_directory_at(path).await,
                    "rmdir" => dir.remove_directory_at(path).await,
                    _ => dir.unlink_file_at(path).await,
                };
                format!("{kind} {place} {asked} = {}", told(done, none))
            }
        }
    }

    async fn on_two(&mut self, kind: &str, random: &mut Random) -> String {
        let (from, old) = (self.dir(random), text(path(random)));
        let (to, new) = (self.dir(random), text(path(random)));
        let (dir, new_dir) = (self.at(from), self.at(to));
        let (a, b) = (show(old.as_bytes()), show(new.as_bytes()));
        if kind == "rename" {
            let what = told(dir.rename_at(old, new_dir, new).await, none);
            return format!("rename {from} {a} to {to} {b} = {what}");
        }
        let follow = match random.below(10) {
            0 => PathFlags::SYMLINK_FOLLOW,
            _ => PathFlags::empty(),
        };
        let what = told(dir.link_at(follow, old, new_dir, new).await, none);
        format!("link {from} {a} to {to} {b} {follow:?} = {what}")
    }

    async fn list(&mut self, random: &mut Random) -> String {
        let place = self.dir(random);
        let (data, end) = self.at(place).read_directory();
        let (entries, end) = collect(data, end).await;
        let mut names: Vec<String> = entries.iter().map(|e| show(e.name.as_bytes())).collect();
        names.sort();
        format!("list {place} = {} {}", told(end, none), names.join(" "))
    }
}

/// Draws what to call.
fn kind(random: &mut Random) -> &'static str {
    let total = KINDS.iter().map(|(weight, _)| weight).sum();
    let mut at = random.below(total);
    for (weight, kind) in KINDS {
        if at < weight {
            return kind;
        }
        at -= weight;
    }
    unreachable!("the weights add up")
}

fn main() {
    block_on(async {
        let (root, _) = get_directories().into_iter().next().expect("a directory");
        let mut caller = Caller {
            open: vec![(root, true)],
            seen: Seen::default(),
        };
        for (number, mut random) in Plan::from_args().calls() {
            let kind = kind(&mut random);
            println!("{number} {}", caller.call(kind, &mut random).await);
        }
    });
}

guest_examples::command!(main);
