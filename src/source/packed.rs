//! What images are called that are published as packs: for stratafs alone, and for no tool that
//! reads layers. docs/FORMAT.md has the documents.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::BlobDigest;

/// What a manifest says that it is.
pub(crate) const PACKED_IMAGE: &str = "application/vnd.stratafs.image.v1";

/// The media type of the configuration: what OCI's images say, without layers.
pub(crate) const PACKED_CONFIG: &str = "application/vnd.stratafs.image.config.v1+json";

/// The media type of a layer: its entries, over packs.
pub(crate) const PACKED_LAYER: &str = "application/vnd.stratafs.layer.v1+zstd";

/// The media type of a layer whose entries are pieces, some of which other blobs have.
pub(crate) const PACKED_PIECES: &str = "application/vnd.stratafs.layer.v2+zstd";

/// The media type of those other blobs, which are layers of earlier images.
pub(crate) const PACKED_ENTRIES: &str = "application/vnd.stratafs.entries.v1+zstd";

/// The media type of a pack: frames with chunks, and a table.
pub(crate) const PACK_BLOB: &str = "application/vnd.stratafs.pack.v1+zstd";

/// The media type of the tables of small packs, one after the other.
pub(crate) const PACK_TABLES: &str = "application/vnd.stratafs.tables.v1";

/// The annotation that says of those which packs they are of: their numbers among the packs of the manifest,
/// with commas.
pub(crate) const TABLES_ANNOTATION: &str = "dev.stratafs.packs.v1";

/// The annotation that names what is in a blob: the digest of a layer's tree, or a pack's name.
pub(crate) const NAME_ANNOTATION: &str = "dev.stratafs.name.v1";

/// Reads a blob that a manifest has where it names it, as OCI's descriptors may. Says what is wrong.
pub(crate) fn inline_data(
    (digest, size): (&BlobDigest, u64),
    data: &str,
) -> Result<Vec<u8>, String> {
    let bytes = STANDARD.decode(data);
    let bytes = bytes.map_err(|_| "its data in the manifest are not base64".to_owned())?;
    match bytes.len() as u64 == size && BlobDigest::like(digest, &bytes) == *digest {
        true => Ok(bytes),
        false => Err(format!(
            "its data in the manifest are {} bytes that have another digest or size than it says",
            bytes.len()
        )),
    }
}

/// Writes a blob for a manifest.
pub(crate) fn as_data(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
