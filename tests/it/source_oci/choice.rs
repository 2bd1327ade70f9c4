//! Which of several images is meant.

use serde_json::{Value, json};
use stratafs::source::{Platform, SourceOptions};

use super::{a, read_with, refused, refused_with};
use crate::support::archive::list;
use crate::support::layout::{INDEX, Layout, described};

/// An image that holds a file of this name.
fn image(layout: &Layout, (os, architecture): (&str, &str), file: &str) -> Value {
    layout.image_for(os, architecture, &[a().file(file, "").end()])
}

fn host() -> (String, String) {
    let host = Platform::host();
    (host.os().to_owned(), host.architecture().to_owned())
}

fn platform(text: &str) -> SourceOptions {
    SourceOptions {
        platform: Some(text.parse().unwrap()),
        ..SourceOptions::default()
    }
}

fn name(name: &str) -> SourceOptions {
    SourceOptions {
        name: Some(name.to_owned()),
        ..SourceOptions::default()
    }
}

#[track_caller]
fn taken(layout: &Layout, options: &SourceOptions) -> String {
    list(&read_with(layout.path(), options).unwrap()[0])
}

#[test]
fn the_platform_decides_among_several() {
    let layout = Layout::new();
    let (os, architecture) = host();
    let mut all = Vec::new();
    for (platform, file) in [
        ((&os[..], &architecture[..]), "host"),
        (("linux", "s390x"), "other"),
        (("wasip1", "wasm"), "wasm"),
    ] {
        all.push(described(
            &image(&layout, platform, file),
            Some(platform),
            None,
        ));
    }
    let attestation = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let mut about = image(&layout, ("unknown", "unknown"), "about");
    about["annotations"] = attestation;
    all.push(about);
    layout.index(&all);
    let usual = SourceOptions::default();
    assert_eq!(taken(&layout, &usual), "host:f");
    assert_eq!(taken(&layout, &platform("linux/s390x")), "other:f");
    assert_eq!(taken(&layout, &platform("wasip1/wasm")), "wasm:f");
    refused_with(
        layout.path(),
        &platform("plan9/386"),
        &["no image for plan9/386", "linux/s390x", "wasip1/wasm"],
    );

    // As one index in `index.json`, which is how registries have them.
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": all});
    layout.index(&[layout.json(INDEX, &index)]);
    assert_eq!(taken(&layout, &usual), "host:f");

    // None for the host: the one for WebAssembly.
    layout.index(&all[1..]);
    assert_eq!(taken(&layout, &usual), "wasm:f");
    layout.index(&all[1..2]);
    assert_eq!(taken(&layout, &usual), "other:f", "the only one there is");
}

#[test]
fn what_is_ambiguous_is_listed() {
    let layout = Layout::new();
    let one = image(&layout, ("wasi", "wasm"), "one");
    let two = image(&layout, ("wasip1", "wasm"), "two");
    layout.index(&[
        described(&one, Some(("wasi", "wasm")), None),
        described(&two, Some(("wasip1", "wasm")), Some("latest")),
    ]);
    refused(
        layout.path(),
        &[
            "several images",
            "wasi/wasm (sha256:",
            "latest (wasip1/wasm)",
        ],
    );
    assert_eq!(taken(&layout, &platform("wasi/wasm")), "one:f");
    assert_eq!(taken(&layout, &name("latest")), "two:f");
    refused_with(
        layout.path(),
        &name("other"),
        &["no image named other", "latest"],
    );

    layout.index(&[
        described(&one, Some(("a", "b")), None),
        described(&two, Some(("c", "d")), None),
    ]);
    refused(layout.path(), &["no image for linux/", "a/b", "c/d"]);
}

#[test]
fn names_decide_where_platforms_are_not_told() {
    // As umoci and skopeo write several tags into one layout.
    let layout = Layout::new();
    let (os, architecture) = host();
    let one = image(&layout, (&os, &architecture), "one");
    let two = image(&layout, (&os, &architecture), "two");
    let other = image(&layout, ("linux", "s390x"), "other");
    layout.index(&[
        described(&one, None, Some("1")),
        described(&two, None, Some("2")),
    ]);
    refused(
        layout.path(),
        &["several images", &format!("1 ({os}/{architecture})"), "2 ("],
    );
    assert_eq!(taken(&layout, &name("2")), "two:f");
    // The configuration says what the descriptor does not.
    layout.index(&[
        described(&one, None, Some("1")),
        described(&other, None, Some("2")),
    ]);
    assert_eq!(taken(&layout, &SourceOptions::default()), "one:f");
    // The same image twice is one.
    layout.index(&[
        described(&one, None, Some("1")),
        described(&one, None, Some("1")),
    ]);
    assert_eq!(taken(&layout, &SourceOptions::default()), "one:f");
    // So it is under two names, and has both.
    layout.index(&[
        described(&one, None, Some("app:latest")),
        described(&one, None, Some("app:stable")),
    ]);
    for options in [SourceOptions::default(), name("app"), name("app:stable")] {
        assert_eq!(taken(&layout, &options), "one:f");
    }
    refused_with(
        layout.path(),
        &name("app:2"),
        &["no image named app:2", "app:latest = app:stable"],
    );
    // Two images are two, whatever else is the same.
    layout.index(&[
        described(&one, None, Some("1")),
        described(&one, None, Some("2")),
        described(&two, None, Some("3")),
    ]);
    refused(
        layout.path(),
        &["several images", "--image-name", "1 = 2 (", "3 ("],
    );
}

#[test]
fn the_name_that_a_user_knows_finds_an_image() {
    let layout = Layout::new();
    let (os, architecture) = host();
    let one = image(&layout, (&os, &architecture), "one");
    let two = image(&layout, (&os, &architecture), "two");
    let annotated = |image: &Value, tag: &str, full: &str| {
        let mut image = image.clone();
        image["annotations"] = json!({
            "org.opencontainers.image.ref.name": tag,
            "io.containerd.image.name": full,
        });
        image
    };
    layout.index(&[
        annotated(&one, "1", "docker.io/library/x:1"),
        annotated(&two, "2", "docker.io/library/x:2"),
    ]);
    for wish in [
        "x:2",
        "2",
        "docker.io/library/x:2",
        "library/x:2",
        "docker.io/x:2",
    ] {
        assert_eq!(taken(&layout, &name(wish)), "two:f", "{wish}");
    }
    for wish in ["x:3", "x", "y:2", "quay.io/x:2", "library"] {
        refused_with(
            layout.path(),
            &name(wish),
            &["no image named", "docker.io/library/x:1"],
        );
    }
    // Where two fit as well there is a choice to be made.
    layout.index(&[
        described(&one, None, Some("localhost/x:2")),
        described(&two, None, Some("quay.io/a/x:2")),
    ]);
    refused_with(
        layout.path(),
        &name("x:2"),
        &["several images", "localhost/x:2"],
    );
    assert_eq!(taken(&layout, &name("a/x:2")), "two:f");
}

#[test]
fn an_image_that_is_not_there_is_in_nobodys_way() {
    let layout = Layout::new();
    let one = image(&layout, ("linux", "s390x"), "one");
    let gone = json!({"mediaType": one["mediaType"], "digest": format!("sha256:{}", "1".repeat(64)), "size": 9});
    layout.index(&[
        described(&one, Some(("linux", "s390x")), None),
        described(&gone, Some(("linux", "arm")), None),
    ]);
    assert_eq!(taken(&layout, &platform("linux/s390x")), "one:f");
    refused_with(
        layout.path(),
        &platform("linux/arm"),
        &["sha256:1111", "not there"],
    );
}
