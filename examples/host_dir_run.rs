//! Runs a guest (preview0, preview1, or a 0.2 component) on a real host
//! directory under plain wasmtime-wasi: the other side of every comparison
//! with `stratafs run`.
//!
//! ```sh
//! cargo run --release --example host_dir_run -- DIR GUEST.wasm [GUEST ARGS...]
//! ```
//!
//! The guest sees DIR as `/` and may change it. `--env K=V` (repeat) gives it
//! an environment variable, `--cache DIR` keeps its compiled code,
//! `--trap-unknown-imports` makes a trap of each function that it imports and
//! wasmtime-wasi does not have.

use std::path::PathBuf;
use std::process::ExitCode;

use wasmparser::Parser;
use wasmtime::component::{self, Component, ResourceTable};
use wasmtime::error::Context as _;
use wasmtime::{Cache, CacheConfig, Config, Engine, Linker, Module, Result, Store};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p0, p2};

const USAGE: &str = "usage: host_dir_run [--env K=V]... [--cache DIR] [--trap-unknown-imports] \
                     DIR GUEST.wasm [ARGS...]";

/// The arguments as typed.
#[derive(Default)]
struct Args {
    env: Vec<(String, String)>,
    cache: Option<PathBuf>,
    trap_unknown_imports: bool,
    dir: PathBuf,
    guest: String,
    /// What belongs to the guest.
    rest: Vec<String>,
}

impl Args {
    fn parse(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let mut args = Self::default();
        loop {
            let word = words.next()?;
            match word.as_str() {
                "--env" => {
                    let (key, value) = words.next()?.split_once('=').map(own)?;
                    args.env.push((key, value));
                }
                "--trap-unknown-imports" => args.trap_unknown_imports = true,
                "--cache" => args.cache = Some(words.next()?.into()),
                _ => {
                    args.dir = word.into();
                    args.guest = words.next()?;
                    args.rest = words.collect();
                    return Some(args);
                }
            }
        }
    }
}

fn own((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn main() -> Result<ExitCode> {
    let Some(args) = Args::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return Ok(ExitCode::from(2));
    };
    let engine = Engine::new(&config(&args)?)?;
    let guest = &args.guest;
    let wasm = std::fs::read(guest).with_context(|| guest.clone())?;
    let mut wasi = WasiCtxBuilder::new();
    wasi.inherit_stdio()
        .arg(guest)
        .args(&args.rest)
        .envs(&args.env)
        .allow_blocking_current_thread(true)
        .preopened_dir(&args.dir, "/", FsPerms::ReadWrite)
        .with_context(|| format!("{} opens", args.dir.display()))?;
    let done = if Parser::is_component(&wasm) {
        component(&engine, &wasm, wasi)
    } else {
        core(&engine, &wasm, wasi.build_p1(), &args)
    };
    match done {
        Ok(code) => Ok(code),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => Ok(u8::try_from(*code).unwrap_or(1).into()),
            None => Err(error),
        },
    }
}

fn core(engine: &Engine, wasm: &[u8], wasi: WasiP1Ctx, args: &Args) -> Result<ExitCode> {
    let module = Module::new(engine, wasm).with_context(|| format!("{} compiles", args.guest))?;
    let mut linker: Linker<WasiP1Ctx> = Linker::new(engine);
    p1::add_to_linker_sync(&mut linker, |ctx| ctx)?;
    p0::add_to_linker_sync(&mut linker, |ctx| ctx)?;
    if args.trap_unknown_imports {
        linker.define_unknown_imports_as_traps(&module)?;
    }
    let mut store = Store::new(engine, wasi);
    let instance = linker.instantiate(&mut store, &module)?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    start.call(&mut store, ())?;
    Ok(ExitCode::SUCCESS)
}

struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

fn component(engine: &Engine, wasm: &[u8], mut wasi: WasiCtxBuilder) -> Result<ExitCode> {
    let component = Component::new(engine, wasm)?;
    let mut linker = component::Linker::new(engine);
    p2::add_to_linker_sync(&mut linker)?;
    let host = Host {
        wasi: wasi.build(),
        table: ResourceTable::new(),
    };
    let mut store = Store::new(engine, host);
    let command = Command::instantiate(&mut store, &component, &linker)?;
    Ok(match command.wasi_cli_run().call_run(&mut store)? {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    })
}

fn config(args: &Args) -> Result<Config> {
    let mut config = Config::new();
    if let Some(dir) = &args.cache {
        // The cache wants an absolute path.
        let mut cache = CacheConfig::new();
        cache.with_directory(std::path::absolute(dir)?);
        config.cache(Some(Cache::new(cache)?));
    }
    Ok(config)
}
