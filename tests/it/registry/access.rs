//! Who is let in, and who is told what.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

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

/// A server on this machine that does `greet` with whoever speaks TLS, and else answers with a
/// manifest, but `probe` to the first question.
fn plain_server(greet: fn(&mut TcpStream), probe: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut first = [0; 1];
            if stream.peek(&mut first).is_err() {
                continue;
            }
            if first == [0x16] {
                greet(&mut stream);
                continue;
            }
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok() && !line.ends_with("\r\n\r\n") {}
            let manifest = r#"{"schemaVersion":2}"#;
            let answer = match line.starts_with("GET /v2/ ") {
                true => probe.to_owned(),
                false => format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{manifest}",
                    manifest.len()
                ),
            };
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    host
}

#[test]
fn a_registry_of_this_machine_without_tls_is_told_from_one_with() {
    let greetings: [fn(&mut TcpStream); 4] = [
        |_| {},
        |stream| drop(stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")),
        |stream| drop(stream.write_all(&[0x15, 3, 1, 0, 2, 2, 40])),
        // It waits for the end of a head that does not come.
        |stream| {
            let held = stream.try_clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(60));
                drop(held);
            });
        },
    ];
    let probes = [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 3\r\n\r\nodd",
    ];
    for (number, greet) in greetings.into_iter().enumerate() {
        let host = plain_server(greet, probes[number % probes.len()]);
        let client = Client::new(ClientOptions {
            stall: Duration::from_secs(1),
            ..super::options()
        });
        let name: RegistryRef = format!("{host}/app:1").parse().unwrap();
        let manifest = client.unwrap().manifest(&name);
        assert!(manifest.is_ok(), "{number}: {}", manifest.unwrap_err());
    }
    // A server of TLS says so to those who come without.
    let host = plain_server(
        |_| {},
        "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 48\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
    );
    let name: RegistryRef = format!("{host}/app:1").parse().unwrap();
    client().manifest(&name).unwrap_err();
}

#[test]
fn a_page_in_place_of_a_manifest_is_told() {
    let world = World::new();
    let page = "<!DOCTYPE html>\n<html><body>Please   log in</body></html>";
    for kind in ["text/html; charset=utf-8", "application/octet-stream"] {
        world
            .fake
            .misbehave(move |head, _| match head.line().contains("/manifests/") {
                true => {
                    let kind = vec![("content-type".into(), kind.into())];
                    Fault::Answer(200, kind, page.into())
                }
                false => Fault::No,
            });
        let digest = format!("app@sha256:{}", "0".repeat(64));
        for name in ["app:1", &digest] {
            let error = client()
                .manifest(&world.name(name))
                .unwrap_err()
                .to_string();
            for part in [
                "came in place of a manifest",
                kind.split(';').next().unwrap(),
                "is this the address of a registry",
                "<!DOCTYPE html> <html><body>Please log in",
            ] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }
}
