//! Spans for a collector of OpenTelemetry: what is sent with the feature `otel`, and that without it nothing is.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
#[cfg(feature = "otel")]
use stratafs::registry::{Client, ClientOptions, RegistryRef};
#[cfg(feature = "otel")]
use stratafs::store::Store;
#[cfg(feature = "otel")]
use stratafs::transfer::{ImportOptions, PullOptions, PushOptions, import, pull, push};
use stratafs_shim::messages::*;
use tempfile::TempDir;

use crate::node::*;
use crate::support::collector::Collector;

/// Has a process of the shim run, refuse and lose containers; returns once it has ended.
fn run_some(collector: &Collector, more: &[(&str, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "socket-dir = {:?}\ncache-dir = \"\"\n",
        dir.path().join("sockets")
    );
    std::fs::write(dir.path().join("shim.toml"), config).unwrap();
    let mut bundle = Bundle::new(dir.path(), "one", &says("1", 3));
    bundle.spec["annotations"] = json!({
        "io.kubernetes.cri.image-name": "registry.test/team/app:1",
        "io.kubernetes.cri.sandbox-name": "pod",
        "io.kubernetes.cri.sandbox-namespace": "default",
        "io.kubernetes.cri.sandbox-uid": "u-1",
    });
    bundle.write();
    let socket = start(&dir, &bundle, collector, more);
    let (out, err) = (bundle.open("out"), bundle.open("err"));
    let _pid: PidResponse = call(&socket, "Create", &bundle.request).unwrap();
    let _pid: PidResponse = call(&socket, "Start", &named("one")).unwrap();
    let ended: WaitResponse = call(&socket, "Wait", &named("one")).unwrap();
    assert_eq!(ended.exit_status, 3);
    drop((out, err));
    assert_eq!(
        refusal(call::<Empty>(&socket, "Kill", &signal("one", 9))).0,
        5
    );
    let _gone: DeleteResponse = call(&socket, "Delete", &named("one")).unwrap();
    let mut wrong = Bundle::new(dir.path(), "wrong", "no program");
    wrong.spec["process"]["cwd"] = json!("../up");
    wrong.write();
    assert_eq!(
        refusal(call::<PidResponse>(&socket, "Create", &wrong.request)).0,
        3
    );
    let last = ShutdownRequest {
        id: "one".into(),
        now: true,
    };
    let _ended: Empty = call(&socket, "Shutdown", &last).unwrap();
}

fn start(dir: &TempDir, bundle: &Bundle, collector: &Collector, more: &[(&str, &str)]) -> PathBuf {
    let mut program = Command::new(env!("CARGO_BIN_EXE_containerd-shim-stratafs-v1"));
    let ran = program
        .args(["-namespace", "tests", "-address"])
        .arg(dir.path().join("containerd"))
        .args(["-id", bundle.request.id.as_str(), "start"])
        .env("STRATAFS_SHIM_CONFIG", dir.path().join("shim.toml"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .envs(more.iter().copied())
        .current_dir(&bundle.dir)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let address = String::from_utf8(ran.stdout).unwrap();
    address.strip_prefix("unix://").unwrap().into()
}

#[cfg(feature = "otel")]
#[test]
fn otel_a_container_off_an_image_of_a_store_is_made_with_the_digest_of_its_manifest() {
    use crate::support::fake_registry::FakeRegistry;

    let dir = tempfile::tempdir().unwrap();
    let (source, store) = (dir.path().join("source"), dir.path().join("store"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("app.wasm"), says("1", 3)).unwrap();
    let fake = FakeRegistry::start();
    let client = Client::new(ClientOptions::default()).unwrap();
    let made = Store::open(&dir.path().join("made")).unwrap();
    let tag = "app:1".parse().unwrap();
    import(&made, &[source], &tag, &ImportOptions::default()).unwrap();
    let name: RegistryRef = fake.name("team/app:1").parse().unwrap();
    push(&made, &client, &tag, &name, &PushOptions::default()).unwrap();
    let into = Store::open(&store).unwrap();
    let pulled = pull(&into, &client, &name, None, &PullOptions::default()).unwrap();
    let collector = Collector::start();
    let config = format!(
        "socket-dir = {:?}\ncache-dir = \"\"\n",
        dir.path().join("sockets")
    );
    std::fs::write(dir.path().join("shim.toml"), config).unwrap();
    let mut bundle = Bundle::new(dir.path(), "one", "");
    let image = pulled.image.id.to_string();
    bundle.request.rootfs = stored_mount(&bundle.dir, &store, &image, &[]);
    bundle.write();
    let socket = start(&dir, &bundle, &collector, &[]);
    let _pid: PidResponse = call(&socket, "Create", &bundle.request).unwrap();
    let _gone: DeleteResponse = call(&socket, "Delete", &named("one")).unwrap();
    let last = ShutdownRequest {
        id: "one".into(),
        now: true,
    };
    let _ended: Empty = call(&socket, "Shutdown", &last).unwrap();
    let seen = collector.until(2);
    let made = seen.iter().find(|span| span.name == "container.create");
    let digest = &made.unwrap().attributes["oci.manifest.digest"];
    // The tag leads to an index of three platforms; the manifest is the one that was taken.
    let manifest = into.info(&image).unwrap().manifest.unwrap();
    assert_eq!(digest, &manifest.to_string());
    assert_ne!(digest, pulled.digest.as_str());
}

#[cfg(feature = "otel")]
#[test]
fn otel_calls_that_change_containers_are_spans_with_the_names_of_its_conventions() {
    let collector = Collector::start();
    run_some(
        &collector,
        &[("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")],
    );
    let seen = collector.until(5);
    let names: Vec<&str> = seen.iter().map(|span| span.name.as_str()).collect();
    let all = [
        "container.create",
        "container.create",
        "container.delete",
        "container.kill",
        "container.start",
    ];
    assert_eq!(names, all);
    for span in &seen {
        assert!(span.is_whole, "{span:?}");
        assert_eq!(span.service, "containerd-shim-stratafs-v1");
        assert_eq!(span.attributes["container.runtime.name"], "stratafs");
    }
    let of = |name: &str, id: &str| {
        let mut fitting = seen.iter().filter(|span| span.name == name);
        fitting
            .find(|span| span.attributes["container.id"] == id)
            .unwrap()
    };
    let made = of("container.create", "one");
    for (key, value) in [
        ("container.image.name", "registry.test/team/app:1"),
        ("k8s.pod.name", "pod"),
        ("k8s.namespace.name", "default"),
        ("k8s.pod.uid", "u-1"),
    ] {
        assert_eq!(made.attributes[key], value);
    }
    assert_eq!(made.status.0, 0);
    let wrong = of("container.create", "wrong");
    assert_eq!(
        (wrong.status.0, &*wrong.attributes["error.type"]),
        (2, "INVALID_ARGUMENT")
    );
    assert!(wrong.status.1.contains("process.cwd"), "{wrong:?}");
    assert_eq!(
        of("container.kill", "one").attributes["error.type"],
        "NOT_FOUND"
    );
    assert_eq!(
        of("container.delete", "one").attributes["process.exit.code"],
        "3"
    );
    let headers = collector.headers();
    assert!(
        headers
            .iter()
            .any(|line| line == "post /v1/traces http/1.1"),
        "{headers:?}"
    );
    assert!(
        headers.iter().any(|line| line == "x-key: secret"),
        "{headers:?}"
    );
}

#[cfg(feature = "otel")]
#[test]
fn otel_sends_nothing_where_it_is_switched_off_or_asked_for_what_is_not_spoken() {
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ] {
        let collector = Collector::start();
        run_some(&collector, &[(name, value)]);
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(collector.connections(), 0, "{name}={value}");
    }
}

#[cfg(not(feature = "otel"))]
#[test]
fn otel_is_nothing_in_a_build_without_it() {
    let collector = Collector::start();
    run_some(&collector, &[]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(collector.connections(), 0);
    let nothing = (collector.until(0).len(), collector.headers().len());
    assert_eq!(nothing, (0, 0));
}
