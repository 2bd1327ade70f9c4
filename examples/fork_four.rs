//! Tries four ways from one prepared state, and keeps the best.
//!
//! `cargo run --release --example fork_four`: a guest (fork_four.wat) prepares
//! a tree once. Four forks of it, which cost nothing to make, each let the guest
//! answer in another way. The host tells what each changed, picks the one with
//! the shortest answer, and merges it into what went on meanwhile.

use stratafs::image::Image;
use stratafs::vfs::{Change, Fs};
use stratafs::wasi::p1;
use wasmtime::error::Context as _;
use wasmtime::{Engine, Instance, Linker, Module, Result, Store};
use wasmtime_wasi::WasiCtxBuilder;

/// Where the guest leaves its answer.
const ANSWER: &str = "/desk/answer";

fn main() -> Result<()> {
    let guest = Guest::new()?;
    let fs = Fs::new(&Image::empty());
    guest.call(&fs, |store, guest| {
        guest
            .get_typed_func::<(), ()>(&mut *store, "prepare")?
            .call(store, ())
    })?;
    let prepared = fs.snapshot();

    let mut tries = Vec::new();
    for number in 0..4 {
        let fork = prepared.fork();
        guest.call(&fork, |store, guest| {
            guest
                .get_typed_func::<u32, ()>(&mut *store, "attempt")?
                .call(store, number)
        })?;
        let answer = fork.read(ANSWER)?;
        println!("try {number}: {:?}", String::from_utf8_lossy(&answer));
        for change in prepared.changes_to(&fork.snapshot())? {
            println!("  {}", tell(&change));
        }
        tries.push((answer.len(), number, fork));
    }

    let best = tries.iter().min_by_key(|(len, number, _)| (*len, *number));
    let (_, number, fork) = best.context("there are four")?;
    fs.write("/desk/notes", "written while they tried")?;
    fs.merge(&prepared, &fork.snapshot())?;
    let kept = fs.read(ANSWER)?;
    println!("kept try {number}: {:?}", String::from_utf8_lossy(&kept));
    println!(
        "beside {:?}",
        String::from_utf8_lossy(&fs.read("/desk/notes")?)
    );
    Ok(())
}

/// What changed, in a line.
fn tell(change: &Change) -> String {
    match change {
        Change::Added { path, .. } => format!("made {path}"),
        Change::Removed { path, .. } => format!("removed {path}"),
        Change::Renamed { from, to, .. } => format!("moved {from} to {to}"),
        Change::Content { path, ranges, size } => {
            format!("wrote {path}: {size} bytes now, others at {ranges:?}")
        }
        Change::Meta { path, .. } => format!("touched {path}"),
        other => format!("changed {}", other.path()),
    }
}

/// A compiled guest, to be started on any file system.
struct Guest {
    linker: Linker<p1::Ctx>,
    module: Module,
}

impl Guest {
    fn new() -> Result<Self> {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        p1::add_to_linker_sync(&mut linker, |ctx: &mut p1::Ctx| ctx)?;
        let module = Module::new(&engine, include_bytes!("fork_four.wat"))?;
        Ok(Self { linker, module })
    }

    /// Starts the guest with `fs` as its root, and calls into it.
    fn call(
        &self,
        fs: &Fs,
        calls: impl FnOnce(&mut Store<p1::Ctx>, &Instance) -> Result<()>,
    ) -> Result<()> {
        let wasi = WasiCtxBuilder::new().inherit_stderr().build_p1();
        let ctx = p1::Ctx::new(wasi).preopen(fs.root()?, "/");
        let mut store = Store::new(self.linker.engine(), ctx);
        let instance = self.linker.instantiate(&mut store, &self.module)?;
        calls(&mut store, &instance)
    }
}
