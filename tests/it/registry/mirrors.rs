//! Mirrors that do not have what they should: nothing they do keeps an image from coming, or changes it.

use stratafs::errno::Errno;
use stratafs::vfs::Fs;

use super::*;
use crate::support::fake_registry::{Door, Fault};
use crate::support::layout::MANIFEST;

/// A registry with an image, as layers and as packs, and a mirror of it that is asked first.
struct Mirrored {
    world: World,
    mirror: FakeRegistry,
    hosts: std::path::PathBuf,
}

/// Who knows the password of one registry alone.
struct KnowsOne(String);

impl Credentials for KnowsOne {
    fn find(&self, host: &str, _: &str) -> Result<Option<Credential>, RegistryError> {
        Ok((host == self.0).then(|| Credential::basic("user", "secret")))
    }
}

const FORMS: [&str; 2] = ["app:1", "packs:1"];

impl Mirrored {
    fn new() -> Self {
        Self::with("\"pull\"")
    }

    fn with(capabilities: &str) -> Self {
        let world = World::new();
        world.image("app:1", 0..2, 400_000);
        world.push("app:1", "app:1").unwrap();
        let packed = PushOptions {
            packs: true,
            ..PushOptions::default()
        };
        let to = world.name("packs:1");
        transfer::push(&world.store, &client(), &tag("app:1"), &to, &packed).unwrap();
        let mirror = FakeRegistry::start();
        for name in FORMS {
            let to = CopyPlace::Registry(mirror.name(name).parse().unwrap());
            let from = CopyPlace::Registry(world.name(name));
            transfer::copy(&client(), &from, &to, &CopyOptions::default()).unwrap();
        }
        let hosts = world.dir.path().join("hosts");
        let own = hosts.join(&world.fake.host);
        fs::create_dir_all(&own).unwrap();
        let host = &mirror.host;
        let text = format!("[host.\"http://{host}\"]\ncapabilities = [{capabilities}]\n");
        fs::write(own.join("hosts.toml"), text).unwrap();
        mirror.log();
        world.fake.log();
        Self {
            world,
            mirror,
            hosts,
        }
    }

    fn client(&self) -> Client {
        Client::new(ClientOptions {
            hosts_dirs: vec![self.hosts.clone()],
            credentials: Arc::new(KnowsOne(self.world.fake.host.clone())),
            ..options()
        })
        .unwrap()
    }

    fn pull(&self, store: &Store, name: &str, lazy: bool) -> Result<Pulled, TransferError> {
        let options = PullOptions {
            lazy,
            ..PullOptions::default()
        };
        let name = self.world.name(name);
        transfer::pull(store, &self.client(), &name, None, &options)
    }

    /// Pulls in either form, whole and in part, and reads all of it: each time it is what was pushed.
    fn comes(&self, how: &str) {
        for (number, name) in FORMS.into_iter().enumerate() {
            for lazy in [false, true] {
                let store = self.world.other(&format!("{how}-{number}-{lazy}"));
                let told = format!("{how}, {name}, lazy {lazy}");
                self.pull(&store, name, lazy)
                    .unwrap_or_else(|error| panic!("{told}: {error}"));
                transfer::fetch_from(&store, &self.client()).unwrap();
                let full = self.world.name(name).store_name().to_string();
                let guest = Fs::new(&store.image(&full).unwrap());
                for (path, want) in [
                    ("/file-0", noise(0, 400_000)),
                    ("/file-1", noise(1, 400_000)),
                    ("/who", b"1".to_vec()),
                ] {
                    let read = guest.read(path);
                    assert_eq!(read.map_err(|error| format!("{told}: {error}")), Ok(want));
                }
                assert!(store.verify().unwrap().is_sound(), "{told}");
            }
        }
    }

    /// Lets something go wrong with each blob that the mirror is asked for.
    fn harm_blobs(&self, fault: Fault) {
        self.mirror
            .misbehave(move |head, _| match head.is_blob_get() {
                true => fault.clone(),
                false => Fault::No,
            });
    }
}

#[test]
fn a_mirror_that_has_all_is_the_only_one_that_is_asked_for_blobs() {
    let made = Mirrored::new();
    made.comes("good");
    let log = made.world.fake.log();
    assert!(log.iter().all(|head| !head.is_blob_get()), "{log:?}");
    assert!(made.mirror.log().iter().any(Head::is_blob_get));
}

#[test]
fn what_a_mirror_does_not_have_comes_from_the_registry() {
    let made = Mirrored::new();
    for (how, fault) in [
        ("missing", Fault::status(404)),
        ("broken", Fault::status(500)),
        ("busy", Fault::with(429, "retry-after", "50")),
        ("closed", Fault::Drop),
        ("cut", Fault::Cut(1000)),
        ("short", Fault::Truncate(1000)),
    ] {
        made.harm_blobs(fault);
        made.comes(how);
        let log = made.mirror.log();
        assert!(log.iter().any(Head::is_blob_get), "{how}: it was asked");
    }
}

#[test]
fn other_bytes_of_a_mirror_are_not_taken_and_the_registry_is_asked() {
    let made = Mirrored::new();
    made.harm_blobs(Fault::Flip(3));
    made.comes("flipped");
    made.harm_blobs(Fault::Endless);
    made.comes("endless");
    made.mirror.behave();
    // Blobs of other bytes and of another length, under the same digests.
    made.mirror
        .damage_blobs(|bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55));
    made.comes("others");
    made.mirror
        .damage_blobs(|bytes| bytes.truncate(bytes.len() / 2));
    made.comes("halves");
    made.mirror.damage_blobs(Vec::clear);
    made.comes("empty");
}

#[test]
fn bytes_that_are_wrong_at_the_registry_too_are_refused() {
    let made = Mirrored::new();
    let good = made.world.other("good");
    made.pull(&good, "app:1", true).unwrap();
    let flip = |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
    made.mirror.damage_blobs(flip);
    made.world.fake.damage_blobs(flip);
    for name in FORMS {
        for lazy in [false, true] {
            let store = made
                .world
                .other(&format!("{}-{lazy}", name.replace(':', "-")));
            let error = made.pull(&store, name, lazy).unwrap_err().to_string();
            assert!(
                error.contains("sha256:") || error.contains("blake3:"),
                "{error}"
            );
            assert!(store.list().unwrap().is_empty(), "{error}");
        }
    }
    // Who has the tables reads nothing that is not what they say.
    transfer::fetch_from(&good, &made.client()).unwrap();
    let full = made.world.name("app:1").store_name().to_string();
    let guest = Fs::new(&good.image(&full).unwrap());
    assert_eq!(guest.read("/file-0").unwrap_err().errno(), Errno::Io);
}

#[test]
fn a_mirror_that_may_not_resolve_is_not_asked_what_a_tag_leads_to() {
    let made = Mirrored::new();
    let truth = made.world.fake.manifest("app", "1").unwrap();
    // Another image under the same tag.
    made.world.image("other:1", 5..6, 1000);
    let to = made.mirror.name("app:1").parse().unwrap();
    let options = PushOptions::default();
    let store = &made.world.store;
    transfer::push(store, &client(), &tag("other:1"), &to, &options).unwrap();
    assert_ne!(made.mirror.manifest("app", "1").unwrap(), truth);
    made.mirror.log();
    let digest = crate::support::fake_registry::sha256(&truth);
    let pulled = made.pull(&made.world.other("one"), "app:1", false).unwrap();
    assert_eq!(pulled.digest.as_str(), digest);
    let log = made.mirror.log();
    assert!(log.iter().all(|head| !head.path.ends_with("/manifests/1")));
    made.comes("other");
}

#[test]
fn what_a_mirror_that_resolves_says_of_a_tag_is_believed_and_nothing_else() {
    let made = Mirrored::with("\"pull\", \"resolve\"");
    let truth = made.world.fake.manifest("app", "1").unwrap();
    for status in [404, 500] {
        made.mirror
            .misbehave(move |head, _| match head.path.contains("/manifests/") {
                true => Fault::status(status),
                false => Fault::No,
            });
        made.comes(&format!("status-{status}"));
    }
    made.mirror.behave();
    made.world.image("other:1", 5..6, 1000);
    let to = made.mirror.name("app:1").parse().unwrap();
    let options = PushOptions::default();
    let store = &made.world.store;
    let other = transfer::push(store, &client(), &tag("other:1"), &to, &options).unwrap();
    let pulled = made.pull(&made.world.other("one"), "app:1", false).unwrap();
    assert_eq!(pulled.digest, other.digest);
    // Asked for by its digest it is what it is, whatever the mirror has under that name.
    let digest = crate::support::fake_registry::sha256(&truth);
    let lie = made.mirror.manifest("app", "1").unwrap();
    made.mirror.put_manifest("app", &digest, MANIFEST, &lie);
    let name = format!("app@{digest}");
    let pulled = made.pull(&made.world.other("two"), &name, false).unwrap();
    assert_eq!(pulled.digest.as_str(), digest);
}

#[test]
fn a_mirror_is_not_told_the_password_of_the_registry() {
    let made = Mirrored::new();
    made.world.fake.close(Door::Basic("user:secret".to_owned()));
    made.mirror.close(Door::Basic("user:secret".to_owned()));
    made.comes("closed");
    let log = made.mirror.log();
    assert!(!log.is_empty());
    assert!(
        log.iter()
            .all(|head| head.header("authorization").is_none())
    );
}
