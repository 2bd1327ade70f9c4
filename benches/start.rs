//! What starting a guest costs with a file system of its own: store, instance
//! and a `main` of Rust that prints one line, on the pooling allocator.
//!
//! Twins: the same guest with no file system, and with wasmtime-wasi and one
//! host directory, which all instances share. First the three in turns, which
//! gives the ratios; then criterion's figures.
//!
//! `cargo bench --bench start`
#![allow(clippy::unwrap_used, reason = "a bench ends at the first error")]

#[allow(dead_code, unreachable_pub, reason = "other benches use the rest")]
mod support;

use std::path::PathBuf;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use stratafs::chunk::Content;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::vfs::Fs;
use stratafs::wasi::{StratafsCtx, StratafsView, p1, p2};
use support::{Spread, World, guest, memory_dir, print_load};
use wasmtime::component::{Component, ResourceTable};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, Module, PoolingAllocationConfig, Store,
};
use wasmtime_wasi::p2::bindings::sync::CommandPre;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// Turns of the three that count, after as many as a tenth that do not.
const TURNS: usize = 41;

/// Starts of each in one turn.
const STARTS: u32 = 250;

/// Files of the base.
const FILES: u32 = 10_000;

/// One way to start the guest and run it to its end.
struct Way {
    name: &'static str,
    start: Box<dyn FnMut()>,
}

/// What the store of a component holds.
struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
    stratafs: StratafsCtx,
}

impl Host {
    fn new(wasi: &mut WasiCtxBuilder, stratafs: StratafsCtx) -> Self {
        Self {
            wasi: wasi.build(),
            table: ResourceTable::new(),
            stratafs,
        }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl StratafsView for Host {
    fn stratafs(&mut self) -> &mut StratafsCtx {
        &mut self.stratafs
    }
}

fn engine() -> Engine {
    let mut pool = PoolingAllocationConfig::new();
    // A pool that gives memory back to the kernel at each end measures that.
    pool.linear_memory_keep_resident(64 << 10)
        .table_keep_resident(64 << 10);
    let mut config = Config::new();
    // As the runner has it for guests that are not of 0.3.
    config.concurrency_support(false);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).unwrap()
}

fn image() -> Image {
    let mut builder = Layer::builder();
    for number in 0..FILES {
        let text = format!("d{}/file-{number}", number / 1000);
        let path = LayerPath::parse(text.as_bytes()).unwrap();
        builder
            .file(&path, Meta::with_mode(0o644), Content::empty())
            .unwrap();
    }
    Image::new(&[builder.finish().unwrap()]).unwrap()
}

fn wasi() -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder.allow_blocking_current_thread(true);
    builder
}

fn wasi_with(host: &PathBuf) -> WasiCtxBuilder {
    let mut builder = wasi();
    builder
        .preopened_dir(host, "/", FsPerms::ReadWrite)
        .unwrap();
    builder
}

type Link<L> = fn(&mut L) -> wasmtime::Result<()>;

fn module<T: 'static>(
    name: &'static str,
    module: &Module,
    link: Link<wasmtime::Linker<T>>,
    make: impl Fn() -> T + 'static,
) -> Way {
    let engine = module.engine().clone();
    let mut linker = wasmtime::Linker::new(&engine);
    link(&mut linker).unwrap();
    let pre = linker.instantiate_pre(module).unwrap();
    let start = move || {
        let mut store = Store::new(&engine, make());
        let instance = pre.instantiate(&mut store).unwrap();
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start");
        start.unwrap().call(&mut store, ()).unwrap();
    };
    Way {
        name,
        start: Box::new(start),
    }
}

fn component(
    name: &'static str,
    component: &Component,
    link: Link<wasmtime::component::Linker<Host>>,
    make: impl Fn() -> Host + 'static,
) -> Way {
    let engine = component.engine().clone();
    let mut linker = wasmtime::component::Linker::new(&engine);
    link(&mut linker).unwrap();
    let pre = CommandPre::new(linker.instantiate_pre(component).unwrap()).unwrap();
    let start = move || {
        let mut store = Store::new(&engine, make());
        let command = pre.instantiate(&mut store).unwrap();
        let ended = command.wasi_cli_run().call_run(&mut store).unwrap();
        assert_eq!(ended, Ok(()));
    };
    Way {
        name,
        start: Box::new(start),
    }
}

/// The ways for a guest of preview1: no files, stratafs, host directory.
fn ways_p1(engine: &Engine, image: &Image, host: PathBuf) -> [Way; 3] {
    let hello = Module::new(engine, guest("hello", World::P1)).unwrap();
    let image = image.clone();
    let stock = |linker: &mut _| wasmtime_wasi::p1::add_to_linker_sync(linker, |ctx| ctx);
    [
        module("no file system", &hello, stock, || wasi().build_p1()),
        module(
            "stratafs",
            &hello,
            |linker| p1::add_to_linker_sync(linker, |ctx| ctx),
            move || {
                let fs = Fs::new(&image);
                p1::Ctx::new(wasi().build_p1()).preopen(fs.root().unwrap(), "/")
            },
        ),
        module("wasmtime-wasi, host directory", &hello, stock, move || {
            wasi_with(&host).build_p1()
        }),
    ]
}

/// The same for a guest of 0.2.
fn ways_p2(engine: &Engine, image: &Image, host: PathBuf) -> [Way; 3] {
    let hello = Component::new(engine, guest("hello", World::P2)).unwrap();
    let image = image.clone();
    let stock = wasmtime_wasi::p2::add_to_linker_sync::<Host>;
    [
        component("no file system", &hello, stock, || {
            Host::new(&mut wasi(), StratafsCtx::new())
        }),
        component(
            "stratafs",
            &hello,
            p2::add_to_linker_sync::<Host>,
            move || {
                let root = Fs::new(&image).root().unwrap();
                Host::new(&mut wasi(), StratafsCtx::new().preopen(root, "/"))
            },
        ),
        component("wasmtime-wasi, host directory", &hello, stock, move || {
            Host::new(&mut wasi_with(&host), StratafsCtx::new())
        }),
    ]
}

/// Runs the ways in turns and prints what one start takes of each.
fn in_turns(world: &str, ways: &mut [Way]) {
    let mut figures = vec![Vec::new(); ways.len()];
    for turn in 0..TURNS + TURNS / 10 {
        for (way, figures) in ways.iter_mut().zip(&mut figures) {
            let begin = Instant::now();
            for _ in 0..STARTS {
                (way.start)();
            }
            if turn >= TURNS / 10 {
                figures.push(begin.elapsed().as_nanos() as f64 / f64::from(STARTS));
            }
        }
    }
    let spreads: Vec<Spread> = figures.into_iter().map(Spread::of).collect();
    let none = spreads.first().unwrap();
    println!("| {world}: ns a start, median [least..most] | | of no file system |");
    println!("|---|---|---|");
    for (way, spread) in ways.iter().zip(&spreads) {
        let part = spread.median / none.median * 100.0;
        let best = spread.least / none.least * 100.0;
        println!(
            "| {} | {spread} | {part:.1} % (least: {best:.1} %) |",
            way.name
        );
    }
    println!();
}

fn start(criterion: &mut Criterion) {
    let (engine, image, host) = (engine(), image(), memory_dir());
    let mut worlds = [
        ("p1", ways_p1(&engine, &image, host.path().to_owned())),
        ("p2", ways_p2(&engine, &image, host.path().to_owned())),
    ];
    print_load("before");
    for (world, ways) in &mut worlds {
        in_turns(world, ways);
    }
    print_load("after");
    for (world, ways) in &mut worlds {
        let mut group = criterion.benchmark_group(format!("start/{world}"));
        for way in ways {
            group.bench_function(way.name, |bencher| bencher.iter(&mut way.start));
        }
        group.finish();
    }
}

criterion_group!(benches, start);
criterion_main!(benches);
