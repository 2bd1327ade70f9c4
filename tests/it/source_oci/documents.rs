//! What manifests, indexes and configurations may say.

use std::fs;

use serde_json::{Value, json};

use super::{TWO, a, listed, refused, two_layers};
use crate::support::layout::{CONFIG, INDEX, LAYER, Layout, MANIFEST, config, sha256};

/// A layout whose one manifest has been changed.
fn with_manifest(change: impl FnOnce(&Layout, &mut Value)) -> Layout {
    let layout = Layout::new();
    let layers: Vec<_> = two_layers().iter().map(|tar| layout.layer(tar)).collect();
    let config = layout.json(CONFIG, &config(&layers));
    let descriptors: Vec<_> = layers.iter().map(|(descriptor, _)| descriptor).collect();
    let mut manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors});
    change(&layout, &mut manifest);
    layout.index(&[layout.json(MANIFEST, &manifest)]);
    layout
}

#[test]
fn case_c1_45_a_document_is_one_thing() {
    let both = with_manifest(|_, manifest| manifest["manifests"] = json!([]));
    refused(both.path(), &["both `manifests` and `layers`"]);
    let other_type = with_manifest(|_, manifest| manifest["mediaType"] = json!(INDEX));
    refused(other_type.path(), &["announced as", MANIFEST, INDEX]);
    // It need not say what it is.
    let silent =
        with_manifest(|_, manifest| drop(manifest.as_object_mut().unwrap().remove("mediaType")));
    assert_eq!(listed(silent.path()), TWO);
    let null = with_manifest(|_, manifest| manifest["manifests"] = Value::Null);
    assert_eq!(listed(null.path()), TWO);

    let layout = Layout::of(&two_layers());
    let index = fs::read(layout.path().join("index.json")).unwrap();
    let mut index: Value = serde_json::from_slice(&index).unwrap();
    index["layers"] = json!([]);
    layout.file("index.json", index.to_string().as_bytes());
    refused(
        layout.path(),
        &["index.json", "both `manifests` and `layers`"],
    );
}

#[test]
fn case_c1_45_unknown_media_types_are_refused() {
    let layout = Layout::new();
    let image = layout.image(&two_layers());
    let mut odd = image.clone();
    odd["mediaType"] = json!("application/x-odd");
    layout.index(&[odd.clone()]);
    refused(
        layout.path(),
        &[
            "unknown media type application/x-odd",
            image["digest"].as_str().unwrap(),
        ],
    );
    // Beside an image it is something for others.
    layout.index(&[odd, image]);
    assert_eq!(listed(layout.path()), TWO);

    let layer = with_manifest(|_, manifest| {
        manifest["layers"][1]["mediaType"] = json!("application/x-odd")
    });
    refused(
        layer.path(),
        &[
            "application/x-odd is not the media type of a layer",
            &sha256(&two_layers()[1]),
        ],
    );
    let config = with_manifest(|_, manifest| {
        manifest["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json")
    });
    refused(config.path(), &["an artifact, no image"]);
    let encrypted = with_manifest(|_, manifest| {
        manifest["layers"][0]["mediaType"] = json!(format!("{LAYER}+encrypted"))
    });
    refused(encrypted.path(), &["is not the media type of a layer"]);
}

#[test]
fn case_c1_45_indexes_nest_so_deep_and_no_deeper() {
    let nested = |depth: usize| {
        let layout = Layout::new();
        let mut descriptor = layout.image(&two_layers());
        for _ in 0..depth {
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]});
            descriptor = layout.json(INDEX, &index);
        }
        layout.index(&[descriptor]);
        layout
    };
    assert_eq!(listed(nested(1).path()), TWO);
    assert_eq!(
        listed(nested(stratafs::limits::MAX_OCI_NESTING as usize).path()),
        TWO
    );
    let limit = format!(
        "more than {} image indexes",
        stratafs::limits::MAX_OCI_NESTING
    );
    refused(
        nested(stratafs::limits::MAX_OCI_NESTING as usize + 1).path(),
        &[&limit],
    );
    refused(nested(100).path(), &[&limit]);
}

#[test]
fn case_c1_45_an_index_cannot_hold_itself() {
    let layout = Layout::new();
    // Whatever its name, its content is another.
    let digest = format!("sha256:{}", "0".repeat(64));
    let own = json!({"mediaType": INDEX, "digest": digest, "size": 10});
    let index = json!({"schemaVersion": 2, "manifests": [own]}).to_string();
    let own = json!({"mediaType": INDEX, "digest": digest, "size": index.len()});
    let index = json!({"schemaVersion": 2, "manifests": [own]}).to_string();
    fs::write(layout.blob_path(&own), &index).unwrap();
    layout.file("index.json", index.as_bytes());
    refused(layout.path(), &[&digest, "expected "]);
}

#[test]
fn images_of_a_layout_have_a_bound() {
    let layout = Layout::new();
    let image = layout.image(&two_layers());
    let most = stratafs::limits::MAX_OCI_IMAGES;
    layout.index(&vec![image.clone(); most]);
    assert_eq!(listed(layout.path()), TWO);
    layout.index(&vec![image; most + 1]);
    refused(layout.path(), &[&format!("more than {most} images")]);
}

#[test]
fn case_c1_46_digests_are_no_paths() {
    for digest in [
        "sha256:../../x",
        "sha256:",
        "x",
        "sha256:AB",
        "../..:00",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
    ] {
        let wrong = format!("invalid blob digest {digest:?}");
        let layer = with_manifest(|_, manifest| manifest["layers"][0]["digest"] = json!(digest));
        refused(layer.path(), &[&wrong]);
        let config = with_manifest(|_, manifest| manifest["config"]["digest"] = json!(digest));
        refused(config.path(), &[&wrong]);
        let layout = Layout::new();
        layout.index(&[json!({"mediaType": MANIFEST, "digest": digest, "size": 1})]);
        refused(layout.path(), &["index.json", &wrong]);
    }
    let diff_id = Layout::new();
    let layers = [(diff_id.layer(&two_layers()[0]).0, "sha256:../x".to_owned())];
    diff_id.index(&[diff_id.manifest(&config(&layers), &layers)]);
    refused(diff_id.path(), &["sha256:../x", "invalid blob digest"]);
}

#[test]
fn layers_and_diff_ids_go_together() {
    let layout = Layout::new();
    let layers: Vec<_> = two_layers().iter().map(|tar| layout.layer(tar)).collect();
    layout.index(&[layout.manifest(&config(&layers[..1]), &layers)]);
    refused(layout.path(), &["2 layers, and 1 diff_ids"]);
}

#[test]
fn documents_are_json_of_the_right_version() {
    let layout = Layout::of(&two_layers());
    for (name, bytes, part) in [
        ("oci-layout", &b"{}"[..], "no imageLayoutVersion"),
        (
            "oci-layout",
            br#"{"imageLayoutVersion":"2.0.0"}"#,
            "layout version \"2.0.0\"",
        ),
        ("oci-layout", b"", "malformed document"),
        ("index.json", b"", "malformed document"),
        ("index.json", b"{}", "no schemaVersion"),
        (
            "index.json",
            br#"{"schemaVersion":1,"manifests":[]}"#,
            "expected schemaVersion 2, found 1",
        ),
        ("index.json", br#"{"schemaVersion":2}"#, "manifests"),
        (
            "index.json",
            br#"{"schemaVersion":2,"manifests":[]}"#,
            "names no image",
        ),
    ] {
        let good = fs::read(layout.path().join(name)).unwrap();
        layout.file(name, bytes);
        refused(layout.path(), &[part]);
        layout.file(name, &good);
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    layout.file("index.json", deep.as_bytes());
    refused(layout.path(), &["index.json", "recursion"]);
}

#[test]
fn case_c1_47_a_configuration_is_data() {
    let layout = Layout::new();
    let layers = [layout.layer(&a().file("f", "x").end())];
    let mut value = config(&layers);
    value["config"] = json!({
        "Entrypoint": ["/bin/sh", "-c", "touch /tmp/should-not-happen"],
        "Volumes": {"/": {}, "/../../x": {}}, "ExposedPorts": null, "Labels": {"a": "$(reboot)"},
        "Healthcheck": {"Test": ["CMD", "reboot"]},
    });
    layout.index(&[layout.manifest(&value, &layers)]);
    assert_eq!(listed(layout.path()), ["f:fx"]);
}
