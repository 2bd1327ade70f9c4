//! What stays wasmtime-wasi's: standard streams, host directories, clocks,
//! arguments, and polling over both kinds.

use stratafs::vfs::Fs;
use stratafs::wasi::p1::Ctx;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

use super::{guest, image};
use crate::support::p1::{DATA, Errno, Guest, MODES, Mode, Oflags, READ_WRITE, Rights, no};

/// A guest with ours as 3 and a host directory as 4, and its streams.
struct Both {
    guest: Guest,
    host: tempfile::TempDir,
    stdout: MemoryOutputPipe,
}

fn both(mode: Mode, blocking: bool) -> Both {
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("on-host"), "host bytes").unwrap();
    let stdout = MemoryOutputPipe::new(1 << 20);
    let wasi = WasiCtxBuilder::new()
        .allow_blocking_current_thread(blocking)
        .stdin(MemoryInputPipe::new("typed"))
        .stdout(stdout.clone())
        .arg("program")
        .env("KEY", "value")
        .preopened_dir(host.path(), "/host", FsPerms::ReadWrite)
        .unwrap()
        .build_p1();
    let fs = Fs::new(&image());
    let ctx = Ctx::new(wasi).preopen(fs.root().unwrap(), "/");
    Both {
        guest: Guest::new(mode, ctx),
        host,
        stdout,
    }
}

fn each(test: impl Fn(Both)) {
    for mode in MODES {
        for blocking in [false, true] {
            test(both(mode, blocking));
        }
    }
}

#[test]
fn host_directories_stand_beside_ours_in_one_table() {
    each(
        |Both {
             mut guest, host, ..
         }| {
            assert_eq!(guest.preopens(), ["/", "/host"]);
            assert_eq!(guest.content(4, "on-host").unwrap(), b"host bytes");
            assert_eq!(guest.content(3, "on-host"), Err(no(Errno::Noent)));
            // Numbers are given out over both kinds alike.
            let open =
                |guest: &mut Guest, dir, path| guest.open(dir, path, Oflags::CREAT, READ_WRITE);
            assert_eq!(open(&mut guest, 4, "new"), Ok(5));
            assert_eq!(open(&mut guest, 3, "new"), Ok(6));
            assert_eq!(open(&mut guest, 4, "other"), Ok(7));
            for (fd, text) in [(5, "five"), (6, "six"), (7, "seven")] {
                assert_eq!(guest.write(fd, text.as_bytes()), Ok(text.len() as u32));
                assert_eq!(guest.seek(fd, 1, 0), Ok(1));
                assert_eq!(guest.tell(fd), Ok(1));
                assert_eq!(guest.read(fd, 99).unwrap(), text.as_bytes()[1..]);
                assert_eq!(guest.stat(fd).unwrap().size, text.len() as u64);
            }
            // Renumbering across the border, both ways.
            guest.call("fd_renumber", &[5, 6]).unwrap();
            assert_eq!(guest.pread(6, 9, 0).unwrap(), b"five");
            assert_eq!(open(&mut guest, 3, "new"), Ok(5));
            guest.call("fd_renumber", &[5, 7]).unwrap();
            assert_eq!(guest.pread(7, 9, 0).unwrap(), b"six");
            assert_eq!(
                std::fs::read_to_string(host.path().join("other")).unwrap(),
                "seven"
            );
            guest.close(6).unwrap();
            assert_eq!(guest.read(6, 1), Err(no(Errno::Badf)));
            // wasmtime-wasi gives its own freed numbers again; ours hide that.
            assert_eq!(open(&mut guest, 4, "third"), Ok(5));
            assert_eq!(guest.write(5, b"3"), Ok(1));
            assert_eq!(
                std::fs::read_to_string(host.path().join("third")).unwrap(),
                "3"
            );
        },
    );
}

#[test]
fn host_directories_take_every_call_on_paths() {
    each(
        |Both {
             mut guest, host, ..
         }| {
            guest.mkdir(4, "d").unwrap();
            guest.symlink("on-host", 4, "l").unwrap();
            assert_eq!(guest.readlink(4, "l", 99).unwrap(), b"on-host");
            guest.link(4, false, "on-host", 4, "h").unwrap();
            guest.rename(4, "h", 4, "d/h").unwrap();
            assert_eq!(guest.stat_at(4, true, "d/h").unwrap().nlink, 2);
            assert_eq!(guest.names(4, "."), ["d", "l", "on-host"]);
            guest.unlink(4, "d/h").unwrap();
            guest.rmdir(4, "d").unwrap();
            assert!(!host.path().join("d").exists());
            assert_eq!(guest.stat_at(4, true, "../x").err(), Some(no(Errno::Perm)));
            assert_eq!(guest.fdstat(4), guest.fdstat(3));
        },
    );
}

#[test]
fn case_58_nothing_moves_between_ours_and_the_host() {
    each(
        |Both {
             mut guest, host, ..
         }| {
            let xdev = Err(no(Errno::Xdev));
            for (from, old, new) in [("on-host", 4, 3), ("hello", 3, 4)] {
                assert_eq!(guest.rename(old, from, new, "x"), xdev);
                assert_eq!(guest.link(old, false, from, new, "x"), xdev);
            }
            assert_eq!(guest.rename(1, "x", 3, "x"), Err(no(Errno::Badf)));
            assert_eq!(guest.rename(3, "x", 99, "x"), Err(no(Errno::Badf)));
            assert!(host.path().join("on-host").exists());
        },
    );
}

#[test]
fn standard_streams_work_wherever_they_are_moved() {
    each(
        |Both {
             mut guest, stdout, ..
         }| {
            assert_eq!(guest.read(0, 3).unwrap(), b"typ");
            assert_eq!(guest.write(1, b"one"), Ok(3));
            let fd = guest
                .open(3, "hello", Oflags::empty(), Rights::FD_READ)
                .unwrap();
            guest.call("fd_renumber", &[1, fd.into()]).unwrap();
            assert_eq!(guest.write(1, b"x"), Err(no(Errno::Badf)));
            assert_eq!(guest.write(fd, b" two"), Ok(4));
            assert_eq!(guest.pwrite(fd, b"x", 0), Err(no(Errno::Spipe)));
            assert_eq!(&stdout.contents()[..], b"one two");
            let file = guest
                .open(3, "hello", Oflags::empty(), Rights::FD_READ)
                .unwrap();
            assert_eq!(file, 1);
            guest.call("fd_renumber", &[1, 0]).unwrap();
            assert_eq!(guest.read(0, 5).unwrap(), b"hello");
            assert_eq!(guest.fdstat(2).unwrap().2, Rights::FD_WRITE.bits());
        },
    );
}

/// One subscription: user data, kind (0 clock, 1 read, 2 write), descriptor or
/// nanoseconds.
fn subscription(userdata: u64, kind: u8, what: u64) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    bytes[..8].copy_from_slice(&userdata.to_le_bytes());
    bytes[8] = kind;
    if kind == 0 {
        bytes[16] = 1; // the monotonic clock
        bytes[24..32].copy_from_slice(&what.to_le_bytes());
    } else {
        bytes[16..20].copy_from_slice(&(what as u32).to_le_bytes());
    }
    bytes
}

/// Polls and gives user data, errno, kind and flags of each event.
fn poll(guest: &mut Guest, subscriptions: &[Vec<u8>]) -> Result<Vec<(u64, u16, u8, u16)>, i32> {
    guest.put(DATA, &subscriptions.concat());
    let events = DATA + 65536;
    guest.call(
        "poll_oneoff",
        &[DATA.into(), events.into(), subscriptions.len() as i64, 64],
    )?;
    let count = guest.u32(64);
    Ok((0..count)
        .map(|n| {
            let event = guest.get(events + n * 32, 32);
            let short = |at: usize| u16::from_le_bytes([event[at], event[at + 1]]);
            (
                u64::from_le_bytes(event[..8].try_into().unwrap()),
                short(8),
                event[10],
                short(24),
            )
        })
        .collect())
}

#[test]
fn polling_answers_for_both_kinds() {
    each(|Both { mut guest, .. }| {
        let ours = guest
            .open(3, "hello", Oflags::empty(), READ_WRITE)
            .unwrap()
            .into();
        let theirs = guest
            .open(4, "on-host", Oflags::empty(), READ_WRITE)
            .unwrap()
            .into();
        let hour = 3_600_000_000_000;
        // Ours alone, at once, whatever clock runs beside it.
        let events = poll(
            &mut guest,
            &[
                subscription(7, 1, ours),
                subscription(8, 0, hour),
                subscription(9, 2, ours),
            ],
        );
        assert_eq!(events.unwrap(), [(7, 0, 1, 0), (9, 0, 2, 0)]);
        // Both, in the order asked.
        let events = poll(
            &mut guest,
            &[
                subscription(1, 2, 1),
                subscription(2, 1, ours),
                subscription(4, 0, hour),
                subscription(5, 1, 0),
            ],
        );
        assert_eq!(events.unwrap(), [(1, 0, 2, 0), (2, 0, 1, 0), (5, 0, 1, 0)]);
        assert_eq!(
            poll(&mut guest, &[subscription(3, 1, theirs)]).unwrap(),
            [(3, 0, 1, 0)]
        );
        // At the end of the file reading hangs up.
        guest.seek(ours as u32, 0, 2).unwrap();
        assert_eq!(
            poll(&mut guest, &[subscription(7, 1, ours)]).unwrap(),
            [(7, 0, 1, 1)]
        );
        // Clocks alone are waited for, until the first has run out.
        let clocks = [
            subscription(6, 0, hour),
            subscription(u64::MAX, 0, 20_000_000),
        ];
        assert_eq!(poll(&mut guest, &clocks).unwrap(), [(u64::MAX, 0, 0, 0)]);
    });
}

#[test]
fn polling_refuses_what_it_cannot_wait_for() {
    each(|Both { mut guest, .. }| {
        let ours = guest
            .open(3, "hello", Oflags::empty(), READ_WRITE)
            .unwrap()
            .into();
        for bad in [3, 4, 99, u64::from(u32::MAX)] {
            for first in [subscription(1, 1, ours), subscription(1, 0, 0)] {
                assert_eq!(
                    poll(&mut guest, &[first, subscription(2, 1, bad)]),
                    Err(no(Errno::Badf))
                );
            }
        }
        assert_eq!(poll(&mut guest, &[]), Err(no(Errno::Inval)));
        assert_eq!(
            poll(&mut guest, &[subscription(1, 3, ours)]),
            Err(no(Errno::Inval))
        );
        // The bound on subscriptions, and just below it.
        let most = vec![subscription(1, 1, ours); 1_000];
        assert_eq!(poll(&mut guest, &most).unwrap().len(), 1_000);
        // Zeros: clocks that have run out.
        let args = |count: i64| [2 << 20, 3 << 20, count, 64];
        let too_many = guest.call("poll_oneoff", &args(4_097));
        assert_eq!(too_many, Err(no(Errno::Nomem)));
        assert_eq!(guest.call("poll_oneoff", &args(4_096)), Ok(()));
        assert_eq!(
            guest.call("poll_oneoff", &args(u32::MAX.into())),
            Err(no(Errno::Nomem))
        );
    });
}

#[test]
fn arguments_clocks_and_random_numbers_come_through() {
    each(|Both { mut guest, .. }| {
        guest.call("args_sizes_get", &[64, 68]).unwrap();
        assert_eq!((guest.u32(64), guest.u32(68)), (1, 8));
        guest.call("args_get", &[64, 128]).unwrap();
        assert_eq!(guest.get(128, 8), b"program\0");
        guest.call("environ_sizes_get", &[64, 68]).unwrap();
        assert_eq!((guest.u32(64), guest.u32(68)), (1, 10));
        guest.call("environ_get", &[64, 128]).unwrap();
        assert_eq!(guest.get(128, 10), b"KEY=value\0");
        guest.call("clock_time_get", &[0, 0, 64]).unwrap();
        assert!(guest.u64(64) > 1_600_000_000_000_000_000);
        guest.call("clock_res_get", &[1, 64]).unwrap();
        assert_ne!(guest.u64(64), 0);
        guest.call("random_get", &[DATA.into(), 32]).unwrap();
        assert_ne!(guest.get(DATA, 32), [0; 32]);
        guest.call("sched_yield", &[]).unwrap();
        assert_eq!(guest.call("proc_raise", &[6]), Err(no(Errno::Notsup)));
    });
}

#[test]
fn case_80_every_exit_status_is_kept() {
    for mode in MODES {
        for status in [0, 1, 125, 126, 134, 255] {
            let error = guest(mode).try_call("proc_exit", &[status]).unwrap_err();
            let exit = error.downcast_ref::<I32Exit>().expect("an exit");
            assert_eq!(i64::from(exit.0), status);
        }
    }
}

#[test]
fn a_synchronous_guest_runs_inside_an_asynchronous_host() {
    // Calls on files of ours and ready streams never enter tokio.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let Both {
            mut guest,
            stdout,
            host: _kept,
            ..
        } = both(Mode::Sync, true);
        assert_eq!(guest.content(3, "hello").unwrap(), b"hello world");
        assert_eq!(guest.content(4, "on-host").unwrap(), b"host bytes");
        assert_eq!(guest.write(1, b"out"), Ok(3));
        assert_eq!(&stdout.contents()[..], b"out");
    });
}
