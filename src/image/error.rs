//! Errors of images.

use crate::chunk::ContentError;
use crate::digest::Digest;
use crate::limits::MAX_LAYERS;
use crate::name::LayerPath;

/// Why an image could not be made, or is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The stack is higher than [`MAX_LAYERS`].
    #[error("{count} layers are too many: an image has at most {MAX_LAYERS}")]
    TooManyLayers {
        /// How many layers there are.
        count: usize,
    },
    /// A layer has a hard link to a path that no layer below it has.
    #[error("layer {layer}: hard link {link} to {target}: no layer below has that path")]
    LinkToMissing {
        /// Index of the layer, 0 being the lowest.
        layer: usize,
        /// The link.
        link: LayerPath,
        /// What it names.
        target: LayerPath,
    },
    /// A layer has a hard link to what is a directory below it.
    #[error("layer {layer}: hard link {link} to {target}: that is a directory")]
    LinkToDirectory {
        /// Index of the layer, 0 being the lowest.
        layer: usize,
        /// The link.
        link: LayerPath,
        /// What it names.
        target: LayerPath,
    },
    /// The merged tree has more than an index can number.
    #[error("the merged tree has more {what} than {bound}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        bound: u64,
    },
    /// The index of an image from a store is damaged.
    #[error(transparent)]
    Index(ContentError),
    /// The bytes of a file at rest could not be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: LayerPath,
        /// Why not.
        #[source]
        error: ContentError,
    },
    /// The bytes of a chunk are not those that its digest names.
    #[error("{path}: chunk {expected} at byte {offset} has the digest {found}")]
    WrongChunk {
        /// A file that has the chunk.
        path: LayerPath,
        /// Where in the file, in bytes.
        offset: u64,
        /// The digest that the chunk should have.
        expected: Digest,
        /// The digest of its bytes.
        found: Digest,
    },
}
