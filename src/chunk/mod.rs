//! Content-addressed bytes: equal chunks are held once.
//!
//! A [`ChunkPool`] maps digests to live chunks. A [`Content`] is the bytes of
//! one file as a list of chunks, holes left out. [`ContentBuilder`] cuts a
//! stream into chunks at fixed, aligned offsets.

mod builder;
mod content;
mod pool;
mod stored;

pub use builder::ContentBuilder;
pub use content::Content;
pub(crate) use content::copy_or_zero;
pub use pool::{Chunk, ChunkPool};
pub use stored::ContentError;
#[cfg(feature = "store")]
pub(crate) use stored::{Shelf, Shelving, Stored};
