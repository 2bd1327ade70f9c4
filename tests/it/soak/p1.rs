//! `soak_p1` under both hosts.

use stratafs::image::Image;
use stratafs::vfs::Rights;
use stratafs::wasi::p1;
use wasmtime::{InstancePre, Linker, Module, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

use super::rules::{P1, Rule};
use super::{Episode, Twins, calls, soak, tree};
use crate::support::guest::{World, guest};
use crate::support::wasi_host::engine;

/// The guest, linked with each host.
pub(super) struct Preview1 {
    image: Image,
    ours: InstancePre<p1::Ctx>,
    ours_async: InstancePre<p1::Ctx>,
    theirs: InstancePre<WasiP1Ctx>,
    runtime: tokio::runtime::Runtime,
}

impl Preview1 {
    pub(super) fn new() -> Self {
        let module = Module::from_file(engine(), guest("soak_p1", World::P1)).unwrap();
        let mut ours = Linker::new(engine());
        p1::add_to_linker_sync(&mut ours, |ctx| ctx).unwrap();
        let mut ours_async = Linker::new(engine());
        p1::add_to_linker_async(&mut ours_async, |ctx| ctx).unwrap();
        let mut theirs = Linker::new(engine());
        wasmtime_wasi::p1::add_to_linker_sync(&mut theirs, |ctx| ctx).unwrap();
        Self {
            image: tree::image(),
            ours: ours.instantiate_pre(&module).unwrap(),
            ours_async: ours_async.instantiate_pre(&module).unwrap(),
            theirs: theirs.instantiate_pre(&module).unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    /// Every other seed runs in an asynchronous store.
    fn run_ours(&self, episode: &Episode) -> Vec<String> {
        let fs = tree::instance(&self.image);
        let (mut wasi, out) = wasi(episode);
        let ctx = p1::Ctx::new(wasi.build_p1())
            .preopen(fs.root().unwrap(), "/")
            .preopen(fs.preopen("/", Rights::ReadOnly).unwrap(), "/ro");
        let mut store = Store::new(engine(), ctx);
        let ended = if episode.seed.is_multiple_of(2) {
            start(&self.ours, &mut store)
        } else {
            self.runtime
                .block_on(start_async(&self.ours_async, &mut store))
        };
        drop(store);
        fs.check().unwrap();
        assert_eq!(fs.usage().open, 0, "{episode:?}");
        log(&out, ended)
    }

    fn run_theirs(&self, episode: &Episode) -> Vec<String> {
        let dir = tree::fresh();
        tree::fill(dir.path());
        let (mut wasi, out) = wasi(episode);
        wasi.allow_blocking_current_thread(true);
        for (name, perms) in [("/", FsPerms::ReadWrite), ("/ro", FsPerms::ReadOnly)] {
            wasi.preopened_dir(dir.path(), name, perms).unwrap();
        }
        let mut store = Store::new(engine(), wasi.build_p1());
        let ended = start(&self.theirs, &mut store);
        log(&out, ended)
    }
}

impl Twins for Preview1 {
    fn rules(&self) -> &'static [Rule] {
        P1
    }

    fn logs(&self, episode: &Episode) -> [Vec<String>; 2] {
        [self.run_ours(episode), self.run_theirs(episode)]
    }
}

fn wasi(episode: &Episode) -> (WasiCtxBuilder, MemoryOutputPipe) {
    let out = MemoryOutputPipe::new(64 << 20);
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(out.clone())
        .arg("soak_p1")
        .args(&episode.args());
    (wasi, out)
}

fn start<T: 'static>(pre: &InstancePre<T>, store: &mut Store<T>) -> wasmtime::Result<()> {
    let instance = pre.instantiate(&mut *store)?;
    instance
        .get_typed_func::<(), ()>(&mut *store, "_start")?
        .call(store, ())
}

async fn start_async<T: Send + 'static>(
    pre: &InstancePre<T>,
    store: &mut Store<T>,
) -> wasmtime::Result<()> {
    let instance = pre.instantiate_async(&mut *store).await?;
    let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
    start.call_async(store, ()).await
}

/// What the guest said, and how it ended.
fn log(out: &MemoryOutputPipe, ended: wasmtime::Result<()>) -> Vec<String> {
    let text = String::from_utf8(out.contents().to_vec()).unwrap();
    let end = match &ended {
        Ok(()) => "returned".to_owned(),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => format!("exit {code}"),
            None => "trap".to_owned(),
        },
    };
    let end = format!("- end = {end}");
    text.lines().map(String::from).chain([end]).collect()
}

#[test]
fn a_soak_of_preview1_calls_agrees_with_wasmtime_wasi() {
    soak(&Preview1::new(), calls(40_000));
}
