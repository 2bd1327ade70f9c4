//! Names: what resolves, what is refused, and with which error.

use std::sync::Arc;

use stratafs::vfs::{Fs, Rule};

use super::{ROOT, guest, image, on, with_read_only};
use crate::support::p1::{DATA, Errno, Fdflags, Guest, MODES, Oflags, READ_WRITE, Rights, no};

fn open(guest: &mut Guest, dir: u32, path: &str, flags: Oflags) -> Result<u32, i32> {
    let fd = guest.open(dir, path, flags, READ_WRITE)?;
    guest.close(fd).unwrap();
    Ok(fd)
}

#[test]
fn case_52_no_path_leaves_its_descriptor() {
    for mode in MODES {
        let mut guest = guest(mode);
        let dir = guest
            .open(ROOT, "dir", Oflags::DIRECTORY, Rights::empty())
            .unwrap();
        let perm = no(Errno::Perm);
        for (fd, path) in [
            (ROOT, "../x"),
            (ROOT, "/hello"),
            (ROOT, "/"),
            (ROOT, "dir/../../x"),
            (ROOT, "up"),
            (dir, ".."),
            (dir, "../hello"),
            (dir, "sub/../../hello"),
        ] {
            assert_eq!(guest.stat_at(fd, true, path).err(), Some(perm), "{path}");
            assert_eq!(
                open(&mut guest, fd, path, Oflags::CREAT),
                Err(perm),
                "{path}"
            );
            if path != "up" {
                assert_eq!(guest.unlink(fd, path), Err(perm), "{path}");
                assert_eq!(guest.mkdir(fd, path), Err(perm), "{path}");
                assert_eq!(guest.rename(fd, path, fd, "y"), Err(perm), "{path}");
            }
        }
        assert_eq!(guest.stat_at(dir, true, "sub/..").unwrap().filetype, 3);
    }
}

#[test]
fn case_54_a_guest_makes_no_link_that_escapes() {
    for mode in MODES {
        let mut guest = guest(mode);
        let perm = no(Errno::Perm);
        assert_eq!(guest.symlink("/etc", ROOT, "l"), Err(perm));
        assert_eq!(
            guest.stat_at(ROOT, false, "l").err(),
            Some(no(Errno::Noent))
        );
        guest.symlink("../..", ROOT, "l").unwrap();
        for flags in [
            Oflags::CREAT,
            Oflags::TRUNC,
            Oflags::CREAT | Oflags::EXCL,
            Oflags::DIRECTORY,
        ] {
            let fd = guest.open(ROOT, "l/passwd", flags, Rights::FD_READ);
            assert_eq!(fd, Err(perm), "{flags:?}");
        }
        assert_eq!(guest.readlink(ROOT, "l", 100).unwrap(), b"../..");
        guest.unlink(ROOT, "l").unwrap();
    }
}

#[test]
fn case_55_an_absolute_link_of_the_base_stays_in_the_root() {
    for mode in MODES {
        let mut guest = guest(mode);
        assert_eq!(guest.content(ROOT, "abs").unwrap(), b"hello world");
        assert_eq!(guest.readlink(ROOT, "abs", 100).unwrap(), b"/hello");
    }
}

#[test]
fn case_56_nothing_below_a_read_only_preopen_changes() {
    for mode in MODES {
        let mut guest = with_read_only(mode);
        let (ro, perm) = (4, no(Errno::Perm));
        for (flags, rights, fd_flags) in [
            (Oflags::TRUNC, Rights::FD_READ, Fdflags::empty()),
            (Oflags::CREAT, Rights::FD_READ, Fdflags::empty()),
            (
                Oflags::CREAT | Oflags::EXCL,
                Rights::empty(),
                Fdflags::empty(),
            ),
            (Oflags::empty(), Rights::FD_WRITE, Fdflags::empty()),
            (Oflags::empty(), READ_WRITE, Fdflags::APPEND),
        ] {
            let fd = guest.open_raw(ro, true, b"hello", flags, rights, fd_flags);
            assert_eq!(fd, Err(perm), "{flags:?} {rights:?}");
        }
        let read = Rights::FD_READ;
        let fd = guest
            .open_raw(ro, true, b"hello", Oflags::empty(), read, Fdflags::APPEND)
            .unwrap();
        assert_eq!(guest.write(fd, b"x"), Err(no(Errno::Badf)));
        assert_eq!(
            guest.call("fd_filestat_set_size", &[fd.into(), 1]),
            Err(perm)
        );
        assert_eq!(
            guest.call("fd_filestat_set_times", &[fd.into(), 0, 0, 5]),
            Err(perm)
        );
        assert_eq!(
            guest.call("fd_allocate", &[fd.into(), 0, 9]),
            Err(no(Errno::Notsup))
        );
        let dir = guest
            .open(ro, "dir", Oflags::DIRECTORY, Rights::FD_READ)
            .unwrap();
        for (fd, name) in [(ro, "hello"), (dir, "inner")] {
            assert_eq!(guest.unlink(fd, name), Err(perm));
            assert_eq!(guest.mkdir(fd, "new"), Err(perm));
            assert_eq!(guest.rmdir(fd, "sub"), Err(perm));
            assert_eq!(guest.symlink("x", fd, "new"), Err(perm));
            assert_eq!(guest.rename(fd, name, fd, "new"), Err(perm));
            assert_eq!(guest.link(fd, false, name, fd, "new"), Err(perm));
            assert_eq!(guest.link(fd, true, name, fd, "new"), Err(perm));
            guest.put(DATA, name.as_bytes());
            let args = [fd.into(), 0, DATA.into(), name.len() as i64, 0, 0, 5];
            assert_eq!(guest.call("path_filestat_set_times", &args), Err(perm));
        }
        assert_eq!(guest.read(fd, 99).unwrap(), b"hello world");
    }
}

#[test]
fn case_56_rules_hold_for_every_call_on_what_they_are_for() {
    for mode in MODES {
        let fs = Fs::new(&image());
        let mut guest = on(mode, &fs);
        let none = Oflags::empty();
        let early = guest.open(ROOT, "hard", none, READ_WRITE).unwrap();
        fs.set_rule(b"/hello", Rule::AppendOnly).unwrap();
        fs.set_rule(b"/dir", Rule::ReadOnly).unwrap();
        fs.set_rule(b"/old", Rule::Hidden).unwrap();
        let perm = no(Errno::Perm);
        let log = guest
            .open_raw(ROOT, true, b"link", none, READ_WRITE, Fdflags::APPEND)
            .unwrap();
        assert_eq!(guest.write(log, b"!"), Ok(1));
        for fd in [log, early] {
            // The flag goes, or was never there; a number may change.
            guest.call("fd_fdstat_set_flags", &[fd.into(), 0]).unwrap();
            guest.seek(fd, 0, 0).unwrap();
            assert_eq!(guest.write(fd, b"x"), Err(perm));
            assert_eq!(guest.pwrite(fd, b"x", 3), Err(perm));
            let size = guest.call("fd_filestat_set_size", &[fd.into(), 99]);
            assert_eq!(size, Err(perm));
            let times = guest.call("fd_filestat_set_times", &[fd.into(), 0, 0, 5]);
            assert_eq!(times, Err(perm));
        }
        guest
            .call("fd_renumber", &[log.into(), early.into()])
            .unwrap();
        assert_eq!(guest.pwrite(early, b"x", 0), Err(perm));
        let cut = guest.open(ROOT, "hello", Oflags::TRUNC, READ_WRITE);
        assert_eq!(cut, Err(perm));
        assert_eq!(guest.pread(early, 99, 0).unwrap(), b"hello world!");
        let inner = guest.open(ROOT, "dirlink/inner", none, READ_WRITE);
        assert_eq!(inner, Err(perm));
        assert_eq!(guest.rename(ROOT, "dir", ROOT, "x"), Err(perm));
        assert_eq!(guest.rmdir(ROOT, "dir/sub"), Err(perm));
        assert_eq!(guest.unlink(ROOT, "hard"), Err(perm));
        let gone = guest.stat_at(ROOT, true, "old").err();
        assert_eq!(gone, Some(no(Errno::Noent)));
        assert!(!guest.names(ROOT, ".").iter().any(|name| name == "old"));
        assert_eq!(guest.mkdir(ROOT, "old"), Err(perm));
    }
}

#[test]
fn case_57_no_way_from_a_read_only_preopen_into_a_writable_one() {
    for mode in MODES {
        let mut guest = with_read_only(mode);
        let perm = Err(no(Errno::Perm));
        assert_eq!(guest.link(4, false, "hello", ROOT, "new"), perm);
        assert_eq!(guest.link(4, false, "link", ROOT, "new"), perm);
        assert_eq!(guest.link(ROOT, false, "hello", 4, "new"), perm);
        assert_eq!(guest.rename(4, "hello", ROOT, "new"), perm);
        assert_eq!(guest.rename(ROOT, "hello", 4, "new"), perm);
        assert_eq!(
            guest.stat_at(ROOT, false, "new").err(),
            Some(no(Errno::Noent))
        );
    }
}

#[test]
fn case_57_no_name_is_moved_or_linked_across_a_rule() {
    for mode in MODES {
        let fs = Fs::new(&image());
        fs.set_rule(b"/dir", Rule::ReadOnly).unwrap();
        let mut guest = on(mode, &fs);
        let perm = Err(no(Errno::Perm));
        for (from, to) in [("dir/inner", "new"), ("hello", "dir/new")] {
            assert_eq!(guest.link(ROOT, false, from, ROOT, to), perm);
            assert_eq!(guest.rename(ROOT, from, ROOT, to), perm);
        }
        guest.symlink("dir/inner", ROOT, "way").unwrap();
        let fd = guest.open(ROOT, "way", Oflags::empty(), READ_WRITE);
        assert_eq!(fd, Err(no(Errno::Perm)));
    }
}

#[test]
fn case_58_a_mount_is_crossed_by_names_and_no_rename() {
    for mode in MODES {
        let (fs, other) = (
            Fs::new(&image()),
            Fs::builder(&image()).device(7.try_into().unwrap()).build(),
        );
        let all = stratafs::vfs::Rights::ReadWrite;
        fs.mount(b"/dir/m", &other, b"/dir", all).unwrap();
        let report = Arc::new(|| b"a report".to_vec());
        fs.mount_file(b"/empty/report", report).unwrap();
        let mut guest = on(mode, &fs);
        let none = Oflags::empty();
        let fd = guest
            .open(ROOT, "dir/m/inner", none, Rights::FD_READ)
            .unwrap();
        assert_eq!(guest.read(fd, 99).unwrap(), b"inner");
        assert_eq!(guest.stat_at(ROOT, true, "dir/m/inner").unwrap().dev, 7);
        assert_eq!(guest.stat_at(ROOT, true, "dir/m/../inner").unwrap().dev, 1);
        let xdev = Err(no(Errno::Xdev));
        assert_eq!(guest.rename(ROOT, "hello", ROOT, "dir/m/x"), xdev);
        assert_eq!(guest.link(ROOT, false, "dir/m/inner", ROOT, "x"), xdev);
        assert_eq!(guest.rmdir(ROOT, "dir/m"), Err(no(Errno::Busy)));
        assert!(guest.names(ROOT, "dir").iter().any(|name| name == "m"));
        assert!(guest.names(ROOT, "dir/m").iter().any(|name| name == "sub"));
        // The host's file: its bytes once open, no size before.
        let fd = guest
            .open(ROOT, "empty/report", none, Rights::FD_READ)
            .unwrap();
        assert_eq!(guest.stat_at(ROOT, true, "empty/report").unwrap().size, 0);
        assert_eq!(guest.seek(fd, 0, 2), Ok(8));
        assert_eq!(guest.pread(fd, 99, 2).unwrap(), b"report");
        assert_eq!(guest.unlink(ROOT, "empty/report"), Err(no(Errno::Perm)));
        let fd = guest.open(ROOT, "empty/report", none, READ_WRITE);
        assert_eq!(fd, Err(no(Errno::Perm)));
    }
}

#[test]
fn case_58_preopens_of_one_file_system_are_one() {
    for mode in MODES {
        let (fs, other) = (Fs::new(&image()), Fs::new(&image()));
        let all = stratafs::vfs::Rights::ReadWrite;
        let ctx = stratafs::wasi::p1::Ctx::new(super::quiet())
            .preopen(fs.preopen(b"/dir", all).unwrap(), "/a")
            .preopen(fs.preopen(b"/empty", all).unwrap(), "/b")
            .preopen(other.root().unwrap(), "/c");
        let mut guest = Guest::new(mode, ctx);
        assert_eq!(guest.preopens(), ["/a", "/b", "/c"]);
        guest.rename(3, "inner", 4, "moved").unwrap();
        guest.link(4, false, "moved", 3, "linked").unwrap();
        assert_eq!(guest.stat_at(3, true, "linked").unwrap().nlink, 2);
        let xdev = Err(no(Errno::Xdev));
        assert_eq!(guest.rename(4, "moved", 5, "x"), xdev);
        assert_eq!(guest.link(4, false, "moved", 5, "x"), xdev);
        // The preopens themselves stay.
        assert_eq!(guest.names(5, "."), on(mode, &other).names(ROOT, "."));
    }
}

#[test]
fn case_59_renames_follow_posix() {
    for mode in MODES {
        let mut guest = guest(mode);
        for (from, to, errno) in [
            ("dir", "dir/sub/x", Errno::Inval),
            ("dir", "dir/x", Errno::Inval),
            ("empty", "dir", Errno::Notempty),
            ("empty", "hello", Errno::Notdir),
            ("hello", "empty", Errno::Isdir),
            ("link", "empty", Errno::Isdir),
            ("hello", "new/", Errno::Notdir),
            ("nope", "x", Errno::Noent),
            ("hello", "nope/x", Errno::Noent),
        ] {
            assert_eq!(
                guest.rename(ROOT, from, ROOT, to),
                Err(no(errno)),
                "{from} {to}"
            );
        }
        for (from, to) in [
            ("hello", "hello"),
            ("hello", "hard"),
            ("dir", "dir"),
            ("empty/", "gone/"),
        ] {
            guest.rename(ROOT, from, ROOT, to).unwrap();
        }
        assert_eq!(guest.stat_at(ROOT, true, "hello").unwrap().nlink, 2);
        guest.rename(ROOT, "dir", ROOT, "gone").unwrap();
        assert_eq!(guest.names(ROOT, "gone"), ["inner", "sub"]);
    }
}

#[test]
fn case_60_the_root_and_the_dots_stay() {
    for mode in MODES {
        let mut guest = guest(mode);
        let busy = Err(no(Errno::Busy));
        for path in [".", "dir/.", "dir/.."] {
            assert_eq!(guest.rmdir(ROOT, path), Err(no(Errno::Inval)), "{path}");
            assert_eq!(guest.unlink(ROOT, path), Err(no(Errno::Isdir)), "{path}");
            assert_eq!(guest.rename(ROOT, path, ROOT, "x"), busy, "{path}");
            assert_eq!(guest.rename(ROOT, "empty", ROOT, path), busy, "{path}");
            assert_eq!(guest.mkdir(ROOT, path), Err(no(Errno::Exist)), "{path}");
        }
        assert_eq!(guest.rmdir(ROOT, ".."), Err(no(Errno::Perm)));
    }
}

#[test]
fn case_71_malformed_paths_have_their_errors() {
    for mode in MODES {
        let mut guest = guest(mode);
        let long = "n".repeat(256);
        let mib = "a/".repeat(1 << 17);
        for (path, errno) in [
            (&b"he\0llo"[..], Errno::Inval),
            (b"", Errno::Noent),
            (b"\xff\xfe", Errno::Ilseq),
            (b"dir/\xc3", Errno::Ilseq),
            (long.as_bytes(), Errno::Nametoolong),
            (mib.as_bytes(), Errno::Nametoolong),
        ] {
            for name in [
                "path_create_directory",
                "path_remove_directory",
                "path_unlink_file",
            ] {
                assert_eq!(guest.at(name, ROOT, path), Err(no(errno)), "{name}");
            }
            let fd = guest.open_raw(
                ROOT,
                true,
                path,
                Oflags::CREAT,
                READ_WRITE,
                Fdflags::empty(),
            );
            assert_eq!(fd, Err(no(errno)));
        }
        // A legal near miss of each.
        guest.create(ROOT, &"n".repeat(255), b"");
        guest.create(ROOT, "caf\u{e9}", b"");
        assert_eq!(
            open(
                &mut guest,
                ROOT,
                &format!("dir{}inner", "/".repeat(4000)),
                Oflags::empty()
            ),
            Ok(4)
        );
        // In a call without a directory the string is looked at first.
        let bad = guest.open_raw(
            99,
            true,
            b"\xff",
            Oflags::empty(),
            READ_WRITE,
            Fdflags::empty(),
        );
        assert_eq!(bad, Err(no(Errno::Ilseq)));
        assert_eq!(
            guest.at("path_unlink_file", 99, b"\xff"),
            Err(no(Errno::Badf))
        );
    }
}

#[test]
fn case_72_forty_links_and_no_more() {
    for mode in MODES {
        let mut guest = guest(mode);
        guest.symlink("hello", ROOT, "l1").unwrap();
        for n in 2..=41 {
            guest
                .symlink(&format!("l{}", n - 1), ROOT, &format!("l{n}"))
                .unwrap();
        }
        assert_eq!(guest.content(ROOT, "l40").unwrap(), b"hello world");
        assert_eq!(guest.content(ROOT, "l41"), Err(no(Errno::Loop)));
        assert_eq!(guest.content(ROOT, "loop"), Err(no(Errno::Loop)));
        let nofollow = guest.open_raw(
            ROOT,
            false,
            b"link",
            Oflags::empty(),
            READ_WRITE,
            Fdflags::empty(),
        );
        assert_eq!(nofollow, Err(no(Errno::Loop)));
    }
}

#[test]
fn case_76_without_a_preopen_there_is_nothing() {
    for mode in MODES {
        let mut guest = Guest::new(mode, stratafs::wasi::p1::Ctx::new(super::quiet()));
        assert_eq!(guest.preopens(), [""; 0]);
        assert_eq!(
            open(&mut guest, 3, "Cargo.toml", Oflags::empty()),
            Err(no(Errno::Badf))
        );
    }
}

#[test]
fn links_are_read_in_part_and_hard_links_share_all() {
    for mode in MODES {
        let mut guest = guest(mode);
        assert_eq!(guest.readlink(ROOT, "link", 3).unwrap(), b"hel");
        assert_eq!(guest.readlink(ROOT, "link", 0).unwrap(), b"");
        assert_eq!(guest.readlink(ROOT, "hello", 9), Err(no(Errno::Inval)));
        assert_eq!(
            guest.link(ROOT, true, "hello", ROOT, "new"),
            Err(no(Errno::Inval))
        );
        guest.link(ROOT, false, "hello", ROOT, "new").unwrap();
        let (a, b) = (
            guest.stat_at(ROOT, true, "hello"),
            guest.stat_at(ROOT, true, "new"),
        );
        assert_eq!(a, b);
        assert_eq!(a.unwrap().nlink, 3);
        assert_eq!(
            guest.link(ROOT, false, "dir", ROOT, "d2"),
            Err(no(Errno::Perm))
        );
        assert_eq!(
            guest.link(ROOT, false, "hello", ROOT, "dir"),
            Err(no(Errno::Exist))
        );
        let link = guest.stat_at(ROOT, false, "link").unwrap();
        assert_eq!((link.filetype, link.size), (7, 5));
        assert_eq!(guest.stat_at(ROOT, true, "link"), a);
        assert_ne!(a.unwrap().dev, 0);
    }
}
