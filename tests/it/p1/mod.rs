//! Preview1, call by call, in synchronous and asynchronous stores.

mod descriptors; // numbers, renumber, close, flags, rights, quotas
mod differential; // the same calls under wasmtime-wasi on a host directory
mod fork; // contexts that go on from another one, tables from data
mod host; // host directories and standard streams beside ours, poll
mod listing; // fd_readdir
mod memory; // pointers, iovecs, shared memory
mod older; // preview0, where its shapes differ
mod paths; // names, links, read-only preopens
mod rw; // offsets, append, sizes, times
mod stopped; // out of fuel, past an epoch, given up

use std::sync::Arc;

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::Image;
use stratafs::layer::{Layer, LayerBuilder};
use stratafs::meta::{Meta, Time};
use stratafs::name::LayerPath;
use stratafs::vfs::{Fs, Rights as Allow};
use stratafs::wasi::p1::Ctx;
use wasmtime_wasi::WasiCtxBuilder;

use crate::support::p1::{Guest, Mode};

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

/// A tree with one object of each kind:
/// `hello` ("hello world"), `hard` (its second name), `dir/inner` ("inner"),
/// `dir/sub/`, `empty/`, `link` -> hello, `dirlink` -> dir, `dangling` ->
/// nowhere, `loop` -> loop, `up` -> ../x, `abs` -> /hello, `old` (1901).
fn layer() -> Layer {
    let pool = Arc::new(ChunkPool::new());
    let meta = Meta::with_mode(0o644).at(Time::new(1_000_000_000, 5));
    let mut layer = LayerBuilder::new();
    let file = |text: &str| ContentBuilder::of(&pool, text.as_bytes());
    for dir in ["dir", "dir/sub", "empty"] {
        layer.dir(&path(dir), Meta::with_mode(0o755)).unwrap();
    }
    layer
        .file(&path("hello"), meta.clone(), file("hello world"))
        .unwrap();
    layer.hard_link(&path("hard"), &path("hello")).unwrap();
    layer
        .file(&path("dir/inner"), meta.clone(), file("inner"))
        .unwrap();
    let early = Meta::with_mode(0o600).at(Time::new(-2_177_452_800, 0));
    layer.file(&path("old"), early, file("old")).unwrap();
    for (name, target) in [
        ("link", "hello"),
        ("dirlink", "dir"),
        ("dangling", "nowhere"),
        ("loop", "loop"),
        ("up", "../x"),
        ("abs", "/hello"),
    ] {
        layer
            .symlink(&path(name), meta.clone(), target.as_bytes())
            .unwrap();
    }
    layer.finish().unwrap()
}

fn image() -> Image {
    Image::new(&[layer()]).unwrap()
}

/// An instance in which `up` was made by the host: one of a layer would end at
/// the root, where a guest's leads out.
fn fresh() -> Fs {
    let fs = Fs::new(&image());
    let root = fs.root().unwrap();
    root.unlink_at(b"up").unwrap();
    root.symlink_at(b"../x", b"up").unwrap();
    fs
}

fn quiet() -> wasmtime_wasi::p1::WasiP1Ctx {
    WasiCtxBuilder::new().build_p1()
}

/// A guest with the whole of `fs` as descriptor 3.
fn on(mode: Mode, fs: &Fs) -> Guest {
    Guest::new(mode, Ctx::new(quiet()).preopen(fs.root().unwrap(), "/"))
}

/// A guest on a file system of its own.
fn guest(mode: Mode) -> Guest {
    on(mode, &fresh())
}

/// A guest with the whole tree as 3 and a read-only view of it as 4.
fn with_read_only(mode: Mode) -> Guest {
    let fs = fresh();
    let all = fs.root().unwrap();
    let read_only = fs.preopen(b"/", Allow::ReadOnly).unwrap();
    Guest::new(
        mode,
        Ctx::new(quiet())
            .preopen(all, "/")
            .preopen(read_only, "/ro"),
    )
}

/// The root as every guest here sees it.
const ROOT: u32 = 3;
