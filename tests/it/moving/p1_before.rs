//! A host of preview1 commands.

use wasmtime::{Engine, Linker, Module, Result, Store};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p1;

pub fn run(guest: &[u8]) -> Result<()> {
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |ctx| ctx)?;

    let wasi = WasiCtx::builder().inherit_stdio().build_p1();
    let mut store = Store::new(&engine, wasi);

    let module = Module::new(&engine, guest)?;
    let instance = linker.instantiate(&mut store, &module)?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    start.call(&mut store, ())
}
