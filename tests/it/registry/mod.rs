//! Images in registries: pull, push and copy against a registry of the tests' own.

mod access; // who is let in, and who is told what
mod faults; // what a bad line and a tired registry do
mod homes; // what several registries have
mod hostile; // what a registry may say that means harm
mod lazy; // what is fetched when it is read
mod mirrors; // who is asked before the registry, and does not have it
mod packs; // chunks and no layers, for stratafs alone
mod signed; // what is signed, and what goes along when an image is copied
mod trim; // what goes of a store that is a cache

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stratafs::image::Reference;
use stratafs::registry::{
    Client, ClientOptions, Credential, Credentials, RegistryError, RegistryRef,
};
use stratafs::source::Platform;
use stratafs::store::{ImageInfo, Store};
use stratafs::transfer::{
    self, CopyOptions, CopyPlace, ImportOptions, PullOptions, Pulled, PushOptions, Pushed,
    TransferError,
};
use tempfile::TempDir;

use crate::support::fake_registry::{FakeRegistry, Head};
use crate::support::layout::Layout;
use crate::support::rng::Rng;

/// A store, and a registry to move images from and to.
struct World {
    dir: TempDir,
    store: Store,
    fake: FakeRegistry,
}

/// Somebody who knows one name and password.
struct Knows(Credential);

impl Credentials for Knows {
    fn find(&self, _: &str, _: &str) -> Result<Option<Credential>, RegistryError> {
        Ok(Some(self.0.clone()))
    }
}

/// A client that does not wait for long.
fn options() -> ClientOptions {
    ClientOptions {
        first_pause: Duration::from_millis(1),
        stall: Duration::from_secs(20),
        upload_chunk: 256 * 1024,
        ..ClientOptions::default()
    }
}

fn client() -> Client {
    Client::new(options()).unwrap()
}

fn client_of(user: &str, password: &str) -> Client {
    let knows = Knows(Credential::basic(user, password));
    Client::new(ClientOptions {
        credentials: Arc::new(knows),
        ..options()
    })
    .unwrap()
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len.div_ceil(8))
        .flat_map(|_| rng.next().to_le_bytes())
        .take(len)
        .collect()
}

fn tag(text: &str) -> Reference {
    text.parse().unwrap()
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let fake = FakeRegistry::start();
        Self { dir, store, fake }
    }

    /// Another empty store.
    fn other(&self, name: &str) -> Store {
        Store::open(&self.dir.path().join(name)).unwrap()
    }

    /// Makes an image of layers, a directory for each number, with this much noise in each.
    fn image(&self, name: &str, layers: std::ops::Range<u64>, len: usize) -> ImageInfo {
        let dirs = layers.map(|number| {
            let dir = self.dir.path().join(format!("layer-{number}"));
            if !dir.exists() {
                fs::create_dir(&dir).unwrap();
                fs::write(dir.join(format!("file-{number}")), noise(number, len)).unwrap();
                fs::write(dir.join("who"), number.to_string()).unwrap();
            }
            dir
        });
        let dirs: Vec<_> = dirs.collect();
        transfer::import(&self.store, &dirs, &tag(name), &ImportOptions::default()).unwrap()
    }

    fn name(&self, rest: &str) -> RegistryRef {
        self.fake.name(rest).parse().unwrap()
    }

    fn push(&self, from: &str, to: &str) -> Result<Pushed, TransferError> {
        let options = PushOptions::default();
        transfer::push(&self.store, &client(), &tag(from), &self.name(to), &options)
    }

    fn pull(&self, store: &Store, name: &str) -> Result<Pulled, TransferError> {
        pull_with(&client(), store, &self.name(name))
    }
}

fn pull_with(client: &Client, store: &Store, name: &RegistryRef) -> Result<Pulled, TransferError> {
    transfer::pull(store, client, name, None, &PullOptions::default())
}

fn layers(info: &ImageInfo) -> Vec<String> {
    info.layers
        .iter()
        .map(|layer| layer.digest.to_string())
        .collect()
}

/// What was asked for, but for looking.
fn asked(log: &[Head], what: &str) -> usize {
    log.iter()
        .filter(|head| head.line().starts_with(what))
        .count()
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn what_is_pushed_is_pulled() {
    let world = World::new();
    let made = world.image("app:1", 0..3, 300_000);
    let pushed = world.push("app:1", "team/app:1").unwrap();
    // Three layers, and a configuration for each of three platforms.
    assert_eq!((pushed.sent_blobs, pushed.known_blobs), (6, 0));
    let other = world.other("other");
    let pulled = world.pull(&other, "team/app:1").unwrap();
    assert_eq!(pulled.digest, pushed.digest);
    assert_eq!(layers(&pulled.image), layers(&made));
    assert_eq!((pulled.fetched_layers, pulled.known_layers), (3, 0));
    assert_eq!(pulled.image.tags, [world.fake.name("team/app:1")]);
    assert!(other.verify().unwrap().is_sound());
    assert!(is_empty(&world.dir.path().join("other/incoming")));
    for name in ["file-0", "file-2", "who"] {
        let read = |store: &Store, name: &str, reference: &str| {
            let fs = stratafs::vfs::Fs::new(&store.image(reference).unwrap());
            fs.read(format!("/{name}")).unwrap()
        };
        let want = read(&world.store, name, "app:1");
        assert_eq!(read(&other, name, &world.fake.name("team/app:1")), want);
    }
    // It goes on to another place as it came: one manifest, digests and all.
    let again = FakeRegistry::start();
    let to = again.name("x:1").parse().unwrap();
    let from = tag(&world.fake.name("team/app:1"));
    let options = PushOptions::default();
    let pushed = transfer::push(&other, &client(), &from, &to, &options).unwrap();
    assert_eq!(
        pulled.image.manifest.unwrap().to_string(),
        pushed.digest.as_str()
    );
}

#[test]
fn what_is_there_is_not_moved() {
    let world = World::new();
    world.image("app:1", 0..3, 200_000);
    world.image("app:2", 0..4, 200_000);
    world.push("app:1", "team/app:1").unwrap();
    world.fake.log();
    let pushed = world.push("app:1", "team/app:again").unwrap();
    assert_eq!(pushed.sent_blobs, 0);
    let log = world.fake.log();
    assert_eq!(
        log.iter().filter(|head| head.path != "/v2/").count(),
        2,
        "{log:?}"
    );
    // One layer, and three configurations.
    let pushed = world.push("app:2", "team/app:2").unwrap();
    assert_eq!((pushed.sent_blobs, pushed.known_blobs), (4, 3));
    let other = world.other("other");
    world.pull(&other, "team/app:1").unwrap();
    let pulled = world.pull(&other, "team/app:2").unwrap();
    assert_eq!((pulled.fetched_layers, pulled.known_layers), (1, 3));
    world.fake.log();
    let pulled = world.pull(&other, "team/app:2").unwrap();
    assert_eq!((pulled.fetched_layers, pulled.known_layers), (0, 4));
    let log = world.fake.log();
    // What the tag leads to is asked for, and nothing else.
    assert_eq!(asked(&log, "GET /v2/team"), 1, "{log:?}");
}

#[test]
fn an_image_of_another_tool_keeps_its_digests() {
    let world = World::new();
    let layer = crate::support::archive::Archive::new().file("a", "hello");
    let layout = Layout::of(&[layer.end()]);
    let options = ImportOptions::default();
    let sources = [layout.path().to_owned()];
    let info = transfer::import(&world.store, &sources, &tag("x:1"), &options).unwrap();
    let pushed = world.push("x:1", "x:1").unwrap();
    assert_eq!(info.manifest.unwrap().to_string(), pushed.digest.as_str());
    let other = world.other("other");
    let pulled = world.pull(&other, "x:1").unwrap();
    assert_eq!(pulled.image.id, info.id);
    // By its digest as well, and then it is named by that.
    let name = format!("{}@{}", world.fake.name("x:1"), pushed.digest);
    let pulled = pull_with(&client(), &other, &name.parse().unwrap()).unwrap();
    let by_digest = format!("{}@{}", world.fake.name("x"), pushed.digest);
    assert!(
        pulled.image.tags.contains(&by_digest),
        "{:?}",
        pulled.image.tags
    );
    let wrong = format!("{}@sha256:{}", world.fake.name("x"), "0".repeat(64));
    let error = pull_with(&client(), &other, &wrong.parse().unwrap()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("404 Not Found: MANIFEST_UNKNOWN"),
        "{error}"
    );
}

#[test]
fn a_neighbours_blobs_are_mounted() {
    let world = World::new();
    world.image("app:1", 0..2, 100_000);
    world.push("app:1", "team/app:1").unwrap();
    world.pull(&world.store, "team/app:1").unwrap();
    let from = world.fake.name("team/app:1");
    let pushed = world.push(&from, "other/app:1").unwrap();
    assert_eq!((pushed.mounted_blobs, pushed.sent_blobs), (2, 1));
    let other = world.other("other");
    world.pull(&other, "other/app:1").unwrap();
}

#[test]
fn one_index_names_three_platforms() {
    let world = World::new();
    world.image("app:1", 0..1, 1000);
    world.push("app:1", "app:1").unwrap();
    for (platform, os) in [
        ("wasip1/wasm", "wasip1"),
        ("linux/amd64", "linux"),
        ("linux/arm64", "linux"),
    ] {
        let store = world.other(&platform.replace('/', "-"));
        let mut options = PullOptions::default();
        options.source.platform = Some(platform.parse::<Platform>().unwrap());
        let pulled = transfer::pull(&store, &client(), &world.name("app:1"), None, &options);
        assert_eq!(pulled.unwrap().image.config.os.as_deref(), Some(os));
    }
    let mut options = PullOptions::default();
    options.source.platform = Some("linux/s390x".parse().unwrap());
    let store = world.other("none");
    let error = transfer::pull(&store, &client(), &world.name("app:1"), None, &options);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("no image for linux/s390x") && error.contains("wasip1/wasm"),
        "{error}"
    );
    let options = PushOptions {
        set_platform: Some("linux/arm64".parse().unwrap()),
        ..PushOptions::default()
    };
    let name = world.name("one:1");
    transfer::push(&world.store, &client(), &tag("app:1"), &name, &options).unwrap();
    let manifest = world.fake.manifest("one", "1").unwrap();
    assert!(!String::from_utf8(manifest).unwrap().contains("manifests"));
}

#[test]
fn a_program_of_webassembly_is_an_artifact() {
    let world = World::new();
    let dir = world.dir.path().join("program");
    fs::create_dir(&dir).unwrap();
    let program = wat::parse_str("(module (func (export \"_start\")))").unwrap();
    fs::write(dir.join("app.wasm"), &program).unwrap();
    let options = ImportOptions::default();
    transfer::import(&world.store, &[dir], &tag("p:1"), &options).unwrap();
    let options = PushOptions {
        artifact: true,
        ..PushOptions::default()
    };
    let name = world.name("p:1");
    let pushed = transfer::push(&world.store, &client(), &tag("p:1"), &name, &options).unwrap();
    let other = world.other("other");
    let pulled = world.pull(&other, "p:1").unwrap();
    let found = transfer::program(&other, &pulled.image).unwrap();
    assert_eq!(found.as_deref(), Some(&program[..]));
    // And goes out as it came.
    let again = world.name("again:1");
    let from = tag(&world.fake.name("p:1"));
    let sent = transfer::push(&other, &client(), &from, &again, &PushOptions::default()).unwrap();
    assert_eq!(sent.digest, pushed.digest);
}

#[test]
fn copies_are_byte_for_byte() {
    let world = World::new();
    world.image("app:1", 0..3, 300_000);
    let pushed = world.push("app:1", "team/app:1").unwrap();
    let second = FakeRegistry::start();
    let registry = |name: String| CopyPlace::Registry(name.parse().unwrap());
    let layout = |name: Option<&str>| {
        let path = world.dir.path().join("layout");
        CopyPlace::Layout(path, name.map(str::to_owned))
    };
    let copy = |from: &CopyPlace, to: &CopyPlace| {
        transfer::copy(&client(), from, to, &CopyOptions::default())
    };
    let first = registry(world.fake.name("team/app:1"));
    let copied = copy(&first, &layout(Some("one"))).unwrap();
    assert_eq!(
        (copied.digest, copied.sent_blobs),
        (pushed.digest.clone(), 6)
    );
    let copied = copy(&first, &layout(Some("two"))).unwrap();
    assert_eq!((copied.sent_blobs, copied.known_blobs), (0, 6));
    let error = copy(&layout(None), &registry(second.name("x:1"))).unwrap_err();
    assert!(error.to_string().contains("more than one image"), "{error}");
    let copied = copy(&layout(Some("one")), &registry(second.name("x:1"))).unwrap();
    assert_eq!(
        (copied.digest, copied.sent_blobs),
        (pushed.digest.clone(), 6)
    );
    let copied = copy(&registry(second.name("x:1")), &registry(second.name("y:1"))).unwrap();
    assert_eq!(
        (copied.digest, copied.mounted_blobs),
        (pushed.digest.clone(), 6)
    );
    let third = FakeRegistry::start();
    let copied = copy(&registry(second.name("y:1")), &registry(third.name("z:1"))).unwrap();
    assert_eq!((&copied.digest, copied.sent_blobs), (&pushed.digest, 6));
    let other = world.other("other");
    let pulled = pull_with(&client(), &other, &third.name("z:1").parse().unwrap()).unwrap();
    assert_eq!(pulled.digest, pushed.digest);
    // One image of the index alone.
    let options = CopyOptions {
        platform: Some("linux/arm64".parse().unwrap()),
        ..CopyOptions::default()
    };
    let one = world.dir.path().join("one");
    let to = CopyPlace::Layout(one.clone(), None);
    let copied = transfer::copy(&client(), &first, &to, &options).unwrap();
    assert_eq!(copied.sent_blobs, 4);
    let imported = [one];
    let info = transfer::import(&other, &imported, &tag("one"), &ImportOptions::default()).unwrap();
    assert_eq!(info.config.architecture.as_deref(), Some("arm64"));
}

#[test]
fn tags_and_referrers_are_listed() {
    let world = World::new();
    world.image("app:1", 0..1, 1000);
    for name in ["app:1", "app:b", "app:a"] {
        world.push("app:1", name).unwrap();
    }
    assert_eq!(client().tags(&world.name("app")).unwrap(), ["1", "a", "b"]);
    let error = client().tags(&world.name("none")).unwrap();
    assert!(error.is_empty());
    let digest = client().look_up(&world.name("app:1")).unwrap().unwrap();
    assert_eq!(
        client().referrers(&world.name("app:1"), &digest).unwrap(),
        []
    );
    // Registries that do not know such lists have a tag for one.
    let listed = r#"{"schemaVersion":2,"manifests":[{"mediaType":"m","size":7,"artifactType":"sig","digest":"DIGEST","annotations":{"k":"v"}}]}"#;
    let listed = listed.replace("DIGEST", digest.as_str());
    let fallback = digest.as_str().replace(':', "-");
    let kind = "application/vnd.oci.image.index.v1+json";
    world
        .fake
        .put_manifest("app", &fallback, kind, listed.as_bytes());
    let found = client().referrers(&world.name("app:1"), &digest).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].artifact_type.as_deref(), Some("sig"));
    assert_eq!((found[0].size, &found[0].digest), (7, &digest));
    assert_eq!(found[0].annotations, [("k".to_owned(), "v".to_owned())]);
}

#[test]
fn two_pulls_at_once_fetch_each_blob_once() {
    let world = World::new();
    world.image("app:1", 0..4, 400_000);
    world.push("app:1", "app:1").unwrap();
    world.fake.misbehave(|head, _| match head.is_blob_get() {
        true => crate::support::fake_registry::Fault::Delay(Duration::from_millis(30)),
        false => crate::support::fake_registry::Fault::No,
    });
    let other = world.other("other");
    world.fake.log();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| world.pull(&other, "app:1").unwrap());
        }
    });
    let log = world.fake.log();
    let layers = other.info(&world.fake.name("app:1")).unwrap().layers;
    for layer in layers {
        let blob = layer.origin.blob.unwrap().to_string();
        let fetched = asked(&log, &format!("GET /v2/app/blobs/{blob}"));
        // The second may come when the first has put everything away.
        assert!((1..=2).contains(&fetched), "{blob}: {fetched}");
    }
    assert!(other.verify().unwrap().is_sound());
    assert!(is_empty(&world.dir.path().join("other/incoming")));
}

#[test]
fn mirrors_are_asked_first_and_the_registry_if_they_do_not_help() {
    let world = World::new();
    world.image("app:1", 0..2, 100_000);
    world.push("app:1", "app:1").unwrap();
    let mirror = FakeRegistry::start();
    let copied = CopyPlace::Registry(mirror.name("app:1").parse().unwrap());
    let from = CopyPlace::Registry(world.name("app:1"));
    transfer::copy(&client(), &from, &copied, &CopyOptions::default()).unwrap();
    let hosts = world.dir.path().join("hosts");
    let own = hosts.join(&world.fake.host);
    fs::create_dir_all(&own).unwrap();
    let text = format!(
        "[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        mirror.host
    );
    fs::write(own.join("hosts.toml"), text).unwrap();
    let client = || {
        Client::new(ClientOptions {
            hosts_dirs: vec![hosts.clone()],
            ..options()
        })
        .unwrap()
    };
    world.fake.log();
    mirror.log();
    let (one, two) = (world.other("one"), world.other("two"));
    pull_with(&client(), &one, &world.name("app:1")).unwrap();
    let log = world.fake.log();
    assert_eq!(asked(&log, "GET /v2/app/blobs"), 0, "{log:?}");
    assert_eq!(asked(&log, "GET /v2/app/manifests/1"), 1);
    let log = mirror.log();
    assert_eq!(asked(&log, "GET /v2/app/blobs"), 3);
    let told = format!("ns={}", world.fake.host.replace(':', "%3A"));
    assert!(log.iter().all(|head| head.query == told), "{log:?}");
    // One that lies does no harm.
    mirror.damage_blobs(|bytes| bytes[0] ^= 1);
    pull_with(&client(), &two, &world.name("app:1")).unwrap();
    assert_eq!(asked(&world.fake.log(), "GET /v2/app/blobs"), 3);
    assert!(two.verify().unwrap().is_sound());
}
