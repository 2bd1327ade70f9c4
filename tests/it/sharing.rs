//! Sealing, scopes and budgets: equal bytes are held once, and counted.

use stratafs::budget::Budget;
use stratafs::chunk::{ChunkPool, ContentBuilder, Scope};
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::limits::{
    BLOCK_BYTES, MAX_FILES_OF_ONE_SIZE, MIN_SCOPED_BYTES, OBJECT_BYTES, REMOVED_BYTES,
};
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::vfs::{Access, Follow, Fs, OpenFlags, Sealing, Share};

/// Bytes of which no block is like another.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes
}

fn base(files: &[(String, Vec<u8>)]) -> Image {
    let pool = ChunkPool::new();
    let mut layer = Layer::builder();
    for (path, bytes) in files {
        let path = LayerPath::parse(path.as_bytes()).unwrap();
        let content = ContentBuilder::of(&pool, bytes);
        layer.file(&path, Meta::with_mode(0o644), content).unwrap();
    }
    Image::new(&[layer.finish().unwrap()]).unwrap()
}

fn private(fs: &Fs) -> u64 {
    fs.usage().private_bytes
}

#[test]
fn copying_a_base_tree_costs_metadata_only() {
    let files: Vec<_> = (0..50)
        .map(|n| (format!("src/{n}"), noise(n, 3_000 * n as usize + 1)))
        .collect();
    let fs = Fs::new(&base(&files));
    for (path, bytes) in &files {
        let copy = path.replace("src", "copy");
        fs.create_dir_all("/copy").unwrap();
        fs.write(format!("/{copy}"), fs.read(format!("/{path}")).unwrap())
            .unwrap();
        assert_eq!(fs.read(format!("/{copy}")).unwrap(), *bytes);
    }
    let total: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let usage = fs.usage();
    assert_eq!((usage.private_bytes, usage.logical_bytes), (0, total));
    assert_eq!(usage.shared_bytes(), total);
    // A byte of a copy changed: one block, and the others stay the base's.
    let top = fs.root().unwrap();
    let access = Access::READ | Access::WRITE;
    let file = top
        .open_at(Follow::Yes, b"copy/40", OpenFlags::empty(), access)
        .unwrap();
    file.write_at(b"!", 5_000).unwrap();
    drop(file);
    assert_eq!(fs.usage().logical_bytes, total);
    assert_eq!(private(&fs), BLOCK_BYTES as u64);
    let mut want = files[40].1.clone();
    want[5_000] = b'!';
    assert_eq!(fs.read("/copy/40").unwrap(), want);
    assert_eq!(fs.read("/src/40").unwrap(), files[40].1);
    fs.check().unwrap();
    fs.remove_dir_all("/copy").unwrap();
    assert_eq!((private(&fs), fs.usage().logical_bytes), (0, 0));
}

#[test]
fn a_hundred_that_write_the_same_ten_mebibytes_hold_them_once() {
    let (scope, budget, image) = (Scope::new(), Budget::new(1 << 30), Image::empty());
    let bytes = noise(7, 10 << 20);
    let all: Vec<Fs> = (0..100)
        .map(|n| {
            let fs = Fs::builder(&image).share(&scope);
            let fs = fs.budget(&budget, &format!("guest {n}")).build();
            fs.write("/model", &bytes).unwrap();
            fs
        })
        .collect();
    assert_eq!(scope.held_bytes(), 10 << 20);
    // Each keeps a little memory for its next writes.
    assert!(budget.held_bytes() < (11 << 20) + 100 * (1 << 20));
    all.iter().for_each(Fs::shrink_to_fit);
    assert!(budget.held_bytes() < 11 << 20, "{budget:?}");
    assert_eq!((private(&all[0]), private(&all[99])), (10 << 20, 0));
    for fs in &all {
        assert_eq!(fs.usage().logical_bytes, 10 << 20);
        fs.check().unwrap();
    }
    assert_eq!(all[99].read("/model").unwrap(), bytes);
    let holders = budget.holders();
    assert_eq!(holders.len(), 100);
    assert_eq!(&*holders[99].label, "guest 99");
    let sum: u64 = holders.iter().map(|holder| holder.bytes).sum();
    assert_eq!(sum, budget.held_bytes());
    // Whoever goes, the bytes stay as long as anybody shows them.
    let mut all = all;
    drop(all.remove(0));
    assert_eq!(scope.held_bytes(), 10 << 20);
    assert_eq!(all[50].read("/model").unwrap(), bytes);
    drop(all);
    assert_eq!((scope.len(), scope.held_bytes()), (0, 0));
    assert_eq!((budget.held_bytes(), budget.holders().len()), (0, 0));
}

#[test]
fn case_p27_a_write_to_one_of_two_equal_files_leaves_the_other() {
    let fs = Fs::new(&Image::empty());
    let bytes = noise(1, 20_000);
    fs.write("/one", &bytes).unwrap();
    fs.write("/two", &bytes).unwrap();
    assert_eq!(private(&fs), 20_000);
    let top = fs.root().unwrap();
    let file = top
        .open_at(Follow::Yes, b"one", OpenFlags::empty(), Access::WRITE)
        .unwrap();
    drop(top);
    file.write_at(b"changed", 9_000).unwrap();
    file.set_size(15_000).unwrap();
    drop(file);
    assert_eq!(fs.read("/two").unwrap(), bytes);
    let mut want = bytes[..15_000].to_vec();
    want[9_000..9_007].copy_from_slice(b"changed");
    assert_eq!(fs.read("/one").unwrap(), want);
    assert_eq!(fs.usage().logical_bytes, 35_000);
    fs.check().unwrap();
    fs.remove_file("/one").unwrap();
    assert_eq!(fs.read("/two").unwrap(), bytes);
    fs.remove_file("/two").unwrap();
    assert!(fs.scope().is_empty());
    // As many forks as one likes, gone in any order.
    fs.write("/f", &bytes).unwrap();
    let mut forks: Vec<Fs> = (0..1_000).map(|_| fs.fork()).collect();
    for (n, fork) in forks.iter().enumerate().step_by(7) {
        fork.write("/f", noise(n as u64 + 9, 5_000)).unwrap();
        fork.check().unwrap();
    }
    while forks.len() > 1 {
        drop(forks.swap_remove(forks.len() / 2));
    }
    assert_eq!(fs.read("/f").unwrap(), bytes);
    let scope = fs.scope().clone();
    drop((fs, forks));
    assert_eq!((scope.len(), scope.held_bytes()), (0, 0));
}

#[test]
fn zeros_become_holes_and_still_count() {
    let fs = Fs::new(&Image::empty());
    fs.write("/zeros", vec![0; 100_000]).unwrap();
    assert_eq!((private(&fs), fs.usage().logical_bytes), (0, 100_000));
    assert!(fs.scope().is_empty());
    let mut part = noise(3, 30_000);
    part[4_096..12_288].fill(0);
    fs.write("/part", &part).unwrap();
    assert_eq!(private(&fs), 30_000 - 8_192);
    assert_eq!(fs.read("/part").unwrap(), part);
    let top = fs.root().unwrap();
    let file = top
        .open_at(
            Follow::Yes,
            b"part",
            OpenFlags::empty(),
            Access::READ | Access::WRITE,
        )
        .unwrap();
    assert_eq!(file.hole_at(4_096).unwrap(), 8_192);
    assert_eq!(file.hole_at(0).unwrap(), 0);
    file.write_at(b"x", 5_000).unwrap();
    drop(file);
    part[5_000] = b'x';
    assert_eq!(fs.read("/part").unwrap(), part);
    assert_eq!(private(&fs), 30_000 - 4_096);
    fs.check().unwrap();
}

#[test]
fn sealing_can_be_put_off_and_turned_off() {
    let (scope, image) = (Scope::new(), Image::empty());
    let make = |share, when| Fs::builder(&image).share(share).sealing(when).build();
    let (now, later, never) = (
        make(Share::from(&scope), Sealing::AtClose),
        make(Share::from(&scope), Sealing::OnDemand),
        make(Share::None, Sealing::AtClose),
    );
    let bytes = noise(5, 50_000);
    for fs in [&now, &later, &never] {
        fs.write("/f", &bytes).unwrap();
    }
    assert_eq!(scope.held_bytes(), 50_000);
    assert_eq!(
        (private(&now), private(&later), private(&never)),
        (50_000, 50_000, 50_000)
    );
    assert_eq!((later.seal(), never.seal()), (50_000, 0));
    assert_eq!((private(&later), private(&never)), (0, 50_000));
    // What is open is sealed too, and goes on.
    let top = later.root().unwrap();
    let file = top
        .open_at(Follow::Yes, b"g", OpenFlags::CREATE, Access::WRITE)
        .unwrap();
    file.write_at(&bytes[..8_192], 0).unwrap();
    assert_eq!(later.seal(), 8_192);
    file.write_at(b"mine", 100).unwrap();
    assert_eq!(private(&later), 4_096);
    drop(file);
    let mut want = bytes[..8_192].to_vec();
    want[100..104].copy_from_slice(b"mine");
    assert_eq!(later.read("/g").unwrap(), want);
    assert_eq!(later.seal(), 0);
    for fs in [&now, &later, &never] {
        assert_eq!(fs.read("/f").unwrap(), bytes);
        fs.check().unwrap();
    }
}

#[test]
fn case_68_quotas_do_not_depend_on_what_others_hold() {
    let (scope, image) = (Scope::new(), Image::empty());
    let make = || Fs::builder(&image).share(&scope).max_bytes(10_000).build();
    let bytes = noise(11, 9_000);
    for _ in 0..2 {
        let (one, two) = (make(), make());
        for fs in [&one, &two] {
            fs.write("/f", &bytes).unwrap();
            let error = fs.write("/g", &bytes[..1_001]).unwrap_err();
            assert_eq!(error.errno(), Errno::NoSpace);
            fs.remove_file("/g").unwrap();
            fs.write("/g", &bytes[..1_000]).unwrap();
            fs.remove_file("/f").unwrap();
            fs.write("/h", &bytes).unwrap();
        }
    }
}

#[test]
fn case_107_instances_without_a_scope_share_nothing_with_each_other() {
    let image = Image::empty();
    let (one, two) = (Fs::new(&image), Fs::new(&image));
    let secret = noise(13, 8_192);
    one.write("/secret", &secret).unwrap();
    two.write("/guess", &secret).unwrap();
    assert_eq!((private(&one), private(&two)), (8_192, 8_192));
    assert_eq!(
        (one.scope().held_bytes(), two.scope().held_bytes()),
        (8_192, 8_192)
    );
}

#[test]
fn small_files_are_compared_with_the_base_only() {
    let least = usize::try_from(MIN_SCOPED_BYTES).unwrap();
    let fs = Fs::new(&base(&[("b".to_owned(), noise(1, least - 1))]));
    for (path, seed, len, want) in [
        ("/b1", 1, least - 1, 0),
        ("/one", 2, least - 1, least - 1),
        ("/two", 2, least - 1, least - 1),
        ("/three", 3, least, least),
        ("/four", 3, least, 0),
    ] {
        let before = private(&fs);
        fs.write(path, noise(seed, len)).unwrap();
        assert_eq!(private(&fs) - before, want as u64, "{path}");
        assert_eq!(fs.read(path).unwrap(), noise(seed, len));
    }
    fs.check().unwrap();
}

#[test]
fn only_so_many_files_of_one_size_are_compared() {
    let files: Vec<_> = (0..MAX_FILES_OF_ONE_SIZE as u64 + 1)
        .map(|n| (format!("{n:04}"), noise(n + 100, 100)))
        .collect();
    let fs = Fs::new(&base(&files));
    fs.write("/first", &files[0].1).unwrap();
    fs.write("/at", &files[MAX_FILES_OF_ONE_SIZE - 1].1)
        .unwrap();
    assert_eq!(private(&fs), 0);
    fs.write("/past", &files[MAX_FILES_OF_ONE_SIZE].1).unwrap();
    assert_eq!(private(&fs), 100);
}

#[test]
fn a_budget_ends_writes_of_all_and_tells_who_holds_what() {
    let image = base(&[("f".to_owned(), noise(1, 9_000))]);
    let object = u64::from(OBJECT_BYTES);
    let budget = Budget::new(100_000);
    let make = |label: &str| Fs::builder(&image).budget(&budget, label).build();
    let (one, two) = (make("one"), make("two"));
    one.write("/a", noise(2, 60_000)).unwrap();
    // A block of more than half of a page takes a page.
    assert_eq!(budget.held_bytes(), 15 * 4_096 + 2 * object);
    let error = two.write("/b", noise(3, 60_000)).unwrap_err();
    assert_eq!(error.errno(), Errno::NoSpace);
    assert!(budget.held_bytes() <= budget.max_bytes());
    // Whole blocks went in until there was no room; removing makes room.
    let length = two.metadata("/b").unwrap().size;
    assert!(length > 20_000 && length % 4_096 == 0, "{length}");
    one.remove_file("/a").unwrap();
    two.write("/b", noise(3, 60_000)).unwrap();
    // What a fork shares is counted once.
    let held = budget.held_bytes();
    let fork = two.fork();
    assert_eq!(budget.held_bytes(), held);
    let labels: Vec<_> = budget.holders().into_iter().map(|one| one.label).collect();
    assert_eq!(labels, ["one".into(), "two".into(), Box::from("two")]);
    drop(two);
    // The fork keeps what the other made.
    assert_eq!(fork.read("/b").unwrap(), noise(3, 60_000));
    assert!(budget.held_bytes() > 60_000);
    drop((one, fork));
    assert_eq!((budget.held_bytes(), budget.holders().len()), (0, 0));
}

#[test]
fn a_full_budget_refuses_objects_and_lets_names_go() {
    let image = base(&[("d/f".to_owned(), b"text".to_vec())]);
    // A removed name of the base is remembered, which costs something.
    let budget = Budget::new(u64::from(OBJECT_BYTES) * 4 + u64::from(REMOVED_BYTES));
    let fs = Fs::builder(&image).budget(&budget, "it").build();
    // The directory counts as well, once something is made in it.
    for name in ["/d/a", "/d/b", "/d/c"] {
        fs.create_dir(name).unwrap();
    }
    let error = fs.create_dir("/d/e").unwrap_err();
    assert_eq!(error.errno(), Errno::NoSpace);
    fs.remove_dir("/d/b").unwrap();
    fs.remove_file("/d/f").unwrap();
    fs.create_dir("/d/e").unwrap();
    fs.check().unwrap();
}

#[test]
fn case_102_churn_on_threads_leaves_no_byte_behind() {
    let (scope, budget) = (Scope::new(), Budget::new(1 << 30));
    let image = base(&[("b".to_owned(), noise(0, 9_000))]);
    std::thread::scope(|threads| {
        for thread in 0..4_u64 {
            let (scope, budget, image) = (&scope, &budget, &image);
            threads.spawn(move || {
                let make = || Fs::builder(image).share(scope).budget(budget, "t").build();
                let mut fs = make();
                let mut kept = Vec::new();
                for round in 0..400_u64 {
                    let seed = (round * 7 + thread) % 5;
                    let path = format!("/f{}", round % 3);
                    let len = 1 + (round as usize * 977) % 40_000;
                    fs.write(&path, noise(seed, len)).unwrap();
                    assert_eq!(fs.read(&path).unwrap(), noise(seed, len));
                    match round % 11 {
                        3 => kept.push(fs.snapshot()),
                        5 => fs = fs.fork(),
                        7 if !kept.is_empty() => {
                            fs.restore(&kept[round as usize % kept.len()]).unwrap()
                        }
                        9 => kept.truncate(2),
                        10 if round % 4 == 0 => fs = make(),
                        _ => {}
                    }
                    fs.check().unwrap();
                }
            });
        }
    });
    assert_eq!((scope.len(), scope.held_bytes()), (0, 0));
    assert_eq!((budget.held_bytes(), budget.holders().len()), (0, 0));
}
