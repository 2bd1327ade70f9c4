//! Where layers come from: host directories, tar archives, OCI images.
//!
//! [`open`] tells them apart by what is there. A layer is made whole or
//! not at all; what cannot be part of a layer (devices, paths that leave the
//! root, damaged archives) is an error that names the source, the entry and
//! the reason. Content is read while the layer is made, so a later change of
//! the source changes nothing (invariant 2). Sources are read, never written.
//!
#![cfg_attr(
    not(any(feature = "dir", feature = "tar")),
    doc = "[`open`]: crate#features"
)]

#[cfg(any(feature = "dir", feature = "tar"))]
mod base;
#[cfg(feature = "oci")]
mod blob_digest;
#[cfg(feature = "tar")]
mod deb;
#[cfg(feature = "dir")]
mod dir;
mod error;
#[cfg(all(feature = "oci", feature = "store"))]
pub(crate) mod hidden;
#[cfg(feature = "tar")]
mod looks_like;
#[cfg(any(feature = "dir", feature = "tar"))]
mod marker;
#[cfg(feature = "oci")]
mod oci;
#[cfg(feature = "oci")]
mod oci_out;
#[cfg(any(feature = "dir", feature = "tar"))]
mod open;
mod options;
#[cfg(feature = "registry")]
pub(crate) mod packed;
#[cfg(feature = "tar")]
pub(crate) mod part;
mod platform;
mod start_set;
#[cfg(feature = "tar")]
mod tar;
#[cfg(feature = "tar")]
mod tar_out;
#[cfg(feature = "zip")]
mod zip;

#[cfg(feature = "oci")]
pub use blob_digest::{BlobDigest, ParseBlobDigestError};
#[cfg(feature = "dir")]
pub use dir::{dir, dir_ambient};
pub use error::{SourceError, SourceErrorKind};
#[cfg(all(feature = "dir", feature = "oci", feature = "store"))]
pub(crate) use oci::is_program;
#[cfg(feature = "oci")]
pub use oci::{ArtifactProgram, LayerBlob, OciImage};
#[cfg(feature = "registry")]
pub(crate) use oci::{BlobDescriptor, BlobHome, Checked, Hasher, RawLayout};
#[cfg(feature = "oci")]
pub use oci_out::{Compression, OciExport, OciExportError, OpenBlob, OutLayer};
#[cfg(feature = "registry")]
pub(crate) use oci_out::{EntriesOut, OutBlob, OutImage, PackBlob, PackBlobWriter};
#[cfg(all(feature = "oci", feature = "store"))]
pub(crate) use oci_out::{FrameMap, Framing};
#[cfg(any(feature = "dir", feature = "tar"))]
pub use open::{Opened, Source, open};
#[cfg(feature = "tar")]
use options::Spent;
pub use options::{LeftOut, SourceOptions};
pub use platform::{ParsePlatformError, Platform};
pub use start_set::StartSet;
#[cfg(feature = "tar")]
pub use tar::tar;
#[cfg(feature = "tar")]
#[cfg(all(feature = "oci", feature = "store"))]
pub(crate) use tar_out::write_layer_with;
#[cfg(feature = "tar")]
pub use tar_out::{ExportError, TarWriter, write_layer};

/// Says of a layer where its table is: `PLACE:BYTES:blake3:HEX`, in the blob.
#[cfg(all(feature = "oci", feature = "store"))]
pub(crate) const TABLE_ANNOTATION: &str = "dev.stratafs.table.v1";

/// Says of a layer how many bytes at the beginning of its blob hold the start set.
#[cfg(all(feature = "oci", feature = "store"))]
pub(crate) const START_ANNOTATION: &str = "dev.stratafs.start.v1";
