//! Many layers into one.

use super::TransferError;
use super::export::{tree, whole};
use super::platform::stamp;
use crate::image::{HistoryEntry, Reference};
use crate::layer::LayerBuilder;
use crate::source::{Platform, is_program};
use crate::store::{ImageInfo, LayerOrigin, Store};

/// Makes an image of one layer that shows the same tree as `reference`, with
/// its configuration, and tags it `tag`. What an upper layer deleted or replaced is
/// not in it. O(entries): no content is read, since chunks stay where they are.
///
/// # Errors
///
/// [`TransferError::Store`], [`TransferError::Layer`].
pub fn squash(
    store: &Store,
    reference: &Reference,
    tag: &Reference,
) -> Result<ImageInfo, TransferError> {
    squash_for(store, reference, tag, None)
}

/// Makes an image as [`squash`] does, for a platform that the new image says it is for.
///
/// # Errors
///
/// As [`squash`].
pub fn squash_for(
    store: &Store,
    reference: &Reference,
    tag: &Reference,
    platform: Option<&Platform>,
) -> Result<ImageInfo, TransferError> {
    let info = store.info(reference.as_str())?;
    whole(store, reference)?;
    let tree = tree(store, reference)?;
    let mut config = info.config;
    let count = info.layers.len();
    let mut step = HistoryEntry::by(format!("squash of {count} layers"));
    step.created = config.created.clone();
    config.history.retain(|step| step.empty_layer);
    config.history.insert(0, step);
    stamp(&mut config, platform);
    let mut import = store.import()?;
    // A program that is no file of the tree stays what it is.
    for layer in &info.layers {
        if layer.origin.media_type.as_deref().is_some_and(is_program) {
            import.layer(LayerBuilder::new().finish()?, layer.origin.clone());
        }
    }
    import.layer(tree, LayerOrigin::new());
    import.commit(config, Some(tag.as_str()))?;
    Ok(store.info(tag.as_str())?)
}
