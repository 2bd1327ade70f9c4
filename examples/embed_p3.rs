//! Gives an 0.3 component a private, writable file system over a shared base.
//!
//! `cargo run --release --example embed_p3 [GUEST.wasm]`; without a guest, one
//! that makes a directory (embed_p3.wat).

use stratafs::{
    image::Image,
    vfs::Fs,
    wasi::{StratafsState, p2, p3},
};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Result, Store};
use wasmtime_wasi::{WasiCtx, p3::bindings::Command};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    let engine = Engine::new(&config)?;
    let mut linker = Linker::<StratafsState>::new(&engine);
    p3::add_to_linker(&mut linker)?;
    // What the guest's language brings may speak 0.2 still: the same state
    // serves both.
    p2::add_to_linker_async(&mut linker)?;
    let component = Component::new(&engine, guest()?)?;

    let base = Image::empty();
    for number in 0..3 {
        let fs = Fs::new(&base);
        let wasi = WasiCtx::builder().inherit_stdio().build();
        let state = StratafsState::new(wasi).preopen(fs.root()?, "/");
        let mut store = Store::new(&engine, state);
        let command = Command::instantiate_async(&mut store, &component, &linker).await?;
        let ran = store
            .run_concurrent(async |store| command.wasi_cli_run().call_run(store).await)
            .await??;
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
        None => Ok(include_bytes!("embed_p3.wat").to_vec()),
    }
}
