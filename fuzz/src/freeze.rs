//! Programs that call an import in any place, frozen at one of these calls and again at a
//! later one, against the plain engine.
//!
//! As a rule the steps are taken by hand, in one engine that compiles fast: nothing is open, so that
//! the program is all that there is. Now and then a runner takes them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use stratafs::image::Image;
use stratafs::runner::freeze::{
    Called, FreezableModule, Freezing, ImportCall, Point, Refusal, freeze,
};
use stratafs::runner::{Guest, Outcome, OutputSink, RunPlan, Runner, RunnerConfig, Stdio, Stream};
use wasmtime::{CacheStore, Caller, Config, Engine, Extern, Linker, Module, OptLevel, Store};

use super::feed::Feed;
use super::generated::program;

/// How far apart the calls are that a program is frozen at.
const CALLS: usize = 60;

/// The import that programs are frozen at.
const POINT: &str = "sched_yield";

/// What a program wrote, and how it ended.
type Told = (Vec<u8>, String);

/// How many pairs of calls a program is frozen at.
const PAIRS: usize = 4;

/// Makes a program of the bytes, freezes it at one of its calls, and what goes on from there
/// at one that follows: it must go on as it does when it is left alone. So it does from a few
/// others of its calls.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let by_runner = feed.below(64) == 1;
    let mut nth = || 1 + feed.below(CALLS) as u64;
    let pairs: [[u64; 2]; PAIRS] = std::array::from_fn(|_| [nth(), nth()]);
    let wat = program(&mut feed);
    let guest = Guest::from_bytes("generated", wat.as_str());
    let guest = guest.unwrap_or_else(|error| panic!("{error}\n{wat}"));
    if by_runner {
        let found = by_runners(&guest, pairs[0], &wat);
        return assert_eq!(found, left_alone(&guest, &wat), "{pairs:?}\n{wat}");
    }
    CODE.clear();
    let wasm = guest.wasm().expect("it is held");
    let want = to_its_end(&wasm, Written::new(), &wat);
    let whole = Stoppable::new(&wasm, &wat);
    for pair in pairs {
        let found = in_three(&whole, pair);
        assert_eq!(found, want, "{pair:?}\n{wat}");
    }
}

/// The code of functions that the programs of one case have in common.
#[derive(Debug)]
struct KnownCode(Mutex<HashMap<Vec<u8>, Vec<u8>>>);

static CODE: LazyLock<Arc<KnownCode>> = LazyLock::new(|| Arc::new(KnownCode(Mutex::default())));

impl KnownCode {
    fn clear(&self) {
        self.0.lock().expect("nobody panicked").clear();
    }
}

impl CacheStore for KnownCode {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let code = self.0.lock().expect("nobody panicked");
        code.get(key).cloned().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let mut code = self.0.lock().expect("nobody panicked");
        code.insert(key.to_vec(), value);
        true
    }
}

/// What the programs write.
type Written = Vec<u8>;

static LINKER: LazyLock<Linker<Written>> = LazyLock::new(|| {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::None)
        .parallel_compilation(false);
    config
        .enable_incremental_compilation(Arc::clone(&*CODE) as Arc<dyn CacheStore>)
        .expect("it is compiled in");
    let mut linker = Linker::new(&Engine::new(&config).expect("it is an engine"));
    let wasi = "wasi_snapshot_preview1";
    linker
        .func_wrap(wasi, POINT, || 0)
        .and_then(|linker| linker.func_wrap(wasi, "fd_write", write))
        .expect("they have two names");
    linker
});

fn write(mut caller: Caller<'_, Written>, _: i32, list: u32, _: i32, _: i32) -> i32 {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    let memory = memory.expect("a guest calls, and its exports are found");
    let (bytes, written) = memory.data_and_store_mut(&mut caller);
    let number = |at: usize| {
        let number = bytes[at..].first_chunk().expect("it is within memory");
        u32::from_le_bytes(*number) as usize
    };
    let (start, length) = (number(list as usize), number(list as usize + 4));
    written.extend_from_slice(&bytes[start..start + length]);
    0
}

/// Runs a program to its end, which goes on to write.
fn to_its_end(wasm: &[u8], written: Written, wat: &str) -> Told {
    let module = Module::new(LINKER.engine(), wasm);
    let module = module.unwrap_or_else(|error| panic!("{error:?}\n{wat}"));
    let mut store = Store::new(LINKER.engine(), written);
    let ended = LINKER
        .instantiate(&mut store, &module)
        .and_then(|instance| {
            let entry = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
            entry.call(&mut store, ())
        });
    (store.into_data(), told_end(ended))
}

/// Runs a program up to a call, what goes on from there up to another one, and what goes on
/// from there to its end.
fn in_three(whole: &Stoppable<'_>, [first, second]: [u64; 2]) -> Told {
    let wat = whole.wat;
    let (written, module) = match whole.up_to(first, Written::new()) {
        Ok(frozen) => frozen,
        Err(told) => return told,
    };
    match Stoppable::new(&module, wat).up_to(second, written) {
        Ok((written, module)) => to_its_end(&module, written, wat),
        Err(told) => told,
    }
}

/// A program in a build that can be stopped.
struct Stoppable<'p> {
    program: FreezableModule<'p>,
    module: Module,
    wat: &'p str,
}

impl<'p> Stoppable<'p> {
    fn new(wasm: &'p [u8], wat: &'p str) -> Self {
        let program = FreezableModule::new(wasm);
        let program = program.unwrap_or_else(|error| panic!("{error}\n{wat}"));
        let module = Module::new(LINKER.engine(), program.module());
        let module = module.unwrap_or_else(|error| panic!("{error:?}\n{wat}"));
        Self {
            program,
            module,
            wat,
        }
    }

    /// Freezes it at a call and returns what it wrote, and what goes on from there; or how it
    /// ended before.
    fn up_to(&self, nth: u64, written: Written) -> Result<(Written, Vec<u8>), Told> {
        let wat = self.wat;
        let mut store = Store::new(LINKER.engine(), written);
        let is_point = move |_: &mut Caller<'_, Written>, call: ImportCall<'_>| {
            (call.name, call.nth) == (POINT, nth)
        };
        let watched = self
            .program
            .instantiate(&mut store, &self.module, &LINKER, is_point);
        let watched = watched.unwrap_or_else(|error| panic!("{nth}: {error:?}\n{wat}"));
        let stopped = match watched.call(&mut store, "_start", &[], &mut []) {
            Ok(Called::Stopped(stopped)) => stopped,
            Ok(Called::Returned) => return Err((store.into_data(), told_end(Ok(())))),
            Err(error) if error.is::<Refusal>() => panic!("{nth}: {error:?}\n{wat}"),
            Err(error) => return Err((store.into_data(), told_end(Err(error)))),
        };
        let module = stopped.bake(&mut store);
        let module = module.unwrap_or_else(|refusal| panic!("{nth}: {refusal}\n{wat}"));
        Ok((store.into_data(), module.into_bytes()))
    }
}

/// Says how a program ended, without what differs between binaries.
fn told_end(ended: wasmtime::Result<()>) -> String {
    match ended {
        Ok(()) => "it came to its end".to_owned(),
        Err(error) => error.root_cause().to_string(),
    }
}

fn left_alone(guest: &Guest, wat: &str) -> Told {
    let (plan, written) = plan();
    let runner = Runner::new(guest, config()).unwrap_or_else(|error| panic!("{error}\n{wat}"));
    let report = runner.run(&Image::empty(), &plan).expect("it runs");
    told(&written, &report.instances[0].outcome)
}

/// As [`by_hand`], by a runner.
fn by_runners(guest: &Guest, points: [u64; 2], wat: &str) -> Told {
    let points = points.map(|nth| Point::Call {
        function: POINT.to_owned(),
        nth,
    });
    let (plan, written) = plan();
    let outcome = in_parts(guest, &points, &plan, wat);
    told(&written, &outcome)
}

/// Runs a guest up to one point after the other, each time what goes on from the last one,
/// and then to its end.
fn in_parts(guest: &Guest, points: &[Point], plan: &RunPlan, wat: &str) -> Outcome {
    let Some((point, later)) = points.split_first() else {
        let runner = Runner::new(guest, config());
        let runner = runner.unwrap_or_else(|error| panic!("{error}\n{wat}"));
        let mut report = runner.run(&Image::empty(), plan).expect("it runs");
        return report.instances.remove(0).outcome;
    };
    let frozen = freeze(guest, &Image::empty(), plan, &config(), point);
    match frozen.unwrap_or_else(|error| panic!("{point}: {error}\n{wat}")) {
        Freezing::Ended(outcome) => outcome,
        Freezing::Frozen(checkpoint) => {
            // Nothing is open, so that the program is all that there is.
            let guest = Guest::from_bytes(
                "generated",
                checkpoint.module().expect("it is held").into_owned(),
            );
            let guest = guest.unwrap_or_else(|error| panic!("{point}: {error}\n{wat}"));
            in_parts(&guest, later, plan, wat)
        }
    }
}

fn config() -> RunnerConfig {
    RunnerConfig::default()
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl OutputSink for Sink {
    fn write(&self, _: u32, _: Stream, bytes: &[u8]) {
        self.0
            .lock()
            .expect("nobody panicked")
            .extend_from_slice(bytes);
    }
}

fn plan() -> (RunPlan, Arc<Mutex<Vec<u8>>>) {
    let written = Arc::<Mutex<Vec<u8>>>::default();
    let mut plan = RunPlan::default();
    plan.tell_number = false;
    plan.stdio = Stdio::Collect(Arc::new(Sink(Arc::clone(&written))));
    (plan, written)
}

fn told(written: &Mutex<Vec<u8>>, outcome: &Outcome) -> Told {
    let written = written.lock().expect("nobody panicked").clone();
    (written, outcome.to_string())
}
