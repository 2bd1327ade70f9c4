//! Valid images with a few bytes of their documents or archive changed, the
//! digests put right again: nothing makes a panic, and what is taken is whole.

use std::fs;

use serde_json::{Value, json};

use super::{read, two_layers};
use crate::support::layout::{CONFIG, Layout, MANIFEST, config, gzip};
use crate::support::rng::Rng;

/// Changes a few bytes: to others that JSON or tar give a meaning, to any, or
/// away.
fn change(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.below(bytes.len());
        match rng.below(4) {
            0 => bytes[at] = *rng.pick(b"{}[]\",:0129-.\\/ \0\xffenul"),
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => drop(bytes.remove(at)),
            _ => {
                let piece = bytes[at..bytes.len().min(at + 1 + rng.below(40))].to_vec();
                let to = rng.below(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
}

/// Changes a little where a document may say what it likes: in a string of its
/// own, in a number that nobody counts on, or in the space between.
fn touch(rng: &mut Rng, value: &mut Value) {
    let words = ["", "x", "\u{0}", "../..", "sha256:0", "\u{fffd}\u{1f600}"];
    let word = *rng.pick(&words);
    let Some(object) = value.as_object_mut() else {
        return;
    };
    match rng.below(4) {
        0 => drop(object.insert(format!("x-{word}"), json!([word, {"a": word}]))),
        1 => drop(object.insert("annotations".into(), json!({word: "v", "k": word}))),
        2 => drop(object.insert("created".into(), json!("2020-01-02T03:04:05Z"))),
        _ => drop(object.insert("author".into(), json!(word))),
    }
}

/// A layout, one of whose documents has been changed.
fn layout(rng: &mut Rng) -> Layout {
    let layout = Layout::new();
    let which = rng.below(4);
    let mut layers: Vec<_> = two_layers().iter().map(|tar| layout.layer(tar)).collect();
    if which == 0 {
        let mut tar = gzip(&two_layers()[0]);
        change(rng, &mut tar);
        layers[0].0 = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &tar);
    }
    let gently = rng.one_in(3);
    let mut document = |number: usize, value: &Value| {
        let mut value = value.clone();
        if which == number && gently {
            touch(rng, &mut value);
        }
        let mut bytes = value.to_string().into_bytes();
        if which == number && gently {
            let spaces = rng.below(3);
            bytes.extend(std::iter::repeat_n(b' ', spaces));
        } else if which == number {
            change(rng, &mut bytes);
        }
        bytes
    };
    let config = layout.blob(CONFIG, &document(1, &config(&layers)));
    let descriptors: Vec<_> = layers.iter().map(|(descriptor, _)| descriptor).collect();
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": descriptors});
    let manifest = layout.blob(MANIFEST, &document(2, &manifest));
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    layout.file("index.json", &document(3, &index));
    layout
}

#[test]
fn no_change_of_documents_makes_a_panic() {
    let (mut whole, mut refused) = (0, 0);
    for seed in 0..1500 {
        let layout = layout(&mut Rng::new(seed));
        match read(layout.path()) {
            Ok(layers) => {
                whole += 1;
                assert!(layers.len() <= 2, "seed {seed}");
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(
        whole > 150 && refused > 500,
        "{whole} whole, {refused} refused"
    );
}

#[test]
fn no_change_of_an_archive_makes_a_panic() {
    let good = Layout::of(&two_layers()).archive();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    let (mut whole, mut refused) = (0, 0);
    for seed in 0..1500 {
        let mut rng = Rng::new(seed);
        let mut bytes = good.clone();
        change(&mut rng, &mut bytes);
        if rng.one_in(8) {
            bytes.truncate(rng.below(bytes.len()));
        }
        fs::write(&path, &bytes).unwrap();
        match read(&path) {
            Ok(_) => whole += 1,
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(
        whole > 50 && refused > 200,
        "{whole} whole, {refused} refused"
    );
}
