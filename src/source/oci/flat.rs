//! What skopeo calls `dir:`: `version`, `manifest.json`, and blobs that are named
//! by the digits of their digest, all in one directory.

use oci_spec::image::MediaType;
use serde_json::Value;

use super::blob::read_small;
use super::choose::{self, Candidate};
use super::document::{self, Document};
use super::hash;
use super::layout;
use super::oci_source::OciSource;
use super::{OciImage, docker::MANIFEST};
use crate::source::{SourceError, SourceErrorKind, SourceOptions};

const VERSION: &str = "version";

/// What that file begins with.
const MARK: &[u8] = b"Directory Transport Version: ";

/// Returns whether such a directory lies here.
pub(super) fn is_here(source: &OciSource) -> bool {
    let begins = || {
        let found = source.open(VERSION).ok()??;
        let bytes = read_small(found.reader, found.size).ok()?;
        Some(bytes.starts_with(MARK))
    };
    source.has(MANIFEST) && begins() == Some(true)
}

/// Opens the image that `options` choose.
pub(super) fn open(source: OciSource, options: &SourceOptions) -> Result<OciImage, SourceError> {
    let source = source.flat();
    let bytes = manifest(&source).map_err(|error| error.part(MANIFEST))?;
    let media_type = media_type(&bytes).map_err(|kind| SourceError::from(kind).part(MANIFEST))?;
    let document = document::parse(&bytes, &media_type);
    match document.map_err(|kind| SourceError::from(kind).part(MANIFEST))? {
        Document::Index(index) => {
            let all = choose::candidates(&source, *index)?;
            let chosen = choose::choose(&source, all, options)?;
            let bytes = choose::blob(&source, &chosen.descriptor)?;
            layout::with_manifest(source, chosen, bytes)
        }
        Document::Manifest(_) => {
            let digest = hash::sha256(&bytes);
            let only = Candidate::only(media_type, &digest, bytes.len() as u64)?;
            let chosen = choose::the_only(&source, only, &bytes, options)?;
            layout::with_manifest(source, chosen, bytes)
        }
    }
}

fn manifest(source: &OciSource) -> Result<Vec<u8>, SourceError> {
    let found = source.open(MANIFEST)?.ok_or_else(choose::missing)?;
    read_small(found.reader, found.size)
}

/// What the document says that it is; older ones do not.
fn media_type(bytes: &[u8]) -> Result<MediaType, SourceErrorKind> {
    let value: Value = serde_json::from_slice(bytes).map_err(document::bad)?;
    Ok(match value.get("mediaType").and_then(Value::as_str) {
        Some(named) => MediaType::from(named),
        None if value.get("manifests").is_some() => MediaType::ImageIndex,
        None => MediaType::ImageManifest,
    })
}
