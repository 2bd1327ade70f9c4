//! Every guest of `guest-examples`, under plain wasmtime-wasi on a host
//! directory and under stratafs on the same base: preview1, 0.2 and 0.3, sync
//! and async. Each has to say the same and end the same in all of them.

use std::collections::BTreeSet;

use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::source::{self, SourceOptions};
use stratafs::vfs::Fs;

use crate::support::base::Base;
use crate::support::guest::{World, names};
use crate::support::wasi_host::{Compiled, Files, Mode, Outcome};

const MODES: [Mode; 2] = [Mode::Sync, Mode::Async];

/// The base as an image.
fn image(base: &Base) -> Image {
    let options = SourceOptions::default();
    let layer = source::dir_ambient(&ChunkPool::new(), base.path(), &options).unwrap();
    Image::new(&[layer]).unwrap()
}

/// Runs a guest under stratafs, sync and async, and checks that the base
/// stayed what it was.
fn strata(name: &str, world: World, args: &[&str]) -> Outcome {
    let base = Base::new();
    let image = image(&base);
    let before = image.digest();
    let guest = Compiled::new(name, world);
    let [sync, other] = MODES.map(|mode| {
        let fs = Fs::new(&image);
        let outcome = guest.run(Files::Strata(&fs), mode, args);
        assert_eq!(
            fs.usage().open,
            0,
            "{name}, {mode:?}: descriptors left open"
        );
        outcome
    });
    assert_eq!(sync, other, "{name}: sync and async");
    image.verify().unwrap();
    assert_eq!(image.digest(), before, "{name}: the base");
    sync
}

/// Runs a guest under wasmtime-wasi, sync and async, each on its own copy.
fn stock(name: &str, world: World, args: &[&str]) -> Outcome {
    let guest = Compiled::new(name, world);
    let [sync, other] = MODES.map(|mode| {
        let base = Base::new();
        guest.run(Files::HostDir(base.path()), mode, args)
    });
    assert_eq!(sync, other, "{name}: sync and async of wasmtime-wasi");
    sync
}

/// A guest that has to do under stratafs what it does on a host directory.
fn same(name: &str, world: World, args: &[&str]) {
    let (strata, stock) = (strata(name, world, args), stock(name, world, args));
    assert_eq!(
        strata.code, 0,
        "{name} {args:?}: {}\n{}",
        strata.out, strata.err
    );
    for (line, (ours, theirs)) in strata.out.lines().zip(stock.out.lines()).enumerate() {
        assert_eq!(
            ours,
            theirs,
            "{name} {args:?}, line {}: stratafs, host directory",
            line + 1
        );
    }
    assert_eq!(strata, stock, "{name} {args:?}");
    assert!(!strata.out.is_empty(), "{name} {args:?} says nothing");
}

/// A guest that wasmtime-wasi 48 does not serve well; `want` is all it says.
fn better(name: &str, world: World, want: &[&str]) {
    let outcome = strata(name, world, &[]);
    assert_eq!(outcome.code, 0, "{name}: {}\n{}", outcome.out, outcome.err);
    assert_eq!(outcome.out.lines().collect::<Vec<_>>(), want, "{name}");
}

macro_rules! same_everywhere {
    ($($name:ident: $worlds:tt, $args:expr;)*) => {
        /// The guests that are tested here by their names.
        const SAME: &[&str] = &[$(stringify!($name)),*];
        $(mod $name {
            use super::*;
            same_everywhere!(@ $name $worlds $args);
        })*
    };
    (@ $name:ident all $args:expr) => {
        same_everywhere!(@ $name p1 $args);
        #[test]
        fn p2() {
            for args in $args as [&[&str]; _] {
                same(stringify!($name), World::P2, args);
            }
        }
        #[test]
        fn p3() {
            for args in $args as [&[&str]; _] {
                same(stringify!($name), World::P3, args);
            }
        }
    };
    (@ $name:ident p1 $args:expr) => {
        #[test]
        fn p1() {
            for args in $args as [&[&str]; _] {
                same(stringify!($name), World::P1, args);
            }
        }
    };
}

same_everywhere! {
    append_two_handles: all, [&[]];
    deep_tree: all, [&[], &["40"]];
    edit_one_byte: all, [&[], &["/docs/alpha/part/3.txt"]];
    exerciser: all, [&[], &["2", "8000"], &["3", "8000", "/docs"], &["4", "100"]];
    hard_links: all, [&[]];
    hello: all, [&[]];
    list_walk: all, [&[]];
    many_open: all, [&[]];
    marker: all, [&[], &["/docs"]];
    may: all, [&["write:/new", "read:/new", "list:/docs", "mkdir:/new/below", "read:/none"]];
    raw_p1: p1, [&[]];
    rename_matrix: all, [&[]];
    sparse: all, [&[]];
    symlinks: all, [&[]];
    times: all, [&[]];
    unlink_open: all, [&[], &["/data/big.bin"]];
    wordcount: all, [&[], &["/docs"]];
}

/// The guests with tests of their own, below and in `isolation` (`ravage`)
/// and `soak`.
const OTHERS: &[&str] = &[
    "bench_ops",
    "bench_writes",
    "connect",
    "dot_entries",
    "fill_until_full",
    "halfway",
    "hoard",
    "iovecs",
    "listen",
    "ravage",
    "read_through",
    "readdir_delete",
    "soak_p1",
];

/// Those of 0.3 alone are tested in `p3`.
#[test]
fn every_guest_has_a_test() {
    let tested: BTreeSet<String> = SAME
        .iter()
        .chain(OTHERS)
        .map(|name| (*name).to_owned())
        .collect();
    assert_eq!(
        names(),
        tested,
        "guests that are there, and guests that are tested"
    );
}

#[test]
fn case_c2_66_pointers_out_of_bounds_end_the_guest_as_in_wasmtime() {
    for name in [
        "read",
        "read-iovecs",
        "read-out",
        "stat-out",
        "path",
        "readdir",
    ] {
        let args = ["trap", name];
        let (strata, stock) = (
            strata("raw_p1", World::P1, &args),
            stock("raw_p1", World::P1, &args),
        );
        assert_eq!(
            (strata.code, &*strata.out),
            (134, ""),
            "{name}: {}",
            strata.err
        );
        assert_eq!(
            (stock.code, stock.out),
            (134, String::new()),
            "{name}: wasmtime-wasi"
        );
    }
}

/// wasmtime-wasi reads the directory anew for each call and skips what moved
/// up meanwhile; 0.2 lists from one snapshot and skips nothing.
#[test]
fn case_27_deleting_while_listing_loses_no_entry() {
    let want = "/many: 600 entries, 600 removed while listing, 0 left";
    better("readdir_delete", World::P1, &[want]);
    same("readdir_delete", World::P2, &[]);
    better("readdir_delete", World::P3, &[want]);
}

/// wasmtime-wasi serves the first piece only.
#[test]
fn iovecs_are_all_served_in_one_call() {
    let want = [
        "write: Ok(13)",
        "read: Ok(13)",
        r#"pieces: ["one", "", " two ", "three"]"#,
        "1003 pieces: wrote Ok(10000000)",
        "1003 pieces: read Ok(10000000), equal true",
        "20000 pieces of one byte: Ok(20000)",
        "overlapping: Ok(()), 16 bytes, [8, 9, 10, 11, 12, 13, 14, 15]",
        "none: Ok(0) Ok(0)",
    ];
    better("iovecs", World::P1, &want);
}

/// wasmtime-wasi gives `..` the directory's own number.
#[test]
fn case_p14_dot_entries_have_the_right_numbers() {
    better(
        "dot_entries",
        World::P1,
        &[
            "root: true",
            "docs/guide: true",
            "renamed: true",
            "new: true",
        ],
    );
}

#[test]
fn case_p17_a_quota_that_is_full_gives_its_room_back() {
    let image = image(&Base::new());
    for world in [World::P1, World::P2, World::P3] {
        let guest = Compiled::new("fill_until_full", world);
        for mode in MODES {
            let fs = Fs::builder(&image).max_bytes(1_000_000).build();
            let outcome = guest.run(Files::Strata(&fs), mode, &[]);
            assert_eq!(outcome.code, 0, "{}{}", outcome.out, outcome.err);
            let lines: Vec<_> = outcome.out.lines().collect();
            // wasi-libc for 0.2 writes by streams and makes EIO of any failure
            // of one; `filesystem-error-code` tells the code to who asks.
            let full = match world {
                World::P1 | World::P3 => "ENOSPC",
                World::P2 => "EIO",
            };
            assert_eq!(lines[1], format!("one byte more: Err({full})"));
            assert_eq!(lines[2], "into a base file: Err(ENOSPC)");
            assert!(
                lines[0].ends_with(&format!("then Some({full})")),
                "{lines:?}"
            );
            assert_eq!(lines[5], "after truncation: true");
        }
    }
}

/// What it prints are times; here it only has to come through.
#[test]
fn bench_ops_runs_under_both_hosts() {
    let base = Base::new();
    let fs = Fs::new(&image(&base));
    let guest = Compiled::new("bench_ops", World::P1);
    for files in [Files::Strata(&fs), Files::HostDir(base.path())] {
        let outcome = guest.run(files, Mode::Sync, &["bench", "1"]);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        assert_eq!(outcome.out.lines().count(), 18, "{}", outcome.out);
    }
}

#[test]
fn bench_writes_runs_under_both_hosts() {
    let base = Base::new();
    let fs = Fs::new(&image(&base));
    let guest = Compiled::new("bench_writes", World::P1);
    for files in [Files::Strata(&fs), Files::HostDir(base.path())] {
        let outcome = guest.run(files, Mode::Sync, &["/", "65536", "1"]);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        assert_eq!(outcome.out.split_whitespace().count(), 4, "{}", outcome.out);
    }
    assert_eq!(fs.metadata("/new").unwrap().size, 1 << 20);
}

/// Bytes and reads; the third number is a time.
#[test]
fn read_through_reads_all_there_is() {
    let base = Base::new();
    let size = std::fs::metadata(base.path().join("data/big.bin"))
        .unwrap()
        .len();
    for world in [World::P1, World::P2] {
        let fs = Fs::new(&image(&base));
        let guest = Compiled::new("read_through", world);
        for files in [Files::Strata(&fs), Files::HostDir(base.path())] {
            let outcome = guest.run(files, Mode::Sync, &["/data/big.bin", "4096"]);
            let said: Vec<&str> = outcome.out.split_whitespace().collect();
            assert_eq!(said[0], size.to_string(), "{}", outcome.err);
        }
    }
}
