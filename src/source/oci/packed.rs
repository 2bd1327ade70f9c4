//! Images that are published as packs: their documents. What is in layers and packs is for a
//! store to read.

use std::collections::HashSet;

use oci_spec::image::{Descriptor, ImageManifest};

use super::choose::{self, Candidate};
use super::oci_source::OciSource;
use super::{Documents, LayerBlob, OciImage, config, document, layout};
use crate::limits::{MAX_LAYERS, MAX_PACKED_PACKS};
use crate::source::packed::{PACK_BLOB, PACK_TABLES, PACKED_CONFIG, PACKED_LAYER};
use crate::source::{SourceError, SourceErrorKind};

/// What an image in packs has beside its layers.
pub(super) struct PackBlobs {
    pub(super) packs: Vec<LayerBlob>,
    /// Tables of some packs together.
    pub(super) tables: Option<LayerBlob>,
}

/// Returns whether a configuration is that of an image in packs.
pub(super) fn is_config(media_type: &str) -> bool {
    media_type == PACKED_CONFIG
}

/// Opens the image of a manifest.
pub(super) fn open(
    source: OciSource,
    chosen: Candidate,
    manifest_bytes: Vec<u8>,
    manifest: &ImageManifest,
) -> Result<OciImage, SourceError> {
    let part = format!("blob {}", chosen.descriptor.digest());
    if !source.is_remote() {
        let reason = "it is published as packs, for stratafs alone: `stratafs image pull` takes it \
                      from a registry or an object store, `stratafs image copy` brings it to a registry";
        return Err(SourceError::from(SourceErrorKind::Document(reason.into())).part(&part));
    }
    let config_bytes = choose::blob(&source, manifest.config())?;
    let read = layout::read_config(&config_bytes).map_err(|kind| {
        SourceError::from(kind).part(format_args!("blob {}", manifest.config().digest()))
    })?;
    let (layers, packs) =
        blobs(&source, manifest.layers()).map_err(|kind| SourceError::from(kind).part(&part))?;
    Ok(OciImage {
        source,
        layers,
        packs: Some(packs),
        platform: layout::platform(&read, chosen.platform),
        name: chosen.names.into_iter().next(),
        documents: Documents {
            manifest: Some(manifest_bytes),
            config: config_bytes,
        },
        config: config::read(&read),
        spent: Default::default(),
    })
}

/// Tells layers, which stand first, from packs, and these from their tables, which stand last.
fn blobs(
    source: &OciSource,
    all: &[Descriptor],
) -> Result<(Vec<LayerBlob>, PackBlobs), SourceErrorKind> {
    let (mut layers, mut packs, mut tables) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for descriptor in all {
        let media_type = descriptor.media_type().to_string();
        let digest = document::digest_of(descriptor)?;
        let is_new = seen.insert(digest.clone());
        let list = match media_type.as_str() {
            PACKED_LAYER if packs.is_empty() && tables.is_empty() => &mut layers,
            PACK_BLOB if is_new && tables.is_empty() => &mut packs,
            PACK_TABLES if tables.is_empty() => &mut tables,
            PACK_BLOB if !is_new => {
                let reason = format!("pack {digest} is named twice");
                return Err(SourceErrorKind::Document(reason));
            }
            _ => {
                let reason = format!(
                    "blob {digest}: {media_type}, where an image in packs has layers \
                     ({PACKED_LAYER}), then packs ({PACK_BLOB}), and their tables once ({PACK_TABLES})"
                );
                return Err(SourceErrorKind::Document(reason));
            }
        };
        list.push(LayerBlob {
            file: source.blob_file(&digest),
            restricted: false,
            size: descriptor.size(),
            diff_id: digest.clone(),
            digest: Some(digest),
            annotations: descriptor.annotations().clone().unwrap_or_default(),
            media_type,
        });
    }
    let counts = [
        ("layers", layers.len(), MAX_LAYERS),
        ("packs of an image", packs.len(), MAX_PACKED_PACKS),
    ];
    for (what, found, limit) in counts {
        if found > limit {
            let limit = limit as u64;
            return Err(SourceErrorKind::Limit { what, limit });
        }
    }
    let tables = tables.pop();
    Ok((layers, PackBlobs { packs, tables }))
}
