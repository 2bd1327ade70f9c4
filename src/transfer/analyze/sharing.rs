//! Whose chunks a layer has.

use std::collections::{HashMap, HashSet};

use crate::digest::Digest;
use crate::layer::{EntryBody, Layer};
use crate::store::{ImageInfo, Store, StoreError};

/// What a layer shares.
#[derive(Default)]
pub(super) struct LayerSharing {
    pub(super) chunk_bytes: u64,
    pub(super) new_chunk_bytes: u64,
    pub(super) shared_chunk_bytes: u64,
    pub(super) images: Vec<String>,
}

/// The chunks of a layer, each once, with their lengths.
type ChunkLengths = HashMap<Digest, u32>;

impl LayerSharing {
    /// Looks through the layers of an image, and then through those of all others.
    pub(super) fn find(
        store: &Store,
        image: &ImageInfo,
        layers: &[Layer],
    ) -> Result<Vec<Self>, StoreError> {
        let mut known = HashSet::new();
        let mut own: Vec<(Self, ChunkLengths)> = Vec::new();
        for layer in layers {
            let chunks = chunks_of(store, layer)?;
            let new = chunks.iter().filter(|(digest, _)| known.insert(**digest));
            let shared = Self {
                new_chunk_bytes: new.map(|(_, bytes)| u64::from(*bytes)).sum(),
                chunk_bytes: chunks.values().map(|bytes| u64::from(*bytes)).sum(),
                ..Self::default()
            };
            own.push((shared, chunks));
        }
        let others = store.list()?;
        let others = others.iter().filter(|other| other.id != image.id);
        let mut elsewhere: HashSet<Digest> = HashSet::new();
        let mut looked_through = HashSet::new();
        for other in others {
            let name = other.tags.first().cloned();
            let name = name.unwrap_or_else(|| other.id.to_string());
            for layer in &other.layers {
                for ((shared, _), mine) in own.iter_mut().zip(layers) {
                    if mine.digest() == layer.digest && shared.images.last() != Some(&name) {
                        shared.images.push(name.clone());
                    }
                }
                if !looked_through.insert(layer.digest) {
                    continue;
                }
                if let Some(layer) = store.layer(layer.digest)? {
                    let chunks = chunks_of(store, &layer)?.into_keys();
                    elsewhere.extend(chunks.filter(|digest| known.contains(digest)));
                }
            }
        }
        let sums = own.into_iter().map(|(mut shared, chunks)| {
            let common = chunks.iter();
            let common = common.filter(|(digest, _)| elsewhere.contains(digest));
            shared.shared_chunk_bytes = common.map(|(_, bytes)| u64::from(*bytes)).sum();
            shared
        });
        Ok(sums.collect())
    }
}

fn chunks_of(store: &Store, layer: &Layer) -> Result<ChunkLengths, StoreError> {
    let mut chunks = ChunkLengths::new();
    for entry in layer.entries() {
        if let EntryBody::File { content, .. } = &entry.body {
            let found = store.chunks(content)?;
            chunks.extend(found.iter().map(|chunk| (chunk.digest, chunk.bytes)));
        }
    }
    Ok(chunks)
}
