//! Images that are taken if they are signed: by whom, of what, and what is no way round.

use stratafs::source::BlobDigest;

use super::client::*;
use super::layers::*;
use super::refused;
use crate::support::fake_registry::Fault;
use crate::support::signer::{self, Signer};

/// What gRPC has for what may not be.
const DENIED: i32 = 7;

/// Starts one that takes images of the registry by `signer`'s key, with further options.
fn start(pushed: &Pushed, signer: &Signer, more: &str) -> Snapshotter {
    pushed.cli.file("team.pub", signer.pem());
    let host = &pushed.fake.host;
    let options = format!("--lazy only --verify-key {host}/app=team.pub {more}");
    Snapshotter::start(&pushed.cli, &options)
}

fn digest(pushed: &Pushed) -> BlobDigest {
    pushed.manifest.parse().unwrap()
}

/// Nothing is there, and nothing of it was held.
#[track_caller]
fn nothing_is_taken(pushed: &Pushed, of: &Snapshotter, words: &str) {
    for (number, parent) in [(0, ""), (1, pushed.chains[0].as_str())] {
        let asked = pushed.ask(of, number, "k8s.io/1/extract-1 x", parent);
        refused(asked, DENIED, words);
    }
    assert_eq!(of.list(&[]).unwrap(), [""; 0]);
    assert_eq!(of.dirs().len(), 0);
    of.cleanup().unwrap();
    assert_eq!(pushed.stat("images"), 0);
}

#[test]
fn an_image_is_taken_by_a_signature_and_refused_by_name_without_one() {
    let (pushed, team) = (Pushed::new(), Signer::p256());
    let of = start(&pushed, &team, "");
    // None; by another; of another image.
    nothing_is_taken(&pushed, &of, "it has none");
    let (code, text) = pushed.ask(&of, 0, "x", "").unwrap_err();
    assert_eq!(code, DENIED);
    assert!(
        text.starts_with(&format!("image {} is refused: ", pushed.name)),
        "{text}"
    );
    signer::sign(&pushed.fake, &digest(&pushed), &Signer::p256());
    nothing_is_taken(&pushed, &of, "made with another key");
    let other = signer::payload("sha256:00");
    let layer = signer::signature(&pushed.fake, &other, &team.sign(&other));
    signer::put_signatures(&pushed.fake, &digest(&pushed), vec![layer]);
    nothing_is_taken(&pushed, &of, "of another image, sha256:00");
    signer::sign(&pushed.fake, &digest(&pushed), &team);
    pushed.take(&of);
    let said = of.end();
    assert_eq!(said.lines().count(), 7, "{said}");
    assert!(
        said.lines().all(|line| line.contains(" is refused: ")),
        "{said}"
    );
    // What was held to be signed is asked for once, and by a new process anew.
    let of = start(&pushed, &team, "");
    pushed.fake.misbehave(|_, _| Fault::status(403));
    refused(pushed.ask(&of, 0, "y", ""), DENIED, "403");
    pushed.fake.behave();
    refused(pushed.ask(&of, 0, "y", ""), EXISTS, "target snapshot");
    pushed.fake.misbehave(|_, _| Fault::status(403));
    refused(pushed.ask(&of, 0, "y", ""), EXISTS, "target snapshot");
}

#[test]
fn an_index_that_is_signed_vouches_for_the_manifests_that_it_names() {
    let (pushed, team) = (Pushed::new(), Signer::ed25519());
    let of = start(&pushed, &team, "");
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = |manifest: &str| {
        let entry = serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": 1});
        let index =
            serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]});
        let bytes = index.to_string().into_bytes();
        let digest = pushed.fake.put_manifest("app", "1", kind, &bytes);
        signer::sign(&pushed.fake, &digest.parse().unwrap(), &team);
    };
    index("sha256:0000000000000000000000000000000000000000000000000000000000000000");
    nothing_is_taken(&pushed, &of, "it has none");
    index(&pushed.manifest);
    pushed.take(&of);
}

#[test]
fn names_that_no_key_is_for_and_layers_of_no_name_are_refused_or_allowed() {
    let (pushed, team) = (Pushed::new(), Signer::p256());
    pushed.cli.file("other.pub", Signer::p256().pem());
    signer::sign(&pushed.fake, &digest(&pushed), &team);
    let chain = pushed.chains[0].as_str();
    let nameless = |of: &Snapshotter| {
        refused(
            of.prepare("k8s.io/1/extract-1 x", "", &[]),
            DENIED,
            "no label",
        );
        refused(of.prepare("a", "", &[(REF, chain)]), DENIED, "no label");
        let labels = [(REF, chain), (IMAGE, &*pushed.name)];
        refused(of.prepare("a", "", &labels), DENIED, "which manifest");
        let labels = [(REF, chain), (IMAGE, "../x"), (MANIFEST, &*pushed.manifest)];
        refused(of.prepare("a", "", &labels), DENIED, "image-ref");
        // What is no layer is asked nothing.
        of.prepare("container", "", &[]).unwrap();
        of.remove("container").unwrap();
    };
    // The longest beginning that fits has the say.
    for (options, words) in [
        (
            "--verify-key elsewhere.test=team.pub",
            Some("no --verify-key is for"),
        ),
        (
            "--verify-key HOST/ap=team.pub",
            Some("no --verify-key is for"),
        ),
        (
            "--verify-key HOST/app=other.pub --verify-key *=team.pub",
            Some("another key"),
        ),
        ("--verify-key *=other.pub --verify-key HOST=team.pub", None),
        (
            "--verify-key HOST=other.pub --verify-key HOST=team.pub",
            None,
        ),
        (
            "--verify-key elsewhere.test=team.pub --unverified allow",
            None,
        ),
    ] {
        pushed.cli.file("team.pub", team.pem());
        let options = options.replace("HOST", &pushed.fake.host);
        let of = Snapshotter::start(&pushed.cli, &format!("--lazy only {options}"));
        match words {
            Some(words) => nothing_is_taken(&pushed, &of, words),
            None => {
                let top = pushed.take(&of);
                of.remove(&top).unwrap();
                of.remove(&pushed.chains[0]).unwrap();
                of.cleanup().unwrap();
                if !options.contains("allow") {
                    nameless(&of);
                }
            }
        }
        of.end();
    }
    let start = |options: &str| {
        pushed.cli.run(&format!(
            "snapshotter --root other --address run/o.sock {options}"
        ))
    };
    start("--verify-key team.pub").refused(&["expected HOST[/REPOSITORY]=FILE"]);
    start("--verify-key *=none.pub").failed(1, &["none.pub"]);
    start("--unverified allow").refused(&["--verify-key"]);
}
