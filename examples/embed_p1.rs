//! Gives each guest of a preview1 module a private, writable file system over one directory of
//! the host, and lists what each changed there.
//!
//! `cargo run --release --example embed_p1 [DIR [GUEST.wasm]]`; without a directory, the one of
//! these examples; without a guest, one that writes a greeting (embed_p1.wat).

use stratafs::{image::Image, vfs::Fs, wasi::p1};
use wasmtime::{Engine, Linker, Module, Result, Store};
use wasmtime_wasi::WasiCtxBuilder;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let dir = args
        .next()
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/examples").into());
    let engine = Engine::default();
    let module = match args.next() {
        Some(guest) => Module::from_file(&engine, guest)?,
        None => Module::new(&engine, include_str!("embed_p1.wat"))?,
    };
    let mut linker = Linker::new(&engine);
    p1::add_to_linker_sync(&mut linker, |ctx: &mut p1::Ctx| ctx)?;

    let base = Image::from_dir(dir)?; // read once, shared by all
    for number in 0..3 {
        let fs = Fs::new(&base); // private to this guest
        let wasi = WasiCtxBuilder::new().inherit_stdio().build_p1();
        let ctx = p1::Ctx::new(wasi).preopen(fs.root()?, "/");
        // This store gets one instance and no other.
        let mut store = Store::new(&engine, ctx.for_one_instance());
        let instance = linker.instantiate(&mut store, &module)?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        start.call(&mut store, ())?;
        for change in fs.changes()? {
            println!(
                "guest {number}: {} ({} bytes)",
                change.path(),
                change.size()
            );
        }
    }
    Ok(())
}
