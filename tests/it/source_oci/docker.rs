//! Archives of `docker save`.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use stratafs::source::SourceOptions;
use tempfile::TempDir;

use super::{TWO, listed, refused, refused_with, two_layers};
use crate::support::archive::{Archive, Head};
use crate::support::layout::{Layout, config, gzip, sha256};

/// A saved image: the configuration's file, and the layers' with their bytes.
struct Saved {
    dir: TempDir,
    config: Vec<u8>,
    config_name: String,
    layers: Vec<(String, Vec<u8>)>,
    tags: Value,
}

impl Saved {
    fn new() -> Self {
        let diff_ids: Vec<_> = two_layers()
            .iter()
            .map(|tar| (Value::Null, sha256(tar)))
            .collect();
        let config = config(&diff_ids).to_string().into_bytes();
        Self {
            dir: TempDir::new().unwrap(),
            config_name: format!("{}.json", &sha256(&config)[7..]),
            config,
            layers: two_layers()
                .into_iter()
                .map(|tar| {
                    (
                        format!("{}/layer.tar", "ab".repeat(31) + &sha256(&tar)[69..]),
                        tar,
                    )
                })
                .collect(),
            tags: json!(["app:1"]),
        }
    }

    fn manifest(&self) -> Value {
        let layers: Vec<_> = self.layers.iter().map(|(name, _)| name).collect();
        json!([{"Config": self.config_name, "RepoTags": self.tags, "Layers": layers}])
    }

    fn archive(&self, manifest: &Value) -> Archive {
        let mut archive = Archive::new();
        for (name, bytes) in &self.layers {
            archive = archive.with(Head::new(b'0', name), bytes);
        }
        archive
            .with(Head::new(b'0', &self.config_name), &self.config)
            .file("manifest.json", &manifest.to_string())
            .file("repositories", "{}")
    }

    fn path(&self, archive: &[u8]) -> PathBuf {
        let path = self.dir.path().join("x.tar");
        fs::write(&path, archive).unwrap();
        path
    }
}

#[test]
fn a_saved_image_is_its_layers() {
    let saved = Saved::new();
    let archive = saved.archive(&saved.manifest()).end();
    assert_eq!(listed(&saved.path(&archive)), TWO);
    assert_eq!(listed(&saved.path(&gzip(&archive))), TWO);
}

#[test]
fn a_layer_that_was_saved_before_is_a_link() {
    // Docker writes such a link for a layer of two images, skopeo for all.
    let saved = Saved::new();
    let first = &saved.layers[0].0;
    let linked = format!("{}/layer.tar", "cd".repeat(32));
    let mut manifest = saved.manifest();
    manifest[0]["Layers"][0] = json!(linked);
    let archive = saved.archive(&manifest);
    let with = |archive: Archive| saved.path(&archive.end());
    assert_eq!(
        listed(&with(
            archive.clone().symlink(&linked, format!("../{first}"))
        )),
        TWO
    );
    assert_eq!(
        listed(&with(archive.clone().hard_link(&linked, first))),
        TWO
    );
    refused(
        &with(archive.clone().symlink(&linked, "../../etc/passwd")),
        &["not there"],
    );
    refused(
        &with(archive.symlink(&linked, "layer.tar")),
        &["links without an end"],
    );
}

#[test]
fn the_new_form_is_a_layout_as_well() {
    let layout = Layout::of(&two_layers());
    let bytes = layout.archive();
    let index: Value =
        serde_json::from_slice(&fs::read(layout.path().join("index.json")).unwrap()).unwrap();
    let manifest: Value =
        serde_json::from_slice(&fs::read(layout.blob_path(&index["manifests"][0])).unwrap())
            .unwrap();
    let file = |descriptor: &Value| {
        format!(
            "blobs/{}",
            descriptor["digest"].as_str().unwrap().replace(':', "/")
        )
    };
    let layers: Vec<_> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(file)
        .collect();
    let saved =
        json!([{"Config": file(&manifest["config"]), "RepoTags": ["app:1"], "Layers": layers}]);
    let with_manifest = Archive::new().file("manifest.json", &saved.to_string());
    let both = [&with_manifest.0[..], &bytes].concat();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.tar");
    fs::write(&path, both).unwrap();
    assert_eq!(listed(&path), TWO);
}

#[test]
fn what_is_saved_is_verified() {
    let mut saved = Saved::new();
    let manifest = saved.manifest();
    let diff_id = sha256(&saved.layers[1].1);
    saved.layers[1].1 = Archive::new().file("evil", "x").end();
    let path = saved.path(&saved.archive(&manifest).end());
    refused(&path, &[&diff_id, "expected ", &sha256(&saved.layers[1].1)]);

    let mut saved = Saved::new();
    saved.config = String::from_utf8(saved.config)
        .unwrap()
        .replace("amd64", "arm64")
        .into_bytes();
    let path = saved.path(&saved.archive(&manifest).end());
    refused(&path, &[&saved.config_name, "expected the digest"]);
    // Under a name that is no digest it is taken as it is.
    saved.config_name = "config.json".into();
    let path = saved.path(&saved.archive(&saved.manifest()).end());
    assert_eq!(listed(&path), TWO);
}

#[test]
fn several_images_need_a_name() {
    let saved = Saved::new();
    let mut manifest = saved.manifest();
    let mut second = manifest[0].clone();
    second["RepoTags"] = json!(["other:2", "also:3"]);
    // The same image again is no second one.
    manifest.as_array_mut().unwrap().push(second.clone());
    let same = saved.path(&saved.archive(&manifest).end());
    assert_eq!(listed(&same), TWO);
    manifest.as_array_mut().unwrap().pop();
    second["Layers"].as_array_mut().unwrap().reverse();
    manifest.as_array_mut().unwrap().push(second);
    let path = saved.path(&saved.archive(&manifest).end());
    refused(
        &path,
        &["several images", "--image-name", "app:1", "other:2"],
    );
    let name = |name: &str| SourceOptions {
        name: Some(name.to_owned()),
        ..SourceOptions::default()
    };
    assert_eq!(super::read_with(&path, &name("app:1")).unwrap().len(), 2);
    // The reversed one is found, and is not what its configuration says.
    refused_with(&path, &name("docker.io/library/also:3"), &["expected "]);
    refused_with(&path, &name("none"), &["no image named none", "app:1"]);
    let platform = SourceOptions {
        platform: Some("wasip1/wasm".parse().unwrap()),
        name: Some("app:1".into()),
        ..SourceOptions::default()
    };
    refused_with(
        &path,
        &platform,
        &["no image for wasip1/wasm", "linux/amd64"],
    );
}

#[test]
fn a_manifest_of_another_form_makes_no_image() {
    let saved = Saved::new();
    for (manifest, part) in [
        (json!([{"Config": 1, "Layers": []}]), "not a list of images"),
        (
            json!([{"Config": "x", "Layers": [1]}]),
            "not a list of images",
        ),
        (
            json!([{"Config": "nowhere.json", "Layers": []}]),
            "not there",
        ),
        (
            json!([{"Config": "../../etc/passwd", "Layers": []}]),
            "not there",
        ),
    ] {
        refused(&saved.path(&saved.archive(&manifest).end()), &[part]);
    }
}

/// A saved image that somebody unpacked.
fn unpacked(saved: &Saved, manifest: &Value) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, bytes) in &saved.layers {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::write(dir.path().join(&saved.config_name), &saved.config).unwrap();
    fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    dir
}

#[test]
fn an_unpacked_saved_image_is_its_layers() {
    let saved = Saved::new();
    let dir = unpacked(&saved, &saved.manifest());
    assert_eq!(listed(dir.path()), TWO);
    // In the only directory of one, too.
    let above = TempDir::new().unwrap();
    fs::rename(dir.path(), above.path().join("image")).unwrap();
    assert_eq!(listed(above.path()), TWO);
}

#[cfg(unix)]
#[test]
fn nothing_leads_out_of_an_unpacked_saved_image() {
    let saved = Saved::new();
    let outside = TempDir::new().unwrap();
    let (first, bytes) = &saved.layers[0];
    let secret = outside.path().join("secret");
    fs::write(&secret, bytes).unwrap();
    for name in ["../secret".to_owned(), secret.display().to_string()] {
        let mut manifest = saved.manifest();
        manifest[0]["Layers"][0] = json!(name);
        let dir = unpacked(&saved, &manifest);
        fs::write(dir.path().join("../secret"), bytes).unwrap();
        refused(dir.path(), &["it leads out of the directory"]);
        let mut manifest = saved.manifest();
        manifest[0]["Config"] = json!(name);
        let dir = unpacked(&saved, &manifest);
        refused(dir.path(), &["it leads out of the directory"]);
    }
    // Nor by a link, whereas one inside is what Docker wrote.
    let dir = unpacked(&saved, &saved.manifest());
    let place = dir.path().join(first);
    fs::remove_file(&place).unwrap();
    std::os::unix::fs::symlink(&secret, &place).unwrap();
    refused(dir.path(), &["it leads out of the directory"]);
    fs::remove_file(&place).unwrap();
    fs::write(dir.path().join("elsewhere.tar"), bytes).unwrap();
    std::os::unix::fs::symlink("../elsewhere.tar", &place).unwrap();
    assert_eq!(listed(dir.path()), TWO);
}

#[test]
fn what_docker_saved_before_manifests_is_named() {
    let id = "ab".repeat(32);
    let repositories = json!({"app": {"1": id}}).to_string();
    let layer = &two_layers()[0];
    let archive = Archive::new()
        .with(Head::new(b'0', format!("{id}/layer.tar")), layer)
        .file(format!("{id}/VERSION"), "1.0")
        .file("repositories", &repositories);
    let saved = Saved::new();
    let said = &["Docker before 1.10", "save it again"];
    refused(&saved.path(&archive.end()), said);
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join(&id)).unwrap();
    fs::write(dir.path().join(&id).join("layer.tar"), layer).unwrap();
    fs::write(dir.path().join("repositories"), &repositories).unwrap();
    refused(dir.path(), said);
    // A file of that name alone is a file.
    fs::remove_dir_all(dir.path().join(&id)).unwrap();
    assert!(listed(dir.path()).concat().contains("repositories:f"));
}
