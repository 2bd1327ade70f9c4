//! Errors of importing, exporting and committing.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::errno::Errno;
use crate::host::CopyError;
use crate::image::ImageError;
use crate::layer::LayerError;
use crate::name::{LayerPath, show_path};
use crate::source::{ExportError, OciExportError, SourceError};
use crate::store::StoreError;

/// Why an image could not be imported, exported or inspected. Nothing half made is
/// left under a name that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The source cannot be read as layers.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The call on the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layers do not make an image together.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The tree does not make a layer.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The tree cannot be written as an archive.
    #[error(transparent)]
    Archive(#[from] ExportError),
    /// The image cannot be written as an OCI layout.
    #[error(transparent)]
    Oci(#[from] OciExportError),
    /// The tree cannot be written to a directory.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The output cannot be made.
    #[error("{path}: {error}", path = show_path(path))]
    Out {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// There is something where a directory is to be written.
    #[error("{path}: is there already and not an empty directory: name another, or remove it", path = show_path(.0))]
    Occupied(PathBuf),
    /// A layer removed what lower layers have at the path.
    #[error(
        "{path}: not in the image: layer {layer} ({digest}) removes what layer {had} has there"
    )]
    Removed {
        /// The path.
        path: LayerPath,
        /// The layer that has it, the lowest being 0.
        had: usize,
        /// The layer that removes it.
        layer: usize,
        /// That layer's digest.
        digest: Digest,
    },
    /// The image is not an OCI artifact of WebAssembly, and cannot be exported as one.
    #[error("{0}")]
    Artifact(String),
    /// A registry does not do what it was asked for.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// An object store does not do what it was asked for.
    #[cfg(feature = "object")]
    #[error(transparent)]
    Object(#[from] crate::object::ObjectError),
    /// The place that is to be copied from or to cannot be used.
    #[error("{0}")]
    Place(String),
    /// What an image says of a layer that can be fetched in parts is not so.
    #[cfg(feature = "registry")]
    #[error(
        "layer {blob}: its table cannot be used: {what}; pull the image whole, with `--lazy off`"
    )]
    Table {
        /// The digest of the layer's blob.
        blob: String,
        /// What is wrong.
        what: String,
    },
    /// What is said of an image in packs is not so.
    #[cfg(feature = "registry")]
    #[error("{blob}: a part of an image in packs, which cannot be used: {what}")]
    Packed {
        /// The digest of the blob or the manifest.
        blob: String,
        /// What is wrong.
        what: String,
    },
    /// The archive of a layer has other files than its table said.
    #[cfg(feature = "registry")]
    #[error(
        "layer {0}: its archive has other files than its table says: the image is refused, and its \
         names are removed; do not trust who made it"
    )]
    TwoFaces(String),
    /// The image was pulled in parts: some are not here, or were not held against the archives.
    #[error(
        "{image}: it was pulled in parts, and is not complete: {bytes} bytes and {blobs} blobs are \
         not here; `stratafs store fill {image}` completes it"
    )]
    Absent {
        /// The image.
        image: String,
        /// Bytes of files that are not here.
        bytes: u64,
        /// Blobs that are not here.
        blobs: u64,
    },
    /// The image has no such path.
    #[error("{path}: {errno}")]
    Path {
        /// The path, odd bytes escaped.
        path: String,
        /// Why not.
        errno: Errno,
    },
}
