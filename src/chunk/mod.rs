//! Content-addressed bytes: equal chunks are held once.
//!
//! A [`ChunkPool`] maps digests to live chunks. A [`Content`] is the bytes of
//! one file as a list of chunks, holes left out. [`ContentBuilder`] cuts a
//! stream into chunks at fixed, aligned offsets. A [`Scope`] holds equal blocks
//! of what instances wrote once. A [`Ticket`] stands for bytes that have to be
//! fetched before they can be read.

mod buffer;
mod builder;
mod content;
#[cfg(all(test, feature = "runner"))]
pub(crate) mod counted;
#[cfg(feature = "store")]
mod cut;
mod pages;
mod pool;
mod scope;
mod sealed;
mod sparse;
mod stored;
mod ticket;

pub(crate) use buffer::Buffer;
pub use builder::ContentBuilder;
pub use content::Content;
#[cfg(feature = "runner")]
pub(crate) use content::digest_of_bytes;
pub(crate) use content::{copy_or_zero, digest_of};
#[cfg(feature = "store")]
pub(crate) use cut::next_chunk;
pub(crate) use pages::{GonePages, Pages};
pub use pool::{Chunk, ChunkPool};
pub(crate) use scope::Sample;
pub use scope::Scope;
pub(crate) use sealed::{Piece, SealedBlock, SealedFile};
pub use stored::ContentError;
#[cfg(feature = "store")]
pub(crate) use stored::{ChunkSink, FileSink};
#[doc(hidden)]
pub use stored::{Stored, Unread};
pub use ticket::{Arrival, Ticket};
