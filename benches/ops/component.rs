//! The guest as a component, by 0.2: wasmtime's adapter is between its calls and
//! those of the world.

use std::path::Path;

use stratafs::image::Image;
use stratafs::vfs::Fs;
use stratafs::wasi::{StratafsState, p2};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as ADAPTER,
};
use wasmtime::component::{Component as Compiled, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::p2::bindings::sync::{Command, CommandPre};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wit_component::ComponentEncoder;

use crate::{Figures, Sides, figures, wasi};

/// What wasmtime-wasi asks of a host.
struct Theirs {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Theirs {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

pub(crate) struct Component {
    engine: Engine,
    ours: CommandPre<StratafsState>,
    theirs: CommandPre<Theirs>,
}

impl Component {
    pub(crate) fn new(module: &[u8]) -> Self {
        let encoder = ComponentEncoder::default().module(module).unwrap();
        let bytes = encoder.adapter(NAME, ADAPTER).unwrap().encode().unwrap();
        let engine = Engine::default();
        let compiled = Compiled::new(&engine, bytes).unwrap();
        let (mut ours, mut theirs) = (Linker::new(&engine), Linker::new(&engine));
        p2::add_to_linker_sync(&mut ours).unwrap();
        wasmtime_wasi::p2::add_to_linker_sync(&mut theirs).unwrap();
        Self {
            ours: CommandPre::new(ours.instantiate_pre(&compiled).unwrap()).unwrap(),
            theirs: CommandPre::new(theirs.instantiate_pre(&compiled).unwrap()).unwrap(),
            engine,
        }
    }
}

impl Sides for Component {
    fn ours(&self, image: &Image) -> Figures {
        let out = MemoryOutputPipe::new(1 << 16);
        let root = Fs::new(image).root().unwrap();
        let state = StratafsState::new(wasi(&out).build()).preopen(root, "/");
        let mut store = Store::new(&self.engine, state);
        let command = self.ours.instantiate(&mut store).unwrap();
        run(&command, store, &out)
    }

    fn theirs(&self, host: &Path) -> Figures {
        let out = MemoryOutputPipe::new(1 << 16);
        let mut builder = wasi(&out);
        builder
            .preopened_dir(host, "/", FsPerms::ReadWrite)
            .unwrap();
        let (wasi, table) = (builder.build(), ResourceTable::new());
        let mut store = Store::new(&self.engine, Theirs { wasi, table });
        let command = self.theirs.instantiate(&mut store).unwrap();
        run(&command, store, &out)
    }
}

fn run<T: 'static>(command: &Command, mut store: Store<T>, out: &MemoryOutputPipe) -> Figures {
    let ran = command.wasi_cli_run().call_run(&mut store).unwrap();
    assert_eq!(ran, Ok(()), "the guest ends well");
    figures(out)
}
