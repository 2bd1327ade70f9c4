//! WASI 0.2: `wasi:filesystem` over our descriptors, for components.
//!
//! A host that uses wasmtime-wasi today wraps the data of its store in a
//! [`StratafsState`], shows directories there, and calls [`add_to_linker_sync`] or
//! [`add_to_linker_async`] from here. Everything besides files stays
//! wasmtime-wasi's, and so do host directories given to its `WasiCtxBuilder`:
//! the guest sees them after ours, and a link or rename from one to the other
//! is `cross-device`.
//!
//! ```
//! use stratafs::{image::Image, vfs::Fs, wasi::{StratafsState, p2}}; // new
//! use wasmtime::component::{Linker, ResourceTable};
//! use wasmtime::{Engine, Store};
//! use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
//!
//! struct State {
//!     wasi: WasiCtx,
//!     table: ResourceTable,
//! }
//!
//! impl WasiView for State {
//!     fn ctx(&mut self) -> WasiCtxView<'_> {
//!         WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
//!     }
//! }
//!
//! # fn main() -> wasmtime::Result<()> {
//! let engine = Engine::default();
//! let mut linker = Linker::<StratafsState<State>>::new(&engine); // was State
//! p2::add_to_linker_sync(&mut linker)?; // was wasmtime_wasi::p2
//!
//! let (wasi, table) = (WasiCtx::builder().build(), ResourceTable::new());
//! let state = State { wasi, table };
//! let fs = Fs::new(&Image::empty()); // new
//! let state = StratafsState::with(state).preopen(fs.root()?, "/"); // new
//! let store = Store::new(&engine, state);
//! # drop(store);
//! # Ok(())
//! # }
//! ```
//!
//! A host without data of its own makes a [`StratafsState`] of a `WasiCtx` alone. One whose
//! data implement more than [`WasiView`](wasmtime_wasi::WasiView), such as the view of
//! `wasmtime-wasi-http`, holds a [`StratafsCtx`] there and implements [`StratafsView`], of one
//! method. Beside this module's linker functions, link only what files are not in:
//! `wasmtime_wasi_http::p2::add_only_http_to_linker_async`, since the whole of it would define
//! interfaces twice.
//!
//! # What differs
//!
//! From wasmtime-wasi on a host directory:
//! * `metadata-hash` has the inode number in its lower half and never changes
//!   from build to build;
//! * a stream at the end of a file goes on once the file has grown;
//! * a stream for which the descriptor has no access is refused when it is
//!   made, not at its first use;
//! * a full resource table, and an instance without descriptors left, answer
//!   `quota` instead of a trap;
//! * times before 1970 show as 1970, and a `datetime` with a second or more
//!   of nanoseconds is `invalid`.
//!
//! A name that is not UTF-8 is an `illegal-byte-sequence` error at its place
//! in a listing, as there; the listing goes on behind it.
#![deny(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

mod convert;
mod host;
mod link;
mod ops;
mod stream;
mod view;

pub use super::component::view::{FsView, HasFs, HasPreopens, PreopensView};
#[cfg(doc)]
use super::{StratafsCtx, StratafsState, StratafsView};
pub use link::{
    add_filesystem_to_linker_async, add_filesystem_to_linker_sync, add_to_linker_async,
    add_to_linker_sync,
};
