//! `install.sh` on a directory as the root of a node: what it makes of containerd's configuration, twice the
//! same, and nothing of it once it is removed again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use toml::{Table, Value};

const SHIM: &str = "usr/local/bin/containerd-shim-stratafs-v1";
const UNIT: &str = "etc/systemd/system/stratafs-snapshotter.service";

/// What `containerd config default` of 1.6 and 1.7 has of it, and what people add.
const OLD: &str = r#"disabled_plugins = []
version = 2

[plugins]

  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "pause:3.9"

    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "runc"
      disable_snapshot_annotations = true
      snapshotter = "overlayfs"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"

[proxy_plugins]
"#;

/// As 2.x writes it, without the key.
const NEW: &str = r#"version = 3

[plugins]
  [plugins.'io.containerd.cri.v1.images']
    snapshotter = 'overlayfs'

    [plugins.'io.containerd.cri.v1.images'.pinned_images]
      sandbox = 'pause:3.10'

  [plugins.'io.containerd.cri.v1.runtime']
    max_container_log_line_size = 16384

[proxy_plugins]
"#;

struct Root {
    dir: TempDir,
}

impl Root {
    /// A node with this configuration of containerd, and programs to install.
    fn new(config: Option<&str>) -> Self {
        let root = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for name in ["containerd-shim-stratafs-v1", "stratafs"] {
            let path = root.dir.path().join("from").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        if let Some(config) = config {
            fs::create_dir_all(root.path("etc/containerd")).unwrap();
            fs::write(root.path("etc/containerd/config.toml"), config).unwrap();
        }
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("node").join(name)
    }

    /// Runs the script; returns whether it succeeded, and all that it said.
    fn run(&self, words: &str) -> (bool, String) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/install.sh");
        let ran = Command::new("sh")
            .arg(script)
            .arg("--from")
            .arg(self.dir.path().join("from"))
            .arg("--root")
            .arg(self.path(""))
            .args(words.split_whitespace())
            .output()
            .unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        (ran.status.success(), String::from_utf8(said).unwrap())
    }

    #[track_caller]
    fn done(&self, words: &str) -> String {
        let (done, said) = self.run(words);
        assert!(done, "{words}: {said}");
        said
    }

    #[track_caller]
    fn refused(&self, words: &str, why: &str) {
        let (done, said) = self.run(words);
        assert!(!done && said.contains(why), "{words}: {said}");
        assert!(!self.path(SHIM).exists(), "{words}: something was changed");
    }

    fn config(&self) -> String {
        fs::read_to_string(self.path("etc/containerd/config.toml")).unwrap()
    }

    /// Returns a value of the configuration, as containerd would find it.
    #[track_caller]
    fn value(&self, keys: &[&str]) -> Option<Value> {
        let config = self.config();
        let table: Table = config
            .parse()
            .unwrap_or_else(|error| panic!("{error}: {config}"));
        let mut at = Value::Table(table);
        for key in keys {
            at = at.get(key)?.clone();
        }
        Some(at)
    }
}

fn text(text: &str) -> Option<Value> {
    Some(Value::String(text.to_owned()))
}

/// The tables of a version: of CRI's runtime, and of what it pulls.
fn tables(version: u32) -> (Vec<&'static str>, Vec<&'static str>) {
    match version {
        3 => (
            vec!["plugins", "io.containerd.cri.v1.runtime", "containerd"],
            vec!["plugins", "io.containerd.cri.v1.images"],
        ),
        _ => (
            vec!["plugins", "io.containerd.grpc.v1.cri", "containerd"],
            vec!["plugins", "io.containerd.grpc.v1.cri", "containerd"],
        ),
    }
}

#[track_caller]
fn check(root: &Root, version: u32, how: Option<&str>) {
    let (mut runtime, pulls) = tables(version);
    runtime.extend(["runtimes", "stratafs"]);
    let of = |table: &[&'static str], key| root.value(&[table, &[key]].concat());
    assert_eq!(
        of(&runtime, "runtime_type"),
        text("io.containerd.stratafs.v1")
    );
    let own = match how {
        Some("runtime") => text("stratafs"),
        _ => None,
    };
    assert_eq!(of(&runtime, "snapshotter"), own);
    let proxy = root.value(&["proxy_plugins", "stratafs", "address"]);
    let Some(how) = how else {
        assert_eq!(proxy, None);
        return;
    };
    assert_eq!(proxy, text("/run/stratafs/snapshotter.sock"));
    let labels = of(&pulls, "disable_snapshot_annotations");
    assert_eq!(labels, Some(Value::Boolean(false)));
    if how == "node" {
        assert_eq!(of(&pulls, "snapshotter"), text("stratafs"));
    }
}

#[test]
fn both_layouts_are_configured_twice_the_same_and_are_as_before_once_it_is_removed() {
    for (config, version, how) in [
        (OLD, 2, None),
        (OLD, 2, Some("runtime")),
        (OLD, 2, Some("node")),
        ("version = 2\n", 2, Some("runtime")),
        ("version = 2\n", 2, Some("node")),
        (NEW, 3, None),
        (NEW, 3, Some("runtime")),
        ("version = 3\n", 3, Some("runtime")),
    ] {
        let root = Root::new(Some(config));
        let words = how.map_or(String::new(), |how| format!("--snapshotter {how}"));
        // Without being told to, it says what is left to do.
        assert!(root.done(&words).contains("To do: add to "));
        assert_eq!(root.config(), config);
        let words = format!("{words} --configure");
        assert!(root.done(&words).contains("is added; restart containerd"));
        check(&root, version, how);
        let once = root.config();
        assert!(root.done(&words).contains("has the runtime handler"));
        assert_eq!(root.config(), once, "twice is not once");
        assert_eq!(root.path(UNIT).exists(), how.is_some());
        for word in ["--uninstall", "--remove"] {
            root.done(word);
            assert_eq!(root.config(), config, "it is not as before: {words}");
            for gone in [
                SHIM,
                UNIT,
                "usr/local/bin/stratafs",
                "var/cache/stratafs/shim",
            ] {
                assert!(!root.path(gone).exists(), "{gone} stays");
            }
        }
    }
}

#[test]
fn the_snapshotter_comes_and_goes_beside_a_runtime_that_is_there() {
    let root = Root::new(None);
    root.done("--configure");
    check(&root, 2, None);
    root.done("--snapshotter node --configure");
    check(&root, 2, Some("node"));
    root.done("--snapshotter runtime --configure");
    check(&root, 2, Some("runtime"));
    let unit = fs::read_to_string(root.path(UNIT)).unwrap();
    assert!(unit.contains("--address /run/stratafs/snapshotter.sock"));
    let wanted = "etc/systemd/system/multi-user.target.wants/stratafs-snapshotter.service";
    assert_eq!(fs::read_to_string(root.path(wanted)).unwrap(), unit);
    let mode = |name: &str| fs::metadata(root.path(name)).unwrap().permissions().mode() & 0o777;
    for dir in ["var/lib/stratafs/store", "var/lib/stratafs/snapshotter"] {
        assert_eq!(mode(dir), 0o700);
    }
    assert_eq!(mode("usr/local/bin/stratafs"), 0o755);
    // It stays where nothing is said of it.
    for how in ["runtime", "node"] {
        root.done(&format!("--snapshotter {how} --configure"));
        let once = root.config();
        let said = root.done("--configure");
        assert!(said.contains("systemctl restart stratafs-snapshotter"));
        assert_eq!(root.config(), once, "{said}");
        check(&root, 2, Some(how));
    }
    let said = root.done("--snapshotter none --configure");
    assert!(
        said.contains("systemctl stop stratafs-snapshotter"),
        "{said}"
    );
    check(&root, 2, None);
    assert!(!root.path(UNIT).exists() && !root.path(wanted).exists());
    // What an owner has written stays.
    fs::write(root.path("etc/stratafs/shim.toml"), "isolation = \"pod\"\n").unwrap();
    root.done("--configure");
    root.done("--uninstall");
    let kept = fs::read_to_string(root.path("etc/stratafs/shim.toml")).unwrap();
    assert_eq!(kept, "isolation = \"pod\"\n");
    assert!(root.path("var/lib/stratafs/store").exists());
}

#[test]
fn what_cannot_be_configured_is_refused_before_anything_is_changed() {
    let of = |config| Root::new(Some(config));
    let runtime = "--snapshotter runtime --configure";
    of("[plugins.cri]\n").refused(runtime, "expected version = 2 or version = 3");
    of("version = 4\n").refused(runtime, "found '4'");
    of("version = 3\n").refused("--snapshotter node", "a snapshotter for one runtime");
    of("").refused("--snapshotter all", "expected runtime, node or none");
    of("").refused("--snapshoter node", "error: --snapshoter: unknown");
    let handler =
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.stratafs]\n";
    of(handler).refused(
        runtime,
        "a runtime handler stratafs that this script did not add",
    );
    assert!(
        of(handler)
            .done("--configure")
            .contains("has the runtime handler")
    );
    let proxy = "version = 2\n[proxy_plugins.stratafs]\n  type = \"snapshot\"\n";
    of(proxy).refused(
        runtime,
        "a proxy plugin stratafs that this script did not add",
    );
    let root = of("version = 2\n");
    fs::remove_file(root.dir.path().join("from/stratafs")).unwrap();
    root.refused(runtime, "stratafs: there is no such file");
    assert_eq!(root.config(), "version = 2\n");
    root.done("--configure");
}

#[test]
fn the_default_runtime_stays_where_the_configuration_names_none() {
    let runc = |root: &Root| {
        let (runtime, _) = tables(2);
        root.value(&[&runtime[..], &["runtimes", "runc", "runtime_type"]].concat())
    };
    for config in [None, Some("version = 2\n")] {
        for how in ["none", "runtime", "node"] {
            let root = Root::new(config);
            root.done(&format!("--configure --snapshotter {how}"));
            assert_eq!(runc(&root), text("io.containerd.runc.v2"));
        }
    }
    let own = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.kata]\n  runtime_type = 'kata'\n";
    let root = Root::new(Some(own));
    root.done("--configure");
    assert_eq!(runc(&root), None);
    check(&root, 2, None);
}
