//! Merges of states that hold the same bytes in different ways: open, sealed,
//! shared with the base, sparse, brought in as a layer, many forks apart; and
//! merges in random runs, against the model in `support/merging.rs`.
//!
//! `STRATAFS_SEED=n` starts the random runs at that seed, which a failure prints;
//! `STRATAFS_RUNS=n` makes each test go on for that many.

use std::fmt::Write as _;

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::limits::MAX_FILE_BYTES;
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::vfs::{
    Access, Change, Conflict, Descriptor, Follow, Fs, MergeError, OpenFlags, Sealing, Share,
    Snapshot,
};

use crate::support::lineage::{Ends, grow};
use crate::support::rng::{Rng, from_env};
use crate::support::tree;

const MIB: usize = 1 << 20;

/// Runs in one test of merges against their model.
const MERGING_RUNS: u64 = 70;

/// Operations in one of them.
const MERGING_STEPS: usize = 400;

/// Text that is the same nowhere.
fn text(len: usize, salt: u8) -> Vec<u8> {
    let mut rng = Rng::new(u64::from(salt));
    (0..len).map(|_| rng.next() as u8 | 1).collect()
}

fn layer(path: &str, bytes: &[u8]) -> Layer {
    let mut layer = Layer::builder();
    let path = LayerPath::parse(path.as_bytes()).unwrap();
    let content = ContentBuilder::of(&ChunkPool::new(), bytes);
    layer.file(&path, Meta::with_mode(0o644), content).unwrap();
    layer.finish().unwrap()
}

fn open(fs: &Fs, path: &str) -> Descriptor {
    let access = Access::READ | Access::WRITE;
    let top = fs.root().unwrap();
    top.open_at(Follow::Yes, path.as_bytes(), OpenFlags::CREATE, access)
        .unwrap()
}

fn put(fs: &Fs, path: &str, offset: usize, bytes: &[u8]) {
    let (file, mut done) = (open(fs, path), 0);
    while done < bytes.len() {
        done += file
            .write_at(&bytes[done..], (offset + done) as u64)
            .unwrap();
    }
}

/// What a fork or an instance is like, but for inode numbers and times.
fn tree_text(fs: &Fs) -> String {
    let mut out = String::new();
    for object in tree::walk(fs) {
        let name = String::from_utf8_lossy(&object.path);
        let body = match &object.body {
            tree::Seen::Bytes(bytes) => {
                let digest = stratafs::digest::Digest::of(bytes);
                format!("{} {digest}", bytes.len())
            }
            other => format!("{other:?}"),
        };
        let _ = writeln!(
            out,
            "{name} {:o} {} {body}",
            object.stat.mode, object.stat.nlink
        );
    }
    out
}

/// Ways for a file of `bytes` to be in the common state. What is given back
/// stays open.
type Way = fn(&Fs, &[u8]) -> Option<Descriptor>;

const WAYS: &[(&str, Way)] = &[
    ("written and closed", |fs, bytes| {
        fs.write("/f", bytes).unwrap();
        None
    }),
    ("written and open", |fs, bytes| {
        let file = open(fs, "f");
        put(fs, "f", 0, bytes);
        Some(file)
    }),
    ("brought in by a layer", |fs, bytes| {
        fs.apply(b"/", &layer("f", bytes)).unwrap();
        None
    }),
    ("equal to a file of the base", |fs, bytes| {
        fs.write("/f", bytes).unwrap();
        fs.seal();
        None
    }),
    ("of the base", |fs, _| {
        fs.rename("/same", "/f").unwrap();
        None
    }),
];

/// What may be done to a state that changes no byte of it.
type Touch = fn(&Fs);

const TOUCHES: &[Touch] = &[
    |_| {},
    |fs| {
        fs.seal();
    },
    |fs| drop(open(fs, "f")),
    |fs| {
        // A byte written over with itself.
        let byte = fs.read("/f").unwrap()[5];
        put(fs, "f", 5, &[byte]);
        let stat = open(fs, "f").stat().unwrap();
        assert!(stat.size > 5);
    },
];

/// Whether and when what is written is sealed.
const WAYS_OF_SEALING: [(Share, Sealing); 3] = [
    (Share::Own, Sealing::AtClose),
    (Share::Own, Sealing::OnDemand),
    (Share::None, Sealing::AtClose),
];

#[test]
fn how_a_file_is_held_makes_no_difference_to_a_merge() {
    let bytes = text(MIB + 5000, 1);
    for (share, sealing) in WAYS_OF_SEALING {
        for (name, way) in WAYS {
            for (one, two) in (0..9).map(|at| (TOUCHES[at % 3], TOUCHES[at / 3])) {
                let image = Image::new(&[layer("same", &bytes)]).unwrap();
                let ours = Fs::builder(&image).share(share.clone()).sealing(sealing);
                let ours = ours.build();
                let kept = way(&ours, &bytes);
                let base = ours.snapshot();
                let theirs = base.fork();
                drop(kept);
                one(&ours);
                two(&theirs);
                let here = ours.snapshot();
                assert_eq!(base.changes_to(&here), Ok(vec![]), "{name}");
                assert_eq!(here.changes_to(&theirs.snapshot()), Ok(vec![]), "{name}");
                // One side removes what the other did not change.
                let (left, right) = (here.fork(), here.fork());
                theirs.remove_file("/f").unwrap();
                left.merge(&base, &theirs.snapshot()).unwrap();
                assert!(left.metadata("/f").is_err(), "{name}");
                right.remove_file("/f").unwrap();
                let unchanged = base.fork();
                two(&unchanged);
                right.merge(&base, &unchanged.snapshot()).unwrap();
                assert!(right.metadata("/f").is_err(), "{name}");
                left.check().unwrap();
                right.check().unwrap();
            }
        }
    }
}

#[test]
fn both_sides_edit_a_file_however_it_is_held() {
    let bytes = text(MIB + 5000, 2);
    for (share, sealing) in WAYS_OF_SEALING {
        for (name, way) in WAYS {
            for (one, two) in (0..16).map(|at| (TOUCHES[at % 4], TOUCHES[at / 4])) {
                let image = Image::new(&[layer("same", &bytes)]).unwrap();
                let ours = Fs::builder(&image).share(share.clone()).sealing(sealing);
                let ours = ours.build();
                let kept = way(&ours, &bytes);
                let base = ours.snapshot();
                let theirs = base.fork();
                one(&ours);
                two(&theirs);
                put(&ours, "f", 100, b"ours");
                put(&theirs, "f", 300_000, b"theirs");
                put(&theirs, "f", MIB + 5000, b"grown");
                one(&ours);
                two(&theirs);
                drop(kept);
                let mut want = bytes.clone();
                want[100..104].copy_from_slice(b"ours");
                want[300_000..300_006].copy_from_slice(b"theirs");
                want.extend_from_slice(b"grown");
                // Either way round.
                let (here, there) = (ours.snapshot(), theirs.snapshot());
                ours.merge(&base, &there).unwrap();
                theirs.merge(&base, &here).unwrap();
                for fs in [&ours, &theirs] {
                    fs.check().unwrap();
                    assert!(fs.read("/f").unwrap() == want, "{name}");
                }
            }
        }
    }
}

#[test]
fn holes_merge_as_holes_and_cost_nothing() {
    let huge = MAX_FILE_BYTES;
    for seal in [false, true] {
        let ours = Fs::builder(&Image::empty()).max_bytes(60_000).build();
        ours.write("/f", text(20_000, 3)).unwrap();
        let base = ours.snapshot();
        let theirs = base.fork();
        // Theirs cuts the end off and grows to 16 TiB, with a byte far out.
        open(&theirs, "f").set_size(8192).unwrap();
        open(&theirs, "f").set_size(huge).unwrap();
        put(&theirs, "f", 1 << 43, b"!");
        put(&ours, "f", 10, b"ours");
        if seal {
            ours.seal();
            theirs.seal();
        }
        let (here, there) = (ours.snapshot(), theirs.snapshot());
        ours.merge(&base, &there).unwrap();
        theirs.merge(&base, &here).unwrap();
        for fs in [&ours, &theirs] {
            fs.check().unwrap();
            assert_eq!(fs.metadata("/f").unwrap().size, huge);
            let file = open(fs, "f");
            assert_eq!(&file.read_bytes(10, 4).unwrap()[..], b"ours");
            assert_eq!(&file.read_bytes(1 << 43, 1).unwrap()[..], b"!");
            assert_eq!(&file.read_bytes(10_000, 100).unwrap()[..], [0; 100]);
            assert_eq!(fs.usage().logical_bytes, 8193, "seal: {seal}");
        }
        // A hole where both had bytes, and bytes of the other side behind it.
        let base = ours.snapshot();
        let theirs = base.fork();
        open(&theirs, "f").set_size(4096).unwrap();
        open(&theirs, "f").set_size(huge).unwrap();
        put(&ours, "f", 1 << 42, b"ours");
        ours.merge(&base, &theirs.snapshot()).unwrap();
        assert_eq!(ours.usage().logical_bytes, 4096 + 4);
        ours.check().unwrap();
        put(&ours, "f", 1 << 43, b"?");
    }
}

#[test]
fn a_hole_over_bytes_of_the_base_merges() {
    let bytes = text(50_000, 4);
    let image = Image::new(&[layer("f", &bytes)]).unwrap();
    let ours = Fs::new(&image);
    let base = ours.snapshot();
    let theirs = base.fork();
    open(&theirs, "f").set_size(10_000).unwrap();
    open(&theirs, "f").set_size(50_000).unwrap();
    put(&ours, "f", 0, b"ours");
    let (here, there) = (ours.snapshot(), theirs.snapshot());
    ours.merge(&base, &there).unwrap();
    theirs.merge(&base, &here).unwrap();
    let mut want = bytes;
    want[..4].copy_from_slice(b"ours");
    want[10_000..].fill(0);
    for fs in [&ours, &theirs] {
        assert!(fs.read("/f").unwrap() == want);
        assert_eq!(fs.usage().logical_bytes, 4096);
        fs.check().unwrap();
    }
}

#[test]
fn what_both_made_the_same_stays_as_it_is_held() {
    let image = Image::new(&[layer("f", &text(50_000, 7))]).unwrap();
    let ours = Fs::new(&image);
    let base = ours.snapshot();
    // Of the base less than a block shows still, and one block is sealed.
    open(&ours, "f").set_size(1_000).unwrap();
    put(&ours, "f", 40_960, &text(4_096, 8));
    let theirs = ours.fork();
    let before = ours.usage();
    ours.merge(&base, &theirs.snapshot()).unwrap();
    ours.check().unwrap();
    assert_eq!((before.logical_bytes, ours.usage()), (4_096, before));
}

#[test]
fn merges_go_up_through_many_levels_of_forks() {
    let root = Fs::new(&Image::empty());
    root.write("/log", text(3 * MIB, 5)).unwrap();
    root.create_dir("/level0").unwrap();
    // Each level forks the one above, and edits a block and a directory.
    let mut levels = vec![root];
    let mut bases = Vec::new();
    for level in 1..8usize {
        let above = &levels[level - 1];
        bases.push(above.snapshot());
        let fork = bases[level - 1].fork();
        put(
            &fork,
            "log",
            level * 100_000,
            format!("level {level}").as_bytes(),
        );
        fork.rename(format!("/level{}", level - 1), format!("/level{level}"))
            .unwrap();
        fork.write(format!("/level{level}/{level}"), "here")
            .unwrap();
        if level % 2 == 0 {
            fork.seal();
        }
        levels.push(fork);
    }
    // All of them have since changed another block.
    for (level, fs) in levels.iter().enumerate() {
        put(
            fs,
            "log",
            2_000_000 + level * 50_000,
            format!("late {level}").as_bytes(),
        );
    }
    // What came out below goes up level by level.
    for level in (1..8).rev() {
        let there = levels[level].snapshot();
        levels[level - 1].merge(&bases[level - 1], &there).unwrap();
        levels[level - 1].check().unwrap();
    }
    let root = &levels[0];
    let log = root.read("/log").unwrap();
    for level in 0..8 {
        let (early, late) = (level * 100_000, 2_000_000 + level * 50_000);
        assert!(log[late..].starts_with(format!("late {level}").as_bytes()));
        assert!(level == 0 || log[early..].starts_with(format!("level {level}").as_bytes()));
    }
    assert_eq!(root.read_dir("/level7").unwrap().len(), 7);
}

/// Changes something at random, holes and large files among them.
fn edit(fs: &Fs, rng: &mut Rng) {
    let path = |rng: &mut Rng| {
        let names = (0..1 + rng.below(2)).map(|_| ["a", "b", "c", "d"][rng.below(4)]);
        format!("/{}", names.collect::<Vec<_>>().join("/"))
    };
    let one = path(rng);
    let is_file = fs
        .metadata(&one)
        .is_ok_and(|stat| stat.kind == stratafs::meta::Kind::File);
    match rng.below(12) {
        0 | 1 => drop(fs.create_dir_all(&one)),
        2 => drop(fs.write(&one, text(rng.below(30_000), rng.below(3) as u8))),
        3 => drop(fs.remove_file(&one)),
        4 => drop(fs.remove_dir_all(&one)),
        5 => drop(fs.rename(&one, path(rng))),
        6 => drop(fs.hard_link(&one, path(rng))),
        7 => {
            fs.seal();
        }
        8 if is_file => {
            let size = rng.below(40_000) as u64;
            let _ = open(fs, &one[1..]).set_size(size);
        }
        _ if is_file => {
            let (at, len) = (rng.below(40_000), 1 + rng.below(5_000));
            put(fs, &one[1..], at, &text(len, rng.below(3) as u8));
        }
        _ => {}
    }
}

/// Merges the same three states in both directions, as they are and with all
/// of them sealed.
#[test]
fn an_outcome_depends_neither_on_sealing_nor_on_the_side() {
    let (mut merged, mut refused) = (0, 0);
    for seed in 0..1_500u64 {
        let mut rng = Rng::new(0x5ea1 << 32 | seed);
        let image = Image::new(&[layer("a", &text(20_000, 1))]).unwrap();
        let (share, sealing) = WAYS_OF_SEALING[rng.below(3)].clone();
        let start = Fs::builder(&image).share(share).sealing(sealing).build();
        (0..12).for_each(|_| edit(&start, &mut rng));
        let base = start.snapshot();
        let (one, two) = (base.fork(), base.fork());
        for fs in [&one, &two] {
            (0..1 + rng.below(5)).for_each(|_| edit(fs, &mut rng));
        }
        let sides = [one.snapshot(), two.snapshot()];
        one.seal();
        two.seal();
        let sealed = [one.snapshot(), two.snapshot()];
        let outcome = |ours: &Snapshot, theirs: &Snapshot| {
            let onto = ours.fork();
            let outcome = onto.merge(&base, theirs);
            onto.check()
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            match outcome {
                Ok(()) => Ok((tree_text(&onto), onto.usage().logical_bytes)),
                Err(MergeError::Conflicts(all)) => {
                    assert_eq!(tree_text(&onto), tree_text(&ours.fork()), "seed {seed}");
                    Err(all)
                }
                Err(error) => panic!("seed {seed}: {error}"),
            }
        };
        let there = outcome(&sides[0], &sides[1]);
        let names = |outcome: &Result<(String, u64), Vec<Conflict>>| {
            outcome
                .as_ref()
                .map(|(text, _)| text.clone())
                .map_err(Vec::clone)
        };
        for (ours, theirs) in [(0, 1), (1, 0)] {
            let plain = outcome(&sides[ours], &sides[theirs]);
            for (left, right) in [(&sealed, &sides), (&sides, &sealed), (&sealed, &sealed)] {
                let again = outcome(&left[ours], &right[theirs]);
                assert_eq!(names(&plain), names(&again), "seed {seed}");
            }
        }
        let back = outcome(&sides[1], &sides[0]);
        if let (Ok(there), Ok(back)) = (&there, &back) {
            assert_eq!(there.0, back.0, "seed {seed}");
            merged += 1;
        } else {
            refused += 1;
        }
    }
    assert!(merged > 200 && refused > 50, "{merged} {refused}");
}

#[test]
fn a_file_that_both_have_and_the_common_state_had_not_is_a_conflict() {
    let theirs = Fs::new(&Image::empty());
    let base = theirs.snapshot();
    theirs.create_dir("/d").unwrap();
    theirs.write("/d/f", text(10_000, 6)).unwrap();
    let ours = theirs.fork();
    // The same on both sides: nothing to do.
    ours.merge(&base, &theirs.snapshot()).unwrap();
    put(&ours, "d/f", 5_000, b"ours");
    put(&theirs, "d/f", 9_000, b"theirs");
    let Err(MergeError::Conflicts(all)) = ours.merge(&base, &theirs.snapshot()) else {
        panic!("merged");
    };
    assert!(
        matches!(&all[..], [Conflict::Content { ranges, .. }] if ranges.iter().eq([&(4096..10_000)])),
        "{all:?}"
    );
    theirs.rename("/d", "/other").unwrap();
    let Err(MergeError::Conflicts(all)) = ours.merge(&base, &theirs.snapshot()) else {
        panic!("merged");
    };
    assert!(
        all.iter()
            .any(|one| matches!(one, Conflict::Renamed { .. }))
    );
    ours.check().unwrap();
}

#[test]
fn conflicts_are_sorted_by_path_and_named_once() {
    let ours = Fs::new(&Image::empty());
    for name in ["b", "a", "d/c", "d/a"] {
        ours.create_dir_all("/d").unwrap();
        ours.write(format!("/{name}"), "one").unwrap();
    }
    let base = ours.snapshot();
    let theirs = base.fork();
    for name in ["b", "a", "d/c", "d/a"] {
        ours.write(format!("/{name}"), "ours").unwrap();
        theirs.write(format!("/{name}"), "theirs").unwrap();
    }
    let Err(MergeError::Conflicts(all)) = ours.merge(&base, &theirs.snapshot()) else {
        panic!("merged");
    };
    let paths: Vec<String> = all
        .iter()
        .map(|one| match one {
            Conflict::Content { path, .. } => path.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(paths, ["a", "b", "d/a", "d/c"]);
    let text = MergeError::Conflicts(all).to_string();
    assert!(
        text.starts_with("4 conflicts, the first: Content { path: a"),
        "{text}"
    );
}

#[test]
fn changes_name_the_names_that_are_left() {
    let fs = Fs::new(&Image::empty());
    fs.write("/a", "text").unwrap();
    for name in ["b", "c", "d"] {
        fs.hard_link("/a", format!("/{name}")).unwrap();
    }
    // The first and the last name that it was given go, then a move.
    fs.remove_file("/d").unwrap();
    fs.remove_file("/a").unwrap();
    fs.rename("/c", "/e").unwrap();
    let before = fs.snapshot();
    fs.remove_file("/b").unwrap();
    fs.write("/e", "other").unwrap();
    fs.check().unwrap();
    let changes = before.changes_to(&fs.snapshot()).unwrap();
    let told: Vec<String> = changes
        .iter()
        .map(|change| change.path().to_string())
        .collect();
    assert_eq!(told, ["b", "e"]);
    assert!(matches!(changes[0], Change::Removed { .. }));
    assert!(matches!(changes[1], Change::Content { .. }));
}

/// Holds merges in random runs over forks of forks against a model of merging.
fn merges_agree(seed: u64) {
    let mut ends = Ends::default();
    let seed = from_env("STRATAFS_SEED").unwrap_or(seed << 32);
    let runs = from_env("STRATAFS_RUNS").unwrap_or(MERGING_RUNS);
    for round in 0..runs {
        grow(seed + round, MERGING_STEPS, &mut ends);
    }
    if runs < MERGING_RUNS {
        // Too few for each kind of end to come up.
        return;
    }
    let counts = [ends.merged, ends.refused, ends.deep, ends.mixed];
    let rare = [ends.full, ends.large, ends.unlinked];
    assert!(counts.iter().all(|count| *count > 50), "{ends:?}");
    assert!(rare.iter().all(|count| *count > 5), "{ends:?}");
    assert!(ends.unsure * 20 < ends.merged, "{ends:?}");
}

#[test]
fn random_states_merge_as_their_model_does_0() {
    merges_agree(0);
}

#[test]
fn random_states_merge_as_their_model_does_1() {
    merges_agree(1);
}
