//! Layers of images in a registry: into the store, held as long as they are needed, freed after that.

use std::fs;
use std::path::Path;
use std::thread;

use serde_json::Value;

use super::client::*;
use super::proto::*;
use super::refused;
use crate::Cli;
use crate::support::fake_registry::{Door, FakeRegistry, Fault, sha256};
use crate::support::rng::Rng;
use crate::support::tls_door::{ROOT, TlsDoor};

pub const REF: &str = "containerd.io/snapshot.ref";
pub const IMAGE: &str = "containerd.io/snapshot/cri.image-ref";
pub const MANIFEST: &str = "containerd.io/snapshot/cri.manifest-digest";
const LAYER: &str = "containerd.io/snapshot/cri.layer-digest";

/// A registry with an image of two layers, as containerd knows it.
pub struct Pushed {
    pub cli: Cli,
    pub fake: FakeRegistry,
    pub name: String,
    pub manifest: String,
    layers: Vec<String>,
    /// The digests of the layers with all below them.
    pub chains: Vec<String>,
}

impl Pushed {
    pub fn new() -> Self {
        let (cli, fake) = (Cli::new(), FakeRegistry::start());
        let mut rng = Rng::new(7);
        let noise: Vec<u8> = (0..100_000)
            .flat_map(|_| rng.next().to_le_bytes())
            .collect();
        cli.file("low/noise", noise).file("low/etc/motd", "low");
        cli.file("high/etc/motd", "high").file("high/app", "app");
        cli.file("low/etc/passwd", "app:x:7:8::/srv/app:\n");
        let name = fake.name("app:1");
        for words in [
            "image import low --layer high --tag both:1 --store made",
            "image mutate both:1 --tag app:1 --set-platform linux/amd64 --store made",
            &format!("image push app:1 {name} --store made"),
        ] {
            let done = cli.run(words);
            assert_eq!(done.code, Some(0), "{done:?}");
        }
        let bytes = fake.manifest("app", "1").unwrap();
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let layers = manifest["layers"].as_array().unwrap();
        let layers = layers.iter().map(|layer| text(&layer["digest"])).collect();
        let config = fake.blob("app", &text(&manifest["config"]["digest"]));
        let config: Value = serde_json::from_slice(&config).unwrap();
        let mut chains: Vec<String> = Vec::new();
        for diff in config["rootfs"]["diff_ids"].as_array().unwrap() {
            let chain = match chains.last() {
                None => text(diff),
                Some(below) => sha256(format!("{below} {}", text(diff)).as_bytes()),
            };
            chains.push(chain);
        }
        assert_eq!(chains.len(), 2);
        Self {
            manifest: sha256(&bytes),
            cli,
            fake,
            name,
            layers,
            chains,
        }
    }

    /// Asks for a layer as containerd's unpacker does, for CRI.
    pub fn ask(
        &self,
        of: &Snapshotter,
        number: usize,
        key: &str,
        parent: &str,
    ) -> Result<Vec<Mount>, Refused> {
        let labels = [
            (REF, self.chains[number].as_str()),
            (IMAGE, &self.name),
            (MANIFEST, &self.manifest),
            (LAYER, &self.layers[number]),
        ];
        of.prepare(key, parent, &labels)
    }

    /// Takes both layers; returns the name of the snapshot of the upper one.
    pub fn take(&self, of: &Snapshotter) -> String {
        let parent = [String::new(), self.chains[0].clone()];
        for (number, parent) in parent.iter().enumerate() {
            let key = format!("k8s.io/{number}/extract-{number}-x {}", self.chains[number]);
            refused(
                self.ask(of, number, &key, parent),
                EXISTS,
                "target snapshot",
            );
            refused(of.stat(&key), NOT_FOUND, "there is none");
        }
        self.chains[1].clone()
    }

    pub fn stat(&self, key: &str) -> u64 {
        let done = self.cli.run("store stat --json");
        let told: Value = serde_json::from_slice(&done.fine().stdout).unwrap();
        told[key].as_u64().unwrap()
    }

    fn blob_gets(&self) -> usize {
        self.fake
            .log()
            .iter()
            .filter(|head| head.is_blob_get())
            .count()
    }
}

fn option<'m>(mounts: &'m [Mount], name: &str) -> Option<&'m str> {
    let mut options = mounts[0].options.iter();
    options.find_map(|option| option.strip_prefix(name))
}

#[test]
fn layers_of_a_registry_go_to_the_store_and_nowhere_else() {
    let pushed = Pushed::new();
    let of = Snapshotter::start(&pushed.cli, "--lazy only");
    let top = pushed.take(&of);
    // As containerd looks for what is there already.
    let filter = format!("labels.\"{REF}\"=={top},parent==\"{}\"", pushed.chains[0]);
    assert_eq!(of.list(&[&filter]).unwrap(), [top.as_str()]);
    let info = of.stat(&top).unwrap();
    assert_eq!((info.kind, info.labels[REF].as_str()), (3, top.as_str()));
    assert!(of.usage(&pushed.chains[0]).unwrap().size > 800_000);
    assert_eq!(of.dirs().len(), 0);
    assert!(
        pushed.stat("absent_bytes") > 700_000,
        "the layer came whole"
    );
    // Once more, as another namespace does: nothing is asked of the registry.
    let _seen = pushed.fake.log();
    pushed.take(&of);
    assert_eq!(pushed.fake.log().len(), 0);
    // A container: an empty directory, and the image beside it.
    let mounts = of.prepare("k8s.io/9/c", &top, &[]).unwrap();
    assert_eq!((mounts.len(), mounts[0].kind.as_str()), (1, "bind"));
    // Nothing is in it but the names of users, which containerd looks up there.
    let names = |dir: &Path| {
        let listed = fs::read_dir(dir).unwrap();
        listed
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>()
    };
    let source = Path::new(&mounts[0].source);
    assert_eq!(names(source), ["etc"]);
    assert_eq!(names(&source.join("etc")), ["passwd"]);
    let passwd = fs::read_to_string(source.join("etc/passwd")).unwrap();
    assert_eq!(passwd, "app:x:7:8::/srv/app:\n");
    let store = option(&mounts, "x-stratafs.store=").unwrap();
    let image = option(&mounts, "x-stratafs.image=").unwrap().to_owned();
    assert_eq!(
        Path::new(store),
        fs::canonicalize(pushed.cli.path("store")).unwrap()
    );
    let tree = pushed.cli.run(&format!("image tree {image} /etc"));
    assert!(tree.fine().text().contains("motd"));
    refused(
        of.commit("c", "k8s.io/9/c", &[]),
        PRECONDITION,
        "for a container",
    );
    // A container on the lower layer alone has an image of that.
    let lower = of.view("k8s.io/10/v", &pushed.chains[0]).unwrap();
    assert_eq!(lower[0].options[1], "ro");
    let lower = option(&lower, "x-stratafs.image=").unwrap();
    assert_ne!(lower, image);
    assert!(
        !pushed
            .cli
            .run(&format!("image tree {lower}"))
            .text()
            .contains("app")
    );
    // Removed, and collected by the cleanup alone once nothing needs it.
    refused(of.remove(&top), PRECONDITION, "stands on it");
    of.remove("k8s.io/10/v").unwrap();
    of.cleanup().unwrap();
    assert_eq!(pushed.stat("images"), 1);
    of.remove("k8s.io/9/c").unwrap();
    of.remove(&top).unwrap();
    of.cleanup().unwrap();
    assert_eq!(pushed.stat("images"), 1, "the lower layer needs its image");
    of.remove(&pushed.chains[0]).unwrap();
    of.cleanup().unwrap();
    assert_eq!(pushed.stat("images"), 0);
    assert_eq!(of.end(), "");
}

#[test]
fn layers_that_many_ask_for_at_once_are_fetched_once_and_the_rest_comes_by_itself() {
    let pushed = Pushed::new();
    let of = Snapshotter::start(&pushed.cli, "--lazy off");
    thread::scope(|scope| {
        for number in 0..8 {
            let (of, pushed) = (&of, &pushed);
            scope.spawn(move || {
                let key = format!("k8s.io/{number}/extract-1 x");
                refused(pushed.ask(of, 0, &key, ""), EXISTS, "target snapshot");
            });
        }
    });
    assert_eq!(of.list(&[]).unwrap(), [pushed.chains[0].as_str()]);
    // The configuration, and each layer once.
    assert_eq!(pushed.blob_gets(), 3);
    assert_eq!(pushed.stat("absent_bytes"), 0);
    of.kill();
    // By default what was not needed to start comes meanwhile.
    fs::remove_dir_all(pushed.cli.path("store")).unwrap();
    fs::remove_dir_all(pushed.cli.path("snapshots")).unwrap();
    let of = Snapshotter::start(&pushed.cli, "");
    pushed.take(&of);
    let start = std::time::Instant::now();
    while pushed.stat("absent_bytes") > 0 {
        assert!(start.elapsed().as_secs() < 60, "the rest does not come");
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What cannot be had by itself is unpacked by containerd, and the log says why.
#[test]
fn what_cannot_be_brought_in_is_left_to_containerd() {
    let pushed = Pushed::new();
    let of = Snapshotter::start(&pushed.cli, "--lazy only");
    let asked = |key: &str, labels: &[(&str, &str)]| of.prepare(key, "", labels).unwrap();
    let chain = pushed.chains[0].as_str();
    let (name, manifest) = (pushed.name.as_str(), pushed.manifest.as_str());
    let other = sha256(b"another");
    // Without labels, with wrong ones, of an image that has no such layer, of a registry that fails.
    for (key, labels) in [
        ("none", vec![(REF, chain)]),
        (
            "bad ref",
            vec![(REF, "no digest"), (IMAGE, name), (MANIFEST, manifest)],
        ),
        (
            "bad image",
            vec![(REF, chain), (IMAGE, "../../etc"), (MANIFEST, manifest)],
        ),
        (
            "bad manifest",
            vec![(REF, chain), (IMAGE, name), (MANIFEST, "sha256:../../x")],
        ),
        (
            "no manifest",
            vec![(REF, chain), (IMAGE, name), (MANIFEST, &other)],
        ),
        (
            "other layer",
            vec![(REF, &other), (IMAGE, name), (MANIFEST, manifest)],
        ),
    ] {
        let mounts = asked(key, &labels);
        assert_eq!(
            (mounts[0].kind.as_str(), option(&mounts, "x-")),
            ("bind", None),
            "{key}"
        );
        assert_eq!(of.stat(key).unwrap().kind, 2);
    }
    of.cleanup().unwrap();
    assert_eq!(
        pushed.stat("images"),
        0,
        "an image that no snapshot needs stays"
    );
    pushed.fake.misbehave(|_, _| Fault::status(403));
    let mounts = pushed.ask(&of, 0, "refused", "").unwrap();
    assert_eq!(mounts[0].kind, "bind");
    pushed.fake.behave();
    // What was unpacked is not taken for the layer that its label names.
    write(&mounts, "forged", "x");
    of.commit("ns/1/forged", "refused", &[(REF, chain)])
        .unwrap();
    refused(pushed.ask(&of, 0, "again", ""), EXISTS, "target snapshot");
    assert_eq!(
        of.list(&[&format!("labels.\"{REF}\"=={chain},kind==committed")])
            .unwrap()
            .len(),
        2
    );
    // Over a layer of the store containerd unpacks into an overlay, a container has both.
    let unpacks = of.prepare("k8s.io/5/extract-5 y", chain, &[]).unwrap();
    assert_eq!(
        (unpacks[0].kind.as_str(), option(&unpacks, "x-")),
        ("overlay", None)
    );
    let lower = option(&unpacks, "lowerdir=").unwrap();
    assert_eq!(fs::read_dir(lower).unwrap().count(), 0);
    write(&unpacks, "over", "x");
    of.commit("over", "k8s.io/5/extract-5 y", &[]).unwrap();
    let mounts = of.prepare("c", "over", &[]).unwrap();
    assert_eq!(mounts[0].kind, "bind");
    let lower = option(&mounts, "x-stratafs.lowerdir=").unwrap();
    assert!(Path::new(lower).join("over").exists());
    assert!(option(&mounts, "x-stratafs.image=").is_some());
    let said = of.end();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 6, "{said}");
    for (line, words) in lines.iter().zip([
        "no digest",
        "image-ref",
        "manifest-digest",
        "404",
        &other,
        "403",
    ]) {
        assert!(line.contains("is left to containerd: "), "{line}");
        assert!(line.contains(words), "{words:?} is not in {line}");
    }
}

/// Killed while layers come: what was told to be there is, and nothing is held that nobody needs.
#[test]
fn a_pull_that_is_killed_leaves_nothing_that_is_held() {
    let pushed = Pushed::new();
    let mut rng = Rng::new(3);
    for _ in 0..6 {
        let of = Snapshotter::start(&pushed.cli, "--lazy only");
        let socket = of.socket.clone();
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let request = PrepareRequest {
                    key: "k8s.io/1/extract-1 x".into(),
                    parent: String::new(),
                    labels: [
                        (REF, &pushed.chains[0]),
                        (IMAGE, &pushed.name),
                        (MANIFEST, &pushed.manifest),
                    ]
                    .map(|(key, value)| (key.to_owned(), value.clone()))
                    .into(),
                };
                let asked = || call::<MountsAnswer>(&socket, "Prepare", &request);
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(asked)).ok()
            });
            thread::sleep(std::time::Duration::from_millis(rng.below(150) as u64));
            of.kill();
            let asked = asking.join().unwrap();
            let of = Snapshotter::start(&pushed.cli, "--lazy only");
            let there = of.list(&[]).unwrap();
            if let Some(Err((EXISTS, _))) = asked {
                assert_eq!(there, [pushed.chains[0].as_str()]);
            }
            assert!(pushed.cli.run("store verify").code == Some(0));
            match there.first() {
                Some(name) => of.remove(name).unwrap(),
                None => {
                    // What the pull has tagged is let go of at the start; the next cleanup frees it.
                }
            }
            of.cleanup().unwrap();
            of.end();
            assert_eq!(pushed.stat("images"), 0);
        });
    }
}

#[test]
fn a_registry_with_a_root_and_a_password_of_its_own_is_reached_as_its_options_say() {
    let mut pushed = Pushed::new();
    pushed.fake.close(Door::Basic("me:secret".into()));
    let door = TlsDoor::before(&pushed.fake.host);
    pushed.name = format!("{}/app:1", door.host);
    let auth = serde_json::json!({"auths": {&door.host: {"username": "me", "password": "secret"}}});
    pushed
        .cli
        .file("ca.pem", ROOT)
        .file("auth.json", auth.to_string());
    for (options, words) in [
        ("--auth-file auth.json", "certificate"),
        ("--ca ca.pem", "401"),
    ] {
        let of = Snapshotter::start(&pushed.cli, &format!("--lazy only {options}"));
        let mounts = pushed.ask(&of, 0, "left", "").unwrap();
        assert_eq!(option(&mounts, "x-"), None);
        of.remove("left").unwrap();
        let said = of.end();
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    let of = Snapshotter::start(&pushed.cli, "--lazy only --ca ca.pem --auth-file auth.json");
    pushed.take(&of);
    assert_eq!(of.end(), "");
    for option in ["--ca", "--auth-file"] {
        pushed
            .cli
            .run(&format!(
                "snapshotter --root other --address run/o.sock {option} none"
            ))
            .failed(1, &["none"]);
    }
}
