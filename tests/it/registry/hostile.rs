//! What a registry may say that means harm: nothing of it is taken, and nothing grows.

use serde_json::json;
use stratafs::limits::{MAX_ANSWER_HEADER_BYTES, MAX_TAG_PAGES, MAX_TAGS};
use stratafs::store::Store;

use super::{World, client, is_empty, pull_with};
use crate::support::fake_registry::{Door, FakeRegistry, Fault, sha256};
use crate::support::layout::{CONFIG, INDEX, LAYER, MANIFEST, gzip};

/// An image of one layer, whose descriptor is changed before it is put there.
fn image(fake: &FakeRegistry, layer: &[u8], change: impl Fn(&mut serde_json::Value)) {
    let config = json!({
        "os": "linux", "architecture": "amd64", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
    });
    let config = config.to_string();
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": fake.put_blob("app", config.as_bytes()), "size": config.len()},
        "layers": [{"mediaType": LAYER, "digest": fake.put_blob("app", layer), "size": layer.len()}],
    });
    change(&mut manifest);
    fake.put_manifest("app", "1", MANIFEST, manifest.to_string().as_bytes());
}

/// Pulls, and returns why not; nothing may be left.
#[track_caller]
fn refused(world: &World, store: &Store) -> String {
    let error = pull_with(&client(), store, &world.name("app:1"))
        .unwrap_err()
        .to_string();
    assert!(store.list().unwrap().is_empty(), "{error}");
    assert!(store.verify().unwrap().is_sound(), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn archive() -> Vec<u8> {
    crate::support::archive::Archive::new()
        .file("a", "hello")
        .end()
}

#[test]
fn documents_that_lie_are_refused() {
    let layer = archive();
    let cases: Vec<(&str, Box<dyn Fn(&mut serde_json::Value)>)> = vec![
        (
            "the size",
            Box::new(|it| it["layers"][0]["size"] = json!(7)),
        ),
        (
            "bytes in the layers",
            Box::new(|it| it["layers"][0]["size"] = json!(u64::MAX)),
        ),
        (
            "invalid blob digest",
            Box::new(|it| it["layers"][0]["digest"] = json!("sha256:../../x")),
        ),
        (
            "404",
            Box::new(|it| it["layers"][0]["digest"] = json!(sha256(b"other"))),
        ),
        (
            "a document has at most",
            Box::new(|it| it["config"]["size"] = json!(1_u64 << 40)),
        ),
        (
            "a manifest and an index at once",
            Box::new(|it| it["manifests"] = json!([])),
        ),
        (
            "its mediaType is",
            Box::new(|it| it["mediaType"] = json!(INDEX)),
        ),
        (
            "is not the media type of a layer",
            Box::new(|it| it["layers"][0]["mediaType"] = json!("text/plain")),
        ),
        ("diff_ids", Box::new(|it| it["layers"] = json!([]))),
        (
            "schemaVersion",
            Box::new(|it| it["schemaVersion"] = json!(1)),
        ),
    ];
    for (want, change) in cases {
        let world = World::new();
        image(&world.fake, &layer, change);
        let store = world.other("other");
        let error = refused(&world, &store);
        assert!(error.contains(want), "{want}: {error}");
    }
}

#[test]
fn a_wrong_digest_is_never_visible() {
    let world = World::new();
    image(&world.fake, &archive(), |_| {});
    world.fake.damage_blobs(|bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    let store = world.other("other");
    let error = refused(&world, &store);
    assert!(
        error.contains("expected the digest") && error.contains(", found "),
        "{error}"
    );
    // A layer that is right, and decompresses to something else than was promised.
    let world = World::new();
    image(&world.fake, &archive(), |it| {
        let other = world.fake.put_blob("app", &gzip(b"no archive"));
        it["layers"][0]["digest"] = json!(other);
        it["layers"][0]["size"] = json!(gzip(b"no archive").len());
    });
    let store = world.other("other");
    refused(&world, &store);
}

#[test]
fn bodies_without_an_end_are_not_read_to_it() {
    let world = World::new();
    image(&world.fake, &archive(), |_| {});
    for what in ["/manifests/", "/blobs/", "/tags/"] {
        world.fake.served();
        world
            .fake
            .misbehave(move |head, _| match head.path.contains(what) {
                true => Fault::Endless,
                false => Fault::No,
            });
        let store = world.other("other");
        let error = match what {
            "/tags/" => client().tags(&world.name("app")).unwrap_err().to_string(),
            _ => refused(&world, &store),
        };
        assert!(
            error.contains("the size") || error.contains("more than"),
            "{error}"
        );
        world.fake.behave();
        // What is on its way in the system's buffers counts.
        assert!(world.fake.served() < 128 << 20, "{what}");
    }
    // So that it does not say how long it is.
    let endless = vec![("transfer-encoding".to_owned(), "chunked".to_owned())];
    let head = endless.clone();
    world.fake.misbehave(move |_, _| {
        let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20)).repeat(8);
        Fault::Answer(200, head.clone(), chunk.into_bytes())
    });
    let store = world.other("other");
    let error = refused(&world, &store);
    assert!(
        error.contains("more than 4194304 bytes in a manifest"),
        "{error}"
    );
}

#[test]
fn errors_are_one_line_and_drive_no_terminal() {
    let world = World::new();
    let text = "x\u{1b}[2J\r\n\u{202e}y".repeat(100_000);
    world
        .fake
        .misbehave(move |_, _| Fault::Answer(418, Vec::new(), text.clone().into_bytes()));
    let store = world.other("other");
    let error = refused(&world, &store);
    assert!(error.len() < 8_000, "{}", error.len());
    assert!(
        !error.contains('\u{1b}') && !error.contains('\u{202e}'),
        "{error}"
    );
    assert!(error.contains("418 I'm a teapot: x\\u{1b}[2J"), "{error}");
}

#[test]
fn a_token_server_is_not_believed_either() {
    let world = World::new();
    image(&world.fake, &archive(), |_| {});
    world.fake.close(Door::Bearer(None));
    for (answer, want) in [
        (&b"{}"[..], "has no token"),
        (b"[", "has no token"),
        (br#"{"token":"a\r\nX: y"}"#, "has no token"),
        (br#"{"token":7}"#, "has no token"),
        (
            &[b' '; 300_000],
            "more than 262144 bytes in an answer of a token server",
        ),
    ] {
        let answer = answer.to_vec();
        world
            .fake
            .misbehave(move |head, _| match head.path.as_str() {
                "/token" => Fault::Answer(200, Vec::new(), answer.clone()),
                _ => Fault::No,
            });
        let store = world.other("other");
        let error = refused(&world, &store);
        assert!(error.contains(want), "{error}");
    }
    // One that gives tokens that are never good.
    world.fake.misbehave(|head, _| match head.path.as_str() {
        "/token" => Fault::Answer(
            200,
            Vec::new(),
            br#"{"token":"no","expires_in":99}"#.to_vec(),
        ),
        _ => Fault::No,
    });
    let store = world.other("other");
    let error = refused(&world, &store);
    assert!(error.contains("401"), "{error}");
    // And one that leads elsewhere.
    world.fake.misbehave(|head, _| match head.path.as_str() {
        "/token" => Fault::with(302, "location", "http://127.0.0.1:1/token"),
        _ => Fault::No,
    });
    let error = refused(&world, &store);
    assert!(error.contains("302"), "{error}");
}

#[test]
fn redirects_end() {
    let world = World::new();
    image(&world.fake, &archive(), |_| {});
    let host = world.fake.host.clone();
    for (location, want) in [
        (
            format!("http://{host}/v2/app/blobs/sha256:0"),
            "redirects, one after the other",
        ),
        ("file:///etc/passwd".to_owned(), "a redirect to"),
        ("//[::bad/x".to_owned(), "a redirect to"),
    ] {
        world
            .fake
            .misbehave(move |head, _| match head.path.contains("/blobs/") {
                true => Fault::with(307, "location", &location),
                false => Fault::No,
            });
        let store = world.other("other");
        let error = refused(&world, &store);
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn a_bomb_goes_off_elsewhere() {
    let world = World::new();
    let bomb = gzip(&vec![0; 128 << 20]);
    image(&world.fake, &bomb, |it| {
        it["layers"][0]["mediaType"] = json!(format!("{LAYER}+gzip"));
    });
    let store = world.other("other");
    refused(&world, &store);
    assert!(is_empty(&world.dir.path().join("other/packs")));
}

#[test]
fn heads_have_a_bound() {
    let world = World::new();
    image(&world.fake, &archive(), |_| {});
    world
        .fake
        .misbehave(|head, _| match head.path.contains("/manifests/") {
            true => Fault::with(200, "x-long", &"x".repeat(MAX_ANSWER_HEADER_BYTES)),
            false => Fault::No,
        });
    let store = world.other("other");
    let error = refused(&world, &store);
    assert!(
        error.contains("more than 65536 bytes in the head"),
        "{error}"
    );
}

#[test]
fn lists_of_tags_end() {
    let world = World::new();
    world
        .fake
        .misbehave(|head, _| match head.path.contains("/tags/") {
            true => Fault::Answer(
                200,
                vec![(
                    "link".into(),
                    "</v2/app/tags/list?last=x>; rel=\"next\"".into(),
                )],
                br#"{"tags":["a"]}"#.to_vec(),
            ),
            false => Fault::No,
        });
    let error = client().tags(&world.name("app")).unwrap_err().to_string();
    assert!(
        error.contains(&format!("more than {MAX_TAG_PAGES} pages")),
        "{error}"
    );
    world
        .fake
        .misbehave(|head, _| match head.path.contains("/tags/") {
            true => Fault::Answer(
                200,
                vec![(
                    "link".into(),
                    "</v2/app/tags/list?last=x>; rel=\"next\"".into(),
                )],
                format!("{{\"tags\":[{}\"a\"]}}", "\"a\",".repeat(MAX_TAGS / 2)).into_bytes(),
            ),
            false => Fault::No,
        });
    let error = client().tags(&world.name("app")).unwrap_err().to_string();
    assert!(error.contains(&format!("more than {MAX_TAGS}")), "{error}");
}
