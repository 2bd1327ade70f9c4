//! An OCI image layout: `oci-layout`, `index.json`, and blobs by digest.

use oci_spec::image::{ImageConfiguration, ImageManifest, MediaType, ToDockerV2S2};
use serde_json::Value;

use super::blob::{read_small, same_digest};
use super::choose::{self, Candidate};
use super::document::{self, Distribution, Document};
use super::oci_source::OciSource;
use super::{Documents, LayerBlob, OciImage, config, wasm};
use crate::limits::MAX_LAYERS;
use crate::source::BlobDigest;
use crate::source::{Platform, SourceError, SourceErrorKind, SourceOptions};

pub(super) const MARK: &str = "oci-layout";
pub(super) const INDEX: &str = "index.json";

/// The version of layouts that there is.
const VERSION: &str = "1.0.0";

/// Returns whether a layout lies here.
pub(super) fn is_here(source: &OciSource) -> bool {
    source.has(MARK) && source.has(INDEX)
}

/// Opens the image that `options` choose.
pub(super) fn open(source: OciSource, options: &SourceOptions) -> Result<OciImage, SourceError> {
    check_version(&source).map_err(|error| error.part(MARK))?;
    let index = top_index(&source).map_err(|error| error.part(INDEX))?;
    let all = choose::candidates(&source, index)?;
    let chosen = choose::choose(&source, all, options)?;
    let manifest_bytes = choose::blob(&source, &chosen.descriptor)?;
    with_manifest(source, chosen, manifest_bytes)
}

/// Opens the image of a manifest, or the one that `options` choose of an index.
#[cfg(feature = "registry")]
pub(super) fn remote(
    source: OciSource,
    (media_type, digest, bytes): (&str, &BlobDigest, Vec<u8>),
    options: &SourceOptions,
) -> Result<OciImage, SourceError> {
    let media_type = MediaType::from(media_type);
    let document = document::parse(&bytes, &media_type)
        .map_err(|kind| SourceError::from(kind).part(format_args!("blob {digest}")))?;
    match document {
        Document::Index(index) => {
            let all = choose::candidates(&source, *index)?;
            let chosen = choose::choose(&source, all, options)?;
            let bytes = choose::blob(&source, &chosen.descriptor)?;
            with_manifest(source, chosen, bytes)
        }
        Document::Manifest(_) => {
            let only = Candidate::only(media_type, digest, bytes.len() as u64)?;
            let chosen = choose::the_only(&source, only, &bytes, options)?;
            with_manifest(source, chosen, bytes)
        }
    }
}

/// Opens the image of a manifest that has been read.
pub(super) fn with_manifest(
    source: OciSource,
    chosen: Candidate,
    manifest_bytes: Vec<u8>,
) -> Result<OciImage, SourceError> {
    let part = format!("blob {}", chosen.descriptor.digest());
    let manifest =
        manifest(&manifest_bytes, &chosen).map_err(|kind| SourceError::from(kind).part(&part))?;
    if wasm::is_config(manifest.config().media_type().as_ref()) {
        return wasm::open(source, chosen, manifest_bytes, &manifest);
    }
    #[cfg(feature = "registry")]
    if super::packed::is_config(manifest.config().media_type().as_ref()) {
        return super::packed::open(source, chosen, manifest_bytes, &manifest);
    }
    let config_bytes = choose::blob(&source, manifest.config())?;
    let config = read_config(&config_bytes).map_err(|kind| {
        SourceError::from(kind).part(format_args!("blob {}", manifest.config().digest()))
    })?;
    let layers =
        layers(&source, &manifest, &config).map_err(|kind| SourceError::from(kind).part(&part))?;
    Ok(OciImage {
        source,
        #[cfg(feature = "registry")]
        packs: None,
        layers,
        platform: platform(&config, chosen.platform),
        name: chosen.names.into_iter().next(),
        documents: Documents {
            manifest: Some(manifest_bytes),
            config: config_bytes,
        },
        config: config::read(&config),
        spent: Default::default(),
    })
}

fn check_version(source: &OciSource) -> Result<(), SourceError> {
    let found = source.open(MARK)?.ok_or_else(choose::missing)?;
    let bytes = read_small(found.reader, found.size)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(document::bad)?;
    match value.get("imageLayoutVersion").and_then(Value::as_str) {
        Some(VERSION) => Ok(()),
        Some(other) => Err(SourceErrorKind::Document(format!(
            "layout version {other:?}: {VERSION} is known"
        ))
        .into()),
        None => Err(SourceErrorKind::Document("it has no imageLayoutVersion".into()).into()),
    }
}

pub(super) fn top_index(source: &OciSource) -> Result<oci_spec::image::ImageIndex, SourceError> {
    let found = source.open(INDEX)?.ok_or_else(choose::missing)?;
    let bytes = read_small(found.reader, found.size)?;
    match document::parse(&bytes, &MediaType::ImageIndex)? {
        Document::Index(index) => Ok(*index),
        Document::Manifest(_) => Err(SourceErrorKind::Document(
            "expected an image index, found a manifest".into(),
        )
        .into()),
    }
}

fn manifest(bytes: &[u8], chosen: &Candidate) -> Result<ImageManifest, SourceErrorKind> {
    let Document::Manifest(manifest) = document::parse(bytes, chosen.descriptor.media_type())?
    else {
        return Err(SourceErrorKind::Document(
            "expected a manifest, found an image index".into(),
        ));
    };
    let config = manifest.config().media_type();
    let docker = MediaType::ImageConfig.to_docker_v2s2();
    let known = config == &MediaType::ImageConfig || docker == Ok(config.as_ref());
    #[cfg(feature = "registry")]
    let known = known || super::packed::is_config(config.as_ref());
    if !known && !wasm::is_config(config.as_ref()) {
        let reason = format!("its config is {config}: an artifact, no image");
        return Err(SourceErrorKind::Document(reason));
    }
    Ok(*manifest)
}

/// Reads an image's configuration.
pub(super) fn read_config(bytes: &[u8]) -> Result<ImageConfiguration, SourceErrorKind> {
    serde_json::from_slice(bytes).map_err(document::bad)
}

pub(super) fn platform(config: &ImageConfiguration, announced: Option<Platform>) -> Platform {
    announced.unwrap_or_else(|| {
        Platform::new(
            &config.os().to_string(),
            &config.architecture().to_string(),
            config.variant().as_deref(),
        )
    })
}

/// Puts layers and the digests of what they hold together.
fn layers(
    source: &OciSource,
    manifest: &ImageManifest,
    config: &ImageConfiguration,
) -> Result<Vec<LayerBlob>, SourceErrorKind> {
    let diff_ids = diff_ids(config, manifest.layers().len())?;
    let pairs = manifest.layers().iter().zip(diff_ids);
    pairs
        .map(|(descriptor, diff_id)| {
            let media_type = descriptor.media_type().to_string();
            if wasm::is_program(&media_type) {
                let program = wasm::blob(source, descriptor, media_type)?;
                same_digest(&diff_id, program.diff_id.to_string())?;
                return Ok(program);
            }
            let distribution = document::layer_type(&media_type).ok_or_else(|| {
                let reason = format!(
                    "layer {}: {media_type} is not the media type of a layer",
                    descriptor.digest()
                );
                SourceErrorKind::Document(reason)
            })?;
            let digest = document::digest_of(descriptor)?;
            Ok(LayerBlob {
                file: source.blob_file(&digest),
                restricted: distribution == Distribution::Restricted,
                size: descriptor.size(),
                digest: Some(digest),
                annotations: descriptor.annotations().clone().unwrap_or_default(),
                media_type,
                diff_id,
            })
        })
        .collect()
}

/// The digests of the layers once decompressed: one for each.
pub(super) fn diff_ids(
    config: &ImageConfiguration,
    layers: usize,
) -> Result<Vec<BlobDigest>, SourceErrorKind> {
    let texts = config.rootfs().diff_ids();
    if texts.len() != layers {
        let reason = format!(
            "{layers} layers, and {} diff_ids in the configuration",
            texts.len()
        );
        return Err(SourceErrorKind::Document(reason));
    }
    if layers > MAX_LAYERS {
        let limit = MAX_LAYERS as u64;
        return Err(SourceErrorKind::Limit {
            what: "layers",
            limit,
        });
    }
    texts
        .iter()
        .map(|text| document::checked_digest(text))
        .collect()
}
