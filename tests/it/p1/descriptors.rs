//! Numbers of descriptors: who gets which, and what becomes of them.

use stratafs::limits::MAX_TABLE_SLOTS;
use stratafs::vfs::Fs;

use super::{ROOT, guest, image, on, with_read_only};
use crate::support::p1::{Errno, Fdflags, Guest, MODES, Mode, Oflags, READ_WRITE, Rights, no};

fn hello(guest: &mut Guest) -> Result<u32, i32> {
    guest.open(ROOT, "hello", Oflags::empty(), Rights::FD_READ)
}

#[test]
fn the_lowest_free_number_is_given() {
    for mode in MODES {
        let mut guest = guest(mode);
        assert_eq!(
            (4..9).map(|_| hello(&mut guest)).collect::<Vec<_>>(),
            (4..9).map(Ok).collect::<Vec<_>>()
        );
        for fd in [7, 5] {
            guest.close(fd).unwrap();
        }
        assert_eq!(
            [hello(&mut guest), hello(&mut guest), hello(&mut guest)],
            [Ok(5), Ok(7), Ok(9)]
        );
        guest.close(0).unwrap();
        assert_eq!(hello(&mut guest), Ok(0));
        assert_eq!(guest.read(0, 5).unwrap(), b"hello");
    }
}

#[test]
fn case_63_renumber_games_end_in_an_errno() {
    for mode in MODES {
        let mut guest = with_read_only(mode);
        let a = hello(&mut guest).unwrap();
        let b = guest
            .open(ROOT, "dir/inner", Oflags::empty(), Rights::FD_READ)
            .unwrap();
        let bad = Err(no(Errno::Badf));
        let (a64, b64) = (i64::from(a), i64::from(b));
        guest.call("fd_renumber", &[a64, a64]).unwrap();
        for (from, to) in [
            (a64, 99),
            (99, a64),
            (a64, 1 << 31),
            (1 << 31, a64),
            (a64, u32::MAX.into()),
            (99, 99),
        ] {
            assert_eq!(guest.call("fd_renumber", &[from, to]), bad);
        }
        // Onto another: that one is closed, this number is freed.
        guest.call("fd_renumber", &[b64, a64]).unwrap();
        assert_eq!(guest.read(a, 9).unwrap(), b"inner");
        assert_eq!(guest.read(b, 9).err(), bad.err());
        // Onto a preopen: the name of the preopen goes with it.
        guest.call("fd_renumber", &[a64, 4]).unwrap();
        assert_eq!(guest.seek(4, 0, 0), Ok(0));
        assert_eq!(guest.read(4, 9).unwrap(), b"inner");
        assert_eq!(guest.preopens(), ["/"]);
        // A preopen onto standard output.
        guest.call("fd_renumber", &[3, 1]).unwrap();
        assert_eq!(guest.stat_at(1, true, "hello").unwrap().size, 11);
        assert_eq!(guest.stat_at(3, true, "hello"), Err(no(Errno::Badf)));
    }
}

#[test]
fn case_63_a_million_renumberings_leak_nothing() {
    for mode in MODES {
        let fs = Fs::new(&image());
        let mut guest = on(mode, &fs);
        let (rounds, fixed) = (100_000, hello(&mut guest).unwrap());
        let open = fs.usage().open;
        for _ in 0..rounds {
            let fd = hello(&mut guest).unwrap();
            assert_eq!(fd, 5);
            guest
                .call("fd_renumber", &[fd.into(), fixed.into()])
                .unwrap();
        }
        assert_eq!(fs.usage().open, open);
    }
}

#[test]
fn case_64_a_closed_preopen_is_closed() {
    for mode in MODES {
        let mut guest = guest(mode);
        let kept = guest
            .open(ROOT, "dir", Oflags::DIRECTORY, Rights::FD_READDIR)
            .unwrap();
        guest.close(ROOT).unwrap();
        let bad = no(Errno::Badf);
        assert_eq!(guest.close(ROOT), Err(bad));
        assert_eq!(hello(&mut guest), Err(bad));
        assert_eq!(guest.stat(ROOT).err(), Some(bad));
        assert_eq!(guest.fdstat(ROOT).err(), Some(bad));
        assert_eq!(guest.mkdir(ROOT, "x"), Err(bad));
        assert_eq!(guest.preopens(), [""; 0]);
        let again = guest
            .open(kept, "inner", Oflags::empty(), Rights::FD_READ)
            .unwrap();
        assert_eq!(again, ROOT);
        assert_eq!(guest.read(again, 9).unwrap(), b"inner");
        for fd in [50, 1 << 20, 1 << 31, u32::MAX] {
            assert_eq!(guest.read(fd, 1), Err(bad));
            assert_eq!(guest.close(fd), Err(bad));
            assert_eq!(guest.tell(fd), Err(bad));
            assert_eq!(guest.call("fd_prestat_get", &[fd.into(), 64]), Err(bad));
        }
    }
}

#[test]
fn the_table_has_max_table_slots() {
    let fs = Fs::builder(&image()).max_open(u32::MAX).build();
    let mut guest = on(Mode::Sync, &fs);
    let mut last = ROOT;
    let full = loop {
        match hello(&mut guest) {
            Ok(fd) => last = fd,
            Err(errno) => break errno,
        }
    };
    assert_eq!(
        (last as usize + 1, full),
        (MAX_TABLE_SLOTS, no(Errno::Mfile))
    );
    guest.close(last).unwrap();
    assert_eq!(hello(&mut guest), Ok(last));
}

#[test]
fn case_65_opening_without_end_meets_the_limit() {
    for mode in MODES {
        let fs = Fs::builder(&image()).max_open(100).build();
        let mut guest = on(mode, &fs);
        let opened = (0..1_000).take_while(|_| hello(&mut guest).is_ok()).count();
        assert_eq!(opened, 99);
        assert_eq!(hello(&mut guest), Err(no(Errno::Mfile)));
        let create = guest.open(ROOT, "new", Oflags::CREAT, READ_WRITE);
        assert_eq!(create, Err(no(Errno::Mfile)));
        assert_eq!(
            guest.stat_at(ROOT, true, "new").err(),
            Some(no(Errno::Noent))
        );
        guest.close(50).unwrap();
        assert_eq!(hello(&mut guest), Ok(50));
    }
}

#[test]
fn case_61_an_unlinked_open_file_works_and_renumbers() {
    for mode in MODES {
        let fs = Fs::new(&image());
        let mut guest = on(mode, &fs);
        guest.create(ROOT, "new", &[1; 5_000]);
        let fd = guest
            .open(ROOT, "new", Oflags::empty(), READ_WRITE)
            .unwrap();
        let other = hello(&mut guest).unwrap();
        guest.unlink(ROOT, "new").unwrap();
        assert_eq!(guest.stat(fd).unwrap().nlink, 0);
        assert_eq!(guest.write(fd, b"abc"), Ok(3));
        guest
            .call("fd_renumber", &[fd.into(), other.into()])
            .unwrap();
        assert_eq!(guest.pread(other, 4, 0).unwrap(), b"abc\x01");
        assert!(fs.usage().private_bytes > 0);
        guest.close(other).unwrap();
        assert_eq!(fs.usage().private_bytes, 0);
    }
}

#[test]
fn directories_are_no_files() {
    for mode in MODES {
        let mut guest = guest(mode);
        let dir = guest
            .open(ROOT, "dir", Oflags::empty(), Rights::FD_READ)
            .unwrap();
        for fd in [ROOT, dir] {
            let fd64 = i64::from(fd);
            let bad = no(Errno::Badf);
            assert_eq!(guest.read(fd, 1), Err(bad));
            assert_eq!(guest.pread(fd, 1, 0), Err(bad));
            assert_eq!(guest.write(fd, b"x"), Err(bad));
            assert_eq!(guest.pwrite(fd, b"x", 0), Err(bad));
            assert_eq!(guest.seek(fd, 0, 0), Err(bad));
            assert_eq!(guest.tell(fd), Err(bad));
            for (name, args) in [
                ("fd_advise", vec![fd64, 0, 0, 0]),
                ("fd_allocate", vec![fd64, 0, 1]),
                ("fd_fdstat_set_flags", vec![fd64, 0]),
                ("fd_filestat_set_size", vec![fd64, 0]),
            ] {
                assert_eq!(guest.call(name, &args), Err(bad), "{name}");
            }
            // Databases ask for it after they made or removed a file there.
            for name in ["fd_sync", "fd_datasync"] {
                guest.call(name, &[fd64]).unwrap();
            }
            assert_eq!(
                guest.call("fd_fdstat_set_rights", &[fd64, 0, 0]),
                Err(no(Errno::Notsup))
            );
        }
        let file = hello(&mut guest).unwrap();
        let notdir = Err(no(Errno::Notdir));
        assert_eq!(
            guest.open(file, "x", Oflags::empty(), Rights::FD_READ),
            notdir
        );
        assert_eq!(guest.mkdir(file, "x"), Err(no(Errno::Badf)));
        assert_eq!(guest.readdir(file, 9, 0), Err(no(Errno::Badf)));
        assert_eq!(
            guest.call("fd_prestat_get", &[file.into(), 64]),
            Err(no(Errno::Badf))
        );
        assert_eq!(
            guest.call("fd_prestat_dir_name", &[file.into(), 64, 9]),
            Err(no(Errno::Notdir))
        );
    }
}

#[test]
fn flags_are_kept_synchronous_ones_too() {
    for mode in MODES {
        let mut guest = guest(mode);
        let fd = guest
            .open_raw(
                ROOT,
                true,
                b"hello",
                Oflags::empty(),
                READ_WRITE,
                Fdflags::APPEND | Fdflags::NONBLOCK,
            )
            .unwrap();
        assert_eq!(
            guest.fdstat(fd).unwrap().1,
            (Fdflags::APPEND | Fdflags::NONBLOCK).bits()
        );
        let set = |flags: Fdflags| [i64::from(fd), flags.bits().into()];
        for flags in [
            Fdflags::SYNC,
            Fdflags::DSYNC | Fdflags::APPEND,
            Fdflags::RSYNC,
        ] {
            guest.call("fd_fdstat_set_flags", &set(flags)).unwrap();
            assert_eq!(guest.fdstat(fd).unwrap().1, flags.bits());
            let other = guest
                .open_raw(ROOT, true, b"hello", Oflags::CREAT, READ_WRITE, flags)
                .unwrap();
            assert_eq!(guest.fdstat(other).unwrap().1, flags.bits());
            assert_eq!(guest.write(other, b"h").unwrap(), 1);
            guest.close(other).unwrap();
        }
        guest
            .call("fd_fdstat_set_flags", &set(Fdflags::NONBLOCK))
            .unwrap();
        assert_eq!(guest.fdstat(fd).unwrap().1, Fdflags::NONBLOCK.bits());
        assert!(guest.traps("fd_fdstat_set_flags", &[fd.into(), 32]));
        assert!(guest.traps("path_open", &[3, 2, 64, 0, 0, 0, 0, 0, 64]));
    }
}

#[test]
fn sockets_are_none() {
    for mode in MODES {
        let mut guest = guest(mode);
        for (fd, errno) in [
            (ROOT, Errno::Notsock),
            (1, Errno::Notsock),
            (99, Errno::Badf),
        ] {
            let fd = i64::from(fd);
            for (name, args) in [
                ("sock_accept", vec![fd, 0, 64]),
                ("sock_recv", vec![fd, 64, 0, 0, 64, 64]),
                ("sock_send", vec![fd, 64, 0, 0, 64]),
                ("sock_shutdown", vec![fd, 1]),
            ] {
                assert_eq!(guest.call(name, &args), Err(no(errno)), "{name}");
            }
        }
    }
}
