//! Completing images that were pulled in part.

use super::origins::Origins;
use super::pull::{PullOptions, bring};
use super::{TransferError, lazy};
use crate::image::Reference;
use crate::store::{AbsentStat, Store};

/// Returns whether another home may have what this one did not bring.
fn is_of_home(error: &TransferError) -> bool {
    match error {
        TransferError::Registry(_) | TransferError::Source(_) | TransferError::Place(_) => true,
        #[cfg(feature = "object")]
        TransferError::Object(_) => true,
        _ => false,
    }
}

/// Fetches all that is not here of an image, from where it was pulled last, or else from its other homes, and holds each layer's archive
/// against the table that it was pulled by. Returns what was not here. `origins` is a client of registries, or
/// [`Origins`].
///
/// Blobs are fetched whole, as [`pull`](super::pull) does: what comes of them stays if this ends
/// before its time, and the next time goes on there. Guests that run on the image find what has
/// come.
///
/// # Errors
///
/// As [`pull`](super::pull); [`TransferError::TwoFaces`] for an image whose table and archive
/// differ: its names are gone then.
pub fn fill(
    store: &Store,
    origins: impl Into<Origins>,
    reference: &Reference,
    options: &PullOptions,
) -> Result<AbsentStat, TransferError> {
    let _in_use = store.mark_used(reference.as_str())?;
    let id = store.resolve(reference.as_str())?;
    let text = id.to_string();
    let absent = store.absent(&text)?;
    if absent.is_whole() {
        store.finish_packs(id)?;
        return Ok(absent);
    }
    let before = store.image(&text)?;
    let origins: Origins = origins.into();
    lazy::fetch_from(store, origins.clone())?;
    let whole = PullOptions {
        lazy: false,
        ..options.clone()
    };
    let blobs = store.blobs_from(&text)?;
    if blobs.is_empty() {
        // An image in packs, or one that was made of another's files.
        store.bring_packs(&text)?;
    }
    for names in blobs {
        let mut failed = None;
        for name in &names {
            let brought = origins.find(name).and_then(|origin| {
                let manifest = origin.top()?;
                bring(store, origin, manifest, None, &whole)
            });
            match brought {
                Ok(_) => {
                    failed = None;
                    break;
                }
                Err(error) if is_of_home(&error) => {
                    tracing::debug!(%error, name, "a home that has it not");
                    failed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(()), Err)?;
    }
    // Each archive has come, and proved its layer, unless it is another one than the table told of.
    let by_table = store.layers_by_table()?;
    let info = store.info(&text)?;
    let pairs = info.layers.iter();
    let mut pairs = pairs.filter_map(|layer| Some((layer.origin.blob?, layer.digest)));
    if let Some((blob, _)) = pairs.find(|pair| by_table.contains(pair)) {
        lazy::refuse(store, &info)?;
        return Err(TransferError::TwoFaces(blob.to_string()));
    }
    lazy::held(store, id, &before)?;
    Ok(absent)
}
