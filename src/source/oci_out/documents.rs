//! What a layout says of an image: configuration, manifest, index. Keys are
//! sorted, so that the same image gives the same bytes.

use serde_json::{Map, Value, json};

use crate::image::{HistoryEntry, ImageConfig};
use crate::source::BlobDigest;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const ARTIFACT_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(super) const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// What an image that says nothing of it is for: guests.
pub(super) const OS: &str = "wasip1";
pub(super) const ARCHITECTURE: &str = "wasm";

/// A blob of the layout.
pub(super) struct WrittenBlob {
    pub(super) digest: BlobDigest,
    pub(super) size: u64,
    pub(super) media_type: String,
    /// Of a layer: the digest of its tar.
    pub(super) diff_id: BlobDigest,
    /// What is said of it where it is named.
    pub(super) annotations: Vec<(&'static str, String)>,
    /// All of it in base64, if it is named together with its bytes.
    pub(super) data: Option<String>,
}

impl WrittenBlob {
    /// Names what is no archive: nothing is said of what it decompresses to.
    pub(super) fn of(bytes: &[u8], media_type: &str) -> Self {
        Self::plain(BlobDigest::of(bytes), bytes.len() as u64, media_type)
    }

    /// As [`of`](Self::of), of bytes that were hashed before.
    pub(super) fn plain(digest: BlobDigest, size: u64, media_type: &str) -> Self {
        Self {
            diff_id: digest.clone(),
            digest,
            size,
            media_type: media_type.to_owned(),
            annotations: Vec::new(),
            data: None,
        }
    }

    fn descriptor(&self) -> Value {
        let mut descriptor = json!({
            "mediaType": self.media_type,
            "digest": self.digest.as_str(),
            "size": self.size,
        });
        let annotations = self.annotations.iter();
        let annotations: Map<_, _> = annotations
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        if let (false, Some(descriptor)) = (annotations.is_empty(), descriptor.as_object_mut()) {
            descriptor.insert("annotations".into(), annotations.into());
        }
        if let (Some(data), Some(descriptor)) = (&self.data, descriptor.as_object_mut()) {
            descriptor.insert("data".into(), json!(data));
        }
        descriptor
    }
}

/// Returns the configuration: as it came in, if it was about these layers.
pub(super) fn config(
    config: &ImageConfig,
    kept: Option<Vec<u8>>,
    layers: &[WrittenBlob],
) -> (Vec<u8>, &'static str) {
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let kept = kept.filter(|kept| is_about(kept, &diff_ids));
    let config = kept.unwrap_or_else(|| made(config, &diff_ids).to_string().into_bytes());
    (config, CONFIG)
}

/// Returns the configuration of an image in packs, which names no layers: the manifest does.
#[cfg(feature = "registry")]
pub(super) fn packed_config(config: &ImageConfig) -> Vec<u8> {
    made(config, &[]).to_string().into_bytes()
}

/// Returns the manifest of an image in packs: its layers, what they copy from, and then its packs.
#[cfg(feature = "registry")]
pub(super) fn packed_manifest(config: &WrittenBlob, blobs: &[WrittenBlob]) -> WrittenManifest {
    let blobs: Vec<Value> = blobs.iter().map(WrittenBlob::descriptor).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": crate::source::packed::PACKED_IMAGE,
        "config": config.descriptor(),
        "layers": blobs,
    });
    (manifest.to_string().into_bytes(), MANIFEST)
}

/// A manifest and its media type.
#[cfg(feature = "registry")]
type WrittenManifest = (Vec<u8>, &'static str);

/// Returns the configuration of an artifact: as it came in, if it did.
pub(super) fn artifact(
    config: &ImageConfig,
    kept: Option<Vec<u8>>,
    layers: &[WrittenBlob],
) -> (Vec<u8>, &'static str) {
    let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let made = || {
        let mut out = Map::new();
        for (key, value) in [("created", &config.created), ("author", &config.author)] {
            out.extend(value.as_ref().map(|value| (key.to_owned(), json!(value))));
        }
        out.insert("os".into(), json!(config.os.as_deref().unwrap_or(OS)));
        let architecture = config.architecture.as_deref().unwrap_or(ARCHITECTURE);
        out.insert("architecture".into(), json!(architecture));
        out.insert("layerDigests".into(), json!(digests));
        Value::from(out).to_string().into_bytes()
    };
    (kept.unwrap_or_else(made), ARTIFACT_CONFIG)
}

fn is_about(config: &[u8], diff_ids: &[&str]) -> bool {
    let value: Option<Value> = serde_json::from_slice(config).ok();
    let listed = value
        .as_ref()
        .and_then(|value| value.pointer("/rootfs/diff_ids"));
    listed.is_some_and(|listed| *listed == json!(diff_ids))
}

fn made(config: &ImageConfig, diff_ids: &[&str]) -> Value {
    let mut out = Map::new();
    let mut set = |key: &str, value: &Option<String>| {
        out.extend(value.as_ref().map(|value| (key.to_owned(), json!(value))));
    };
    set("created", &config.created);
    set("author", &config.author);
    set("variant", &config.variant);
    out.insert("os".into(), json!(config.os.as_deref().unwrap_or(OS)));
    let architecture = config.architecture.as_deref().unwrap_or(ARCHITECTURE);
    out.insert("architecture".into(), json!(architecture));
    out.insert("config".into(), run(config));
    out.insert(
        "rootfs".into(),
        json!({"type": "layers", "diff_ids": diff_ids}),
    );
    let history = history(&config.history, diff_ids.len());
    if !history.is_empty() {
        out.insert("history".into(), history.into());
    }
    out.into()
}

/// How a program is started.
fn run(config: &ImageConfig) -> Value {
    let mut out = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        out.extend(value.map(|value| (key.to_owned(), value)));
    };
    let names = |names: &[String]| {
        let map: Map<_, _> = names.iter().map(|name| (name.clone(), json!({}))).collect();
        (!map.is_empty()).then(|| map.into())
    };
    set(
        "Entrypoint",
        config.entrypoint.as_ref().map(|words| json!(words)),
    );
    set("Cmd", config.cmd.as_ref().map(|words| json!(words)));
    set("Env", (!config.env.is_empty()).then(|| json!(config.env)));
    set(
        "WorkingDir",
        config.working_dir.as_ref().map(|text| json!(text)),
    );
    set("User", config.user.as_ref().map(|text| json!(text)));
    set(
        "StopSignal",
        config.stop_signal.as_ref().map(|text| json!(text)),
    );
    set("ExposedPorts", names(&config.exposed_ports));
    set("Volumes", names(&config.volumes));
    set(
        "Labels",
        (!config.labels.is_empty()).then(|| json!(config.labels)),
    );
    out.into()
}

/// Returns the history, one step for each layer at least: readers that show a
/// layer beside its step count on it. None at all is well, too.
fn history(steps: &[HistoryEntry], layers: usize) -> Vec<Value> {
    let with_layers = steps.iter().filter(|step| !step.empty_layer).count();
    let missing = match steps.is_empty() {
        true => 0,
        false => layers.saturating_sub(with_layers),
    };
    let filler = HistoryEntry::default();
    let all = steps.iter().chain(std::iter::repeat_n(&filler, missing));
    all.map(step).collect()
}

fn step(step: &HistoryEntry) -> Value {
    let mut out = Map::new();
    let texts = [
        ("created", &step.created),
        ("created_by", &step.created_by),
        ("author", &step.author),
        ("comment", &step.comment),
    ];
    for (key, value) in texts {
        out.extend(value.as_ref().map(|value| (key.to_owned(), json!(value))));
    }
    if step.empty_layer {
        out.insert("empty_layer".into(), json!(true));
    }
    out.into()
}

/// Returns the manifest and its media type: as it came in, if it was about
/// these blobs.
pub(super) fn manifest(
    kept: Option<Vec<u8>>,
    config: &WrittenBlob,
    layers: &[WrittenBlob],
) -> (Vec<u8>, String) {
    let fits = |kept: Vec<u8>| Some((is_of(&kept, config, layers)?, kept));
    if let Some((media_type, kept)) = kept.and_then(fits) {
        return (kept, media_type);
    }
    let layers: Vec<Value> = layers.iter().map(WrittenBlob::descriptor).collect();
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(),
        "layers": layers,
    });
    if let (true, Some(manifest)) = (
        config.media_type == ARTIFACT_CONFIG,
        manifest.as_object_mut(),
    ) {
        manifest.insert("artifactType".into(), json!(ARTIFACT_CONFIG));
    }
    (manifest.to_string().into_bytes(), MANIFEST.to_owned())
}

/// Returns the media type of a manifest of these blobs.
fn is_of(manifest: &[u8], config: &WrittenBlob, layers: &[WrittenBlob]) -> Option<String> {
    let value: Value = serde_json::from_slice(manifest).ok()?;
    let digest = |value: &Value| Some(value.get("digest")?.as_str()?.to_owned());
    let listed: Option<Vec<_>> = value
        .get("layers")?
        .as_array()?
        .iter()
        .map(digest)
        .collect();
    let have = layers.iter().map(|layer| layer.digest.as_str());
    let same = digest(value.get("config")?)? == config.digest.as_str()
        && listed?.iter().map(String::as_str).eq(have);
    let own = value.get("mediaType").and_then(Value::as_str);
    same.then(|| own.unwrap_or(MANIFEST).to_owned())
}

pub(super) fn index(manifest: &WrittenBlob, name: Option<&str>) -> Vec<u8> {
    let mut descriptor = manifest.descriptor();
    if let (Some(name), Some(map)) = (name, descriptor.as_object_mut()) {
        let annotations = json!({"org.opencontainers.image.ref.name": name});
        map.insert("annotations".into(), annotations);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]});
    index.to_string().into_bytes()
}

/// Returns an index of manifests, each for its platform.
#[cfg(feature = "registry")]
pub(super) fn index_of<'a>(
    manifests: impl Iterator<Item = (&'a WrittenBlob, &'a crate::source::Platform)>,
) -> Vec<u8> {
    let listed = manifests.map(|(manifest, platform)| {
        let mut descriptor = manifest.descriptor();
        let mut own = json!({"os": platform.os(), "architecture": platform.architecture()});
        if let (Some(variant), Some(own)) = (platform.variant(), own.as_object_mut()) {
            own.insert("variant".into(), json!(variant));
        }
        if let Some(map) = descriptor.as_object_mut() {
            map.insert("platform".into(), own);
        }
        descriptor
    });
    let listed: Vec<Value> = listed.collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
    index.to_string().into_bytes()
}
