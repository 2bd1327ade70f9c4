//! Images that have the layers of another: more layers on top, or another configuration.

use super::TransferError;
use super::commit::take_base;
use super::import::{ImportOptions, step, take_image};
use super::platform::stamp;
use crate::image::{HistoryEntry, ImageConfig, Reference};
use crate::source::{Opened, Source};
use crate::store::{ImageInfo, LayerOrigin, Store};

/// Makes an image of the layers of `reference` and, on top, those of `sources`, the lowest
/// first, and tags it `tag`: all of it or nothing. O(bytes of the sources).
///
/// The layers that were there keep their digests and blobs, and the configuration stays
/// but for its history, which has a step for each new layer. Of a source that is an image
/// only the layers are taken.
///
/// # Errors
///
/// [`TransferError::Source`], [`TransferError::Store`], [`TransferError::Image`].
pub fn append(
    store: &Store,
    reference: &Reference,
    sources: Vec<Source>,
    tag: &Reference,
    options: &ImportOptions,
) -> Result<ImageInfo, TransferError> {
    let mut import = store.import()?;
    if let Some(watcher) = &options.watcher {
        import.watch(watcher.clone());
    }
    let (mut config, layers) = take_base(store, &mut import, reference.as_str())?;
    name_layers(&mut config, layers);
    for source in sources {
        let path = source.name().to_owned();
        match source.read(import.pool(), &options.source)? {
            Opened::Image(image) => {
                take_image(&mut import, &image, &options.source)?;
                config
                    .history
                    .extend(image.layers().iter().map(|_| step("append", &path)));
            }
            Opened::Layer(layer) => {
                import.layer(layer, LayerOrigin::new());
                config.history.push(step("append", &path));
            }
        }
    }
    stamp(&mut config, options.set_platform.as_ref());
    import.commit(config, Some(tag.as_str()))?;
    Ok(store.info(tag.as_str())?)
}

/// Makes an image of the layers of `reference` with another configuration, and calls it
/// `tag`. `change` is given the configuration that there was; `by` is what its history says
/// of the step, which has no layer.
///
/// The layers keep their digests and blobs; the documents that the image came with are not
/// kept, since they say what it was.
///
/// # Errors
///
/// [`TransferError::Store`], [`TransferError::Image`].
pub fn reconfigure(
    store: &Store,
    reference: &Reference,
    tag: &Reference,
    change: impl FnOnce(&mut ImageConfig),
    by: &str,
) -> Result<ImageInfo, TransferError> {
    let mut import = store.import()?;
    let (mut config, layers) = take_base(store, &mut import, reference.as_str())?;
    change(&mut config);
    name_layers(&mut config, layers);
    let mut step = HistoryEntry::by(by);
    step.empty_layer = true;
    config.history.push(step);
    import.commit(config, Some(tag.as_str()))?;
    Ok(store.info(tag.as_str())?)
}

/// Adds a step to the history for each layer that has none: it would be taken for one
/// that a later step made.
fn name_layers(config: &mut ImageConfig, layers: usize) {
    let steps = config.history.iter().filter(|step| !step.empty_layer);
    let unnamed = layers.saturating_sub(steps.count());
    let steps = std::iter::repeat_with(|| HistoryEntry::by("layer"));
    config.history.extend(steps.take(unnamed));
}
