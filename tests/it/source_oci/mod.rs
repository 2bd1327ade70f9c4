//! OCI images and archives of `docker save` as layers: each rule with a legal
//! near miss beside it.

mod choice; // of one image among several
mod docker; // `docker save`, as older and newer versions write it
mod documents; // manifests, indexes, configurations
mod forms; // skopeo's `dir:`, a directory above, layers of 0 bytes
mod mutated; // documents and archives with a few bytes changed
mod odd; // one suite of odd entries over every source

use std::fs;
use std::path::Path;

use serde_json::json;
use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::limits::MAX_OCI_DOCUMENT_BYTES;
use stratafs::source::{OciImage, SourceError, SourceOptions, open};

use crate::support::archive::{Archive, list};
use crate::support::layout::{Layout, config, gzip, sha256, zstd};

fn a() -> Archive {
    Archive::new()
}

fn read(path: &Path) -> Result<Vec<Layer>, SourceError> {
    read_with(path, &SourceOptions::default())
}

fn read_with(path: &Path, options: &SourceOptions) -> Result<Vec<Layer>, SourceError> {
    open(&ChunkPool::new(), path, options)
}

/// The layers as text, the lowest first.
#[track_caller]
fn listed(path: &Path) -> Vec<String> {
    read(path).unwrap().iter().map(list).collect()
}

/// The error, which has these parts.
#[track_caller]
fn refused(path: &Path, parts: &[&str]) {
    refused_with(path, &SourceOptions::default(), parts);
}

#[track_caller]
fn refused_with(path: &Path, options: &SourceOptions, parts: &[&str]) {
    let text = match read_with(path, options) {
        Ok(layers) => panic!(
            "accepted: {:?}",
            layers.iter().map(list).collect::<Vec<_>>()
        ),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

fn two_layers() -> [Vec<u8>; 2] {
    [
        a().file("etc/motd", "hello").file("gone", "x").end(),
        a().file(".wh.gone", "").file("new", "y").end(),
    ]
}

const TWO: [&str; 2] = ["etc:i etc/motd:fhello gone:fx", "gone:w new:fy"];

#[test]
fn a_layout_is_its_layers_as_directory_and_as_archive() {
    let layout = Layout::of(&two_layers());
    assert_eq!(listed(layout.path()), TWO);
    let dir = tempfile::tempdir().unwrap();
    let archive = layout.archive();
    for (name, bytes) in [
        ("plain.tar", archive.clone()),
        ("x.tar.gz", gzip(&archive)),
        ("x.tar.zst", zstd(&archive)),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        assert_eq!(listed(&path), TWO, "{name}");
    }
    let image = Image::new(&read(layout.path()).unwrap()).unwrap();
    assert_eq!(image.stats().files, 2);
}

#[test]
fn an_archive_is_told_by_what_it_holds_not_by_what_comes_first() {
    let layout = Layout::of(&two_layers());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    let with_readme = [&a().file("README", "x").0[..], &layout.archive()].concat();
    for bytes in [with_readme.clone(), gzip(&with_readme)] {
        fs::write(&path, bytes).unwrap();
        assert_eq!(listed(&path), TWO);
    }
    // A layer that has some of an image's names is a layer.
    let near = a().file("blobs/x", "1").file("index.json", "{}");
    let browser_extension = a().file("manifest.json", r#"{"manifest_version": 3}"#);
    for (archive, want) in [
        (near, "blobs:i blobs/x:f1 index.json:f{}"),
        (browser_extension, "manifest.json:f23"),
    ] {
        let bytes = archive.end();
        for bytes in [bytes.clone(), gzip(&bytes)] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(listed(&path).len(), 1);
            assert_eq!(listed(&path)[0].split(':').next(), want.split(':').next());
        }
    }
}

#[test]
fn layers_may_be_compressed_in_each_way() {
    let tar = a().file("f", "x").end();
    let half = tar.len() / 2;
    let members = [gzip(&tar[..half]), gzip(&tar[half..])].concat();
    let frames = [zstd(&tar[..half]), zstd(&tar[half..])].concat();
    for (media_type, blob) in [
        (".tar", tar.clone()),
        (".tar+gzip", gzip(&tar)),
        (".tar+gzip", members),
        (".tar+zstd", zstd(&tar)),
        (".tar+zstd", frames),
        // What the bytes are decides how they are read, the `diff_id` whether
        // that was right.
        (".tar+gzip", tar.clone()),
        (".tar", zstd(&tar)),
    ] {
        let layout = Layout::new();
        let media_type = format!("application/vnd.oci.image.layer.v1{media_type}");
        let layers = [(layout.blob(&media_type, &blob), sha256(&tar))];
        let manifest = layout.manifest(&config(&layers), &layers);
        layout.index(&[manifest]);
        assert_eq!(listed(layout.path()), ["f:fx"], "{media_type}");
    }
}

#[test]
fn case_c1_44_wrong_bytes_name_the_digest_and_both_values() {
    let layout = Layout::of(&two_layers());
    let tar = &two_layers()[1];
    let digest = sha256(tar);
    let path = layout.path().join("blobs").join(digest.replace(':', "/"));
    let mut wrong = tar.clone();
    wrong[0] ^= 1;
    fs::write(&path, &wrong).unwrap();
    refused(
        layout.path(),
        &[&format!(
            "layer {digest}: expected the digest {digest}, found {}",
            sha256(&wrong)
        )],
    );
    fs::write(&path, &tar[1..]).unwrap();
    let (promised, found) = (tar.len().to_string(), (tar.len() - 1).to_string());
    refused(layout.path(), &[&digest, "the size", &promised, &found]);
    fs::write(&path, [&tar[..], b"!"].concat()).unwrap();
    refused(layout.path(), &[&digest, "the size", &promised]);
    fs::remove_file(&path).unwrap();
    refused(layout.path(), &[&digest, "it is not there"]);
    fs::write(&path, tar).unwrap();
    assert_eq!(listed(layout.path()), TWO);
}

#[test]
fn every_blob_of_an_image_is_verified() {
    let layout = Layout::of(&two_layers());
    for blob in fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let good = fs::read(&path).unwrap();
        let digest = sha256(&good);
        let mut wrong = good.clone();
        let last = wrong.len() - 1;
        wrong[last] ^= 0x20;
        fs::write(&path, wrong).unwrap();
        refused(layout.path(), &[&digest, "expected "]);
        fs::write(&path, good).unwrap();
    }
    assert_eq!(listed(layout.path()), TWO);
}

#[test]
fn a_layer_has_to_be_what_its_diff_id_says() {
    let layout = Layout::new();
    let (tar, other) = (a().file("f", "x").end(), a().file("g", "x").end());
    for (media_type, blob) in [("tar", tar.clone()), ("tar+gzip", gzip(&tar))] {
        let media_type = format!("application/vnd.oci.image.layer.v1.{media_type}");
        let descriptor = layout.blob(&media_type, &blob);
        let wrong = [(descriptor.clone(), sha256(&other))];
        layout.index(&[layout.manifest(&config(&wrong), &wrong)]);
        refused(
            layout.path(),
            &[
                descriptor["digest"].as_str().unwrap(),
                &sha256(&other),
                &sha256(&tar),
            ],
        );
        let right = [(descriptor, sha256(&tar))];
        layout.index(&[layout.manifest(&config(&right), &right)]);
        assert_eq!(listed(layout.path()), ["f:fx"]);
    }
}

#[test]
fn case_c1_48_urls_of_foreign_layers_are_not_fetched() {
    let layout = Layout::new();
    let tar = a().file("f", "x").end();
    for media_type in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ] {
        let mut descriptor = layout.blob(media_type, &tar);
        descriptor["urls"] = json!(["http://127.0.0.1:1/layer"]);
        let layers = [(descriptor.clone(), sha256(&tar))];
        layout.index(&[layout.manifest(&config(&layers), &layers)]);
        // What is there is read.
        assert_eq!(listed(layout.path()), ["f:fx"]);
        fs::remove_file(layout.blob_path(&descriptor)).unwrap();
        refused(layout.path(), &["not there", "URLs are not fetched"]);
    }
}

#[test]
fn an_entry_that_is_refused_is_named_with_its_layer() {
    let tar = a().file("../x", "!").end();
    let layout = Layout::of(std::slice::from_ref(&tar));
    let path = layout.path().display().to_string();
    refused(
        layout.path(),
        &[&path, &format!("layer {}: ../x: ", sha256(&tar)), "leaves"],
    );
}

#[test]
fn case_c1_34_bounds_hold_for_all_layers_together() {
    let tar = |name| a().file(name, "0123456789").end();
    let layout = Layout::of(&[tar("f"), tar("g"), tar("h")]);
    let bounds = |max_bytes, max_entries| SourceOptions {
        max_bytes,
        max_entries,
        ..SourceOptions::default()
    };
    let says = ["more than 29 bytes of content"];
    refused_with(layout.path(), &bounds(29, 100), &says);
    refused_with(layout.path(), &bounds(30, 2), &["more than 2 "]);
    let all = read_with(layout.path(), &bounds(30, 3)).unwrap();
    assert_eq!(all.len(), 3);

    // Each layer stays below the floor from which on the ratio counts.
    let zeros = |name| {
        let head = crate::support::archive::Head::new(b'0', name);
        a().with(head, &vec![0; 40 << 20]).end()
    };
    let bomb = Layout::new();
    let layers: Vec<_> = ["a", "b"]
        .map(zeros)
        .iter()
        .map(|tar| {
            let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
            (bomb.blob(media_type, &gzip(tar)), sha256(tar))
        })
        .collect();
    bomb.index(&[bomb.manifest(&config(&layers), &layers)]);
    refused(bomb.path(), &["more than 200 bytes out of each byte"]);
    bomb.index(&[bomb.manifest(&config(&layers[..1]), &layers[..1])]);
    assert_eq!(read(bomb.path()).unwrap().len(), 1);
}

#[test]
fn case_c1_34_bounds_hold_for_images() {
    let tar = a().file("f", "0123456789").file("g", "").end();
    let layout = Layout::of(&[tar]);
    let bytes = |max_bytes| SourceOptions {
        max_bytes,
        ..SourceOptions::default()
    };
    refused_with(layout.path(), &bytes(9), &["more than 9 bytes of content"]);
    assert_eq!(read_with(layout.path(), &bytes(10)).unwrap().len(), 1);
    let entries = |max_entries| SourceOptions {
        max_entries,
        ..SourceOptions::default()
    };
    refused_with(layout.path(), &entries(1), &["more than 1 "]);
    assert_eq!(read_with(layout.path(), &entries(3)).unwrap().len(), 1);

    let zeros = a()
        .with(
            crate::support::archive::Head::new(b'0', "z"),
            &vec![0; 80 << 20],
        )
        .end();
    let bomb = Layout::new();
    let layers = [(
        bomb.blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&zeros)),
        sha256(&zeros),
    )];
    bomb.index(&[bomb.manifest(&config(&layers), &layers)]);
    refused(bomb.path(), &["more than 200 bytes out of each byte"]);
    let generous = SourceOptions {
        max_ratio: 2000,
        ..SourceOptions::default()
    };
    assert_eq!(read_with(bomb.path(), &generous).unwrap().len(), 1);

    // The outer archive has the same bounds.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar.gz");
    fs::write(&path, gzip(&Layout::of(&[zeros]).archive())).unwrap();
    refused(&path, &["more than 200 bytes out of each byte"]);
}

#[test]
fn documents_have_a_bound() {
    let layout = Layout::of(&two_layers());
    let index = fs::read(layout.path().join("index.json")).unwrap();
    let padded = |len: u64| {
        let spaces = usize::try_from(len).unwrap() - index.len();
        [&index[..], &vec![b' '; spaces]].concat()
    };
    layout.file("index.json", &padded(MAX_OCI_DOCUMENT_BYTES));
    assert_eq!(listed(layout.path()), TWO);
    layout.file("index.json", &padded(MAX_OCI_DOCUMENT_BYTES + 1));
    refused(layout.path(), &["index.json", "more than 4194304 bytes"]);
}

#[cfg(unix)]
#[test]
fn case_c1_49_what_is_no_file_is_not_waited_for() {
    let layout = Layout::of(&two_layers());
    let digest = sha256(&two_layers()[0]);
    let path = layout.path().join("blobs").join(digest.replace(':', "/"));
    fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    if made.is_ok_and(|status| status.success()) {
        refused(layout.path(), &[&digest, "not a regular file"]);
        fs::remove_file(&path).unwrap();
    }
    fs::create_dir(&path).unwrap();
    refused(layout.path(), &[&digest, "not a regular file"]);
    fs::remove_dir(&path).unwrap();
    // A link to the bytes, as build tools make, is as good as the bytes.
    layout.file("elsewhere", &two_layers()[0]);
    std::os::unix::fs::symlink("../../elsewhere", &path).unwrap();
    assert_eq!(listed(layout.path()), TWO);
}

#[test]
fn a_blob_can_be_kept_while_it_is_read() {
    let layout = Layout::new();
    let tar = a().file("f", "x").end();
    let blob = gzip(&tar);
    let layers = [(
        layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &blob),
        sha256(&tar),
    )];
    layout.index(&[layout.manifest(&config(&layers), &layers)]);
    let options = SourceOptions::default();
    let image = OciImage::open(layout.path(), &options).unwrap().unwrap();
    let [layer] = image.layers() else {
        panic!("layers")
    };
    assert_eq!(layer.digest().unwrap().as_str(), sha256(&blob));
    assert_eq!(layer.diff_id().as_str(), sha256(&tar));
    assert_eq!(
        (layer.size(), layer.media_type()),
        (
            blob.len() as u64,
            "application/vnd.oci.image.layer.v1.tar+gzip"
        )
    );
    let mut copy = Vec::new();
    image
        .read_layer(&ChunkPool::new(), layer, &options, Some(&mut copy))
        .unwrap();
    assert_eq!(copy, blob);
    assert_eq!(image.platform().to_string(), "linux/amd64");
    assert_eq!(
        sha256(image.config_bytes()),
        sha256(config(&layers).to_string().as_bytes())
    );
    assert!(image.manifest_bytes().is_some() && image.name().is_none());
}

#[test]
fn a_layout_of_no_layers_is_an_image() {
    assert!(listed(Layout::of(&[]).path()).is_empty());
}
