//! The guest as a core module, by preview1.

use std::path::Path;

use stratafs::image::Image;
use stratafs::vfs::Fs;
use stratafs::wasi::p1;
use wasmtime::{Engine, InstancePre, Linker, Module, Store};
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

use crate::{Figures, Sides, figures, wasi};

pub(crate) struct Preview1 {
    ours: InstancePre<p1::Ctx>,
    theirs: InstancePre<WasiP1Ctx>,
}

impl Preview1 {
    pub(crate) fn new(module: &[u8]) -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, module).unwrap();
        let (mut ours, mut theirs) = (Linker::new(&engine), Linker::new(&engine));
        p1::add_to_linker_sync(&mut ours, |ctx| ctx).unwrap();
        wasmtime_wasi::p1::add_to_linker_sync(&mut theirs, |ctx| ctx).unwrap();
        Self {
            ours: ours.instantiate_pre(&module).unwrap(),
            theirs: theirs.instantiate_pre(&module).unwrap(),
        }
    }
}

impl Sides for Preview1 {
    fn ours(&self, image: &Image) -> Figures {
        let out = MemoryOutputPipe::new(1 << 16);
        let root = Fs::new(image).root().unwrap();
        // As the runner makes it: one instance to a store.
        let ctx = p1::Ctx::new(wasi(&out).build_p1()).for_one_instance();
        run(&self.ours, ctx.preopen(root, "/"), &out)
    }

    fn theirs(&self, host: &Path) -> Figures {
        let out = MemoryOutputPipe::new(1 << 16);
        let mut builder = wasi(&out);
        builder
            .preopened_dir(host, "/", FsPerms::ReadWrite)
            .unwrap();
        run(&self.theirs, builder.build_p1(), &out)
    }
}

fn run<T: 'static>(pre: &InstancePre<T>, data: T, out: &MemoryOutputPipe) -> Figures {
    let mut store = Store::new(pre.module().engine(), data);
    let instance = pre.instantiate(&mut store).unwrap();
    let start = instance
        .get_typed_func::<(), ()>(&mut store, "_start")
        .unwrap();
    start.call(&mut store, ()).unwrap();
    figures(out)
}
