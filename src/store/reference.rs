//! How people name images: tags, digests, the beginnings of digests.

use super::StoreError;
use super::catalog::{CatalogView, RecordKind};
use super::import::digest_of;
use super::record::{ImageRecord, TagRecord};
use crate::digest::Digest;
use crate::image::ImageId;
use crate::limits::MAX_TAG_BYTES;

/// Digits of a digest that are taken for one when no tag is called so.
const MIN_DIGITS: usize = 6;

/// Checks that `tag` can be one.
pub(super) fn check(tag: &str) -> Result<(), StoreError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._/:@-".contains(&byte);
    let reason = if tag.is_empty() {
        "it is empty"
    } else if tag.len() > MAX_TAG_BYTES {
        "it is too long"
    } else if !tag.bytes().all(allowed) {
        "only letters, digits and `._/:@-` may be in it"
    } else if !tag.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        "it begins with neither a letter nor a digit"
    } else if tag.starts_with("blake3:") {
        "it looks like a digest"
    } else {
        return Ok(());
    };
    Err(StoreError::Tag {
        tag: tag.to_owned(),
        reason,
    })
}

/// Finds an image: by a tag, with or without `:latest`; by its digest; by the
/// beginning of that, if it is the only one.
pub(super) fn resolve(
    view: &CatalogView<'_>,
    reference: &str,
) -> Result<(ImageId, ImageRecord), StoreError> {
    let missing = || StoreError::NoImage(reference.to_owned());
    let id = match find_tag(view, reference)? {
        Some(id) => id,
        None => find_digest(view, reference)?.ok_or_else(missing)?,
    };
    let record = view.get(RecordKind::Image, id.as_bytes())?;
    Ok((id, record.ok_or_else(missing)?))
}

/// Returns a reference as the tag that it names, if it names one.
pub(super) fn find_tag(
    view: &CatalogView<'_>,
    reference: &str,
) -> Result<Option<ImageId>, StoreError> {
    Ok(tag_named(view, reference)?.map(|(_, id)| id))
}

pub(super) fn tag_named(
    view: &CatalogView<'_>,
    reference: &str,
) -> Result<Option<(String, ImageId)>, StoreError> {
    let other = match reference.strip_suffix(":latest") {
        Some(short) => short.to_owned(),
        None => format!("{reference}:latest"),
    };
    for tag in [reference, &other] {
        if let Some(record) = view.get::<TagRecord>(RecordKind::Tag, tag.as_bytes())? {
            return Ok(Some((tag.to_owned(), record.image)));
        }
    }
    Ok(None)
}

fn find_digest(view: &CatalogView<'_>, reference: &str) -> Result<Option<ImageId>, StoreError> {
    if let Ok(digest) = reference.parse::<Digest>() {
        return Ok(Some(digest));
    }
    let digits = reference.strip_prefix("blake3:").unwrap_or(reference);
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits.len() < MIN_DIGITS || !is_hex {
        return Ok(None);
    }
    let start = format!("blake3:{}", digits.to_ascii_lowercase());
    let images = view.all::<ImageRecord>(RecordKind::Image)?;
    let ids = images.iter().filter_map(|(key, _)| digest_of(key));
    let mut ids = ids.filter(|id| id.to_string().starts_with(&start));
    match (ids.next(), ids.next()) {
        (Some(_), Some(_)) => Err(StoreError::Ambiguous(reference.to_owned())),
        (found, _) => Ok(found),
    }
}
