//! preview1 calls with any arguments, the instance checked after each.

use std::fmt::Write as _;
use std::sync::LazyLock;

use stratafs::vfs::{Fs, Rights};
use stratafs::wasi::p1::{self, Ctx};
use wasmtime::{Engine, InstancePre, Linker, Module, Store, Val};
use wasmtime_wasi::WasiCtxBuilder;

use super::feed::Feed;
use super::instance::BASE;

/// The calls about files with their parameters: `i` for i32, `l` for i64, `d`
/// for a descriptor, `p` for a path's address and length, `o` for an address.
const CALLS: [(&str, &str); 32] = [
    ("fd_advise", "dlli"),
    ("fd_allocate", "dll"),
    ("fd_close", "d"),
    ("fd_datasync", "d"),
    ("fd_fdstat_get", "do"),
    ("fd_fdstat_set_flags", "di"),
    ("fd_fdstat_set_rights", "dll"),
    ("fd_filestat_get", "do"),
    ("fd_filestat_set_size", "dl"),
    ("fd_filestat_set_times", "dlli"),
    ("fd_pread", "doilo"),
    ("fd_prestat_dir_name", "doi"),
    ("fd_prestat_get", "do"),
    ("fd_pwrite", "doilo"),
    ("fd_read", "doio"),
    ("fd_readdir", "doilo"),
    ("fd_renumber", "dd"),
    ("fd_seek", "dlio"),
    ("fd_sync", "d"),
    ("fd_tell", "do"),
    ("fd_write", "doio"),
    ("path_create_directory", "dp"),
    ("path_filestat_get", "dipo"),
    ("path_filestat_set_times", "diplli"),
    ("path_link", "dipdp"),
    ("path_open", "dipillio"),
    ("path_readlink", "dpoio"),
    ("path_remove_directory", "dp"),
    ("path_rename", "dpdp"),
    ("path_symlink", "pdp"),
    ("path_unlink_file", "dp"),
    ("sock_shutdown", "di"),
];

/// Calls of one run.
const LENGTH: usize = 100;

/// Bytes of the guest's memory.
const MEMORY: u32 = 2 * 65_536;

static GUEST: LazyLock<InstancePre<Ctx>> = LazyLock::new(|| {
    let engine = Engine::default();
    let text = module();
    let module = Module::new(&engine, wat::parse_str(text).expect("text")).expect("a module");
    let mut linker = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |ctx| ctx).expect("preview1");
    linker.instantiate_pre(&module).expect("all imports")
});

/// A module that hands each call on.
fn module() -> String {
    let mut imports = String::new();
    let mut exports = String::new();
    for (name, params) in CALLS {
        let types: Vec<&str> = params
            .chars()
            .map(|letter| match letter {
                'l' => "i64",
                'p' => "i32 i32",
                _ => "i32",
            })
            .collect();
        let types = types.join(" ");
        let gets: String = (0..types.split(' ').count())
            .map(|n| format!("(local.get {n})"))
            .collect();
        let wrote = writeln!(
            imports,
            "(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {types}) (result i32)))"
        )
        .and(writeln!(
            exports,
            "(func (export \"{name}\") (param {types}) (result i32) (call ${name} {gets}))"
        ));
        wrote.expect("text");
    }
    let pages = MEMORY / 65_536;
    format!("(module {imports} (memory (export \"memory\") {pages}) {exports})")
}

/// Makes calls as the bytes say. A call may end the guest; then the run ends.
///
/// # Panics
///
/// If a check of the instance fails.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let fs = Fs::builder(&BASE)
        .max_bytes(100_000)
        .max_inodes(30)
        .max_open(12)
        .build();
    let ctx = Ctx::new(WasiCtxBuilder::new().build_p1())
        .preopen(fs.root().expect("the root"), "/")
        .preopen(
            fs.preopen(b"/", Rights::ReadOnly).expect("a preopen"),
            "/ro",
        );
    let mut store = Store::new(GUEST.module().engine(), ctx);
    let instance = GUEST.instantiate(&mut store).expect("an instance");
    let memory = instance.get_memory(&mut store, "memory").expect("memory");
    for _ in 0..LENGTH {
        if feed.is_empty() {
            break;
        }
        let (name, params) = feed.pick(&CALLS);
        let mut args = Vec::new();
        for (n, letter) in params.chars().enumerate() {
            let at = 1_024 * (1 + n as u32);
            match letter {
                'd' => args.push(Val::I32(descriptor(&mut feed))),
                'l' => args.push(Val::I64(feed.number().cast_signed())),
                'i' => args.push(Val::I32(feed.number() as i32 & 0x3ff)),
                'p' => {
                    let path = feed.path();
                    let bytes = memory.data_mut(&mut store);
                    bytes[at as usize..][..path.len()].copy_from_slice(&path);
                    args.extend([Val::I32(at as i32), Val::I32(path.len() as i32)]);
                }
                _ => {
                    // One buffer is described here, should a list be wanted.
                    let (start, len) = (at + 64, feed.number() as u32 % 40_000);
                    let iovec = [start.to_le_bytes(), len.to_le_bytes()].concat();
                    memory.data_mut(&mut store)[at as usize..][..8].copy_from_slice(&iovec);
                    let far = feed.pick(&[at, at, at, at, at, MEMORY - 4, MEMORY, u32::MAX]);
                    args.push(Val::I32(far.cast_signed()));
                }
            }
        }
        let func = instance.get_func(&mut store, name).expect("a function");
        let ended = func.call(&mut store, &args, &mut [Val::I32(0)]).is_err();
        assert_eq!(fs.check(), Ok(()), "{name}");
        assert!(fs.usage().private_bytes <= fs.quota().max_bytes);
        if ended {
            break;
        }
    }
    drop(store);
    assert_eq!(fs.check(), Ok(()));
    assert_eq!(fs.usage().open, 0);
}

fn descriptor(feed: &mut Feed<'_>) -> i32 {
    match feed.byte() {
        odd @ 250..=255 => [0, 1, 2, 1_000, i32::MAX, -1][usize::from(odd) - 250],
        fd => i32::from(3 + fd % 12),
    }
}
