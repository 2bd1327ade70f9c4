//! `image push`, `pull`, `copy`, `login`, `ls-remote`, and `run` of an image in a registry.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use stratafs::source::BlobDigest;

use super::{Cli, Done};
use crate::support::fake_registry::{Door, FakeRegistry, Fault};
use crate::support::rng::Rng;
use crate::support::script::Script;
use crate::support::signer::{self, Signer};

/// A registry, and a directory with an image `app:1` in its store.
struct World {
    cli: Cli,
    fake: FakeRegistry,
}

impl World {
    fn new() -> Self {
        let world = Self::empty();
        let guest = Script::new().print("from the registry\n").wat();
        let guest = wat::parse_str(guest).unwrap();
        let layout = Layout::program(guest);
        world.cli.file("layout.tar", layout);
        world.run("image import layout.tar --tag app:1").fine();
        world
    }

    fn empty() -> Self {
        Self {
            cli: Cli::new(),
            fake: FakeRegistry::start(),
        }
    }

    fn command(&self, words: &str) -> Command {
        let words = words.replace("REG", &self.fake.host);
        let mut command = self.cli.command(&words);
        command.env("DOCKER_CONFIG", self.cli.path("docker"));
        for name in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
        ] {
            command.env_remove(name);
        }
        command.env_remove("REGISTRY_AUTH_FILE");
        command.env("XDG_RUNTIME_DIR", self.cli.path("runtime"));
        command.env("XDG_CONFIG_HOME", self.cli.path("config"));
        command
    }

    fn run(&self, words: &str) -> Done {
        Done::of(&mut self.command(words))
    }

    fn login(&self, words: &str, password: &str) -> Done {
        let mut command = self.command(words);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(password.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        Done {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// An image whose entry point is a program in its tree, as `docker save` has it.
struct Layout;

impl Layout {
    fn program(program: Vec<u8>) -> Vec<u8> {
        use crate::support::archive::{Archive, Head};
        let layer = Archive::new()
            .with(Head::new(b'0', "app.wasm"), &program)
            .end();
        let digest = crate::support::fake_registry::sha256(&layer);
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{{"Entrypoint":["/app.wasm"]}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
        );
        let listed = r#"[{"Config":"config.json","RepoTags":["app:1"],"Layers":["layer.tar"]}]"#;
        Archive::new()
            .file("manifest.json", listed)
            .file("config.json", &config)
            .with(Head::new(b'0', "layer.tar"), &layer)
            .end()
    }
}

fn json(done: &Done) -> Value {
    serde_json::from_slice(&done.fine().stdout).unwrap()
}

#[test]
fn an_image_goes_there_and_comes_back() {
    let world = World::new();
    let told = json(&world.run("image push app:1 REG/team/app:1 --json"));
    assert_eq!(
        (&told["known_blobs"], told["name"].as_str()),
        (&0.into(), Some(&*world.fake.name("team/app:1")))
    );
    assert!(told["manifest"].as_str().unwrap().starts_with("sha256:"));
    let told = json(&world.run("image push app:1 REG/team/app:1 --json"));
    assert_eq!(told["sent_blobs"], 0);
    let told = json(&world.run("image pull REG/team/app:1 --store other --json"));
    assert_eq!(told["tag"].as_str(), Some(&*world.fake.name("team/app:1")));
    assert_eq!(
        (&told["fetched_layers"], &told["known_layers"]),
        (&1.into(), &0.into())
    );
    let told = json(&world.run("image pull REG/team/app:1 --store other --tag mine:1 --json"));
    assert_eq!(
        (&told["fetched_layers"], &told["known_layers"]),
        (&0.into(), &1.into())
    );
    let tags = world.run("image ls-remote REG/team/app");
    assert_eq!(tags.fine().text(), "1\n");
    let done = world.run("run --image mine:1 --store other");
    assert_eq!(done.fine().text(), "from the registry\n");
    let told = json(&world.run("image inspect REG/team/app:1 --store other --referrers --json"));
    assert_eq!(told["referrers"], serde_json::json!([]));
    world
        .run("image inspect app:1 --referrers")
        .refused(&["--referrers: app:1 names no registry"]);
    world
        .run("image push app:1")
        .refused(&["app:1 names no registry"]);
    world.run("image push REG/team/app:1 --store other").fine();
    world.run("image pull REG/team/none:1").failed(
        1,
        &[
            &world.fake.name("team/none"),
            "404 Not Found: MANIFEST_UNKNOWN: manifest unknown",
        ],
    );
    world
        .run("image pull REG/Team:1")
        .refused(&["is not the name of an image in a registry"]);
}

#[test]
fn run_pulls_what_is_not_there_and_asks_for_nothing_else() {
    let world = World::new();
    world.run("image push app:1 REG/app:1").fine();
    world.fake.log();
    let run = |words: &str| world.run(&format!("run --store other {words}"));
    run("--image REG/app:1 --pull never").failed(1, &["no store"]);
    assert_eq!(world.fake.log().len(), 0);
    assert_eq!(
        run("--image REG/app:1").fine().text(),
        "from the registry\n"
    );
    assert!(!world.fake.log().is_empty());
    assert_eq!(
        run("--image REG/app:1").fine().text(),
        "from the registry\n"
    );
    assert_eq!(
        run("--image REG/app:1 --pull never").fine().text(),
        "from the registry\n"
    );
    assert_eq!(world.fake.log().len(), 0, "it is there");
    // Another image takes its place.
    let guest = wat::parse_str(Script::new().print("newer\n").wat()).unwrap();
    world.cli.file("newer.tar", Layout::program(guest));
    world.run("image import newer.tar --tag app:2").fine();
    world.run("image push app:2 REG/app:1").fine();
    assert_eq!(
        run("--image REG/app:1").fine().text(),
        "from the registry\n"
    );
    assert_eq!(
        run("--image REG/app:1 --pull always").fine().text(),
        "newer\n"
    );
    world.fake.log();
    // A name of the store makes no registry be asked, whatever it looks like.
    run("--image team/app:1").failed(1, &["team/app:1: no such image in the store"]);
    run("--image app:7 --pull always").refused(&["app:7 is a name of the store"]);
    assert_eq!(world.fake.log().len(), 0);
}

#[test]
fn login_is_kept_once_the_registry_has_let_in() {
    let world = World::new();
    for door in [
        Door::Basic("me:secret".into()),
        Door::Bearer(Some("me:secret".into())),
    ] {
        world.fake.close(door);
        let config = world.cli.path("docker/config.json");
        world
            .run("image push app:1 REG/app:1")
            .failed(1, &["401 Unauthorized", "image login 127"]);
        let wrong = world.login("image login REG -u me --password-stdin", "wrong\n");
        wrong.failed(1, &["401 Unauthorized"]);
        assert!(!wrong.stderr.contains("wrong") && !config.exists());
        let done = world.login("image login REG -u me --password-stdin", "secret\n");
        assert!(done.fine().text().contains("logged in at 127.0.0.1:"));
        assert!(!done.text().contains("secret"));
        world.run("image push app:1 REG/app:1").fine();
        world.run("image logout REG").fine();
        assert!(!fs::read_to_string(&config).unwrap().contains("auth\""));
        world
            .run("image pull REG/app:1 --store other")
            .failed(1, &["401"]);
        fs::remove_file(&config).unwrap();
    }
    world
        .run("image login REG -u me")
        .refused(&["--password-stdin"]);
    world.run("image login REG").refused(&["-u USER"]);
    let long = "x".repeat(70_000);
    world
        .login("image login REG -u me --password-stdin", &long)
        .failed(1, &["a password has at most 65536 bytes"]);
    // There is no option for it.
    world
        .run("image login REG -u me --password secret")
        .refused(&["--password"]);
}

#[cfg(unix)]
#[test]
fn a_credential_helper_keeps_it() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    world.fake.close(Door::Basic("me:secret".into()));
    let helper = "#!/bin/sh\ncase $1 in\nstore) cat > \"$KEPT\";;\nget) if [ -s \"$KEPT\" ]; then cat \"$KEPT\"; else echo 'credentials not found in native keychain'; exit 1; fi;;\nerase) : > \"$KEPT\";;\nesac\n";
    world.cli.file("bin/docker-credential-mine", helper);
    let path = world.cli.path("bin/docker-credential-mine");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    world
        .cli
        .file("docker/config.json", "{\"credsStore\": \"mine\"}");
    let with = |words: &str| {
        let mut command = world.command(words);
        let path = format!(
            "{}:{}",
            world.cli.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        command
            .env("PATH", path)
            .env("KEPT", world.cli.path("kept"));
        command
    };
    Done::of(&mut with("image push app:1 REG/app:1")).failed(1, &["401"]);
    let mut login = with("image login REG -u me --password-stdin");
    let file = world.cli.path("password");
    fs::write(&file, "secret").unwrap();
    login.stdin(fs::File::open(file).unwrap());
    Done::of(&mut login).fine();
    assert!(
        !fs::read_to_string(world.cli.path("docker/config.json"))
            .unwrap()
            .contains("auths")
    );
    Done::of(&mut with("image push app:1 REG/app:1")).fine();
    Done::of(&mut with("image logout REG")).fine();
    Done::of(&mut with("image pull REG/app:1 --store other")).failed(1, &["401"]);
    // One that does not stop is not listened to for long.
    world
        .cli
        .file("bin/docker-credential-endless", "#!/bin/sh\nexec yes\n");
    let path = world.cli.path("bin/docker-credential-endless");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    world
        .cli
        .file("docker/config.json", "{\"credsStore\": \"endless\"}");
    Done::of(&mut with("image pull REG/app:1 --store other"))
        .failed(1, &["docker-credential-endless get"]);
    world
        .cli
        .file("docker/config.json", "{\"credsStore\": \"missing\"}");
    Done::of(&mut with("image pull REG/app:1 --store other"))
        .failed(1, &["docker-credential-missing cannot be run"]);
}

#[test]
fn images_are_copied_without_a_store() {
    let world = World::new();
    let pushed = json(&world.run("image push app:1 REG/app:1 --json"));
    for (from, to) in [
        ("REG/app:1", "./layout:one"),
        ("oci:layout:one", "REG/second:1"),
        ("docker://REG/second:1", "REG/third:1"),
        ("REG/third:1", "oci:again"),
        ("./again", "REG/fourth:1"),
    ] {
        let copied = json(&world.run(&format!("image copy {from} {to} --json --store nowhere")));
        assert_eq!(copied["manifest"], pushed["manifest"], "{from} {to}");
    }
    assert!(!world.cli.path("nowhere").exists());
    world.run("image import ./layout --tag back:1").fine();
    assert_eq!(
        world.run("run --image back:1").fine().text(),
        "from the registry\n"
    );
    world.run("image copy ./none REG/x:1").failed(1, &["none"]);
    world
        .run("image copy REG/app:1 ./layout.tar")
        .failed(1, &["layout.tar"]);
}

/// Kills a command after a while; says whether it was still running.
fn killed(mut command: Command, after: Duration) -> bool {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(after);
    let running = child.try_wait().unwrap().is_none();
    drop(child.kill());
    child.wait().unwrap();
    running
}

#[test]
fn pulls_and_pushes_that_are_killed_leave_nothing_half_done() {
    let world = World::empty();
    let mut rng = Rng::new(7);
    for number in 0..4 {
        let noise: Vec<u8> = (0..100_000)
            .flat_map(|_| rng.next().to_le_bytes())
            .collect();
        world.cli.file(&format!("src{number}/file{number}"), noise);
    }
    world
        .run("image import src0 --layer src1 --layer src2 --layer src3 --tag app:1")
        .fine();
    // Slow enough to be killed at any moment.
    let slow = |fake: &FakeRegistry| {
        fake.misbehave(|_, _| Fault::Delay(Duration::from_millis(15)));
    };
    slow(&world.fake);
    let mut hit = 0;
    for round in 0..8_u64 {
        let name = format!("REG/app{round}:1");
        let how = ["", "--packs"][round as usize % 2];
        let after = Duration::from_millis(20 + rng.below(250) as u64);
        hit += u32::from(killed(
            world.command(&format!("image push app:1 {name} {how}")),
            after,
        ));
        world.run(&format!("image push app:1 {name} {how}")).fine();
        let after = Duration::from_millis(20 + rng.below(250) as u64);
        let store = format!("store{round}");
        hit += u32::from(killed(
            world.command(&format!("image pull {name} --store {store}")),
            after,
        ));
        let listed = world.run(&format!("image ls --json --store {store}"));
        let images: Value = match listed.code {
            Some(0) => serde_json::from_slice(&listed.stdout).unwrap(),
            _ => Value::Array(Vec::new()),
        };
        for image in images["images"].as_array().into_iter().flatten() {
            assert_eq!(image["layers"], 4, "{image}");
        }
        world
            .run(&format!("image pull {name} --store {store}"))
            .fine();
        world.run(&format!("store verify --store {store}")).fine();
        let left = fs::read_dir(world.cli.path(&store).join("incoming"));
        assert!(left.is_ok_and(|mut left| left.next().is_none()));
    }
    assert!(hit > 4, "only {hit} were killed in time");
}

#[test]
fn invalid_mirrors_and_roots_are_named() {
    let world = World::new();
    let hosts = format!("hosts/{}/hosts.toml", world.fake.host);
    world.cli.file(&hosts, "server = 7");
    world
        .run("image pull REG/app:1 --hosts-dir hosts")
        .failed(1, &["hosts.toml", "`server`: expected a text"]);
    world.cli.file("ca.pem", "no certificate");
    world
        .run("image pull REG/app:1 --ca ca.pem")
        .failed(1, &["no certificate in PEM or DER"]);
    world
        .run("image pull REG/app:1 --ca none.pem")
        .failed(1, &["none.pem"]);
}

/// A proxy on this machine that takes every host for the registry; counts its connections.
fn proxy(to: &str) -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = std::sync::Arc::new(AtomicUsize::new(0));
    let (counted, to) = (count.clone(), to.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            let mut input = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            input.read_line(&mut line).unwrap();
            assert!(line.starts_with("CONNECT registry.test:80 "), "{line}");
            while line.trim_end() != "" {
                line.clear();
                input.read_line(&mut line).unwrap();
            }
            let mut out = stream;
            out.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let mut upstream = TcpStream::connect(&to).unwrap();
            let mut back = upstream.try_clone().unwrap();
            std::thread::spawn(move || drop(std::io::copy(&mut back, &mut out)));
            std::thread::spawn(move || drop(std::io::copy(&mut input, &mut upstream)));
        }
    });
    (address, count)
}

#[test]
fn proxies_of_the_environment_are_used_for_other_machines() {
    use std::sync::atomic::Ordering;
    let world = World::new();
    let (address, count) = proxy(&world.fake.host);
    let run = |words: &str, except: &str| {
        let mut command = world.command(words);
        command.env("HTTP_PROXY", &address).env("NO_PROXY", except);
        Done::of(&mut command)
    };
    run("image push app:1 registry.test/app:1 --plain-http", "").fine();
    assert!(count.swap(0, Ordering::Relaxed) > 0);
    run("image pull REG/app:1 --store other", "").fine();
    assert_eq!(
        count.load(Ordering::Relaxed),
        0,
        "this machine is spoken to straight"
    );
    run(
        "image pull registry.test/app:1 --plain-http --store other",
        ".test",
    )
    .failed(1, &["registry.test/app"]);
    assert_eq!(count.load(Ordering::Relaxed), 0);
}

#[test]
fn images_are_run_by_their_tables_and_filled() {
    let world = World::new();
    let guest = wat::parse_str(Script::new().print("in part\n").wat()).unwrap();
    world.cli.file("tree/app.wasm", guest);
    let mut rng = Rng::new(3);
    let noise: Vec<u8> = (0..200_000)
        .flat_map(|_| rng.next().to_le_bytes())
        .collect();
    world.cli.file("tree/noise", noise);
    world.run("image import tree --tag part:1").fine();
    world.run("image push part:1 REG/part:1").fine();
    let told = json(&world.run("image pull REG/part:1 --lazy only --store only --json"));
    assert_eq!(told["lazy_layers"], 1);
    let stat = json(&world.run("store stat --store only --json"));
    assert!(stat["absent_bytes"].as_u64().unwrap() > 1_600_000, "{stat}");
    assert_eq!(stat["absent_blobs"], 1);
    let text = world.run("store stat --store only");
    assert!(text.fine().text().contains("not here"));
    let checked = json(&world.run("store verify --store only --json"));
    assert_eq!(checked["absent_bytes"], stat["absent_bytes"]);
    assert_eq!(checked["sound"], true);
    world
        .run("image export REG/part:1 out --store only")
        .failed(1, &["are not here", "`stratafs store fill"]);
    world
        .run("image squash REG/part:1 --tag flat:1 --store only")
        .failed(1, &["are not here"]);
    world
        .run("run --image REG/part:1 --entrypoint /app.wasm --pull never --store only")
        .failed(1, &["app.wasm"]);
    let run = |how: &str, store: &str| {
        let words = format!("run --image REG/part:1 --entrypoint /app.wasm {how} --store {store}");
        assert_eq!(world.run(&words).fine().text(), "in part\n");
    };
    run("--lazy only", "only");
    let left = json(&world.run("store stat --store only --json"));
    assert!(left["absent_bytes"].as_u64().unwrap() > 1_000_000, "{left}");
    let filled = json(&world.run("store fill REG/part:1 --store only --json"));
    assert_eq!(filled["fetched_bytes"], left["absent_bytes"]);
    let stat = json(&world.run("store stat --store only --json"));
    assert_eq!(
        (&stat["absent_chunks"], &stat["absent_blobs"]),
        (&0.into(), &0.into())
    );
    world.run("image push REG/part:1 --store only").fine();
    run("--lazy off", "off");
    let stat = json(&world.run("store stat --store off --json"));
    assert_eq!(stat["absent_bytes"], 0);
    run("", "auto");
    let stat = json(&world.run("store stat --store auto --json"));
    assert!(
        stat["absent_bytes"].as_u64().unwrap() > 1_000_000,
        "it was over before the rest began to come: {stat}"
    );
    run("--lazy off", "auto");
    let stat = json(&world.run("store stat --store auto --json"));
    assert_eq!(stat["absent_bytes"], 0, "off waits for all");
    world
        .run("store fill none:1 --store only")
        .failed(1, &["none:1"]);
    world
        .run("run --lazy only tree/app.wasm")
        .refused(&["--image"]);
}

#[test]
fn the_rest_of_an_image_comes_while_its_guest_runs() {
    let world = World::new();
    let guest = wat::parse_str(Script::new().echo().wat()).unwrap();
    world.cli.file("tree/app.wasm", guest);
    let mut rng = Rng::new(4);
    let noise: Vec<u8> = (0..200_000)
        .flat_map(|_| rng.next().to_le_bytes())
        .collect();
    world.cli.file("tree/noise", noise);
    world.run("image import tree --tag part:1").fine();
    world.run("image push part:1 REG/part:1").fine();
    let words = "run --image REG/part:1 --entrypoint /app.wasm --store long";
    let mut child = world
        .command(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let began = std::time::Instant::now();
    loop {
        let done = world.run("store stat --store long --json");
        if done.code == Some(0) {
            let stat = json(&done);
            let left = ["absent_bytes", "absent_blobs", "unchecked_images"];
            if stat["images"] == 1 && left.iter().all(|name| stat[name] == 0) {
                break;
            }
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it never came");
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"still here").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"still here");
    world
        .run("image push REG/part:1 REG/other:1 --store long")
        .fine();
}

#[test]
fn a_signed_image_runs_and_another_does_not() {
    let world = World::new();
    let signer = Signer::p256();
    world.cli.file("cosign.pub", signer.pem().into_bytes());
    world
        .cli
        .file("other.pub", Signer::ed25519().pem().into_bytes());
    let told = json(&world.run("image push app:1 REG/app:1 --json"));
    let digest: BlobDigest = told["manifest"].as_str().unwrap().parse().unwrap();
    let none = [
        "cannot verify sha256:",
        "no signature that fits the key: it has none",
    ];
    world
        .run("image pull REG/app:1 --store other --verify-key cosign.pub")
        .failed(1, &none);
    let told = json(&world.run("image ls --store other --json"));
    assert_eq!(told["images"], serde_json::json!([]));
    // Here already, without a signature: that is no way round.
    world.run("image pull REG/app:1 --store third").fine();
    world
        .run("run --image REG/app:1 --store third --verify-key cosign.pub")
        .failed(1, &none);
    signer::sign(&world.fake, &digest, &signer);
    let words = "image pull REG/app:1 --store other --verify-key cosign.pub";
    let done = world.run(words);
    assert!(done.fine().text().contains("signature verified"));
    let told = json(&world.run(&format!("{words} --json")));
    assert_eq!(told["verified"], true);
    let done = world
        .run("run --image REG/app:1 --store fourth --verify-key other.pub --verify-key cosign.pub");
    assert_eq!(done.fine().text(), "from the registry\n");
    world
        .run("run --image REG/app:1 --store third --verify-key other.pub")
        .failed(1, &["none of 1 fits: made with another key"]);
    // A copy brings the signature along.
    let told = json(&world.run("image copy REG/app:1 ./layout:1 --json"));
    assert_eq!(told["attached"], 1);
    let told = json(&world.run("image copy REG/app:1 ./bare:1 --no-referrers --json"));
    assert_eq!(told["attached"], 0);
    let done = world.run("image copy ./layout:1 REG/again:1");
    assert!(
        done.fine()
            .text()
            .contains("1 signatures or other manifests")
    );
    world
        .run("image pull REG/again:1 --store other --verify-key cosign.pub")
        .fine();
    // What is no key, or asks nobody, is said before anything is done.
    world.cli.file("no.pub", b"no key");
    world.cli.file("large.pub", vec![b'x'; 65_537]);
    for (words, code, why) in [
        ("image pull REG/app:1 --verify-key none.pub", 1, "none.pub"),
        (
            "image pull REG/app:1 --verify-key no.pub",
            1,
            "expected a public key in PEM",
        ),
        (
            "image pull REG/app:1 --verify-key large.pub",
            1,
            "a key has at most 65536 bytes",
        ),
        (
            "run --image app:1 --verify-key cosign.pub",
            2,
            "app:1 is a name of the store",
        ),
        (
            "run --image REG/app:1 --pull never --verify-key cosign.pub",
            2,
            "leave --pull never out",
        ),
        ("run --verify-key cosign.pub x.wasm", 2, "--image"),
    ] {
        world.run(words).failed(code, &[why]);
    }
}

#[test]
fn a_version_is_pushed_as_packs_and_run() {
    let world = World::new();
    let guest = wat::parse_str(Script::new().print("out of packs\n").wat()).unwrap();
    world.cli.file("tree/app.wasm", guest);
    let mut rng = Rng::new(3);
    let noise: Vec<u8> = (0..500_000)
        .flat_map(|_| rng.next().to_le_bytes())
        .collect();
    world.cli.file("tree/noise", &noise);
    world.run("image import tree --tag one:1").fine();
    let told = json(&world.run("image push one:1 REG/team/one:1 --packs --json"));
    assert_eq!(
        (&told["new_packs"], &told["known_packs"]),
        (&1.into(), &0.into())
    );
    let mut changed = noise;
    changed[2_000_000] ^= 1;
    world.cli.file("tree/noise", changed);
    world.cli.file("tree/added", "more");
    world.run("image import tree --tag one:2").fine();
    let told = json(&world.run("image push one:2 REG/team/one:2 --packs --json"));
    assert_eq!(
        (&told["new_packs"], &told["known_packs"]),
        (&1.into(), &1.into())
    );
    assert!(told["sent_bytes"].as_u64().unwrap() < 150_000, "{told}");
    let text = world.run("image push one:2 REG/team/one:3 --packs --since 1 --since 2");
    assert!(text.fine().text().contains("2 packs named again, 0 new"));
    for how in ["auto", "only", "off"] {
        let words =
            format!("run --image REG/team/one:2 --entrypoint /app.wasm --lazy {how} --store {how}");
        assert_eq!(world.run(&words).fine().text(), "out of packs\n");
    }
    let told = json(&world.run("store fill REG/team/one:2 --store only --json"));
    assert!(
        told["fetched_bytes"].as_u64().unwrap() > 3_000_000,
        "{told}"
    );
    let read = world.run("image cat REG/team/one:2 added --store only");
    assert_eq!(read.fine().text(), "more");
    let done = world.run("image ls-remote REG/team/one");
    assert_eq!(done.fine().text(), "1\n2\n3\n");
    world
        .run("image copy REG/team/one:2 REG/team/copy:2")
        .fine();
    let told = json(&world.run("image pull REG/team/copy:2 --store off --json"));
    assert_eq!(
        (&told["fetched_layers"], &told["known_layers"]),
        (&0.into(), &1.into())
    );
    for wrong in ["--packs --artifact", "--packs --compress zstd", "--since 1"] {
        world
            .run(&format!("image push one:2 REG/team/one:4 {wrong}"))
            .refused(&["--packs"]);
    }
    world
        .run("image push one:2 REG/team/one:4 --packs --since none")
        .failed(1, &["one:none", "no image in packs"]);
}

#[test]
fn what_a_prepared_guest_goes_on_from_is_sent_first() {
    let world = World::empty();
    let guest = Script::new().print("goes on\n").wat();
    let guest = wat::parse_str(guest).unwrap();
    let mut rng = Rng::new(3);
    let noise: Vec<u8> = (0..50_000).flat_map(|_| rng.next().to_le_bytes()).collect();
    world.cli.file("guest.wasm", guest).file("tree/a", noise);
    let words = "image prepare --at call:fd_write:1 --tag warm:1 --layer tree guest.wasm";
    world.run(words).fine();
    for (number, how) in ["", "--packs"].into_iter().enumerate() {
        let name = format!("REG/warm:{number}");
        world.run(&format!("image push warm:1 {name} {how}")).fine();
        let pull = format!("image pull {name} --lazy only --store part-{number} --json");
        assert!(json(&world.run(&pull))["lazy_layers"].as_u64().unwrap() > 0);
        // It is here, and the tree is not.
        world.fake.misbehave(|_, _| Fault::status(404));
        let cat = |path: &str| world.run(&format!("image cat {name} {path} --store part-{number}"));
        cat(".stratafs/frozen/program.wasm").fine();
        cat("a").failed(1, &["a"]);
        world.fake.behave();
    }
}

#[test]
fn two_processes_fetch_each_frame_once() {
    let world = World::new();
    let mut rng = Rng::new(5);
    let noise: Vec<u8> = (0..750_000)
        .flat_map(|_| rng.next().to_le_bytes())
        .collect();
    world.cli.file("tree/noise", &noise);
    world.run("image import tree --tag two:1").fine();
    world.run("image push two:1 REG/two:1 --packs").fine();
    world
        .run("image pull REG/two:1 --lazy only --store part")
        .fine();
    world.fake.log();
    let delay = Duration::from_millis(30);
    world.fake.misbehave(move |_, _| Fault::Delay(delay));
    let fills = [(); 2].map(|()| {
        let mut command = world.command("store fill REG/two:1 --store part");
        command.stdout(Stdio::null()).spawn().unwrap()
    });
    for mut fill in fills {
        assert!(fill.wait().unwrap().success());
    }
    let log = world.fake.log();
    let ranges = log.iter().filter_map(|head| head.header("range"));
    let ends = ranges.map(|range| range.trim_start_matches("bytes=").split_once('-').unwrap());
    let number = |text: &str| text.parse::<usize>().unwrap();
    let asked: usize = ends.map(|(from, to)| number(to) + 1 - number(from)).sum();
    let bytes = noise.len();
    assert!(
        asked >= bytes && asked < bytes * 11 / 10,
        "{asked} for {bytes}"
    );
    let read = world.run("image cat REG/two:1 noise --store part");
    assert!(read.fine().stdout == noise);
}
