//! Base content that is slow, or has to be fetched first: who needs it waits,
//! and nobody else.

use std::io::Write;

use stratafs::chunk::ChunkPool;
use stratafs::errno::Errno;
use stratafs::host::OpenOptions;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::vfs::{Access, Descriptor, Follow, Fs, OpenFlags, Rights};

use crate::support::far::{Far, far_image, far_layer, noise};

/// Not a whole number of blocks, and more than two pieces.
const LEN: usize = 150_000;

fn open(fs: &Fs) -> Descriptor {
    let root = fs.root().unwrap();
    root.open_at(Follow::No, b"dir/far", OpenFlags::empty(), Access::all())
        .unwrap()
}

/// The bytes of the far file in a layer.
fn told(layer: &Layer) -> Vec<u8> {
    let fs = Fs::new(&Image::empty());
    fs.apply(b"/", layer).unwrap();
    fs.read("/dir/far").unwrap()
}

/// Writes blocks of the far file whole: nothing of the base is needed.
fn overwrite(file: &Descriptor) {
    for block in [2, 3, 9, 20] {
        let wrote = file.write_at(&[7; 4096], block * 4096);
        assert_eq!(wrote, Ok(4096));
    }
}

/// A call that needs bytes of the far file, and what it gives.
type Call = fn(&Fs) -> Vec<u8>;

const CALLS: &[(&str, Call)] = &[
    ("read_at", |fs| {
        let mut buf = vec![0; 100_000];
        let len = open(fs).read_at(&mut buf, 5000).unwrap();
        buf.truncate(len);
        buf
    }),
    ("read_at over own blocks", |fs| {
        let file = open(fs);
        overwrite(&file);
        let mut buf = vec![0; LEN + 10];
        let len = file.read_at(&mut buf, 1).unwrap();
        buf.truncate(len);
        buf
    }),
    ("read_bytes", |fs| {
        open(fs).read_bytes(7, 5000).unwrap().to_vec()
    }),
    ("read_full", |fs| {
        let file = open(fs);
        overwrite(&file);
        file.read_full(4000, 90_000).unwrap().to_vec()
    }),
    ("read", |fs| fs.read("/dir/far").unwrap()),
    ("a write into a block", |fs| {
        let file = open(fs);
        assert_eq!(file.write_at(b"inside", 70_000), Ok(6));
        fs.read("/dir/far").unwrap()
    }),
    ("a write over the borders of blocks", |fs| {
        assert_eq!(open(fs).write_at(&[1; 9000], 4000), Ok(9000));
        fs.read("/dir/far").unwrap()
    }),
    ("an append", |fs| {
        assert_eq!(open(fs).append(b"more"), Ok(4));
        fs.read("/dir/far").unwrap()
    }),
    ("an append of the std-like API", |fs| {
        let mut file = OpenOptions::new()
            .append(true)
            .open(fs, "/dir/far")
            .unwrap();
        assert_eq!(file.write(b"more").unwrap(), 4);
        fs.read("/dir/far").unwrap()
    }),
    ("a write where a file was cut", |fs| {
        let file = open(fs);
        file.set_size(10_000).unwrap();
        file.set_size(20_000).unwrap();
        assert_eq!(file.write_at(&[5; 20], 9_990), Ok(20));
        fs.read("/dir/far").unwrap()
    }),
    ("a copy", |fs| {
        fs.copy("/dir/far", "/copy").unwrap();
        fs.read("/copy").unwrap()
    }),
    ("a diff", |fs| {
        overwrite(&open(fs));
        told(&fs.diff(&ChunkPool::new()).unwrap())
    }),
    ("a tree", |fs| {
        overwrite(&open(fs));
        told(&fs.tree("/", &ChunkPool::new()).unwrap())
    }),
];

/// What others do meanwhile: a call of each family, on the same file too.
fn busy(fs: &Fs) {
    let root = fs.root().unwrap();
    let far = open(fs);
    assert_eq!(fs.read("/dir/near").unwrap(), b"near");
    assert!(far.stat().unwrap().size > 0);
    assert_eq!(far.write_at(&[9; 4096], 30 * 4096), Ok(4096));
    let mut own = [0; 4096];
    assert_eq!(far.read_at(&mut own, 30 * 4096), Ok(4096));
    assert_eq!(own, [9; 4096]);
    fs.write("/new", "text").unwrap();
    root.rename_at(b"new", &root, b"newer").unwrap();
    root.link_at(b"dir/far", &root, b"second").unwrap();
    assert!(root.read_dir(0, usize::MAX).unwrap().len() >= 3);
    root.unlink_at(b"newer").unwrap();
    root.unlink_at(b"second").unwrap();
    fs.snapshot().fork().write("/forked", "x").unwrap();
    assert!(fs.usage().logical_bytes >= 4096);
}

#[test]
fn a_call_that_waits_for_the_base_delays_no_other() {
    let bytes = noise(LEN);
    for (name, call) in CALLS {
        let twin = Fs::new(&far_image(&Far::new(&bytes)));
        let mut want = call(&twin);
        for stalled in [true, false] {
            let far = Far::new(&bytes);
            let fs = Fs::new(&far_image(&far));
            if stalled {
                far.stall();
            } else {
                far.leave();
            }
            let mut got = far.meanwhile(|| call(&fs), || busy(&fs));
            // The others wrote this block, before or after, and the file with it.
            got.truncate(want.len());
            for bytes in [&mut got, &mut want] {
                let from = match *name {
                    "read_at" => 30 * 4096 - 5000,
                    "read_at over own blocks" => 30 * 4096 - 1,
                    _ => 30 * 4096,
                };
                if let Some(block) = bytes.get_mut(from.min(LEN)..from + 4096) {
                    block.fill(0);
                }
            }
            assert!(got == want, "{name}, stalled: {stalled}");
            assert_eq!(fs.check(), Ok(()), "{name}");
        }
    }
}

#[test]
fn every_piece_is_waited_for_and_none_is_asked_for_in_vain() {
    let bytes = noise(LEN);
    for (name, call) in CALLS {
        let want = call(&Fs::new(&far_image(&Far::new(&bytes))));
        let far = Far::new(&bytes);
        let fs = Fs::new(&far_image(&far));
        let (got, pieces) = far.serve(|| call(&fs));
        assert!(got == want, "{name}");
        assert!((1..=3).contains(&pieces), "{name}: {pieces}");
    }
}

#[test]
fn a_call_that_waits_for_the_base_reads_the_clock_as_often_as_one_that_does_not() {
    let bytes = noise(LEN);
    for (name, call) in CALLS {
        // What the clock says next, which each reading moves on.
        let next = |run: &dyn Fn(&Far, &Fs)| {
            let far = Far::new(&bytes);
            let fs = Fs::builder(&far_image(&far)).deterministic().build();
            run(&far, &fs);
            fs.write("/after", "").unwrap();
            fs.metadata("/after").unwrap().mtime
        };
        let near = next(&|_, fs| drop(call(fs)));
        let late = next(&|far, fs| drop(far.serve(|| call(fs))));
        assert_eq!(late, near, "{name}");
    }
}

#[test]
fn a_layer_is_read_before_the_instance_is_locked() {
    let far = Far::new(&noise(LEN));
    let layer = far_layer(&far);
    let fs = Fs::new(&far_image(&Far::new(b"another base")));
    for stalled in [true, false] {
        if stalled {
            far.stall();
        } else {
            far.leave();
        }
        far.meanwhile(
            || fs.apply(b"/dir", &layer).unwrap(),
            || {
                assert!(!fs.exists("/dir/dir").unwrap() || !stalled);
                fs.write("/other", "text").unwrap();
            },
        );
        assert_eq!(fs.read("/dir/dir/far").unwrap(), noise(LEN));
        assert_eq!(fs.check(), Ok(()));
    }
    // All or nothing: of a file that cannot be read, and of one too many.
    far.break_off();
    fs.remove_dir_all("/dir/dir").unwrap();
    let before = fs.usage();
    let error = fs.apply(b"/dir", &layer).unwrap_err();
    assert_eq!(
        (error.path(), error.errno()),
        (&b"/dir/dir/far"[..], Errno::Io)
    );
    assert_eq!(fs.usage(), before);
    far.come();
    let small = Fs::builder(&Image::empty())
        .max_bytes(LEN as u64 - 1)
        .build();
    let error = small.apply(b"/", &layer).unwrap_err();
    assert_eq!(
        (error.path(), error.errno()),
        (&b"/dir/far"[..], Errno::NoSpace)
    );
    assert_eq!(small.usage().inodes, 0);
    let exact = Fs::builder(&Image::empty())
        .max_bytes(LEN as u64 + 4)
        .build();
    exact.apply(b"/", &layer).unwrap();
}

#[test]
fn a_call_that_waits_has_changed_nothing() {
    let far = Far::new(&noise(LEN));
    let fs = Fs::new(&far_image(&far));
    let file = open(&fs);
    let before = (fs.usage(), file.stat().unwrap());
    far.leave();
    let wrote = far.meanwhile(
        || file.write_at(&[1; 10_000], 100),
        || {
            assert_eq!((fs.usage(), file.stat().unwrap()), before);
            // In vain: the wait is over and the bytes are not here.
            far.disappoint();
            far.wait_asked();
            assert_eq!((fs.usage(), file.stat().unwrap()), before);
        },
    );
    assert_eq!(wrote, Ok(10_000));
    // Bytes that never come are an error, and nothing is changed either.
    let before = (fs.usage(), file.stat().unwrap());
    far.leave();
    std::thread::scope(|threads| {
        let call = threads.spawn(|| file.write_at(b"x", 70_000));
        far.wait_asked();
        far.break_off();
        assert_eq!(call.join().unwrap(), Err(Errno::Io));
    });
    assert_eq!((fs.usage(), file.stat().unwrap()), before);
    assert_eq!(file.read_at(&mut [0; 10], 100_000), Err(Errno::Io));
    assert_eq!(file.write_at(&[2; 4096], 8 * 4096), Ok(4096));
    assert_eq!(fs.check(), Ok(()));
}

#[test]
fn what_others_write_while_a_write_waits_is_kept() {
    let bytes = noise(LEN);
    type Meanwhile = fn(&Descriptor);
    let cases: [(u64, Meanwhile); 5] = [
        // The block it waits for is written whole.
        (100, |file| {
            assert_eq!(file.write_at(&[3; 4096], 0), Ok(4096))
        }),
        // It is cut before and after where the write goes.
        (100, |file| file.set_size(50).unwrap()),
        (100, |file| file.set_size(102).unwrap()),
        // It is cut away and grown again.
        (4096 * 3 + 5, |file| {
            file.set_size(4096).unwrap();
            file.set_size(100_000).unwrap();
        }),
        (4096 * 3 + 5, |file| file.set_size(0).unwrap()),
    ];
    for (offset, meanwhile) in cases {
        let twin = Fs::new(&far_image(&Far::new(&bytes)));
        meanwhile(&open(&twin));
        assert_eq!(open(&twin).write_at(b"late", offset), Ok(4));
        for stalled in [true, false] {
            let far = Far::new(&bytes);
            let fs = Fs::new(&far_image(&far));
            let file = open(&fs);
            if stalled {
                far.stall();
            } else {
                far.leave();
            }
            let wrote = far.meanwhile(|| file.write_at(b"late", offset), || meanwhile(&file));
            assert_eq!(wrote, Ok(4));
            assert!(fs.read("/dir/far").unwrap() == twin.read("/dir/far").unwrap());
            assert_eq!(fs.usage().logical_bytes, twin.usage().logical_bytes);
            assert_eq!(fs.check(), Ok(()));
        }
    }
}

#[test]
fn appends_that_wait_do_not_overlap() {
    let bytes = noise(LEN);
    let far = Far::new(&bytes);
    let fs = Fs::new(&far_image(&far));
    let file = open(&fs);
    far.leave();
    let waited = far.meanwhile(
        || file.append(b"waited"),
        || {
            // The end moves into a block that needs nothing of the base.
            file.set_size(200_000).unwrap();
            assert_eq!(file.append(b"first"), Ok(5));
        },
    );
    assert_eq!(waited, Ok(6));
    let all = fs.read("/dir/far").unwrap();
    assert!(all[..LEN] == bytes && all[LEN..200_000].iter().all(|byte| *byte == 0));
    assert_eq!(&all[200_000..], b"firstwaited");
}

#[test]
fn a_stalled_read_in_a_shared_volume_delays_no_other_guest() {
    let bytes = noise(LEN);
    let far = Far::new(&bytes);
    let volume = Fs::new(&far_image(&far));
    let (one, two) = (Fs::new(&Image::empty()), Fs::new(&Image::empty()));
    for guest in [&one, &two] {
        guest
            .mount(b"/vol", &volume, b"/", Rights::ReadWrite)
            .unwrap();
    }
    for stalled in [true, false] {
        if stalled {
            far.stall();
        } else {
            far.leave();
        }
        let read = far.meanwhile(
            || one.read("/vol/dir/far").unwrap(),
            || {
                assert_eq!(two.read("/vol/dir/near").unwrap(), b"near");
                two.write("/vol/dir/mine", "text").unwrap();
                assert_eq!(two.read("/vol/dir/mine").unwrap(), b"text");
                assert_eq!(two.metadata("/vol/dir/far").unwrap().size, LEN as u64);
                two.rename("/vol/dir/mine", "/vol/other").unwrap();
                one.write("/own", "text").unwrap();
            },
        );
        assert!(read == bytes);
    }
}

#[test]
fn closing_a_file_that_may_equal_a_far_one_delays_nobody() {
    let bytes = noise(LEN);
    let far = Far::new(&bytes);
    let fs = Fs::new(&far_image(&far));
    far.leave();
    // Whatever closing looks at, the guest's own bytes are there after it,
    // though those of the base never come.
    fs.write("/same", &bytes).unwrap();
    assert!(fs.read("/same").unwrap() == bytes);
    far.break_off();
    assert!(fs.read("/same").unwrap() == bytes);
    assert_eq!(fs.check(), Ok(()));
}

#[cfg(feature = "runner")]
mod guests {
    use stratafs::chunk::ChunkPool;
    use stratafs::chunk::ContentBuilder;
    use stratafs::layer::LayerBuilder;
    use stratafs::meta::Meta;
    use stratafs::name::LayerPath;
    use stratafs::wasi::p1::Ctx;
    use wasmtime_wasi::WasiCtxBuilder;

    use super::*;
    use crate::support::guest::World;
    use crate::support::p1::{DATA, Fdflags, Guest, MODES, Oflags, READ_WRITE};
    use crate::support::wasi_host::{Compiled, Files, Mode};

    fn start(mode: crate::support::p1::Mode, fs: &Fs) -> (Guest, i64) {
        let wasi = WasiCtxBuilder::new().build_p1();
        let mut guest = Guest::new(mode, Ctx::new(wasi).preopen(fs.root().unwrap(), "/"));
        let none = (Oflags::empty(), Fdflags::empty());
        let fd = guest
            .open_raw(3, true, b"dir/far", none.0, READ_WRITE, none.1)
            .unwrap();
        (guest, fd.into())
    }

    /// Calls of preview1 that need bytes of the far file: name, offset, lengths
    /// of the buffers.
    const P1: &[(&str, i64, &[u32])] = &[
        ("fd_pread", 5000, &[90_000]),
        ("fd_pread", 1, &[10, 20_000, 0, 4096, 100_000]),
        ("fd_read", 0, &[5000]),
        ("fd_read", 0, &[9000, 9000]),
        ("fd_pwrite", 70_000, &[10]),
        ("fd_pwrite", 4000, &[50, 46, 3000, 1096, 1, 1, 5000, 7]),
        ("fd_write", 0, &[10]),
        ("fd_write", 0, &[3, 4, 5000, 100]),
    ];

    /// Makes one of them, and gives all that it came to.
    fn call(guest: &mut Guest, fd: i64, what: &(&str, i64, &[u32])) -> (Vec<u8>, u32, u64) {
        let (name, offset, lens) = *what;
        let (mut at, mut buffers) = (DATA, Vec::new());
        for len in lens {
            buffers.push((at, *len));
            at += len + 3;
        }
        let text = noise((at - DATA) as usize);
        guest.put(DATA, &text);
        guest.iovecs(1024, &buffers);
        let count = lens.len() as i64;
        let args = match name {
            "fd_pread" | "fd_pwrite" => vec![fd, 1024, count, offset, 64],
            _ => vec![fd, 1024, count, 64],
        };
        guest.call(name, &args).unwrap();
        let moved = guest.u32(64);
        guest.call("fd_tell", &[fd, 72]).unwrap();
        (guest.get(DATA, at - DATA), moved, guest.u64(72))
    }

    #[test]
    fn preview1_waits_and_calls_again() {
        let bytes = noise(LEN);
        for mode in MODES {
            for what in P1 {
                // Own blocks between the base's, as for the others.
                let ready = |far: &Far| {
                    let fs = Fs::new(&far_image(far));
                    overwrite(&open(&fs));
                    fs
                };
                let twin = ready(&Far::new(&bytes));
                let (mut guest, fd) = start(mode, &twin);
                let want = call(&mut guest, fd, what);
                for stalled in [true, false] {
                    let far = Far::new(&bytes);
                    let fs = ready(&far);
                    let (mut guest, fd) = start(mode, &fs);
                    if stalled {
                        far.stall();
                    } else {
                        far.leave();
                    }
                    let before = fs.usage().logical_bytes;
                    let got = far.meanwhile(
                        || call(&mut guest, fd, what),
                        || {
                            assert_eq!(fs.usage().logical_bytes, before);
                            assert_eq!(fs.read("/dir/near").unwrap(), b"near");
                            fs.write("/other", "").unwrap();
                        },
                    );
                    assert!(got == want, "{mode:?} {what:?}, stalled: {stalled}");
                    let same = fs.read("/dir/far").unwrap() == twin.read("/dir/far").unwrap();
                    assert!(same, "{mode:?} {what:?}");
                }
            }
        }
    }

    #[test]
    fn preview1_reads_the_clock_as_often_when_it_waits() {
        let bytes = noise(LEN);
        for mode in MODES {
            for what in P1 {
                // What the clock says next, which each reading moves on.
                let next = |waits: bool| {
                    let far = Far::new(&bytes);
                    let fs = Fs::builder(&far_image(&far)).deterministic().build();
                    let (mut guest, fd) = start(mode, &fs);
                    if waits {
                        let (_, pieces) = far.serve(|| call(&mut guest, fd, what));
                        assert!(pieces > 0, "{mode:?} {what:?}");
                    } else {
                        call(&mut guest, fd, what);
                    }
                    fs.write("/after", "").unwrap();
                    fs.metadata("/after").unwrap().mtime
                };
                let (near, late) = (next(false), next(true));
                assert_eq!(late, near, "{mode:?} {what:?}");
            }
        }
    }

    #[test]
    fn preview1_fails_alike_when_the_bytes_never_come() {
        let far = Far::new(&noise(LEN));
        for mode in MODES {
            let fs = Fs::new(&far_image(&far));
            let (mut guest, fd) = start(mode, &fs);
            for (name, offset) in [("fd_pread", 10), ("fd_pwrite", 10)] {
                guest.iovecs(1024, &[(DATA, 5), (DATA, 5)]);
                far.leave();
                let answer = std::thread::scope(|threads| {
                    let call = threads.spawn(|| guest.call(name, &[fd, 1024, 2, offset, 64]));
                    far.wait_asked();
                    far.break_off();
                    call.join().unwrap()
                });
                // EIO.
                assert_eq!(answer, Err(29), "{mode:?} {name}");
            }
            assert_eq!(fs.usage().logical_bytes, 0);
            far.come();
        }
    }

    fn base(far: &Far, path: &str, there: bool) -> Fs {
        let mut layer = LayerBuilder::new();
        let path = LayerPath::parse(path.as_bytes()).unwrap();
        let content = if there {
            ContentBuilder::of(&ChunkPool::new(), &noise(LEN))
        } else {
            far.content()
        };
        layer.file(&path, Meta::with_mode(0o644), content).unwrap();
        Fs::new(&Image::new(&[layer.finish().unwrap()]).unwrap())
    }

    #[test]
    fn guests_of_every_version_do_not_notice() {
        let far = Far::new(&noise(LEN));
        for world in [World::P1, World::P2, World::P3] {
            for (name, args) in [
                ("edit_one_byte", &["/big"][..]),
                ("append_two_handles", &["/big"]),
            ] {
                let guest = Compiled::new(name, world);
                for mode in [Mode::Sync, Mode::Async] {
                    let twin = base(&far, "big", true);
                    let want = guest.run(Files::Strata(&twin), mode, args);
                    assert_eq!(want.code, 0, "{}{}", want.out, want.err);
                    let fs = base(&far, "big", false);
                    let (got, pieces) = far.serve(|| guest.run(Files::Strata(&fs), mode, args));
                    assert_eq!(got, want, "{name} {world:?} {mode:?}");
                    assert!(pieces > 0, "{name} {world:?} {mode:?}");
                    assert!(fs.read("/big").unwrap() == twin.read("/big").unwrap());
                    assert_eq!(fs.usage().open, 0);
                    assert_eq!(fs.check(), Ok(()));
                    far.forget();
                }
            }
        }
    }
}

/// A run that repeats counts the readings of its clock.
#[cfg(feature = "store")]
#[test]
fn a_write_into_a_block_of_a_store_reads_the_clock_once() {
    use std::sync::Arc;

    use stratafs::image::ImageConfig;
    use stratafs::store::{LayerOrigin, Store};
    use stratafs::vfs::{Clock, VirtualClock};

    let base = Fs::new(&Image::empty());
    base.create_dir("/dir").unwrap();
    base.write("/dir/far", noise(LEN)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut import = store.import().unwrap();
    let layer = base.diff(import.pool()).unwrap();
    import.layer(layer, LayerOrigin::new());
    import
        .commit(ImageConfig::default(), Some("base:1"))
        .unwrap();
    let clock = Arc::new(VirtualClock::new());
    let image = store.image("base:1").unwrap();
    let fs = Fs::builder(&image).clock(clock.clone()).build();
    let file = open(&fs);
    // The first write copies its block, the second finds it copied.
    for offset in [5000, 5000, 70_000] {
        let before = clock.now().as_nanos_clamped();
        assert_eq!(file.write_at(b"inside", offset), Ok(6));
        let after = clock.now().as_nanos_clamped();
        assert_eq!(after - before, 2 * VirtualClock::STEP_NANOS);
    }
}
