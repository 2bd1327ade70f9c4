//! WebAssembly as an OCI artifact: a program where an image has layers
//! (`application/vnd.wasm.config.v0+json`, and one layer `application/wasm`, as
//! `wkg` and Spin write it), or among them, as runwasi has it.
//!
//! A program is no file of a tree. As a layer it has no entries; its bytes are
//! its blob.

use oci_spec::image::{Descriptor, ImageManifest};
use serde_json::Value;

use super::choose::{self, Candidate};
use super::document::{self, checked_digest};
use super::oci_source::OciSource;
use super::{Documents, LayerBlob, OciImage};
use crate::image::ImageConfig;
use crate::limits::MAX_ARTIFACT_BYTES;
use crate::source::{Platform, SourceError, SourceErrorKind};

/// What announces an artifact's configuration.
const CONFIGS: [&str; 2] = [
    "application/vnd.wasm.config.v0+json",
    "application/vnd.wasm.config.v1+json",
];

/// What announces a program.
const PROGRAMS: [&str; 4] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.w3c.wasm.module.v1+wasm",
];

/// What every program begins with.
pub(super) const MAGIC: &[u8; 4] = b"\0asm";

pub(super) fn is_config(media_type: &str) -> bool {
    CONFIGS.contains(&media_type)
}

/// Returns whether a layer of this media type is a program of WebAssembly.
pub(crate) fn is_program(media_type: &str) -> bool {
    PROGRAMS.contains(&media_type)
}

/// Opens an artifact.
pub(super) fn open(
    source: OciSource,
    chosen: Candidate,
    manifest_bytes: Vec<u8>,
    manifest: &ImageManifest,
) -> Result<OciImage, SourceError> {
    let part = format!("blob {}", chosen.descriptor.digest());
    let config_bytes = choose::blob(&source, manifest.config())?;
    let config: Value = serde_json::from_slice(&config_bytes).map_err(|error| {
        SourceError::from(document::bad(error))
            .part(format_args!("blob {}", manifest.config().digest()))
    })?;
    let program = program(&source, manifest.layers(), &config)
        .map_err(|kind| SourceError::from(kind).part(&part))?;
    let config = configuration(&config);
    let platform = chosen.platform.unwrap_or_else(|| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Platform::new(&text(&config.os), &text(&config.architecture), None)
    });
    Ok(OciImage {
        source,
        #[cfg(feature = "registry")]
        packs: None,
        layers: vec![program],
        platform,
        name: chosen.names.into_iter().next(),
        documents: Documents {
            manifest: Some(manifest_bytes),
            config: config_bytes,
        },
        config,
        spent: Default::default(),
    })
}

/// The one layer, if it is a program, and the one that the configuration names.
fn program(
    source: &OciSource,
    layers: &[Descriptor],
    config: &Value,
) -> Result<LayerBlob, SourceErrorKind> {
    let [layer] = layers else {
        let reason = format!(
            "an artifact of WebAssembly with {} layers: one program is expected",
            layers.len()
        );
        return Err(SourceErrorKind::Document(reason));
    };
    let media_type = layer.media_type().to_string();
    if !is_program(&media_type) {
        let reason = format!(
            "layer {}: {media_type}, where an artifact of WebAssembly has application/wasm",
            layer.digest()
        );
        return Err(SourceErrorKind::Document(reason));
    }
    let named = config.get("layerDigests").and_then(Value::as_array);
    let named: Vec<&str> = named
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !named.is_empty() && named != [layer.digest().as_ref()] {
        let reason = "its configuration and its manifest name other layers";
        return Err(SourceErrorKind::Document(reason.into()));
    }
    blob(source, layer, media_type)
}

/// The blob of a program: it is what it unpacks to.
pub(super) fn blob(
    source: &OciSource,
    layer: &Descriptor,
    media_type: String,
) -> Result<LayerBlob, SourceErrorKind> {
    if layer.size() > MAX_ARTIFACT_BYTES {
        return Err(SourceErrorKind::Limit {
            what: "bytes in a program",
            limit: MAX_ARTIFACT_BYTES,
        });
    }
    let digest = checked_digest(layer.digest().as_ref())?;
    Ok(LayerBlob {
        annotations: Default::default(),
        file: source.blob_file(&digest),
        size: layer.size(),
        diff_id: digest.clone(),
        digest: Some(digest),
        media_type,
        restricted: false,
    })
}

/// What an artifact says of itself, as far as images say it too.
fn configuration(config: &Value) -> ImageConfig {
    let text = |key| config.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut own = ImageConfig::new();
    own.created = text("created");
    own.author = text("author");
    own.os = text("os");
    own.architecture = text("architecture");
    own
}
