//! Preview0: each function that has another shape than preview1's, on files of
//! stratafs and on a host directory, beside wasmtime-wasi's own preview0.

use std::path::Path;

use stratafs::image::Image;
use stratafs::vfs::Fs;
use stratafs::wasi::p1::{self, Ctx};
use wasmtime::{Engine, Linker, Module, Store, Val};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::support::p1::{Errno, Oflags, Rights};

/// The functions called, as [`FUNCTIONS`](crate::support::p1::FUNCTIONS) has them.
const CALLED: &[(&str, &str)] = &[
    ("path_open", "iiiiillii"),
    ("fd_write", "iiii"),
    ("fd_seek", "ilii"),
    ("fd_tell", "ii"),
    ("fd_filestat_get", "ii"),
    ("path_filestat_get", "iiiii"),
    ("poll_oneoff", "iiii"),
    ("sock_shutdown", "ii"),
];

/// Where calls put what they give, and where a test puts records.
const OUT: i64 = 1024;
const RECORDS: i64 = 4096;

fn module() -> String {
    let signature = |params: &str| {
        let types: Vec<_> = params
            .chars()
            .map(|c| if c == 'i' { "i32" } else { "i64" })
            .collect();
        format!("(param {}) (result i32)", types.join(" "))
    };
    let mut text = String::from("(module\n");
    for (name, params) in CALLED {
        let signature = signature(params);
        text += &format!("(import \"wasi_unstable\" \"{name}\" (func ${name} {signature}))\n");
    }
    text += "(memory (export \"memory\") 1)\n";
    // A host function finds the memory of the module that calls it.
    for (name, params) in CALLED {
        let signature = signature(params);
        let gets: String = (0..params.len())
            .map(|n| format!("(local.get {n})"))
            .collect();
        text += &format!("(func (export \"{name}\") {signature} (call ${name} {gets}))\n");
    }
    text + ")"
}

struct Guest<T: 'static> {
    store: Store<T>,
    instance: wasmtime::Instance,
    runtime: Option<tokio::runtime::Runtime>,
}

impl<T: Send + 'static> Guest<T> {
    fn new(engine: &Engine, linker: &Linker<T>, data: T, asynchronous: bool) -> Self {
        let module = Module::new(engine, module()).unwrap();
        let mut store = Store::new(engine, data);
        let runtime = asynchronous.then(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
        });
        let instance = match &runtime {
            Some(runtime) => runtime.block_on(linker.instantiate_async(&mut store, &module)),
            None => linker.instantiate(&mut store, &module),
        };
        Self {
            instance: instance.unwrap(),
            store,
            runtime,
        }
    }

    /// Makes a call; a trap is -1.
    fn call(&mut self, name: &str, args: &[i64]) -> i32 {
        let (_, params) = CALLED.iter().find(|(known, _)| *known == name).unwrap();
        let args: Vec<Val> = params
            .chars()
            .zip(args)
            .map(|(letter, arg)| match letter {
                'i' => Val::I32(*arg as i32),
                _ => Val::I64(*arg),
            })
            .collect();
        let func = self.instance.get_func(&mut self.store, name).unwrap();
        let mut out = [Val::I32(0)];
        let done = match &self.runtime {
            Some(runtime) => runtime.block_on(func.call_async(&mut self.store, &args, &mut out)),
            None => func.call(&mut self.store, &args, &mut out),
        };
        done.map_or(-1, |()| out[0].unwrap_i32())
    }

    fn bytes(&mut self, at: i64, len: usize) -> &mut [u8] {
        let memory = self.instance.get_memory(&mut self.store, "memory").unwrap();
        &mut memory.data_mut(&mut self.store)[at as usize..][..len]
    }

    fn put(&mut self, at: i64, bytes: &[u8]) {
        self.bytes(at, bytes.len()).copy_from_slice(bytes);
    }

    fn u64(&mut self, at: i64) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().unwrap())
    }
}

/// A `filestat` in the shape of preview0, without what differs by host: device,
/// inode and times are reduced to whether they are there.
fn filestat(bytes: &[u8]) -> (u8, u32, u64, bool) {
    let word = |at: usize| u64::from_le_bytes(bytes[at..][..8].try_into().unwrap());
    let links = u32::from_le_bytes(bytes[20..24].try_into().unwrap());
    let rest = [0, 8, 32, 40, 48].iter().all(|at| word(*at) != 0);
    (bytes[16], links, word(24), rest)
}

/// A subscription for reading (1) or writing (2) a file.
fn on_file(kind: u8, fd: i64) -> [u8; 56] {
    let mut record = [0_u8; 56];
    record[..8].copy_from_slice(&78_u64.to_le_bytes());
    record[8] = kind;
    record[16..20].copy_from_slice(&(fd as u32).to_le_bytes());
    record
}

/// Makes a file and opens it.
fn open<T: Send + 'static>(guest: &mut Guest<T>) -> (i32, i64) {
    guest.put(0, b"file");
    let (flags, rights) = (i64::from(Oflags::CREAT.bits()), Rights::all().bits() as i64);
    // Preview0 does not know the last right.
    let rights = rights >> 1;
    let open = [3, 0, 0, 4, flags, rights, rights, 0, OUT];
    (
        guest.call("path_open", &open),
        i64::from(guest.u64(OUT) as u32),
    )
}

/// What a guest sees where wasmtime-wasi has faults: two subscriptions in one
/// call, and a call on sockets with an open and a closed descriptor.
fn faults<T: Send + 'static>(mut guest: Guest<T>) -> Vec<i32> {
    let (_, fd) = open(&mut guest);
    guest.put(RECORDS, &[on_file(1, fd), on_file(2, fd)].concat());
    vec![
        guest.call("poll_oneoff", &[RECORDS, OUT, 2, OUT + 112]),
        guest.u64(OUT + 112) as i32,
        guest.call("sock_shutdown", &[fd, 1]),
        guest.call("sock_shutdown", &[99, 1]),
    ]
}

/// What a guest sees; equal on every host.
fn walk<T: Send + 'static>(mut guest: Guest<T>) -> Vec<String> {
    let (code, fd) = open(&mut guest);
    let mut seen = vec![format!("open {code}")];
    guest.put(RECORDS, b"\0\x20\0\0\x05\0\0\0");
    guest.put(0x2000, b"hello");
    seen.push(format!(
        "write {}",
        guest.call("fd_write", &[fd, RECORDS, 1, OUT])
    ));

    // Whence: 0 is the offset, 1 the end, 2 the start, 3 nothing.
    for (offset, whence) in [(-2, 1), (1, 0), (3, 2), (-4, 0), (-9, 2), (0, 3)] {
        let code = guest.call("fd_seek", &[fd, offset, whence, OUT]);
        guest.call("fd_tell", &[fd, OUT + 8]);
        seen.push(format!(
            "seek {offset} {whence}: {code} {}",
            guest.u64(OUT + 8)
        ));
    }

    for (name, args) in [
        ("fd_filestat_get", vec![fd, OUT]),
        ("fd_filestat_get", vec![3, OUT]),
        ("fd_filestat_get", vec![99, OUT]),
        ("path_filestat_get", vec![3, 0, 0, 4, OUT]),
        ("path_filestat_get", vec![3, 0, 0, 3, OUT]),
        ("path_filestat_get", vec![3, 0, 0, 4, OUT + 4]),
    ] {
        guest.bytes(OUT, 72).fill(0xAA);
        let code = guest.call(name, &args);
        let stat = filestat(guest.bytes(OUT, 56));
        let kind = stat.0;
        // A directory's links and size are the host's affair.
        let stat = if kind == 4 {
            format!("{stat:?}")
        } else {
            "-".to_owned()
        };
        let beyond = guest.bytes(OUT + 56, 16).iter().all(|byte| *byte == 0xAA);
        seen.push(format!(
            "{name} {args:?}: {code} kind {kind} {stat} {beyond}"
        ));
    }

    // A clock has its identifier first, so its kind stands 8 bytes later.
    let clock = |flags: u16, id: u32| {
        let mut record = [0_u8; 56];
        record[..8].copy_from_slice(&77_u64.to_le_bytes());
        record[16..24].copy_from_slice(&5_u64.to_le_bytes());
        record[24..28].copy_from_slice(&id.to_le_bytes());
        record[32..40].copy_from_slice(&1_000_u64.to_le_bytes());
        record[48..50].copy_from_slice(&flags.to_le_bytes());
        record
    };
    for (what, records) in [
        ("clock", vec![clock(0, 1)]),
        ("past", vec![clock(1, 1)]),
        ("write", vec![on_file(2, fd)]),
        ("closed", vec![on_file(1, 99)]),
        ("none", vec![]),
    ] {
        guest.put(RECORDS, &records.concat());
        guest.bytes(OUT, 128).fill(0);
        let count = records.len() as i64;
        let code = guest.call("poll_oneoff", &[RECORDS, OUT, count, OUT + 112]);
        let events = guest.u64(OUT + 112) as u32;
        let data: Vec<u64> = (0..2).map(|n| guest.u64(OUT + 32 * n)).collect();
        let kinds: Vec<u8> = (0..2).map(|n| guest.bytes(OUT + 32 * n, 11)[10]).collect();
        seen.push(format!("poll {what}: {code} {events} {data:?} {kinds:?}"));
    }
    seen
}

fn ours(ctx: Ctx, asynchronous: bool) -> Guest<Ctx> {
    let engine = Engine::default();
    let mut linker: Linker<Ctx> = Linker::new(&engine);
    // Beside preview1, as the runner has it.
    if asynchronous {
        p1::add_to_linker_async(&mut linker, |ctx| ctx).unwrap();
        p1::p0::add_to_linker_async(&mut linker, |ctx| ctx).unwrap();
    } else {
        p1::add_to_linker_sync(&mut linker, |ctx| ctx).unwrap();
        p1::p0::add_to_linker_sync(&mut linker, |ctx| ctx).unwrap();
    }
    Guest::new(&engine, &linker, ctx, asynchronous)
}

fn on_directory(dir: &Path) -> wasmtime_wasi::p1::WasiP1Ctx {
    WasiCtxBuilder::new()
        .preopened_dir(dir, "/", FsPerms::ReadWrite)
        .unwrap()
        .build_p1()
}

fn stock(dir: &Path) -> Guest<wasmtime_wasi::p1::WasiP1Ctx> {
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p0::add_to_linker_sync(&mut linker, |ctx| ctx).unwrap();
    Guest::new(&engine, &linker, on_directory(dir), false)
}

fn on_strata() -> Ctx {
    let fs = Fs::new(&Image::empty());
    Ctx::new(WasiCtxBuilder::new().build_p1()).preopen(fs.root().unwrap(), "/")
}

/// wasmtime-wasi reads the second of two subscriptions where it is not, and
/// ends a guest that asks about sockets.
#[test]
fn preview0_differs_where_wasmtime_has_faults() {
    let [inval, badf, notsock] =
        [Errno::Inval, Errno::Badf, Errno::Notsock].map(|code| code as i32);
    for asynchronous in [false, true] {
        let seen = faults(ours(on_strata(), asynchronous));
        assert_eq!(seen, [0, 2, notsock, badf]);
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(faults(stock(dir.path())), [inval, 0, -1, -1]);
}

#[test]
fn preview0_is_as_wasmtime_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let want = walk(stock(dir.path()));
    for asynchronous in [false, true] {
        let ours_on = |ctx| walk(ours(ctx, asynchronous));
        assert_eq!(ours_on(on_strata()), want, "on stratafs, {asynchronous}");
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            ours_on(Ctx::new(on_directory(dir.path()))),
            want,
            "on a directory, {asynchronous}"
        );
    }
    // What the sequence has to show, whoever is asked.
    let shown = |line: &str| assert!(want.iter().any(|seen| seen == line), "{line}: {want:#?}");
    shown("seek -2 1: 0 3");
    shown("seek 1 0: 0 4");
    shown("seek 3 2: 0 3");
    shown(&format!("seek -9 2: {} 3", Errno::Inval as i32));
    shown("seek 0 3: -1 3");
    shown("poll past: 0 1 [77, 0] [0, 0]");
    assert!(
        want.iter()
            .any(|line| line.contains("kind 4 (4, 1, 5, true) true")),
        "{want:#?}"
    );
}
