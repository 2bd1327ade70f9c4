//! Guests whose hosts have linkers and data of their own, frozen by hand and gone on with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::runner::freeze::{
    Called, Checkpoint, CheckpointError, FreezableModule, FrozenFiles, FrozenModule, GuestTold,
    ImportCall,
};
use stratafs::runner::{Guest, Runner, RunnerConfig};
use stratafs::vfs::{Fs, Rights};
use stratafs::wasi::p1::{self, Described};
use wasmtime::{Caller, Engine, Extern, Linker, Module, Store, Val};
use wasmtime_wasi::WasiCtxBuilder;

use crate::support::p1::{Data, Guest as WasiGuest, Mode, Oflags, READ_WRITE};

/// Adds what the host gives, step by step, notes each sum in `/sums` and in a file that it
/// has removed, and gives what the latter holds of the last but one, a million times, and the sum.
const GUEST: &str = r#"(module
  (import "own" "next" (func $next (param i64) (result i64)))
  (import "own" "look" (func $look (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "sumsgone")
  (func $must (param i32) (if (local.get 0) (then unreachable)))
  (func $opened (param $name i32) (result i32)
    (call $must (call $open (i32.const 3) (i32.const 0) (local.get $name) (i32.const 4)
      (i32.const 1) (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 16)))
    (i32.load (i32.const 16)))
  (func (export "sum") (param $steps i32) (result i64) (local $sum i64) (local $sums i32) (local $gone i32)
    (local.set $sums (call $opened (i32.const 100)))
    (local.set $gone (call $opened (i32.const 104)))
    (call $must (call $unlink (i32.const 3) (i32.const 104) (i32.const 4)))
    (i32.store (i32.const 0) (i32.const 32))
    (i32.store (i32.const 4) (i32.const 8))
    (loop $step
      (local.set $sum (i64.add (local.get $sum) (call $next (local.get $sum))))
      (i64.store (i32.const 32) (local.get $sum))
      (call $must (call $write (local.get $sums) (i32.const 0) (i32.const 1) (i32.const 8)))
      (call $must (call $write (local.get $gone) (i32.const 0) (i32.const 1) (i32.const 8)))
      (call $must (i32.ne (call $look (i32.const 32) (i32.const 8)) (i32.wrap_i64 (local.get $sum))))
      (br_if $step (local.tee $steps (i32.sub (local.get $steps) (i32.const 1)))))
    (local.get $sum)))"#;

const STEPS: i32 = 5;

/// What the host has for a guest.
struct Host {
    p1: p1::Ctx,
    next: i64,
}

fn host(fs: &Fs, next: i64) -> Host {
    let p1 = p1::Ctx::new(WasiCtxBuilder::new().build_p1());
    let p1 = p1.preopen(fs.root().unwrap(), "/");
    Host { p1, next }
}

fn linker(engine: &Engine) -> Linker<Host> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_sync(&mut linker, |host: &mut Host| &mut host.p1).unwrap();
    let next = |mut caller: Caller<'_, Host>, so_far: i64| {
        caller.data_mut().next += 1;
        caller.data().next * 3 + so_far % 2
    };
    linker.func_wrap("own", "next", next).unwrap();
    // Finds the memory of who calls it.
    let look = |mut caller: Caller<'_, Host>, start: u32, length: u32| {
        let memory = caller.get_export("memory").and_then(Extern::into_memory);
        let mut bytes = vec![0; length as usize];
        let memory = memory.expect("a guest calls, and its exports are found");
        memory.read(&caller, start as usize, &mut bytes).unwrap();
        i32::from_le_bytes(*bytes.first_chunk().unwrap())
    };
    linker.func_wrap("own", "look", look).unwrap();
    linker
}

fn guest() -> Guest {
    Guest::from_bytes("sum", GUEST).unwrap()
}

/// What a run left: its sum, and `/sums`.
type Left = (i64, Vec<u8>);

fn left_alone(engine: &Engine) -> Left {
    let fs = Fs::new(&Image::empty());
    let mut store = Store::new(engine, host(&fs, 0));
    let module = Module::new(engine, guest().wasm().unwrap()).unwrap();
    let instance = linker(engine).instantiate(&mut store, &module).unwrap();
    let sum = instance.get_typed_func::<i32, i64>(&mut store, "sum");
    let sum = sum.unwrap().call(&mut store, STEPS).unwrap();
    (sum, fs.read("/sums").unwrap())
}

/// Freezes the guest at a call; `None` if it does not come there. Gives what the host had too.
fn frozen(
    engine: &Engine,
    is_point: impl Fn(ImportCall<'_>) -> bool + Send + Sync + 'static,
) -> Option<(Checkpoint, i64)> {
    let fs = Fs::new(&Image::empty());
    let mut store = Store::new(engine, host(&fs, 0));
    let guest = guest();
    let wasm = guest.wasm().unwrap();
    let program = FreezableModule::new(&wasm).unwrap();
    let module = Module::new(engine, program.module()).unwrap();
    let linker = linker(engine);
    let watched = program.instantiate(&mut store, &module, &linker, move |_, call| is_point(call));
    let watched = watched.unwrap();
    let mut results = [Val::I64(0)];
    let called = watched.call(&mut store, "sum", &[Val::I32(STEPS)], &mut results);
    let Called::Stopped(stopped) = called.unwrap() else {
        return None;
    };
    // It has left its stack: there is nothing to be called any more.
    let again = watched.call(&mut store, "sum", &[Val::I32(STEPS)], &mut results);
    let again = again.unwrap_err().to_string();
    assert!(again.contains("has left its stack"), "{again}");
    let module = stopped.bake(&mut store).unwrap();
    assert!(module.frames() > 0 && module.memory_bytes() == 65_536);
    let data = store.data_mut();
    let files = FrozenFiles::of(&mut data.p1, &fs).unwrap();
    let mut told = GuestTold::default();
    told.name = "sum".into();
    told.args = vec!["an argument".into()];
    Some((Checkpoint::of(module, files, told), data.next))
}

/// An image as a store would have it.
fn at_rest(checkpoint: &Checkpoint) -> Image {
    let layer = checkpoint.to_fs().unwrap().diff(&ChunkPool::new());
    Image::new(&[layer.unwrap()]).unwrap()
}

fn goes_on(engine: &Engine, checkpoint: &Checkpoint, next: i64) -> Left {
    let fs = Fs::new(checkpoint.image());
    let mut host = host(&fs, next);
    checkpoint.reopen(&mut host.p1, &fs).unwrap();
    assert!(!fs.exists("/.stratafs/open").unwrap());
    let mut store = Store::new(engine, host);
    let module = Module::new(engine, checkpoint.module().unwrap()).unwrap();
    let instance = linker(engine).instantiate(&mut store, &module).unwrap();
    let sum = instance.get_typed_func::<(), i64>(&mut store, "sum");
    let sum = sum.unwrap().call(&mut store, ()).unwrap();
    (sum, fs.read("/sums").unwrap())
}

#[test]
fn a_guest_goes_on_from_each_call_of_its_hosts_functions_and_of_wasi() {
    let engine = Engine::default();
    let want = left_alone(&engine);
    let mut points = 0;
    for name in ["next", "look", "fd_write", "path_open", "path_unlink_file"] {
        for nth in 1.. {
            let is_point = move |call: ImportCall<'_>| call.name == name && call.nth == nth;
            let Some((checkpoint, next)) = frozen(&engine, is_point) else {
                break;
            };
            points += 1;
            assert_eq!(checkpoint.info().point, format!("call:{name}:{nth}"));
            let got = goes_on(&engine, &checkpoint, next);
            assert_eq!(got, want, "{name} {nth}");
            // As often as one likes, and from an image.
            let opened = Checkpoint::open(&at_rest(&checkpoint)).unwrap().unwrap();
            assert_eq!(opened.args(), ["an argument"]);
            assert_eq!(goes_on(&engine, &opened, next), want, "{name} {nth}");
        }
    }
    assert_eq!(points, 5 + 5 + 10 + 2 + 1);
}

#[test]
fn each_way_on_asks_its_own_host() {
    let engine = Engine::default();
    let third = |call: ImportCall<'_>| call.name == "next" && call.nth == 3;
    let (checkpoint, next) = frozen(&engine, third).unwrap();
    assert_eq!(next, 2);
    let sums: Vec<i64> = [2, 100, 2]
        .map(|next| goes_on(&engine, &checkpoint, next).0)
        .into();
    assert_eq!(sums[0], sums[2]);
    assert!(sums[1] > sums[0] + 3 * 98 * 2, "{sums:?}");
}

/// Whoever lacks a function of the guest is told which, at each of the steps.
#[test]
fn a_function_that_is_not_offered_is_named() {
    let engine = Engine::default();
    let mut lacking = Linker::new(&engine);
    p1::add_to_linker_sync(&mut lacking, |host: &mut Host| &mut host.p1).unwrap();
    let own = |_: Caller<'_, Host>, so_far: i64| so_far;
    lacking.func_wrap("own", "next", own).unwrap();
    let guest = guest();
    let wasm = guest.wasm().unwrap();
    let program = FreezableModule::new(&wasm).unwrap();
    let fs = Fs::new(&Image::empty());
    let mut store = Store::new(&engine, host(&fs, 0));
    let module = Module::new(&engine, program.module()).unwrap();
    let error = program.instantiate(&mut store, &module, &lacking, |_, _| false);
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("`own::look`"), "{error}");

    let (checkpoint, _) = frozen(&engine, |call| call.name == "next").unwrap();
    let module = Module::new(&engine, checkpoint.module().unwrap()).unwrap();
    let mut store = Store::new(&engine, host(&fs, 0));
    let error = lacking.instantiate(&mut store, &module).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("own::look"), "{error}");
    // The runner has the functions of WASI alone, and runs commands.
    let error = checkpoint.runner(RunnerConfig::default()).unwrap_err();
    assert!(error.to_string().contains("_start"), "{error}");
    let command = GUEST.replace("(param $steps i32) (result i64)", "(local $steps i32)");
    let command = command.replace("\"sum\"", "\"_start\"");
    let command = command.replacen("    (local.get $sum)))", "    ))", 1);
    let guest = Guest::from_bytes("sum", command).unwrap();
    let error = Runner::new(&guest, RunnerConfig::default()).unwrap_err();
    assert!(error.to_string().contains("own::next"), "{error}");
}

#[test]
fn what_is_not_shown_again_is_named() {
    let engine = Engine::default();
    let (checkpoint, next) = frozen(&engine, |call| call.name == "look").unwrap();
    let fs = Fs::new(checkpoint.image());
    let mut other = host(&fs, next);
    other.p1 = p1::Ctx::new(WasiCtxBuilder::new().build_p1()).preopen(fs.root().unwrap(), "/else");
    let error = checkpoint.reopen(&mut other.p1, &fs).unwrap_err();
    assert!(matches!(error, CheckpointError::Reopen { .. }), "{error:?}");
    assert!(error.to_string().contains("\"/\" was shown"), "{error}");
}

/// Calls the host, which calls it back, which calls the host.
const BACK: &str = r#"(module
  (import "own" "around" (func $around (result i32)))
  (import "own" "step" (func $step (result i32)))
  (memory (export "memory") 1)
  (func $begin (drop (call $step)))
  (start $begin)
  (func (export "back") (result i32) (i32.add (i32.const 10) (call $step)))
  (func (export "run") (result i32)
    (i32.add (i32.mul (call $around) (i32.const 100)) (call $step))))"#;

/// Counts its steps.
fn back_linker(engine: &Engine) -> Linker<i32> {
    let mut linker = Linker::new(engine);
    let step = |mut caller: Caller<'_, i32>| {
        *caller.data_mut() += 1;
        *caller.data()
    };
    linker.func_wrap("own", "step", step).unwrap();
    let around = |mut caller: Caller<'_, i32>| {
        let back = caller.get_export("back").and_then(Extern::into_func);
        let back = back.expect("the guest has it").typed::<(), i32>(&caller)?;
        back.call(&mut caller, ())
    };
    linker.func_wrap("own", "around", around).unwrap();
    linker
}

/// Runs up to what is the point, and gives what goes on, with the host's count.
fn back_frozen(
    engine: &Engine,
    is_point: impl Fn(ImportCall<'_>) -> bool + Send + Sync + 'static,
) -> wasmtime::Result<Option<(FrozenModule, i32)>> {
    let guest = Guest::from_bytes("back", BACK).unwrap();
    let wasm = guest.wasm()?;
    let program = FreezableModule::new(&wasm)?;
    let module = Module::new(engine, program.module())?;
    let mut store = Store::new(engine, 0);
    let linker = back_linker(engine);
    let watched =
        program.instantiate(&mut store, &module, &linker, move |_, call| is_point(call))?;
    let mut results = [Val::I32(0)];
    match watched.call(&mut store, "run", &[], &mut results)? {
        Called::Returned => {
            assert_eq!(results[0].i32(), Some(1203));
            Ok(None)
        }
        Called::Stopped(stopped) => Ok(Some((stopped.bake(&mut store)?, *store.data()))),
    }
}

#[test]
fn a_stack_with_the_host_in_its_middle_is_refused_and_left_at_the_next_call() {
    let engine = Engine::default();
    assert!(back_frozen(&engine, |_| false).unwrap().is_none());
    // The first step is in the start function, the second one within `around`.
    for nth in [1, 2] {
        let error = back_frozen(&engine, move |call| (call.name, call.nth) == ("step", nth));
        let error = format!("{:#}", error.unwrap_err());
        let named = format!("call {nth} of `own::step`");
        assert!(
            error.contains(&named) && error.contains("stack of the host"),
            "{error}"
        );
    }
    let asked = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&asked);
    let (frozen, count) = back_frozen(&engine, move |call| {
        seen.fetch_add(1, Ordering::Relaxed);
        call.name == "step" && call.can_stop
    })
    .unwrap()
    .unwrap();
    assert_eq!((asked.load(Ordering::Relaxed), count), (4, 2));
    let module = Module::new(&engine, frozen.bytes()).unwrap();
    let mut store = Store::new(&engine, count);
    let instance = back_linker(&engine)
        .instantiate(&mut store, &module)
        .unwrap();
    let run = instance
        .get_typed_func::<(), i32>(&mut store, "run")
        .unwrap();
    assert_eq!(run.call(&mut store, ()).unwrap(), 1203);
}

#[test]
fn an_export_that_is_not_there_is_named() {
    let engine = Engine::default();
    let guest = Guest::from_bytes("back", BACK).unwrap();
    let wasm = guest.wasm().unwrap();
    let program = FreezableModule::new(&wasm).unwrap();
    let module = Module::new(&engine, program.module()).unwrap();
    let mut store = Store::new(&engine, 0);
    let watched = program.instantiate(&mut store, &module, &back_linker(&engine), |_, _| true);
    // It would stop in the start function, which cannot be left.
    assert!(watched.is_err());
    let mut store = Store::new(&engine, 0);
    let watched = program.instantiate(&mut store, &module, &back_linker(&engine), |_, _| false);
    let watched = watched.unwrap();
    let error = watched.call(&mut store, "walk", &[], &mut []).unwrap_err();
    assert!(error.to_string().contains("\"walk\""), "{error}");
    // What is called besides is not watched.
    let back = watched
        .instance()
        .get_typed_func::<(), i32>(&mut store, "back");
    assert_eq!(back.unwrap().call(&mut store, ()).unwrap(), 12);
}

/// A linker whose functions wait.
fn waiting_linker(engine: &Engine) -> Linker<i32> {
    let mut linker = Linker::new(engine);
    linker
        .func_wrap_async("own", "step", |mut caller: Caller<'_, i32>, (): ()| {
            Box::new(async move {
                tokio::task::yield_now().await;
                *caller.data_mut() += 1;
                *caller.data()
            })
        })
        .unwrap();
    linker
        .func_wrap_async("own", "around", |mut caller: Caller<'_, i32>, (): ()| {
            Box::new(async move {
                let back = caller.get_export("back").and_then(Extern::into_func);
                let back = back.expect("the guest has it").typed::<(), i32>(&caller)?;
                tokio::task::yield_now().await;
                back.call_async(&mut caller, ()).await
            })
        })
        .unwrap();
    linker
}

#[tokio::test]
async fn functions_that_wait_are_watched_as_well() {
    let engine = Engine::default();
    let guest = Guest::from_bytes("back", BACK).unwrap();
    let wasm = guest.wasm().unwrap();
    let program = FreezableModule::new(&wasm).unwrap();
    let module = Module::new(&engine, program.module()).unwrap();
    let mut store = Store::new(&engine, 0);
    let linker = waiting_linker(&engine);
    let watched = program
        .instantiate_async(&mut store, &module, &linker, |_, call| {
            call.name == "step" && call.can_stop
        })
        .await
        .unwrap();
    let mut results = [Val::I32(0)];
    let called = watched.call_async(&mut store, "run", &[], &mut results);
    let Called::Stopped(stopped) = called.await.unwrap() else {
        panic!("it takes a step of its own");
    };
    let frozen = stopped.bake(&mut store).unwrap();
    let module = Module::new(&engine, frozen.into_bytes()).unwrap();
    let mut store = Store::new(&engine, 2);
    let instance = linker.instantiate_async(&mut store, &module).await.unwrap();
    let run = instance
        .get_typed_func::<(), i32>(&mut store, "run")
        .unwrap();
    assert_eq!(run.call_async(&mut store, ()).await.unwrap(), 1203);
}

/// Removes a file that is open, looks at the root, asks its host, and looks again: says whether it is
/// the same.
const ROOT: &str = r#"(module
  (import "own" "next" (func $next (param i64) (result i64)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $list (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "gonekept")
  (func $must (param i32) (if (local.get 0) (then unreachable)))
  (func $make (param $name i32)
    (call $must (call $open (i32.const 3) (i32.const 0) (local.get $name) (i32.const 4)
      (i32.const 1) (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 16))))
  (func $look (param $at i32)
    (call $must (call $list (i32.const 3) (local.get $at) (i32.const 500) (i64.const 0)
      (i32.add (local.get $at) (i32.const 504))))
    (call $must (call $stat (i32.const 3) (i32.add (local.get $at) (i32.const 512))))
    (call $must (call $stat (i32.const 4) (i32.add (local.get $at) (i32.const 576)))))
  (func (export "look") (result i64) (local $at i32)
    (call $make (i32.const 100))
    (call $make (i32.const 104))
    (call $must (call $unlink (i32.const 3) (i32.const 100) (i32.const 4)))
    (call $look (i32.const 1000))
    (drop (call $next (i64.const 0)))
    (call $look (i32.const 2000))
    (loop $each
      (if (i64.ne (i64.load (i32.add (local.get $at) (i32.const 1000)))
        (i64.load (i32.add (local.get $at) (i32.const 2000))))
        (then (return (i64.extend_i32_u (i32.add (local.get $at) (i32.const 1))))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $each (i32.lt_u (local.get $at) (i32.const 640))))
    (i64.const 0)))"#;

#[test]
fn guests_of_other_hosts_find_the_root_as_it_was() {
    let engine = Engine::default();
    let linker = linker(&engine);
    let guest = Guest::from_bytes("look", ROOT).unwrap();
    let wasm = guest.wasm().unwrap();
    let program = FreezableModule::new(&wasm).unwrap();
    let module = Module::new(&engine, program.module()).unwrap();
    let fs = Fs::new(&Image::empty());
    let mut store = Store::new(&engine, host(&fs, 0));
    let watched = program.instantiate(&mut store, &module, &linker, |_, call| call.name == "next");
    let called = watched
        .unwrap()
        .call(&mut store, "look", &[], &mut [Val::I64(0)]);
    let Called::Stopped(stopped) = called.unwrap() else {
        panic!("it asks its host");
    };
    let told = GuestTold::default();
    let checkpoint = stopped.checkpoint(&mut store, &fs, |host| &mut host.p1, told);
    let checkpoint = checkpoint.unwrap();
    let opened = Checkpoint::open(&at_rest(&checkpoint)).unwrap().unwrap();
    for checkpoint in [checkpoint, opened] {
        let (p1, fs) = checkpoint.context(&mut WasiCtxBuilder::new()).unwrap();
        let mut store = Store::new(&engine, Host { p1, next: 0 });
        let module = Module::new(&engine, checkpoint.module().unwrap()).unwrap();
        let instance = linker.instantiate(&mut store, &module).unwrap();
        let look = instance.get_typed_func::<(), i64>(&mut store, "look");
        let differs_at = look.unwrap().call(&mut store, ()).unwrap();
        assert_eq!(differs_at, 0, "one more than the place of what differs");
        assert!(fs.exists("/kept").unwrap() && !fs.exists("/gone").unwrap());
    }
}

/// The host may move what its guest has open.
#[test]
fn an_open_file_outside_of_what_is_shown_is_refused_by_its_path() {
    let fs = Fs::new(&Image::empty());
    fs.create_dir_all("/shown").unwrap();
    let shown = fs.preopen("/shown", Rights::ReadWrite).unwrap();
    let ctx = p1::Ctx::new(WasiCtxBuilder::new().build_p1()).preopen(shown, "/");
    let mut guest = WasiGuest::new(Mode::Sync, ctx);
    let flags = Oflags::CREAT;
    let file = guest.open(3, "file", flags, READ_WRITE).unwrap();
    guest.write(file, b"kept").unwrap();
    let of = |guest: &mut WasiGuest| match guest.store.data_mut() {
        Data::Ours(ctx) => FrozenFiles::of(ctx, &fs).map(drop),
        Data::Stock(_) => panic!("the guest is wasmtime-wasi's"),
    };
    of(&mut guest).unwrap();
    fs.rename("/shown/file", "/elsewhere").unwrap();
    let said = of(&mut guest).unwrap_err().to_string();
    assert!(said.contains(&format!("descriptor {file}")), "{said}");
    assert!(said.contains("/elsewhere lies in no directory"), "{said}");
    // Without a name it is kept.
    fs.remove_file("/elsewhere").unwrap();
    of(&mut guest).unwrap();
}

/// Of a host that freezes by hand nobody knows what it showed but its guest's table.
#[test]
fn what_is_open_below_directories_that_were_closed_is_found_again() {
    let fs = Fs::new(&Image::empty());
    fs.create_dir_all("/shown").unwrap();
    let beside = Fs::new(&Image::empty());
    beside.write("/data", "kept").unwrap();
    let ctx = |fs: &Fs| {
        let shown = fs.preopen("/shown", Rights::ReadWrite).unwrap();
        let ctx = p1::Ctx::new(WasiCtxBuilder::new().build_p1()).preopen(shown, "/");
        ctx.preopen(beside.root().unwrap(), "/beside")
    };
    let mut guest = WasiGuest::new(Mode::Sync, ctx(&fs));
    guest.open(3, "file", Oflags::CREAT, READ_WRITE).unwrap();
    guest.open(4, "data", Oflags::empty(), READ_WRITE).unwrap();
    guest.close(3).unwrap();
    guest.call("fd_renumber", &[6, 4]).unwrap();
    let Data::Ours(ours) = guest.store.data_mut() else {
        panic!("the guest is wasmtime-wasi's");
    };
    let files = FrozenFiles::of(ours, &fs).unwrap();
    let names = |files: &FrozenFiles| -> Vec<(String, Vec<u8>)> {
        let open = files.table().iter().filter_map(|one| match one {
            Described::Open { preopen, path, .. } => Some((preopen.clone(), path.clone())),
            _ => None,
        });
        open.collect()
    };
    let want = [("/beside", "data"), ("/", "file")];
    let want = want.map(|(preopen, path)| (preopen.to_owned(), path.as_bytes().to_vec()));
    assert_eq!(names(&files), want);
    // Nor are those forgotten that were closed before it went on, or was forked.
    let next = Fs::new(files.image());
    let mut again = ctx(&next);
    again.reopen(files.table()).unwrap();
    assert_eq!(names(&FrozenFiles::of(&mut again, &next).unwrap()), want);
    let wasi = WasiCtxBuilder::new().build_p1();
    let (fork, mut forked) = again.fork(&next, wasi).unwrap();
    assert_eq!(names(&FrozenFiles::of(&mut forked, &fork).unwrap()), want);
}
