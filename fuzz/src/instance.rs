//! Calls of the host API on one instance, the whole of it checked after each.

use std::sync::LazyLock;

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::Image;
use stratafs::layer::LayerBuilder;
use stratafs::meta::{Kind, Meta, Time};
use stratafs::name::LayerPath;
use stratafs::vfs::{Access, Descriptor, Follow, Fs, OpenFlags, Rights, SetTime};

use super::feed::Feed;

/// Calls of one run.
const CALLS: usize = 150;

/// The tree that instances start from.
pub static BASE: LazyLock<Image> = LazyLock::new(base);

/// ```text
/// f 10,000 bytes   hard = f   d/g   d/e/   e/
/// lf -> f   ld -> d   abs -> /d   loop -> loop   up -> ../f   gone -> nope
/// ```
fn base() -> Image {
    let (pool, mut layer) = (ChunkPool::new(), LayerBuilder::new());
    let path = |text: &str| LayerPath::parse(text.as_bytes()).expect("a path");
    let bytes: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
    for (name, bytes) in [("f", &bytes[..]), ("d/g", b"inside")] {
        let content = ContentBuilder::of(&pool, bytes);
        let file = layer.file(&path(name), Meta::with_mode(0o644), content);
        file.expect("a file");
    }
    layer.hard_link(&path("hard"), &path("f")).expect("a link");
    for name in ["d", "d/e", "e"] {
        let dir = layer.dir(&path(name), Meta::with_mode(0o755));
        dir.expect("a directory");
    }
    let links = [
        ("lf", "f"),
        ("ld", "d"),
        ("abs", "/d"),
        ("loop", "loop"),
        ("up", "../f"),
        ("gone", "nope"),
    ];
    for (name, target) in links {
        let link = layer.symlink(&path(name), Meta::with_mode(0o777), target.as_bytes());
        link.expect("a symbolic link");
    }
    Image::new(&[layer.finish().expect("a layer")]).expect("an image")
}

/// Makes calls as the bytes say.
///
/// # Panics
///
/// If a check of the instance fails, or its diff does not give its tree.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let fs = Fs::builder(&BASE)
        .max_bytes([0, 5_000, 100_000][feed.below(3)])
        .max_inodes([3, 30][feed.below(2)])
        .max_open(12)
        .build();
    let read_only = fs.preopen(b"/", Rights::ReadOnly).expect("a preopen");
    let root = fs.root().expect("the root");
    let mut open = vec![root.into_descriptor(), read_only.into_descriptor()];
    for _ in 0..CALLS {
        if feed.is_empty() {
            break;
        }
        call(&mut feed, &mut open);
        assert_eq!(fs.check(), Ok(()));
        assert!(fs.usage().private_bytes <= fs.quota().max_bytes);
    }
    drop(open);
    assert_eq!(fs.check(), Ok(()));
    assert_eq!(fs.usage().open, 0);
    if let Ok(diff) = fs.diff(&ChunkPool::new()) {
        let layers = [BASE.layers(), &[diff]].concat();
        let again = Image::new(&layers).expect("the diff fits its base");
        again.verify().expect("an image of its digest");
        assert_eq!(tree(&Fs::new(&again)), tree(&fs));
    }
}

/// All names with kind and size, sorted.
fn tree(fs: &Fs) -> Vec<(Vec<u8>, Kind, u64)> {
    let mut seen = Vec::new();
    let mut dirs = vec![(fs.root().expect("the root").into_descriptor(), Vec::new())];
    while let Some((dir, at)) = dirs.pop() {
        for entry in dir.read_dir(0, usize::MAX).expect("a listing") {
            let (name, kind) = (entry.name, entry.kind);
            let path = [&at[..], b"/", &name].concat();
            if kind == Kind::Dir {
                let below = dir.open_at(Follow::No, &name, OpenFlags::DIRECTORY, Access::READ);
                dirs.push((below.expect("a directory"), path.clone()));
                seen.push((path, kind, 0));
            } else {
                let stat = dir.stat_at(Follow::No, &name).expect("what was listed");
                seen.push((path, kind, stat.size));
            }
        }
    }
    seen.sort();
    seen
}

fn follow(feed: &mut Feed<'_>) -> Follow {
    if feed.coin() { Follow::Yes } else { Follow::No }
}

fn time(feed: &mut Feed<'_>) -> SetTime {
    match feed.below(3) {
        0 => SetTime::Keep,
        1 => SetTime::Now,
        _ => {
            let secs = feed.number().cast_signed();
            SetTime::To(Time::new(secs, feed.byte().into()))
        }
    }
}

/// Takes an answer for what it is.
fn any<T>(_: T) {}

/// Makes one call; what it answers is compared elsewhere.
fn call(feed: &mut Feed<'_>, open: &mut Vec<Descriptor>) {
    let kind = feed.below(20);
    let (place, other) = (feed.below(open.len()), feed.below(open.len()));
    let (one, two) = (&open[place], &open[other]);
    match kind {
        0..4 => {
            let (follow, path) = (follow(feed), feed.path());
            let flags = OpenFlags::from_bits_truncate(feed.byte());
            let access = Access::from_bits_truncate(feed.byte());
            if let Ok(opened) = one.open_at(follow, &path, flags, access) {
                open.push(opened);
            }
        }
        4 if open.len() > 2 => drop(open.swap_remove(place.max(2) % open.len())),
        4 | 5 => {
            let (offset, len) = (feed.number(), feed.number().min(70_000) as usize);
            any(one.read_at(&mut vec![0; len], offset));
            any(one.read_bytes(offset, len));
            any(one.hole_at(offset));
        }
        6 | 7 => {
            let (offset, len) = (feed.number(), feed.number().min(70_000) as usize);
            any(one.write_at(&vec![feed.byte(); len], offset));
        }
        8 => any(one.append(feed.bytes())),
        9 => any(one.set_size(feed.number())),
        10 => {
            let (follow, path) = (follow(feed), feed.path());
            any(one.stat_at(follow, &path));
            any(one.set_times_at(follow, &path, time(feed), time(feed)));
        }
        11 => any(one.set_times(time(feed), time(feed))),
        12 => any(one.create_dir_at(&feed.path())),
        13 => any(one.remove_dir_at(&feed.path())),
        14 => any(one.unlink_at(&feed.path())),
        15 => any(one.symlink_at(&feed.path(), &feed.path())),
        16 => any(one.readlink_at(&feed.path())),
        17 => any(one.link_at(&feed.path(), two, &feed.path())),
        18 => any(one.rename_at(&feed.path(), two, &feed.path())),
        _ => {
            let max = feed.below(20);
            any(one.read_dir(feed.number(), max));
        }
    }
}
