//! Images in the forms that lie around: skopeo's `dir:`, a directory above, layers
//! of 0 bytes.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use stratafs::limits::MAX_ARTIFACT_BYTES;
use stratafs::source::{OciImage, SourceOptions};
use tempfile::TempDir;

use super::{TWO, a, listed, read_with, refused, refused_with, two_layers};
use crate::support::archive::Archive;
use crate::support::layout::{INDEX, Layout, MANIFEST, described, gzip, sha256};

/// Copies a directory as it is.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (
            entry.as_ref().unwrap().path(),
            to.join(entry.unwrap().file_name()),
        );
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, &to).unwrap()),
        }
    }
}

/// What skopeo writes for `dir:` of the image that a layout has.
fn flat(layout: &Layout, top: &Value) -> TempDir {
    let dir = TempDir::new().unwrap();
    copy(&layout.path().join("blobs/sha256"), dir.path());
    fs::write(
        dir.path().join("version"),
        "Directory Transport Version: 1.1\n",
    )
    .unwrap();
    fs::copy(layout.blob_path(top), dir.path().join("manifest.json")).unwrap();
    dir
}

#[test]
fn skopeo_s_dir_is_an_image() {
    let layout = Layout::new();
    let image = layout.image(&two_layers());
    let dir = flat(&layout, &image);
    assert_eq!(listed(dir.path()), TWO);
    let asked = |platform: &str| SourceOptions {
        platform: Some(platform.parse().unwrap()),
        ..SourceOptions::default()
    };
    assert_eq!(
        read_with(dir.path(), &asked("linux/amd64")).unwrap().len(),
        2
    );
    refused_with(
        dir.path(),
        &asked("linux/s390x"),
        &["no image for linux/s390x", "linux/amd64"],
    );
    let named = SourceOptions {
        name: Some("x".into()),
        ..SourceOptions::default()
    };
    refused_with(dir.path(), &named, &["no image named x"]);
    // Packed into a tar, and in a directory of one.
    let mut archive = Archive::new();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        let name = format!("image/{}", entry.file_name().into_string().unwrap());
        archive = archive.with(crate::support::archive::Head::new(b'0', name), &bytes);
    }
    let file = TempDir::new().unwrap();
    let path = file.path().join("x.tar.gz");
    fs::write(&path, gzip(&archive.end())).unwrap();
    assert_eq!(listed(&path), TWO);
    // Every blob is what its name says.
    let layer = sha256(&two_layers()[1]);
    fs::write(dir.path().join(&layer[7..]), a().file("evil", "").end()).unwrap();
    refused(dir.path(), &[&layer, "expected "]);
    fs::remove_file(dir.path().join(&layer[7..])).unwrap();
    refused(dir.path(), &[&layer, "not there"]);
}

#[test]
fn skopeo_s_dir_may_have_several_platforms() {
    let layout = Layout::new();
    let one = layout.image_for("linux", "s390x", &two_layers());
    let two = layout.image_for("wasip1", "wasm", &[a().file("two", "").end()]);
    let all = [
        described(&one, Some(("linux", "s390x")), None),
        described(&two, Some(("wasip1", "wasm")), None),
    ];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": all});
    let dir = flat(&layout, &layout.json(INDEX, &index));
    // Manifests have names of their own there.
    for image in [&one, &two] {
        let name = &image["digest"].as_str().unwrap()[7..];
        let (from, to) = (
            dir.path().join(name),
            dir.path().join(format!("{name}.manifest.json")),
        );
        fs::rename(from, to).unwrap();
    }
    assert_eq!(listed(dir.path()), ["two:f"]);
    let asked = SourceOptions {
        platform: Some("linux/s390x".parse().unwrap()),
        ..SourceOptions::default()
    };
    assert_eq!(read_with(dir.path(), &asked).unwrap().len(), 2);
}

#[test]
fn a_layout_one_directory_down_is_read() {
    let layout = Layout::of(&two_layers());
    let above = TempDir::new().unwrap();
    copy(layout.path(), &above.path().join("image"));
    assert_eq!(listed(above.path()), TWO);
    let tar = TempDir::new().unwrap();
    let path = tar.path().join("x.tar");
    let mut archive = Archive::new().dir("./").dir("./image/");
    for name in ["oci-layout", "index.json"] {
        let bytes = fs::read_to_string(layout.path().join(name)).unwrap();
        archive = archive.file(format!("./image/{name}"), &bytes);
    }
    for entry in fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        let name = format!(
            "image/blobs/sha256/{}",
            entry.file_name().into_string().unwrap()
        );
        let bytes = fs::read(entry.path()).unwrap();
        archive = archive.with(crate::support::archive::Head::new(b'0', name), &bytes);
    }
    fs::write(&path, archive.clone().end()).unwrap();
    assert_eq!(listed(&path), TWO);
    // Two of them are a choice to make, and beside files one is files.
    copy(layout.path(), &above.path().join("other"));
    refused(
        above.path(),
        &["several images, one in each of image, other"],
    );
    fs::write(above.path().join("readme"), "x").unwrap();
    assert!(listed(above.path()).concat().contains("image/oci-layout:f"));
    fs::write(&path, archive.file("readme", "x").end()).unwrap();
    assert!(listed(&path).concat().contains("image/oci-layout:f"));
}

#[test]
fn half_a_layout_is_no_tree_of_files() {
    for (gone, said) in [
        ("oci-layout", "without its `oci-layout`"),
        ("index.json", "without its `index.json`"),
    ] {
        let layout = Layout::of(&two_layers());
        fs::remove_file(layout.path().join(gone)).unwrap();
        refused(layout.path(), &[said]);
    }
}

#[test]
fn a_layer_of_0_bytes_has_no_entries() {
    let layout = Layout::new();
    let tar = a().file("f", "1").end();
    let first = layout.layer(&tar);
    for (blob, plain) in [
        (Vec::new(), &b""[..]),
        (gzip(b""), b""),
        (vec![0; 1024], &[0; 1024]),
        (gzip(&[0; 10240]), &[0; 10240]),
    ] {
        let layers = [first.clone(), (layout.layer(&blob).0, sha256(plain))];
        let config = crate::support::layout::config(&layers);
        layout.index(&[layout.manifest(&config, &layers)]);
        assert_eq!(listed(layout.path()), ["f:f1", ""]);
    }
    // One that should have had something is not it.
    let layers = [(layout.layer(b"").0, sha256(&tar))];
    let config = crate::support::layout::config(&layers);
    layout.index(&[layout.manifest(&config, &layers)]);
    refused(layout.path(), &["expected "]);
}

#[test]
fn programs_of_artifacts_have_a_bound() {
    let layout = Layout::new();
    let with = |size: u64| {
        let program =
            json!({"mediaType": "application/wasm", "digest": sha256(b"x"), "size": size});
        let config = layout.json("application/vnd.wasm.config.v0+json", &json!({}));
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [program]});
        layout.index(&[layout.json(MANIFEST, &manifest)]);
        OciImage::open(layout.path(), &SourceOptions::default())
    };
    assert!(with(MAX_ARTIFACT_BYTES).is_ok());
    let error = with(MAX_ARTIFACT_BYTES + 1).err().unwrap().to_string();
    assert!(error.contains(&MAX_ARTIFACT_BYTES.to_string()), "{error}");
}
