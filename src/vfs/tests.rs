//! The first facts about an instance; the wide tests are in `tests/it`.

use super::{Access, Descriptor, DirEntry, Follow, Fs, OpenFlags, Rights};
use crate::chunk::{ChunkPool, ContentBuilder};
use crate::errno::Errno;
use crate::image::Image;
use crate::layer::LayerBuilder;
use crate::meta::{FileId, Kind, Meta};
use crate::name::LayerPath;
use crate::steps::{assert_linear, counted};

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

fn base() -> Image {
    let pool = ChunkPool::new();
    let meta = Meta::with_mode(0o644);
    let mut layer = LayerBuilder::new();
    layer.dir(&path("etc"), meta.clone()).unwrap();
    layer
        .file(
            &path("etc/hosts"),
            meta.clone(),
            ContentBuilder::of(&pool, b"localhost"),
        )
        .unwrap();
    layer
        .hard_link(&path("etc/hosts2"), &path("etc/hosts"))
        .unwrap();
    layer
        .file(
            &path("big"),
            meta.clone(),
            ContentBuilder::of(&pool, &[7; 300_000]),
        )
        .unwrap();
    layer
        .symlink(&path("abs"), meta.clone(), b"/etc/hosts")
        .unwrap();
    layer.symlink(&path("up"), meta, b"../etc").unwrap();
    Image::new(&[layer.finish().unwrap()]).unwrap()
}

fn open(
    dir: &Descriptor,
    path: &str,
    flags: OpenFlags,
    access: Access,
) -> Result<Descriptor, Errno> {
    dir.open_at(Follow::Yes, path.as_bytes(), flags, access)
}

fn names(dir: &Descriptor) -> Vec<String> {
    let entries = dir.read_dir(0, usize::MAX).unwrap();
    let name = |entry: DirEntry| String::from_utf8(entry.name.into()).unwrap();
    entries.into_iter().map(name).collect()
}

#[test]
fn a_write_is_private_and_copies_one_block() {
    let image = base();
    let (one, two) = (Fs::new(&image), Fs::new(&image));
    let file = open(
        &one.root().unwrap(),
        "big",
        OpenFlags::empty(),
        Access::all(),
    )
    .unwrap();
    assert_eq!(file.write_at(b"x", 100_000), Ok(1));
    assert_eq!(one.usage().private_bytes, 4096);
    let mut buf = [0; 3];
    assert_eq!(file.read_at(&mut buf, 99_999), Ok(3));
    assert_eq!(&buf, b"\x07x\x07");
    let other = open(
        &two.root().unwrap(),
        "big",
        OpenFlags::empty(),
        Access::READ,
    )
    .unwrap();
    assert_eq!(other.read_at(&mut buf, 99_999), Ok(3));
    assert_eq!(&buf, b"\x07\x07\x07");
    assert_eq!(one.check(), Ok(()));
}

#[test]
fn links_and_dots_stay_inside() {
    let fs = Fs::new(&base());
    let root = fs.root().unwrap();
    let stat = |path: &str| root.stat_at(Follow::Yes, path.as_bytes());
    assert_eq!(stat("abs").map(|stat| stat.size), Ok(9));
    // A link of a layer stays at the root.
    assert_eq!(stat("up").map(|stat| stat.kind), Ok(Kind::Dir));
    assert_eq!(stat("etc/../etc/hosts").map(|stat| stat.nlink), Ok(2));
    assert_eq!(stat("../etc"), Err(Errno::NotPermitted));
    assert_eq!(stat("/etc"), Err(Errno::NotPermitted));
    assert_eq!(stat(""), Err(Errno::NoEntry));
    assert_eq!(stat("etc/hosts/"), Err(Errno::NotDirectory));
    assert_eq!(stat("etc/hosts/.."), Err(Errno::NotDirectory));
    assert_eq!(stat("nope/.."), Err(Errno::NoEntry));
    let etc = fs.preopen(b"/etc", Rights::ReadOnly).unwrap();
    assert_eq!(etc.create_dir_at(b"d"), Err(Errno::NotPermitted));
    assert_eq!(
        etc.stat_at(Follow::Yes, b"../big").map(drop),
        Err(Errno::NotPermitted)
    );
}

#[test]
fn rename_keeps_numbers_and_descriptors() {
    let fs = Fs::new(&base());
    let root = fs.root().unwrap();
    let before = root.stat_at(Follow::No, b"etc").unwrap();
    let etc = open(&root, "etc", OpenFlags::empty(), Access::READ).unwrap();
    root.rename_at(b"etc", &root, b"moved").unwrap();
    let after = root.stat_at(Follow::No, b"moved").unwrap();
    assert_eq!((before.id, before.kind), (after.id, Kind::Dir));
    etc.create_dir_at(b"new").unwrap();
    assert_eq!(
        names(&open(&root, "moved", OpenFlags::empty(), Access::READ).unwrap()),
        ["hosts", "hosts2", "new"]
    );
    assert_eq!(
        root.rename_at(b"moved", &etc, b"new/x"),
        Err(Errno::Invalid)
    );
    assert_ne!(before.id, FileId::ROOT);
    assert_eq!(fs.check(), Ok(()));
}

#[test]
fn an_unlinked_open_file_gives_its_space_back_at_the_end() {
    let fs = Fs::builder(&base()).max_bytes(5000).build();
    let root = fs.root().unwrap();
    let file = open(&root, "f", OpenFlags::CREATE, Access::all()).unwrap();
    assert_eq!(file.write_at(&[1; 6000], 0), Ok(5000));
    assert_eq!(file.append(b"x"), Err(Errno::NoSpace));
    root.unlink_at(b"f").unwrap();
    assert_eq!(file.stat().unwrap().nlink, 0);
    assert_eq!(fs.usage().private_bytes, 5000);
    drop(file);
    assert_eq!((fs.usage().private_bytes, fs.usage().inodes), (0, 0));
    assert_eq!(fs.check(), Ok(()));
}

#[test]
fn the_diff_over_the_base_is_the_instance() {
    let image = base();
    let fs = Fs::new(&image);
    let root = fs.root().unwrap();
    root.rename_at(b"etc", &root, b"moved").unwrap();
    root.unlink_at(b"abs").unwrap();
    root.create_dir_at(b"etc").unwrap();
    open(&root, "etc/new", OpenFlags::CREATE, Access::WRITE)
        .unwrap()
        .write_at(b"end", 70_000)
        .unwrap();
    root.link_at(b"moved/hosts", &root, b"third").unwrap();
    let diff = fs.diff(&ChunkPool::new()).unwrap();
    let both = Image::new(&[image.layers()[0].clone(), diff]).unwrap();
    let again = Fs::new(&both);
    let top = again.root().unwrap();
    assert_eq!(names(&top), ["big", "etc", "moved", "third", "up"]);
    assert_eq!(top.stat_at(Follow::No, b"third").unwrap().nlink, 3);
    assert_eq!(top.stat_at(Follow::No, b"etc/new").unwrap().size, 70_003);
    let empty = again.diff(&ChunkPool::new()).unwrap();
    assert_eq!(empty.node_count(), 1);
}

#[test]
fn a_walk_looks_at_each_byte_once() {
    let dots = b"./".repeat(2040);
    // Links that end in slashes, each leading to the next, and in the last one
    // as many names as fit.
    let (names, slashes) = (b"d/../".repeat(800), b"/".repeat(4000));
    let fs = Fs::new(&Image::empty());
    let there = Fs::new(&Image::empty());
    let root = fs.root().unwrap();
    root.create_dir_at(b"d").unwrap();
    fs.mount(b"/m", &there, b"/", Rights::ReadWrite).unwrap();
    for number in 0..40 {
        let next = match number {
            39 => b"d".to_vec(),
            _ => format!("dots{}", number + 1).into_bytes(),
        };
        let target = [&dots[..], &next].concat();
        let path = format!("dots{number}");
        root.symlink_at(&target, path.as_bytes()).unwrap();
        let next = match number {
            39 => names.clone(),
            _ => format!("tail{}", number + 1).into_bytes(),
        };
        let room = 4095 - next.len();
        let target = [&next[..], &slashes[..room.min(slashes.len())]].concat();
        let path = format!("tail{number}");
        root.symlink_at(&target, path.as_bytes()).unwrap();
    }
    for (kind, from) in [
        ("dots", "m/../dots"),
        ("tail", "m/../tail"),
        ("dots", "dots"),
        ("tail", "tail"),
    ] {
        let path = |first: usize| format!("{from}{first}");
        let steps = |links: usize| {
            let path = path(40 - links);
            let stat = || root.stat_at(Follow::Yes, path.as_bytes());
            counted(|| assert_eq!(stat().map(|stat| stat.kind), Ok(Kind::Dir), "{kind}"))
        };
        assert_linear(20, steps);
        // All bytes of the targets, walked twice where there are mounts: to
        // where the call is made, and by the call itself.
        assert!(steps(40) < 2 * 40 * 4096 + 20_000, "{} steps", steps(40));
    }
}

/// `q/` with as many empty files, named by six digits.
fn queue(entries: usize) -> Image {
    let pool = ChunkPool::new();
    let mut layer = LayerBuilder::new();
    layer.dir(&path("q"), Meta::with_mode(0o755)).unwrap();
    for number in 0..entries {
        let name = path(&format!("q/{number:06}"));
        let content = ContentBuilder::of(&pool, b"");
        layer.file(&name, Meta::with_mode(0o644), content).unwrap();
    }
    Image::new(&[layer.finish().unwrap()]).unwrap()
}

/// Lists from cookie to cookie, as guests do, and counts the names.
fn count_in_batches(dir: &Descriptor, size: usize) -> usize {
    let (mut seen, mut cookie) = (0, 0);
    loop {
        let batch = dir.read_dir(cookie, size).unwrap();
        let Some(last) = batch.last() else {
            return seen;
        };
        (seen, cookie) = (seen + batch.len(), last.next);
    }
}

/// Lists `q`, removes the first name, and again, until none is left; returns
/// the steps of all that.
fn empty_queue(fs: &Fs, entries: usize) -> u64 {
    let queue = fs.preopen(b"/q", Rights::ReadWrite).unwrap();
    let first = || {
        let entries = queue.read_dir(0, 1).unwrap();
        entries.into_iter().next().map(|entry| entry.name)
    };
    counted(|| {
        let mut taken = 0;
        while let Some(name) = first() {
            queue.unlink_at(&name).unwrap();
            taken += 1;
        }
        assert_eq!(taken, entries);
    })
}

#[test]
fn an_emptied_base_directory_is_listed_in_one_step() {
    assert_linear(1000, |entries| {
        empty_queue(&Fs::new(&queue(entries)), entries)
    });
    // The same for a directory that the instance made itself.
    assert_linear(1000, |entries| {
        let fs = Fs::new(&Image::empty());
        fs.root().unwrap().create_dir_at(b"q").unwrap();
        for number in 0..entries {
            fs.write(format!("/q/{number}"), "").unwrap();
        }
        empty_queue(&fs, entries)
    });
    // By cookies in batches, with every other name gone.
    assert_linear(1000, |entries| {
        let fs = Fs::new(&queue(entries));
        let queue = fs.preopen(b"/q", Rights::ReadWrite).unwrap();
        for number in (0..entries).step_by(2) {
            queue.unlink_at(format!("{number:06}").as_bytes()).unwrap();
        }
        counted(|| assert_eq!(count_in_batches(&queue, 7), entries / 2))
    });
    // Going back shows all again.
    let fs = Fs::new(&queue(100));
    let before = fs.snapshot();
    empty_queue(&fs, 100);
    fs.restore(&before).unwrap();
    empty_queue(&fs, 100);
    assert_eq!(fs.check(), Ok(()));
}

#[test]
fn case_p13_listing_is_linear() {
    assert_linear(10_000, |entries| {
        let fs = Fs::new(&Image::empty());
        let root = fs.root().unwrap();
        for number in 0..entries {
            let name = format!("entry{number}");
            root.symlink_at(b"x", name.as_bytes()).unwrap();
        }
        counted(|| assert_eq!(count_in_batches(&root, 100), entries))
    });
}

#[test]
fn a_rule_over_a_deep_tree_takes_linear_time() {
    let deep = |depth: usize, rules: usize| {
        let fs = Fs::new(&Image::empty());
        let mut at = fs.root().unwrap().into_descriptor();
        let mut dirs = Vec::new();
        for _ in 0..depth {
            at.create_dir_at(b"d").unwrap();
            let file = OpenFlags::CREATE;
            drop(open(&at, "f", file, Access::READ | Access::WRITE).unwrap());
            at = open(&at, "d", OpenFlags::DIRECTORY, Access::READ).unwrap();
            dirs.push(at.id());
        }
        drop(at);
        // Rules far down on the way: what is below them is below the first too.
        let mut text = String::new();
        for _ in 0..rules {
            text.push_str("/d");
            fs.set_rule(text.as_bytes(), super::Rule::AppendOnly)
                .unwrap();
        }
        counted(|| fs.set_rule(b"/", super::Rule::ReadOnly).unwrap())
    };
    assert_linear(1000, |depth| deep(depth, 0));
    assert_linear(1000, |depth| deep(depth, 30));
    let one_by_one = (deep(1000, 1), deep(1000, 100));
    assert!(one_by_one.1 < 2 * one_by_one.0, "{one_by_one:?}");
}

#[test]
fn a_rename_under_many_rules_looks_at_none_of_them() {
    let steps = |rules: usize| {
        let fs = Fs::new(&Image::empty());
        for number in 0..rules {
            fs.create_dir_all(format!("/r/{number}/below")).unwrap();
            let path = format!("/r/{number}/below");
            fs.set_rule(path.as_bytes(), super::Rule::ReadOnly).unwrap();
        }
        fs.create_dir_all("/free").unwrap();
        let root = fs.root().unwrap();
        counted(|| root.rename_at(b"free", &root, b"moved").unwrap())
    };
    let (few, many) = (steps(2), steps(200));
    assert!(
        many <= few + 2,
        "{few} steps under 2 rules, {many} under 200"
    );
    // What a host moves is found where it is then.
    let fs = Fs::new(&Image::empty());
    fs.create_dir_all("/a/b").unwrap();
    fs.create_dir_all("/c").unwrap();
    fs.set_rule(b"/a/b", super::Rule::ReadOnly).unwrap();
    fs.rename("/a/b", "/c/b").unwrap();
    let root = fs.root().unwrap();
    let denied = root.rename_at(b"c", &root, b"x");
    assert_eq!(denied, Err(Errno::NotPermitted));
    assert_eq!(root.rename_at(b"a", &root, b"x"), Ok(()));
}
