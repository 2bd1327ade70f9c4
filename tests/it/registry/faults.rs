//! What a bad line and a tired registry do: each fault is survived, or told with nothing left.

use std::time::Duration;

use stratafs::limits::{MAX_INCOMING_AGE_SECONDS, MAX_UPLOAD_CHUNK_BYTES, UPLOAD_CHUNK_BYTES};
use stratafs::registry::{Client, ClientOptions};
use stratafs::store::{Store, StoreOptions};
use stratafs::transfer::{self, PushOptions};

use super::{World, asked, client, is_empty, options, pull_with, tag};
use crate::support::fake_registry::{Door, FakeRegistry, Fault, Head};

/// Does something to every `n`th fetch of a blob.
fn each(n: usize, fault: Fault) -> impl FnMut(&Head, usize) -> Fault + Send {
    let mut count = 0;
    move |head, _| {
        count += usize::from(head.is_blob_get());
        match head.is_blob_get() && count.is_multiple_of(n) {
            true => fault.clone(),
            false => Fault::No,
        }
    }
}

/// Does something to the first `n` fetches of blobs.
fn first(n: usize, fault: Fault) -> impl FnMut(&Head, usize) -> Fault + Send {
    let mut count = 0;
    move |head, _| {
        count += usize::from(head.is_blob_get());
        match head.is_blob_get() && count <= n {
            true => fault.clone(),
            false => Fault::No,
        }
    }
}

fn pushed(layers: u64, len: usize) -> World {
    let world = World::new();
    world.image("app:1", 0..layers, len);
    world.push("app:1", "app:1").unwrap();
    world.fake.log();
    world.fake.served();
    world
}

#[test]
fn faults_that_pass_are_survived() {
    let faults: Vec<(&str, Box<dyn FnMut(&Head, usize) -> Fault + Send>)> = vec![
        (
            "every second connection is cut",
            Box::new(each(2, Fault::Cut(70_000))),
        ),
        ("no answer", Box::new(each(2, Fault::Drop))),
        ("cut at once", Box::new(each(2, Fault::Cut(0)))),
        ("500", Box::new(each(2, Fault::status(500)))),
        ("503", Box::new(first(3, Fault::status(503)))),
        ("429", Box::new(each(2, Fault::status(429)))),
        (
            "429 with a pause",
            Box::new(each(3, Fault::with(429, "retry-after", "0"))),
        ),
        ("truncated", Box::new(first(2, Fault::Truncate(1000)))),
        ("a byte is another", Box::new(first(1, Fault::Flip(99_999)))),
        (
            "late",
            Box::new(each(1, Fault::Delay(Duration::from_millis(20)))),
        ),
        ("refused where it led", Box::new(first(1, Fault::Drop))),
    ];
    for (what, fault) in faults {
        let world = pushed(3, 300_000);
        world.fake.misbehave(fault);
        let other = world.other("other");
        let pulled = world.pull(&other, "app:1");
        assert!(pulled.is_ok(), "{what}: {}", pulled.unwrap_err());
        assert!(other.verify().unwrap().is_sound(), "{what}");
        assert!(is_empty(&world.dir.path().join("other/incoming")), "{what}");
    }
}

#[test]
fn faults_that_stay_are_told_and_leave_nothing() {
    let spent = Fault::Answer(
        429,
        vec![("ratelimit-remaining".into(), "0;w=21600".into())],
        br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}"#.to_vec(),
    );
    for (fault, parts) in [
        (Fault::status(500), &["500 Internal Server Error"][..]),
        (Fault::Drop, &["app"]),
        (Fault::Cut(0), &["broke off"]),
        (Fault::Truncate(9), &["expected the size", "found 9"]),
        (Fault::Flip(5), &["expected the digest", ", found "]),
        (Fault::status(404), &["404 Not Found"]),
        (Fault::status(403), &["403 Forbidden", "image login"]),
        (
            Fault::with(429, "retry-after", "7200"),
            &["429", "to wait 7200 s"],
        ),
        (
            spent,
            &[
                "429",
                "TOOMANYREQUESTS: pull rate limit",
                "a quota is used up",
            ],
        ),
    ] {
        let world = pushed(2, 100_000);
        world.fake.misbehave(each(1, fault.clone()));
        let other = world.other("other");
        let error = world.pull(&other, "app:1").unwrap_err().to_string();
        for part in parts.iter().chain(&[&world.fake.name("app")[..]]) {
            assert!(
                error.contains(part),
                "{fault:?}: {part:?} is not in {error}"
            );
        }
        assert_eq!(error.lines().count(), 1);
        assert!(other.list().unwrap().is_empty(), "{fault:?}");
        assert!(other.verify().unwrap().is_sound(), "{fault:?}");
        // And it goes well as soon as the registry does.
        world.fake.behave();
        world.pull(&other, "app:1").unwrap();
    }
}

#[test]
fn a_download_goes_on_where_it_was() {
    let world = pushed(1, 2_000_000);
    world.fake.misbehave(each(1, Fault::Cut(300_000)));
    let other = world.other("other");
    world.pull(&other, "app:1").unwrap();
    let log = world.fake.log();
    let ranges = log.iter().filter_map(|head| head.header("range"));
    assert!(ranges.count() >= 6, "{log:?}");
    assert!(world.fake.served() < 2_100_000);
}

#[test]
fn a_registry_without_ranges_sends_all_and_all_is_kept() {
    let world = pushed(1, 1_000_000);
    world.fake.misbehave(
        |head, _| match (head.is_blob_get(), head.header("range").is_some()) {
            (true, false) => Fault::Cut(400_000),
            (true, true) => Fault::WholeForRange,
            _ => Fault::No,
        },
    );
    let other = world.other("other");
    world.pull(&other, "app:1").unwrap();
    assert!(other.verify().unwrap().is_sound());
}

#[test]
fn an_interrupted_pull_is_gone_on_with() {
    let world = pushed(2, 1_000_000);
    let once = Client::new(ClientOptions {
        tries: 1,
        ..options()
    })
    .unwrap();
    let other = world.other("other");
    world.fake.misbehave(each(1, Fault::Cut(600_000)));
    let name = world.name("app:1");
    pull_with(&once, &other, &name).unwrap_err();
    assert!(other.list().unwrap().is_empty());
    assert!(!is_empty(&world.dir.path().join("other/incoming")));
    assert!(other.stat().unwrap().unfinished_bytes >= 600_000);
    world.fake.behave();
    world.fake.log();
    // Another process, that begins by sweeping.
    drop(other);
    let other = world.other("other");
    let pulled = pull_with(&client(), &other, &name).unwrap();
    assert_eq!(pulled.fetched_layers, 2);
    // Of a blob that is begun anew, no range is asked for. What is served does not show it: an
    // answer that nobody waits for may be counted late.
    let log = world.fake.log();
    let ranges = log.iter().filter_map(|head| head.header("range"));
    let starts = ranges.filter_map(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    let had: u64 = starts.map(|start| start.parse::<u64>().unwrap()).sum();
    assert!(had >= 600_000, "it began anew: {log:?}");
    assert!(is_empty(&world.dir.path().join("other/incoming")));
    // What lies there is nobody's for long: a collection takes it.
    world.fake.misbehave(each(1, Fault::Cut(600_000)));
    let third = world.other("third");
    pull_with(&once, &third, &name).unwrap_err();
    assert!(third.gc().unwrap().freed_bytes >= 600_000);
    assert!(is_empty(&world.dir.path().join("third/incoming")));
}

#[test]
fn what_was_damaged_on_its_way_in_is_fetched_anew() {
    let world = pushed(1, 500_000);
    let once = Client::new(ClientOptions {
        tries: 1,
        ..options()
    })
    .unwrap();
    let other = world.other("other");
    world.fake.misbehave(each(1, Fault::Cut(300_000)));
    pull_with(&once, &other, &world.name("app:1")).unwrap_err();
    let dir = world.dir.path().join("other/incoming");
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    world.fake.behave();
    world.pull(&other, "app:1").unwrap();
    assert!(other.verify().unwrap().is_sound());
}

#[test]
fn a_registry_that_says_nothing_is_not_waited_for() {
    let world = pushed(1, 100_000);
    let soon = Client::new(ClientOptions {
        stall: Duration::from_millis(200),
        tries: 2,
        ..options()
    })
    .unwrap();
    world.fake.misbehave(each(1, Fault::Stall(0)));
    let other = world.other("other");
    let error = pull_with(&soon, &other, &world.name("app:1")).unwrap_err();
    assert!(error.to_string().contains("no progress"), "{error}");
}

/// Faults of uploads, by the number of the request that has a body.
fn upload(nth: usize, fault: Fault) -> impl FnMut(&Head, usize) -> Fault + Send {
    let mut count = 0;
    move |head, _| {
        let is_body =
            matches!(head.method.as_str(), "PATCH" | "PUT") && head.path.contains("/uploads/");
        count += usize::from(is_body);
        match is_body && count == nth {
            true => fault.clone(),
            false => Fault::No,
        }
    }
}

#[test]
fn uploads_survive_what_passes() {
    for fault in [
        Fault::CutUpload(100_000),
        Fault::CutUpload(0),
        Fault::Drop,
        Fault::status(500),
        Fault::status(503),
        Fault::with(429, "retry-after", "0"),
        Fault::status(429),
    ] {
        for nth in 1..=4 {
            let world = World::new();
            world.image("app:1", 0..2, 600_000);
            world.fake.misbehave(upload(nth, fault.clone()));
            let pushed = world.push("app:1", "app:1");
            assert!(
                pushed.is_ok(),
                "{fault:?} at {nth}: {}",
                pushed.unwrap_err()
            );
            world.fake.behave();
            let other = world.other("other");
            world.pull(&other, "app:1").unwrap();
        }
    }
}

#[test]
fn an_upload_goes_on_where_it_was() {
    let world = World::new();
    world.image("app:1", 0..1, 1_000_000);
    let mut pieces = 0;
    world.fake.misbehave(move |head, _| {
        pieces += usize::from(head.method == "PATCH");
        match head.method == "PATCH" && pieces == 2 {
            true => Fault::CutUpload(100_000),
            false => Fault::No,
        }
    });
    world.push("app:1", "app:1").unwrap();
    let log = world.fake.log();
    let ranges: Vec<&str> = log
        .iter()
        .filter_map(|head| head.header("content-range"))
        .collect();
    // After the first piece, and a part of the second.
    assert!(
        ranges.iter().any(|range| range.starts_with("362144-")),
        "{ranges:?}"
    );
}

#[test]
fn a_registry_that_takes_no_pieces_gets_the_whole() {
    let world = World::new();
    world.image("app:1", 0..1, 1_000_000);
    world.fake.take_whole_blobs_only();
    world.push("app:1", "app:1").unwrap();
    let log = world.fake.log();
    let put = log.iter().filter(|head| head.method == "PUT");
    let most = put
        .filter_map(|head| head.header("content-length")?.parse::<u64>().ok())
        .max();
    assert!(most.unwrap() > 900_000, "{log:?}");
    let other = world.other("other");
    world.pull(&other, "app:1").unwrap();
}

#[test]
fn a_push_that_fails_moves_no_tag() {
    let world = pushed(1, 1000);
    let before = world.fake.manifest("app", "1").unwrap();
    world.image("app:2", 0..3, 1000);
    for fault in [
        Fault::status(500),
        Fault::status(403),
        Fault::status(413),
        Fault::Drop,
    ] {
        let fault = fault.clone();
        world
            .fake
            .misbehave(move |head, _| match head.method.as_str() {
                "PUT" | "PATCH" => fault.clone(),
                _ => Fault::No,
            });
        let error = world.push("app:2", "app:1").unwrap_err().to_string();
        assert!(error.starts_with(&world.fake.name("app")), "{error}");
        assert_eq!(world.fake.manifest("app", "1").unwrap(), before);
    }
}

#[test]
fn a_token_that_ends_in_mid_way_is_fetched_anew() {
    let world = World::new();
    world.image("app:1", 0..6, 600_000);
    world.fake.close(Door::Bearer(None));
    // A token is good for twelve requests.
    let mut used = std::collections::HashMap::new();
    let asked_for = format!(
        "Bearer realm=\"http://{}/token\",service=\"x\"",
        world.fake.host
    );
    world.fake.misbehave(move |head, _| {
        let token = head.header("authorization").unwrap_or_default();
        let uses: &mut u32 = used.entry(token.to_owned()).or_default();
        *uses += u32::from(token.starts_with("Bearer"));
        match *uses > 12 {
            true => Fault::with(401, "www-authenticate", &asked_for),
            false => Fault::No,
        }
    });
    world.push("app:1", "app:1").unwrap();
    let other = world.other("other");
    world.pull(&other, "app:1").unwrap();
    assert!(asked(&world.fake.log(), "GET /token") > 3);
}

#[test]
fn storage_that_the_registry_leads_to_may_expire() {
    let world = pushed(2, 400_000);
    let storage = FakeRegistry::start();
    let name = world.name("app:1");
    let to = storage.name("app:1").parse().unwrap();
    transfer::push(
        &world.store,
        &client(),
        &tag("app:1"),
        &to,
        &PushOptions::default(),
    )
    .unwrap();
    storage.log();
    let host = storage.host.clone();
    world
        .fake
        .misbehave(move |head, _| match head.is_blob_get() {
            true => Fault::with(
                307,
                "location",
                &format!("http://{host}{}?signed=1", head.path),
            ),
            false => Fault::No,
        });
    // Each address is good for one request, and breaks off.
    let mut count = 0;
    storage.misbehave(move |_, _| {
        count += 1;
        match count % 3 {
            0 => Fault::No,
            1 => Fault::Cut(100_000),
            _ => Fault::status(403),
        }
    });
    let other = world.other("other");
    pull_with(&client(), &other, &name).unwrap();
    let log = storage.log();
    assert!(
        log.iter().any(|head| head.header("range").is_some()),
        "{log:?}"
    );
    assert!(
        log.iter()
            .all(|head| head.header("authorization").is_none())
    );
}

#[test]
fn a_registry_may_want_larger_pieces() {
    assert_eq!(ClientOptions::default().upload_chunk, UPLOAD_CHUNK_BYTES);
    for (least, most) in [(500_000, 500_000), (u64::MAX, MAX_UPLOAD_CHUNK_BYTES)] {
        let world = World::new();
        world.image("app:1", 0..1, 1_000_000);
        world.fake.want_pieces_of(least);
        world.push("app:1", "app:1").unwrap();
        let log = world.fake.log();
        let pieces = log.iter().filter(|head| head.method == "PATCH");
        let sizes = pieces.map(|head| head.header("content-length").unwrap().parse().unwrap());
        let sizes: Vec<u64> = sizes.collect();
        // The rest, or all of it, goes with the last request.
        assert!(sizes.iter().all(|size| *size == most), "{sizes:?}");
        assert_eq!(sizes.is_empty(), most > 1_000_000);
    }
}

#[test]
fn what_lies_for_long_goes() {
    let world = pushed(1, 500_000);
    let once = Client::new(ClientOptions {
        tries: 1,
        ..options()
    })
    .unwrap();
    let other = world.other("other");
    world.fake.misbehave(each(1, Fault::Cut(300_000)));
    pull_with(&once, &other, &world.name("app:1")).unwrap_err();
    let dir = world.dir.path().join("other/incoming");
    let files = || {
        std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    // Something else that lies there is nobody's to remove.
    std::fs::write(dir.join("0".repeat(64)), "not ours").unwrap();
    assert_eq!(files().count(), 2);
    for (age, left) in [
        (MAX_INCOMING_AGE_SECONDS - 600, 2),
        (MAX_INCOMING_AGE_SECONDS + 600, 1),
    ] {
        for path in files() {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            let then = std::time::SystemTime::now() - Duration::from_secs(age);
            file.set_modified(then).unwrap();
        }
        world.image("empty:1", 9..10, 10);
        world.push("empty:1", "empty:1").unwrap();
        world.fake.behave();
        world.pull(&other, "empty:1").unwrap();
        assert_eq!(files().count(), left, "{age}");
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_shows() {
    let world = pushed(2, 500_000);
    for room in [1, 3, 10, 40] {
        let left = std::sync::atomic::AtomicI64::new(room);
        let hook: stratafs::store::Hook = std::sync::Arc::new(move |action, path| {
            let writes = action == "write" && path.to_string_lossy().contains("incoming");
            let one = i64::from(writes);
            match left.fetch_sub(one, std::sync::atomic::Ordering::Relaxed) <= 0 && writes {
                true => Err(std::io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        });
        let dir = world.dir.path().join(format!("full-{room}"));
        let full = StoreOptions::new().hook(hook).open(&dir).unwrap();
        let pulled = pull_with(&client(), &full, &world.name("app:1"));
        if let Err(error) = pulled {
            let error = error.to_string();
            assert!(error.contains("incoming"), "{error}");
            assert!(full.list().unwrap().is_empty());
            // What had come by then does not keep the disk full.
            assert!(is_empty(&dir.join("incoming")), "{room}");
        } else {
            assert_eq!(room, 40, "it was full");
        }
        drop(full);
        // With room again it goes on.
        let again = Store::open(&dir).unwrap();
        world.pull(&again, "app:1").unwrap();
        assert!(again.verify().unwrap().is_sound());
    }
}

#[test]
fn a_disk_that_is_full_of_chunks_keeps_nothing_of_the_pull() {
    let world = pushed(2, 500_000);
    let hook: stratafs::store::Hook = std::sync::Arc::new(|action, path| {
        let is_pack = path.to_string_lossy().contains("/tmp/");
        match action == "write" && is_pack && path.metadata().is_ok_and(|meta| meta.len() > 8) {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    });
    let dir = world.dir.path().join("full");
    let full = StoreOptions::new().hook(hook).open(&dir).unwrap();
    let error = pull_with(&client(), &full, &world.name("app:1")).unwrap_err();
    assert!(error.to_string().contains("no storage space"), "{error}");
    assert!(is_empty(&dir.join("incoming")) && is_empty(&dir.join("tmp")));
}

#[test]
fn a_registry_that_did_not_answer_at_first_is_asked_anew() {
    let world = World::new();
    world.image("app:1", 0..1, 1000);
    world.push("app:1", "app:1").unwrap();
    let client = client();
    let store = world.other("other");
    world.fake.misbehave(|_, _| Fault::Drop);
    pull_with(&client, &store, &world.name("app:1")).unwrap_err();
    world.fake.behave();
    pull_with(&client, &store, &world.name("app:1")).unwrap();
}
