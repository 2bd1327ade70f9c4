//! OCI layouts and archives of `docker save`, built blob by blob.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::archive::Archive;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

/// A layout in a directory of its own.
pub(crate) struct Layout {
    dir: TempDir,
}

impl Layout {
    /// An empty layout, still without an index.
    pub(crate) fn new() -> Self {
        let layout = Self {
            dir: TempDir::new().unwrap(),
        };
        layout.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        fs::create_dir_all(layout.path().join("blobs/sha256")).unwrap();
        layout
    }

    /// A layout of one image of these layers.
    pub(crate) fn of(layers: &[Vec<u8>]) -> Self {
        let layout = Self::new();
        let image = layout.image(layers);
        layout.index(&[image]);
        layout
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).unwrap();
    }

    /// Where a blob lies.
    pub(crate) fn blob_path(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().unwrap();
        self.path().join("blobs").join(digest.replace(':', "/"))
    }

    /// Adds a blob and gives its descriptor.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        fs::write(self.blob_path(&descriptor), bytes).unwrap();
        descriptor
    }

    pub(crate) fn json(&self, media_type: &str, value: &Value) -> Value {
        self.blob(media_type, value.to_string().as_bytes())
    }

    /// Adds a layer, a plain tar, and gives its descriptor and `diff_id`.
    pub(crate) fn layer(&self, tar: &[u8]) -> (Value, String) {
        (self.blob(LAYER, tar), sha256(tar))
    }

    /// Adds an image of these layers, plain tars, and gives the descriptor of
    /// its manifest.
    pub(crate) fn image(&self, layers: &[Vec<u8>]) -> Value {
        self.image_for("linux", "amd64", layers)
    }

    pub(crate) fn image_for(&self, os: &str, architecture: &str, layers: &[Vec<u8>]) -> Value {
        let layers: Vec<_> = layers.iter().map(|tar| self.layer(tar)).collect();
        self.manifest(&config_for(os, architecture, &layers), &layers)
    }

    pub(crate) fn manifest(&self, config: &Value, layers: &[(Value, String)]) -> Value {
        let config = self.json(CONFIG, config);
        let layers: Vec<_> = layers.iter().map(|(descriptor, _)| descriptor).collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.json(MANIFEST, &manifest)
    }

    /// Writes `index.json`.
    pub(crate) fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.file("index.json", index.to_string().as_bytes());
    }

    /// The layout as a tar archive.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let mut names = vec!["index.json".to_owned(), "oci-layout".to_owned()];
        for blob in fs::read_dir(self.path().join("blobs/sha256")).unwrap() {
            let name = blob.unwrap().file_name().into_string().unwrap();
            names.push(format!("blobs/sha256/{name}"));
        }
        names.sort();
        let mut archive = Archive::new().dir("blobs").dir("blobs/sha256");
        for name in names {
            let bytes = fs::read(self.path().join(&name)).unwrap();
            archive = archive.with(super::archive::Head::new(b'0', &name), &bytes);
        }
        archive.end()
    }
}

/// A configuration for layers with these `diff_id`s.
pub(crate) fn config_for(os: &str, architecture: &str, layers: &[(Value, String)]) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id).collect();
    json!({"os": os, "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
}

pub(crate) fn config(layers: &[(Value, String)]) -> Value {
    config_for("linux", "amd64", layers)
}

/// A descriptor with a platform and a name.
pub(crate) fn described(
    descriptor: &Value,
    platform: Option<(&str, &str)>,
    name: Option<&str>,
) -> Value {
    let mut descriptor = descriptor.clone();
    if let Some((os, architecture)) = platform {
        descriptor["platform"] = json!({"os": os, "architecture": architecture});
    }
    if let Some(name) = name {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    }
    descriptor
}
