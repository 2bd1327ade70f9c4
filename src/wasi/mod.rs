//! What guests speak: one small front end per version of WASI.
//!
//! The file system itself is [`vfs`](crate::vfs); here is translation only,
//! in wasmtime's own idiom.

#[cfg(any(feature = "p2", feature = "p3"))]
mod component;
#[cfg(feature = "p1")]
pub mod p1;
#[cfg(feature = "p2")]
pub mod p2;
#[cfg(feature = "p3")]
pub mod p3;
#[cfg(any(feature = "p1", feature = "p2", feature = "p3"))]
mod write_at;

#[cfg(any(feature = "p2", feature = "p3"))]
pub use component::ctx::{StratafsCtx, StratafsState, StratafsView, WasiState};
#[cfg(feature = "p1")]
pub use p1::p0;
