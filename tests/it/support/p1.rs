//! A preview1 guest whose calls a test makes one by one: a module that
//! exports each function it imports, run by stratafs or by wasmtime-wasi, in a
//! synchronous or an asynchronous store.

use std::fmt::Write as _;
use std::sync::LazyLock;

use stratafs::wasi::p1::{self, Ctx};
use wasmtime::{Engine, Instance, Linker, Memory, Module, Store, Val};
use wasmtime_wasi::p1::WasiP1Ctx;
pub use wasmtime_wasi::p1::types::{Errno, Fdflags, Fstflags, Oflags, Rights};

/// Every function of preview1, with its parameters: `i` for i32, `l` for i64.
/// Each gives an errno, but `proc_exit`.
pub const FUNCTIONS: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "ili"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_advise", "illi"),
    ("fd_allocate", "ill"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "ill"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "il"),
    ("fd_filestat_set_times", "illi"),
    ("fd_pread", "iiili"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiili"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_renumber", "ii"),
    ("fd_seek", "ilii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_exit", "i"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// Bytes of the guest's memory, and so the first address out of bounds.
pub const MEMORY: u32 = 64 * 65536;

/// Where the harness puts what a call gives back.
const OUT: u32 = 64;
/// Where it puts an iovec.
const IOV: u32 = 128;
/// Where it puts the first and the second path.
const PATHS: [u32; 2] = [4096, 4096 + 2 * 65536];
/// Where data goes in and out.
pub const DATA: u32 = 1 << 19;

/// What the store holds.
pub enum Data {
    /// stratafs's context.
    Ours(Ctx),
    /// wasmtime-wasi's own.
    Stock(WasiP1Ctx),
}

impl Data {
    fn ours(&mut self) -> &mut Ctx {
        match self {
            Self::Ours(ctx) => ctx,
            Self::Stock(_) => panic!("a store of wasmtime-wasi's"),
        }
    }

    fn stock(&mut self) -> &mut WasiP1Ctx {
        match self {
            Self::Stock(ctx) => ctx,
            Self::Ours(_) => panic!("a store of stratafs's"),
        }
    }
}

/// The kind of linker and store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Sync,
    Async,
}

/// Both kinds, for tests that run in each.
pub const MODES: [Mode; 2] = [Mode::Sync, Mode::Async];

/// A guest at rest between calls.
pub struct Guest {
    pub store: Store<Data>,
    instance: Instance,
    memory: Option<Memory>,
    mode: Mode,
}

/// What a call gave: 0, an errno, or a trap.
pub type Answer = Result<(), i32>;

static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::default);
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
});
static MODULE: LazyLock<Module> = LazyLock::new(|| {
    let memory = format!("(memory (export \"memory\") {})", MEMORY / 65536);
    Module::new(&ENGINE, module(&memory)).unwrap()
});

/// The guest's text, with its memory as given.
pub fn module(memory: &str) -> String {
    let mut text = String::from("(module\n");
    for (name, params) in FUNCTIONS {
        let types: Vec<_> = params.chars().map(wasm_type).collect();
        let result = if *name == "proc_exit" {
            ""
        } else {
            "(result i32)"
        };
        writeln!(
            text,
            "(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {}) {result}))",
            types.join(" ")
        )
        .unwrap();
    }
    writeln!(text, "{memory}").unwrap();
    for (name, params) in FUNCTIONS {
        let types: Vec<_> = params.chars().map(wasm_type).collect();
        let result = if *name == "proc_exit" {
            ""
        } else {
            "(result i32)"
        };
        let gets: String = (0..params.len())
            .map(|n| format!("(local.get {n})"))
            .collect();
        writeln!(
            text,
            "(func (export \"{name}\") (param {}) {result} (call ${name} {gets}))",
            types.join(" ")
        )
        .unwrap();
    }
    text + ")"
}

fn wasm_type(letter: char) -> &'static str {
    if letter == 'i' { "i32" } else { "i64" }
}

impl Guest {
    /// Starts a guest. In asynchronous stores its memory is looked up once, in
    /// synchronous ones in each call, so that tests in both modes try both.
    pub fn new(mode: Mode, ctx: Ctx) -> Self {
        let ctx = match mode {
            Mode::Sync => ctx,
            Mode::Async => ctx.for_one_instance(),
        };
        Self::start(mode, Data::Ours(ctx), &MODULE)
    }

    /// Starts a guest of wasmtime-wasi.
    pub fn stock(mode: Mode, ctx: WasiP1Ctx) -> Self {
        Self::start(mode, Data::Stock(ctx), &MODULE)
    }

    /// Starts a guest with another memory.
    pub fn with_memory(mode: Mode, ctx: Ctx, engine: &Engine, memory: &str) -> Self {
        let module = Module::new(engine, module(memory)).unwrap();
        Self::start(mode, Data::Ours(ctx), &module)
    }

    fn start(mode: Mode, data: Data, module: &Module) -> Self {
        let mut linker: Linker<Data> = Linker::new(module.engine());
        match (mode, &data) {
            (Mode::Sync, Data::Ours(_)) => p1::add_to_linker_sync(&mut linker, Data::ours),
            (Mode::Async, Data::Ours(_)) => p1::add_to_linker_async(&mut linker, Data::ours),
            (Mode::Sync, Data::Stock(_)) => {
                wasmtime_wasi::p1::add_to_linker_sync(&mut linker, Data::stock)
            }
            (Mode::Async, Data::Stock(_)) => {
                wasmtime_wasi::p1::add_to_linker_async(&mut linker, Data::stock)
            }
        }
        .unwrap();
        let mut store = Store::new(module.engine(), data);
        let instance = match mode {
            Mode::Sync => linker.instantiate(&mut store, module).unwrap(),
            Mode::Async => RUNTIME
                .block_on(linker.instantiate_async(&mut store, module))
                .unwrap(),
        };
        let memory = instance.get_memory(&mut store, "memory");
        Self {
            store,
            instance,
            memory,
            mode,
        }
    }

    /// Makes a call as it is. `Err` is a trap.
    pub fn try_call(&mut self, name: &str, args: &[i64]) -> wasmtime::Result<i32> {
        let (_, params) = FUNCTIONS.iter().find(|(known, _)| *known == name).unwrap();
        assert_eq!(params.len(), args.len(), "{name}");
        let args: Vec<Val> = params
            .chars()
            .zip(args)
            .map(|(letter, arg)| match letter {
                'i' => Val::I32(u32::try_from(*arg).unwrap_or_else(|_| panic!("{arg}")) as i32),
                _ => Val::I64(*arg),
            })
            .collect();
        let func = self.instance.get_func(&mut self.store, name).unwrap();
        let mut results = vec![Val::I32(0); usize::from(name != "proc_exit")];
        match self.mode {
            Mode::Sync => func.call(&mut self.store, &args, &mut results)?,
            Mode::Async => {
                RUNTIME.block_on(func.call_async(&mut self.store, &args, &mut results))?;
            }
        }
        Ok(results.first().and_then(Val::i32).unwrap_or(0))
    }

    /// Makes a call that must not trap.
    pub fn call(&mut self, name: &str, args: &[i64]) -> Answer {
        match self.try_call(name, args) {
            Ok(0) => Ok(()),
            Ok(errno) => Err(errno),
            Err(trap) => panic!("{name}{args:?} trapped: {trap:?}"),
        }
    }

    /// Tells whether a call traps.
    pub fn traps(&mut self, name: &str, args: &[i64]) -> bool {
        self.try_call(name, args).is_err()
    }

    pub fn memory(&mut self) -> &mut [u8] {
        self.memory.unwrap().data_mut(&mut self.store)
    }

    pub fn put(&mut self, at: u32, bytes: &[u8]) {
        self.memory()[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub fn get(&mut self, at: u32, len: u32) -> Vec<u8> {
        self.memory()[at as usize..][..len as usize].to_vec()
    }

    pub fn u32(&mut self, at: u32) -> u32 {
        u32::from_le_bytes(self.get(at, 4).try_into().unwrap())
    }

    pub fn u64(&mut self, at: u32) -> u64 {
        u64::from_le_bytes(self.get(at, 8).try_into().unwrap())
    }

    /// Writes a list of buffers at `at`.
    pub fn iovecs(&mut self, at: u32, buffers: &[(u32, u32)]) {
        let bytes: Vec<u8> = buffers
            .iter()
            .flat_map(|(start, len)| [start.to_le_bytes(), len.to_le_bytes()].concat())
            .collect();
        self.put(at, &bytes);
    }

    /// Puts a path into memory and gives its address and length.
    fn path(&mut self, which: usize, path: &[u8]) -> [i64; 2] {
        self.put(PATHS[which], path);
        [PATHS[which].into(), path.len() as i64]
    }

    /// A call of the shape (fd, path).
    pub fn at(&mut self, name: &str, dir: u32, path: &[u8]) -> Answer {
        let [at, len] = self.path(0, path);
        self.call(name, &[dir.into(), at, len])
    }

    pub fn mkdir(&mut self, dir: u32, path: &str) -> Answer {
        self.at("path_create_directory", dir, path.as_bytes())
    }

    pub fn rmdir(&mut self, dir: u32, path: &str) -> Answer {
        self.at("path_remove_directory", dir, path.as_bytes())
    }

    pub fn unlink(&mut self, dir: u32, path: &str) -> Answer {
        self.at("path_unlink_file", dir, path.as_bytes())
    }

    pub fn open_raw(
        &mut self,
        dir: u32,
        follow: bool,
        path: &[u8],
        flags: Oflags,
        rights: Rights,
        fd_flags: Fdflags,
    ) -> Result<u32, i32> {
        let [at, len] = self.path(0, path);
        self.call(
            "path_open",
            &[
                dir.into(),
                follow.into(),
                at,
                len,
                flags.bits().into(),
                rights.bits() as i64,
                Rights::all().bits() as i64,
                fd_flags.bits().into(),
                OUT.into(),
            ],
        )?;
        Ok(self.u32(OUT))
    }

    /// Opens, following links.
    pub fn open(
        &mut self,
        dir: u32,
        path: &str,
        flags: Oflags,
        rights: Rights,
    ) -> Result<u32, i32> {
        self.open_raw(dir, true, path.as_bytes(), flags, rights, Fdflags::empty())
    }

    pub fn close(&mut self, fd: u32) -> Answer {
        self.call("fd_close", &[fd.into()])
    }

    pub fn read(&mut self, fd: u32, len: u32) -> Result<Vec<u8>, i32> {
        self.iovecs(IOV, &[(DATA, len)]);
        self.call("fd_read", &[fd.into(), IOV.into(), 1, OUT.into()])?;
        let read = self.u32(OUT);
        Ok(self.get(DATA, read))
    }

    pub fn pread(&mut self, fd: u32, len: u32, offset: u64) -> Result<Vec<u8>, i32> {
        self.iovecs(IOV, &[(DATA, len)]);
        let args = [fd.into(), IOV.into(), 1, offset as i64, OUT.into()];
        self.call("fd_pread", &args)?;
        let read = self.u32(OUT);
        Ok(self.get(DATA, read))
    }

    pub fn write(&mut self, fd: u32, bytes: &[u8]) -> Result<u32, i32> {
        self.put(DATA, bytes);
        self.iovecs(IOV, &[(DATA, bytes.len() as u32)]);
        self.call("fd_write", &[fd.into(), IOV.into(), 1, OUT.into()])?;
        Ok(self.u32(OUT))
    }

    pub fn pwrite(&mut self, fd: u32, bytes: &[u8], offset: u64) -> Result<u32, i32> {
        self.put(DATA, bytes);
        self.iovecs(IOV, &[(DATA, bytes.len() as u32)]);
        let args = [fd.into(), IOV.into(), 1, offset as i64, OUT.into()];
        self.call("fd_pwrite", &args)?;
        Ok(self.u32(OUT))
    }

    pub fn seek(&mut self, fd: u32, offset: i64, whence: i64) -> Result<u64, i32> {
        self.call("fd_seek", &[fd.into(), offset, whence, OUT.into()])?;
        Ok(self.u64(OUT))
    }

    pub fn tell(&mut self, fd: u32) -> Result<u64, i32> {
        self.call("fd_tell", &[fd.into(), OUT.into()])?;
        Ok(self.u64(OUT))
    }

    pub fn symlink(&mut self, target: &str, dir: u32, path: &str) -> Answer {
        let [a, a_len] = self.path(0, target.as_bytes());
        let [b, b_len] = self.path(1, path.as_bytes());
        self.call("path_symlink", &[a, a_len, dir.into(), b, b_len])
    }

    pub fn readlink(&mut self, dir: u32, path: &str, room: u32) -> Result<Vec<u8>, i32> {
        let [at, len] = self.path(0, path.as_bytes());
        let args = [dir.into(), at, len, DATA.into(), room.into(), OUT.into()];
        self.call("path_readlink", &args)?;
        let len = self.u32(OUT);
        Ok(self.get(DATA, len))
    }

    pub fn rename(&mut self, old: u32, from: &str, new: u32, to: &str) -> Answer {
        let [a, a_len] = self.path(0, from.as_bytes());
        let [b, b_len] = self.path(1, to.as_bytes());
        self.call("path_rename", &[old.into(), a, a_len, new.into(), b, b_len])
    }

    pub fn link(&mut self, old: u32, follow: bool, from: &str, new: u32, to: &str) -> Answer {
        let [a, a_len] = self.path(0, from.as_bytes());
        let [b, b_len] = self.path(1, to.as_bytes());
        let args = [old.into(), follow.into(), a, a_len, new.into(), b, b_len];
        self.call("path_link", &args)
    }

    pub fn stat_at(&mut self, dir: u32, follow: bool, path: &str) -> Result<Filestat, i32> {
        let [at, len] = self.path(0, path.as_bytes());
        let args = [dir.into(), follow.into(), at, len, OUT.into()];
        self.call("path_filestat_get", &args)?;
        Ok(self.filestat())
    }

    pub fn stat(&mut self, fd: u32) -> Result<Filestat, i32> {
        self.call("fd_filestat_get", &[fd.into(), OUT.into()])?;
        Ok(self.filestat())
    }

    fn filestat(&mut self) -> Filestat {
        Filestat {
            dev: self.u64(OUT),
            ino: self.u64(OUT + 8),
            filetype: self.get(OUT + 16, 1)[0],
            nlink: self.u64(OUT + 24),
            size: self.u64(OUT + 32),
            atim: self.u64(OUT + 40),
            mtim: self.u64(OUT + 48),
            ctim: self.u64(OUT + 56),
        }
    }

    /// File type, flags, rights, inheriting rights.
    pub fn fdstat(&mut self, fd: u32) -> Result<(u8, u16, u64, u64), i32> {
        self.call("fd_fdstat_get", &[fd.into(), OUT.into()])?;
        let flags = u16::from_le_bytes(self.get(OUT + 2, 2).try_into().unwrap());
        let filetype = self.get(OUT, 1)[0];
        Ok((filetype, flags, self.u64(OUT + 8), self.u64(OUT + 16)))
    }

    /// One `fd_readdir`: the raw bytes.
    pub fn readdir(&mut self, fd: u32, room: u32, cookie: u64) -> Result<Vec<u8>, i32> {
        let args = [
            fd.into(),
            DATA.into(),
            room.into(),
            cookie as i64,
            OUT.into(),
        ];
        self.call("fd_readdir", &args)?;
        let used = self.u32(OUT);
        Ok(self.get(DATA, used))
    }

    /// Lists a directory from a cookie on, as libc does, with this much room.
    pub fn list_from(&mut self, fd: u32, room: u32, mut cookie: u64) -> Vec<Dirent> {
        let mut entries = Vec::new();
        loop {
            let bytes = self.readdir(fd, room, cookie).unwrap();
            let got = dirents(&bytes);
            match got.last() {
                Some(last) => cookie = last.next,
                None if bytes.len() == room as usize => panic!("no entry fits {room} bytes"),
                None => {}
            }
            entries.extend(got);
            if bytes.len() < room as usize {
                return entries;
            }
        }
    }

    /// The sorted names of a directory, without the dots.
    pub fn names(&mut self, dir: u32, path: &str) -> Vec<String> {
        let fd = self
            .open(dir, path, Oflags::DIRECTORY, Rights::FD_READDIR)
            .unwrap();
        let mut names: Vec<_> = self
            .list_from(fd, 4096, 2)
            .into_iter()
            .map(|entry| String::from_utf8(entry.name).unwrap())
            .collect();
        self.close(fd).unwrap();
        names.sort();
        names
    }

    /// Creates a file with content.
    pub fn create(&mut self, dir: u32, path: &str, content: &[u8]) {
        let fd = self
            .open(dir, path, Oflags::CREAT | Oflags::TRUNC, READ_WRITE)
            .unwrap();
        assert_eq!(self.write(fd, content), Ok(content.len() as u32));
        self.close(fd).unwrap();
    }

    /// The content of a file of at most 64 KiB.
    pub fn content(&mut self, dir: u32, path: &str) -> Result<Vec<u8>, i32> {
        let fd = self.open(dir, path, Oflags::empty(), Rights::FD_READ)?;
        let content = self.read(fd, 65536);
        self.close(fd).unwrap();
        content
    }

    /// The names of the preopens from 3 on.
    pub fn preopens(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for fd in 3_u32.. {
            if let Err(errno) = self.call("fd_prestat_get", &[fd.into(), OUT.into()]) {
                assert_eq!(errno, no(Errno::Badf));
                break;
            }
            assert_eq!(self.u32(OUT), 0);
            let len = self.u32(OUT + 4);
            let args = [fd.into(), DATA.into(), len.into()];
            self.call("fd_prestat_dir_name", &args).unwrap();
            names.push(String::from_utf8(self.get(DATA, len)).unwrap());
        }
        names
    }
}

/// What `fd_filestat_get` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filestat {
    pub dev: u64,
    pub ino: u64,
    pub filetype: u8,
    pub nlink: u64,
    pub size: u64,
    pub atim: u64,
    pub mtim: u64,
    pub ctim: u64,
}

/// An entry that `fd_readdir` gave whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirent {
    pub next: u64,
    pub ino: u64,
    pub filetype: u8,
    pub name: Vec<u8>,
}

/// Splits a listing into the entries it has whole.
pub fn dirents(bytes: &[u8]) -> Vec<Dirent> {
    let mut rest = bytes;
    let mut entries = Vec::new();
    while let Some((head, tail)) = rest.split_at_checked(24) {
        let len = u32::from_le_bytes(head[16..20].try_into().unwrap()) as usize;
        let Some((name, tail)) = tail.split_at_checked(len) else {
            break;
        };
        entries.push(Dirent {
            next: u64::from_le_bytes(head[..8].try_into().unwrap()),
            ino: u64::from_le_bytes(head[8..16].try_into().unwrap()),
            filetype: head[20],
            name: name.to_vec(),
        });
        rest = tail;
    }
    entries
}

pub const READ_WRITE: Rights = Rights::FD_READ.union(Rights::FD_WRITE);

/// The number of an error.
pub fn no(errno: Errno) -> i32 {
    errno as i32
}
