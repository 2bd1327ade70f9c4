//! Manifests and indexes: what they may say.
//!
//! One document must not be two things: a manifest with `manifests`, or whose
//! `mediaType` is not the one it was announced by, is refused, as readers
//! that choose differently would see different images (CVE-2021-41190).

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType, ToDockerV2S2};
use serde_json::Value;

use crate::source::BlobDigest;
use crate::source::SourceErrorKind;

/// What a manifest or an index turned out to be.
pub(super) enum Document {
    Index(Box<ImageIndex>),
    Manifest(Box<ImageManifest>),
}

/// What a media type announces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DocumentKind {
    Index,
    Manifest,
    Other,
}

impl DocumentKind {
    pub(super) fn of(media_type: &MediaType) -> Self {
        let is = |known: MediaType| {
            media_type == &known
                || known
                    .to_docker_v2s2()
                    .is_ok_and(|docker| media_type.as_ref() == docker)
        };
        if is(MediaType::ImageIndex) {
            Self::Index
        } else if is(MediaType::ImageManifest) {
            Self::Manifest
        } else {
            Self::Other
        }
    }
}

/// Reads a document that was announced as this media type.
pub(super) fn parse(bytes: &[u8], announced: &MediaType) -> Result<Document, SourceErrorKind> {
    let value: Value = serde_json::from_slice(bytes).map_err(bad)?;
    let has = |key: &str| value.get(key).is_some_and(|value| !value.is_null());
    let as_manifest = ["layers", "config", "fsLayers"]
        .into_iter()
        .find(|key| has(key));
    if let (Some(key), true) = (as_manifest, has("manifests")) {
        let reason =
            format!("it has both `manifests` and `{key}`: a manifest and an index at once");
        return Err(SourceErrorKind::Document(reason));
    }
    match value.get("schemaVersion").and_then(Value::as_u64) {
        Some(2) => {}
        Some(other) => {
            return Err(SourceErrorKind::Document(format!(
                "expected schemaVersion 2, found {other}"
            )));
        }
        None => return Err(SourceErrorKind::Document("it has no schemaVersion".into())),
    }
    let own = value.get("mediaType").and_then(Value::as_str);
    if let Some(own) = own.filter(|own| *own != announced.as_ref()) {
        let reason = format!("it was announced as {announced}, but its mediaType is {own}");
        return Err(SourceErrorKind::Document(reason));
    }
    check_digests(&value)?;
    match DocumentKind::of(announced) {
        DocumentKind::Index => serde_json::from_value(value)
            .map(Document::Index)
            .map_err(bad),
        DocumentKind::Manifest => serde_json::from_value(value)
            .map(Document::Manifest)
            .map_err(bad),
        DocumentKind::Other => Err(unknown(announced)),
    }
}

/// Looks at the digests before anything is made of them, so that a wrong one
/// is shown whole.
fn check_digests(value: &Value) -> Result<(), SourceErrorKind> {
    let list = |key: &str| value.get(key).and_then(Value::as_array);
    let lists = [list("manifests"), list("layers")]
        .into_iter()
        .flatten()
        .flatten();
    for descriptor in lists.chain(value.get("config")) {
        if let Some(digest) = descriptor.get("digest").and_then(Value::as_str) {
            checked_digest(digest)?;
        }
    }
    Ok(())
}

/// A media type that is none of an image's.
pub(super) fn unknown(media_type: &MediaType) -> SourceErrorKind {
    let known = "an OCI or Docker (schema 2) manifest or index";
    SourceErrorKind::Document(format!(
        "unknown media type {media_type}: {known} is expected"
    ))
}

pub(super) fn bad(error: serde_json::Error) -> SourceErrorKind {
    SourceErrorKind::Document(format!("malformed document: {error}"))
}

/// The digest of a descriptor, which is to be a name in a directory.
pub(super) fn digest_of(descriptor: &Descriptor) -> Result<BlobDigest, SourceErrorKind> {
    checked_digest(descriptor.digest().as_ref())
}

pub(super) fn checked_digest(text: &str) -> Result<BlobDigest, SourceErrorKind> {
    text.parse()
        .map_err(|error: crate::source::ParseBlobDigestError| {
            SourceErrorKind::Document(error.to_string())
        })
}

/// Returns whether a layer may have this media type, and whether its bytes may
/// have been left out for licence reasons.
pub(super) fn layer_type(media_type: &str) -> Option<Distribution> {
    let (free, bound) = (Some(Distribution::Free), Some(Distribution::Restricted));
    let oci = "application/vnd.oci.image.layer.";
    if let Some(rest) = media_type.strip_prefix(oci) {
        return match rest {
            "v1.tar" | "v1.tar+gzip" | "v1.tar+zstd" => free,
            "nondistributable.v1.tar"
            | "nondistributable.v1.tar+gzip"
            | "nondistributable.v1.tar+zstd" => bound,
            _ => None,
        };
    }
    match media_type.strip_prefix("application/vnd.docker.image.rootfs.") {
        Some("diff.tar" | "diff.tar.gzip" | "diff.tar.zstd") => free,
        Some("foreign.diff.tar" | "foreign.diff.tar.gzip") => bound,
        _ => None,
    }
}

/// Whether a registry may hand a layer on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Distribution {
    Free,
    Restricted,
}
