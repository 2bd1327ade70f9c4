//! A guest that calls functions of its host's own, frozen at one of them, kept as an image, and gone
//! on with under the host's own linker.
//!
//! `cargo run --release --features freeze --example freeze_own_linker`
//!
//! The guest plays: it asks its host for a card, tells it what it has so far, and notes each card in
//! `/cards`. It is frozen where it asks for its third card. Each way on draws others.

use std::error::Error;

use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::runner::Guest;
use stratafs::runner::freeze::{Called, Checkpoint, FreezableModule, FrozenFiles, GuestTold};
use stratafs::vfs::Fs;
use stratafs::wasi::p1;
use wasmtime::{Caller, Engine, Extern, Linker, Module, Store};
use wasmtime_wasi::WasiCtxBuilder;

const GUEST: &str = r#"(module
  (import "game" "card" (func $card (result i32)))
  (import "game" "tell" (func $tell (param i32 i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "cards")
  (func (export "play") (param $cards i32) (result i32) (local $sum i32)
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 5) (i32.const 1)
      (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 16)))
    (i32.store (i32.const 0) (i32.const 32))
    (i32.store (i32.const 4) (i32.const 1))
    (loop $next
      (i32.store8 (i32.const 32) (call $card))
      (local.set $sum (i32.add (local.get $sum) (i32.load8_u (i32.const 32))))
      (drop (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
      (i32.store (i32.const 40) (local.get $sum))
      (call $tell (i32.const 40) (i32.const 4))
      (br_if $next (local.tee $cards (i32.sub (local.get $cards) (i32.const 1)))))
    (local.get $sum)))"#;

/// What the host keeps for one guest.
struct Player {
    p1: p1::Ctx,
    next_card: i32,
    told: Vec<Vec<u8>>,
}

impl Player {
    fn new(p1: p1::Ctx, next_card: i32) -> Self {
        let told = Vec::new();
        Self {
            p1,
            next_card,
            told,
        }
    }
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Player>> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_sync(&mut linker, |player: &mut Player| &mut player.p1)?;
    linker.func_wrap("game", "card", |mut caller: Caller<'_, Player>| {
        caller.data_mut().next_card += 1;
        caller.data().next_card
    })?;
    // It looks at the guest's memory, as functions of hosts do.
    let tell = |mut caller: Caller<'_, Player>, start: u32, length: u32| {
        let memory = caller.get_export("memory").and_then(Extern::into_memory);
        let memory = memory.ok_or_else(|| wasmtime::Error::msg("the guest has no memory"))?;
        let mut bytes = vec![0; length as usize];
        memory.read(&caller, start as usize, &mut bytes)?;
        caller.data_mut().told.push(bytes);
        Ok(())
    };
    linker.func_wrap("game", "tell", tell)?;
    Ok(linker)
}

/// Plays until the guest asks for its third card.
fn freeze(engine: &Engine, wasm: &[u8]) -> Result<Checkpoint, Box<dyn Error>> {
    let fs = Fs::new(&Image::empty());
    let p1 = p1::Ctx::new(WasiCtxBuilder::new().build_p1()).preopen(fs.root()?, "/");
    let mut store = Store::new(engine, Player::new(p1, 0));
    let program = FreezableModule::new(wasm)?;
    let module = Module::new(engine, program.module())?;
    let linker = linker(engine)?;
    let watched = program.instantiate(&mut store, &module, &linker, |_, call| {
        (call.module, call.name, call.nth) == ("game", "card", 3)
    })?;
    let mut sum = [wasmtime::Val::I32(0)];
    let five = [wasmtime::Val::I32(5)];
    let Called::Stopped(stopped) = watched.call(&mut store, "play", &five, &mut sum)? else {
        return Err("the game ended before its third card".into());
    };
    let module = stopped.bake(&mut store)?;
    let player = store.data_mut();
    println!("frozen with {} sums told", player.told.len());
    let files = FrozenFiles::of(&mut player.p1, &fs)?;
    Ok(Checkpoint::of(module, files, GuestTold::default()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::default();
    let kept = freeze(&engine, Guest::from_bytes("game", GUEST)?.wasm())?;
    // An image like any other: a store keeps it, a registry has it.
    let image = Image::new(&[kept.to_fs()?.diff(&ChunkPool::new())?])?;
    let checkpoint = Checkpoint::open(&image)?.ok_or("it was put there")?;

    let module = Module::new(&engine, checkpoint.module())?;
    let linker = linker(&engine)?;
    for first in [2, 20, 40] {
        let fs = Fs::new(checkpoint.image());
        let wasi = WasiCtxBuilder::new()
            .monotonic_clock(checkpoint.monotonic_clock())
            .build_p1();
        let mut p1 = p1::Ctx::new(wasi).preopen(fs.root()?, "/");
        checkpoint.reopen(&mut p1, &fs)?;
        let mut store = Store::new(&engine, Player::new(p1, first));
        let game = linker.instantiate(&mut store, &module)?;
        let sum = game
            .get_typed_func::<(), i32>(&mut store, "play")?
            .call(&mut store, ())?;
        let told = store.data().told.len();
        println!(
            "cards {:?}, sum {sum}, {told} told since",
            fs.read("/cards")?
        );
    }
    Ok(())
}
