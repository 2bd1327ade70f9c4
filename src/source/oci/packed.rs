//! Images that are published as packs: their documents. What is in layers and packs is for a
//! store to read.

use std::collections::{HashMap, HashSet};

use oci_spec::image::{Descriptor, ImageManifest};

use super::choose::{self, Candidate};
use super::oci_source::OciSource;
use super::{Documents, LayerBlob, OciImage, config, document, layout};
use crate::limits::{MAX_LAYERS, MAX_PACKED_PACKS};
use crate::source::packed::{
    PACK_BLOB, PACK_TABLES, PACKED_CONFIG, PACKED_ENTRIES, PACKED_LAYER, PACKED_PIECES, inline_data,
};
use crate::source::{BlobDigest, SourceError, SourceErrorKind};

/// What an image in packs has beside its layers.
#[derive(Default)]
pub(super) struct PackBlobs {
    /// Entries of other images that layers copy from.
    pub(super) entries: Vec<LayerBlob>,
    pub(super) packs: Vec<LayerBlob>,
    /// Tables of some packs together.
    pub(super) tables: Option<LayerBlob>,
    /// Blobs that the manifest has itself, held against their digests.
    pub(super) inline: HashMap<BlobDigest, Vec<u8>>,
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

/// Splits the blobs, which stand in this order: layers, entries that they copy from, packs, and their tables.
fn blobs(
    source: &OciSource,
    all: &[Descriptor],
) -> Result<(Vec<LayerBlob>, PackBlobs), SourceErrorKind> {
    let (mut layers, mut others, mut tables) = (Vec::new(), PackBlobs::default(), Vec::new());
    let mut seen = HashSet::new();
    let mut before = 0;
    for descriptor in all {
        let media_type = descriptor.media_type().to_string();
        let digest = document::digest_of(descriptor)?;
        let is_new = seen.insert(digest.clone());
        let (place, list) = match media_type.as_str() {
            PACKED_LAYER | PACKED_PIECES => (0, &mut layers),
            PACKED_ENTRIES if is_new => (1, &mut others.entries),
            PACK_BLOB if is_new => (2, &mut others.packs),
            PACK_TABLES if tables.is_empty() => (3, &mut tables),
            PACKED_ENTRIES => return Err(twice("blob", &digest)),
            PACK_BLOB => return Err(twice("pack", &digest)),
            _ => return Err(out_of_place(&digest, &media_type)),
        };
        if place < before {
            return Err(out_of_place(&digest, &media_type));
        }
        before = place;
        if let Some(data) = descriptor.data() {
            let bytes = inline_data((&digest, descriptor.size()), data);
            let bytes = bytes
                .map_err(|what| SourceErrorKind::Document(format!("blob {digest}: {what}")))?;
            others.inline.insert(digest.clone(), bytes);
        }
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
        (
            "blobs that layers copy from",
            others.entries.len(),
            MAX_LAYERS,
        ),
        ("packs of an image", others.packs.len(), MAX_PACKED_PACKS),
    ];
    for (what, found, limit) in counts {
        if found > limit {
            let limit = limit as u64;
            return Err(SourceErrorKind::Limit { what, limit });
        }
    }
    others.tables = tables.pop();
    Ok((layers, others))
}

fn twice(what: &str, digest: &BlobDigest) -> SourceErrorKind {
    SourceErrorKind::Document(format!("{what} {digest} is named twice"))
}

fn out_of_place(digest: &BlobDigest, media_type: &str) -> SourceErrorKind {
    SourceErrorKind::Document(format!(
        "blob {digest}: {media_type}, where an image in packs has layers ({PACKED_LAYER} or \
         {PACKED_PIECES}), then entries that they copy ({PACKED_ENTRIES}), then packs ({PACK_BLOB}), and \
         their tables once ({PACK_TABLES})"
    ))
}
