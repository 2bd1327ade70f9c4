//! The records of the catalog, and what callers learn of them.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Sha256};
use crate::image::{ImageConfig, ImageId};

/// A layer of an image, as it was brought in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredLayer {
    /// Digest of the tree: the layer's identity here.
    #[serde(with = "text")]
    pub digest: Digest,
    /// Where it came from.
    pub origin: LayerOrigin,
}

/// What is known of a layer besides its tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct LayerOrigin {
    /// The blob that it came in as, if the store keeps that.
    #[serde(with = "text_option")]
    pub blob: Option<Sha256>,
    /// Bytes of the blob.
    pub blob_bytes: u64,
    /// Media type of the blob.
    pub media_type: Option<String>,
    /// SHA-256 of the tar archive, compression undone.
    #[serde(with = "text_option")]
    pub diff_id: Option<Sha256>,
}

impl LayerOrigin {
    /// Makes an origin of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the origin of a layer that came in as a blob.
    #[must_use]
    pub fn of_blob(blob: Blob, media_type: impl Into<String>, diff_id: Sha256) -> Self {
        Self {
            blob: Some(blob.digest),
            blob_bytes: blob.bytes,
            media_type: Some(media_type.into()),
            diff_id: Some(diff_id),
        }
    }
}

/// A blob that the store keeps, byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blob {
    /// Its name.
    pub digest: Sha256,
    /// Its length.
    pub bytes: u64,
}

impl Blob {
    /// Names a blob that is somewhere else.
    #[cfg(feature = "registry")]
    pub(crate) fn new(digest: Sha256, bytes: u64) -> Self {
        Self { digest, bytes }
    }
}

/// An image, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageInfo {
    /// Its name.
    pub id: ImageId,
    /// The tags that lead to it, in order.
    pub tags: Vec<String>,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, the lowest first.
    pub layers: Vec<StoredLayer>,
    /// The manifest's own bytes, if it came with one.
    pub manifest: Option<Sha256>,
    /// The configuration's own bytes, if it came with some.
    pub raw_config: Option<Sha256>,
    /// When it was put into the store: seconds since 1970.
    pub added: i64,
    /// Regular files, directories and symbolic links of the merged tree.
    pub entries: u64,
    /// Bytes of all files of the merged tree, holes included.
    pub logical_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<StoredLayer>,
    #[serde(with = "text_option")]
    pub(super) manifest: Option<Sha256>,
    #[serde(with = "text_option")]
    pub(super) raw_config: Option<Sha256>,
    pub(super) added: i64,
    pub(super) entries: u64,
    pub(super) logical_bytes: u64,
    /// The index's file.
    #[serde(with = "text")]
    pub(super) index: Digest,
    /// The packs that it names.
    #[serde(with = "text_list")]
    pub(super) packs: Vec<Digest>,
    /// Whether a layer is known by its table, and nobody has held that against the archive.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) by_table: bool,
}

impl ImageRecord {
    pub(super) fn info(self, id: ImageId, tags: Vec<String>) -> ImageInfo {
        ImageInfo {
            id,
            tags,
            config: self.config,
            layers: self.layers,
            manifest: self.manifest,
            raw_config: self.raw_config,
            added: self.added,
            entries: self.entries,
            logical_bytes: self.logical_bytes,
        }
    }

    /// Returns the name: that of layers and configuration, wherever they lie.
    pub(super) fn id(&self) -> Result<ImageId, serde_json::Error> {
        let parts = (
            &self.config,
            &self.layers,
            self.manifest.map(|digest| digest.to_string()),
            self.raw_config.map(|digest| digest.to_string()),
        );
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"stratafs image 1\0");
        hasher.update(&serde_json::to_vec(&parts)?);
        Ok(hasher.finalize().into())
    }

    /// Returns the blobs that it keeps alive.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Sha256> {
        let layers = self.layers.iter().filter_map(|layer| layer.origin.blob);
        layers.chain(self.manifest).chain(self.raw_config)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    /// The layer's file.
    #[serde(with = "text")]
    pub(super) file: Digest,
    /// The packs that it names.
    #[serde(with = "text_list")]
    pub(super) packs: Vec<Digest>,
    /// Whether a table says what is in it, and nobody has held that against the bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) by_table: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PackRecord {
    /// Bytes of its chunks.
    pub(super) bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BlobRecord {
    pub(super) bytes: u64,
    /// Digest of the content.
    #[serde(with = "text")]
    pub(super) content: Digest,
    #[serde(with = "text_list")]
    pub(super) packs: Vec<Digest>,
    /// Place in the blob, number of the pack, place in it, length.
    pub(super) runs: Vec<(u64, u32, u32, u32)>,
    /// Of one that is not here: the image that it is of, in a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) absent: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TagRecord {
    #[serde(with = "text")]
    pub(super) image: Digest,
    /// Whether a pull gave the name, and another one brings the image again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) pulled: bool,
}

impl TagRecord {
    /// Makes the record of a name that was given here.
    pub(super) fn own(image: Digest) -> Self {
        Self {
            image,
            pulled: false,
        }
    }
}

/// Digests as their text.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(it: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(it)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

mod text_option {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        it: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match it {
            Some(it) => to.collect_str(it),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}

mod text_list {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::digest::Digest;

    pub(super) fn serialize<S: Serializer>(it: &[Digest], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(it.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Digest>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let digests = texts.iter().map(|text| text.parse());
        digests.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}
