//! Paths, listings, identities.

use std::collections::BTreeSet;

use stratafs::chunk::ChunkPool;
use stratafs::chunk::ContentBuilder;
use stratafs::image::Image;
use stratafs::layer::LayerBuilder;
use stratafs::meta::Meta;
use stratafs::vfs::{Fs, Rights};
use stratafs::wasi::StratafsCtx;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    DescriptorFlags, ErrorCode, OpenFlags, PathFlags,
};

use super::guest::{Guest, MODES};
use super::{at, base};

const READ: DescriptorFlags = DescriptorFlags::READ;

#[test]
fn case_52_no_path_leaves_its_directory() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        let child = guest.open(root, "d", OpenFlags::DIRECTORY, READ).unwrap();
        let no = Some(ErrorCode::NotPermitted);
        for path in ["../x", "/x", "d/../../x", "..", "/", "//f"] {
            assert_eq!(guest.stat_at(root, path).err(), no, "{path}");
            assert_eq!(
                guest.open(root, path, OpenFlags::empty(), READ).err(),
                no,
                "{path}"
            );
            assert_eq!(guest.put(root, path, b"x").err(), no, "{path}");
            assert_eq!(guest.mkdir(root, path).err(), no, "{path}");
            assert_eq!(guest.hash_at(root, path).err(), no, "{path}");
        }
        assert_eq!(guest.stat_at(child, "../f").err(), no);
        assert_eq!(guest.stat_at(child, "e/../../f").err(), no);
        assert!(guest.stat_at(child, "e/../g").is_ok());
        assert!(guest.stat_at(root, "d/../f").is_ok());
    }
}

#[test]
fn case_54_a_guest_makes_no_link_that_leads_out() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        assert_eq!(
            guest.symlink(root, "/etc", "l").err(),
            Some(ErrorCode::NotPermitted)
        );
        guest.symlink(root, "../..", "l").unwrap();
        assert_eq!(guest.readlink(root, "l").unwrap(), "../..");
        let all = [
            OpenFlags::empty(),
            OpenFlags::CREATE,
            OpenFlags::TRUNCATE,
            OpenFlags::DIRECTORY,
        ];
        for open in all
            .into_iter()
            .chain([OpenFlags::CREATE | OpenFlags::EXCLUSIVE])
        {
            let refused = guest.open(root, "l/passwd", open, READ);
            assert_eq!(refused.err(), Some(ErrorCode::NotPermitted), "{open:?}");
        }
    }
}

#[test]
fn case_55_absolute_links_of_the_base_stay_inside() {
    for mode in MODES {
        let fs = Fs::new(&base());
        let (mut guest, root) = Guest::new(&fs, mode);
        assert_eq!(guest.readlink(root, "abs").unwrap(), "/d/g");
        assert_eq!(guest.get(root, "abs").unwrap(), b"inside");
        let below = StratafsCtx::new().preopen(fs.preopen(b"/", Rights::ReadWrite).unwrap(), "/w");
        let (mut guest, root) = Guest::with(below, mode);
        assert_eq!(guest.get(root, "abs").unwrap(), b"inside");
        // One that climbs ends at the root as well, one that is made here does not.
        assert_eq!(guest.get(root, "up").err(), Some(ErrorCode::NoEntry));
        guest.put(root, "x", b"at the root").unwrap();
        assert_eq!(guest.get(root, "up").unwrap(), b"at the root");
        guest.symlink(root, "../x", "made").unwrap();
        assert_eq!(guest.get(root, "made").err(), Some(ErrorCode::NotPermitted));
    }
}

#[test]
fn case_57_a_read_only_preopen_lends_nothing_to_a_writable_one() {
    for mode in MODES {
        let fs = Fs::new(&base());
        let ctx = StratafsCtx::new()
            .preopen(fs.preopen(b"/d", Rights::ReadOnly).unwrap(), "/ro")
            .preopen(fs.preopen(b"/e", Rights::ReadWrite).unwrap(), "/rw");
        let (mut guest, _) = Guest::with(ctx, mode);
        let [ro, rw]: [_; 2] = guest.preopens().try_into().unwrap();
        let no = Err(ErrorCode::NotPermitted);
        assert_eq!(guest.link((ro.0, "g"), (rw.0, "g")), no);
        assert_eq!(
            guest.link_follow(PathFlags::SYMLINK_FOLLOW, (ro.0, "g"), (rw.0, "g")),
            no
        );
        assert_eq!(guest.rename((ro.0, "g"), (rw.0, "g")), no);
        guest.put(rw.0, "mine", b"x").unwrap();
        assert_eq!(guest.link((rw.0, "mine"), (ro.0, "mine")), no);
        assert_eq!(guest.rename((rw.0, "mine"), (ro.0, "mine")), no);
        assert_eq!(guest.names(ro.0).unwrap(), ["e", "g"]);
    }
}

#[test]
fn case_58_renames_between_preopens_of_one_file_system_work() {
    for mode in MODES {
        let (one, two) = (Fs::new(&base()), Fs::new(&base()));
        let ctx = StratafsCtx::new()
            .preopen(one.preopen(b"/d", Rights::ReadWrite).unwrap(), "/a")
            .preopen(one.preopen(b"/e", Rights::ReadWrite).unwrap(), "/b")
            .preopen(two.preopen(b"/", Rights::ReadWrite).unwrap(), "/c");
        let (mut guest, _) = Guest::with(ctx, mode);
        let [a, b, c]: [_; 3] = guest.preopens().try_into().unwrap();
        guest.rename((a.0, "g"), (b.0, "moved")).unwrap();
        assert_eq!(guest.get(b.0, "moved").unwrap(), b"inside");
        guest.link((b.0, "moved"), (a.0, "g")).unwrap();
        assert_eq!(guest.stat_at(a.0, "g").unwrap().link_count, 2);
        let cross = Err(ErrorCode::CrossDevice);
        assert_eq!(guest.rename((a.0, "g"), (c.0, "g")), cross);
        assert_eq!(guest.link((a.0, "g"), (c.0, "g")), cross);
        assert_eq!(guest.stat_at(c.0, "g").err(), Some(ErrorCode::NoEntry));
        assert!(!guest.is_same(a.0, c.0));
    }
}

#[test]
fn case_62_a_removed_directory_takes_nothing_in() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        let dir = guest.open(root, "e", OpenFlags::DIRECTORY, READ).unwrap();
        guest.rmdir(root, "e").unwrap();
        assert_eq!(guest.put(dir, "x", b"").err(), Some(ErrorCode::NoEntry));
        assert_eq!(guest.mkdir(dir, "x").err(), Some(ErrorCode::NoEntry));
        assert_eq!(guest.names(dir).unwrap(), [""; 0]);
        assert_eq!(guest.stat(dir).unwrap().link_count, 0);
    }
}

#[test]
fn case_69_a_listing_gives_what_stays_once() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        guest.mkdir(root, "many").unwrap();
        let dir = guest
            .open(root, "many", OpenFlags::DIRECTORY, READ)
            .unwrap();
        for number in 0..300 {
            guest.put(dir, &format!("n{number:03}"), b"").unwrap();
        }
        let listing = guest.listing(dir).unwrap();
        let mut seen = Vec::new();
        while let Some(entry) = guest.next(listing).unwrap() {
            // Every odd one goes away once it was seen, new ones come.
            let number: u32 = entry.name[1..].parse().unwrap();
            if number % 2 == 1 {
                guest.unlink(dir, &entry.name).unwrap();
            }
            if seen.len() < 20 {
                guest.put(dir, &format!("x{:03}", seen.len()), b"").unwrap();
            }
            seen.push(entry.name);
        }
        assert!(
            guest.next(listing).unwrap().is_none(),
            "the end stays the end"
        );
        guest.end(listing);
        let once: BTreeSet<_> = seen.iter().filter(|name| name.starts_with('n')).collect();
        assert_eq!(once.len(), 300, "none lost");
        assert_eq!(
            seen.iter().collect::<BTreeSet<_>>().len(),
            seen.len(),
            "none twice"
        );
        assert_eq!(guest.names(dir).unwrap().len(), 170);
    }
}

#[test]
fn listings_of_one_directory_do_not_disturb_each_other() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        let all = guest.names(root).unwrap();
        assert!(all.iter().all(|name| name != "." && name != ".."));
        let (one, two) = (guest.listing(root).unwrap(), guest.listing(root).unwrap());
        let mut seen = [Vec::new(), Vec::new()];
        for _ in 0..all.len() {
            seen[0].push(guest.next(one).unwrap().unwrap().name);
            seen[1].push(guest.next(two).unwrap().unwrap().name);
        }
        guest.end(one);
        assert!(guest.next(two).unwrap().is_none());
        seen[0].sort();
        assert_eq!((&seen[0], seen[0].len()), (&all, seen[1].len()));
    }
}

#[test]
fn case_c1_39_names_that_are_not_utf_8_are_errors_in_their_place() {
    let pool = ChunkPool::new();
    let mut layer = LayerBuilder::new();
    for name in [&b"a"[..], b"b\xff", b"b\xfe", b"c"] {
        let path = stratafs::name::LayerPath::parse(name).unwrap();
        layer
            .file(
                &path,
                Meta::with_mode(0o644),
                ContentBuilder::of(&pool, b""),
            )
            .unwrap();
    }
    layer
        .symlink(&at("l"), Meta::with_mode(0o777), b"\xff")
        .unwrap();
    let image = Image::new(&[layer.finish().unwrap()]).unwrap();
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&image), mode);
        let listing = guest.listing(root).unwrap();
        let mut seen = Vec::new();
        loop {
            match guest.next(listing) {
                Ok(Some(entry)) => seen.push(entry.name),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error, ErrorCode::IllegalByteSequence);
                    seen.push("?".to_owned());
                }
            }
        }
        seen.sort();
        assert_eq!(seen, ["?", "?", "a", "c", "l"]);
        assert_eq!(
            guest.readlink(root, "l").err(),
            Some(ErrorCode::IllegalByteSequence)
        );
    }
}

#[test]
fn case_71_odd_paths_are_errors() {
    let long = "x".repeat(256);
    let huge = "x/".repeat(1 << 19);
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        for (path, error) in [
            ("", ErrorCode::NoEntry),
            ("f\0", ErrorCode::Invalid),
            ("a\0b/c", ErrorCode::Invalid),
            (&long, ErrorCode::NameTooLong),
            (&huge, ErrorCode::NameTooLong),
        ] {
            let shown = &path[..path.len().min(9)];
            assert_eq!(guest.stat_at(root, path).err(), Some(error), "{shown}");
            assert_eq!(guest.mkdir(root, path).err(), Some(error), "{shown}");
            assert_eq!(guest.put(root, path, b"").err(), Some(error), "{shown}");
            assert_eq!(guest.unlink(root, path).err(), Some(error), "{shown}");
        }
        guest.mkdir(root, &long[..255]).unwrap();
    }
}

#[test]
fn case_72_forty_links_and_no_more() {
    for mode in MODES {
        let (mut guest, root) = Guest::new(&Fs::new(&base()), mode);
        guest.symlink(root, "f", "s1").unwrap();
        for hop in 2..=41 {
            guest
                .symlink(root, &format!("s{}", hop - 1), &format!("s{hop}"))
                .unwrap();
        }
        assert_eq!(guest.get(root, "s40").unwrap(), b"hello");
        assert_eq!(guest.get(root, "s41").err(), Some(ErrorCode::Loop));
        assert_eq!(guest.get(root, "loop").err(), Some(ErrorCode::Loop));
        let unfollowed = guest.open_at(root, PathFlags::empty(), "lf", OpenFlags::empty(), READ);
        assert_eq!(unfollowed.err(), Some(ErrorCode::Loop));
    }
}

#[test]
fn case_p11_identities_hold() {
    for mode in MODES {
        let fs = Fs::new(&base());
        let (mut guest, root) = Guest::new(&fs, mode);
        let paths = ["f", "big", "d", "d/g", "d/e", "e", "lf", "abs"];
        let before: Vec<_> = paths
            .iter()
            .map(|path| guest.hash_at(root, path).unwrap())
            .collect();
        assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), paths.len());
        assert!(before.iter().all(|(lower, _)| *lower != 0));
        assert_eq!(guest.hash_at(root, "hl").unwrap(), before[0]);
        let (file, link) = (
            guest.open(root, "f", OpenFlags::empty(), READ).unwrap(),
            guest.open(root, "hl", OpenFlags::empty(), READ).unwrap(),
        );
        assert!(guest.is_same(file, link) && !guest.is_same(file, root));
        let writer = guest
            .open(root, "f", OpenFlags::empty(), DescriptorFlags::WRITE)
            .unwrap();
        guest.write(writer, 0, b"J").unwrap();
        guest.rename((root, "f"), (root, "d/e/moved")).unwrap();
        assert_eq!(guest.hash(file).unwrap(), before[0]);
        assert_eq!(guest.hash_at(root, "d/e/moved").unwrap(), before[0]);
        let (mut other, root) = Guest::new(&Fs::new(&base()), mode);
        assert_eq!(other.hash_at(root, "d/g").unwrap(), before[3]);
    }
}

#[test]
fn case_p13_a_large_directory_is_listed_whole_by_0_2() {
    let fs = Fs::new(&Image::empty());
    let (mut guest, root) = Guest::new(&fs, MODES[0]);
    for count in [10_000, 100_000] {
        let path = format!("d{count}");
        guest.mkdir(root, &path).unwrap();
        let dir = guest.open(root, &path, OpenFlags::DIRECTORY, READ).unwrap();
        for number in 0..count {
            guest.put(dir, &number.to_string(), b"").unwrap();
        }
        assert_eq!(guest.names(dir).unwrap().len(), count);
    }
}
