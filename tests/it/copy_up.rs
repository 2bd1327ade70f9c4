//! Copy-up, merging, dedup and concurrency: attacks 81 to 110 as far as they
//! need no store.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::layer::LayerBuilder;
use stratafs::limits::CHUNK_BYTES;
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::vfs::{Access, Follow, Fs, OpenFlags, SetTime};

use crate::support::generator::{Generator, Lookout};
use crate::support::reference::Model;
use crate::support::rng::Rng;
use crate::support::subject::Subject;
use crate::support::tree::{
    bytes, edit, fs, image, is_gone, make, names, pattern, remove_tree, stat, text_of, tree, view,
};

/// A layer with one file of these bytes.
fn one_file(pool: &ChunkPool, content: &[u8]) -> Image {
    let mut layer = LayerBuilder::new();
    let path = LayerPath::parse(b"f").unwrap();
    layer
        .file(
            &path,
            Meta::with_mode(0o644),
            ContentBuilder::of(pool, content),
        )
        .unwrap();
    Image::new(&[layer.finish().unwrap()]).unwrap()
}

#[cfg(feature = "dir")]
#[test]
fn case_c3_81_a_thousand_races_with_the_host_tear_no_read() {
    use stratafs::source::{SourceOptions, dir_ambient};
    let host = tempfile::tempdir().unwrap();
    let file = host.path().join("f");
    let content = pattern(0, 100_000);
    std::fs::write(&file, &content).unwrap();
    let layer = dir_ambient(&ChunkPool::new(), host.path(), &SourceOptions::default()).unwrap();
    let fs = Fs::new(&Image::new(&[layer]).unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0_u32.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                match round % 3 {
                    0 => std::fs::write(&file, vec![b'x'; 150_000]).unwrap(),
                    1 => std::fs::write(&file, "").unwrap(),
                    _ => drop(std::fs::remove_file(&file)),
                }
            }
        });
        let open = view(&fs.root().unwrap(), "f");
        for _ in 0..1000 {
            assert!(bytes(&open) == content);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn case_c4_89_a_reader_sees_what_another_descriptor_writes() {
    let fs = fs(&["f * 70000\n g == f"]);
    let root = fs.root().unwrap();
    let reader = view(&root, "f");
    let mut want = pattern(0, 70_000);
    let writer = edit(&root, "g");
    for at in [0, 4095, 65_535, 69_999] {
        writer.write_at(b"!", at).unwrap();
        want[at as usize] = b'!';
        assert!(bytes(&reader) == want);
    }
    writer.append(b"tail").unwrap();
    want.extend(b"tail");
    assert!(bytes(&reader) == want);
    writer.set_size(10).unwrap();
    assert!(bytes(&reader) == want[..10]);
}

#[test]
fn case_c4_90_64_threads_copy_one_file_up_once() {
    for round in 0..20 {
        let fs = fs(&["f * 262144"]);
        let id = stat(&fs.root().unwrap(), "f").id;
        let start = Barrier::new(64);
        std::thread::scope(|scope| {
            for n in 0..64_u64 {
                let (fs, start) = (&fs, &start);
                scope.spawn(move || {
                    let file = edit(&fs.root().unwrap(), "f");
                    start.wait();
                    file.write_at(&[0], n * 4096 + round).unwrap();
                    assert_eq!(file.id(), id);
                });
            }
        });
        let mut want = pattern(0, 262_144);
        (0..64).for_each(|n| want[n * 4096 + round as usize] = 0);
        assert!(
            bytes(&view(&fs.root().unwrap(), "f")) == want,
            "a write was lost"
        );
        assert_eq!(fs.usage().private_bytes, 262_144);
        assert_eq!(tree(&fs).lines().count(), 1);
    }
}

#[test]
fn case_c4_91_copy_up_by_one_of_three_names() {
    let fs = fs(&["a/\n a/x = text\n y == a/x", "z == y"]);
    let root = fs.root().unwrap();
    assert_eq!(stat(&root, "z").nlink, 3);
    edit(&root, "y").write_at(b"!", 4).unwrap();
    for name in ["a/x", "y", "z"] {
        assert_eq!(
            (text_of(&root, name), stat(&root, name).nlink),
            ("text!".into(), 3)
        );
    }
    root.unlink_at(b"a/x").unwrap();
    root.rename_at(b"y", &root, b"a/y").unwrap();
    assert_eq!(
        (stat(&root, "a/y"), stat(&root, "z").nlink),
        (stat(&root, "z"), 2)
    );
}

#[test]
fn case_c4_92_numbers_are_unique_across_layers_and_stay() {
    let fs = fs(&["a = 1\n d/\n d/b = 2", "c = 3\n d/e = 4", "f = 5\n a = 6"]);
    let root = fs.root().unwrap();
    let paths = ["a", "d", "d/b", "c", "d/e", "f", "."];
    let before = paths.map(|path| stat(&root, path).id);
    let mut unique = before.to_vec();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), paths.len());
    for path in ["a", "d/b", "c", "d/e", "f"] {
        edit(&root, path).write_at(b"x", 0).unwrap();
    }
    drop(make(&root, "d/new", ""));
    assert_eq!(paths.map(|path| stat(&root, path).id), before);
}

#[test]
fn case_c4_93_removed_made_again_removed_again_renamed_into() {
    let fs = fs(&["d/\n d/low = low\n other/\n other/in = in", "d/high = high"]);
    let root = fs.root().unwrap();
    for _ in 0..3 {
        remove_tree(&root, "d");
        assert!(is_gone(&root, "d/low") && is_gone(&root, "d/high"));
        root.create_dir_at(b"d").unwrap();
        assert!(names(&view(&root, "d")).is_empty());
        drop(make(&root, "d/own", ""));
    }
    remove_tree(&root, "d");
    root.rename_at(b"other", &root, b"d").unwrap();
    assert_eq!(tree(&fs), "d/\nd/in = in\n");
    let diff = fs.diff(&ChunkPool::new()).unwrap();
    let layers: Vec<_> = fs.image().layers().iter().cloned().chain([diff]).collect();
    assert_eq!(tree(&Fs::new(&Image::new(&layers).unwrap())), tree(&fs));
}

#[test]
fn case_c4_94_a_large_directory_is_renamed_without_a_copy() {
    let lower: String = (0..2000).map(|n| format!("d/f{n} * 5000\n")).collect();
    let fs = fs(&[&format!("d/\n{lower}"), "d/one = more"]);
    let root = fs.root().unwrap();
    for _ in 0..1000 {
        root.rename_at(b"d", &root, b"e").unwrap();
        root.rename_at(b"e", &root, b"d").unwrap();
    }
    assert_eq!((fs.usage().private_bytes, fs.usage().inodes), (0, 0));
    root.rename_at(b"d", &root, b"e").unwrap();
    assert_eq!(names(&view(&root, "e")).len(), 2001);
    assert!(bytes(&view(&root, "e/f77")) == pattern(0, 5000));
}

#[test]
fn case_c4_95_listings_after_renames_show_names_only() {
    let fs = fs(&["d/\n d/a = a\n d/b = b\n d/c = c\n d/e = e"]);
    let root = fs.root().unwrap();
    let dir = view(&root, "d");
    let cookie = dir.read_dir(0, 1).unwrap()[0].next;
    root.rename_at(b"d/a", &root, b"d/z").unwrap();
    root.unlink_at(b"d/b").unwrap();
    root.rename_at(b"d/e", &root, b"d/c").unwrap();
    // `z` and the new `c` came after the listing began.
    assert_eq!(dir.read_dir(cookie, usize::MAX), Ok(Vec::new()));
    assert_eq!(names(&dir), ["z", "c"]);
    assert_eq!(text_of(&root, "d/c"), "e");
}

#[test]
fn case_c4_96_a_copy_up_that_fails_changes_nothing() {
    let image = image(&["f * 10000 [600 5.0]\n g == f\n d/\n d/x = x"]);
    let fs = Fs::builder(&image).max_bytes(4095).max_inodes(0).build();
    let root = fs.root().unwrap();
    let state = || {
        let stats = ["f", "g", "d", "d/x", "."].map(|path| stat(&root, path));
        (
            tree(&fs),
            stats,
            (
                fs.usage().private_bytes,
                fs.usage().inodes,
                fs.usage().links,
            ),
        )
    };
    let before = state();
    // A whole block of the base would have to be held: 4,096 bytes.
    assert_eq!(edit(&root, "f").write_at(b"x", 0), Err(Errno::NoSpace));
    assert_eq!(
        edit(&root, "g").write_at(&[0; 4096], 4096),
        Err(Errno::NoSpace)
    );
    assert_eq!(root.link_at(b"f", &root, b"d/f"), Err(Errno::NoSpace));
    assert_eq!(root.symlink_at(b"f", b"d/l"), Err(Errno::NoSpace));
    assert_eq!(state(), before);
    let diff = fs.diff(&ChunkPool::new()).unwrap();
    assert_eq!(diff.node_count(), 1, "nothing to tell: {diff:?}");
    // The last block is shorter and fits.
    assert_eq!(edit(&root, "f").write_at(b"x", 9000), Ok(1));
}

#[test]
fn case_c4_98_dropping_one_instance_leaves_the_others() {
    let pool = ChunkPool::new();
    let image = one_file(&pool, &pattern(0, 100_000));
    let instances: Vec<Fs> = (0..1000).map(|_| Fs::new(&image)).collect();
    for (n, fs) in instances.iter().enumerate() {
        let root = fs.root().unwrap();
        edit(&root, "f").write_at(b"mine", n as u64).unwrap();
        drop(make(&root, &format!("own{n}"), "own"));
    }
    let (gone, kept): (Vec<_>, Vec<_>) = instances
        .into_iter()
        .enumerate()
        .partition(|(n, _)| n % 2 == 0);
    drop(gone);
    for (n, fs) in &kept {
        let root = fs.root().unwrap();
        let mut want = pattern(0, 100_000);
        want[*n..n + 4].copy_from_slice(b"mine");
        assert!(bytes(&view(&root, "f")) == want);
        assert_eq!(names(&root), ["f".to_owned(), format!("own{n}")]);
    }
    assert_eq!(
        bytes(&view(&Fs::new(&image).root().unwrap(), "f")),
        pattern(0, 100_000)
    );
    drop((kept, image));
    assert!(pool.is_empty());
}

#[test]
fn case_c5_102_churn_leaves_exactly_what_is_held() {
    const ROUNDS: u64 = 10_000_000;
    let pool = ChunkPool::new();
    let threads = 4;
    let mut held: Vec<Vec<_>> = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|seed| {
                let pool = &pool;
                scope.spawn(move || {
                    let mut rng = Rng::new(seed);
                    let mut held: Vec<Option<_>> = vec![None; 64];
                    for _ in 0..ROUNDS / threads {
                        let number = rng.below(500) as u64;
                        let slot = rng.below(held.len());
                        // Putting, cloning, dropping: all change counts.
                        held[slot] = match rng.below(4) {
                            0 => None,
                            1 => held[rng.below(64)].clone(),
                            _ => {
                                let bytes = number.to_le_bytes();
                                Some(pool.put(bytes::Bytes::copy_from_slice(&bytes)))
                            }
                        };
                    }
                    held.into_iter().flatten().collect()
                })
            })
            .collect();
        held.extend(workers.into_iter().map(|worker| worker.join().unwrap()));
    });
    let mut digests: Vec<_> = held.iter().flatten().map(|chunk| chunk.digest()).collect();
    digests.sort();
    digests.dedup();
    assert_eq!(
        (pool.len(), pool.count_held_bytes()),
        (digests.len(), digests.len() as u64 * 8)
    );
    drop(held);
    assert_eq!((pool.len(), pool.count_held_bytes()), (0, 0));
}

#[test]
fn case_c5_108_nothing_tells_what_other_instances_hold() {
    let pool = ChunkPool::new();
    let image = one_file(&pool, b"base");
    let secret = vec![0x5e; 3 * CHUNK_BYTES];
    let observe = |fs: &Fs| {
        let root = fs.root().unwrap();
        let file = make(&root, "guess", "");
        file.write_at(&secret, 0).unwrap();
        let now = SetTime::To(stratafs::meta::Time::EPOCH);
        file.set_times(now, now).unwrap();
        let stats = [stat(&root, "guess"), stat(&root, "f")];
        let numbers = stats.map(|stat| (stat.id, stat.nlink, stat.size));
        (numbers, fs.usage(), names(&root))
    };
    let alone = observe(&Fs::new(&image));
    let others: Vec<Fs> = (0..100).map(|_| Fs::new(&image)).collect();
    for fs in &others {
        make(&fs.root().unwrap(), "secret", "")
            .write_at(&secret, 0)
            .unwrap();
    }
    assert_eq!(observe(&Fs::new(&image)), alone);
}

#[test]
fn case_c5_109_no_content_makes_more_chunks_than_its_length() {
    // One byte in each chunk: the worst that content can do at fixed cuts.
    let pool = ChunkPool::new();
    let mut builder = ContentBuilder::new(&pool);
    let chunks = 1000;
    for n in 0..chunks {
        builder.write(&(n as u32 + 1).to_le_bytes());
        builder.hole(CHUNK_BYTES as u64 - 4);
    }
    let content = builder.finish();
    assert_eq!(content.size(), chunks * CHUNK_BYTES as u64);
    assert_eq!(content.chunks().count() as u64, chunks);
    // Nor do alternating bytes and zeros.
    let mixed = ContentBuilder::of(&pool, &[1, 0].repeat(5 * CHUNK_BYTES));
    assert_eq!(mixed.chunks().count(), 10);
}

#[test]
fn case_c5_110_64_threads_on_shared_instances_do_not_deadlock() {
    const OPS: usize = 1_000_000;
    const THREADS: usize = 64;
    let generator = |seed| Generator::new(seed, false);
    let mut first = generator(1);
    let start = crate::support::twin::Start::random(&mut first);
    let image = start.image().unwrap();
    let before = image.digest();
    // A model that does nothing makes paths; the instances are shared by four.
    let idle = Model::over(&start.layers, start.quota);
    let shared: Vec<Fs> = (0..THREADS / 4).map(|_| Fs::new(&image)).collect();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (fs, idle) = (&shared[thread % shared.len()], &idle);
            scope.spawn(move || {
                let mut generator = generator(thread as u64 + 100);
                let mut subject = Subject::on(fs.clone()).shared();
                for _ in 0..OPS / THREADS {
                    let op = generator.next(idle as &dyn Lookout);
                    // Others change the tree meanwhile: any errno is right.
                    drop(subject.apply(&op));
                }
            });
        }
    });
    for fs in &shared {
        assert_eq!(fs.usage().open, 0);
        assert_eq!(fs.check(), Ok(()));
    }
    assert_eq!(image.digest(), before);
}

#[test]
fn case_c5_110_a_panic_in_the_middle_of_an_embedders_work_poisons_nothing() {
    let image = image(&["a = a\n b = b"]);
    let (one, two) = (Fs::new(&image), Fs::new(&image));
    let root = one.root().unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        one.attempt(|_| -> Result<(), stratafs::Error> { panic!("the embedder's work gives up") })
    }));
    assert!(panicked.is_err());
    edit(&root, "a").write_at(b"A", 0).unwrap();
    assert_eq!(tree(&one), "a = A\nb = b\n");
    assert_eq!(tree(&two), "a = a\nb = b\n");
    let flags = OpenFlags::CREATE;
    root.open_at(Follow::Yes, b"new", flags, Access::WRITE)
        .unwrap();
    assert_eq!(names(&root), ["a", "b", "new"]);
}
