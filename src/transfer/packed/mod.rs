//! Images that are published as packs, for stratafs alone: what is sent of a version is the
//! chunks and the entries of layers that earlier versions do not have.
//!
//! The documents and the bytes are in docs/FORMAT.md.

mod cover;
mod earlier;
mod entries;
mod gather;
mod listed;
mod plan;
mod pull;
mod push;

#[cfg(feature = "object")]
pub(super) use earlier::PackHome;
pub(super) use pull::fetch;
pub(super) use push::pack;
