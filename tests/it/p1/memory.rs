//! Pointers, buffers and memories of every kind.

use stratafs::vfs::Fs;
use stratafs::wasi::p1::{self, Ctx};
use wasmtime::{Config, Engine, Linker, Module, Store};

use super::{ROOT, guest, image, on, quiet};
use crate::support::p1::{
    DATA, Errno, FUNCTIONS, Guest, MEMORY, MODES, Oflags, READ_WRITE, Rights, no,
};

const END: i64 = MEMORY as i64;

#[test]
fn case_66_pointers_out_of_bounds_trap() {
    for mode in MODES {
        let mut guest = guest(mode);
        let fd = guest
            .open(ROOT, "hello", Oflags::empty(), READ_WRITE)
            .unwrap();
        let fd = i64::from(fd);
        let top = i64::from(u32::MAX);
        for (name, args) in [
            ("fd_read", vec![fd, END - 4, 1, 64]),
            ("fd_read", vec![fd, top - 3, 1, 64]),
            ("fd_read", vec![fd, 128, 2, END]),
            ("fd_write", vec![fd, 128, top, 64]),
            ("fd_filestat_get", vec![fd, END - 56]),
            ("fd_fdstat_get", vec![fd, END - 16]),
            ("fd_tell", vec![fd, END]),
            ("fd_seek", vec![fd, 0, 0, top - 7]),
            ("fd_prestat_get", vec![3, END - 4]),
            ("fd_prestat_dir_name", vec![3, END, 1]),
            ("fd_readdir", vec![3, END - 30, 4096, 0, 64]),
            ("path_open", vec![3, 0, END - 2, 5, 0, 0, 0, 0, 64]),
            ("path_unlink_file", vec![3, top, 1]),
            ("path_create_directory", vec![3, 64, top]),
            ("poll_oneoff", vec![END - 8, 64, 1, 64]),
        ] {
            assert!(guest.traps(name, &args), "{name}{args:?}");
        }
        // Misaligned.
        for (name, args) in [
            ("fd_read", vec![fd, 130, 1, 64]),
            ("fd_read", vec![fd, 128, 0, 66]),
            ("fd_filestat_get", vec![fd, 68]),
            ("fd_tell", vec![fd, 68]),
        ] {
            assert!(guest.traps(name, &args), "{name}{args:?}");
        }
        // A buffer that is out of bounds traps before anything moves, the
        // others' bytes included.
        for bad in [(MEMORY - 1, 2), (u32::MAX, 1), (0, u32::MAX)] {
            guest.put(DATA, b"XYZ");
            guest.iovecs(1024, &[(DATA, 3), bad]);
            assert!(guest.traps("fd_write", &[fd, 1024, 2, 64]));
            assert!(guest.traps("fd_pread", &[fd, 1024, 2, 0, 64]));
            assert_eq!(guest.get(DATA, 3), b"XYZ");
        }
        assert_eq!(guest.content(ROOT, "hello").unwrap(), b"hello world");
    }
}

#[test]
fn case_p19_empty_buffers_are_fine_anywhere() {
    for mode in MODES {
        let mut guest = guest(mode);
        let fd = guest
            .open(ROOT, "hello", Oflags::empty(), READ_WRITE)
            .unwrap();
        guest.iovecs(1024, &[(u32::MAX, 0), (MEMORY, 0)]);
        for name in ["fd_read", "fd_write"] {
            guest.call(name, &[fd.into(), 1024, 2, 64]).unwrap();
            assert_eq!(guest.u32(64), 0);
            guest
                .call(name, &[fd.into(), u32::MAX.into(), 0, 64])
                .unwrap();
        }
        guest
            .call("fd_readdir", &[3, u32::MAX.into(), 0, 0, 64])
            .unwrap();
        assert_eq!(guest.u32(64), 0);
    }
}

#[test]
fn case_66_a_million_iovecs_are_served() {
    for mode in MODES {
        let fs = Fs::new(&image());
        let ctx = Ctx::new(quiet()).preopen(fs.root().unwrap(), "/");
        let engine = Engine::default();
        let mut guest = Guest::with_memory(mode, ctx, &engine, r#"(memory (export "memory") 256)"#);
        let fd = guest.open(ROOT, "new", Oflags::CREAT, READ_WRITE).unwrap();
        let count = 1 << 20;
        // All of them are the same two bytes: they overlap.
        guest.put(64, b"ab");
        let list: Vec<u8> = [64_u32.to_le_bytes(), 2_u32.to_le_bytes()]
            .concat()
            .repeat(count);
        guest.put(65536, &list);
        guest
            .call("fd_write", &[fd.into(), 65536, count as i64, 32])
            .unwrap();
        assert_eq!(guest.u32(32), 2 << 20);
        assert_eq!(guest.pread(fd, 4, (2 << 20) - 3).unwrap(), b"bab");
        guest.put(65536, &list);
        guest
            .call("fd_pread", &[fd.into(), 65536, count as i64, 0, 32])
            .unwrap();
        assert_eq!(guest.u32(32), 2 << 20);
        // Together more than preview1 can count.
        let list = [0_u32.to_le_bytes(), (1_u32 << 20).to_le_bytes()]
            .concat()
            .repeat(1 << 13);
        guest.put(65536, &list);
        for name in ["fd_read", "fd_write"] {
            let answer = guest.call(name, &[fd.into(), 65536, 1 << 13, 32]);
            assert_eq!(answer, Err(no(Errno::Inval)));
        }
    }
}

#[test]
fn a_read_of_the_whole_memory_at_once() {
    for mode in MODES {
        let fs = Fs::new(&image());
        let mut guest = on(mode, &fs);
        let fd = guest.open(ROOT, "new", Oflags::CREAT, READ_WRITE).unwrap();
        guest.memory().fill(7);
        guest.iovecs(0, &[(0, MEMORY)]);
        guest.call("fd_write", &[fd.into(), 0, 1, 16]).unwrap();
        assert_eq!(guest.u32(16), MEMORY);
        // The list itself is overwritten by what is read.
        guest.memory().fill(0);
        guest.iovecs(0, &[(0, MEMORY)]);
        guest.call("fd_pread", &[fd.into(), 0, 1, 0, 16]).unwrap();
        assert_eq!(guest.u32(16), MEMORY);
        assert_eq!(guest.get(MEMORY - 9, 9), [7; 9]);
    }
}

#[test]
fn case_p19_no_argument_makes_the_host_panic() {
    let odd: [i64; 16] = [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        8,
        64,
        4096,
        END - 1,
        END,
        1 << 31,
        (1 << 31) - 1,
        u32::MAX as i64,
        u32::MAX as i64 - 7,
    ];
    let long: [i64; 6] = [0, 1, -1, i64::MAX, i64::MIN, 1 << 40];
    for mode in MODES {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 32) as usize % bound
        };
        let fs = Fs::builder(&image())
            .max_bytes(1 << 20)
            .max_open(50)
            .build();
        for _ in 0..40 {
            let mut guest = on(mode, &fs);
            guest
                .open(ROOT, "hello", Oflags::empty(), READ_WRITE)
                .unwrap();
            guest
                .open(ROOT, "dir", Oflags::empty(), Rights::FD_READ)
                .unwrap();
            for _ in 0..400 {
                let (name, params) = FUNCTIONS[next(FUNCTIONS.len())];
                // It would wait for what stands in memory.
                if name == "poll_oneoff" {
                    continue;
                }
                let args: Vec<i64> = params
                    .chars()
                    .map(|letter| match letter {
                        'i' => odd[next(odd.len())],
                        _ => long[next(long.len())],
                    })
                    .collect();
                // A trap or any answer will do.
                drop(guest.try_call(name, &args));
            }
        }
        assert_eq!(fs.check(), Ok(()));
        assert_eq!(fs.usage().open, 0);
    }
}

#[test]
fn a_memory_that_threads_share_works_too() {
    let mut config = Config::new();
    config.wasm_threads(true).shared_memory(true);
    let engine = Engine::new(&config).unwrap();
    let text = r#"(module
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
        (memory (export "memory") 8 8 shared)
        (data (i32.const 0) "new")
        ;; One buffer of 200,000 bytes at 65,536 and one of 5 behind it.
        (data (i32.const 32) "\00\00\01\00\40\0d\03\00\00\00\05\00\05\00\00\00")
        (func (export "run") (result i32)
            (memory.fill (i32.const 65536) (i32.const 7) (i32.const 200000))
            (memory.fill (i32.const 0x50000) (i32.const 9) (i32.const 5))
            (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 3)
                (i32.const 1) (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 16))
            (call $write (i32.load (i32.const 16)) (i32.const 32) (i32.const 2) (i32.const 20))
            i32.or
            (memory.fill (i32.const 65536) (i32.const 0) (i32.const 300000))
            (call $seek (i32.load (i32.const 16)) (i64.const 0) (i32.const 0) (i32.const 24))
            i32.or
            (call $read (i32.load (i32.const 16)) (i32.const 32) (i32.const 2) (i32.const 24))
            i32.or
            (if (i32.ne (i32.load (i32.const 24)) (i32.const 200005)) (then unreachable))
            (if (i32.ne (i32.load8_u (i32.const 265535)) (i32.const 7)) (then unreachable))
            (if (i32.ne (i32.load8_u (i32.const 265536)) (i32.const 0)) (then unreachable))
            (if (i32.ne (i32.load8_u (i32.const 0x50004)) (i32.const 9)) (then unreachable)))
    )"#;
    let module = Module::new(&engine, text).unwrap();
    let mut linker: Linker<Ctx> = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |ctx| ctx).unwrap();
    let fs = Fs::new(&image());
    let ctx = Ctx::new(quiet()).preopen(fs.root().unwrap(), "/");
    let mut store = Store::new(&engine, ctx);
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let run = instance
        .get_typed_func::<(), i32>(&mut store, "run")
        .unwrap();
    assert_eq!(run.call(&mut store, ()).unwrap(), 0);
    let root = fs.root().unwrap();
    let stat = root.stat_at(stratafs::vfs::Follow::No, b"new").unwrap();
    assert_eq!(stat.size, 200_005);
}

#[test]
fn a_module_without_memory_is_told_so() {
    let engine = Engine::default();
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_tell" (func $tell (param i32 i32) (result i32)))
        (func (export "run") (result i32) (call $tell (i32.const 3) (i32.const 0))))"#;
    let module = Module::new(&engine, text).unwrap();
    let mut linker: Linker<Ctx> = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |ctx| ctx).unwrap();
    let mut store = Store::new(&engine, Ctx::new(quiet()));
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let run = instance
        .get_typed_func::<(), i32>(&mut store, "run")
        .unwrap();
    let error = run.call(&mut store, ()).unwrap_err();
    assert!(format!("{error:?}").contains("missing required memory export"));
}

#[test]
fn each_module_of_a_linker_gets_its_own_memory() {
    // More modules than the linker remembers, in one store, each in two
    // instances: the memory is always the caller's, also once it is known
    // without its name.
    let engine = Engine::default();
    let mut linker: Linker<Ctx> = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |ctx| ctx).unwrap();
    let fs = Fs::new(&image());
    let ctx = Ctx::new(quiet()).preopen(fs.root().unwrap(), "/");
    let mut store = Store::new(&engine, ctx);
    let guests: Vec<_> = (0..6)
        .flat_map(|n| {
            let text = format!(
                r#"(module
                (import "wasi_snapshot_preview1" "fd_prestat_get"
                    (func $call (param i32 i32) (result i32)))
                (memory {n})
                (memory (export "memory") 1)
                (func (export "run") (result i32) (call $call (i32.const 3) (i32.const 8))))"#
            );
            let module = Module::new(&engine, text).unwrap();
            [0, 1].map(|_| linker.instantiate(&mut store, &module).unwrap())
        })
        .collect();
    for round in 0..300 {
        for (which, guest) in guests.iter().enumerate() {
            let run = guest.get_typed_func::<(), i32>(&mut store, "run").unwrap();
            assert_eq!(run.call(&mut store, ()).unwrap(), 0);
            for (other, guest) in guests.iter().enumerate() {
                let memory = guest.get_memory(&mut store, "memory").unwrap();
                let written = memory.data(&store)[12] == 1;
                assert_eq!(written, other == which, "round {round}");
                memory.data_mut(&mut store)[12] = 0;
            }
        }
    }
}

/// A guest whose `run` has the size of its memory put where it ends, grows it
/// by a page, and does so again there.
const GROWING: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_prestat_get"
        (func $call (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "run") (result i32)
        (local $at i32)
        (local.set $at (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 8)))
        (if (call $call (i32.const 3) (local.get $at)) (then unreachable))
        (drop (memory.grow (i32.const 1)))
        (i32.load offset=4 (local.get $at))))"#;

#[test]
fn a_memory_that_is_looked_up_once_may_grow_and_move() {
    let mut config = Config::new();
    // Each growth makes another mapping.
    config.memory_reservation(0).memory_guard_size(0);
    config.memory_reservation_for_growth(0);
    let engine = Engine::new(&config).unwrap();
    let module = Module::new(&engine, GROWING).unwrap();
    let mut linker: Linker<Ctx> = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |ctx| ctx).unwrap();
    let fs = Fs::new(&image());
    let ctx = Ctx::new(quiet()).preopen(fs.root().unwrap(), "/");
    let mut store = Store::new(&engine, ctx.for_one_instance());
    let guest = linker.instantiate(&mut store, &module).unwrap();
    let memory = guest.get_memory(&mut store, "memory").unwrap();
    let run = guest.get_typed_func::<(), i32>(&mut store, "run").unwrap();
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..20 {
        // The length of the preopen's name.
        assert_eq!(run.call(&mut store, ()).unwrap(), 1);
        places.insert(memory.data_ptr(&store).addr());
    }
    assert!(places.len() > 1, "it never moved");
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "a second instance calls")]
fn a_second_instance_under_a_promise_of_one_is_noticed() {
    let engine = Engine::default();
    let module = Module::new(&engine, GROWING).unwrap();
    let mut linker: Linker<Ctx> = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |ctx| ctx).unwrap();
    let fs = Fs::new(&image());
    let ctx = Ctx::new(quiet()).preopen(fs.root().unwrap(), "/");
    let mut store = Store::new(&engine, ctx.for_one_instance());
    for _ in 0..2 {
        let guest = linker.instantiate(&mut store, &module).unwrap();
        let run = guest.get_typed_func::<(), i32>(&mut store, "run").unwrap();
        assert_eq!(run.call(&mut store, ()).unwrap(), 1);
    }
}
