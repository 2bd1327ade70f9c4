//! Runs a preview1 guest on a real host directory under plain wasmtime-wasi:
//! the other side of every comparison with `stratafs run`.
//!
//! ```sh
//! cargo run --release --example host_dir_run -- DIR GUEST.wasm [GUEST ARGS...]
//! ```
//!
//! The guest sees DIR as `/` and may change it. `--env K=V` (repeat) gives it
//! an environment variable, `--cache DIR` keeps its compiled code.

use std::path::PathBuf;
use std::process::ExitCode;

use wasmtime::error::Context as _;
use wasmtime::{Cache, CacheConfig, Config, Engine, Linker, Module, Result, Store};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

const USAGE: &str = "usage: host_dir_run [--env K=V]... [--cache DIR] DIR GUEST.wasm [ARGS...]";

/// The arguments as typed.
#[derive(Default)]
struct Args {
    env: Vec<(String, String)>,
    cache: Option<PathBuf>,
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
    let module = Module::from_file(&engine, guest).with_context(|| format!("{guest} compiles"))?;
    let mut linker: Linker<WasiP1Ctx> = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |ctx| ctx)?;
    let wasi = WasiCtxBuilder::new()
        .inherit_stdio()
        .arg(guest)
        .args(&args.rest)
        .envs(&args.env)
        .allow_blocking_current_thread(true)
        .preopened_dir(&args.dir, "/", FsPerms::ReadWrite)
        .with_context(|| format!("{} opens", args.dir.display()))?
        .build_p1();
    let mut store = Store::new(&engine, wasi);
    let instance = linker.instantiate(&mut store, &module)?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    match start.call(&mut store, ()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => Ok(u8::try_from(*code).unwrap_or(1).into()),
            None => Err(error),
        },
    }
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
