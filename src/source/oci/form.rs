//! Which form of an image lies in a place, if any.

use serde_json::Value;

use super::blob::read_small;
use super::oci_source::OciSource;
use super::{OciImage, docker, flat, layout};
use crate::source::{SourceError, SourceErrorKind, SourceOptions};

/// What Docker wrote before it wrote `manifest.json`.
const REPOSITORIES: &str = "repositories";

/// Opens the image that lies in a place, or in the only directory there. `None`
/// if nothing there looks like an image.
pub(super) fn open(
    source: OciSource,
    options: &SourceOptions,
) -> Result<Option<OciImage>, SourceError> {
    if let Some(form) = ImageForm::of(&source)? {
        return form.open(source, options).map(Some);
    }
    let mut below = Vec::new();
    for (name, source) in source.below()? {
        match ImageForm::of(&source).map_err(|error| error.part(&name))? {
            Some(form) => below.push((name, source, form)),
            // A tree of files that has images among others.
            None => return Ok(None),
        }
    }
    let names: Vec<String> = below.iter().map(|(name, ..)| name.clone()).collect();
    match <[_; 1]>::try_from(below) {
        Ok([(_, source, form)]) => form.open(source, options).map(Some),
        Err(below) if below.is_empty() => Ok(None),
        Err(_) => {
            let names = names.join(", ");
            let reason = format!("several images, one in each of {names}: give one of these");
            Err(SourceErrorKind::Choice(reason).into())
        }
    }
}

#[derive(Clone, Copy)]
enum ImageForm {
    Layout,
    Docker,
    Flat,
}

impl ImageForm {
    /// Returns the form that lies here; an error for one that is not whole, or not
    /// read any more.
    fn of(source: &OciSource) -> Result<Option<Self>, SourceError> {
        if layout::is_here(source) {
            return Ok(Some(Self::Layout));
        }
        if docker::is_here(source) {
            return Ok(Some(Self::Docker));
        }
        if flat::is_here(source) {
            return Ok(Some(Self::Flat));
        }
        let refused = |reason: &str| Err(SourceErrorKind::Document(reason.into()).into());
        if is_before_manifests(source) {
            return refused(
                "an image as Docker before 1.10 saved it (`repositories`, no `manifest.json`): \
                 load it into a newer Docker or Podman, and save it again",
            );
        }
        if source.has_dir("blobs/sha256") {
            match (source.has(layout::MARK), source.has(layout::INDEX)) {
                (true, false) => return refused("an image layout without its `index.json`"),
                (false, true) => return refused("an image layout without its `oci-layout`"),
                _ => {}
            }
        }
        Ok(None)
    }

    fn open(self, source: OciSource, options: &SourceOptions) -> Result<OciImage, SourceError> {
        match self {
            Self::Layout => layout::open(source, options),
            Self::Docker => docker::open(source, options),
            Self::Flat => flat::open(source, options),
        }
    }
}

/// Returns whether `repositories` names a layer that lies beside it.
fn is_before_manifests(source: &OciSource) -> bool {
    let read = || {
        let found = source.open(REPOSITORIES).ok()??;
        let bytes = read_small(found.reader, found.size).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok()
    };
    let value = read();
    let tags = value.iter().filter_map(Value::as_object).flatten();
    let mut ids = tags
        .filter_map(|(_, tags)| tags.as_object())
        .flatten()
        .filter_map(|(_, id)| id.as_str());
    ids.any(|id| {
        let is_hex = id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex && !id.is_empty() && source.has(&format!("{id}/layer.tar"))
    })
}
