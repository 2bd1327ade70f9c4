//! Three-way merges of live states.

use std::fmt::Write as _;

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::vfs::{Access, Conflict, Follow, Fs, MergeError, OpenFlags, Rights, Snapshot};

use crate::support::rng::Rng;
use crate::support::tree;

fn base() -> Image {
    let pool = ChunkPool::new();
    let mut layer = Layer::builder();
    let big = vec![b'.'; 40_000];
    for (path, bytes) in [
        ("d/a", &b"alpha"[..]),
        ("d/b", b"beta"),
        ("e/c", b"gamma"),
        ("big", &big),
    ] {
        let path = LayerPath::parse(path.as_bytes()).unwrap();
        let content = ContentBuilder::of(&pool, bytes);
        layer.file(&path, Meta::with_mode(0o644), content).unwrap();
    }
    Image::new(&[layer.finish().unwrap()]).unwrap()
}

/// The paths and what files hold, one a line.
fn text(fs: &Fs) -> String {
    let mut out = String::new();
    for object in tree::walk(fs) {
        let names = String::from_utf8_lossy(&object.path);
        let _ = match &object.body {
            tree::Seen::Bytes(bytes) => writeln!(out, "{names} = {bytes:?}"),
            other => writeln!(out, "{names} {other:?}"),
        };
    }
    out
}

struct Three {
    ours: Fs,
    base: Snapshot,
    theirs: Fs,
}

fn three() -> Three {
    let ours = Fs::new(&base());
    ours.write("/x", "one\n").unwrap();
    ours.create_dir("/made").unwrap();
    ours.write("/made/y", "two\n").unwrap();
    let base = ours.snapshot();
    let theirs = base.fork();
    Three { ours, base, theirs }
}

impl Three {
    fn merge(&self) -> Result<(), MergeError> {
        let before = text(&self.ours);
        let merged = self.ours.merge(&self.base, &self.theirs.snapshot());
        self.ours.check().unwrap();
        if merged.is_err() {
            assert_eq!(text(&self.ours), before);
        }
        merged
    }

    fn conflicts(&self) -> Vec<String> {
        match self.merge() {
            Err(MergeError::Conflicts(all)) => all.iter().map(show).collect(),
            other => panic!("{other:?}"),
        }
    }
}

fn show(conflict: &Conflict) -> String {
    match conflict {
        Conflict::Content { path, ranges } => format!("content {path} {ranges:?}"),
        Conflict::Meta { path } => format!("meta {path}"),
        Conflict::Removed { path } => format!("removed {path}"),
        Conflict::Renamed { path } => format!("renamed {path}"),
        Conflict::Name { path } => format!("name {path}"),
        Conflict::Loop { path } => format!("loop {path}"),
        Conflict::Busy { path } => format!("busy {path}"),
        other => format!("{other:?}"),
    }
}

fn put(fs: &Fs, path: &str, offset: u64, bytes: &[u8]) {
    let top = fs.root().unwrap();
    let file = top
        .open_at(
            Follow::Yes,
            path.as_bytes(),
            OpenFlags::empty(),
            Access::WRITE,
        )
        .unwrap();
    assert_eq!(file.write_at(bytes, offset), Ok(bytes.len()));
}

#[test]
fn what_only_one_side_changed_is_taken() {
    let all = three();
    all.theirs.write("/x", "theirs\n").unwrap();
    all.theirs.rename("/d", "/dir").unwrap();
    all.theirs.remove_file("/made/y").unwrap();
    all.theirs.create_dir_all("/n/e/w").unwrap();
    all.theirs.write("/n/e/w/file", "new").unwrap();
    all.theirs.symlink("file", "/n/e/w/link").unwrap();
    all.theirs.hard_link("/n/e/w/file", "/n/again").unwrap();
    all.ours.write("/d/a", "ours").unwrap();
    all.ours.write("/e/z", "more").unwrap();
    all.merge().unwrap();
    assert_eq!(all.ours.read("/dir/a").unwrap(), b"ours");
    assert_eq!(all.ours.read("/x").unwrap(), b"theirs\n");
    assert_eq!(all.ours.read("/e/z").unwrap(), b"more");
    assert_eq!(all.ours.read("/n/e/w/link").unwrap(), b"new");
    assert_eq!(all.ours.metadata("/n/again").unwrap().nlink, 2);
    assert!(all.ours.metadata("/made/y").is_err() && all.ours.metadata("/d").is_err());
    // Once more is nothing new.
    let before = text(&all.ours);
    let next = all.ours.snapshot();
    all.ours.merge(&next, &next).unwrap();
    assert_eq!(text(&all.ours), before);
}

#[test]
fn blocks_of_one_file_merge_where_they_are_apart() {
    let all = three();
    put(&all.ours, "big", 10, b"ours");
    put(&all.theirs, "big", 20_000, b"theirs");
    put(&all.theirs, "big", 40_000, b"grown");
    all.merge().unwrap();
    let mut want = vec![b'.'; 40_000];
    want[10..14].copy_from_slice(b"ours");
    want[20_000..20_006].copy_from_slice(b"theirs");
    want.extend_from_slice(b"grown");
    assert_eq!(all.ours.read("/big").unwrap(), want);

    let all = three();
    put(&all.ours, "big", 4_100, b"ours");
    put(&all.theirs, "big", 4_200, b"theirs");
    assert_eq!(all.conflicts(), ["content big [4096..8192]"]);

    // Both did the same.
    let all = three();
    for side in [&all.ours, &all.theirs] {
        put(side, "big", 4_100, b"same");
        side.write("/x", "same\n").unwrap();
    }
    all.merge().unwrap();
}

#[test]
fn each_kind_of_conflict_is_told_and_nothing_is_done() {
    type Edit = fn(&Fs);
    let cases: &[(Edit, Edit, &[&str])] = &[
        (
            |ours| ours.remove_file("/x").unwrap(),
            |theirs| theirs.write("/x", "changed").unwrap(),
            &["removed x"],
        ),
        (
            |ours| ours.write("/x", "changed").unwrap(),
            |theirs| theirs.remove_file("/x").unwrap(),
            &["removed x"],
        ),
        (
            |ours| ours.rename("/x", "/ours").unwrap(),
            |theirs| theirs.rename("/x", "/theirs").unwrap(),
            &["renamed x"],
        ),
        (
            |ours| ours.write("/new", "a").unwrap(),
            |theirs| theirs.write("/new", "b").unwrap(),
            &["name new"],
        ),
        (
            |ours| ours.create_dir("/new").unwrap(),
            |theirs| theirs.write("/new", "b").unwrap(),
            &["name new"],
        ),
        (
            |ours| ours.remove_dir_all("/d").unwrap(),
            |theirs| theirs.write("/d/more", "b").unwrap(),
            &["removed d"],
        ),
        (
            |ours| ours.write("/d/more", "b").unwrap(),
            |theirs| theirs.remove_dir_all("/d").unwrap(),
            &["removed d"],
        ),
        (
            |ours| ours.rename("/d", "/e/d").unwrap(),
            |theirs| theirs.rename("/e", "/d/e").unwrap(),
            &["loop e"],
        ),
        (
            |ours| ours.rename("/x", "/d/x").unwrap(),
            |theirs| theirs.remove_file("/x").unwrap(),
            &["removed x"],
        ),
        (
            |ours| ours.remove_file("/x").unwrap(),
            |theirs| theirs.rename("/x", "/z").unwrap(),
            &["removed x"],
        ),
    ];
    for (number, (here, there, want)) in cases.iter().enumerate() {
        let all = three();
        here(&all.ours);
        there(&all.theirs);
        all.theirs.write("/also", "not half").unwrap();
        if want.is_empty() {
            all.merge().unwrap();
        } else {
            assert_eq!(all.conflicts(), *want, "case {number}");
        }
    }
}

#[test]
fn what_both_made_alike_becomes_one() {
    let all = three();
    for (side, own) in [(&all.ours, "a"), (&all.theirs, "b")] {
        side.create_dir_all("/lib/sub").unwrap();
        side.write("/lib/same", "equal").unwrap();
        side.symlink("same", "/lib/link").unwrap();
        side.write(format!("/lib/sub/{own}"), own).unwrap();
    }
    all.merge().unwrap();
    let names = |path: &str| {
        let entries = all.ours.read_dir(path).unwrap();
        let mut names: Vec<_> = entries.iter().map(|one| one.name().to_vec()).collect();
        names.sort();
        names
    };
    assert_eq!(names("/lib"), [&b"link"[..], b"same", b"sub"]);
    assert_eq!(names("/lib/sub"), [b"a", b"b"]);
}

#[test]
fn swaps_and_moves_into_each_other_are_followed() {
    let all = three();
    let theirs = &all.theirs;
    theirs.rename("/d", "/t").unwrap();
    theirs.rename("/e", "/d").unwrap();
    theirs.rename("/t", "/d/deep").unwrap();
    all.ours.write("/d/a", "edited").unwrap();
    all.merge().unwrap();
    assert_eq!(all.ours.read("/d/deep/a").unwrap(), b"edited");
    assert_eq!(all.ours.read("/d/c").unwrap(), b"gamma");
    assert!(all.ours.metadata("/e").is_err());
}

#[test]
fn open_files_and_preopens_go_through_a_merge() {
    let all = three();
    let top = all.ours.root().unwrap();
    let open = |path: &[u8]| {
        let access = Access::READ | Access::WRITE;
        top.open_at(Follow::Yes, path, OpenFlags::empty(), access)
            .unwrap()
    };
    let (kept, gone) = (open(b"x"), open(b"made/y"));
    all.theirs.write("/x", "theirs\n").unwrap();
    all.theirs.remove_file("/made/y").unwrap();
    all.merge().unwrap();
    assert_eq!(&kept.read_bytes(0, 100).unwrap()[..], b"theirs\n");
    assert_eq!(&gone.read_bytes(0, 100).unwrap()[..], b"two\n");
    drop(gone);
    all.ours.check().unwrap();

    let all = three();
    let shown = all.ours.preopen(b"/d", Rights::ReadWrite).unwrap();
    all.theirs.rename("/d", "/moved").unwrap();
    assert_eq!(all.conflicts(), ["busy d"]);
    drop(shown);
    all.merge().unwrap();
}

#[test]
fn what_cannot_be_merged_is_refused() {
    let all = three();
    let other = Fs::new(&base()).snapshot();
    let theirs = all.theirs.snapshot();
    assert_eq!(
        all.ours.merge(&other, &theirs),
        Err(MergeError::Errno(Errno::CrossDevice))
    );
    // Two that made their objects apart: neither came before the other.
    let apart = Fs::new(all.ours.image());
    apart.write("/q", "q").unwrap();
    assert_eq!(
        all.ours.merge(&apart.snapshot(), &theirs),
        Err(MergeError::Errno(Errno::Invalid))
    );
    let small = Fs::builder(&base()).max_bytes(100).build();
    let before = small.snapshot();
    let big = Fs::builder(small.image()).build();
    big.write("/f", vec![1; 200]).unwrap();
    assert_eq!(
        small.merge(&before, &big.snapshot()),
        Err(MergeError::Errno(Errno::NoSpace))
    );
    small.check().unwrap();
    let fixed = Fs::builder(small.image()).read_only().build();
    assert_eq!(
        fixed.merge(&before, &big.snapshot()),
        Err(MergeError::Errno(Errno::ReadOnly))
    );
}

/// One change at random below `dir`; what cannot be done is left.
fn edit(fs: &Fs, rng: &mut Rng, dir: &str) {
    let path = |rng: &mut Rng| {
        let depth = 1 + rng.below(3);
        let names = (0..depth).map(|_| ["a", "b", "c"][rng.below(3)]);
        format!("{dir}/{}", names.collect::<Vec<_>>().join("/"))
    };
    let one = path(rng);
    match rng.below(8) {
        0 | 1 => drop(fs.create_dir_all(&one)),
        2 | 3 => drop(fs.write(&one, vec![rng.below(250) as u8; rng.below(9_000)])),
        4 => drop(fs.remove_file(&one)),
        5 => drop(fs.remove_dir_all(&one)),
        6 => drop(fs.rename(&one, path(rng))),
        _ => drop(fs.hard_link(&one, path(rng))),
    }
}

#[test]
fn changes_below_two_directories_merge_to_what_one_after_the_other_gives() {
    for seed in 0..300 {
        let mut rng = Rng::new(0x3e6e << 32 | seed);
        let ours = Fs::new(&base());
        for dir in ["/l", "/r"] {
            ours.create_dir(dir).unwrap();
        }
        for _ in 0..20 {
            let dir = ["/l", "/r"][rng.below(2)];
            edit(&ours, &mut rng, dir);
        }
        let base = ours.snapshot();
        let (theirs, both) = (base.fork(), base.fork());
        let (left, right) = (rng.below(1 << 30) as u64, rng.below(1 << 30) as u64);
        for fs in [&ours, &both] {
            let mut rng = Rng::new(left);
            (0..30).for_each(|_| edit(fs, &mut rng, "/l"));
        }
        for fs in [&theirs, &both] {
            let mut rng = Rng::new(right);
            (0..30).for_each(|_| edit(fs, &mut rng, "/r"));
        }
        let there = theirs.snapshot();
        ours.merge(&base, &there)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        ours.check()
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(text(&ours), text(&both), "seed {seed}");
        let (one, two) = (ours.usage(), both.usage());
        assert_eq!(
            (one.logical_bytes, one.inodes, one.links),
            (two.logical_bytes, two.inodes, two.links),
            "seed {seed}"
        );
    }
}

#[test]
fn changes_anywhere_merge_or_are_refused_whole() {
    let (mut merged, mut refused) = (0, 0);
    for seed in 0..600 {
        let mut rng = Rng::new(0x9a9a << 32 | seed);
        let ours = Fs::new(&base());
        (0..15).for_each(|_| edit(&ours, &mut rng, ""));
        let base = ours.snapshot();
        let theirs = base.fork();
        (0..3 + rng.below(6)).for_each(|_| edit(&ours, &mut rng, ""));
        (0..3 + rng.below(6)).for_each(|_| edit(&theirs, &mut rng, ""));
        let before = text(&ours);
        let there = theirs.snapshot();
        match ours.merge(&base, &there) {
            Ok(()) => {
                merged += 1;
                // Nothing of theirs is left to be done.
                let now = ours.snapshot();
                let next = now.fork();
                next.merge(&now, &now).unwrap();
            }
            Err(MergeError::Conflicts(all)) => {
                refused += 1;
                assert!(!all.is_empty());
                assert_eq!(text(&ours), before, "seed {seed}");
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
        ours.check()
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        // Either side alone merges into what was before.
        let onto = base.fork();
        onto.merge(&base, &there)
            .unwrap_or_else(|error| panic!("seed {seed}, one side: {error}"));
        onto.check().unwrap();
        assert_eq!(text(&onto), text(&theirs), "seed {seed}");
    }
    assert!(merged > 100 && refused > 60, "{merged} {refused}");
}
