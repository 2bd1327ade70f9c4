//! Gives a 0.2 component in an asynchronous store a file system beside the host's own data: many
//! guests wait on few threads.
//!
//! `cargo run --release --example embed_p2_async [GUEST.wasm]`; without a guest, one that writes a
//! greeting (embed_p2.wat).

use stratafs::{
    image::Image,
    vfs::Fs,
    wasi::{StratafsState, p2},
};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Result, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2::bindings::Command};

/// What this host keeps for each guest.
struct Tenant {
    name: String,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Tenant {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // A guest that computes gives way to others, ten milliseconds at a time.
    let mut config = Config::new();
    config.epoch_interruption(true);
    let engine = Engine::new(&config)?;
    let ticker = engine.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(std::time::Duration::from_millis(10));
            ticker.increment_epoch();
        }
    });
    let mut linker = Linker::<StratafsState<Tenant>>::new(&engine);
    p2::add_to_linker_async(&mut linker)?;
    let component = Component::new(&engine, guest()?)?;

    let base = Image::empty();
    let mut guests = tokio::task::JoinSet::new();
    for number in 0..3 {
        let (engine, linker, component) = (engine.clone(), linker.clone(), component.clone());
        let fs = Fs::new(&base);
        let name = format!("tenant {number}");
        guests.spawn(async move {
            let wasi = WasiCtx::builder().inherit_stdio().build();
            let tenant = Tenant {
                name,
                wasi,
                table: ResourceTable::new(),
            };
            let state = StratafsState::with(tenant).preopen(fs.root()?, "/");
            let mut store = Store::new(&engine, state);
            store.set_epoch_deadline(1);
            store.epoch_deadline_async_yield_and_update(1);
            let command = Command::instantiate_async(&mut store, &component, &linker).await?;
            let ran = command.wasi_cli_run().call_run(&mut store).await?;
            println!("{}, {ran:?}: {:?}", store.data().data.name, fs.changes()?);
            Ok::<(), wasmtime::Error>(())
        });
    }
    while let Some(ended) = guests.join_next().await {
        ended??;
    }
    Ok(())
}

fn guest() -> std::io::Result<Vec<u8>> {
    match std::env::args_os().nth(1) {
        Some(path) => std::fs::read(path),
        None => Ok(include_bytes!("embed_p2.wat").to_vec()),
    }
}
