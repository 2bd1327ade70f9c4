//! Images that are signed, and those that are not: what `verify_keys` takes, and what copies
//! take along.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stratafs::registry::RegistryErrorKind;
use stratafs::source::BlobDigest;
use stratafs::store::Store;
use stratafs::transfer::{self, CopyOptions, CopyPlace, PullOptions, Pulled, TransferError};

use super::{World, client, is_empty};
use crate::support::fake_registry::{FakeRegistry, Fault, sha256};
use crate::support::layout::MANIFEST;
use crate::support::signer::{SIMPLE, Signer, payload, put_signatures, sign, signature};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

/// Puts a manifest that refers to another, and the tag that stands for the list of those if
/// the registry has none.
fn refer(fake: &FakeRegistry, digest: &BlobDigest, kind: &str, bytes: &[u8]) -> Vec<u8> {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": fake.put_blob("app", b"{}")},
        "layers": [{"mediaType": kind, "size": bytes.len(), "digest": fake.put_blob("app", bytes)}],
        "subject": {"mediaType": MANIFEST, "size": 7, "digest": digest.as_str()},
        "annotations": {"note": kind},
    });
    let manifest = manifest.to_string().into_bytes();
    fake.put_manifest("app", &sha256(&manifest), MANIFEST, &manifest);
    manifest
}

/// Lists referrers by the tag that stands for a list.
fn list_by_tag(fake: &FakeRegistry, digest: &BlobDigest, kind: &str, manifests: &[&[u8]]) {
    let listed: Vec<Value> = manifests
        .iter()
        .map(|one| {
            json!({"mediaType": MANIFEST, "artifactType": kind, "size": one.len(), "digest": sha256(one)})
        })
        .collect();
    let index = "application/vnd.oci.image.index.v1+json";
    let list = json!({"schemaVersion": 2, "mediaType": index, "manifests": listed});
    let tag = digest.as_str().replace(':', "-");
    fake.put_manifest("app", &tag, index, list.to_string().as_bytes());
}

/// Signs as cosign does from its third version on.
fn bundle(hex: &str, kind: &str, by: &Signer) -> Vec<u8> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": kind, "predicate": {},
        "subject": [{"digest": {"sha256": hex}, "annotations": {}}],
    });
    let statement = statement.to_string();
    let of = "application/vnd.in-toto+json";
    let signed = format!("DSSEv1 {} {of} {} {statement}", of.len(), statement.len());
    json!({
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "x"}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(&statement), "payloadType": of,
            "signatures": [{"sig": by.sign(signed.as_bytes())}],
        },
    })
    .to_string()
    .into_bytes()
}

/// A world with an index of three images in its registry.
fn world() -> (World, BlobDigest) {
    let world = World::new();
    world.image("app:1", 0..2, 10_000);
    let digest = world.push("app:1", "app:1").unwrap().digest;
    (world, digest)
}

fn pull(world: &World, store: &Store, keys: &[&Signer]) -> Result<Pulled, TransferError> {
    let options = PullOptions {
        verify_keys: keys.iter().map(|signer| signer.key()).collect(),
        ..PullOptions::default()
    };
    transfer::pull(store, &client(), &world.name("app:1"), None, &options)
}

/// Pulls with a key, and returns why not; nothing may be left.
#[track_caller]
fn refused(world: &World, by: &Signer) -> String {
    let store = world.other("refused");
    world.fake.log();
    let error = pull(world, &store, &[by]).unwrap_err();
    assert!(store.list().unwrap().is_empty(), "{error}");
    assert!(is_empty(&world.dir.path().join("refused/incoming")));
    let log = world.fake.log();
    let layers = log.iter().filter(|head| head.is_blob_get());
    assert!(layers.count() <= 300, "{error}");
    let TransferError::Registry(error) = error else {
        panic!("{error}");
    };
    assert!(
        matches!(error.kind(), RegistryErrorKind::Unsigned(_)),
        "{error}"
    );
    let error = error.to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("no signature that fits the key"), "{error}");
    error
}

#[test]
fn an_image_is_taken_if_it_is_signed_with_the_key() {
    for signer in [Signer::p256(), Signer::ed25519()] {
        let (world, digest) = world();
        let store = world.other("other");
        sign(&world.fake, &digest, &signer);
        let pulled = pull(&world, &store, &[&signer]).unwrap();
        assert_eq!(pulled.digest, digest);
        // One of several keys is enough, and one of several signatures.
        let other = Signer::p256();
        pull(&world, &store, &[&other, &signer]).unwrap();
        let payload = payload(digest.as_str());
        let layers =
            [&other, &signer].map(|by| signature(&world.fake, &payload, &by.sign(&payload)));
        put_signatures(&world.fake, &digest, layers.to_vec());
        pull(&world, &store, &[&signer]).unwrap();
        // An image that is there already is not called by another name without one.
        world.fake.put_manifest(
            "app",
            &format!("{}.sig", digest.as_str().replace(':', "-")),
            MANIFEST,
            b"{}",
        );
        let error = pull(&world, &store, &[&signer]).unwrap_err().to_string();
        assert!(error.contains("holds no signature"), "{error}");
    }
}

#[test]
fn bundles_are_signatures_too() {
    for lists in [true, false] {
        for signer in [Signer::p256(), Signer::ed25519()] {
            let (world, digest) = world();
            if lists {
                world.fake.list_referrers();
            }
            let hex = digest.hex();
            let of_another = bundle(&"0".repeat(64), SIGN, &signer);
            let claim = bundle(hex, "https://slsa.dev/provenance/v1", &signer);
            let good = bundle(hex, SIGN, &signer);
            let mut all = vec![
                refer(&world.fake, &digest, BUNDLE, &of_another),
                refer(&world.fake, &digest, BUNDLE, &claim),
                refer(&world.fake, &digest, BUNDLE, b"{}"),
                refer(
                    &world.fake,
                    &digest,
                    BUNDLE,
                    br#"{"dsseEnvelope":{"payload":"!"}}"#,
                ),
            ];
            let list = |all: &[Vec<u8>]| {
                let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
                if !lists {
                    list_by_tag(&world.fake, &digest, BUNDLE, &all);
                }
            };
            list(&all);
            let error = refused(&world, &signer);
            assert!(error.contains("none of 4 fits"), "{error}");
            let why = [
                "of another image, 0000",
                "a statement of type",
                "it has no envelope",
                "is not base64",
                "1 more reasons",
            ];
            let found = why.iter().filter(|why| error.contains(**why)).count();
            assert_eq!(found, 4, "{error}");
            all.push(refer(&world.fake, &digest, BUNDLE, &good));
            list(&all);
            let other = Signer::p256();
            let error = refused(&world, &other);
            assert!(error.contains("made with another key"), "{error}");
            let store = world.other("other");
            pull(&world, &store, &[&signer]).unwrap();
        }
    }
}

#[test]
fn an_image_without_the_right_signature_is_refused() {
    let signer = Signer::p256();
    let (world, digest) = world();
    let error = refused(&world, &signer);
    assert!(error.contains("it has none"), "{error}");
    let fake = &world.fake;
    let right = payload(digest.as_str());
    let of_another = payload(&sha256(b"another"));
    let wrong_type = String::from_utf8(right.clone())
        .unwrap()
        .replace("cosign container", "atomic container")
        .into_bytes();
    let bad = vec![
        (
            "made with another key",
            signature(fake, &right, &Signer::p256().sign(&right)),
        ),
        ("made with another key", signature(fake, &right, "")),
        ("is not base64", signature(fake, &right, "!!")),
        (
            "it is of another image, sha256:",
            signature(fake, &of_another, &signer.sign(&of_another)),
        ),
        (
            "its type is \"atomic",
            signature(fake, &wrong_type, &signer.sign(&wrong_type)),
        ),
        (
            "it is not JSON",
            signature(fake, b"no json", &signer.sign(b"no json")),
        ),
        (
            "its type is \"\"",
            signature(fake, b"{}", &signer.sign(b"{}")),
        ),
        (
            "no digest or no size",
            json!({"mediaType": SIMPLE, "size": 1, "digest": "../x"}),
        ),
        (
            "1073741824 bytes, a signature has at most",
            json!({"mediaType": SIMPLE, "size": 1 << 30, "digest": sha256(b"x")}),
        ),
        (
            "404",
            json!({"mediaType": SIMPLE, "size": 1, "digest": sha256(b"not there")}),
        ),
        (
            "a manifest that holds no signature",
            json!({"mediaType": "text/plain", "size": 1, "digest": sha256(b"x")}),
        ),
    ];
    for (why, layer) in bad {
        put_signatures(fake, &digest, vec![layer]);
        let error = refused(&world, &signer);
        assert!(error.contains(why), "{why}: {error}");
    }
    // A payload whose size lies has no end, and is not read to it.
    let layer = json!({"mediaType": SIMPLE, "size": 100, "digest": sha256(b"endless")});
    put_signatures(fake, &digest, vec![layer]);
    let endless = format!("/v2/app/blobs/{}", sha256(b"endless"));
    fake.misbehave(move |head, _| match head.path == endless {
        true => Fault::Endless,
        false => Fault::No,
    });
    fake.served();
    let store = world.other("endless");
    let error = pull(&world, &store, &[&signer]).unwrap_err().to_string();
    assert!(store.list().unwrap().is_empty(), "{error}");
    assert!(fake.served() < 64 << 20);
}

#[test]
fn no_more_than_so_many_signatures_are_looked_at() {
    let signer = Signer::p256();
    let (world, digest) = world();
    let right = payload(digest.as_str());
    let layer = |n: usize| {
        let payload = format!("{{\"n\":{n}}}").into_bytes();
        signature(&world.fake, &payload, &signer.sign(&payload))
    };
    let mut layers: Vec<Value> = (0..stratafs::limits::MAX_SIGNATURES).map(layer).collect();
    layers.push(signature(&world.fake, &right, &signer.sign(&right)));
    put_signatures(&world.fake, &digest, layers.clone());
    let error = refused(&world, &signer);
    assert!(
        error.contains("none of 256 fits, and no more are looked at"),
        "{error}"
    );
    // The last one that is looked at counts.
    layers.remove(0);
    put_signatures(&world.fake, &digest, layers);
    pull(&world, &world.other("other"), &[&signer]).unwrap();
    // What a signature is of has a bound as well.
    let large = vec![b' '; usize::try_from(stratafs::limits::MAX_SIGNATURE_BYTES).unwrap() + 1];
    put_signatures(
        &world.fake,
        &digest,
        vec![signature(&world.fake, &large, "")],
    );
    let error = refused(&world, &signer);
    assert!(
        error.contains("1048577 bytes, a signature has at most"),
        "{error}"
    );
}

#[test]
fn a_signature_is_of_what_the_name_leads_to() {
    let signer = Signer::p256();
    let (world, index) = world();
    let manifest = world.fake.manifest("app", "1").unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let one = manifest["manifests"][0]["digest"].as_str().unwrap();
    let one: BlobDigest = one.parse().unwrap();
    sign(&world.fake, &one, &signer);
    // The name leads to the index, and that is not signed: as `cosign verify` has it.
    let error = refused(&world, &signer);
    assert!(error.contains(&format!("cannot verify {index}")), "{error}");
    // The image's own digest leads to what is signed.
    let by_digest = world.name("app").at(&one);
    let options = PullOptions {
        verify_keys: vec![signer.key()],
        ..PullOptions::default()
    };
    let store = world.other("other");
    transfer::pull(&store, &client(), &by_digest, None, &options).unwrap();
    sign(&world.fake, &index, &signer);
    pull(&world, &store, &[&signer]).unwrap();
}

#[test]
fn a_registry_that_fails_is_not_an_image_without_a_signature() {
    let signer = Signer::p256();
    let (world, digest) = world();
    sign(&world.fake, &digest, &signer);
    world
        .fake
        .misbehave(|head, _| match head.path.ends_with(".sig") {
            true => Fault::status(403),
            false => Fault::No,
        });
    let store = world.other("other");
    let error = pull(&world, &store, &[&signer]).unwrap_err().to_string();
    assert!(error.contains("403"), "{error}");
    assert!(store.list().unwrap().is_empty());
}

/// Everything about an image that there is: of each kind one.
fn hang(fake: &FakeRegistry, digest: &BlobDigest) -> Vec<Vec<u8>> {
    let signer = Signer::p256();
    sign(fake, digest, &signer);
    let parts = refer(fake, digest, "application/spdx+json", br#"{"parts":[]}"#);
    let claim = refer(fake, digest, BUNDLE, &bundle(digest.hex(), SIGN, &signer));
    // The list of parts is signed in turn.
    let of_parts = BlobDigest::of(&parts);
    let again = refer(
        fake,
        &of_parts,
        BUNDLE,
        &bundle(of_parts.hex(), SIGN, &signer),
    );
    list_by_tag(fake, digest, "x", &[&parts, &claim]);
    list_by_tag(fake, &of_parts, "x", &[&again]);
    vec![parts, claim, again]
}

#[track_caller]
fn has_all(fake: &FakeRegistry, digest: &BlobDigest, hung: &[Vec<u8>]) {
    let dashed = digest.as_str().replace(':', "-");
    assert!(fake.manifest("app", &format!("{dashed}.sig")).is_some());
    for one in hung {
        assert_eq!(fake.manifest("app", &sha256(one)).as_ref(), Some(one));
    }
    let name = fake.name("app:1").parse().unwrap();
    let listed = client().referrers(&name, digest).unwrap();
    let mut listed: Vec<String> = listed.iter().map(|one| one.digest.to_string()).collect();
    listed.sort();
    let mut want = vec![sha256(&hung[0]), sha256(&hung[1])];
    want.sort();
    assert_eq!(listed, want);
    let of_parts = BlobDigest::of(&hung[0]);
    assert_eq!(client().referrers(&name, &of_parts).unwrap().len(), 1);
}

#[test]
fn what_is_about_an_image_goes_along() {
    let (world, digest) = world();
    let hung = hang(&world.fake, &digest);
    let from = CopyPlace::Registry(world.name("app:1"));
    let copy = |from: &CopyPlace, to: &CopyPlace| {
        transfer::copy(&client(), from, to, &CopyOptions::default()).unwrap()
    };
    let registry = |fake: &FakeRegistry| CopyPlace::Registry(fake.name("app:1").parse().unwrap());
    // From tags to a registry that lists by itself, to one that does not, and on.
    let (lists, plain) = (FakeRegistry::start(), FakeRegistry::start());
    lists.list_referrers();
    let copied = copy(&from, &registry(&lists));
    assert_eq!((&copied.digest, copied.attached), (&digest, 4));
    has_all(&lists, &digest, &hung);
    let dashed = digest.as_str().replace(':', "-");
    assert_eq!(lists.manifest("app", &dashed), None);
    copy(&registry(&lists), &registry(&plain));
    has_all(&plain, &digest, &hung);
    assert!(plain.manifest("app", &dashed).is_some());
    // Through a layout, twice, and by its name or as the only image in it.
    let path = world.dir.path().join("layout");
    let layout = CopyPlace::Layout(path.clone(), Some("one".into()));
    for _ in 0..2 {
        assert_eq!(copy(&registry(&plain), &layout).attached, 4);
    }
    for name in [Some("one".to_owned()), None] {
        let back = FakeRegistry::start();
        let copied = copy(&CopyPlace::Layout(path.clone(), name), &registry(&back));
        assert_eq!((&copied.digest, copied.attached), (&digest, 4));
        has_all(&back, &digest, &hung);
    }
    // The layout is still one that has one image.
    let store = world.other("imported");
    let options = transfer::ImportOptions::default();
    let info = transfer::import(&store, &[path], &super::tag("x:1"), &options).unwrap();
    assert_eq!(info.layers.len(), 2);
    // All of it is left out if that is asked for.
    let (bare, options) = (
        FakeRegistry::start(),
        CopyOptions {
            attached: false,
            ..CopyOptions::default()
        },
    );
    let copied = transfer::copy(&client(), &from, &registry(&bare), &options).unwrap();
    assert_eq!(copied.attached, 0);
    assert_eq!(bare.manifest("app", &format!("{dashed}.sig")), None);
}

#[test]
fn a_layout_of_another_tool_keeps_what_is_about_its_image() {
    let (world, digest) = world();
    let hung = hang(&world.fake, &digest);
    let path = world.dir.path().join("layout");
    let layout = CopyPlace::Layout(path.clone(), Some("one".into()));
    let from = CopyPlace::Registry(world.name("app:1"));
    transfer::copy(&client(), &from, &layout, &CopyOptions::default()).unwrap();
    // Without lists by tag: each by itself, and without a name.
    let file = path.join("index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let listed = index["manifests"].as_array_mut().unwrap();
    listed.retain(|one| {
        let name = one["annotations"]["org.opencontainers.image.ref.name"].as_str();
        name.is_some_and(|name| name.ends_with(".sig") || name == "one")
    });
    for one in &hung {
        listed.push(json!({"mediaType": MANIFEST, "size": one.len(), "digest": sha256(one), "artifactType": "x"}));
    }
    std::fs::write(&file, index.to_string()).unwrap();
    let back = FakeRegistry::start();
    let to = CopyPlace::Registry(back.name("app:1").parse().unwrap());
    let from = CopyPlace::Layout(path, Some("one".into()));
    let copied = transfer::copy(&client(), &from, &to, &CopyOptions::default()).unwrap();
    assert_eq!(copied.attached, 4);
    has_all(&back, &digest, &hung);
}

#[test]
fn lists_of_referrers_have_a_bound_and_may_lie() {
    let (world, digest) = world();
    let stray = refer(&world.fake, &BlobDigest::of(b"another"), "x", b"stray");
    list_by_tag(&world.fake, &digest, "x", &[&stray, b"gone"]);
    let to = FakeRegistry::start();
    let from = CopyPlace::Registry(world.name("app:1"));
    let place = CopyPlace::Registry(to.name("app:1").parse().unwrap());
    let copied = transfer::copy(&client(), &from, &place, &CopyOptions::default()).unwrap();
    // What is about another image, or is not there, is not about this one.
    assert_eq!(copied.attached, 0);
    let many: Vec<Vec<u8>> = (0..=stratafs::limits::MAX_REFERRERS)
        .map(|n| n.to_string().into_bytes())
        .collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    list_by_tag(&world.fake, &digest, "x", &many);
    let error = client()
        .referrers(&world.name("app:1"), &digest)
        .unwrap_err()
        .to_string();
    assert!(error.contains("more than 1024"), "{error}");
}
