//! What a host holds because of what guests did: as much as their quotas say,
//! and no more. Counted by the budget, which counts allocations, and by scopes.

use std::sync::Arc;

use stratafs::budget::Budget;
use stratafs::chunk::{ChunkPool, ContentBuilder, Scope};
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::limits::{
    BLOCK_BYTES, DESCRIPTOR_BYTES, LINK_BYTES, MAX_OPEN_VIRTUAL_BYTES, MAX_VIRTUAL_BYTES,
    OBJECT_BYTES, REMOVED_BYTES,
};
use stratafs::meta::Meta;
use stratafs::meta::Time;
use stratafs::name::LayerPath;
use stratafs::vfs::{
    Access, Change, Descriptor, Follow, Fs, OpenFlags, Sealing, SetTime, Snapshot,
};

use crate::sharing::noise;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// The end of the largest file.
const MAX: u64 = stratafs::limits::MAX_FILE_BYTES;

fn open(fs: &Fs, path: &str) -> Descriptor {
    let access = Access::READ | Access::WRITE;
    let root = fs.root().unwrap();
    root.open_at(Follow::Yes, path.as_bytes(), OpenFlags::CREATE, access)
        .unwrap()
}

/// What is held after `files` files were written full, closed and cut.
fn after_cutting(files: u32, to: u64) -> u64 {
    let budget = Budget::new(1 << 30);
    let fs = Fs::builder(&Image::empty()).max_bytes(300_000);
    let fs = fs.budget(&budget, "it").build();
    for n in 0..files {
        let path = format!("f{n}");
        let room = usize::try_from(300_000 - fs.usage().logical_bytes).unwrap();
        open(&fs, &path)
            .write_at(&noise(n.into(), room), 0)
            .unwrap();
        open(&fs, &path).set_size(to).unwrap();
        fs.check().unwrap();
    }
    fs.shrink_to_fit();
    budget.held_bytes() - u64::from(files) * u64::from(OBJECT_BYTES)
}

#[test]
fn files_written_full_closed_and_cut_hold_what_is_left() {
    for to in [0, 1, 1_000] {
        for files in [10, 40] {
            let held = after_cutting(files, to);
            // The root is an object that was changed.
            let allowed = u64::from(files) * to + u64::from(OBJECT_BYTES);
            assert!(held <= allowed, "{files} files of {to} bytes hold {held}");
        }
    }
}

#[test]
fn a_small_file_over_a_large_one_lets_go_of_it() {
    let (scope, budget) = (Scope::new(), Budget::new(1 << 30));
    let fs = Fs::builder(&Image::empty()).share(&scope);
    let fs = fs.budget(&budget, "it").build();
    fs.write("/f", noise(1, 1 << 20)).unwrap();
    assert_eq!(scope.held_bytes(), 1 << 20);
    fs.write("/f", b"small").unwrap();
    assert_eq!(scope.held_bytes(), 0);
    fs.shrink_to_fit();
    assert_eq!(budget.held_bytes(), 5 + 2 * u64::from(OBJECT_BYTES));
    assert_eq!(fs.read("/f").unwrap(), b"small");
    fs.check().unwrap();
}

#[test]
fn a_sealed_file_that_is_hidden_for_the_most_part_holds_what_shows() {
    let scope = Scope::new();
    let blocks = 40;
    let mut bytes = noise(1, blocks * BLOCK_BYTES);
    let make = || {
        let fs = Fs::builder(&Image::empty()).share(&scope).build();
        fs.write("/f", &bytes).unwrap();
        fs
    };
    // Cut from behind.
    let (fs, all) = (make(), bytes.len() as u64);
    for left in (1..40).rev() {
        open(&fs, "f").set_size(left * BLOCK - 10).unwrap();
        let held = scope.held_bytes();
        assert!(
            held <= 2 * left * BLOCK,
            "{left} blocks of {all} bytes hold {held}"
        );
        assert_eq!(fs.usage().logical_bytes, left * BLOCK - 10);
        fs.check().unwrap();
    }
    assert_eq!(fs.read("/f").unwrap(), bytes[..BLOCK_BYTES - 10]);
    drop(fs);
    // Written over, in an order of its own, while it is open.
    let fs = make();
    let file = open(&fs, "f");
    for n in 0..blocks {
        let number = n * 7 % blocks;
        let at = number * BLOCK_BYTES + 100;
        file.write_at(&[n as u8; 50], at as u64).unwrap();
        bytes[at..at + 50].fill(n as u8);
        let (shown, held) = ((blocks - 1 - n) as u64, scope.held_bytes());
        assert!(
            held <= 2 * shown * BLOCK,
            "{shown} blocks that show hold {held}"
        );
        assert_eq!(fs.usage().logical_bytes, all);
        fs.check().unwrap();
    }
    assert_eq!(scope.held_bytes(), 0);
    assert_eq!(fs.read("/f").unwrap(), bytes);
    drop(file);
    // All of it is held again, and equal to itself in a fork.
    assert_eq!((scope.held_bytes(), fs.usage().private_bytes), (all, all));
    let fork = fs.fork();
    fork.remove_file("/f").unwrap();
    assert_eq!(fork.usage().logical_bytes, 0);
    assert_eq!(fs.read("/f").unwrap(), bytes);
    drop((fork, fs));
    assert_eq!((scope.len(), scope.held_bytes()), (0, 0));
}

#[test]
fn blocks_to_be_sealed_are_no_more_than_the_blocks_there_are() {
    for when in [Sealing::AtClose, Sealing::OnDemand] {
        let fs = Fs::builder(&Image::empty()).sealing(when).build();
        let file = open(&fs, "f");
        // `check` fails if more are noted than the file has blocks.
        for n in 0..1_000_u64 {
            file.write_at(b"x", n % 7 * BLOCK).unwrap();
            file.set_size([0, BLOCK, 3][n as usize % 3]).unwrap();
            if n % 5 == 0 {
                file.set_size(1_000 * BLOCK).unwrap();
                file.write_at(b"y", n * 31 % 997 * BLOCK).unwrap();
            }
            fs.check().unwrap();
        }
        drop(file);
        fs.seal();
        fs.check().unwrap();
    }
}

fn sparse_base() -> Image {
    let pool = ChunkPool::new();
    let mut content = ContentBuilder::new(&pool);
    content.write(b"head");
    content.hole(MAX - 8);
    content.write(b"tail");
    let mut layer = Layer::builder();
    let path = LayerPath::parse(b"sparse").unwrap();
    let meta = Meta::with_mode(0o644);
    layer.file(&path, meta, content.finish()).unwrap();
    Image::new(&[layer.finish().unwrap()]).unwrap()
}

/// The path and ranges of each file that has other bytes.
fn edits(one: &Snapshot, two: &Snapshot) -> Vec<String> {
    let changes = one.changes_to(two).unwrap();
    let edits = changes.iter().filter_map(|change| match change {
        Change::Content { path, ranges, .. } => Some(format!("{path} {ranges:?}")),
        _ => None,
    });
    edits.collect()
}

#[test]
fn holes_are_stepped_over_whatever_their_size() {
    let fs = Fs::new(&sparse_base());
    let before = fs.snapshot();
    let file = open(&fs, "sparse");
    let chunk = 64 << 10;
    assert_eq!(file.hole_at(0).unwrap(), 0);
    // A hole that data follows, of a base file that was not changed.
    let last = (MAX - 1) / chunk * chunk;
    assert_eq!(file.hole_at(chunk).unwrap(), last - chunk);
    file.write_at(b"x", 10 * chunk).unwrap();
    assert_eq!(file.hole_at(chunk).unwrap(), 9 * chunk);
    assert_eq!(
        file.hole_at(10 * chunk + BLOCK).unwrap(),
        last - 10 * chunk - BLOCK
    );
    drop(file);
    let after = fs.snapshot();
    let block = 10 * chunk..10 * chunk + BLOCK;
    assert_eq!(edits(&before, &after), [format!("sparse [{block:?}]")]);
    // One state shows the base, the other nothing of it.
    let file = open(&fs, "sparse");
    file.set_size(0).unwrap();
    file.set_size(MAX).unwrap();
    let ends = [0..BLOCK, MAX / BLOCK * BLOCK - BLOCK..MAX];
    assert_eq!(edits(&before, &fs.snapshot()), [format!("sparse {ends:?}")]);
    let pool = ChunkPool::new();
    let layer = fs.diff(&pool).unwrap();
    assert!(pool.is_empty(), "{layer:?}");
}

#[test]
fn a_byte_here_and_there_costs_a_diff_a_block_each() {
    let fs = Fs::builder(&Image::empty()).max_bytes(1 << 20).build();
    let file = open(&fs, "f");
    let mut blocks = 0;
    // Each in 64 KiB of its own, and two in others.
    for n in 0..2_000_u64 {
        let at = n * (64 << 10) + n % 9 * BLOCK;
        blocks += file
            .write_at(&n.to_le_bytes()[..1 + n as usize % 2], at)
            .unwrap();
        if n % 5 == 0 {
            blocks += file.write_at(b"x", at + 7 * BLOCK).unwrap();
        }
    }
    let (pool, most) = (ChunkPool::new(), blocks as u64 * BLOCK);
    let layer = fs.diff(&pool).unwrap();
    assert!(
        pool.count_held_bytes() <= most,
        "{} of {most}",
        pool.count_held_bytes()
    );
    // As an image it reads the same, piece by piece and at random.
    let image = Image::new(&[layer]).unwrap();
    image.verify().unwrap();
    let again = Fs::new(&image);
    let same = open(&again, "f");
    assert_eq!(same.stat().unwrap().size, file.stat().unwrap().size);
    let (mut one, mut two) = (vec![0; 300_000], vec![1; 300_000]);
    for at in (0..2_000 * (64 << 10)).step_by(299_993) {
        let read = file.read_at(&mut one, at).unwrap();
        assert_eq!(same.read_at(&mut two, at).unwrap(), read);
        assert!(one[..read] == two[..read], "at {at}");
    }
    assert!(fs.diff(&pool).unwrap().digest() == image.layers()[0].digest());
}

#[test]
fn how_a_file_is_held_is_no_difference() {
    let bytes = noise(5, 10 * BLOCK_BYTES + 17);
    let fs = Fs::new(&Image::empty());
    let file = open(&fs, "f");
    file.write_at(&bytes, 0).unwrap();
    file.write_at(&[0; BLOCK_BYTES], 3 * BLOCK).unwrap();
    let unsealed = fs.snapshot();
    drop(file);
    let sealed = fs.snapshot();
    assert!(edits(&unsealed, &sealed).is_empty());
    assert!(edits(&sealed, &unsealed).is_empty());
    // Sealed and cut apart into blocks again, then put back as it was.
    let file = open(&fs, "f");
    file.set_size(4 * BLOCK).unwrap();
    file.write_at(&bytes[4 * BLOCK_BYTES..], 4 * BLOCK).unwrap();
    assert!(edits(&unsealed, &fs.snapshot()).is_empty());
    assert!(edits(&sealed, &fs.snapshot()).is_empty());
    // Grown to the largest size, and one byte of it changed: in each way.
    for state in [&unsealed, &sealed] {
        let fork = state.fork();
        let file = open(&fork, "f");
        file.set_size(MAX).unwrap();
        file.write_at(b"?", 5 * BLOCK + 9).unwrap();
        let grown = bytes.len() as u64..MAX;
        let want = format!("f [{:?}, {grown:?}]", 5 * BLOCK..6 * BLOCK);
        for earlier in [&unsealed, &sealed] {
            assert_eq!(
                edits(earlier, &fork.snapshot()),
                std::slice::from_ref(&want)
            );
        }
    }
}

/// A base of `count` files in a directory of their own each.
fn many(count: u32) -> Image {
    let pool = ChunkPool::new();
    let mut layer = Layer::builder();
    for n in 0..count {
        let path = LayerPath::parse(format!("d{n}/f").as_bytes()).unwrap();
        let content = ContentBuilder::of(&pool, &[7; 5_000]);
        layer.file(&path, Meta::with_mode(0o644), content).unwrap();
    }
    Image::new(&[layer.finish().unwrap()]).unwrap()
}

fn touch(fs: &Fs, path: &str) -> Result<(), Errno> {
    let time = SetTime::To(Time::new(1, 1));
    let root = fs.root().unwrap();
    root.set_times_at(Follow::No, path.as_bytes(), time, time)
}

/// What `Usage::held_bytes` says it never exceeds.
fn bound(fs: &Fs, removed: u64) -> u64 {
    let usage = fs.usage();
    5 * fs.quota().max_bytes
        + (usage.inodes + usage.changed) * u64::from(OBJECT_BYTES)
        + u64::try_from(usage.links).unwrap_or(0) * u64::from(LINK_BYTES)
        + removed * u64::from(REMOVED_BYTES)
        + u64::from(usage.open) * DESCRIPTOR_BYTES
        + MAX_OPEN_VIRTUAL_BYTES
        + (2 << 20)
}

#[test]
fn changed_objects_of_the_base_have_a_quota_of_their_own() {
    let fs = Fs::builder(&many(8)).max_changed(3).build();
    touch(&fs, "d0/f").unwrap();
    touch(&fs, "d0/f").unwrap();
    touch(&fs, "d1/f").unwrap();
    touch(&fs, "d2").unwrap();
    assert_eq!(fs.usage().changed, 3);
    let before = fs.snapshot();
    assert_eq!(touch(&fs, "d3/f"), Err(Errno::NoSpace));
    let refused = |result: Result<(), stratafs::Error>| {
        assert_eq!(result.unwrap_err().errno(), Errno::NoSpace);
    };
    refused(fs.rename("/d4/f", "/d5/g"));
    refused(fs.rename("/d0/f", "/d5/f"));
    refused(fs.hard_link("/d0/f", "/d5/g"));
    refused(fs.create_dir("/d5/new"));
    refused(
        fs.write("/d6/f", b"x")
            .and_then(|()| fs.write("/d7/g", b"x")),
    );
    assert!(before.changes_to(&fs.snapshot()).unwrap().len() <= 1);
    fs.check().unwrap();
    // What makes room is never refused.
    for n in 0..8 {
        fs.remove_file(format!("/d{n}/f")).unwrap();
        fs.remove_dir(format!("/d{n}")).unwrap();
        fs.check().unwrap();
    }
    // Only the root is left, which has lost eight names.
    assert_eq!(fs.usage().changed, 1);
    assert!(fs.usage().held_bytes <= bound(&fs, 16));
}

#[test]
fn whoever_changes_something_pays_for_it() {
    let image = many(4);
    let budget = Budget::new(1 << 30);
    let fs = Fs::builder(&image).budget(&budget, "parent").build();
    fs.write("/own", noise(3, 20_000)).unwrap();
    touch(&fs, "d0/f").unwrap();
    let paid = |n: usize| budget.holders()[n].bytes;
    let before = paid(0);
    let fork = fs.fork();
    assert_eq!((paid(0), paid(1)), (before, 0));
    touch(&fork, "own").unwrap();
    touch(&fork, "d0/f").unwrap();
    touch(&fork, "d1/f").unwrap();
    open(&fork, "own").write_at(b"x", 9).unwrap();
    fork.remove_file("/d2/f").unwrap();
    assert_eq!(paid(0), before);
    let object = u64::from(OBJECT_BYTES);
    // Copies of two objects, and the base's file and directory.
    assert!(paid(1) >= 4 * object + BLOCK, "{}", paid(1));
    drop(fork);
    assert_eq!((budget.held_bytes(), paid(0)), (before, before));
    drop(fs);
    assert_eq!(budget.held_bytes(), 0);
}

#[test]
fn what_is_held_never_passes_what_the_quotas_say() {
    let max = 200_000;
    for pattern in 0..4_u64 {
        let fs = Fs::builder(&many(3)).max_bytes(max).build();
        for n in 0..600_u64 {
            let path = format!("f{}", n % 20);
            let file = open(&fs, &path);
            // A byte here and there, half blocks, whole files, cut blocks.
            let wrote = match pattern {
                0 => file.write_at(b"x", n * 37 % 999 * BLOCK),
                1 => file.write_at(&noise(n, BLOCK_BYTES / 2 + 1), n % 9 * BLOCK),
                2 => file.write_at(&noise(n % 7, 30_000), 0),
                _ => file.write_at(&noise(n, BLOCK_BYTES), n % 50 * BLOCK),
            };
            if pattern == 3 {
                file.set_size(n % 50 * BLOCK + 1).unwrap();
            }
            drop(file);
            if wrote.is_err() {
                open(&fs, &path).set_size(n % 3).unwrap();
            }
            let held = fs.usage().held_bytes;
            assert!(held <= bound(&fs, 0), "pattern {pattern}, step {n}: {held}");
            if n % 50 == 0 {
                fs.check().unwrap();
            }
        }
        fs.check().unwrap();
        for n in 0..20 {
            fs.remove_file(format!("/f{n}")).unwrap();
        }
        assert_eq!(fs.usage().logical_bytes, 0);
        // What is kept for the next writes, until it is given back.
        let objects = 2 * u64::from(OBJECT_BYTES);
        let held = fs.usage().held_bytes;
        assert!(held <= objects + (1 << 20), "{held}");
        fs.shrink_to_fit();
        let held = fs.usage().held_bytes;
        assert!(held <= objects, "{held}");
    }
}

#[test]
fn open_files_of_the_host_hold_so_many_bytes_together() {
    let fs = Fs::new(&Image::empty());
    let before = fs.usage().held_bytes;
    fs.mount_file(b"/big", Arc::new(|| vec![1; MAX_VIRTUAL_BYTES]))
        .unwrap();
    let root = fs.root().unwrap();
    let again = || root.open_at(Follow::Yes, b"big", OpenFlags::empty(), Access::READ);
    let most = MAX_OPEN_VIRTUAL_BYTES / MAX_VIRTUAL_BYTES as u64;
    let mut held: Vec<_> = (0..most).map(|_| again().unwrap()).collect();
    assert!(fs.usage().held_bytes >= before + MAX_OPEN_VIRTUAL_BYTES);
    assert_eq!(again().unwrap_err(), Errno::NoSpace);
    assert_eq!(u64::from(fs.usage().open), most + 1);
    held.pop();
    held.push(again().unwrap());
    drop(held);
    assert!(fs.usage().held_bytes < before + MAX_VIRTUAL_BYTES as u64);
}
