//! Many layers into one.

use super::TransferError;
use super::export::tree;
use crate::image::{HistoryEntry, Reference};
use crate::store::{ImageInfo, LayerOrigin, Store};

/// Makes an image of one layer that shows the same tree as `reference`, with
/// its configuration, and calls it `tag`. What was deleted or replaced on the
/// way is not in it.
///
/// # Errors
///
/// [`TransferError::Store`], [`TransferError::Layer`].
pub fn squash(
    store: &Store,
    reference: &Reference,
    tag: &Reference,
) -> Result<ImageInfo, TransferError> {
    let info = store.info(reference.as_str())?;
    let tree = tree(store, reference)?;
    let mut config = info.config;
    let count = info.layers.len();
    let mut step = HistoryEntry::by(format!("squash of {count} layers"));
    step.created = config.created.clone();
    config.history.retain(|step| step.empty_layer);
    config.history.insert(0, step);
    let mut import = store.import()?;
    import.layer(tree, LayerOrigin::new());
    import.commit(config, Some(tag.as_str()))?;
    Ok(store.info(tag.as_str())?)
}
