//! Guests that are stopped between and inside of their calls: out of fuel, past
//! an epoch, given up by an asynchronous host (case 75).

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use stratafs::image::Image;
use stratafs::vfs::Fs;
use stratafs::wasi::p1::{Ctx, add_to_linker_async, add_to_linker_sync};
use wasmtime::{Config, Engine, Linker, Module, Store, Trap, TypedFunc};

use super::{image, quiet};

/// `work` opens, writes and renames files some times, closes none, and goes round
/// in circles; `wait` does so once and sleeps for an hour inside of a call.
const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_rename"
        (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "hello")
    (data (i32.const 8) "new")
    (data (i32.const 16) "moved")
    (data (i32.const 32) "\00\20\00\00\88\13\00\00")
    (data (i32.const 128) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\a0\b8\30\46\03\00\00")
    ;; Fuel and epochs are looked at where a function begins.
    (func $step)
    (func $round
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 3) (i32.const 1)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 64)))
        (call $step)
        (drop (call $write (i32.load (i32.const 64)) (i32.const 32) (i32.const 1) (i32.const 68)))
        (call $step)
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 0)
            (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 64)))
        (call $step)
        (drop (call $write (i32.load (i32.const 64)) (i32.const 32) (i32.const 1) (i32.const 68)))
        (call $step)
        (drop (call $rename (i32.const 3) (i32.const 8) (i32.const 3) (i32.const 3) (i32.const 16) (i32.const 5))))
    (func (export "work") (local $rounds i32)
        (loop $again
            (call $round)
            (br_if $again (i32.lt_u
                (local.tee $rounds (i32.add (local.get $rounds) (i32.const 1))) (i32.const 15))))
        (loop $spin (br $spin)))
    (func (export "wait")
        (call $round)
        (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 512)))))"#;

/// Bytes that one `fd_write` of the guest puts into a block of its own.
const WRITTEN: u64 = 5_000;

struct Stage {
    base: Image,
    fs: Fs,
    store: Store<Ctx>,
    linker: Linker<Ctx>,
    module: Module,
}

impl Stage {
    fn new(engine: &Engine, module: &Module, asynchronous: bool) -> Self {
        let base = image();
        let fs = Fs::builder(&base).max_open(40).build();
        let ctx = Ctx::new(quiet()).preopen(fs.root().unwrap(), "/");
        let mut linker = Linker::new(engine);
        match asynchronous {
            true => add_to_linker_async(&mut linker, |ctx| ctx).unwrap(),
            false => add_to_linker_sync(&mut linker, |ctx| ctx).unwrap(),
        }
        Self {
            base,
            fs,
            store: Store::new(engine, ctx),
            linker,
            module: module.clone(),
        }
    }

    async fn function_async(&mut self, name: &str) -> TypedFunc<(), ()> {
        let instance = self.linker.instantiate_async(&mut self.store, &self.module);
        let instance = instance.await.unwrap();
        instance.get_typed_func(&mut self.store, name).unwrap()
    }

    fn function(&mut self, name: &str) -> TypedFunc<(), ()> {
        let instance = self.linker.instantiate(&mut self.store, &self.module);
        instance
            .unwrap()
            .get_typed_func(&mut self.store, name)
            .unwrap()
    }

    /// What was done stays, what was open is closed, the base is whole. Gives
    /// the bytes that were written.
    fn end(self) -> u64 {
        assert_eq!(self.fs.check(), Ok(()));
        drop(self.store);
        assert_eq!(self.fs.check(), Ok(()));
        let usage = self.fs.usage();
        assert_eq!(usage.open, 0);
        assert!(usage.logical_bytes.is_multiple_of(WRITTEN), "{usage:?}");
        assert_eq!(self.base.verify().unwrap(), image().verify().unwrap());
        usage.logical_bytes
    }
}

fn engine(set: impl FnOnce(&mut Config)) -> (Engine, Module) {
    let mut config = Config::new();
    set(&mut config);
    let engine = Engine::new(&config).unwrap();
    let module = Module::new(&engine, GUEST).unwrap();
    (engine, module)
}

#[test]
fn case_75_a_guest_out_of_fuel_stops_between_calls() {
    let (engine, module) = engine(|config| {
        config.consume_fuel(true);
    });
    let mut seen = std::collections::BTreeSet::new();
    for fuel in (0..400).step_by(3) {
        let mut stage = Stage::new(&engine, &module, false);
        stage.store.set_fuel(1_000).unwrap();
        let work = stage.function("work");
        stage.store.set_fuel(fuel).unwrap();
        let ended = work.call(&mut stage.store, ()).unwrap_err();
        assert_eq!(ended.downcast_ref(), Some(&Trap::OutOfFuel));
        // The same instance goes on when it is given more.
        stage.store.set_fuel(fuel / 2).unwrap();
        assert!(work.call(&mut stage.store, ()).is_err());
        seen.insert(stage.end());
    }
    assert!(seen.len() >= 3, "{seen:?}");
}

#[test]
fn case_75_a_call_given_up_at_any_yield_leaves_whole_steps() {
    let (engine, module) = engine(|config| {
        config.consume_fuel(true);
    });
    let mut seen = std::collections::BTreeSet::new();
    for polls in 0..80 {
        let mut stage = Stage::new(&engine, &module, true);
        stage.store.set_fuel(u64::MAX).unwrap();
        stage.store.fuel_async_yield_interval(Some(7)).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        {
            let run = async {
                let work = stage.function_async("work").await;
                work.call_async(&mut stage.store, ()).await
            };
            let mut run = pin!(run);
            for _ in 0..polls {
                assert!(matches!(run.as_mut().poll(&mut context), Poll::Pending));
            }
        }
        seen.insert(stage.end());
    }
    assert!(seen.len() >= 3, "{seen:?}");
}

#[test]
fn case_75_a_call_given_up_while_it_waits_frees_all() {
    let (engine, module) = engine(|_| {});
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut stage = Stage::new(&engine, &module, true);
    runtime.block_on(async {
        let wait = stage.function_async("wait").await;
        let call = wait.call_async(&mut stage.store, ());
        let ended = tokio::time::timeout(Duration::from_millis(50), call).await;
        assert!(ended.is_err(), "{ended:?}");
    });
    assert!(stage.fs.usage().open > 1, "it was in the middle");
    assert_eq!(stage.end(), 2 * WRITTEN);
}

#[test]
fn case_75_a_guest_past_its_epoch_stops_between_calls() {
    let (engine, module) = engine(|config| {
        config.epoch_interruption(true);
    });
    for asynchronous in [false, true] {
        let mut stage = Stage::new(&engine, &module, asynchronous);
        stage.store.set_epoch_deadline(1);
        let ticking = engine.clone();
        let tick = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            ticking.increment_epoch();
        });
        let ended = if asynchronous {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(async {
                let work = stage.function_async("work").await;
                work.call_async(&mut stage.store, ()).await
            })
        } else {
            let work = stage.function("work");
            work.call(&mut stage.store, ())
        };
        assert_eq!(ended.unwrap_err().downcast_ref(), Some(&Trap::Interrupt));
        tick.join().unwrap();
        assert_eq!(stage.end(), 2 * WRITTEN);
    }
}
