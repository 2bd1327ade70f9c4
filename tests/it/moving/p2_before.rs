//! A host of 0.2 commands, with data of its own.

use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Result, Store};
use wasmtime_wasi::p2::{self, bindings::sync::Command};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

pub fn run(guest: &[u8]) -> Result<Result<(), ()>> {
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    p2::add_to_linker_sync(&mut linker)?;

    let wasi = WasiCtx::builder().inherit_stdio().build();
    let table = ResourceTable::new();
    let mut store = Store::new(&engine, State { wasi, table });

    let component = Component::new(&engine, guest)?;
    let command = Command::instantiate(&mut store, &component, &linker)?;
    command.wasi_cli_run().call_run(&mut store)
}
