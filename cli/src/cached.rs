//! What builds keep in the store for the next ones: images under names that nobody can type.

use stratafs::store::{ImageInfo, Store, StoreError};

use super::failure::Failure;

/// What the names of such images begin with. Names that are typed have small letters.
const PREFIX: &str = "BUILD/";

/// Returns the name of what is kept for a build.
pub(super) fn tag(kind: &str, key: impl std::fmt::Display) -> String {
    format!("{PREFIX}{kind}-{key}").replace("blake3:", "")
}

/// Returns whether a name is one of these.
pub(super) fn is_cached(tag: &str) -> bool {
    tag.starts_with(PREFIX)
}

/// Returns the names of an image that a person gave it.
pub(super) fn typed_tags(image: &ImageInfo) -> Vec<&String> {
    let all = image.tags.iter();
    all.filter(|tag| !is_cached(tag)).collect()
}

/// Returns whether an image is there for builds alone.
pub(super) fn is_for_builds(image: &ImageInfo) -> bool {
    !image.tags.is_empty() && typed_tags(image).is_empty()
}

/// Forgets what builds keep past `most` bytes of files, what was added first going first.
/// Returns how many names went, or would if it is `dry`. What nobody names any more goes with a
/// collection.
pub(super) fn trim(store: &Store, most: u64, dry: bool) -> Result<u64, Failure> {
    let mut images = store.list()?;
    images.reverse();
    let (mut bytes, mut forgotten) = (0_u64, 0);
    for image in images {
        if is_for_builds(&image) {
            bytes = bytes.saturating_add(image.logical_bytes);
        }
        if most > 0 && bytes <= most {
            continue;
        }
        for tag in image.tags.iter().filter(|tag| is_cached(tag)) {
            if dry {
                forgotten += 1;
                continue;
            }
            match store.untag(tag) {
                Ok(_) => forgotten += 1,
                // Another process has forgotten it meanwhile.
                Err(StoreError::NoImage(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(forgotten)
}
