//! Images written as OCI layouts: what is read back is what was written.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;
use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::{HistoryEntry, ImageConfig};
use stratafs::layer::{Layer, LayerBuilder};
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::source::BlobDigest;
use stratafs::source::{
    Compression, OciExport, OciExportError, OciImage, OutLayer, SourceOptions, open,
};

use crate::support::archive::Archive;
use crate::support::generator;
use crate::support::layout::{Layout, gzip, sha256};
use crate::support::rng::Rng;
use crate::support::tree::layer_of;

const WAYS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

/// An image of layers that have no blob.
fn export<'a>(
    layers: &[Layer],
    config: &'a ImageConfig,
    compression: Compression,
) -> OciExport<'a> {
    OciExport {
        artifact: false,
        name: Some("test"),
        layers: layers.iter().cloned().map(OutLayer::Layer).collect(),
        config,
        config_bytes: None,
        manifest_bytes: None,
        compression,
    }
}

fn archive(export: OciExport<'_>) -> Result<Vec<u8>, OciExportError> {
    let scratch = tempfile::tempdir().unwrap();
    let out = export.write_archive(Vec::new(), scratch.path());
    let left: Vec<_> = fs::read_dir(scratch.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?} is left");
    out
}

fn read(path: &Path) -> Vec<Layer> {
    open(&ChunkPool::new(), path, &SourceOptions::default()).unwrap()
}

fn read_archive(bytes: &[u8]) -> Vec<Layer> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    fs::write(&path, bytes).unwrap();
    read(&path)
}

fn digests(layers: &[Layer]) -> Vec<String> {
    layers
        .iter()
        .map(|layer| layer.digest().to_string())
        .collect()
}

/// Layers at random, the lowest first.
fn layers(seed: u64) -> Vec<Layer> {
    let pool = ChunkPool::new();
    let mut rng = Rng::new(seed);
    (0..rng.below(4))
        .map(|_| layer_of(&pool, &generator::layer(&mut rng, &[])).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read_back(seed: u64, way in 0..3_usize) {
        let (layers, config) = (layers(seed), ImageConfig::new());
        let bytes = archive(export(&layers, &config, WAYS[way])).unwrap();
        prop_assert_eq!(digests(&read_archive(&bytes)), digests(&layers));

        let dir = tempfile::tempdir().unwrap();
        export(&layers, &config, WAYS[way]).write_dir(dir.path()).unwrap();
        prop_assert_eq!(digests(&read(dir.path())), digests(&layers));

        let again = archive(export(&layers, &config, WAYS[way])).unwrap();
        prop_assert_eq!(bytes, again, "the same image gives the same bytes");
    }
}

/// A configuration that says something of everything.
fn full() -> ImageConfig {
    let text = |text: &str| Some(text.to_owned());
    let mut config = ImageConfig::new();
    config.created = text("2024-01-02T03:04:05Z");
    config.author = text("A. U. Thor");
    config.os = text("linux");
    config.architecture = text("arm");
    config.variant = text("v7");
    config.entrypoint = Some(vec!["/app.wasm".into(), "--flag".into()]);
    config.cmd = Some(vec![]);
    config.env = vec!["A=1".into(), "B=x=y".into()];
    config.working_dir = text("/srv");
    config.user = text("1:2");
    config.stop_signal = text("SIGTERM");
    config.exposed_ports = vec!["53/udp".into(), "80/tcp".into()];
    config.volumes = vec!["/data".into()];
    config.labels = [("k".to_owned(), "v \u{e9}".to_owned())].into();
    let mut step = HistoryEntry::by("COPY . /");
    step.comment = text("why");
    step.author = text("who");
    step.created = text("2024-01-02T03:04:05Z");
    let mut empty = HistoryEntry::by("ENV A=1");
    empty.empty_layer = true;
    config.history = vec![step, empty];
    config
}

#[test]
fn a_configuration_comes_back_as_it_went() {
    for config in [full(), {
        let mut least = ImageConfig::new();
        least.os = Some("wasip1".into());
        least.architecture = Some("wasm".into());
        least
    }] {
        let layer = layer_of(&ChunkPool::new(), &[]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        export(&[layer], &config, Compression::None)
            .write_dir(dir.path())
            .unwrap();
        let image = OciImage::open(dir.path(), &SourceOptions::default())
            .unwrap()
            .unwrap();
        assert_eq!(*image.config(), config);
        assert_eq!(image.name(), Some("test"));
    }
}

#[test]
fn a_layer_without_a_step_gets_one() {
    let layer = layer_of(&ChunkPool::new(), &[]).unwrap();
    let config = full();
    let dir = tempfile::tempdir().unwrap();
    export(&[layer.clone(), layer], &config, Compression::None)
        .write_dir(dir.path())
        .unwrap();
    let image = OciImage::open(dir.path(), &SourceOptions::default())
        .unwrap()
        .unwrap();
    let told = image
        .config()
        .history
        .iter()
        .filter(|step| !step.empty_layer);
    assert_eq!(told.count(), 2);
    // Equal layers are one blob.
    let blobs = fs::read_dir(dir.path().join("blobs/sha256")).unwrap();
    assert_eq!(blobs.count(), 3);
}

/// A foreign image, and what is needed to write it as it came.
fn foreign() -> (Layout, Vec<u8>) {
    let layout = Layout::new();
    let tar = Archive::new().file("f", "x").end();
    let blob = gzip(&tar);
    let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    let layers = [(layout.blob(media_type, &blob), sha256(&tar))];
    let mut config = crate::support::layout::config(&layers);
    config["config"] = serde_json::json!({"Healthcheck": {"Test": ["NONE"]}});
    layout.index(&[layout.manifest(&config, &layers)]);
    (layout, blob)
}

fn as_it_came<'a>(image: &'a OciImage, blob: &[u8]) -> OciExport<'a> {
    let blobs = image.layers().iter().map(|layer| {
        let bytes = blob.to_vec();
        OutLayer::Blob {
            digest: layer.digest().unwrap().clone(),
            size: layer.size(),
            media_type: layer.media_type().to_owned(),
            diff_id: layer.diff_id().clone(),
            open: Box::new(move || Ok(Box::new(Cursor::new(bytes.clone())))),
        }
    });
    OciExport {
        artifact: false,
        name: None,
        layers: blobs.collect(),
        config: image.config(),
        config_bytes: Some(image.config_bytes().to_vec()),
        manifest_bytes: image.manifest_bytes().map(<[u8]>::to_vec),
        compression: Compression::Zstd,
    }
}

#[test]
fn what_came_as_a_blob_goes_out_as_that_blob() {
    let (layout, blob) = foreign();
    let image = OciImage::open(layout.path(), &SourceOptions::default())
        .unwrap()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    as_it_came(&image, &blob).write_dir(dir.path()).unwrap();
    let names = |dir: &Path| {
        let names = fs::read_dir(dir.join("blobs/sha256")).unwrap();
        let mut names: Vec<_> = names.map(|name| name.unwrap().file_name()).collect();
        names.sort();
        names
    };
    // Manifest, configuration and layer, all under their own digests.
    assert_eq!(names(dir.path()), names(layout.path()));
    let index = |dir: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap()
    };
    assert_eq!(
        index(dir.path())["manifests"],
        index(layout.path())["manifests"]
    );
    let bytes = archive(as_it_came(&image, &blob)).unwrap();
    assert_eq!(
        digests(&read_archive(&bytes)),
        digests(&read(layout.path()))
    );
}

#[test]
fn documents_that_are_about_other_layers_do_not_go_out() {
    let (layout, blob) = foreign();
    let image = OciImage::open(layout.path(), &SourceOptions::default())
        .unwrap()
        .unwrap();
    let mut changed = as_it_came(&image, &blob);
    let layer = layer_of(&ChunkPool::new(), &[]).unwrap();
    changed.layers.push(OutLayer::Layer(layer));
    let dir = tempfile::tempdir().unwrap();
    changed.write_dir(dir.path()).unwrap();
    let again = OciImage::open(dir.path(), &SourceOptions::default())
        .unwrap()
        .unwrap();
    assert_eq!(again.layers().len(), 2);
    assert_eq!(again.layers()[0].digest().unwrap().as_str(), sha256(&blob));
    assert_ne!(again.config_bytes(), image.config_bytes());
    assert_eq!(again.config(), image.config());
}

#[test]
fn a_blob_that_is_damaged_does_not_go_out() {
    let (layout, blob) = foreign();
    let image = OciImage::open(layout.path(), &SourceOptions::default())
        .unwrap()
        .unwrap();
    let digest: BlobDigest = sha256(&blob).parse().unwrap();
    let mut wrong = blob.clone();
    wrong[20] ^= 1;
    for bad in [&wrong[..], &blob[1..], &[&blob[..], b"!"].concat()] {
        let text = match archive(as_it_came(&image, bad)) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        };
        assert!(text.contains(digest.hex()), "{text}");
        let dir = tempfile::tempdir().unwrap();
        assert!(as_it_came(&image, bad).write_dir(dir.path()).is_err());
        // Nothing that could be taken for a layout is left.
        assert!(!dir.path().join("index.json").exists());
    }
}

#[test]
fn case_c1_26_a_name_that_would_be_a_whiteout_is_named() {
    let pool = ChunkPool::new();
    let mut builder = LayerBuilder::new();
    let path = LayerPath::parse(b"d/.wh.x").unwrap();
    let content = ContentBuilder::of(&pool, b"");
    builder
        .file(&path, Meta::with_mode(0o644), content)
        .unwrap();
    let layer = builder.finish().unwrap();
    let config = ImageConfig::new();
    let export = export(std::slice::from_ref(&layer), &config, Compression::None);
    let error = archive(export).map(drop).unwrap_err().to_string();
    for part in [&layer.digest().to_string(), "d/.wh.x", "whiteout"] {
        assert!(error.contains(part), "{error}");
    }
}
