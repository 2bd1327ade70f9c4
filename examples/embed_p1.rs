//! Gives a preview1 module a private, writable file system over a shared base.
//!
//! `cargo run --release --example embed_p1 [GUEST.wasm]`; without a guest, one
//! that writes a greeting (embed_p1.wat).

use stratafs::{image::Image, vfs::Fs, wasi::p1};
use wasmtime::{Engine, Linker, Module, Result, Store};
use wasmtime_wasi::WasiCtxBuilder;

fn main() -> Result<()> {
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |ctx: &mut p1::Ctx| ctx)?;
    let module = Module::new(&engine, guest()?)?;

    let base = Image::empty();
    for number in 0..3 {
        let fs = Fs::new(&base);
        let wasi = WasiCtxBuilder::new().inherit_stdio().build_p1();
        let ctx = p1::Ctx::new(wasi).preopen(fs.root()?, "/");
        // This store gets one instance and no other.
        let mut store = Store::new(&engine, ctx.for_one_instance());
        let instance = linker.instantiate(&mut store, &module)?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        start.call(&mut store, ())?;
        println!("guest {number} holds of its own: {:?}", fs.usage());
    }
    Ok(())
}

fn guest() -> std::io::Result<Vec<u8>> {
    match std::env::args_os().nth(1) {
        Some(path) => std::fs::read(path),
        None => Ok(include_bytes!("embed_p1.wat").to_vec()),
    }
}
