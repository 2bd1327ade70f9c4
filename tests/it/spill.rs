//! More than memory holds: blocks past a budget live in a file without a name.

use std::fs;
use std::path::Path;

use stratafs::budget::Budget;
use stratafs::chunk::ChunkPool;
use stratafs::errno::Errno;
use stratafs::host::OpenOptions;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::limits::{BLOCK_BYTES, OBJECT_BYTES};
use stratafs::vfs::Fs;

use crate::sharing::noise;

const MIB: u64 = 1 << 20;

fn spilling(memory: u64, file: u64) -> (tempfile::TempDir, Budget) {
    let dir = tempfile::tempdir().unwrap();
    let budget = Budget::with_spill(memory, dir.path(), file).unwrap();
    (dir, budget)
}

fn instance(budget: &Budget) -> Fs {
    let builder = Fs::builder(&Image::empty()).deterministic();
    builder.budget(budget, "one").build()
}

fn write_at(fs: &Fs, path: &str, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).create(true).open(fs, path);
    assert_eq!(file.unwrap().write_at(bytes, at).unwrap(), bytes.len());
}

fn set_len(fs: &Fs, path: &str, len: u64) {
    let file = OpenOptions::new().write(true).open(fs, path);
    file.unwrap().set_len(len).unwrap();
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn blocks_past_the_budget_are_in_the_file_and_read_the_same() {
    let (dir, budget) = spilling(4 * MIB, 64 * MIB);
    let one = instance(&budget);
    for file in 0..6 {
        one.write(format!("/f{file}"), noise(file, 3 << 20))
            .unwrap();
    }
    assert!(budget.held_bytes() <= 3 * MIB + 7 * u64::from(OBJECT_BYTES));
    // At least what does not fit; at most that twice and the pages kept besides.
    let spilled = budget.spilled_bytes();
    assert!((15 * MIB..=31 * MIB).contains(&spilled), "{spilled}");
    assert_eq!(budget.most_spilled_bytes(), spilled);
    assert!(one.usage().held_bytes >= 18 * MIB);
    let fork = one.fork();
    write_at(&fork, "/f5", 5_000, b"fork");
    for file in 0..6 {
        assert_eq!(one.read(format!("/f{file}")).unwrap(), noise(file, 3 << 20));
    }
    let mut changed = noise(5, 3 << 20);
    changed[5_000..5_004].copy_from_slice(b"fork");
    assert_eq!(fork.read("/f5").unwrap(), changed);
    assert!(is_empty(dir.path()), "the file has no name");
    drop((one, fork));
    assert_eq!((budget.held_bytes(), budget.spilled_bytes()), (0, 0));
}

#[test]
fn a_write_past_the_file_is_no_space_and_removing_makes_room() {
    let (_dir, budget) = spilling(MIB, 2 * MIB);
    let one = instance(&budget);
    one.write("/a", noise(1, 1_500_000)).unwrap();
    let error = one.write("/b", noise(2, 3_000_000)).unwrap_err();
    assert_eq!(error.errno(), Errno::NoSpace);
    assert_eq!(one.read("/a").unwrap(), noise(1, 1_500_000));
    // Objects have their part of the memory whatever blocks take.
    one.create_dir("/still").unwrap();
    one.remove_file("/b").unwrap();
    one.write("/c", noise(3, 1_000_000)).unwrap();
    assert_eq!(one.read("/c").unwrap(), noise(3, 1_000_000));
    assert!(budget.spilled_bytes() <= 2 * MIB);
}

#[test]
fn small_files_spill_too() {
    let (_dir, budget) = spilling(MIB, 64 * MIB);
    let one = instance(&budget);
    // Objects take a quarter of the memory at most: their part and no more.
    let files = MIB / 4 / u64::from(OBJECT_BYTES) - 2;
    for file in 0..files {
        one.write(format!("/{file}"), noise(file, 2_000)).unwrap();
        write_at(&one, &format!("/{file}"), 2_000, &noise(file, 40));
    }
    one.write("/wide", noise(0, 1 << 20)).unwrap();
    for file in 0..files {
        let expected = [noise(file, 2_000), noise(file, 40)].concat();
        assert_eq!(one.read(format!("/{file}")).unwrap(), expected);
    }
    assert!(budget.held_bytes() <= MIB && budget.spilled_bytes() > 0);
}

#[test]
fn instances_share_one_file_and_do_not_see_the_bytes_of_others() {
    let (_dir, budget) = spilling(64 << 10, 64 * MIB);
    for round in 0..20 {
        let fill = instance(&budget);
        fill.write("/secret", vec![0xaa; 300_000]).unwrap();
        drop(fill);
        let next = instance(&budget);
        // A hole, the end of a block, and a file that grew.
        write_at(&next, "/holes", 100_000, b"x");
        next.write("/short", b"y").unwrap();
        set_len(&next, "/short", 4_000);
        for path in ["/holes", "/short"] {
            let bytes = next.read(path).unwrap();
            assert!(!bytes.contains(&0xaa), "round {round}, {path}");
        }
        assert!(budget.spilled_bytes() <= 2 * 3 * BLOCK_BYTES as u64 + MIB);
    }
}

#[test]
fn what_leaves_is_the_same_as_from_memory() {
    let (_dir, budget) = spilling(256 << 10, 64 * MIB);
    let made = |fs: Fs| -> Layer {
        for n in 0..30 {
            fs.write(format!("/new{n}"), noise(n, 9_000)).unwrap();
            write_at(&fs, &format!("/new{n}"), 50_000, &noise(n, 10));
        }
        fs.remove_file("/new7").unwrap();
        fs.check().unwrap();
        fs.diff(&ChunkPool::new()).unwrap()
    };
    let (spilled, plain) = (
        made(instance(&budget)),
        made(instance(&Budget::new(64 * MIB))),
    );
    assert!(budget.most_spilled_bytes() > 0);
    assert_eq!(spilled.digest(), plain.digest());
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let error = Budget::with_spill(1, Path::new("/no/such/place"), 1).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}
