//! States of live instances: fork, snapshot, restore.

use std::sync::atomic::Ordering;

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::vfs::{Access, Change, Descriptor, Follow, Fs, OpenFlags, Sealing, Share, Snapshot};

use crate::support::rng::runs;
use crate::support::twin::{SPILLED, herd};

fn base() -> Image {
    let pool = ChunkPool::new();
    let mut layer = Layer::builder();
    for (path, bytes) in [("d/a", "alpha"), ("d/b", "beta"), ("e/c", "gamma")] {
        let path = LayerPath::parse(path.as_bytes()).unwrap();
        let content = ContentBuilder::of(&pool, bytes.as_bytes());
        layer.file(&path, Meta::with_mode(0o644), content).unwrap();
    }
    Image::new(&[layer.finish().unwrap()]).unwrap()
}

fn open(fs: &Fs, path: &str) -> Descriptor {
    fs.root()
        .unwrap()
        .open_at(
            Follow::Yes,
            path.as_bytes(),
            OpenFlags::CREATE,
            Access::READ | Access::WRITE,
        )
        .unwrap()
}

fn bytes(file: &Descriptor) -> Vec<u8> {
    file.read_bytes(0, 1 << 20).unwrap().to_vec()
}

#[test]
fn states_agree_with_their_models() {
    let (mut forks, mut restores) = (0, 0);
    let runs = runs("STRATAFS_RUNS", 400);
    for seed in 0..runs {
        let (more, again) = herd(0x11ae << 32 | seed, 400);
        forks += more;
        restores += again;
    }
    let few = usize::try_from(runs).unwrap();
    assert!(forks > few && restores > few / 2, "{forks} {restores}");
    let spilled = SPILLED.load(Ordering::Relaxed);
    assert!(spilled > 100_000 || cfg!(not(target_os = "linux")));
}

#[test]
fn case_p21_a_fork_with_open_files_diverges_from_its_parent() {
    let fs = Fs::new(&base());
    let (kept, gone) = (open(&fs, "new"), open(&fs, "d/a"));
    kept.write_at(b"before", 0).unwrap();
    gone.write_at(b"!", 5).unwrap();
    fs.remove_file("/d/a").unwrap();
    let (fork, twins) = fs.fork_with(&[&kept, &gone]).unwrap();
    let bare = fs.fork();
    for one in [&fs, &fork, &bare] {
        one.check().unwrap();
    }
    kept.write_at(b"parent", 0).unwrap();
    twins[0].write_at(b"child!", 0).unwrap();
    gone.append(b"parent").unwrap();
    twins[1].append(b"child").unwrap();
    assert_eq!(
        (bytes(&kept), bytes(&twins[0])),
        (b"parent".into(), b"child!".into())
    );
    assert_eq!(bytes(&gone), b"alpha!parent");
    assert_eq!(bytes(&twins[1]), b"alpha!child");
    assert_eq!(bare.read("/new").unwrap(), b"before");
    assert_eq!(bare.usage().private_bytes, 6);
    assert_eq!((kept.id(), gone.id()), (twins[0].id(), twins[1].id()));
    drop((kept, gone));
    assert_eq!(bytes(&twins[1]), b"alpha!child");
    assert_eq!(fs.usage().private_bytes, 6);
    drop(twins);
    assert_eq!(fork.usage().private_bytes, 6);
    for one in [&fs, &fork, &bare] {
        one.check().unwrap();
    }
}

#[test]
fn case_p21_a_fork_sees_a_prefix_of_what_threads_write() {
    let whole = Fs::new(&base());
    let fs = &whole;
    let over = std::sync::atomic::AtomicBool::new(false);
    let done = &over;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u8)
            .map(|writer| {
                scope.spawn(move || {
                    let log = open(fs, &format!("log{writer}"));
                    for number in 0..2000u32 {
                        // Two files, one after the other: never the second ahead.
                        log.append(&number.to_le_bytes()).unwrap();
                        fs.write(format!("/last{writer}"), number.to_le_bytes())
                            .unwrap();
                    }
                })
            })
            .collect();
        let reader = scope.spawn(move || {
            let mut seen = 0;
            while !done.load(std::sync::atomic::Ordering::Acquire) || seen == 0 {
                let fork = fs.fork();
                fork.check().unwrap();
                for writer in 0..3 {
                    let log = fork.read(format!("/log{writer}")).unwrap_or_default();
                    assert_eq!(log.len() % 4, 0, "half an append");
                    let last = fork.read(format!("/last{writer}")).unwrap_or_default();
                    if let Ok(last) = last.try_into() {
                        assert!(u32::from_le_bytes(last) < log.len() as u32 / 4);
                    }
                }
                seen += 1;
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        reader.join().unwrap();
    });
}

#[test]
fn case_p16_appends_with_forks_between_show_in_the_later_ones() {
    let fs = Fs::new(&base());
    let log = open(&fs, "log");
    log.write_at(&vec![1; 1 << 20], 0).unwrap();
    let forks: Vec<Fs> = (0..100)
        .map(|_| {
            log.append(b"x").unwrap();
            fs.fork()
        })
        .collect();
    for (made, fork) in (1..).zip(&forks) {
        assert_eq!(fork.metadata("/log").unwrap().size, (1 << 20) + made);
    }
}

#[test]
fn case_p27_a_tree_of_1000_forks_leaves_what_the_last_holds() {
    let root = Fs::new(&base());
    root.write("/f", vec![7; 100_000]).unwrap();
    let mut forks = vec![root];
    for number in 1..1000usize {
        let fork = forks[number / 2].fork();
        fork.write(format!("/own{number}"), number.to_string())
            .unwrap();
        forks.push(fork);
    }
    // Fork 999 comes of 499, 249, 124, 62, 31, 15, 7, 3, 1 and the root.
    let last = forks.pop().unwrap();
    drop(forks);
    last.check().unwrap();
    let own: Vec<String> = last
        .read_dir("/")
        .unwrap()
        .into_iter()
        .map(|entry| entry.to_string())
        .filter(|name| name.contains("own"))
        .collect();
    assert_eq!(own.len(), 10, "{own:?}");
    assert_eq!(last.read("/f").unwrap(), vec![7; 100_000]);
}

#[test]
fn forks_and_restores_know_what_is_not_sealed_yet() {
    let image = Image::empty();
    let twins = |share| {
        let fs = Fs::builder(&image).share(share);
        let fs = fs.sealing(Sealing::OnDemand).build();
        for path in ["/one", "/two"] {
            fs.write(path, vec![7; 1 << 16]).unwrap();
        }
        fs
    };
    let held = |fs: &Fs| fs.usage().private_bytes;
    let fs = twins(Share::Own);
    let before = fs.snapshot();
    let mut forks = vec![fs.fork(), before.fork(), fs.fork_with(&[]).unwrap().0];
    assert!(fs.seal() > 0);
    fs.restore(&before).unwrap();
    forks.push(fs);
    for fs in forks {
        assert_eq!(held(&fs), 2 << 16);
        assert!(fs.seal() >= 1 << 16, "what was written before is sealed");
        assert!(held(&fs) <= 1 << 16);
        assert_eq!((fs.seal(), fs.check()), (0, Ok(())));
        assert_eq!(fs.read("/two").unwrap(), vec![7; 1 << 16]);
    }
    // A state of an instance that seals taken over by one that never does.
    let (never, late) = (twins(Share::None), twins(Share::Own));
    let state = late.snapshot();
    never.restore(&state).unwrap();
    late.restore(&never.snapshot()).unwrap();
    assert_eq!((never.seal(), late.seal()), (0, 0));
}

#[test]
fn what_a_merge_brought_is_sealed_with_the_rest() {
    let fs = Fs::builder(&Image::empty());
    let ours = fs.sealing(Sealing::OnDemand).build();
    ours.write("/both", vec![1; 1 << 16]).unwrap();
    ours.write("/theirs", vec![2; 1 << 16]).unwrap();
    assert!(ours.seal() > 0);
    let base = ours.snapshot();
    let theirs = base.fork();
    theirs.write("/new", vec![7; 1 << 16]).unwrap();
    theirs.write("/theirs", vec![8; 1 << 16]).unwrap();
    for (fs, block) in [(&theirs, 1), (&ours, 9)] {
        let file = open(fs, "both");
        file.write_at(&[7; 8192], block * 4096).unwrap();
    }
    ours.merge(&base, &theirs.snapshot()).unwrap();
    ours.check().unwrap();
    let private = ours.usage().private_bytes;
    // One block of each content is left, and one of ones.
    assert_eq!(ours.seal(), private - 3 * 4096);
    assert_eq!(ours.usage().private_bytes, 3 * 4096);
    assert_eq!((ours.seal(), ours.check()), (0, Ok(())));
    assert_eq!(ours.read("/new").unwrap(), vec![7; 1 << 16]);
}

#[test]
fn deterministic_forks_repeat_whatever_others_do() {
    let run = |busy: bool| {
        let fs = Fs::builder(&Image::empty()).deterministic().build();
        fs.write("/before", "x").unwrap();
        let snapshot = fs.snapshot();
        let (fork, late) = (fs.fork(), snapshot.fork());
        if busy {
            for number in 0..7 {
                fs.write(format!("/{number}"), "x").unwrap();
                late.write(format!("/{number}"), "x").unwrap();
            }
        }
        let other = snapshot.fork();
        for fs in [&fork, &other] {
            fs.write("/after", "x").unwrap();
        }
        let time = |fs: &Fs| fs.metadata("/after").unwrap().mtime;
        assert!(time(&fork) > fs.metadata("/before").unwrap().mtime);
        (time(&fork), time(&other))
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn restore_keeps_descriptors_whose_object_is_there() {
    let fs = Fs::new(&base());
    let (old, unlinked) = (open(&fs, "old"), open(&fs, "unlinked"));
    old.write_at(b"one", 0).unwrap();
    unlinked.write_at(b"alive", 0).unwrap();
    fs.remove_file("/unlinked").unwrap();
    let before = fs.snapshot();
    old.write_at(b"two!", 0).unwrap();
    let young = open(&fs, "young");
    let base_file = open(&fs, "d/b");
    fs.remove_dir_all("/d").unwrap();
    let after = fs.snapshot();
    fs.restore(&before).unwrap();
    fs.check().unwrap();
    assert_eq!(
        (bytes(&old), bytes(&unlinked)),
        (b"one".into(), b"alive".into())
    );
    assert_eq!(bytes(&base_file), b"beta");
    assert_eq!(young.stat().unwrap_err(), Errno::BadDescriptor);
    assert_eq!(young.write_at(b"x", 0).unwrap_err(), Errno::BadDescriptor);
    assert!(fs.read("/young").is_err());
    // What is made now takes no number that was given before.
    assert!(open(&fs, "younger").id() > young.id());
    drop(base_file);
    fs.restore(&after).unwrap();
    fs.check().unwrap();
    assert_eq!((bytes(&old), bytes(&young)), (b"two!".into(), Vec::new()));
    drop((old, unlinked, young));
    fs.check().unwrap();
    assert_eq!(fs.usage().private_bytes, 4);
}

#[test]
fn restore_of_a_base_file_freed_in_that_state_is_no_resurrection() {
    let fs = Fs::new(&base());
    let before = fs.snapshot();
    fs.remove_file("/d/a").unwrap();
    let without = fs.snapshot();
    fs.restore(&before).unwrap();
    let file = open(&fs, "d/a");
    fs.restore(&without).unwrap();
    assert_eq!(
        file.read_at(&mut [0; 8], 0).unwrap_err(),
        Errno::BadDescriptor
    );
    assert_eq!(file.write_at(b"x", 0).unwrap_err(), Errno::BadDescriptor);
    fs.check().unwrap();
}

#[test]
fn errors_of_restore_in_order() {
    let image = base();
    let fs = Fs::new(&image);
    fs.write("/f", vec![1; 5000]).unwrap();
    let big = fs.snapshot();
    let fixed = Fs::builder(&image).read_only().build();
    assert_eq!(fixed.restore(&big).unwrap_err(), Errno::ReadOnly);
    let other = Fs::new(&base());
    assert_eq!(other.restore(&big).unwrap_err(), Errno::CrossDevice);
    // P18: the quota holds for restores too.
    let small = Fs::builder(&image).max_bytes(4999).build();
    assert_eq!(small.restore(&big).unwrap_err(), Errno::NoSpace);
    let exact = Fs::builder(&image).max_bytes(5000).build();
    exact.restore(&big).unwrap();
    assert_eq!(exact.usage().private_bytes, 5000);
    // The same number was given to two objects: a descriptor must not turn.
    let (one, two) = (Fs::new(&image), Fs::new(&image));
    let file = open(&one, "mine");
    assert_eq!(file.id(), open(&two, "yours").id());
    assert_eq!(one.restore(&two.snapshot()).unwrap_err(), Errno::Busy);
    drop(file);
    one.restore(&two.snapshot()).unwrap();
    assert!(one.read("/yours").is_ok() && one.read("/mine").is_err());
    one.check().unwrap();
}

#[test]
fn errors_of_fork_with_in_order() {
    let (fs, other) = (Fs::new(&base()), Fs::new(&base()));
    let foreign = other.root().unwrap();
    assert_eq!(fs.fork_with(&[&foreign]).unwrap_err(), Errno::CrossDevice);
    let before = fs.snapshot();
    let file = open(&fs, "f");
    fs.restore(&before).unwrap();
    let root = fs.root().unwrap();
    assert_eq!(
        fs.fork_with(&[&root, &file]).unwrap_err(),
        Errno::BadDescriptor
    );
    let tight = Fs::builder(&base()).max_open(2).build();
    let root = tight.root().unwrap();
    assert_eq!(
        tight.fork_with(&[&root, &root, &root]).unwrap_err(),
        Errno::TooManyOpen
    );
    assert_eq!(tight.fork_with(&[&root, &root]).unwrap().1.len(), 2);
}

fn told(one: &Snapshot, two: &Snapshot) -> Vec<String> {
    let changes = one.changes_to(two).unwrap();
    changes
        .iter()
        .map(|change| match change {
            Change::Added { path, .. } => format!("+{path}"),
            Change::Removed { path, .. } => format!("-{path}"),
            Change::Renamed { from, to, .. } => format!("{from}>{to}"),
            Change::Content {
                path, ranges, size, ..
            } => format!("{path} {ranges:?} of {size}"),
            Change::Meta { path, .. } => format!("{path} meta"),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn changes_name_what_came_went_moved_and_changed() {
    let image = base();
    let fs = Fs::new(&image);
    let first = Snapshot::of(&image);
    assert!(told(&first, &fs.snapshot()).is_empty());
    fs.write("/new", vec![1; 10_000]).unwrap();
    fs.rename("/d", "/moved").unwrap();
    fs.remove_file("/moved/a").unwrap();
    open(&fs, "moved/b").write_at(b"E", 1).unwrap();
    let second = fs.snapshot();
    assert_eq!(
        told(&first, &second),
        ["-d/a", "d>moved", "moved/b [0..4] of 4", "+new"]
    );
    open(&fs, "new").write_at(b"x", 4096).unwrap();
    fs.hard_link("/new", "/also").unwrap();
    assert_eq!(
        told(&second, &fs.snapshot()),
        ["+also", "new [4096..8192] of 10000"]
    );
    // Backwards it reads the other way round.
    assert_eq!(
        told(&second, &first),
        ["moved>d", "+d/a", "d/b [0..4] of 4", "-new"]
    );
    // What two forks made apart are two objects of one name and number.
    let (one, two) = (first.fork(), first.fork());
    open(&one, "mine");
    open(&two, "mine");
    assert_eq!(told(&one.snapshot(), &two.snapshot()), ["-mine", "+mine"]);
    let other = Snapshot::of(&base());
    assert_eq!(first.changes_to(&other).unwrap_err(), Errno::CrossDevice);
}
