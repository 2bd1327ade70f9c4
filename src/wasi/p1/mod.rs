//! WASI preview1, spoken natively over [`vfs`](crate::vfs).
//!
//! All 46 functions of `wasi_snapshot_preview1` for core modules. Calls on
//! files of stratafs are answered here, with one copy between a file's content
//! and the guest's memory. Everything else (standard input and output, clocks,
//! random numbers, arguments, environment, and host directories that were given
//! to [`WasiCtxBuilder`]) stays with wasmtime-wasi's own preview1. A guest sees
//! both in one table of descriptors.
//!
//! A host that uses `wasmtime_wasi::p1` today changes the type of its context
//! and the function that fills its linker:
//!
//! ```
//! # use stratafs::{image::Image, vfs::Fs, wasi::p1};
//! # use wasmtime::{Engine, Linker, Module, Store};
//! # use wasmtime_wasi::WasiCtxBuilder;
//! # fn main() -> wasmtime::Result<()> {
//! # let engine = Engine::default();
//! # let module = Module::new(&engine, r#"(module (memory (export "memory") 1) (func (export "_start")))"#)?;
//! let mut linker: Linker<p1::Ctx> = Linker::new(&engine);
//! p1::add_to_linker_sync(&mut linker, |ctx| ctx)?;
//!
//! let fs = Fs::new(&Image::empty());
//! let wasi = WasiCtxBuilder::new().inherit_stdio().build_p1();
//! let ctx = p1::Ctx::new(wasi).preopen(fs.root()?, "/");
//!
//! let mut store = Store::new(&engine, ctx);
//! let instance = linker.instantiate(&mut store, &module)?;
//! instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ())?;
//! # Ok(())
//! # }
//! ```
//!
//! # What differs from wasmtime-wasi's preview1
//!
//! - Every iovec of a call is served, in one step, not only the first.
//! - A new descriptor gets the lowest free number, as POSIX wants.
//! - Listings are linear and lose no entry when others are removed meanwhile.
//! - `proc_exit` takes any status; wasmtime-wasi refuses 126 and above.
//!
//! # Traps
//!
//! A pointer that is out of bounds or misaligned, and an enumeration or flag
//! that preview1 does not know, end the guest with a trap, as in wasmtime-wasi
//! and as preview1 demands. Every other mistake gives an errno.
//!
//! [`WasiCtxBuilder`]: wasmtime_wasi::WasiCtxBuilder
#![deny(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

mod abi;
mod ctx;
mod dir;
mod export;
mod fd;
mod fork;
mod host_files;
mod iovec;
#[cfg_attr(
    not(feature = "freeze"),
    allow(
        dead_code,
        reason = "guests that go on from a checkpoint know something"
    )
)]
mod known;
mod link;
mod memory;
pub mod p0;
mod path;
mod poll;
mod rw;
#[cfg(feature = "freeze")]
mod shown;
mod stat;
mod stock;
mod table;

pub use ctx::Ctx;
pub use fork::{Described, OpenDescriptor, OpenFile};
#[cfg(feature = "freeze")]
pub(crate) use known::{KnownDir, KnownFiles, KnownOrder, KnownTimes, NumberRun};
pub use link::{add_to_linker_async, add_to_linker_sync};
#[cfg(feature = "freeze")]
pub(crate) use shown::ShownPreopen;
