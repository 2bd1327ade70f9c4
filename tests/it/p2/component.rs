//! A real component, through both linkers.

use stratafs::image::Image;
use stratafs::vfs::Fs;
use stratafs::wasi::{StratafsState, p2};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p2::bindings::{Command, sync};
use wasmtime_wasi::{FsPerms, WasiCtx};

use super::base;
use super::guest::{Guest, MODES};

const GUEST: &str = include_str!("../../../examples/embed_p2.wat");

fn store(engine: &Engine, fs: &Fs) -> Store<StratafsState> {
    let state = StratafsState::new(WasiCtx::builder().build());
    Store::new(engine, state.preopen(fs.root().unwrap(), "/"))
}

fn greeting(fs: &Fs) -> Vec<u8> {
    let (mut guest, root) = Guest::new(fs, MODES[0]);
    guest.get(root, "greeting").unwrap()
}

#[test]
fn a_component_writes_a_file() {
    let engine = Engine::default();
    let guest = Component::new(&engine, GUEST).unwrap();
    let mut linker = Linker::new(&engine);
    p2::add_to_linker_sync(&mut linker).unwrap();
    let fs = Fs::new(&Image::empty());
    let mut store = store(&engine, &fs);
    let command = sync::Command::instantiate(&mut store, &guest, &linker).unwrap();
    assert_eq!(command.wasi_cli_run().call_run(&mut store).unwrap(), Ok(()));
    assert_eq!(greeting(&fs), b"hello");
    // The guest left its descriptors open: they go with the store.
    drop(store);
    assert_eq!(fs.usage().open, 0);
}

#[tokio::test]
async fn a_component_writes_a_file_async() {
    let engine = Engine::default();
    let guest = Component::new(&engine, GUEST).unwrap();
    let mut linker = Linker::new(&engine);
    p2::add_to_linker_async(&mut linker).unwrap();
    let fs = Fs::new(&Image::empty());
    let mut store = store(&engine, &fs);
    let command = Command::instantiate_async(&mut store, &guest, &linker)
        .await
        .unwrap();
    assert_eq!(
        command.wasi_cli_run().call_run(&mut store).await.unwrap(),
        Ok(())
    );
    drop(store);
    assert_eq!(
        std::thread::spawn(move || greeting(&fs)).join().unwrap(),
        b"hello"
    );
}

/// The guest, with this between its write and its end.
fn guest_that(ends: &str) -> String {
    let end = "(i32.load8_u (i32.const 64))))\n  (core instance $main";
    let at = GUEST.find(end).unwrap();
    format!("{} {ends} {}", &GUEST[..at], &GUEST[at..])
}

#[test]
fn case_75_a_component_that_is_stopped_leaves_nothing_open_and_the_base_whole() {
    let base = base();
    let before = base.verify().unwrap();
    for ends in ["unreachable", "(loop $spin (br $spin))"] {
        for async_store in [false, true] {
            let mut config = Config::new();
            config.epoch_interruption(true);
            let engine = Engine::new(&config).unwrap();
            let guest = Component::new(&engine, guest_that(ends)).unwrap();
            let mut linker = Linker::new(&engine);
            let fs = Fs::new(&base);
            let mut store = store(&engine, &fs);
            store.set_epoch_deadline(1);
            let ticking = engine.clone();
            let tick = std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(50));
                ticking.increment_epoch();
            });
            if async_store {
                store.epoch_deadline_async_yield_and_update(1);
                p2::add_to_linker_async(&mut linker).unwrap();
                let run = async {
                    let command = Command::instantiate_async(&mut store, &guest, &linker);
                    let command = command.await.unwrap();
                    // Once the guest wrote, its call is dropped in the middle.
                    let wrote = async {
                        while fs.metadata("/greeting").map_or(0, |found| found.size) < 5 {
                            tokio::task::yield_now().await;
                        }
                    };
                    tokio::select! {
                        biased;
                        ended = command.wasi_cli_run().call_run(&mut store) => drop(ended.unwrap_err()),
                        () = wrote => {}
                    }
                };
                let runtime = tokio::runtime::Builder::new_current_thread();
                { runtime }.build().unwrap().block_on(run);
            } else {
                p2::add_to_linker_sync(&mut linker).unwrap();
                let command = sync::Command::instantiate(&mut store, &guest, &linker).unwrap();
                assert!(command.wasi_cli_run().call_run(&mut store).is_err());
            }
            tick.join().unwrap();
            assert!(fs.usage().open > 0, "it was in the middle");
            drop(store);
            assert_eq!(fs.usage().open, 0);
            // What it wrote until then is there, and no lock is held.
            assert_eq!(greeting(&fs), b"hello");
            assert_eq!(fs.check(), Ok(()));
        }
    }
    assert_eq!(base.verify().unwrap(), before);
}

#[test]
fn case_76_a_component_without_directories_reaches_none() {
    let engine = Engine::default();
    let guest = Component::new(&engine, GUEST).unwrap();
    let mut linker = Linker::new(&engine);
    p2::add_to_linker_sync(&mut linker).unwrap();
    let mut store = Store::new(&engine, StratafsState::new(WasiCtx::builder().build()));
    let command = sync::Command::instantiate(&mut store, &guest, &linker).unwrap();
    // The guest uses the first directory, which is none: no handle, a trap.
    assert!(command.wasi_cli_run().call_run(&mut store).is_err());
    assert!(store.data().data.table.is_empty());
}

#[test]
fn a_host_directory_is_the_first_if_there_is_none_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::default();
    let guest = Component::new(&engine, GUEST).unwrap();
    let mut linker = Linker::new(&engine);
    p2::add_to_linker_sync(&mut linker).unwrap();
    let mut wasi = WasiCtx::builder();
    wasi.preopened_dir(dir.path(), "/", FsPerms::ReadWrite)
        .unwrap();
    let mut store = Store::new(&engine, StratafsState::new(wasi.build()));
    let command = sync::Command::instantiate(&mut store, &guest, &linker).unwrap();
    assert_eq!(command.wasi_cli_run().call_run(&mut store).unwrap(), Ok(()));
    assert_eq!(
        std::fs::read(dir.path().join("greeting")).unwrap(),
        b"hello"
    );
}
