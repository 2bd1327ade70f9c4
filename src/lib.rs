//! A layered, copy-on-write file system for WebAssembly guests.
#![forbid(unsafe_code)]

pub mod chunk;
pub mod digest;
pub mod errno;
pub mod image;
pub mod layer;
pub mod limits;
pub mod meta;
pub mod name;
mod overlay;
pub mod source;
mod tree;
pub mod vfs;
#[cfg(feature = "wasi")]
pub mod wasi;
