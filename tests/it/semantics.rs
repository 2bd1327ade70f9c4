//! The sections of docs/SEMANTICS.md, by the cases that others got wrong.

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::layer::LayerBuilder;
use stratafs::limits::{BLOCK_BYTES, CHUNK_BYTES, MAX_FILE_BYTES};
use stratafs::meta::{Kind, Meta, Stat, Time};
use stratafs::name::LayerPath;
use stratafs::vfs::{Access, Descriptor, Follow, Fs, OpenFlags, Rights, SetTime, Usage};

use crate::support::alloc::{assert_linear, counted};
use crate::support::tree::{
    bytes, edit, fs, image, is_gone, make, names, pattern, remove_tree, stat, text_of, tree, view,
};

const BOTH: Access = Access::READ.union(Access::WRITE);

fn stacked(fs: &Fs) -> Fs {
    let diff = fs.diff(&ChunkPool::new()).unwrap();
    let layers: Vec<_> = fs.image().layers().iter().cloned().chain([diff]).collect();
    Fs::new(&Image::new(&layers).unwrap())
}

#[test]
fn case_p01_no_marker_can_be_named() {
    let fs = fs(&[
        "a/\n a/x = x\n b/\n b/y = y\n c = c",
        "- c\n ! b\n b/z = z\n - a/x",
    ]);
    let root = fs.root().unwrap();
    root.unlink_at(b"b/z").unwrap();
    root.symlink_at(b".wh.c", b"link").unwrap();
    for marker in [
        ".wh.c",
        "a/.wh.x",
        "b/.wh..wh..opq",
        "b/.wh.z",
        ".wh..wh..opq",
        "c",
        "a/x",
        "b/y",
        "b/z",
    ] {
        let path = marker.as_bytes();
        let gone = Some(Errno::NoEntry);
        assert!(is_gone(&root, marker), "{marker}");
        assert_eq!(
            root.open_at(Follow::Yes, path, OpenFlags::empty(), BOTH)
                .err(),
            gone
        );
        assert_eq!(root.unlink_at(path), Err(Errno::NoEntry));
        assert_eq!(root.rename_at(path, &root, b"new"), Err(Errno::NoEntry));
        assert_eq!(root.link_at(path, &root, b"new"), Err(Errno::NoEntry));
    }
    assert_eq!(root.stat_at(Follow::Yes, b"link"), Err(Errno::NoEntry));
    assert_eq!(tree(&fs), "a/\nb/\nlink -> .wh.c\n");
}

#[test]
fn case_p02_removing_needs_no_room() {
    let image = image(&["a/\n a/one = one\n two = two\n three == two"]);
    let fs = Fs::builder(&image).max_bytes(0).max_inodes(0).build();
    let root = fs.root().unwrap();
    root.unlink_at(b"two").unwrap();
    root.unlink_at(b"three").unwrap();
    root.unlink_at(b"a/one").unwrap();
    root.rename_at(b"a", &root, b"b").unwrap();
    root.remove_dir_at(b"b").unwrap();
    assert_eq!(tree(&fs), "");
    // What does need room fails and changes nothing.
    let full = [
        root.create_dir_at(b"d"),
        root.symlink_at(b"x", b"l"),
        root.open_at(Follow::Yes, b"f", OpenFlags::CREATE, BOTH)
            .map(drop),
    ];
    assert_eq!(full, [Err(Errno::NoSpace); 3]);
    assert_eq!(tree(&fs), "");
}

#[test]
fn case_p03_a_tree_made_again_is_empty_at_every_depth() {
    let lower = "a/\n a/b/\n a/b/c/\n a/b/c/d/\n a/b/c/d/f = f\n a/b/f = f";
    let fs = fs(&[lower, "! a/b/c\n a/b/c/d/\n a/b/c/d/g = g"]);
    let root = fs.root().unwrap();
    assert_eq!(names(&view(&root, "a/b/c/d")), ["g"]);
    remove_tree(&root, "a");
    for dir in ["a", "a/b", "a/b/c", "a/b/c/d"] {
        root.create_dir_at(dir.as_bytes()).unwrap();
        assert!(names(&view(&root, dir)).is_empty(), "{dir}");
    }
    assert_eq!(tree(&stacked(&fs)), "a/\na/b/\na/b/c/\na/b/c/d/\n");
}

#[test]
fn case_p06_odd_entries_of_a_layer() {
    let pool = ChunkPool::new();
    let mut layer = LayerBuilder::new();
    let path = |raw: &[u8]| LayerPath::parse(raw).unwrap();
    let meta = || Meta::with_mode(0o644);
    let mut file = |raw: &[u8], text: &str| {
        layer
            .file(
                &path(raw),
                meta(),
                ContentBuilder::of(&pool, text.as_bytes()),
            )
            .unwrap();
    };
    file(b"twice", "first");
    file(b"twice", "second");
    file(b"/absolute//./name/", "absolute");
    file(b"dir/in", "in");
    file(b"dir", "a file over a directory");
    file(b"x/../y", "dots");
    file(b"\xff\xfe", "bytes");
    file(&[b'n'; 255], "long");
    let deep = [b"p/".repeat(2000), b"end".to_vec()].concat();
    file(&deep, "deep");
    let fs = Fs::new(&Image::new(&[layer.finish().unwrap()]).unwrap());
    let read = |path: &[u8]| fs.read(path).map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(read(b"twice").unwrap(), "second");
    assert_eq!(read(b"absolute/name").unwrap(), "absolute");
    assert_eq!(read(b"dir").unwrap(), "a file over a directory");
    assert_eq!(read(b"y").unwrap(), "dots");
    assert_eq!(read(b"\xff\xfe").unwrap(), "bytes");
    assert_eq!(read(&[b'n'; 255]).unwrap(), "long");
    assert_eq!(read(&deep).unwrap(), "deep");
    assert!(LayerPath::parse(&[b'n'; 256]).is_err());
    assert!(LayerPath::parse(b"../x").is_err());
}

/// Every change of something that is there, through `dir` and its files.
fn changes(dir: &Descriptor) -> Vec<(&'static str, Result<(), Errno>)> {
    let open = |flags, access| dir.open_at(Follow::Yes, b"a/f", flags, access).map(drop);
    let new = dir
        .open_at(Follow::Yes, b"new", OpenFlags::CREATE, Access::READ)
        .map(drop);
    let file = view(dir, "a/f");
    let now = SetTime::Now;
    vec![
        ("write", open(OpenFlags::empty(), Access::WRITE)),
        ("append", open(OpenFlags::empty(), BOTH)),
        ("truncate", open(OpenFlags::TRUNCATE, Access::READ)),
        ("create", new),
        ("set_size", file.set_size(0)),
        ("set_times", file.set_times(now, now)),
        (
            "set_times_at",
            dir.set_times_at(Follow::Yes, b"a/f", now, now),
        ),
        ("set_times of dir", view(dir, "a").set_times(now, now)),
        ("mkdir", dir.create_dir_at(b"new")),
        ("rmdir", dir.remove_dir_at(b"a/e")),
        ("unlink", dir.unlink_at(b"a/f")),
        ("symlink", dir.symlink_at(b"x", b"new")),
        ("link", dir.link_at(b"a/f", dir, b"new")),
        ("rename", dir.rename_at(b"a/f", dir, b"new")),
        (
            "rename below",
            view(dir, "a").rename_at(b"f", &view(dir, "a"), b"g"),
        ),
        ("owner", dir.set_owner_at(Follow::Yes, b"a/f", 0, (0, 0))),
    ]
}

#[test]
fn case_p07_read_only_trees_refuse_every_change() {
    let image = image(&["a/\n a/f = text [600 5.0]\n a/e/"]);
    let fs = Fs::new(&image);
    let writable = fs.root().unwrap();
    let read_only = fs.preopen(b"/", Rights::ReadOnly).unwrap();
    let before = (tree(&fs), stat(&writable, "a"), stat(&writable, "a/f"));
    for (what, result) in changes(&read_only) {
        assert_eq!(result, Err(Errno::NotPermitted), "{what}");
    }
    // Neither into it nor out of it.
    let pairs = [
        writable.link_at(b"a/f", &read_only, b"new"),
        read_only.link_at(b"a/f", &writable, b"new"),
        writable.rename_at(b"a/f", &read_only, b"new"),
        read_only.rename_at(b"a/f", &writable, b"new"),
    ];
    assert_eq!(pairs, [Err(Errno::NotPermitted); 4]);
    assert_eq!(
        (tree(&fs), stat(&writable, "a"), stat(&writable, "a/f")),
        before
    );
    assert_eq!(fs.usage().private_bytes, 0);

    let frozen = Fs::builder(&image).read_only().build();
    let root = frozen.root().unwrap();
    for (what, result) in changes(&root) {
        let set_size = what == "set_size";
        let want = if set_size {
            Errno::Invalid
        } else {
            Errno::ReadOnly
        };
        assert_eq!(result, Err(want), "{what}");
    }
    assert_eq!(tree(&frozen), before.0);
    // The legal twin: all of it works where nothing is read-only.
    for (what, result) in changes(&Fs::new(&image).root().unwrap()) {
        let after_unlink = ["rename", "link", "rename below", "owner"].contains(&what);
        let want = match what {
            "set_size" => Err(Errno::Invalid),
            "mkdir" | "symlink" => Err(Errno::Exist),
            _ if after_unlink => Err(Errno::NoEntry),
            _ => Ok(()),
        };
        assert_eq!(result, want, "{what}");
    }
}

#[test]
fn case_p08_across_preopens_and_instances() {
    let image = image(&["a/\n a/f = f\n b/"]);
    let (one, two) = (Fs::new(&image), Fs::new(&image));
    let preopen = |path: &[u8]| one.preopen(path, Rights::ReadWrite).unwrap();
    let (a, b) = (preopen(b"/a"), preopen(b"b"));
    a.link_at(b"f", &b, b"linked").unwrap();
    a.rename_at(b"f", &b, b"moved").unwrap();
    assert_eq!(tree(&one), "a/\nb/\nb/linked = f\nb/moved == b/linked\n");
    let other = two.root().unwrap();
    assert_eq!(b.rename_at(b"moved", &other, b"x"), Err(Errno::CrossDevice));
    assert_eq!(b.link_at(b"moved", &other, b"x"), Err(Errno::CrossDevice));
    assert_eq!(other.rename_at(b"a/f", &b, b"x"), Err(Errno::CrossDevice));
    assert_eq!(tree(&one), "a/\nb/\nb/linked = f\nb/moved == b/linked\n");
    assert_eq!(tree(&two), "a/\na/f = f\nb/\n");
}

#[test]
fn case_p09_symbolic_links() {
    let chain: String = (0..45).map(|n| format!("c{} -> c{n}\n", n + 1)).collect();
    let layer = format!(
        "d/\n d/f = in\n abs -> /d/f\n absdir -> /d\n up -> ../x\n loop -> loop\n
        gone -> d/new\n todir -> d\n tofile -> d/f\n d/out -> ../d/f\n c0 = end\n {chain}"
    );
    let fs = fs(&[&layer]);
    let root = fs.root().unwrap();
    let look = |path: &str| {
        root.stat_at(Follow::Yes, path.as_bytes())
            .map(|stat| stat.kind)
    };
    assert_eq!(look("todir/"), Ok(Kind::Dir));
    assert_eq!(look("tofile/"), Err(Errno::NotDirectory));
    assert_eq!(
        root.stat_at(Follow::No, b"todir/").map(|stat| stat.kind),
        Ok(Kind::Dir)
    );
    assert_eq!(look("d/../.."), Err(Errno::NotPermitted));
    assert_eq!(look("up"), Err(Errno::NoEntry));
    assert_eq!(look("c40"), Ok(Kind::File));
    assert_eq!(look("c41"), Err(Errno::Loop));
    assert_eq!(look("loop"), Err(Errno::Loop));
    // Absolute targets: inside the root, and refused from anywhere else.
    assert_eq!(
        (look("abs"), look("absdir/f")),
        (Ok(Kind::File), Ok(Kind::File))
    );
    let below = fs.preopen(b"d", Rights::ReadWrite).unwrap();
    root.symlink_at(b"/d/f", b"d/abs").unwrap();
    assert_eq!(below.stat_at(Follow::Yes, b"abs"), Err(Errno::NotPermitted));
    assert_eq!(below.stat_at(Follow::Yes, b"out"), Err(Errno::NotPermitted));
    assert_eq!(look("d/out"), Ok(Kind::File));
    // A dangling link, opened.
    let open = |follow, flags| {
        root.open_at(follow, b"gone", flags, BOTH)
            .map(|open| open.id())
    };
    let exclusive = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    assert_eq!(open(Follow::Yes, OpenFlags::empty()), Err(Errno::NoEntry));
    assert_eq!(open(Follow::No, OpenFlags::empty()), Err(Errno::Loop));
    assert_eq!(open(Follow::No, OpenFlags::CREATE), Err(Errno::Loop));
    assert_eq!(open(Follow::Yes, exclusive), Err(Errno::Exist));
    assert!(is_gone(&root, "d/new"));
    let made = open(Follow::Yes, OpenFlags::CREATE).unwrap();
    assert_eq!(stat(&root, "d/new").id, made);
}

#[test]
fn links_of_a_layer_that_climb_past_the_root_end_there() {
    let fs = fs(&["f = text\n a/\n a/b/\n a/b/over -> ../../../../f\n a/b/exact -> ../../f\n a/b/taken -> ../../../../f\n
        a/b/root -> ../../../..\n a/b/again -> ../../../../a/b/over\n a/mine -> ../made\n a/b/gone -> ../../../../g"]);
    let root = fs.root().unwrap();
    let look = |path: &str| {
        root.stat_at(Follow::Yes, path.as_bytes())
            .map(|stat| stat.kind)
    };
    for path in [
        "a/b/over",
        "a/b/exact",
        "a/b/again",
        "a/b/root/f",
        "a/b/root/a/b/over",
    ] {
        assert_eq!(look(path), Ok(Kind::File), "{path}");
    }
    assert_eq!(look("a/b/root"), Ok(Kind::Dir));
    assert_eq!(look("a/b/gone"), Err(Errno::NoEntry));
    assert_eq!(
        &root.readlink_at(b"a/b/over").unwrap()[..],
        b"../../../../f"
    );
    // One that a guest gave a name is as good as made by the guest, wherever it goes then;
    // what is done to the directories above changes nothing.
    root.rename_at(b"a/b/taken", &root, b"a/moved").unwrap();
    assert_eq!(look("a/moved"), Err(Errno::NotPermitted));
    root.rename_at(b"a/moved", &root, b"a/b/taken").unwrap();
    assert_eq!(look("a/b/taken"), Err(Errno::NotPermitted));
    root.rename_at(b"a/b", &root, b"c").unwrap();
    assert_eq!(look("c/over"), Ok(Kind::File));
    root.rename_at(b"c", &root, b"a/b").unwrap();
    // What the path itself says leaves the root, behind such a link as well.
    assert_eq!(look("a/b/root/.."), Err(Errno::NotPermitted));
    // Links that were made here keep WASI's answer, also on the way.
    for (name, target) in [
        ("made", "../f"),
        ("a/over", "../../f"),
        ("a/via", "b/root/../f"),
    ] {
        root.symlink_at(target.as_bytes(), name.as_bytes()).unwrap();
        assert_eq!(look(name), Err(Errno::NotPermitted), "{name}");
    }
    assert_eq!(look("a/mine"), Err(Errno::NotPermitted));
    root.symlink_at(b"b/again", b"a/good").unwrap();
    assert_eq!(look("a/good"), Ok(Kind::File));
    // From another directory they leave it.
    let below = fs.preopen(b"a", Rights::ReadWrite).unwrap();
    for path in ["b/over", "b/exact", "b/root"] {
        let found = below.stat_at(Follow::Yes, path.as_bytes());
        assert_eq!(found, Err(Errno::NotPermitted), "{path}");
    }
    // In a fork they are what they are here.
    let fork = fs.fork().root().unwrap();
    assert_eq!(stat(&fork, "a/b/over").kind, Kind::Symlink);
    assert!(fork.stat_at(Follow::Yes, b"a/b/over").is_ok());
    assert_eq!(fork.stat_at(Follow::Yes, b"made"), Err(Errno::NotPermitted));
}

#[test]
fn case_p10_a_preopen_below_another_stays_where_it_is() {
    let fs = fs(&["data/\n data/sub/\n other/\n full/\n full/x = x"]);
    let root = fs.root().unwrap();
    let data = fs.preopen(b"data", Rights::ReadWrite).unwrap();
    let full = fs.preopen(b"full", Rights::ReadOnly).unwrap();
    assert!(names(&root).contains(&"data".to_owned()));
    data.remove_dir_at(b"sub").unwrap();
    let refused = [
        root.remove_dir_at(b"data"),
        root.remove_dir_at(b"full"),
        root.rename_at(b"data", &root, b"elsewhere"),
        root.rename_at(b"data", &root, b"other"),
        root.rename_at(b"other", &root, b"data"),
        root.rename_at(b"other", &root, b"full"),
        root.rename_at(b"data", &view(&root, "other"), b"in"),
    ];
    assert_eq!(refused, [Err(Errno::Busy); 7]);
    // Its parents may move, and it with them; it is free once it is closed.
    root.create_dir_at(b"data/sub").unwrap();
    let sub = fs.preopen(b"data/sub", Rights::ReadWrite).unwrap();
    let again = sub.try_clone().unwrap();
    drop((data, full, sub));
    root.rename_at(b"data", &root, b"moved").unwrap();
    make(&again, "f", "still here");
    assert_eq!(text_of(&root, "moved/sub/f"), "still here");
    assert_eq!(
        root.rename_at(b"moved/sub", &root, b"sub"),
        Err(Errno::Busy)
    );
    drop(again);
    root.rename_at(b"moved/sub", &root, b"sub").unwrap();
    root.remove_dir_at(b"moved").unwrap();
}

#[test]
fn case_p11_identities_hold() {
    let image = image(&["a/\n a/f = f\n g == a/f\n l -> g\n d/"]);
    let ids = |fs: &Fs| {
        let root = fs.root().unwrap();
        ["a", "a/f", "g", "l", "d"].map(|path| stat(&root, path).id)
    };
    let (one, two) = (Fs::new(&image), Fs::new(&image));
    assert_eq!(ids(&one), ids(&two), "every run sees the same");
    let [a, f, g, l, d] = ids(&one);
    assert_eq!(f, g);
    let mut all = vec![a, f, l, d, stat(&one.root().unwrap(), ".").id];
    let root = one.root().unwrap();
    edit(&root, "g").write_at(b"F", 0).unwrap();
    root.rename_at(b"a", &root, b"d/a").unwrap();
    root.rename_at(b"l", &root, b"d/l").unwrap();
    let moved = ["d/a", "d/a/f", "g", "d/l", "d"].map(|path| stat(&root, path).id);
    assert_eq!(moved, [a, f, g, l, d]);
    // New ones are new, and numbers are not used again.
    for n in 0..100 {
        let file = make(&root, &format!("n{n}"), "");
        all.push(file.id());
        root.unlink_at(format!("n{n}").as_bytes()).unwrap();
    }
    assert!(all.iter().all(|id| id.get() != 0));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 105);
}

/// Lists on from `cookie`, `max` entries: names with the cookies after them.
fn list(dir: &Descriptor, cookie: u64, max: usize) -> Vec<(String, u64)> {
    let entries = dir.read_dir(cookie, max).unwrap().into_iter();
    entries
        .map(|entry| (String::from_utf8_lossy(&entry.name).into(), entry.next))
        .collect()
}

#[test]
fn case_p12_cookies_stay_good_whatever_changes() {
    let base: String = ('a'..='j').map(|c| format!("{c} =\n")).collect();
    let fs = fs(&[&base]);
    let root = fs.root().unwrap();
    for name in ["new1", "new2", "new3"] {
        drop(make(&root, name, ""));
    }
    let dir = view(&root, ".");
    let first = list(&dir, 0, 4);
    let cookie = first[3].1;
    // Gone: one that was listed, one that was not. Moved: one of each.
    root.unlink_at(b"b").unwrap();
    root.unlink_at(b"f").unwrap();
    root.rename_at(b"a", &root, b"a2").unwrap();
    root.rename_at(b"g", &root, b"g2").unwrap();
    // One that was made here keeps its place under another name.
    root.rename_at(b"new2", &root, b"new22").unwrap();
    drop(make(&root, "late", ""));
    let rest: Vec<String> = list(&dir, cookie, 99)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(rest, ["e", "h", "i", "j", "new1", "new22", "new3"]);
    // Seeking back gives the same again; rewinding shows the present.
    let again: Vec<String> = list(&dir, first[1].1, 99)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        again,
        ["c", "d", "e", "h", "i", "j", "new1", "new22", "new3"]
    );
    let mut now: Vec<String> = list(&dir, 0, 99)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    now.sort();
    let mut all = names(&root);
    all.sort();
    assert_eq!(now, all);
    assert!(now.contains(&"late".to_owned()) && now.contains(&"g2".to_owned()));
    // Past the end, and far past it: nothing.
    for far in [10_000, u64::from(u32::MAX) + 7, u64::MAX] {
        assert!(list(&dir, far, 9).is_empty(), "{far}");
    }
}

#[test]
fn case_p14_the_parent_of_a_listing() {
    let fs = fs(&["a/\n a/b/\n c/"]);
    let root = fs.root().unwrap();
    let id = |path: &str| stat(&root, path).id;
    let inner = view(&root, "a/b");
    assert_eq!(inner.parent_id(), Ok(id("a")));
    assert_eq!(view(&root, "a").parent_id(), Ok(id(".")));
    assert_eq!(root.parent_id(), Ok(id(".")));
    root.rename_at(b"a/b", &root, b"c/b").unwrap();
    assert_eq!(inner.parent_id(), Ok(id("c")));
    // A preopen does not show what is above it.
    let preopen = fs.preopen(b"c/b", Rights::ReadWrite).unwrap();
    assert_eq!(preopen.parent_id(), Ok(id("c/b")));
    assert_eq!(make(&root, "f", "").parent_id(), Err(Errno::NotDirectory));
}

#[test]
fn case_p15_appends_by_two_handles_are_whole() {
    let fs = fs(&["log = "]);
    let root = fs.root().unwrap();
    std::thread::scope(|scope| {
        for writer in [b'a', b'b', b'c', b'd'] {
            let file = edit(&root, "log");
            scope.spawn(move || {
                for _ in 0..500 {
                    assert_eq!(file.append(&[writer; 37]), Ok(37));
                }
            });
        }
    });
    let held = bytes(&view(&root, "log"));
    assert_eq!(held.len(), 4 * 500 * 37);
    assert!(
        held.chunks(37)
            .all(|piece| piece.iter().all(|byte| *byte == piece[0]))
    );
    // Writing at an offset goes there, whoever appends.
    edit(&root, "log").write_at(b"!", 0).unwrap();
    assert_eq!(bytes(&view(&root, "log"))[0], b'!');
}

#[test]
fn case_p16_appends_of_one_byte_are_linear() {
    assert_linear(20_000, |count| {
        let fs = Fs::new(&Image::empty());
        let file = make(&fs.root().unwrap(), "f", "");
        let allocated = counted(|| {
            for _ in 0..count {
                file.append(b"x").unwrap();
            }
        });
        assert_eq!(fs.usage().private_bytes, count as u64);
        // Far less than the block that it goes to, for each byte.
        let few = count as u64 * BLOCK_BYTES as u64 / 4;
        assert!(allocated.bytes < few, "{allocated:?}");
        allocated
    });
}

#[test]
fn case_p17_the_quota_is_exact() {
    let image = image(&["base * 10000\n twin == base\n sparse ~ 1000000"]);
    let fs = Fs::builder(&image).max_bytes(10_000).max_inodes(3).build();
    let root = fs.root().unwrap();
    let used = || fs.usage().private_bytes;
    let block = BLOCK_BYTES as u64;
    // Writing: into the base by the block, into new files by the byte.
    edit(&root, "base").write_at(b"x", 0).unwrap();
    assert_eq!(used(), block);
    edit(&root, "twin").write_at(b"y", 1).unwrap();
    assert_eq!(used(), block, "the same block by another name");
    let file = make(&root, "new", "12345");
    assert_eq!(used(), block + 5);
    file.write_at(b"ab", 2).unwrap();
    assert_eq!(used(), block + 5);
    // Holes are free, what lies before the byte in its block is not.
    file.set_size(1 << 40).unwrap();
    file.write_at(b"!", 1 << 39).unwrap();
    assert_eq!(used(), block + 6);
    file.set_size(3).unwrap();
    assert_eq!(used(), block + 3);
    // As much as fits, then no more; elsewhere nothing is lost.
    let rest = 10_000 - block - 3;
    assert_eq!(file.append(&[7; 9000]), Ok(rest as usize));
    assert_eq!(file.append(b"x"), Err(Errno::NoSpace));
    assert_eq!(used(), 10_000);
    assert_eq!(edit(&root, "sparse").write_at(b"x", 0), Err(Errno::NoSpace));
    assert_eq!(bytes(&file).len() as u64, 3 + rest);
    // Overwriting what is there needs no room.
    assert_eq!(file.write_at(b"xyz", 0), Ok(3));
    // A further name costs nothing; the last one gone, closing frees.
    root.link_at(b"new", &root, b"alias").unwrap();
    root.unlink_at(b"new").unwrap();
    assert_eq!(used(), 10_000);
    root.unlink_at(b"alias").unwrap();
    assert_eq!((used(), fs.usage().inodes), (10_000, 1));
    drop(file);
    assert_eq!((used(), fs.usage().inodes), (block, 0));
    // Renaming over a file frees it; so does truncating.
    drop(make(&root, "one", "1111"));
    drop(make(&root, "two", "22"));
    assert_eq!(used(), block + 6);
    root.rename_at(b"two", &root, b"one").unwrap();
    assert_eq!((used(), fs.usage().inodes), (block + 2, 1));
    edit(&root, "base").set_size(0).unwrap();
    assert_eq!(used(), 2);
    // Objects: three and no more, and a removed one makes room.
    root.create_dir_at(b"d").unwrap();
    root.symlink_at(b"x", b"l").unwrap();
    assert_eq!(root.create_dir_at(b"d2"), Err(Errno::NoSpace));
    root.unlink_at(b"l").unwrap();
    root.create_dir_at(b"d2").unwrap();
}

/// Of a million links, targets of 4 KiB would pass any quota of bytes.
#[test]
fn case_p17_targets_of_made_links_count_as_bytes() {
    let image = image(&["old -> 0123456789"]);
    let fs = Fs::builder(&image).max_bytes(100).build();
    let root = fs.root().unwrap();
    root.symlink_at(&[b'x'; 60], b"a").unwrap();
    assert_eq!(fs.usage().private_bytes, 60);
    let usage = fs.usage();
    assert_eq!(root.symlink_at(&[b'x'; 41], b"b"), Err(Errno::NoSpace));
    assert_eq!((fs.usage(), fs.check()), (usage, Ok(())));
    root.symlink_at(&[b'x'; 40], b"b").unwrap();
    // A further name costs none; the last one gone gives them back.
    root.link_at(b"a", &root, b"c").unwrap();
    root.unlink_at(b"a").unwrap();
    assert_eq!(fs.usage().private_bytes, 100);
    root.rename_at(b"b", &root, b"c").unwrap();
    assert_eq!(fs.usage().private_bytes, 40);
    // The base's are nobody's, changed or gone.
    root.rename_at(b"old", &root, b"moved").unwrap();
    root.unlink_at(b"moved").unwrap();
    assert_eq!((fs.usage().private_bytes, fs.check()), (40, Ok(())));
}

#[test]
fn case_p18_the_quota_holds_for_the_host_too() {
    let fs = Fs::builder(&Image::empty())
        .max_bytes(100)
        .max_inodes(2)
        .build();
    assert_eq!(fs.write("f", [1; 101]).unwrap_err().errno(), Errno::NoSpace);
    assert_eq!(fs.read("f").unwrap().len(), 100);
    fs.write("f", "").unwrap();
    fs.create_dir("d").unwrap();
    assert_eq!(
        fs.create_dir_all("d/e").unwrap_err().errno(),
        Errno::NoSpace
    );
    assert_eq!(fs.copy("f", "g").unwrap_err().errno(), Errno::NoSpace);
}

#[test]
fn case_p19_absurd_numbers_are_errors() {
    let fs = fs(&["f * 5000"]);
    let root = fs.root().unwrap();
    let file = edit(&root, "f");
    let mut buf = [0; 10];
    for far in [5000, MAX_FILE_BYTES, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
        assert_eq!(file.read_at(&mut buf, far), Ok(0), "{far}");
        assert!(
            file.read_bytes(far, usize::MAX).unwrap().is_empty(),
            "{far}"
        );
        assert_eq!(file.hole_at(far), Ok(0), "{far}");
        assert_eq!(file.write_at(b"", far), Ok(0), "{far}");
    }
    for far in [MAX_FILE_BYTES, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
        assert_eq!(file.write_at(b"x", far), Err(Errno::FileTooLarge), "{far}");
    }
    for size in [MAX_FILE_BYTES + 1, u64::MAX] {
        assert_eq!(file.set_size(size), Err(Errno::FileTooLarge), "{size}");
    }
    assert_eq!(bytes(&file), pattern(0, 5000));
    // The last byte there is, and a file as large as can be.
    assert_eq!(file.write_at(b"xy", MAX_FILE_BYTES - 1), Ok(1));
    assert_eq!(file.stat().unwrap().size, MAX_FILE_BYTES);
    assert_eq!(file.append(b"x"), Err(Errno::FileTooLarge));
    assert!(!file.read_bytes(MAX_FILE_BYTES / 2, 100).unwrap().is_empty());
    let time = SetTime::To(Time::new(i64::MAX, 999_999_999));
    file.set_times(time, SetTime::To(Time::new(i64::MIN, 0)))
        .unwrap();
    let _ = file.stat().unwrap().mtime.to_system();
}

#[test]
fn case_p20_nothing_crosses_between_instances() {
    let image = image(&["a/\n a/f = f [600 9.0]\n a/d/\n g == a/f\n l -> a"]);
    let (one, two) = (Fs::new(&image), Fs::new(&image));
    let other = two.root().unwrap();
    let state = || -> (String, Vec<Stat>, Usage) {
        let stats = [".", "a", "a/f", "a/d", "g", "l"].map(|path| stat(&other, path));
        (tree(&two), stats.to_vec(), two.usage())
    };
    let listing = view(&other, "a");
    let before = state();
    let root = one.root().unwrap();
    for (what, _) in changes(&root) {
        assert_eq!(state(), before, "{what}");
    }
    for n in 0..50 {
        drop(make(&root, &format!("a/new{n}"), "bytes"));
    }
    remove_tree(&root, "a");
    root.unlink_at(b"g").unwrap();
    root.create_dir_at(b"a").unwrap();
    assert_eq!(state(), before);
    assert_eq!(names(&listing), ["d", "f"]);
    drop((root, one));
    assert_eq!(state(), before);
}

#[cfg(feature = "dir")]
#[test]
fn case_p23_a_host_directory_that_changes_is_not_seen() {
    use stratafs::source::{SourceOptions, dir_ambient};
    let host = tempfile::tempdir().unwrap();
    let path = host.path();
    let content = pattern(0, 200_000);
    std::fs::create_dir(path.join("d")).unwrap();
    std::fs::write(path.join("d/f"), &content).unwrap();
    std::fs::write(path.join("gone"), "gone").unwrap();
    let pool = ChunkPool::new();
    let layer = dir_ambient(&pool, path, &SourceOptions::default()).unwrap();
    let fs = Fs::new(&Image::new(&[layer]).unwrap());
    let root = fs.root().unwrap();
    let (before, file) = (tree(&fs), edit(&root, "d/f"));
    file.write_at(b"mine", 70_000).unwrap();
    file.write_at(&content[70_000..70_004], 70_000).unwrap();
    std::fs::write(path.join("d/f"), "short and other").unwrap();
    std::fs::write(path.join("d/new"), "new").unwrap();
    std::fs::remove_file(path.join("gone")).unwrap();
    assert_eq!(tree(&fs), before);
    assert_eq!(bytes(&file), content);
    std::fs::remove_dir_all(path.join("d")).unwrap();
    assert_eq!(bytes(&file), content);
}

#[test]
fn case_p24_copy_up_keeps_metadata_and_asks_for_rights() {
    let pool = ChunkPool::new();
    let mut layer = LayerBuilder::new();
    let capability: (Box<[u8]>, Box<[u8]>) = (b"security.capability"[..].into(), [1, 2][..].into());
    let mut meta = Meta::with_mode(0o4751).at(Time::new(-5, 6));
    (meta.uid, meta.gid) = (1000, u32::MAX);
    let note: (Box<[u8]>, Box<[u8]>) = (b"user.note"[..].into(), [3][..].into());
    meta.xattrs = Some(std::sync::Arc::new(vec![capability, note.clone()]));
    for name in [&b"f"[..], b"touched"] {
        let path = LayerPath::parse(name).unwrap();
        layer
            .file(&path, meta.clone(), ContentBuilder::of(&pool, b"text"))
            .unwrap();
    }
    let fs = Fs::new(&Image::new(&[layer.finish().unwrap()]).unwrap());
    let root = fs.root().unwrap();
    // No rights, no copy.
    assert_eq!(
        view(&root, "f").write_at(b"x", 0),
        Err(Errno::BadDescriptor)
    );
    let locked = fs.preopen(b"/", Rights::ReadOnly).unwrap();
    let now = SetTime::Now;
    assert_eq!(
        locked.set_times_at(Follow::Yes, b"f", now, now),
        Err(Errno::NotPermitted)
    );
    let before = stat(&root, "f");
    let keep = SetTime::Keep;
    root.set_times_at(Follow::Yes, b"f", keep, keep).unwrap();
    edit(&root, "f").write_at(b"T", 0).unwrap();
    let after = stat(&root, "f");
    assert_eq!((after.mode, after.uid, after.gid), (0o4751, 1000, u32::MAX));
    assert_eq!((after.id, after.atime), (before.id, before.atime));
    assert!(after.mtime > before.mtime);
    root.set_times_at(Follow::Yes, b"touched", now, now)
        .unwrap();
    // Attributes go out again as they came, on these files and no other; but
    // the guest's bytes get no privilege that others had.
    drop(make(&root, "new", ""));
    let diff = fs.diff(&pool).unwrap();
    let attributes: Vec<_> = diff
        .entries()
        .filter_map(|entry| match entry.body {
            stratafs::layer::EntryBody::File { meta, .. } => {
                Some((entry.path.to_string(), meta.xattrs.clone()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        attributes,
        [
            ("f".to_owned(), Some(std::sync::Arc::new(vec![note]))),
            ("new".to_owned(), None),
            ("touched".to_owned(), meta.xattrs),
        ]
    );
}

#[test]
fn case_p25_writes_at_every_border() {
    let (block, chunk) = (BLOCK_BYTES as u64, CHUNK_BYTES as u64);
    let near = |at: u64| [at.saturating_sub(1), at, at + 1];
    // A base with a hole in the middle and a short last chunk.
    let size = 3 * chunk + block + 100;
    let mut content = pattern(0, size as usize);
    content[chunk as usize..2 * chunk as usize].fill(0);
    let pool = ChunkPool::new();
    let mut layer = LayerBuilder::new();
    let path = LayerPath::parse(b"f").unwrap();
    layer
        .file(
            &path,
            Meta::with_mode(0o644),
            ContentBuilder::of(&pool, &content),
        )
        .unwrap();
    let image = Image::new(&[layer.finish().unwrap()]).unwrap();
    let places = [
        0,
        block,
        chunk - block,
        chunk,
        chunk + block,
        2 * chunk,
        3 * chunk,
        size,
    ];
    let offsets: Vec<u64> = places.iter().flat_map(|at| near(*at)).collect();
    for offset in &offsets {
        for len in [
            1,
            2,
            block - 1,
            block,
            block + 1,
            chunk - 1,
            chunk,
            chunk + 1,
        ] {
            let fs = Fs::new(&image);
            let file = edit(&fs.root().unwrap(), "f");
            let data = vec![0xee; len as usize];
            assert_eq!(file.write_at(&data, *offset), Ok(data.len()));
            let mut want = content.clone();
            let end = (offset + len) as usize;
            want.resize(want.len().max(end), 0);
            want[*offset as usize..end].copy_from_slice(&data);
            assert!(bytes(&file) == want, "{len} bytes at {offset}");
            // Read across the borders of what was written, too.
            let from = offset.saturating_sub(3);
            let mut buf = vec![0; 6 + data.len()];
            let read = file.read_at(&mut buf, from).unwrap();
            assert!(
                want[from as usize..].starts_with(&buf[..read]),
                "{len} bytes at {offset}"
            );
            let touched = (offset + len).div_ceil(block) - offset / block;
            assert!(
                fs.usage().private_bytes <= touched * block,
                "{len} bytes at {offset}"
            );
        }
    }
}

#[test]
fn case_p26_cut_and_grown_again_reads_zeros() {
    let chunk = CHUNK_BYTES as u64;
    for cut in [
        0,
        1,
        4095,
        4096,
        4097,
        chunk - 1,
        chunk,
        chunk + 1,
        2 * chunk + 5000,
    ] {
        for first in [
            None,
            Some(cut),
            Some(cut.saturating_sub(1)),
            Some(cut + 5000),
        ] {
            let fs = fs(&["f * 200000"]);
            let file = edit(&fs.root().unwrap(), "f");
            let mut want = pattern(0, 200_000);
            if let Some(at) = first {
                file.write_at(b"written", at).unwrap();
                want[at as usize..at as usize + 7].copy_from_slice(b"written");
            }
            file.set_size(cut).unwrap();
            file.set_size(200_000).unwrap();
            want[cut as usize..].fill(0);
            assert!(bytes(&file) == want, "cut at {cut}, written at {first:?}");
            // One byte behind the cut brings no other back.
            file.write_at(b"!", cut + 10).unwrap();
            want[cut as usize + 10] = b'!';
            assert!(
                bytes(&file) == want,
                "cut at {cut}, written at {first:?}, then behind"
            );
        }
    }
}

#[test]
fn case_p27_a_chunk_of_two_files_is_held_once_and_goes_with_the_last() {
    let pool = ChunkPool::new();
    let content = pattern(0, CHUNK_BYTES);
    let mut layer = LayerBuilder::new();
    for name in ["one", "two"] {
        let path = LayerPath::parse(name.as_bytes()).unwrap();
        layer
            .file(
                &path,
                Meta::with_mode(0o644),
                ContentBuilder::of(&pool, &content),
            )
            .unwrap();
    }
    let image = Image::new(&[layer.finish().unwrap()]).unwrap();
    assert_eq!(pool.len(), 1);
    let instances: Vec<Fs> = (0..1000).map(|_| Fs::new(&image)).collect();
    let root = instances[0].root().unwrap();
    edit(&root, "one").write_at(b"!", 5).unwrap();
    assert_eq!(bytes(&view(&root, "two")), content);
    let slice = view(&root, "two").read_bytes(0, 10).unwrap();
    drop((root, instances));
    assert_eq!(pool.len(), 1);
    drop(image);
    assert!(pool.is_empty(), "the last to hold the chunk is gone");
    assert_eq!(&slice[..], &content[..10], "bytes handed out live on");
}

/// Names of the host's open files, the one that counts them left out.
#[cfg(target_os = "linux")]
fn host_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[cfg(target_os = "linux")]
#[test]
fn case_p30_a_thousand_instances_take_no_host_descriptor() {
    let image = image(&["a/\n a/f * 100000"]);
    let before = host_descriptors();
    let instances: Vec<(Fs, Descriptor)> = (0..1000)
        .map(|n| {
            let fs = Fs::new(&image);
            let file = edit(&fs.root().unwrap(), "a/f");
            file.write_at(b"mine", n).unwrap();
            (fs, file)
        })
        .collect();
    assert_eq!(host_descriptors(), before);
    drop(instances);
}

#[test]
fn case_p32_reading_copies_nothing_into_the_instance() {
    let fs = fs(&["big * 33554432"]);
    let root = fs.root().unwrap();
    let file = view(&root, "big");
    let before = resident_bytes();
    let (mut at, mut sum) = (0, 0_u64);
    let mut buf = vec![0; 65_536];
    while let Ok(read @ 1..) = file.read_at(&mut buf, at) {
        at += read as u64;
        sum += u64::from(buf[0]);
    }
    // And without the copy into a caller's buffer.
    while let Some(slice) = at
        .checked_sub(65_536)
        .map(|at| file.read_bytes(at, 65_536).unwrap())
    {
        sum += u64::from(slice[0]);
        at -= 65_536;
    }
    assert!(sum > 0);
    assert_eq!(fs.usage().private_bytes, 0);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 4 * 1024 * 1024, "{grown} bytes more are resident");
}

#[test]
fn a_read_is_short_at_the_end_only() {
    let fs = fs(&["big * 200000"]);
    let root = fs.root().unwrap();
    let file = view(&root, "big");
    // Chunks of the base end at multiples of 64 KiB.
    for (offset, max, len) in [
        (65_536 - 100, 512, 512),
        (65_536 - 100, 65_536, 65_536),
        (0, 65_536, 65_536),
        (199_000, 65_536, 1_000),
        (200_000, 10, 0),
        (0, 0, 0),
    ] {
        let whole = file.read_full(offset, max).unwrap();
        assert_eq!(whole.len(), len, "{max} from {offset} on");
        let mut buf = vec![0; len];
        assert_eq!(file.read_at(&mut buf, offset), Ok(len));
        assert!(whole == buf, "{max} from {offset} on");
    }
    // Past 64 KiB a stream may give less, as in wasmtime-wasi.
    assert!(file.read_full(100, 150_000).unwrap().len() >= 65_536 - 100);
}

/// The memory this process has in RAM; 0 where that is not told.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[test]
fn case_p33_renames_of_one_object_and_over_an_open_file() {
    let fs = fs(&["f = f\n g == f\n other = other"]);
    let root = fs.root().unwrap();
    let before = (tree(&fs), stat(&root, "f"), stat(&root, "."));
    root.rename_at(b"f", &root, b"g").unwrap();
    root.rename_at(b"f", &root, b"f").unwrap();
    assert_eq!((tree(&fs), stat(&root, "f"), stat(&root, ".")), before);
    let old = view(&root, "other");
    root.rename_at(b"f", &root, b"other").unwrap();
    assert_eq!(
        (bytes(&old), old.stat().unwrap().nlink),
        (b"other".to_vec(), 0)
    );
    assert_eq!(tree(&fs), "g = f\nother == g\n");
}

#[test]
fn case_p34_dots_the_root_and_trailing_slashes() {
    let fs = fs(&["d/\n d/e/\n f = f\n l -> d"]);
    let root = fs.root().unwrap();
    let inner = view(&root, "d");
    for path in ["f/", "d/../f/"] {
        assert_eq!(
            root.unlink_at(path.as_bytes()),
            Err(Errno::NotDirectory),
            "{path}"
        );
    }
    for path in [".", "d/.", "d/..", "d", "d/", "l/"] {
        assert_eq!(
            root.unlink_at(path.as_bytes()),
            Err(Errno::IsDirectory),
            "{path}"
        );
    }
    for path in [".", "d/.", "d/..", "./"] {
        assert_eq!(
            root.remove_dir_at(path.as_bytes()),
            Err(Errno::Invalid),
            "{path}"
        );
    }
    for path in ["f", "f/", "l", "l/"] {
        assert_eq!(
            root.remove_dir_at(path.as_bytes()),
            Err(Errno::NotDirectory),
            "{path}"
        );
    }
    for (dir, path) in [
        (&*root, ".."),
        (&inner, ".."),
        (&inner, "e/../.."),
        (&root, "/"),
    ] {
        let results = [
            dir.unlink_at(path.as_bytes()),
            dir.remove_dir_at(path.as_bytes()),
            dir.create_dir_at(path.as_bytes()),
            dir.rename_at(path.as_bytes(), dir, b"x"),
        ];
        assert_eq!(results, [Err(Errno::NotPermitted); 4], "{path}");
    }
    for (from, to) in [
        (".", "x"),
        ("d/.", "x"),
        ("d", "."),
        ("d", "d/.."),
        ("f", "d/."),
    ] {
        let renamed = root.rename_at(from.as_bytes(), &root, to.as_bytes());
        assert_eq!(renamed, Err(Errno::Busy), "{from} to {to}");
    }
    assert_eq!(tree(&fs), "d/\nd/e/\nf = f\nl -> d\n");
    // The legal twins.
    root.create_dir_at(b"new/").unwrap();
    root.rename_at(b"new/", &root, b"newer/").unwrap();
    root.remove_dir_at(b"newer/").unwrap();
    assert_eq!(tree(&fs), "d/\nd/e/\nf = f\nl -> d\n");
}

#[test]
fn case_p35_sync_succeeds_and_does_nothing() {
    let image = image(&["d/\n d/f = f\n twin * 10000"]);
    for read_only in [true, false] {
        let builder = Fs::builder(&image);
        let builder = if read_only {
            builder.read_only()
        } else {
            builder
        };
        let fs = builder.build();
        let root = fs.root().unwrap();
        let file = view(&root, "d/f");
        let dir = view(&root, "d");
        let written = (!read_only).then(|| {
            let file = make(&root, "new", "");
            // Equal to what the base has, which closing would find.
            file.write_at(&bytes(&view(&root, "twin")), 0).unwrap();
            file
        });
        let (before, usage, text) = (fs.snapshot(), fs.usage(), tree(&fs));
        let of = |d: &Descriptor| (d.sync(), d.stat().unwrap());
        let stats = [&root, &dir, &file].map(|d| d.stat().unwrap());
        assert_eq!(
            [&root, &dir, &file].map(of),
            stats.map(|stat| (Ok(()), stat))
        );
        if let Some(file) = &written {
            let stat = file.stat().unwrap();
            assert_eq!(of(file), (Ok(()), stat));
        }
        assert_eq!((fs.usage(), tree(&fs)), (usage, text));
        assert_eq!(before.changes_to(&fs.snapshot()).unwrap(), []);
    }
}
