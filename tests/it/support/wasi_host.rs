//! Running one guest in four ways: under plain wasmtime-wasi on a host
//! directory and under stratafs, each sync and async.

use std::path::Path;
use std::sync::OnceLock;

use stratafs::vfs::Fs;
use stratafs::wasi::{StratafsCtx, StratafsView, p1, p2, p3};
use wasmtime::component::{Component, Linker as ComponentLinker, ResourceTable};
use wasmtime::{Engine, Linker, Module, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::{Command, sync::Command as SyncCommand};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p3::bindings::Command as AsyncCommand;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::guest::{World, guest};

/// Who serves the guest's files.
#[derive(Clone, Copy)]
pub enum Files<'a> {
    /// wasmtime-wasi, from a host directory.
    HostDir(&'a Path),
    /// stratafs.
    Strata(&'a Fs),
}

/// Which half of the front end is asked. 0.3 has one: there the host may or
/// may not answer on the guest's own thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `add_to_linker_sync`.
    Sync,
    /// `add_to_linker_async`.
    Async,
}

/// What a guest left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code; 134 for a trap.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it complained of, and a trap's message.
    pub err: String,
}

/// A guest, compiled.
pub enum Compiled {
    /// For preview1.
    P1(Module),
    /// For 0.2.
    P2(Component),
    /// For 0.3.
    P3(Component),
}

/// The one engine of this process.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(Engine::default)
}

/// What an 0.2 guest's store holds.
struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
    stratafs: StratafsCtx,
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

fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| tokio::runtime::Runtime::new().unwrap())
        .block_on(future)
}

impl Compiled {
    /// Builds and compiles a guest.
    pub fn new(name: &str, world: World) -> Self {
        let file = guest(name, world);
        match world {
            World::P1 => Self::P1(Module::from_file(engine(), file).unwrap()),
            World::P2 => Self::P2(Component::from_file(engine(), file).unwrap()),
            World::P3 => Self::P3(Component::from_file(engine(), file).unwrap()),
        }
    }

    /// Runs it once on whatever thread polls this, as an asynchronous host does.
    pub async fn run_on_poller(&self, fs: &Fs, args: &[&str]) -> Outcome {
        let out = MemoryOutputPipe::new(1 << 20);
        let err = MemoryOutputPipe::new(1 << 20);
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(out.clone()).stderr(err.clone());
        wasi.arg("guest").args(args);
        let ended = match self {
            Self::P1(module) => strata_p1_async(module, p1_ctx(wasi, fs)).await,
            Self::P2(component) | Self::P3(component) => {
                let host = Host {
                    wasi: wasi.build(),
                    table: ResourceTable::new(),
                    stratafs: StratafsCtx::new().preopen(fs.root().unwrap(), "/"),
                };
                match self {
                    Self::P3(_) => run_p3(component, host, false).await,
                    _ => run_p2_async(component, host, false).await,
                }
            }
        };
        outcome(ended, &out, &err)
    }

    /// Runs it once with `files` as its `/`.
    pub fn run(&self, files: Files<'_>, mode: Mode, args: &[&str]) -> Outcome {
        let (out, err) = (
            MemoryOutputPipe::new(64 << 20),
            MemoryOutputPipe::new(64 << 20),
        );
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(out.clone())
            .stderr(err.clone())
            .arg("guest")
            .args(args);
        if let Files::HostDir(dir) = files {
            wasi.preopened_dir(dir, "/", FsPerms::ReadWrite).unwrap();
        }
        let ended = match (self, files, mode) {
            (Self::P1(module), Files::HostDir(_), Mode::Sync) => stock_p1(module, wasi.build_p1()),
            (Self::P1(module), Files::HostDir(_), Mode::Async) => {
                block_on(stock_p1_async(module, wasi.build_p1()))
            }
            (Self::P1(module), Files::Strata(fs), Mode::Sync) => {
                strata_p1(module, p1_ctx(wasi, fs))
            }
            (Self::P1(module), Files::Strata(fs), Mode::Async) => {
                block_on(strata_p1_async(module, p1_ctx(wasi, fs)))
            }
            (Self::P2(component) | Self::P3(component), _, mode) => {
                let stratafs = match files {
                    Files::HostDir(_) => StratafsCtx::new(),
                    Files::Strata(fs) => StratafsCtx::new().preopen(fs.root().unwrap(), "/"),
                };
                let stock = matches!(files, Files::HostDir(_));
                let three = matches!(self, Self::P3(_));
                if three {
                    wasi.allow_blocking_current_thread(mode == Mode::Sync);
                }
                let host = Host {
                    wasi: wasi.build(),
                    table: ResourceTable::new(),
                    stratafs,
                };
                match mode {
                    _ if three => block_on(run_p3(component, host, stock)),
                    Mode::Sync => run_p2(component, host, stock),
                    Mode::Async => block_on(run_p2_async(component, host, stock)),
                }
            }
        };
        outcome(ended, &out, &err)
    }
}

fn outcome(
    ended: wasmtime::Result<i32>,
    out: &MemoryOutputPipe,
    err: &MemoryOutputPipe,
) -> Outcome {
    let text = |pipe: &MemoryOutputPipe| String::from_utf8_lossy(&pipe.contents()).into_owned();
    let mut err = text(err);
    let code = ended.unwrap_or_else(|error| match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(code)) => *code,
        None => {
            // Its causes in one line, without the host's own stack.
            err += &format!("{error:#}");
            134
        }
    });
    Outcome {
        code,
        out: text(out),
        err,
    }
}

fn p1_ctx(mut wasi: WasiCtxBuilder, fs: &Fs) -> p1::Ctx {
    p1::Ctx::new(wasi.build_p1()).preopen(fs.root().unwrap(), "/")
}

fn stock_p1(module: &Module, ctx: WasiP1Ctx) -> wasmtime::Result<i32> {
    let mut linker = Linker::new(engine());
    wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |ctx| ctx)?;
    start(&linker, module, ctx)
}

fn strata_p1(module: &Module, ctx: p1::Ctx) -> wasmtime::Result<i32> {
    let mut linker = Linker::new(engine());
    p1::add_to_linker_sync(&mut linker, |ctx| ctx)?;
    start(&linker, module, ctx)
}

fn start<T: 'static>(linker: &Linker<T>, module: &Module, ctx: T) -> wasmtime::Result<i32> {
    let mut store = Store::new(engine(), ctx);
    let instance = linker.instantiate(&mut store, module)?;
    instance
        .get_typed_func::<(), ()>(&mut store, "_start")?
        .call(&mut store, ())?;
    Ok(0)
}

async fn stock_p1_async(module: &Module, ctx: WasiP1Ctx) -> wasmtime::Result<i32> {
    let mut linker = Linker::new(engine());
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |ctx| ctx)?;
    start_async(&linker, module, ctx).await
}

async fn strata_p1_async(module: &Module, ctx: p1::Ctx) -> wasmtime::Result<i32> {
    let mut linker = Linker::new(engine());
    p1::add_to_linker_async(&mut linker, |ctx| ctx)?;
    start_async(&linker, module, ctx).await
}

async fn start_async<T: Send + 'static>(
    linker: &Linker<T>,
    module: &Module,
    ctx: T,
) -> wasmtime::Result<i32> {
    let mut store = Store::new(engine(), ctx);
    let instance = linker.instantiate_async(&mut store, module).await?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    start.call_async(&mut store, ()).await?;
    Ok(0)
}

fn run_p2(component: &Component, host: Host, stock: bool) -> wasmtime::Result<i32> {
    let mut linker = ComponentLinker::new(engine());
    if stock {
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    } else {
        p2::add_to_linker_sync(&mut linker)?;
    }
    let mut store = Store::new(engine(), host);
    let command = SyncCommand::instantiate(&mut store, component, &linker)?;
    Ok(command
        .wasi_cli_run()
        .call_run(&mut store)?
        .map_or(1, |()| 0))
}

async fn run_p2_async(component: &Component, host: Host, stock: bool) -> wasmtime::Result<i32> {
    let mut linker = ComponentLinker::new(engine());
    if stock {
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    } else {
        p2::add_to_linker_async(&mut linker)?;
    }
    let mut store = Store::new(engine(), host);
    let command = Command::instantiate_async(&mut store, component, &linker).await?;
    Ok(command
        .wasi_cli_run()
        .call_run(&mut store)
        .await?
        .map_or(1, |()| 0))
}

async fn run_p3(component: &Component, host: Host, stock: bool) -> wasmtime::Result<i32> {
    let mut linker = ComponentLinker::new(engine());
    if stock {
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    } else {
        p2::add_to_linker_async(&mut linker)?;
        p3::add_to_linker(&mut linker)?;
    }
    let mut store = Store::new(engine(), host);
    let command = AsyncCommand::instantiate_async(&mut store, component, &linker).await?;
    let ended = store
        .run_concurrent(async |store| command.wasi_cli_run().call_run(store).await)
        .await??;
    Ok(ended.map_or(1, |()| 0))
}
