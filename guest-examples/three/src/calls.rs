//! Every call of `wasi:filesystem@0.3` with good, odd and bad arguments, one
//! line each: what two hosts have to agree on.
//!
//! `calls [DIR]`: works in directories that it makes below a preopened one.

use std::fmt::Debug;

use guest_examples::check::arg;
use guest_examples::three::wasip3;
use wasip3::clocks::system_clock::Instant;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{
    Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, NewTimestamp,
    OpenFlags, PathFlags,
};
use wasip3::wit_bindgen::{FutureReader, StreamReader, StreamResult, block_on};
use wasip3::wit_stream;

type Answer<T> = Result<T, ErrorCode>;

const READ: DescriptorFlags = DescriptorFlags::READ;
const WRITE: DescriptorFlags = DescriptorFlags::WRITE;
const NONE: PathFlags = PathFlags::empty();
const FOLLOW: PathFlags = PathFlags::SYMLINK_FOLLOW;
const NO_CHANGE: NewTimestamp = NewTimestamp::NoChange;

fn show(answer: Answer<impl Debug>) -> String {
    match answer {
        Ok(value) => format!("{value:?}"),
        Err(code) => format!("{code:?}"),
    }
}

/// What both hosts can know: the size and the links of a directory are the
/// host's own.
fn stat(stat: DescriptorStat) -> String {
    match stat.type_ {
        DescriptorType::Directory => "dir".to_owned(),
        DescriptorType::SymbolicLink => format!("link of {}", stat.size),
        DescriptorType::RegularFile => format!("file of {}, {} names", stat.size, stat.link_count),
        other => format!("{other:?}"),
    }
}

async fn open(dir: &Descriptor, path: &str, how: OpenFlags, access: DescriptorFlags) -> Descriptor {
    let opened = dir.open_at(NONE, path.to_owned(), how, access).await;
    opened.unwrap_or_else(|code| panic!("{path}: {code:?}"))
}

async fn collect<T>(
    mut data: StreamReader<T>,
    end: FutureReader<Answer<()>>,
) -> (Vec<T>, Answer<()>) {
    let mut all = Vec::new();
    loop {
        let (result, piece) = data.read(Vec::with_capacity(100)).await;
        all.extend(piece);
        if result == StreamResult::Dropped {
            return (all, end.await);
        }
    }
}

async fn read(file: &Descriptor, offset: u64) -> String {
    let (data, end) = file.read_via_stream(offset);
    let (bytes, end) = collect(data, end).await;
    format!("{:?} {}", String::from_utf8_lossy(&bytes), show(end))
}

/// Writes through a stream: at an offset, or at the end.
async fn write(file: &Descriptor, bytes: &[u8], offset: Option<u64>) -> String {
    let (mut data, reader) = wit_stream::new();
    let end = match offset {
        Some(offset) => file.write_via_stream(reader, offset),
        None => file.append_via_stream(reader),
    };
    let rest = data.write_all(bytes.to_vec()).await;
    drop(data);
    format!("{} left, {}", rest.len(), show(end.await))
}

async fn list(dir: &Descriptor) -> (Vec<(String, DescriptorType)>, Answer<()>) {
    let (data, end) = dir.read_directory();
    let (entries, end) = collect(data, end).await;
    let mut entries: Vec<_> = entries.into_iter().map(|e| (e.name, e.type_)).collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    (entries, end)
}

/// A directory with one of everything.
async fn make(top: &Descriptor, name: &str) -> Descriptor {
    top.create_directory_at(name.to_owned()).await.unwrap();
    let access = READ | DescriptorFlags::MUTATE_DIRECTORY;
    let dir = open(top, name, OpenFlags::DIRECTORY, access).await;
    for path in ["d", "d/e", "e", "n"] {
        dir.create_directory_at(path.to_owned()).await.unwrap();
    }
    for (path, text) in [("f", "hello"), ("d/g", "inside"), ("n/h", "")] {
        let file = open(&dir, path, OpenFlags::CREATE, WRITE).await;
        write(&file, text.as_bytes(), Some(0)).await;
    }
    let linked = dir.link_at(NONE, "f".to_owned(), &dir, "hl".to_owned());
    linked.await.unwrap();
    let links = [
        ("lf", "f"),
        ("ld", "d"),
        ("gone", "nope"),
        ("loop", "loop"),
        ("up", "../x"),
        ("lslash", "d/"),
        ("fslash", "f/"),
    ];
    for (path, target) in links {
        let linked = dir.symlink_at(target.to_owned(), path.to_owned());
        linked.await.unwrap();
    }
    dir
}

/// The tree as one line.
async fn tree(dir: &Descriptor) -> String {
    let mut out = String::new();
    let mut waiting = vec![String::new()];
    while let Some(path) = waiting.pop() {
        let below = match path.as_str() {
            "" => open(dir, ".", OpenFlags::DIRECTORY, READ).await,
            path => open(dir, path, OpenFlags::DIRECTORY, READ).await,
        };
        for (name, kind) in list(&below).await.0 {
            let path = if path.is_empty() {
                name
            } else {
                format!("{path}/{name}")
            };
            let raw = dir.stat_at(NONE, path.clone()).await;
            let shown: String = path.chars().take(20).collect();
            out += &format!(" {shown}:{}", show(raw.map(stat)));
            if let DescriptorType::Directory = kind {
                waiting.push(path);
            }
        }
    }
    out
}

fn paths() -> Vec<String> {
    let names = [
        "f", "hl", "d", "e", "n", "nope", "lf", "ld", "gone", "loop", "up", "lslash", "fslash",
    ];
    let tails = [
        "", "/", "//", "/.", "/..", "/../f", "/g", "/nope", "/nope/x",
    ];
    let mut all: Vec<String> = names
        .iter()
        .flat_map(|name| tails.map(|tail| format!("{name}{tail}")))
        .collect();
    let odd = [
        "",
        ".",
        "./",
        "..",
        "../f",
        "./f",
        ".//f",
        "d/../f",
        "d/../..",
        "/",
        "/f",
        "//",
        "nope/..",
        "f\0",
        "ld/../f",
        "...",
        "d/e/../../d/g/",
    ];
    all.extend(odd.map(str::to_owned));
    all.extend([255, 256].map(|len| "x".repeat(len)));
    all
}

const OPENS: [(&str, OpenFlags, DescriptorFlags); 13] = [
    ("none", OpenFlags::empty(), DescriptorFlags::empty()),
    ("read", OpenFlags::empty(), READ),
    ("write", OpenFlags::empty(), WRITE),
    ("read write", OpenFlags::empty(), READ.union(WRITE)),
    (
        "mutate",
        OpenFlags::empty(),
        READ.union(DescriptorFlags::MUTATE_DIRECTORY),
    ),
    (
        "sync",
        OpenFlags::empty(),
        READ.union(DescriptorFlags::FILE_INTEGRITY_SYNC),
    ),
    ("directory", OpenFlags::DIRECTORY, READ),
    ("directory write", OpenFlags::DIRECTORY, READ.union(WRITE)),
    ("create", OpenFlags::CREATE, DescriptorFlags::empty()),
    ("create write", OpenFlags::CREATE, READ.union(WRITE)),
    (
        "create exclusive",
        OpenFlags::CREATE.union(OpenFlags::EXCLUSIVE),
        WRITE,
    ),
    (
        "create directory",
        OpenFlags::CREATE.union(OpenFlags::DIRECTORY),
        READ,
    ),
    ("truncate", OpenFlags::TRUNCATE, WRITE),
];

/// The calls on one path that change nothing.
async fn look(dir: &Descriptor, path: &str) -> Vec<(String, String)> {
    let owned = || path.to_owned();
    let mut out = Vec::new();
    for (name, flags) in [("", NONE), (" follow", FOLLOW)] {
        let raw = dir.stat_at(flags, owned()).await;
        out.push((format!("stat-at{name}"), show(raw.map(stat))));
        let hash = dir.metadata_hash_at(flags, owned()).await;
        let own = dir.metadata_hash_at(NONE, "f".to_owned()).await;
        let same = own.map_or(0, |own| own.lower);
        let hash = hash.map(|hash| hash.lower == same);
        out.push((format!("metadata-hash-at{name}"), show(hash)));
    }
    out.push((
        "readlink-at".to_owned(),
        show(dir.readlink_at(owned()).await),
    ));
    out
}

/// The calls on one path that may change something, by number.
async fn change(dir: &Descriptor, path: &str, number: usize) -> Option<(String, String)> {
    let owned = || path.to_owned();
    let new = || "new".to_owned();
    let name = |name: &str| name.to_owned();
    let at = NewTimestamp::Timestamp(Instant {
        seconds: 5,
        nanoseconds: 6,
    });
    Some(match number {
        0 => (
            name("create-directory-at"),
            show(dir.create_directory_at(owned()).await),
        ),
        1 => (
            name("remove-directory-at"),
            show(dir.remove_directory_at(owned()).await),
        ),
        2 => (
            name("unlink-file-at"),
            show(dir.unlink_file_at(owned()).await),
        ),
        3 => (
            name("symlink-at"),
            show(dir.symlink_at(name("f"), owned()).await),
        ),
        4 => (
            name("symlink-at to"),
            show(dir.symlink_at(owned(), new()).await),
        ),
        5 => (
            name("link-at"),
            show(dir.link_at(NONE, name("f"), dir, owned()).await),
        ),
        6 => (
            name("link-at of"),
            show(dir.link_at(NONE, owned(), dir, new()).await),
        ),
        7 => (
            name("link-at follow"),
            show(dir.link_at(FOLLOW, owned(), dir, new()).await),
        ),
        8 => (
            name("rename-at"),
            show(dir.rename_at(owned(), dir, new()).await),
        ),
        9 => (
            name("rename-at file"),
            show(dir.rename_at(name("f"), dir, owned()).await),
        ),
        10 => (
            name("rename-at dir"),
            show(dir.rename_at(name("d"), dir, owned()).await),
        ),
        11 => (
            name("set-times-at"),
            show(dir.set_times_at(NONE, owned(), at, at).await),
        ),
        12 => (
            name("set-times-at follow"),
            show(dir.set_times_at(FOLLOW, owned(), at, at).await),
        ),
        _ => {
            let (what, how, access) = OPENS[(number - 13) / 2..].first()?;
            let flags = if number % 2 == 0 { FOLLOW } else { NONE };
            let what = format!("open-at {flags:?} {what}");
            let opened = match dir.open_at(flags, owned(), *how, *access).await {
                Ok(fd) => {
                    let (kind, flags) = (fd.get_type().await, fd.get_flags().await);
                    format!("{} {}", show(kind), show(flags))
                }
                Err(code) => format!("{code:?}"),
            };
            (what, opened)
        }
    })
}

async fn on_paths(top: &Descriptor) {
    let mut work = make(top, "w").await;
    let mut made = 0;
    let untouched = tree(&work).await;
    for path in paths() {
        let shown: String = path.chars().take(20).collect();
        for (call, answer) in look(&work, &path).await {
            println!("{shown:?} {call}: {answer}");
        }
        for number in 0.. {
            let Some((call, answer)) = change(&work, &path, number).await else {
                break;
            };
            println!("{shown:?} {call}: {answer}");
            let now = tree(&work).await;
            if now != untouched {
                println!("   {now}");
                made += 1;
                work = make(top, &format!("w{made}")).await;
            }
        }
    }
}

const OFFSETS: [u64; 7] = [0, 2, 5, 100, i64::MAX as u64, 1 << 63, u64::MAX];

/// The calls on an open object.
async fn on_descriptor(what: &str, fd: &Descriptor, other: &Descriptor) {
    let say = |call: &str, answer: String| println!("{what} {call}: {answer}");
    say("get-flags", show(fd.get_flags().await));
    say("get-type", show(fd.get_type().await));
    say("stat", show(fd.stat().await.map(stat)));
    for advice in [Advice::Normal, Advice::WillNeed, Advice::NoReuse] {
        say("advise", show(fd.advise(0, 3, advice).await));
    }
    say("sync", show(fd.sync().await));
    say("sync-data", show(fd.sync_data().await));
    say(
        "is-same-object",
        format!("{:?}", fd.is_same_object(fd).await),
    );
    say(
        "is-same-object other",
        format!("{:?}", fd.is_same_object(other).await),
    );
    let hash = fd
        .metadata_hash()
        .await
        .map(|hash| (hash.lower, hash.upper));
    let again = fd
        .metadata_hash()
        .await
        .map(|hash| (hash.lower, hash.upper));
    say("metadata-hash", format!("{}", show(hash) == show(again)));
    for offset in OFFSETS {
        say(&format!("read at {offset}"), read(fd, offset).await);
    }
    let (entries, end) = list(fd).await;
    say(
        "read-directory",
        format!("{} entries, {}", entries.len(), show(end)),
    );
    let times = [(5, 6), (-5, 6), (0, 1_000_000_000), (0, 999_999_999)];
    for (seconds, nanoseconds) in times {
        let at = NewTimestamp::Timestamp(Instant {
            seconds,
            nanoseconds,
        });
        say(
            &format!("set-times {seconds} {nanoseconds}"),
            show(fd.set_times(NO_CHANGE, at).await),
        );
        let told = fd.stat().await.map(|raw| raw.data_modification_timestamp);
        say("   then", show(told));
    }
    for size in [3, 10, 0, 1 << 63, u64::MAX] {
        say(&format!("set-size {size}"), show(fd.set_size(size).await));
    }
    for offset in OFFSETS {
        for bytes in ["xyz", ""] {
            let answer = write(fd, bytes.as_bytes(), Some(offset)).await;
            say(&format!("write {bytes:?} at {offset}"), answer);
        }
        // Small again, whatever was written.
        let _ = fd.set_size(3).await;
    }
    say("append", write(fd, b"tail", None).await);
    say("read", read(fd, 0).await);
    say(
        "stat-at",
        show(fd.stat_at(NONE, "f".to_owned()).await.map(stat)),
    );
    say(
        "open-at",
        show(
            fd.open_at(NONE, "f".to_owned(), OpenFlags::empty(), READ)
                .await
                .map(|_| ()),
        ),
    );
    say(
        "create-directory-at",
        show(fd.create_directory_at("y".to_owned()).await),
    );
    say(
        "rename-at",
        show(fd.rename_at("y".to_owned(), other, "z".to_owned()).await),
    );
    say(
        "rename-at to",
        show(other.rename_at("q".to_owned(), fd, "z".to_owned()).await),
    );
    say(
        "link-at",
        show(
            fd.link_at(NONE, "z".to_owned(), other, "y".to_owned())
                .await,
        ),
    );
    say(
        "symlink-at",
        show(fd.symlink_at("z".to_owned(), "s".to_owned()).await),
    );
    say("readlink-at", show(fd.readlink_at("s".to_owned()).await));
    say(
        "unlink-file-at",
        show(fd.unlink_file_at("s".to_owned()).await),
    );
    say(
        "remove-directory-at",
        show(fd.remove_directory_at("y".to_owned()).await),
    );
}

async fn on_descriptors(top: &Descriptor) {
    let dir = make(top, "fd").await;
    for (what, access) in [
        ("file r", READ),
        ("file w", WRITE),
        ("file rw", READ | WRITE),
    ] {
        let file = open(&dir, "f", OpenFlags::empty(), access).await;
        on_descriptor(what, &file, &dir).await;
    }
    let closed = open(&dir, "d", OpenFlags::DIRECTORY, READ).await;
    on_descriptor("dir", &closed, &dir).await;
    // An object without a name.
    let file = open(&dir, "d/g", OpenFlags::empty(), READ | WRITE).await;
    dir.unlink_file_at("d/g".to_owned()).await.unwrap();
    on_descriptor("unlinked", &file, &dir).await;
    let gone = open(&dir, "e", OpenFlags::DIRECTORY, READ).await;
    dir.remove_directory_at("e".to_owned()).await.unwrap();
    println!(
        "removed create-directory-at: {}",
        show(gone.create_directory_at("x".to_owned()).await)
    );
    println!(
        "removed stat-at: {}",
        show(gone.stat_at(NONE, "x".to_owned()).await.map(stat))
    );
}

fn main() {
    block_on(async {
        let wanted = arg(1, "/");
        let mut all = get_directories().into_iter();
        let (top, _) = all
            .find(|(_, path)| *path == wanted)
            .expect("the directory");
        println!("preopened: {:?}", top.get_flags().await);
        top.create_directory_at("calls".to_owned()).await.unwrap();
        let access = READ | DescriptorFlags::MUTATE_DIRECTORY;
        let top = open(&top, "calls", OpenFlags::DIRECTORY, access).await;
        on_paths(&top).await;
        on_descriptors(&top).await;
    });
}

guest_examples::command!(main);
