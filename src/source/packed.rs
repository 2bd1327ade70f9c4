//! What images are called that are published as packs: for stratafs alone, and for no tool that
//! reads layers. docs/FORMAT.md has the documents.

/// What a manifest says that it is.
pub(crate) const PACKED_IMAGE: &str = "application/vnd.stratafs.image.v1";

/// The media type of the configuration: what OCI's images say, without layers.
pub(crate) const PACKED_CONFIG: &str = "application/vnd.stratafs.image.config.v1+json";

/// The media type of a layer: its entries, over packs.
pub(crate) const PACKED_LAYER: &str = "application/vnd.stratafs.layer.v1+zstd";

/// The media type of a pack: frames with chunks, and a table.
pub(crate) const PACK_BLOB: &str = "application/vnd.stratafs.pack.v1+zstd";

/// The media type of the tables of small packs, one after the other.
pub(crate) const PACK_TABLES: &str = "application/vnd.stratafs.tables.v1";

/// The annotation that says of those which packs they are of: their numbers among the packs of the manifest,
/// with commas.
pub(crate) const TABLES_ANNOTATION: &str = "dev.stratafs.packs.v1";

/// The annotation that names what is in a blob: the digest of a layer's tree, or a pack's name.
pub(crate) const NAME_ANNOTATION: &str = "dev.stratafs.name.v1";
