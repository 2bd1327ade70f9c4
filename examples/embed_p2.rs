//! Gives an 0.2 component a private, writable file system over a shared base.
//!
//! `cargo run --release --example embed_p2 [GUEST.wasm]`; without a guest, one
//! that writes a greeting (embed_p2.wat).

use stratafs::{
    image::Image,
    vfs::Fs,
    wasi::{StratafsState, p2},
};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Result, Store};
use wasmtime_wasi::{WasiCtx, p2::bindings::sync::Command};

fn main() -> Result<()> {
    let engine = Engine::default();
    let mut linker = Linker::<StratafsState>::new(&engine);
    p2::add_to_linker_sync(&mut linker)?;
    let component = Component::new(&engine, guest()?)?;

    let base = Image::empty();
    for number in 0..3 {
        let fs = Fs::new(&base);
        let wasi = WasiCtx::builder().inherit_stdio().build();
        let state = StratafsState::new(wasi).preopen(fs.root()?, "/");
        let mut store = Store::new(&engine, state);
        let command = Command::instantiate(&mut store, &component, &linker)?;
        let ran = command.wasi_cli_run().call_run(&mut store)?;
        println!(
            "guest {number}, {ran:?}, holds of its own: {:?}",
            fs.usage()
        );
    }
    Ok(())
}

fn guest() -> std::io::Result<Vec<u8>> {
    match std::env::args_os().nth(1) {
        Some(path) => std::fs::read(path),
        None => Ok(include_bytes!("embed_p2.wat").to_vec()),
    }
}
