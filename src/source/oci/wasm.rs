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
use crate::source::{BlobDigest, Platform, SourceError, SourceErrorKind};

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

/// The program of an OCI artifact of WebAssembly, as its manifest names it: for hosts that have the
/// blobs of artifacts elsewhere than in a layout or a registry.
///
/// ```
/// use stratafs::source::ArtifactProgram;
///
/// let digest = "sha256:5647c39a1d25d8728350f9619025292a62e78a602068a2ad9b6f075751c93d99";
/// let manifest = format!(
///     r#"{{"schemaVersion": 2, "config": {{"mediaType": "application/vnd.wasm.config.v0+json",
///       "digest": "{digest}", "size": 2}},
///       "layers": [{{"mediaType": "application/wasm", "digest": "{digest}", "size": 36}}]}}"#
/// );
/// let program = ArtifactProgram::of_manifest(manifest.as_bytes())?.unwrap();
/// assert_eq!((program.digest.to_string(), program.size), (digest.to_owned(), 36));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArtifactProgram {
    /// The digest of its bytes.
    pub digest: BlobDigest,
    /// How many bytes it has.
    pub size: u64,
    /// The digest of the artifact's configuration, for [`check_config`](Self::check_config).
    pub config: BlobDigest,
}

impl ArtifactProgram {
    /// Reads the manifest of an artifact; `None` for that of anything else, such as an image.
    ///
    /// # Errors
    /// [`SourceErrorKind::Document`] if it is no manifest, if its layers are not one program, or
    /// if the digest is none; [`SourceErrorKind::Limit`] for a program of more than
    /// [`MAX_ARTIFACT_BYTES`].
    pub fn of_manifest(manifest: &[u8]) -> Result<Option<Self>, SourceError> {
        let manifest: ImageManifest = serde_json::from_slice(manifest).map_err(document::bad)?;
        if !is_config(manifest.config().media_type().as_ref()) {
            return Ok(None);
        }
        let layer = only_program(manifest.layers())?;
        if layer.size() > MAX_ARTIFACT_BYTES {
            return Err(too_large().into());
        }
        Ok(Some(Self {
            digest: checked_digest(layer.digest().as_ref())?,
            size: layer.size(),
            config: checked_digest(manifest.config().digest().as_ref())?,
        }))
    }

    /// Holds the program against the configuration of its artifact. Who knows artifacts by their
    /// configurations, as containerd's CRI does, has to do this: manifests that have one in common may
    /// name several programs.
    ///
    /// # Errors
    /// [`SourceErrorKind::Document`] if the bytes are no configuration, or if it does not name this
    /// program and nothing else (`layerDigests`).
    pub fn check_config(&self, config: &[u8]) -> Result<(), SourceError> {
        let config: Value = serde_json::from_slice(config).map_err(document::bad)?;
        if named(&config) == [self.digest.as_str()] {
            return Ok(());
        }
        let reason = format!(
            "expected a configuration that names the program {} alone (layerDigests), found another",
            self.digest
        );
        Err(SourceErrorKind::Document(reason).into())
    }
}

fn too_large() -> SourceErrorKind {
    SourceErrorKind::Limit {
        what: "bytes in a program",
        limit: MAX_ARTIFACT_BYTES,
    }
}

/// Returns the one layer, if it is a program.
fn only_program(layers: &[Descriptor]) -> Result<&Descriptor, SourceErrorKind> {
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
    Ok(layer)
}

/// Returns the digests of the layers that a configuration names.
fn named(config: &Value) -> Vec<&str> {
    let named = config.get("layerDigests").and_then(Value::as_array);
    let named = named.into_iter().flatten();
    named.filter_map(Value::as_str).collect()
}

/// Returns the one layer, if it is a program, and the one that the configuration names.
fn program(
    source: &OciSource,
    layers: &[Descriptor],
    config: &Value,
) -> Result<LayerBlob, SourceErrorKind> {
    let layer = only_program(layers)?;
    let named = named(config);
    if !named.is_empty() && named != [layer.digest().as_ref()] {
        let reason = "its configuration and its manifest name other layers";
        return Err(SourceErrorKind::Document(reason.into()));
    }
    blob(source, layer, layer.media_type().to_string())
}

/// The blob of a program: it is what it unpacks to.
pub(super) fn blob(
    source: &OciSource,
    layer: &Descriptor,
    media_type: String,
) -> Result<LayerBlob, SourceErrorKind> {
    if layer.size() > MAX_ARTIFACT_BYTES {
        return Err(too_large());
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

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:5647c39a1d25d8728350f9619025292a62e78a602068a2ad9b6f075751c93d99";

    fn manifest(config: &str, layers: &[(&str, &str, u64)]) -> Vec<u8> {
        let layers: Vec<_> = layers
            .iter()
            .map(|(ty, digest, size)| {
                serde_json::json!({"mediaType": ty, "digest": digest, "size": size})
            })
            .collect();
        let config = serde_json::json!({"mediaType": config, "digest": DIGEST, "size": 2});
        let all = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
        all.to_string().into_bytes()
    }

    #[test]
    fn a_manifest_names_the_program_of_an_artifact_and_of_nothing_else() {
        for ty in PROGRAMS {
            for config in CONFIGS {
                let found = ArtifactProgram::of_manifest(&manifest(config, &[(ty, DIGEST, 36)]));
                let found = found.unwrap().unwrap();
                assert_eq!(
                    (found.digest.to_string().as_str(), found.size),
                    (DIGEST, 36)
                );
            }
        }
        let image = "application/vnd.oci.image.config.v1+json";
        let found = ArtifactProgram::of_manifest(&manifest(image, &[(PROGRAMS[0], DIGEST, 36)]));
        assert_eq!(found.unwrap(), None);
    }

    #[test]
    fn a_configuration_has_to_name_the_program_and_nothing_else() {
        let found =
            ArtifactProgram::of_manifest(&manifest(CONFIGS[0], &[(PROGRAMS[0], DIGEST, 36)]));
        let program = found.unwrap().unwrap();
        assert_eq!(program.config.as_str(), DIGEST);
        let other = DIGEST.replace('5', "6");
        let named = |digests: &[&str]| serde_json::json!({ "layerDigests": digests }).to_string();
        program.check_config(named(&[DIGEST]).as_bytes()).unwrap();
        for config in [
            named(&[]),
            named(&[&other]),
            named(&[DIGEST, DIGEST]),
            named(&[DIGEST, &other]),
            "{}".to_owned(),
            format!(r#"{{"layerDigests": "{DIGEST}"}}"#),
            "[".to_owned(),
            String::new(),
        ] {
            assert!(program.check_config(config.as_bytes()).is_err(), "{config}");
        }
    }

    #[test]
    fn manifests_of_artifacts_that_are_not_one_program_are_refused() {
        let one = (PROGRAMS[0], DIGEST, 36);
        for (layers, words) in [
            (vec![], "0 layers"),
            (vec![one, one], "2 layers"),
            (vec![("application/x-tar", DIGEST, 36)], "application/x-tar"),
            (
                vec![(PROGRAMS[0], DIGEST, MAX_ARTIFACT_BYTES + 1)],
                "bytes in a program",
            ),
            (
                vec![(PROGRAMS[0], "sha256:../../etc/passwd", 36)],
                "../../etc/passwd",
            ),
        ] {
            let refused = ArtifactProgram::of_manifest(&manifest(CONFIGS[0], &layers));
            let error = refused.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        for bytes in [&b""[..], b"{}", b"[1]", b"\0asm"] {
            assert!(ArtifactProgram::of_manifest(bytes).is_err());
        }
    }
}
