//! Images in object stores: push, pull and collect, in a folder and in an S3 of the tests' own.

mod fake_s3; // an object store that can be told to misbehave
mod lazy; // pulled by tables, fetched when read
mod packs; // chunks and no layers, for stratafs alone

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use stratafs::image::Reference;
use stratafs::object::{Bucket, BucketOptions, ObjectError, ObjectErrorKind, ObjectRef};
use stratafs::registry::ClientOptions;
use stratafs::store::{ImageInfo, Store};
use stratafs::transfer::{
    self, ImportOptions, PullOptions, Pulled, PushOptions, Pushed, TransferError,
};
use tempfile::TempDir;

use self::fake_s3::{Bad, FakeS3, now};
use crate::support::rng::Rng;

/// A store, and a place to move images from and to.
struct World {
    dir: TempDir,
    store: Store,
    s3: Option<FakeS3>,
}

fn tag(text: &str) -> Reference {
    text.parse().unwrap()
}

impl World {
    fn folder() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self {
            dir,
            store,
            s3: None,
        }
    }

    fn s3() -> Self {
        Self {
            s3: Some(FakeS3::start()),
            ..Self::folder()
        }
    }

    fn both() -> [Self; 2] {
        [Self::folder(), Self::s3()]
    }

    fn fake(&self) -> &FakeS3 {
        self.s3.as_ref().unwrap()
    }

    fn name(&self, rest: &str) -> ObjectRef {
        let text = match &self.s3 {
            Some(_) => format!("s3://bucket/team/{rest}"),
            None => format!("file://{}/{rest}", self.path().display()),
        };
        text.parse().unwrap()
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("place")
    }

    fn options(&self) -> BucketOptions {
        let endpoint = self.s3.as_ref().map(|s3| format!("http://{}", s3.host));
        let settings = endpoint.into_iter().flat_map(|endpoint| {
            let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            [
                own("AWS_ENDPOINT", &endpoint),
                own("AWS_ACCESS_KEY_ID", "key"),
                own("AWS_SECRET_ACCESS_KEY", "secret"),
            ]
        });
        BucketOptions {
            settings: settings.collect(),
            http: ClientOptions {
                first_pause: Duration::from_millis(1),
                ..ClientOptions::default()
            },
        }
    }

    fn bucket(&self) -> Bucket {
        Bucket::open(self.name("x").home(), &self.options()).unwrap()
    }

    fn image(&self, name: &str, number: u64, len: usize) -> ImageInfo {
        let dir = self.dir.path().join(format!("layer-{number}"));
        fs::create_dir_all(&dir).unwrap();
        let mut rng = Rng::new(number);
        let noise: Vec<u8> = (0..len.div_ceil(8))
            .flat_map(|_| rng.next().to_le_bytes())
            .collect();
        fs::write(dir.join("noise"), noise).unwrap();
        let sources = [dir];
        transfer::import(&self.store, &sources, &tag(name), &ImportOptions::default()).unwrap()
    }

    fn push(&self, from: &str, to: &str) -> Result<Pushed, TransferError> {
        self.push_with(from, to, &PushOptions::default())
    }

    fn push_with(
        &self,
        from: &str,
        to: &str,
        options: &PushOptions,
    ) -> Result<Pushed, TransferError> {
        let to = self.name(to);
        transfer::push_object(&self.store, &self.bucket(), &tag(from), &to, options)
    }

    fn pull(&self, store: &Store, name: &ObjectRef) -> Result<Pulled, TransferError> {
        transfer::pull_object(store, &self.bucket(), name, None, &PullOptions::default())
    }

    fn other(&self, name: &str) -> Store {
        Store::open(&self.dir.path().join(name)).unwrap()
    }

    /// Changes all objects whose keys have this in them.
    fn change(&self, part: &str, change: impl Fn(&mut Vec<u8>)) {
        if let Some(s3) = &self.s3 {
            s3.change(|objects| {
                let those = objects.iter_mut().filter(|(key, _)| key.contains(part));
                those.for_each(|(_, object)| change(&mut object.bytes));
            });
            return;
        }
        for path in files(&self.path()) {
            if path.to_str().unwrap().contains(part) {
                let mut bytes = fs::read(&path).unwrap();
                change(&mut bytes);
                fs::write(&path, bytes).unwrap();
            }
        }
    }

    /// Makes all objects so many seconds older.
    fn age(&self, seconds: u64) {
        if let Some(s3) = &self.s3 {
            s3.change(|objects| objects.values_mut().for_each(|one| one.written -= seconds));
            return;
        }
        for path in files(&self.path()) {
            let time = SystemTime::now() - Duration::from_secs(seconds);
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_modified(time).unwrap();
        }
    }

    /// The keys of all objects but the folder's lock.
    fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        match &self.s3 {
            Some(s3) => s3.change(|objects| {
                let own = objects
                    .keys()
                    .map(|key| key.trim_start_matches("bucket/team/"));
                keys.extend(own.map(str::to_owned));
            }),
            None => {
                let all = files(&self.path()).into_iter();
                let own = all.map(|path| path.strip_prefix(self.path()).unwrap().to_owned());
                keys.extend(own.map(|path| path.to_str().unwrap().to_owned()));
            }
        }
        keys.retain(|key| key != ".lock");
        keys.sort();
        keys
    }
}

fn files(dir: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[track_caller]
fn of(error: TransferError) -> ObjectError {
    match error {
        TransferError::Object(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_pushed_to_a_place_is_pulled() {
    for world in World::both() {
        let made = world.image("app:1", 1, 300_000);
        let pushed = world.push("app:1", "app:1").unwrap();
        // A layer, and a configuration for each of three platforms.
        assert_eq!((pushed.sent_blobs, pushed.known_blobs), (4, 0));
        let again = world.push("app:1", "app:1").unwrap();
        assert_eq!(
            (again.digest.clone(), again.sent_blobs),
            (pushed.digest.clone(), 0)
        );
        let second = world.push("app:1", "app:2").unwrap();
        assert_eq!((second.sent_blobs, second.known_blobs), (0, 4));
        if let Some(s3) = &world.s3 {
            s3.log();
        }
        let other = world.other("other");
        let pulled = world.pull(&other, &world.name("app:1")).unwrap();
        assert_eq!(pulled.digest, pushed.digest);
        assert_eq!(pulled.image.layers[0].digest, made.layers[0].digest);
        assert_eq!(pulled.image.tags, [world.name("app:1").to_string()]);
        assert!(other.verify().unwrap().is_sound());
        if let Some(s3) = &world.s3 {
            let log = s3.log();
            // Tag, index, manifest, configuration, layer; nothing is listed.
            assert_eq!(log.len(), 5, "{log:?}");
            assert!(
                log.iter().all(|line| !line.contains("list-type")),
                "{log:?}"
            );
        }
        let by_digest = format!("{}/app@{}", world.name("x").home(), pushed.digest);
        let pulled = world.pull(&other, &by_digest.parse().unwrap()).unwrap();
        assert!(
            pulled.image.tags.contains(&by_digest),
            "{:?}",
            pulled.image.tags
        );
        let error = of(world.pull(&other, &world.name("none:1")).unwrap_err());
        assert!(matches!(error.kind(), ObjectErrorKind::NotFound), "{error}");
        assert!(
            world.keys().iter().all(|key| !key.starts_with("leases")),
            "{:?}",
            world.keys()
        );
    }
}

#[test]
fn a_tag_makes_a_place_a_layout() {
    let world = World::folder();
    let made = world.image("app:1", 1, 1000);
    world.push("app:1", "app:1").unwrap();
    fs::copy(
        world.path().join("tags/app/1"),
        world.path().join("index.json"),
    )
    .unwrap();
    let other = world.other("other");
    let options = ImportOptions::default();
    let info = transfer::import(&other, &[world.path()], &tag("x:1"), &options).unwrap();
    assert_eq!(info.layers[0].digest, made.layers[0].digest);
    // And what other programs put there is left alone.
    let own = world.path().join("blobs/sha256/of-mine");
    fs::write(&own, "mine").unwrap();
    world.age(10_000);
    world
        .bucket()
        .collect(Duration::from_secs(1), false)
        .unwrap();
    assert!(own.exists());
}

#[test]
fn blobs_of_several_parts_come_back_and_go_on() {
    for world in World::both() {
        let part = usize::try_from(stratafs::limits::OBJECT_PART_BYTES).unwrap();
        let made = world.image("app:1", 1, part + 100_000);
        world.push("app:1", "app:1").unwrap();
        let other = world.other("other");
        if let Some(s3) = &world.s3 {
            // The second part fails for good: the first stays.
            let mut ranges = 0;
            s3.misbehave(move |method, target| {
                ranges += u32::from(method == "GET" && target.contains("/blobs/"));
                if ranges > 4 {
                    Bad::Status(403)
                } else {
                    Bad::No
                }
            });
            let error = of(world.pull(&other, &world.name("app:1")).unwrap_err());
            assert!(
                matches!(error.kind(), ObjectErrorKind::Denied(_)),
                "{error}"
            );
            assert!(other.list().unwrap().is_empty());
            s3.behave();
            s3.log();
        }
        let pulled = world.pull(&other, &world.name("app:1")).unwrap();
        assert_eq!(pulled.image.layers[0].digest, made.layers[0].digest);
        if let Some(s3) = &world.s3 {
            assert_eq!(s3.log().len(), 5, "the first part is not fetched again");
        }
    }
}

#[test]
fn of_two_who_move_a_tag_one_is_told() {
    for world in World::both() {
        world.image("app:1", 1, 50_000);
        world.image("app:2", 2, 50_000);
        world.image("app:3", 3, 50_000);
        world.push("app:3", "app:t").unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let (options, home) = (world.options(), world.name("app:t"));
        let store = world.store.clone();
        let seen = Arc::clone(&done);
        let other = move || {
            if !seen.swap(true, Ordering::Relaxed) {
                let bucket = Bucket::open(home.home(), &options).unwrap();
                let plain = PushOptions::default();
                transfer::push_object(&store, &bucket, &tag("app:2"), &home, &plain).unwrap();
            }
        };
        let options = PushOptions {
            watcher: Some(Arc::new(move |_| other())),
            ..PushOptions::default()
        };
        let error = of(world.push_with("app:1", "app:t", &options).unwrap_err());
        assert!(
            matches!(error.kind(), ObjectErrorKind::Moved { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("push again"), "{error}");
        let bucket = world.bucket();
        let second = world.push("app:2", "app:t").unwrap();
        assert_eq!(
            bucket.manifest(&world.name("app:t")).unwrap().digest,
            second.digest
        );
        // Told, it pushes again.
        let first = world.push("app:1", "app:t").unwrap();
        assert_eq!(
            bucket.manifest(&world.name("app:t")).unwrap().digest,
            first.digest
        );
    }
}

#[test]
fn a_lost_answer_is_no_other_pusher() {
    let world = World::s3();
    world.image("app:1", 1, 1000);
    let mut lost = 0;
    world.fake().misbehave(move |method, target| {
        lost += u32::from(method == "PUT" && target.contains("/tags/"));
        if method == "PUT" && target.contains("/tags/") && lost == 1 {
            Bad::Lost
        } else {
            Bad::No
        }
    });
    world.push("app:1", "app:1").unwrap();
}

#[test]
fn what_is_damaged_is_refused_and_told() {
    for world in World::both() {
        world.image("app:1", 1, 100_000);
        let pushed = world.push("app:1", "app:1").unwrap();
        let other = world.other("other");
        let refused = |want: &str| {
            let error = world
                .pull(&other, &world.name("app:1"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(want), "{want}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(other.list().unwrap().is_empty(), "{error}");
        };
        world.change("blobs/sha256", |bytes| {
            if bytes.len() > 50_000 {
                bytes[40_000] ^= 1;
            }
        });
        refused("the digest sha256:");
        world.change("blobs/sha256", |bytes| {
            if bytes.len() > 50_000 {
                bytes.truncate(40_000);
            }
        });
        refused("the size");
        let top = pushed.digest.hex().to_owned();
        world.change(&top, |bytes| bytes[0] ^= 1);
        refused("the digest sha256:");
        world.change("tags/app", |bytes| bytes[0] ^= 1);
        refused("expected an index that names one image");
        let lie = br#"{"manifests":[{"mediaType":"m","size":1,"digest":"sha256:../../x"}]}"#;
        world.change("tags/app", |bytes| *bytes = lie.to_vec());
        refused("expected an index that names one image");
        world.change("tags/app", |bytes| *bytes = vec![b' '; 5 << 20]);
        refused("more than 4194304 bytes in a document");
        // Who cannot be sure what is in use removes nothing.
        let before = world.keys();
        world.age(1_000_000);
        let collected = world.bucket().collect(Duration::ZERO, false);
        assert!(collected.is_err(), "{collected:?}");
        assert_eq!(world.keys(), before);
    }
}

#[test]
fn a_push_puts_right_what_was_cut_short() {
    for world in World::both() {
        world.image("app:1", 1, 100_000);
        world.push("app:1", "app:1").unwrap();
        world.change("blobs/sha256", |bytes| bytes.truncate(bytes.len() / 2));
        let pushed = world.push("app:1", "app:2").unwrap();
        assert_eq!((pushed.sent_blobs, pushed.known_blobs), (4, 0));
        world
            .pull(&world.other("other"), &world.name("app:2"))
            .unwrap();
    }
}

#[test]
fn a_collection_removes_what_is_old_and_nobody_names() {
    for world in World::both() {
        world.image("app:1", 1, 50_000);
        world.image("app:2", 2, 50_000);
        world.push("app:1", "app:1").unwrap();
        world.push("app:2", "app:1").unwrap();
        let grace = Duration::from_secs(3600);
        let bucket = world.bucket();
        let young = bucket.collect(grace, false).unwrap();
        assert_eq!((young.tags, young.removed_blobs), (1, 0));
        // Index, three manifests, three configurations and a layer for either image.
        assert_eq!((young.used_blobs, young.young_blobs), (8, 8));
        world.age(4000);
        let dry = bucket.collect(grace, true).unwrap();
        let before = world.keys();
        let wet = bucket.collect(grace, false).unwrap();
        assert_eq!((dry.removed_blobs, dry.freed_bytes > 50_000), (8, true));
        assert_eq!(dry, wet);
        assert_eq!(world.keys().len() + 8, before.len());
        let other = world.other("other");
        world.pull(&other, &world.name("app:1")).unwrap();
        assert_eq!(bucket.collect(grace, false).unwrap().removed_blobs, 0);
    }
}

#[test]
fn a_collection_and_a_push_keep_out_of_each_others_way() {
    for world in World::both() {
        world.image("app:1", 1, 1000);
        world.push("app:1", "app:1").unwrap();
        let bucket = world.bucket();
        let lease = bucket.lease().unwrap();
        let error = bucket.collect(Duration::ZERO, false).unwrap_err();
        assert!(matches!(error.kind(), ObjectErrorKind::Busy(_)), "{error}");
        lease.keep().unwrap();
        // Others may push meanwhile.
        world.push("app:1", "app:2").unwrap();
        // One who died is waited for no longer than a lease lasts.
        std::mem::forget(lease);
        world.age(stratafs::limits::OBJECT_LEASE_SECONDS - 60);
        assert!(bucket.collect(Duration::ZERO, false).is_err());
        world.age(stratafs::limits::OBJECT_LEASE_SECONDS + 60);
        bucket.collect(Duration::from_secs(100_000), false).unwrap();
        assert!(
            world.keys().iter().all(|key| !key.starts_with("leases")),
            "{:?}",
            world.keys()
        );
    }
}

#[test]
fn a_web_server_is_read_and_not_written() {
    let world = World::s3();
    let made = world.image("app:1", 1, 100_000);
    world.push("app:1", "app:1").unwrap();
    let name = format!("http://{}/bucket/team/app:1", world.fake().host);
    let name: ObjectRef = name.parse().unwrap();
    let bucket = Bucket::open(name.home(), &world.options()).unwrap();
    let other = world.other("other");
    let options = PullOptions::default();
    let pulled = transfer::pull_object(&other, &bucket, &name, None, &options).unwrap();
    assert_eq!(pulled.image.layers[0].digest, made.layers[0].digest);
    let plain = PushOptions::default();
    let error = transfer::push_object(&world.store, &bucket, &tag("app:1"), &name, &plain);
    let error = of(error.unwrap_err());
    assert!(matches!(error.kind(), ObjectErrorKind::ReadOnly), "{error}");
    // In plain text to this machine alone.
    let far: ObjectRef = "http://images.example/team/app:1".parse().unwrap();
    let bucket = Bucket::open(far.home(), &BucketOptions::default()).unwrap();
    let error = bucket.manifest(&far).unwrap_err().to_string();
    assert!(
        error.contains("plain HTTP is used for this machine alone"),
        "{error}"
    );
}

#[test]
fn faults_of_an_object_store_are_tried_again_or_told() {
    let world = World::s3();
    world.image("app:1", 1, 100_000);
    let mut counts = HashMap::new();
    world.fake().misbehave(move |method, target| {
        let count = counts.entry(format!("{method} {target}")).or_insert(0);
        *count += 1;
        match *count {
            1 => Bad::Status(503),
            2 => Bad::Lost,
            _ => Bad::No,
        }
    });
    world.push("app:1", "app:1").unwrap();
    let other = world.other("other");
    world.pull(&other, &world.name("app:1")).unwrap();
    // What stays wrong is told after five tries, what is refused at once.
    let third = world.other("third");
    for (status, tries, want) in [(503, 5, "503"), (403, 1, "not permitted"), (400, 1, "400")] {
        world.fake().misbehave(move |_, _| Bad::Status(status));
        world.fake().log();
        let error = world
            .pull(&third, &world.name("app:1"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(want), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert_eq!(world.fake().log().len(), tries, "{error}");
    }
    // An answer has a bound, whatever was asked for.
    let limit = usize::try_from(stratafs::limits::MAX_OBJECT_ANSWER_BYTES).unwrap();
    world
        .fake()
        .misbehave(move |_, _| Bad::Body(vec![b' '; limit + 1]));
    let error = world
        .pull(&third, &world.name("app:1"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("more than 33554432 bytes in an answer"),
        "{error}"
    );
    assert!(third.list().unwrap().is_empty());
    world.fake().behave();
    world
        .fake()
        .change(|objects| assert!(objects.values().all(|one| one.written <= now())));
    world.pull(&third, &world.name("app:1")).unwrap();
}

#[test]
fn conditions_can_be_switched_off_where_a_store_has_none() {
    let world = World::s3();
    world.image("app:1", 1, 1000);
    let mut options = world.options();
    let off = ("AWS_CONDITIONAL_PUT".to_owned(), "disabled".to_owned());
    options.settings.push(off);
    let name = world.name("app:1");
    let bucket = Bucket::open(name.home(), &options).unwrap();
    let plain = PushOptions::default();
    transfer::push_object(&world.store, &bucket, &tag("app:1"), &name, &plain).unwrap();
    world.pull(&world.other("other"), &name).unwrap();
}

#[test]
fn object_stores_keep_no_signatures() {
    let world = World::folder();
    world.image("app:1", 1, 1000);
    world.push("app:1", "app:1").unwrap();
    let key = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAENk0BBcwXz9qiStQozx5JkK/1Xi29kS7Jf2tSjXOUC8=\n-----END PUBLIC KEY-----\n";
    let options = PullOptions {
        verify_keys: vec![stratafs::registry::VerifyKey::from_pem(key.as_bytes()).unwrap()],
        ..PullOptions::default()
    };
    let (name, other) = (world.name("app:1"), world.other("other"));
    let error = transfer::pull_object(&other, &world.bucket(), &name, None, &options);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("keeps no signatures"), "{error}");
    assert!(other.list().unwrap().is_empty());
}
