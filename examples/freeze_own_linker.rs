//! A guest that calls functions of its host's own, frozen at one of them, kept as an image, and gone
//! on with under the host's own linker.
//!
//! `cargo run --release --features freeze --example freeze_own_linker`
//!
//! The guest asks for cards, tells the sum of them, and notes each in `/cards`. It is frozen where
//! it asks for its third card. Each way on draws others.

use std::error::Error;

use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::runner::Guest;
use stratafs::runner::freeze::{Called, Checkpoint, FreezableModule, GuestTold};
use stratafs::vfs::Fs;
use stratafs::wasi::p1;
use wasmtime::{Caller, Engine, Extern, Linker, Module, Store, Val};
use wasmtime_wasi::WasiCtxBuilder;

const GUEST: &str = r#"(module
  (import "game" "card" (func $card (result i32)))
  (import "game" "tell" (func $tell (param i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "cards")
  (func (export "play") (param $cards i32) (result i32) (local $sum i32)
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 5) (i32.const 1)
      (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 16)))
    (i32.store (i32.const 0) (i32.const 32)) (i32.store (i32.const 4) (i32.const 1))
    (loop $next
      (i32.store8 (i32.const 32) (call $card))
      (local.set $sum (i32.add (local.get $sum) (i32.load8_u (i32.const 32))))
      (drop (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
      (i32.store (i32.const 40) (local.get $sum))
      (call $tell (i32.const 40))
      (br_if $next (local.tee $cards (i32.sub (local.get $cards) (i32.const 1)))))
    (local.get $sum)))"#;

/// What the host keeps for one guest: its table of descriptors, and its last card.
struct Player(p1::Ctx, i32);

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Player>> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_sync(&mut linker, |player: &mut Player| &mut player.0)?;
    linker.func_wrap("game", "card", |mut caller: Caller<'_, Player>| {
        caller.data_mut().1 += 1;
        caller.data().1
    })?;
    // It looks at the guest's memory, as functions of hosts do.
    let tell = |mut caller: Caller<'_, Player>, sum_at: u32| {
        let memory = caller.get_export("memory").and_then(Extern::into_memory);
        let memory = memory.ok_or_else(|| wasmtime::Error::msg("the guest has no memory"))?;
        let mut sum = [0; 4];
        memory.read(&caller, sum_at as usize, &mut sum)?;
        println!("  told {}", i32::from_le_bytes(sum));
        Ok(())
    };
    linker.func_wrap("game", "tell", tell)?;
    Ok(linker)
}

/// Plays until the guest asks for its third card.
fn freeze(linker: &Linker<Player>, wasm: &[u8]) -> Result<Checkpoint, Box<dyn Error>> {
    let fs = Fs::new(&Image::empty());
    let p1 = p1::Ctx::new(WasiCtxBuilder::new().build_p1()).preopen(fs.root()?, "/");
    let mut store = Store::new(linker.engine(), Player(p1, 0));
    let program = FreezableModule::new(wasm)?;
    let module = Module::new(linker.engine(), program.module())?;
    let watched = program.instantiate(&mut store, &module, linker, |_, call| {
        (call.module, call.name, call.nth) == ("game", "card", 3)
    })?;
    let mut sum = [Val::I32(0)];
    let called = watched.call(&mut store, "play", &[Val::I32(5)], &mut sum)?;
    let Called::Stopped(stopped) = called else {
        return Err("the game ended before its third card".into());
    };
    // It has no arguments and no environment, and reads no clock.
    let told = GuestTold::default();
    Ok(stopped.checkpoint(&mut store, &fs, |player| &mut player.0, told)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let linker = linker(&Engine::default())?;
    let kept = freeze(&linker, &Guest::from_bytes("game", GUEST)?.wasm()?)?;
    // An image like any other: a store keeps it, a registry has it.
    let image = Image::new(&[kept.to_fs()?.diff(&ChunkPool::new())?])?;
    let checkpoint = Checkpoint::open(&image)?.ok_or("it was put there")?;
    let module = Module::new(linker.engine(), checkpoint.module()?)?;
    for first in [2, 20, 40] {
        let (p1, fs) = checkpoint.context(&mut WasiCtxBuilder::new())?;
        let mut store = Store::new(linker.engine(), Player(p1, first));
        let game = linker.instantiate(&mut store, &module)?;
        let play = game.get_typed_func::<(), i32>(&mut store, "play")?;
        let sum = play.call(&mut store, ())?;
        println!("from {first}: cards {:?}, sum {sum}", fs.read("/cards")?);
    }
    Ok(())
}
