//! A host of preview1 commands.

use stratafs::{image::Image, vfs::Fs, wasi::p1};
use wasmtime::{Engine, Linker, Module, Result, Store};
use wasmtime_wasi::WasiCtx;

pub fn run(guest: &[u8]) -> Result<()> {
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |ctx| ctx)?;

    let wasi = WasiCtx::builder().inherit_stdio().build_p1();
    let fs = Fs::new(&Image::from_dir("examples")?);
    let ctx = p1::Ctx::new(wasi).preopen(fs.root()?, "/");
    let mut store = Store::new(&engine, ctx);

    let module = Module::new(&engine, guest)?;
    let instance = linker.instantiate(&mut store, &module)?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    start.call(&mut store, ())
}
