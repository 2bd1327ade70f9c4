//! `fd_readdir`.

use std::collections::BTreeSet;

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::Image;
use stratafs::layer::LayerBuilder;
use stratafs::meta::Meta;
use stratafs::vfs::Fs;

use super::{ROOT, guest, on, path};
use crate::support::p1::{Dirent, Errno, Guest, MODES, Mode, Oflags, Rights, dirents, no};

/// A file system with `count` files `many/n000000` and so on.
fn many(count: usize) -> Fs {
    let pool = ChunkPool::new();
    let mut layer = LayerBuilder::new();
    for n in 0..count {
        let content = ContentBuilder::of(&pool, b"");
        layer
            .file(
                &path(&format!("many/n{n:06}")),
                Meta::with_mode(0o644),
                content,
            )
            .unwrap();
    }
    Fs::new(&Image::new(&[layer.finish().unwrap()]).unwrap())
}

fn dir(guest: &mut Guest, path: &str) -> u32 {
    guest
        .open(ROOT, path, Oflags::DIRECTORY, Rights::FD_READDIR)
        .unwrap()
}

fn names(entries: &[Dirent]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| std::str::from_utf8(&entry.name).unwrap())
        .collect()
}

#[test]
fn case_p14_dots_come_first_with_right_numbers() {
    for mode in MODES {
        let mut guest = guest(mode);
        let fd = dir(&mut guest, "dir");
        let entries = guest.list_from(fd, 4096, 0);
        assert_eq!(names(&entries), [".", "..", "inner", "sub"]);
        assert_eq!(
            entries
                .iter()
                .map(|entry| entry.filetype)
                .collect::<Vec<_>>(),
            [3, 3, 4, 3]
        );
        for (entry, path) in entries.iter().zip(["dir", "", "dir/inner", "dir/sub"]) {
            let stat = match path {
                "" => guest.stat(ROOT),
                path => guest.stat_at(ROOT, false, path),
            };
            assert_eq!(entry.ino, stat.unwrap().ino, "{path}");
        }
        // A preopen is its own parent.
        let top = guest.list_from(ROOT, 4096, 0);
        assert_eq!(top[0].ino, top[1].ino);
        let link = top.iter().find(|entry| entry.name == b"dangling").unwrap();
        assert_eq!(link.filetype, 7);
    }
}

#[test]
fn case_69_small_buffers_and_odd_cookies() {
    for mode in MODES {
        let mut guest = guest(mode);
        let fd = dir(&mut guest, "dir");
        let whole = guest.readdir(fd, 4096, 0).unwrap();
        let end = dirents(&whole).last().unwrap().next;
        // Whatever does not fit fills the buffer exactly.
        for room in 0..whole.len() as u32 {
            let got = guest.readdir(fd, room, 0).unwrap();
            assert_eq!(got, whole[..room as usize], "{room}");
        }
        assert_eq!(guest.readdir(fd, whole.len() as u32, 0).unwrap(), whole);
        for cookie in [end, end + 1, 1 << 40, u64::MAX] {
            assert_eq!(guest.readdir(fd, 4096, cookie).unwrap(), b"", "{cookie}");
        }
        let parts: Vec<_> = dirents(&whole)
            .iter()
            .flat_map(|entry| {
                let rest = guest.readdir(fd, 4096, entry.next).unwrap();
                dirents(&rest).first().cloned()
            })
            .collect();
        assert_eq!(parts, dirents(&whole)[1..]);
        // A room of 24 is a head without its name; 24 + 5 a whole "inner".
        assert_eq!(guest.readdir(fd, 24, 0).unwrap().len(), 24);
        for room in [29, 30, 50, 1000] {
            assert_eq!(
                names(&guest.list_from(fd, room, 0)),
                [".", "..", "inner", "sub"]
            );
        }
    }
}

#[test]
fn case_27_removing_while_listing_loses_none() {
    for mode in MODES {
        let fs = many(300);
        let mut guest = on(mode, &fs);
        let fd = dir(&mut guest, "many");
        let (mut seen, mut cookie) = (BTreeSet::new(), 2);
        loop {
            let bytes = guest.readdir(fd, 256, cookie).unwrap();
            for entry in dirents(&bytes) {
                cookie = entry.next;
                let name = String::from_utf8(entry.name).unwrap();
                guest.unlink(fd, &name).unwrap();
                assert!(seen.insert(name));
            }
            if bytes.len() < 256 {
                break;
            }
        }
        assert_eq!(seen.len(), 300);
        assert_eq!(guest.names(ROOT, "many"), [""; 0]);
        assert_eq!(guest.rmdir(ROOT, "many"), Ok(()));
    }
}

#[test]
fn case_p12_what_stays_is_listed_once_and_rewinding_sees_the_new() {
    for mode in MODES {
        let fs = many(100);
        let mut guest = on(mode, &fs);
        let fd = dir(&mut guest, "many");
        let first = dirents(&guest.readdir(fd, 900, 2).unwrap());
        let mark = first.last().unwrap().next;
        for n in 0..40 {
            guest.unlink(fd, &format!("n{n:06}")).unwrap();
            guest.create(fd, &format!("new{n}"), b"");
        }
        guest.rename(fd, "n000099", fd, "a-renamed").unwrap();
        let rest = guest.list_from(fd, 300, mark);
        let mut stayed: Vec<_> = names(&first);
        stayed.extend(names(&rest));
        for n in 40..99 {
            let name = format!("n{n:06}");
            assert_eq!(
                stayed.iter().filter(|seen| **seen == name).count(),
                1,
                "{name}"
            );
        }
        let again = guest.list_from(fd, 4096, 0);
        let again: BTreeSet<_> = names(&again).into_iter().collect();
        assert_eq!(again.len(), 2 + 100);
        assert!(again.contains("new39") && again.contains("a-renamed"));
        // Going back to a cookie from before shows what is there now.
        let back = guest.list_from(fd, 4096, first[0].next);
        assert!(names(&back).contains(&"n000050"));
    }
}

#[test]
fn case_p13_a_large_directory_is_listed_whole() {
    let fs = many(100_000);
    let mut guest = on(Mode::Sync, &fs);
    let fd = dir(&mut guest, "many");
    let entries = guest.list_from(fd, 4096, 0);
    assert_eq!(entries.len(), 100_002);
    assert!(
        entries[2..]
            .windows(2)
            .all(|pair| pair[0].name < pair[1].name)
    );
}

#[test]
fn case_70_listing_ends_while_another_thread_changes() {
    let fs = many(1_000);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let stopped = || stop.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let root = fs.root().unwrap();
            let mut n = 0_u64;
            while !stopped() {
                root.create_dir_at(format!("many/t{n}").as_bytes()).unwrap();
                if n.is_multiple_of(2) {
                    root.remove_dir_at(format!("many/t{n}").as_bytes()).unwrap();
                }
                n += 1;
            }
        });
        let mut guest = on(Mode::Sync, &fs);
        let fd = dir(&mut guest, "many");
        for _ in 0..20 {
            let entries = guest.list_from(fd, 512, 0);
            let stayed = entries
                .iter()
                .filter(|entry| entry.name.starts_with(b"n"))
                .count();
            assert_eq!(stayed, 1_000);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn case_62_a_removed_directory_lists_nothing() {
    for mode in MODES {
        let mut guest = guest(mode);
        let fd = dir(&mut guest, "empty");
        guest.rmdir(ROOT, "empty").unwrap();
        assert!(guest.list_from(fd, 4096, 2).is_empty());
        assert_eq!(guest.mkdir(fd, "x"), Err(no(Errno::Noent)));
        let create = guest.open(fd, "x", Oflags::CREAT, Rights::FD_WRITE);
        assert_eq!(create, Err(no(Errno::Noent)));
        assert_eq!(guest.stat(fd).unwrap().filetype, 3);
    }
}

#[test]
fn names_that_are_not_utf_8_are_listed_as_they_are() {
    let pool = ChunkPool::new();
    let mut layer = LayerBuilder::new();
    let want: [&[u8]; 5] = [b".", b"..", b"a", b"b\xff", b"c"];
    for name in &want[2..] {
        let path = stratafs::name::LayerPath::parse(name).unwrap();
        let empty = ContentBuilder::of(&pool, b"");
        layer.file(&path, Meta::with_mode(0o644), empty).unwrap();
    }
    let image = Image::new(&[layer.finish().unwrap()]).unwrap();
    for mode in MODES {
        let entries = on(mode, &Fs::new(&image)).list_from(ROOT, 4096, 0);
        let names: Vec<&[u8]> = entries.iter().map(|entry| &entry.name[..]).collect();
        assert_eq!(names, want);
    }
}
