//! Containers off an image of a store, as `stratafs snapshotter` has containerd mount it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use stratafs::store::Store;
use stratafs::transfer::{ImportOptions, import};
use stratafs_shim::messages::*;

use crate::node::*;

/// Imports a directory with these files; returns the store's directory and the image's digest.
fn stored(node: &Node, files: &[(&str, String)]) -> (PathBuf, String) {
    let (dir, source) = (
        node.dir.path().join("store"),
        node.dir.path().join("source"),
    );
    fs::create_dir_all(&source).unwrap();
    for (name, text) in files {
        fs::write(source.join(name), text).unwrap();
    }
    let store = Store::open(&dir).unwrap();
    let tag = "app:1".parse().unwrap();
    let info = import(&store, &[source], &tag, &ImportOptions::default()).unwrap();
    (dir, info.id.to_string())
}

#[test]
fn containers_run_off_an_image_of_a_store_and_off_directories_over_it() {
    let node = Node::new();
    let files = [
        ("app.wasm", says("stored\n", 3)),
        ("low.wasm", says("low\n", 4)),
    ];
    let (store, image) = stored(&node, &files);
    let empty = node.dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    // What lies in the bundle and in the directory that is mounted is not looked at.
    let mut bundle = node.bundle("c", &says("wrong\n", 1));
    fs::write(empty.join("app.wasm"), says("wrong\n", 1)).unwrap();
    bundle.request.rootfs = stored_mount(&empty, &store, &image, &[]);
    for _ in 0..2 {
        assert_eq!(bundle.run(&node), (3, "stored\n".into(), String::new()));
    }
    let over = node.dir.path().join("over");
    fs::create_dir(&over).unwrap();
    fs::write(over.join("app.wasm"), says("over\n", 5)).unwrap();
    let lower = format!("x-stratafs.lowerdir={}", over.display());
    bundle.request.rootfs = stored_mount(&empty, &store, &image, &[&lower]);
    assert_eq!(bundle.run(&node), (5, "over\n".into(), String::new()));
    bundle.spec["process"]["args"] = json!(["/low.wasm"]);
    assert_eq!(bundle.run(&node), (4, "low\n".into(), String::new()));
    node.end();
}

#[test]
fn invalid_stores_are_refused_and_no_guest_is_shown_one() {
    let node = Node::new();
    let (store, image) = stored(&node, &[("app.wasm", says("stored\n", 3))]);
    let other = stratafs::digest::Digest::of(b"other").to_string();
    let mut bundle = node.bundle("c", &says("wrong\n", 1));
    let dir = bundle.dir.clone();
    let mut refused = |rootfs: Vec<MountMessage>, words: &str| {
        bundle.request.rootfs = rootfs;
        let (code, text) = refusal(bundle.create(&node));
        assert_eq!(code, 3, "{text}");
        assert!(text.contains(words), "{words:?} is not in {text}");
    };
    refused(stored_mount(&dir, &store, &other, &[]), &other);
    refused(stored_mount(&dir, &dir, &image, &[]), "store");
    refused(stored_mount(&dir, Path::new("/none"), &image, &[]), "/none");
    refused(stored_mount(&dir, &store, "app:1", &[]), "no digest");
    refused(
        stored_mount(&dir, &store, &image, &["x-stratafs.new=1"]),
        "not known",
    );
    refused(
        stored_mount(&dir, &store, &image, &["x-stratafs.lowerdir=a"]),
        "absolute",
    );
    let none = format!("x-stratafs.lowerdir={}", dir.join("none").display());
    refused(stored_mount(&dir, &store, &image, &[&none]), "No such file");
    let mut bundle = node.bundle("d", &says("wrong\n", 1));
    bundle.request.rootfs = stored_mount(&dir, &store, &image, &[]);
    bundle.spec["mounts"] = json!([{
        "destination": "/store", "type": "bind", "source": store, "options": ["rbind", "ro"]
    }]);
    let (_, text) = refusal(bundle.create(&node));
    assert!(text.contains("the runtime's own"), "{text}");
    node.end();
}

#[test]
fn where_only_stored_images_are_run_what_was_unpacked_is_refused_by_its_directory() {
    let node = Node::with(|config| config.only_stored = true);
    let (store, image) = stored(&node, &[("app.wasm", says("stored\n", 3))]);
    let mut bundle = node.bundle("c", &says("unpacked\n", 1));
    let dir = bundle.dir.clone();
    let (code, text) = refusal(bundle.create(&node));
    assert_eq!(code, 7, "{text}");
    assert!(
        text.contains("only-stored") && text.contains("rootfs"),
        "{text}"
    );
    let over = dir.join("rootfs");
    let lower = format!("x-stratafs.lowerdir={}", over.display());
    bundle.request.rootfs = stored_mount(&dir, &store, &image, &[&lower]);
    let (code, text) = refusal(bundle.create(&node));
    assert!(code == 7 && text.contains(over.to_str().unwrap()), "{text}");
    bundle.request.rootfs = stored_mount(&dir, &store, &image, &[]);
    assert_eq!(bundle.run(&node), (3, "stored\n".into(), String::new()));
    // A pod itself has no root that is run.
    let mut pod = node.bundle("p", "");
    pod.spec["annotations"] = json!({"io.kubernetes.cri.container-type": "sandbox"});
    pod.create(&node).unwrap();
    let _gone: DeleteResponse = node.ask("Delete", "p");
    node.end();
}
