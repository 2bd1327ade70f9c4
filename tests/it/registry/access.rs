//! Who is let in, and who is told what.

use std::sync::Arc;

use stratafs::registry::{Client, ClientOptions, Credential, RegistryErrorKind, RegistryRef};
use stratafs::transfer::{self, PushOptions, TransferError};

use super::{Knows, World, asked, client, client_of, options, pull_with, tag};
use crate::support::fake_registry::{Door, FakeRegistry, Fault, Head};

fn push(world: &World, client: &Client) -> Result<(), TransferError> {
    let name = world.name("team/app:1");
    let options = PushOptions::default();
    transfer::push(&world.store, client, &tag("app:1"), &name, &options).map(drop)
}

#[test]
fn each_door_opens_to_who_may_enter() {
    for door in [
        Door::Basic("me:secret".into()),
        Door::Bearer(Some("me:secret".into())),
    ] {
        let world = World::new();
        world.image("app:1", 0..2, 10_000);
        world.fake.close(door.clone());
        for (client, hint) in [
            (client(), "stratafs image login 127.0.0.1"),
            (client_of("me", "wrong"), "401 Unauthorized"),
        ] {
            let error = push(&world, &client).unwrap_err().to_string();
            assert!(
                error.contains(hint) || door != Door::Basic("me:secret".into()),
                "{error}"
            );
            assert!(error.contains("401 Unauthorized"), "{error}");
            assert!(
                !error.contains("secret") && !error.contains("wrong"),
                "{error}"
            );
            client.check(&world.fake.host).unwrap_err();
        }
        let known = client_of("me", "secret");
        known.check(&world.fake.host).unwrap();
        push(&world, &known).unwrap();
        let other = world.other("other");
        pull_with(&known, &other, &world.name("team/app:1")).unwrap();
    }
}

#[test]
fn tokens_are_for_what_is_done_and_are_used_again() {
    let world = World::new();
    world.image("app:1", 0..3, 10_000);
    world.fake.close(Door::Bearer(None));
    push(&world, &client()).unwrap();
    let log = world.fake.log();
    let tokens: Vec<&Head> = log.iter().filter(|head| head.path == "/token").collect();
    let [token] = tokens.as_slice() else {
        panic!("{tokens:?}");
    };
    let scope = "scope=repository%3Ateam%2Fapp%3Apull%2Cpush";
    assert_eq!(token.query, format!("service=fake&{scope}"));
    let other = world.other("other");
    pull_with(&client(), &other, &world.name("team/app:1")).unwrap();
    let log = world.fake.log();
    assert_eq!(asked(&log, "GET /token"), 1);
    let tokens = log.iter().find(|head| head.path == "/token").unwrap();
    assert!(tokens.query.ends_with("%3Apull"), "{}", tokens.query);
}

#[test]
fn an_identity_token_is_sent_in_a_form() {
    let world = World::new();
    world.image("app:1", 0..1, 10_000);
    world.fake.close(Door::Bearer(Some("me:secret".into())));
    let of = |credential| {
        Client::new(ClientOptions {
            credentials: Arc::new(Knows(credential)),
            ..options()
        })
        .unwrap()
    };
    let mut known = options();
    known.credentials = Arc::new(vec![stratafs::registry::AuthFile::new(
        world.dir.path().join("config.json"),
    )]);
    let text = format!(
        r#"{{"auths":{{"{}":{{"identitytoken":"identity"}}}}}}"#,
        world.fake.host
    );
    std::fs::write(world.dir.path().join("config.json"), text).unwrap();
    push(&world, &Client::new(known).unwrap()).unwrap();
    let log = world.fake.log();
    assert!(asked(&log, "POST /token") == 1 && asked(&log, "GET /token") == 0);
    push(&world, &of(Credential::basic("me", "secret"))).unwrap();
}

#[test]
fn nobody_else_is_told_who_asks() {
    let world = World::new();
    world.image("app:1", 0..2, 10_000);
    world.fake.close(Door::Basic("me:secret".into()));
    let known = client_of("me", "secret");
    push(&world, &known).unwrap();
    let thief = FakeRegistry::start();
    // It asks, and hopes to be told.
    thief.close(Door::Basic("me:secret".into()));
    let host = thief.host.clone();
    world
        .fake
        .misbehave(move |head, _| match head.is_blob_get() {
            true => Fault::with(307, "location", &format!("http://{host}{}", head.path)),
            false => Fault::No,
        });
    let other = world.other("other");
    let error = pull_with(&known, &other, &world.name("team/app:1")).unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
    let log = thief.log();
    assert!(!log.is_empty());
    assert!(
        log.iter()
            .all(|head| head.header("authorization").is_none()),
        "{log:?}"
    );
    // Nor where an upload is sent to.
    let host = thief.host.clone();
    world
        .fake
        .misbehave(move |head, _| match head.method.as_str() {
            "POST" => Fault::with(
                202,
                "location",
                &format!("http://{host}/v2/x/blobs/uploads/1"),
            ),
            "HEAD" => Fault::status(404),
            _ => Fault::No,
        });
    push(&world, &known).unwrap_err();
    let log = thief.log();
    assert!(!log.is_empty());
    assert!(
        log.iter()
            .all(|head| head.header("authorization").is_none()),
        "{log:?}"
    );
}

#[test]
fn plain_text_is_spoken_to_this_machine_alone() {
    let world = World::new();
    world.image("app:1", 0..1, 1000);
    // The realm is another machine's.
    world.fake.close(Door::Bearer(None));
    for realm in [
        "http://registry.example/token",
        "http://10.0.0.1:5000/token",
    ] {
        world.fake.set_realm(realm);
        let error = push(&world, &client_of("me", "secret")).unwrap_err();
        let TransferError::Registry(error) = error else {
            panic!("{error}");
        };
        assert!(
            matches!(error.kind(), RegistryErrorKind::PlainHttp),
            "{error}"
        );
        assert!(error.to_string().contains("--plain-http"), "{error}");
    }
    for realm in ["ftp://x/token", "nonsense", "http://me:pw@127.0.0.1/token"] {
        world.fake.set_realm(realm);
        let error = push(&world, &client()).unwrap_err().to_string();
        assert!(error.contains("the token server's address"), "{error}");
    }
    // So is where a download leads.
    world.fake.close(Door::Open);
    push(&world, &client()).unwrap();
    world.fake.misbehave(|head, _| match head.is_blob_get() {
        true => Fault::with(307, "location", "http://registry.example/blob"),
        false => Fault::No,
    });
    let other = world.other("other");
    let error = pull_with(&client(), &other, &world.name("team/app:1")).unwrap_err();
    assert!(error.to_string().contains("--plain-http"), "{error}");
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = free.local_addr().unwrap();
    drop(free);
    let name: RegistryRef = format!("{host}/app:1").parse().unwrap();
    let error = client().manifest(&name).unwrap_err().to_string();
    let want = format!("{host}/app: cannot fetch the manifest 1: ");
    assert!(error.starts_with(&want), "{error}");
    assert!(error.contains("refused"), "{error}");
}
