//! WASI 0.3: `wasi:filesystem` with streams and futures over our descriptors.
//!
//! A host that uses wasmtime-wasi today wraps the data of its store in a
//! [`StratafsState`], shows directories there, and calls [`add_to_linker`] from
//! here. Everything besides files stays wasmtime-wasi's, and so do host
//! directories given to its `WasiCtxBuilder`: the guest sees them after ours, and
//! a link or rename from one to the other is `cross-device`.
//!
//! Many 0.3 guests import 0.2 as well, since their language's library speaks
//! it: link `wasi::p2` into the same linker. Both versions see one table
//! and one set of preopens.
//!
//! ```
//! use stratafs::{image::Image, vfs::Fs, wasi::{StratafsState, p3}};
//! use wasmtime::component::Linker;
//! use wasmtime::{Config, Engine, Store};
//! use wasmtime_wasi::WasiCtx;
//!
//! # fn main() -> wasmtime::Result<()> {
//! let mut config = Config::new();
//! config.wasm_component_model_async(true);
//! let engine = Engine::new(&config)?;
//! let mut linker = Linker::<StratafsState>::new(&engine);
//! p3::add_to_linker(&mut linker)?; // was wasmtime_wasi::p3
//!
//! let fs = Fs::new(&Image::empty());
//! let state = StratafsState::new(WasiCtx::builder().build()).preopen(fs.root()?, "/");
//! let store = Store::new(&engine, state);
//! # drop(store);
//! # Ok(())
//! # }
//! ```
//!
//! # Streams
//!
//! A read stream copies from the base or the overlay into the guest's own
//! buffer, and a write stream from there into the overlay: one copy, and
//! nothing is held in between. A guest that writes without end fills its own
//! quota; one that drops a stream or its future half-way has written what went
//! through before, and leaves nothing else.
//!
//! # What differs
//!
//! From wasmtime-wasi on a host directory:
//! * `metadata-hash` has the inode number in its lower half, never changes from
//!   build to build, and is what 0.2 gives;
//! * a stream for which the descriptor has no access, or whose offset no file
//!   can have, ends when it is made, not at its first use;
//! * a full resource table, and an instance without descriptors left, answer
//!   `quota` instead of a trap;
//! * an `instant` with a second or more of nanoseconds is `invalid`.
//!
//! A name that is not UTF-8 ends a listing with `illegal-byte-sequence`, as
//! there.
#![deny(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

mod convert;
mod host;
mod link;
mod listing;
mod stream;

#[cfg(doc)]
use super::StratafsState;
pub use super::component::view::{FsView, HasFs, HasPreopens, PreopensView};
#[cfg(feature = "runner")]
pub(crate) use super::component::watch::{Step, StreamWatcher, WatchStream};
pub use link::{add_filesystem_to_linker, add_to_linker};
