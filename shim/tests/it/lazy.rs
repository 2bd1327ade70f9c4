//! Content that is not on the node: fetched when a guest reads it, from a registry that is reached as the
//! configuration says.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use stratafs::image::Reference;
use stratafs::limits::FAILED_FETCH_SECONDS;
use stratafs::name::LayerPath;
use stratafs::registry::{Client, ClientOptions, RegistryRef};
use stratafs::store::Store;
use stratafs::transfer::{ImportOptions, PullOptions, PushOptions, import, pull, push};
use stratafs_shim::messages::*;
use stratafs_shim::reach::RegistryConfig;

use crate::netns::{Net, entry};
use crate::node::*;
use crate::support::fake_registry::{Door, FakeRegistry, Fault};
use crate::support::tls_door::{ROOT, TlsDoor};

/// More than a pull takes along for the start.
const LEN: usize = 3_000_000;

/// What a guest hears of content that cannot be had.
const EIO: u32 = 29;

/// Reads `far` to its end, and exits with the first error, or with 7 if there is none.
fn reads_far() -> String {
    let body = "
         (local.set $fd (i32.const 3))
         (drop (call $open (local.get $fd) (i32.const 1) (i32.const 16) (i32.const 3)
            (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 12)))
         (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const 65536))
         (loop $l
            (local.set $n (call $read (i32.load (i32.const 12)) (i32.const 0) (i32.const 1) (i32.const 8)))
            (if (local.get $n) (then (call $exit (local.get $n))))
            (br_if $l (i32.load (i32.const 8))))
         (call $exit (i32.const 7))";
    program(body).replace(
        "(func (export",
        "(data (i32.const 16) \"far\") (func (export",
    )
}

/// For each byte of input reads `far` to its end, and says `.`, or `e` if that failed with EIO. Any other
/// failure ends it.
fn reads_far_when_asked() -> String {
    let body = "
         (loop $ask
            (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 1))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (if (i32.eqz (i32.load (i32.const 8))) (then (call $exit (i32.const 0))))
            (local.set $n (call $open (i32.const 3) (i32.const 1) (i32.const 16) (i32.const 3)
                (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 12)))
            (if (local.get $n) (then (call $exit (local.get $n))))
            (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const 65536))
            (block $read
                (loop $l
                    (local.set $n (call $read (i32.load (i32.const 12)) (i32.const 0) (i32.const 1) (i32.const 8)))
                    (br_if $read (local.get $n))
                    (br_if $l (i32.load (i32.const 8)))))
            (if (i32.and (i32.ne (local.get $n) (i32.const 0)) (i32.ne (local.get $n) (i32.const 29)))
                (then (call $exit (local.get $n))))
            (i32.store8 (i32.const 64) (select (i32.const 101) (i32.const 46) (local.get $n)))
            (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 1))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (br $ask))";
    program(body).replace(
        "(func (export",
        "(data (i32.const 16) \"far\") (func (export",
    )
}

/// A registry with TLS and a node that has an image of it in part.
struct Far {
    node: Node,
    fake: FakeRegistry,
    store: PathBuf,
    image: String,
    name: RegistryRef,
}

fn client(options: ClientOptions) -> Client {
    Client::new(options).unwrap()
}

impl Far {
    /// Pulls as an image of `host` what `registry` says how to reach, which the shim is not told.
    fn new(
        host: impl FnOnce(&FakeRegistry) -> String,
        registry: RegistryConfig,
        pulled_by: ClientOptions,
    ) -> Self {
        let fake = FakeRegistry::start();
        let node = Node::with(|config| config.registry = registry);
        let (source, made) = (node.dir.path().join("source"), node.dir.path().join("made"));
        fs::create_dir(&source).unwrap();
        fs::write(source.join("app.wasm"), reads_far()).unwrap();
        fs::write(source.join("ask.wasm"), reads_far_when_asked()).unwrap();
        let mut state = 1_u64;
        let noise = (0..LEN).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        });
        fs::write(source.join("far"), noise.collect::<Vec<u8>>()).unwrap();
        let made = Store::open(&made).unwrap();
        let tag: Reference = "app:1".parse().unwrap();
        import(&made, &[source], &tag, &ImportOptions::default()).unwrap();
        let inner: RegistryRef = fake.name("team/app:1").parse().unwrap();
        // A guest's program is there before it starts.
        let mut options = PushOptions::default();
        for name in ["app.wasm", "ask.wasm"] {
            let path = LayerPath::parse(name.as_bytes()).unwrap();
            options.start_set.add(path, true);
        }
        push(
            &made,
            &client(ClientOptions::default()),
            &tag,
            &inner,
            &options,
        )
        .unwrap();
        let store = node.dir.path().join("store");
        let name: RegistryRef = format!("{}/team/app:1", host(&fake)).parse().unwrap();
        let lazily = PullOptions {
            lazy: true,
            ..PullOptions::default()
        };
        let into = Store::open(&store).unwrap();
        let pulled = pull(&into, &client(pulled_by), &name, None, &lazily).unwrap();
        assert_eq!(pulled.lazy_layers, 1);
        Self {
            node,
            fake,
            store,
            image: pulled.image.id.to_string(),
            name,
        }
    }

    /// Removes the image from the store.
    fn remove(&self) {
        let store = Store::open(&self.store).unwrap();
        for image in store.list().unwrap() {
            for tag in &image.tags {
                store.untag(tag).unwrap();
            }
        }
        assert_eq!(store.gc().unwrap().images, 1);
    }

    /// Pulls it again in part.
    fn pull_again(&self) {
        let store = Store::open(&self.store).unwrap();
        let lazily = PullOptions {
            lazy: true,
            ..PullOptions::default()
        };
        let client = client(ClientOptions::default());
        pull(&store, &client, &self.name, None, &lazily).unwrap();
    }

    /// Runs a container that reads what is not there; returns its code.
    fn run(&self, id: &str) -> u32 {
        self.bundle(id).run(&self.node).0
    }

    fn bundle(&self, id: &str) -> Bundle {
        let mut bundle = self.node.bundle(id, "");
        bundle.request.rootfs = stored_mount(&bundle.dir, &self.store, &self.image, &[]);
        bundle
    }
}

fn with_root(credentials: Option<&str>) -> ClientOptions {
    let mut options = ClientOptions {
        roots: vec![ROOT.as_bytes().to_vec()],
        ..ClientOptions::default()
    };
    if let Some(credentials) = credentials {
        let (user, password) = credentials.split_once(':').unwrap();
        options.credentials = std::sync::Arc::new(Only(user.into(), password.into()));
    }
    options
}

/// Credentials for every registry.
struct Only(String, String);

impl stratafs::registry::Credentials for Only {
    fn find(
        &self,
        _: &str,
        _: &str,
    ) -> Result<Option<stratafs::registry::Credential>, stratafs::registry::RegistryError> {
        Ok(Some(stratafs::registry::Credential::basic(
            &self.0, &self.1,
        )))
    }
}

/// A file in a directory of its own, which lasts as long as the test.
fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_root_that_the_configuration_names_is_trusted_and_none_besides() {
    let dir = tempfile::tempdir().unwrap();
    let ca = file(&dir, "ca.pem", ROOT);
    for (ca, code) in [(vec![ca], 7), (Vec::new(), EIO)] {
        let registry = RegistryConfig {
            ca,
            ..RegistryConfig::default()
        };
        let far = Far::new(
            |fake| TlsDoor::before(&fake.host).host,
            registry,
            with_root(None),
        );
        assert_eq!(far.run("c"), code);
        far.node.end();
    }
}

#[test]
fn content_comes_over_the_network_of_the_process_to_a_guest_that_has_another() {
    let Some(net) = Net::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let registry = RegistryConfig {
        ca: vec![file(&dir, "ca.pem", ROOT)],
        ..RegistryConfig::default()
    };
    let host = |fake: &FakeRegistry| TlsDoor::before(&fake.host).host;
    let far = Far::new(host, registry, with_root(None));
    let mut bundle = far.bundle("c");
    bundle.spec["linux"] = entry(&net.path);
    assert_eq!(bundle.run(&far.node).0, 7);
    far.node.end();
}

#[test]
fn credentials_and_mirrors_are_those_of_the_files_that_the_configuration_names() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    let auth = file(
        &dir,
        "auth.json",
        r#"{"auths": {"registry.test": {"username": "me", "password": "secret"}}}"#,
    );
    // The name leads nowhere but by the file.
    let host = |fake: &FakeRegistry| {
        fake.close(Door::Basic("me:secret".into()));
        let door = TlsDoor::before(&fake.host).host;
        file(&dir, "hosts/ca.pem", ROOT);
        let text = format!("server = \"https://{door}\"\nca = \"../ca.pem\"\n");
        file(&dir, "hosts/registry.test/hosts.toml", &text);
        "registry.test".to_owned()
    };
    let pulled_by = || ClientOptions {
        hosts_dirs: vec![hosts.clone()],
        ..with_root(Some("me:secret"))
    };
    let named = RegistryConfig {
        hosts_dir: vec![hosts.clone()],
        auth_file: vec![auth],
        ..RegistryConfig::default()
    };
    let nobody = RegistryConfig {
        auth_file: vec![file(&dir, "none.json", "{}")],
        ..named.clone()
    };
    for (registry, code) in [(named, 7), (nobody, EIO)] {
        let far = Far::new(host, registry, pulled_by());
        assert_eq!(far.run("c"), code);
        far.node.end();
    }
}

#[test]
fn a_file_that_is_named_and_cannot_be_read_refuses_containers_by_its_key() {
    let registry = RegistryConfig {
        ca: vec!["/none/ca.pem".into()],
        ..RegistryConfig::default()
    };
    let far = Far::new(|fake| fake.host.clone(), registry, ClientOptions::default());
    let (code, text) = refusal(far.bundle("c").create(&far.node));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("registry.ca: /none/ca.pem"), "{text}");
    far.node.end();
}

#[test]
fn an_image_that_was_removed_and_pulled_again_is_read_by_containers_that_come_later() {
    let far = Far::new(
        |fake| fake.host.clone(),
        RegistryConfig::default(),
        ClientOptions::default(),
    );
    // It reads nothing that is away, and its root is kept for the next.
    let mut first = far.bundle("first");
    first.spec["process"]["args"] = serde_json::json!(["/ask.wasm"]);
    assert_eq!(first.run(&far.node).0, 0);
    far.remove();
    let (code, text) = refusal(far.bundle("gone").create(&far.node));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains(&far.image), "{text}");
    far.pull_again();
    assert_eq!(far.run("again"), 7);
    // Beside one that holds the image as it was before.
    let mut holds = far.bundle("holds");
    holds.spec["process"]["args"] = serde_json::json!(["/ask.wasm"]);
    holds.request.stdin = holds.dir.join("in").to_str().unwrap().into();
    let mut out = holds.open("out");
    holds.start(&far.node);
    let mut ends = input(&holds);
    assert_eq!(asked(&mut ends, &mut out), ".");
    far.remove();
    far.pull_again();
    assert_eq!(far.run("beside"), 7);
    assert_eq!(asked(&mut ends, &mut out), ".");
    drop(ends);
    let _ended: WaitResponse = far.node.ask("Wait", "holds");
    let _gone: DeleteResponse = far.node.ask("Delete", "holds");
    far.node.end();
}

/// Asks a guest to read, and waits for what it says.
fn asked(input: &mut impl Write, out: &mut Output) -> String {
    input.write_all(b"?").unwrap();
    let start = Instant::now();
    loop {
        let said = out.piece();
        if !said.is_empty() {
            return String::from_utf8(said).unwrap();
        }
        assert!(start.elapsed() < LONG, "it says nothing");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_registry_that_is_gone_fails_reads_and_no_container_and_is_asked_again_once_it_is_back() {
    let far = Far::new(
        |fake| fake.host.clone(),
        RegistryConfig::default(),
        ClientOptions::default(),
    );
    let mut bundles: Vec<Bundle> = ["one", "two"].map(|id| far.bundle(id)).into();
    let mut ends: Vec<_> = bundles
        .iter_mut()
        .map(|bundle| {
            bundle.spec["process"]["args"] = serde_json::json!(["/ask.wasm"]);
            bundle.request.stdin = bundle.dir.join("in").to_str().unwrap().into();
            let out = bundle.open("out");
            bundle.start(&far.node);
            (input(bundle), out)
        })
        .collect();
    let state = |id: &str| far.node.ask::<StateResponse>("State", id).status;
    far.fake.misbehave(|_, _| Fault::Drop);
    for (input, out) in &mut ends {
        assert_eq!(asked(input, out), "e");
    }
    // They live, and whoever needs nothing that is away begins and ends meanwhile.
    assert_eq!((state("one"), state("two")), (2, 2));
    let beside = far.node.bundle("beside", &says("beside", 3));
    assert_eq!(beside.run(&far.node).0, 3);
    far.fake.behave();
    thread::sleep(Duration::from_secs(FAILED_FETCH_SECONDS));
    for (input, out) in &mut ends {
        assert_eq!(asked(input, out), ".");
    }
    // What is here stays here.
    far.fake.misbehave(|_, _| Fault::Drop);
    for (input, out) in &mut ends {
        assert_eq!(asked(input, out), ".");
    }
    drop(ends);
    for id in ["one", "two"] {
        assert_eq!(far.node.ask::<WaitResponse>("Wait", id).exit_status, 0);
        let _gone: DeleteResponse = far.node.ask("Delete", id);
    }
    far.node.end();
}
