//! What a host holds because of what guests did: as much as their quotas say,
//! and no more. Counted by the budget, which counts allocations, and by scopes.

use stratafs::budget::Budget;
use stratafs::chunk::{ChunkPool, ContentBuilder, Scope};
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::limits::{BLOCK_BYTES, OBJECT_BYTES};
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::vfs::{Access, Change, Descriptor, Follow, Fs, OpenFlags, Sealing, Snapshot};

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
            .write_at(0, &noise(n.into(), room))
            .unwrap();
        open(&fs, &path).set_size(to).unwrap();
        fs.check().unwrap();
    }
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
    let fs = Fs::builder(&Image::empty()).scope(&scope);
    let fs = fs.budget(&budget, "it").build();
    fs.write("/f", noise(1, 1 << 20)).unwrap();
    assert_eq!(scope.held_bytes(), 1 << 20);
    fs.write("/f", b"small").unwrap();
    assert_eq!(scope.held_bytes(), 0);
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
        let fs = Fs::builder(&Image::empty()).scope(&scope).build();
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
        file.write_at(at as u64, &[n as u8; 50]).unwrap();
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
            file.write_at(n % 7 * BLOCK, b"x").unwrap();
            file.set_size([0, BLOCK, 3][n as usize % 3]).unwrap();
            if n % 5 == 0 {
                file.set_size(1_000 * BLOCK).unwrap();
                file.write_at(n * 31 % 997 * BLOCK, b"y").unwrap();
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
    file.write_at(10 * chunk, b"x").unwrap();
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
fn how_a_file_is_held_is_no_difference() {
    let bytes = noise(5, 10 * BLOCK_BYTES + 17);
    let fs = Fs::new(&Image::empty());
    let file = open(&fs, "f");
    file.write_at(0, &bytes).unwrap();
    file.write_at(3 * BLOCK, &[0; BLOCK_BYTES]).unwrap();
    let unsealed = fs.snapshot();
    drop(file);
    let sealed = fs.snapshot();
    assert!(edits(&unsealed, &sealed).is_empty());
    assert!(edits(&sealed, &unsealed).is_empty());
    // Sealed and cut apart into blocks again, then put back as it was.
    let file = open(&fs, "f");
    file.set_size(4 * BLOCK).unwrap();
    file.write_at(4 * BLOCK, &bytes[4 * BLOCK_BYTES..]).unwrap();
    assert!(edits(&unsealed, &fs.snapshot()).is_empty());
    assert!(edits(&sealed, &fs.snapshot()).is_empty());
    // Grown to the largest size, and one byte of it changed: in each way.
    for state in [&unsealed, &sealed] {
        let fork = state.fork();
        let file = open(&fork, "f");
        file.set_size(MAX).unwrap();
        file.write_at(5 * BLOCK + 9, b"?").unwrap();
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
