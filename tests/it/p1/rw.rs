//! Reading, writing, offsets, append, sizes and times.

use stratafs::vfs::Fs;

use super::{ROOT, guest, image, on, with_read_only};
use crate::support::p1::{
    DATA, Errno, Fdflags, Fstflags, Guest, MODES, Oflags, READ_WRITE, Rights, no,
};

const APPEND: Fdflags = Fdflags::APPEND;

fn open(guest: &mut Guest, path: &str, rights: Rights, flags: Fdflags) -> u32 {
    guest
        .open_raw(ROOT, true, path.as_bytes(), Oflags::empty(), rights, flags)
        .unwrap()
}

#[test]
fn bytes_come_back_and_offsets_move() {
    for mode in MODES {
        let mut guest = guest(mode);
        let fd = open(&mut guest, "hello", READ_WRITE, Fdflags::empty());
        assert_eq!(guest.read(fd, 5).unwrap(), b"hello");
        assert_eq!(guest.tell(fd), Ok(5));
        assert_eq!(guest.write(fd, b"_W"), Ok(2));
        assert_eq!(guest.pread(fd, 100, 0).unwrap(), b"hello_World");
        assert_eq!(guest.pwrite(fd, b"J", 0), Ok(1));
        assert_eq!(guest.tell(fd), Ok(7));
        assert_eq!(guest.read(fd, 100).unwrap(), b"orld");
        assert_eq!(guest.read(fd, 100).unwrap(), b"");
        assert_eq!(guest.content(ROOT, "hard").unwrap(), b"Jello_World");
        guest.close(fd).unwrap();
        assert_eq!(guest.read(fd, 1), Err(no(Errno::Badf)));
    }
}

#[test]
fn case_66_every_iovec_of_a_call_is_served() {
    for mode in MODES {
        let mut guest = guest(mode);
        let fd = open(&mut guest, "hello", READ_WRITE, Fdflags::empty());
        guest.iovecs(
            1024,
            &[
                (0, 0),
                (DATA, 2),
                (DATA + 100, 0),
                (DATA + 50, 3),
                (DATA + 60, 90),
            ],
        );
        guest.call("fd_read", &[fd.into(), 1024, 5, 64]).unwrap();
        assert_eq!(guest.u32(64), 11);
        assert_eq!(guest.get(DATA, 2), b"he");
        assert_eq!(guest.get(DATA + 50, 3), b"llo");
        assert_eq!(guest.get(DATA + 60, 6), b" world");
        guest.put(DATA, b"ABCDEF");
        guest.iovecs(1024, &[(DATA + 3, 3), (DATA, 0), (DATA, 3)]);
        guest
            .call("fd_pwrite", &[fd.into(), 1024, 3, 2, 64])
            .unwrap();
        assert_eq!(guest.u32(64), 6);
        assert_eq!(guest.content(ROOT, "hello").unwrap(), b"heDEFABCrld");
    }
}

#[test]
fn case_37_an_append_goes_to_the_end() {
    for mode in MODES {
        let mut guest = guest(mode);
        let fd = open(&mut guest, "hello", READ_WRITE, APPEND);
        assert_eq!(guest.write(fd, b"!"), Ok(1));
        // Linux: pwrite appends too, whatever the offset.
        assert_eq!(guest.pwrite(fd, b"?", 0), Ok(1));
        guest.iovecs(1024, &[(DATA, 1), (DATA, 1)]);
        guest.put(DATA, b"#");
        guest.call("fd_write", &[fd.into(), 1024, 2, 64]).unwrap();
        assert_eq!(guest.content(ROOT, "hello").unwrap(), b"hello world!?##");
        let set = |flags: Fdflags| [i64::from(fd), flags.bits().into()];
        guest
            .call("fd_fdstat_set_flags", &set(Fdflags::empty()))
            .unwrap();
        assert_eq!(guest.seek(fd, 0, 0), Ok(0));
        assert_eq!(guest.write(fd, b"J"), Ok(1));
        guest.call("fd_fdstat_set_flags", &set(APPEND)).unwrap();
        assert_eq!(guest.write(fd, b"."), Ok(1));
        assert_eq!(guest.content(ROOT, "hello").unwrap(), b"Jello world!?##.");
    }
}

#[test]
fn case_p15_two_appenders_interleave_whole_writes() {
    for mode in MODES {
        let fs = Fs::new(&image());
        let mut guests = [on(mode, &fs), on(mode, &fs)];
        let fds = guests.each_mut().map(|guest| {
            let flags = Oflags::CREAT;
            guest
                .open_raw(ROOT, true, b"log", flags, Rights::FD_WRITE, APPEND)
                .unwrap()
        });
        for _ in 0..3 {
            for (guest, fd) in guests.iter_mut().zip(fds) {
                assert_eq!(guest.write(fd, b"ab"), Ok(2));
            }
        }
        assert_eq!(guests[0].content(ROOT, "log").unwrap(), b"abababababab");
    }
}

#[test]
fn case_67_far_offsets_are_refused_or_sparse() {
    for mode in MODES {
        let mut guest = guest(mode);
        let fd = open(&mut guest, "hello", READ_WRITE, Fdflags::empty());
        let far = i64::MAX as u64;
        assert_eq!(guest.seek(fd, i64::MAX, 0), Ok(far));
        assert_eq!(guest.read(fd, 1).unwrap(), b"");
        assert_eq!(guest.write(fd, b"x"), Err(no(Errno::Fbig)));
        assert_eq!(guest.pwrite(fd, b"x", far), Err(no(Errno::Fbig)));
        assert_eq!(guest.pwrite(fd, b"x", far + 1), Err(no(Errno::Inval)));
        assert_eq!(guest.pread(fd, 1, u64::MAX), Err(no(Errno::Inval)));
        for size in [1_u64 << 62, u64::MAX] {
            let answer = guest.call("fd_filestat_set_size", &[fd.into(), size as i64]);
            assert!([Err(no(Errno::Fbig)), Err(no(Errno::Inval))].contains(&answer));
        }
        assert_eq!(
            guest.call("fd_allocate", &[fd.into(), 0, 1 << 62]),
            Err(no(Errno::Notsup))
        );
        assert_eq!(guest.stat(fd).unwrap().size, 11);
        let tib = 1 << 40;
        assert_eq!(guest.pwrite(fd, b"end", tib), Ok(3));
        assert_eq!(guest.stat(fd).unwrap().size, tib + 3);
        assert_eq!(guest.pread(fd, 5, tib - 2).unwrap(), b"\0\0end");
    }
}

#[test]
fn seeking_follows_posix() {
    for mode in MODES {
        let mut guest = guest(mode);
        let fd = open(&mut guest, "hello", Rights::FD_READ, Fdflags::empty());
        assert_eq!(guest.seek(fd, -4, 2), Ok(7));
        assert_eq!(guest.seek(fd, 2, 1), Ok(9));
        assert_eq!(guest.seek(fd, -1, 0), Err(no(Errno::Inval)));
        assert_eq!(guest.seek(fd, -10, 1), Err(no(Errno::Inval)));
        assert_eq!(guest.seek(fd, -12, 2), Err(no(Errno::Inval)));
        assert_eq!(guest.tell(fd), Ok(9));
        assert_eq!(guest.seek(fd, 50, 2), Ok(61));
        assert_eq!(guest.read(fd, 9).unwrap(), b"");
        for stdio in 0..3 {
            assert_eq!(guest.seek(stdio, 0, 0), Err(no(Errno::Spipe)));
            assert_eq!(guest.tell(stdio), Err(no(Errno::Spipe)));
        }
        assert!(guest.traps("fd_seek", &[fd.into(), 0, 3, 64]));
    }
}

#[test]
fn case_44_sizes_change_through_writers_only() {
    for mode in MODES {
        let mut guest = with_read_only(mode);
        let reader = open(&mut guest, "hello", Rights::FD_READ, Fdflags::empty());
        let size = |fd: u32, size: i64| [i64::from(fd), size];
        assert_eq!(
            guest.call("fd_filestat_set_size", &size(reader, 0)),
            Err(no(Errno::Inval))
        );
        let below = guest
            .open(4, "hello", Oflags::empty(), Rights::FD_READ)
            .unwrap();
        assert_eq!(
            guest.call("fd_filestat_set_size", &size(below, 0)),
            Err(no(Errno::Perm))
        );
        let writer = open(&mut guest, "hello", READ_WRITE, Fdflags::empty());
        guest
            .call("fd_filestat_set_size", &size(writer, 3))
            .unwrap();
        guest
            .call("fd_filestat_set_size", &size(writer, 6))
            .unwrap();
        assert_eq!(guest.read(reader, 99).unwrap(), b"hel\0\0\0");
        assert_eq!(guest.write(reader, b"x"), Err(no(Errno::Badf)));
        assert_eq!(guest.write(reader, b""), Err(no(Errno::Badf)));
        let blind = open(&mut guest, "hello", Rights::FD_WRITE, Fdflags::empty());
        assert_eq!(guest.read(blind, 1), Err(no(Errno::Badf)));
        assert_eq!(
            guest.call("fd_read", &[blind.into(), 0, 0, 64]),
            Err(no(Errno::Badf))
        );
    }
}

#[test]
fn case_73_odd_times_are_clamped_and_set() {
    for mode in MODES {
        let mut guest = guest(mode);
        assert_eq!(guest.stat_at(ROOT, true, "old").unwrap().mtim, 0);
        let base = guest.stat_at(ROOT, true, "hello").unwrap();
        assert_eq!(base.mtim, 1_000_000_000_000_000_005);
        let fd = open(&mut guest, "hello", Rights::FD_READ, Fdflags::empty());
        let both = Fstflags::ATIM | Fstflags::MTIM;
        let args = |flags: Fstflags, time: u64| {
            [i64::from(fd), time as i64, time as i64, flags.bits().into()]
        };
        guest
            .call("fd_filestat_set_times", &args(both, u64::MAX))
            .unwrap();
        let set = guest.stat(fd).unwrap();
        assert_eq!((set.atim, set.mtim), (u64::MAX, u64::MAX));
        guest
            .call("fd_filestat_set_times", &args(Fstflags::MTIM, 7))
            .unwrap();
        let set = guest.stat(fd).unwrap();
        assert_eq!((set.atim, set.mtim), (u64::MAX, 7));
        guest
            .call("fd_filestat_set_times", &args(Fstflags::ATIM_NOW, 0))
            .unwrap();
        let set = guest.stat(fd).unwrap();
        assert!(set.atim > base.mtim && set.atim < u64::MAX && set.mtim == 7);
        for flags in [
            Fstflags::MTIM | Fstflags::MTIM_NOW,
            Fstflags::ATIM | Fstflags::ATIM_NOW,
        ] {
            assert_eq!(
                guest.call("fd_filestat_set_times", &args(flags, 0)),
                Err(no(Errno::Inval))
            );
        }
        let args = [99, 0, 0, both.bits().into()];
        assert_eq!(
            guest.call("fd_filestat_set_times", &args),
            Err(no(Errno::Badf))
        );
    }
}

#[test]
fn case_68_the_quota_is_met_exactly() {
    for mode in MODES {
        let fs = Fs::builder(&image()).max_bytes(10_000).build();
        let mut guest = on(mode, &fs);
        let fd = guest.open(ROOT, "new", Oflags::CREAT, READ_WRITE).unwrap();
        assert_eq!(guest.write(fd, &[1; 9_000]), Ok(9_000));
        // Vectored: the second buffer is cut where the quota ends.
        guest.put(DATA, &[2; 2_000]);
        guest.iovecs(1024, &[(DATA, 600), (DATA + 600, 600), (DATA, 5)]);
        guest.call("fd_write", &[fd.into(), 1024, 3, 64]).unwrap();
        assert_eq!(guest.u32(64), 1_000);
        assert_eq!(guest.write(fd, b"x"), Err(no(Errno::Nospc)));
        assert_eq!(guest.stat(fd).unwrap().size, 10_000);
        guest.unlink(ROOT, "new").unwrap();
        assert_eq!(guest.pwrite(fd, b"x", 0), Ok(1));
        guest.close(fd).unwrap();
        assert_eq!(fs.usage().private_bytes, 0);
        guest.create(ROOT, "again", &[3; 10_000]);
    }
}

#[test]
fn sync_and_advice_are_taken_for_files_only() {
    for mode in MODES {
        let mut guest = guest(mode);
        let fd = open(&mut guest, "hello", Rights::FD_READ, Fdflags::empty());
        guest.call("fd_sync", &[fd.into()]).unwrap();
        guest.call("fd_datasync", &[fd.into()]).unwrap();
        for advice in 0..6 {
            guest.call("fd_advise", &[fd.into(), 0, 0, advice]).unwrap();
        }
        assert_eq!(
            guest.call("fd_advise", &[fd.into(), 0, -1, 0]),
            Err(no(Errno::Inval))
        );
        assert!(guest.traps("fd_advise", &[fd.into(), 0, 0, 6]));
    }
}

/// Found by the soak: the size was looked at first.
#[test]
fn a_read_only_preopen_is_told_of_before_a_size_no_file_can_have() {
    for mode in MODES {
        let mut guest = with_read_only(mode);
        let none = Oflags::empty();
        let fd = guest.open(4, "hello", none, Rights::FD_READ).unwrap();
        for size in [0, i64::MAX, i64::MIN, -1] {
            assert_eq!(
                guest.call("fd_filestat_set_size", &[fd.into(), size]),
                Err(no(Errno::Perm))
            );
        }
    }
}

#[test]
fn a_guest_that_copies_a_tree_of_the_base_pays_metadata_only() {
    for mode in MODES {
        let fs = Fs::new(&image());
        let mut guest = on(mode, &fs);
        guest.mkdir(ROOT, "copy").unwrap();
        let mut total = 0;
        for name in ["hello", "dir/inner", "old"] {
            let content = guest.content(ROOT, name).unwrap();
            total += content.len() as u64;
            let copy = format!("copy/{}", name.replace('/', "-"));
            guest.create(ROOT, &copy, &content);
            assert_eq!(guest.content(ROOT, &copy).unwrap(), content);
        }
        let usage = fs.usage();
        assert_eq!((usage.private_bytes, usage.logical_bytes), (0, total));
    }
}
