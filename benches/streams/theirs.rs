//! The same guests under wasmtime-wasi, on a directory of the host.

use std::path::{Path, PathBuf};

use tokio::runtime::{Builder, Runtime};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p2::bindings::sync::CommandPre;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p3::bindings::CommandPre as CommandPre3;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};

/// What wasmtime-wasi asks of a host.
struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

pub(crate) struct Theirs {
    dir: PathBuf,
    engine: Engine,
    two: CommandPre<Host>,
    three: CommandPre3<Host>,
    runtime: Runtime,
}

impl Theirs {
    pub(crate) fn new(dir: &Path, [two, three]: &[Vec<u8>; 2]) -> Self {
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        let engine = Engine::new(&config).unwrap();
        let mut sync = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut sync).unwrap();
        let mut both = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut both).unwrap();
        wasmtime_wasi::p3::add_to_linker(&mut both).unwrap();
        let compiled = |bytes: &[u8]| Component::new(&engine, bytes).unwrap();
        Self {
            dir: dir.to_owned(),
            two: CommandPre::new(sync.instantiate_pre(&compiled(two)).unwrap()).unwrap(),
            three: CommandPre3::new(both.instantiate_pre(&compiled(three)).unwrap()).unwrap(),
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
            engine,
        }
    }

    fn store(&self, args: &[&str], out: &MemoryOutputPipe) -> Store<Host> {
        let mut builder = WasiCtx::builder();
        builder
            .args(args)
            .stdout(out.clone())
            .allow_blocking_current_thread(true)
            .preopened_dir(&self.dir, "/", FsPerms::ReadOnly)
            .unwrap();
        let (wasi, table) = (builder.build(), ResourceTable::new());
        Store::new(&self.engine, Host { wasi, table })
    }

    /// Runs the 0.2 guest once and returns what it printed.
    pub(crate) fn two(&self, args: &[&str]) -> String {
        let out = MemoryOutputPipe::new(1 << 10);
        let mut store = self.store(args, &out);
        let command = self.two.instantiate(&mut store).unwrap();
        let ran = command.wasi_cli_run().call_run(&mut store).unwrap();
        assert_eq!(ran, Ok(()), "the guest ends well");
        String::from_utf8(out.contents().to_vec()).unwrap()
    }

    /// Runs the 0.3 guest once and returns what it printed.
    pub(crate) fn three(&self, args: &[&str]) -> String {
        let out = MemoryOutputPipe::new(1 << 10);
        let mut store = self.store(args, &out);
        self.runtime.block_on(async {
            let command = self.three.instantiate_async(&mut store).await.unwrap();
            let run = async |store: &_| command.wasi_cli_run().call_run(store).await;
            let ran = store.run_concurrent(run).await.unwrap().unwrap();
            assert_eq!(ran, Ok(()), "the guest ends well");
        });
        String::from_utf8(out.contents().to_vec()).unwrap()
    }
}
