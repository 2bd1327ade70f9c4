//! What has been built of a stage.

use std::sync::{Arc, OnceLock};

use stratafs::digest::Digest;
use stratafs::image::{HistoryEntry, Image};
use stratafs::layer::Layer;
use stratafs::store::{LayerOrigin, Store};

use super::origins::BaseImage;
use super::tree::{FileTree, StoredTree};
use crate::failure::Failure;

/// Layers and history of a stage; layers are read when somebody asks.
#[derive(Clone, Default)]
pub(super) struct Built {
    layers: Vec<(Digest, LayerOrigin)>,
    pub(super) history: Vec<HistoryEntry>,
    image: OnceLock<Image>,
    tree: OnceLock<Arc<FileTree>>,
}

impl Built {
    /// Starts from an image of the store.
    pub(super) fn on(base: &BaseImage) -> Self {
        let layers = base.info.layers.iter();
        Self {
            layers: layers
                .map(|layer| (layer.digest, layer.origin.clone()))
                .collect(),
            history: base.info.config.history.clone(),
            ..Self::default()
        }
    }

    /// Adds a layer of the store.
    pub(super) fn push(&mut self, layer: Digest) {
        self.layers.push((layer, LayerOrigin::new()));
        (self.image, self.tree) = (OnceLock::new(), OnceLock::new());
    }

    /// Returns a digest of all layers, for keys.
    pub(super) fn digest(&self) -> Digest {
        let all = self.layers.iter();
        let bytes: Vec<u8> = all.flat_map(|(layer, _)| *layer.as_bytes()).collect();
        Digest::of(&bytes)
    }

    /// Reads the layers, the lowest first.
    pub(super) fn layers(&self, store: &Store) -> Result<Vec<(Layer, LayerOrigin)>, Failure> {
        let all = self.layers.iter().map(|(digest, origin)| {
            let layer = store.layer(*digest)?;
            let layer = layer.ok_or_else(|| {
                Failure::new(format_args!(
                    "the layer {digest} left the store meanwhile: build again"
                ))
            })?;
            Ok((layer, origin.clone()))
        });
        all.collect()
    }

    /// Returns names and origins of the layers.
    pub(super) fn named(&self) -> &[(Digest, LayerOrigin)] {
        &self.layers
    }

    /// Merges the layers, once.
    pub(super) fn image(&self, store: &Store) -> Result<Image, Failure> {
        if let Some(image) = self.image.get() {
            return Ok(image.clone());
        }
        let layers: Vec<Layer> = self
            .layers(store)?
            .into_iter()
            .map(|(layer, _)| layer)
            .collect();
        let image = Image::new(&layers)?;
        Ok(self.image.get_or_init(|| image).clone())
    }

    /// Returns the merged tree, read once.
    pub(super) fn tree(&self, store: &Store) -> Result<Arc<FileTree>, Failure> {
        if let Some(tree) = self.tree.get() {
            return Ok(Arc::clone(tree));
        }
        let tree = Arc::new(FileTree::Stored(StoredTree::of(&self.image(store)?)?));
        Ok(Arc::clone(self.tree.get_or_init(|| tree)))
    }
}
