//! The identity of a directory tree: a canonical encoding and its Merkle
//! digest.
//!
//! A directory's digest is of its entries in the order of their names; an
//! entry is its name, kind, metadata and the digest of its content, or of the
//! directory. Names stand in the parent only, so equal subtrees have equal
//! digests wherever they lie. Which names are hard links of one object is
//! part of the identity too: each group is the list of its names, told by
//! their place in the walk, and stands beside the root. How an object was
//! stored, chunked or numbered is not (invariant 8).
//!
//! Layers and images hash their trees with the same [`TreeHasher`].

mod encode;
mod hasher;

pub(crate) use hasher::{DirMark, TreeHasher};
