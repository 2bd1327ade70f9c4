//! `stratafs image` and `stratafs store`: each command, and what it refuses.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Cli, Done};
use crate::support::archive::{Archive, Head};
use crate::support::layout::{Layout, described, gzip, sha256};
use crate::support::script::Script;

impl Cli {
    /// What the program prints with `--json`.
    #[track_caller]
    pub(super) fn json(&self, words: &str) -> Value {
        serde_json::from_slice(&self.run(&format!("{words} --json")).fine().stdout).unwrap()
    }

    /// An image `app:1` of two layers and `app:2` with one more.
    fn with_images() -> Self {
        let cli = Self::new();
        let lower = Archive::new()
            .dir("etc")
            .file("etc/motd", "hello")
            .file("etc/gone", "x")
            .symlink("link", "etc/motd");
        let upper = Archive::new()
            .file("etc/motd", "changed")
            .file("etc/.wh.gone", "");
        cli.file("lower.tar", lower.end())
            .file("upper.tar.gz", gzip(&upper.end()))
            .file("more/new", "new")
            .file("more.tar", Archive::new().file("new", "new").end());
        cli.run("image import lower.tar --layer upper.tar.gz --tag app:1")
            .fine();
        cli.run("image import lower.tar --layer upper.tar.gz --layer more.tar --tag app:2")
            .fine();
        cli
    }

    #[track_caller]
    fn ids(&self) -> Vec<(String, String)> {
        let images = self.json("image ls")["images"].clone();
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let images = images.as_array().unwrap().iter();
        images
            .map(|image| (text(&image["tags"][0]), text(&image["id"])))
            .collect()
    }
}

#[test]
fn import_makes_an_image_and_says_which() {
    let cli = Cli::new();
    cli.file("dir/f", "x")
        .file("l.tar", Archive::new().file("g", "y").end());
    let made = cli.json("image import dir --layer l.tar --tag app");
    assert_eq!(
        (&made["tag"], &made["layers"], &made["entries"]),
        (&json!("app:latest"), &json!(2), &json!(3))
    );
    assert_eq!(made["id"].as_str().unwrap().len(), "blake3:".len() + 64);
    let text = cli.run("image import dir --tag app:2").fine().text();
    assert!(text.starts_with("app:2 blake3:"), "{text}");
    // The same again is the same image.
    assert_eq!(
        cli.json("image import dir --layer l.tar --tag again")["id"],
        made["id"]
    );
    assert_eq!(cli.ids().len(), 2);

    cli.run("image import nowhere --tag x")
        .failed(1, &["nowhere"]);
    cli.file(
        "bad.tar",
        "no archive, though long enough for a header".repeat(20),
    );
    cli.run("image import bad.tar --tag x")
        .failed(1, &["bad.tar", "not a tar archive", "text"]);
    cli.run("image import dir --layer nowhere --tag x")
        .failed(1, &["nowhere"]);
    cli.run("image import dir").refused(&["--tag"]);
    cli.run("image import dir --tag Upper")
        .refused(&["--tag", "invalid image reference"]);
    cli.run("image import dir --tag blake3:00112233")
        .refused(&["--tag", "digest"]);
    cli.run("image import dir --tag x --platform linux")
        .refused(&["--platform", "invalid platform"]);
    cli.run("image import dir --tag x --max-bytes 0")
        .failed(1, &["more than 0 bytes"]);
    // What was refused left nothing.
    assert_eq!(cli.ids().len(), 2);
}

#[test]
fn import_takes_oci_images_and_chooses() {
    let cli = Cli::new();
    let layout = Layout::new();
    let one = layout.image_for("wasi", "wasm", &[Archive::new().file("one", "").end()]);
    let two = layout.image_for("plan9", "386", &[Archive::new().file("two", "").end()]);
    layout.index(&[
        described(&one, Some(("wasi", "wasm")), Some("a")),
        described(&two, Some(("plan9", "386")), Some("b")),
    ]);
    cli.file("layout.tar", layout.archive());
    let tree = |tag: &str| {
        let entries = cli.json(&format!("image tree {tag}"))["entries"].clone();
        entries[1]["path"].as_str().unwrap().to_owned()
    };
    cli.run("image import layout.tar --tag wasm").fine();
    assert_eq!(tree("wasm"), "/one");
    cli.run("image import layout.tar --platform plan9/386 --tag plan9")
        .fine();
    cli.run("image import layout.tar --name b --tag named")
        .fine();
    assert_eq!(
        (tree("plan9"), tree("named")),
        ("/two".into(), "/two".into())
    );
    cli.run("image import layout.tar --platform linux/s390x --tag x")
        .failed(1, &["linux/s390x", "wasi/wasm", "plan9/386"]);
    // `run --layer` takes it as well.
    let script = Script::new().cat("one");
    cli.script("--layer layout.tar", &script).fine();
}

#[test]
fn ls_lists_names_and_digests() {
    let cli = Cli::new();
    cli.run("image ls").failed(1, &["store", "store init"]);
    assert!(!cli.path("store").exists());
    cli.run("store init").fine();
    assert_eq!(cli.json("image ls"), json!({"images": []}));
    let cli = Cli::with_images();
    let text = cli.run("image ls").fine().text();
    assert!(text.contains("app:1") && text.contains("app:2"), "{text}");
    assert_eq!(cli.ids().len(), 2);
    cli.run("image ls extra").refused(&["extra"]);
}

#[test]
fn inspect_and_history_show_what_is_known() {
    let cli = Cli::with_images();
    let shown = cli.json("image inspect app:2");
    assert_eq!(shown["layers"].as_array().unwrap().len(), 3);
    assert_eq!(shown["tags"], json!(["app:2"]));
    let id = shown["id"].as_str().unwrap();
    // By its digest, whole and in part.
    assert_eq!(cli.json(&format!("image inspect {id}"))["id"], id);
    assert_eq!(cli.json(&format!("image inspect {}", &id[..20]))["id"], id);
    assert!(cli.run("image inspect app:2").fine().text().contains(id));
    let steps = cli.json("image history app:2")["history"].clone();
    let by: Vec<_> = steps
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["created_by"].clone())
        .collect();
    assert_eq!(
        by,
        [
            json!("import more.tar"),
            json!("import upper.tar.gz"),
            json!("import lower.tar")
        ]
    );
    assert!(
        cli.run("image history app:2")
            .fine()
            .text()
            .contains("import more.tar")
    );
    for command in ["inspect", "history"] {
        cli.run(&format!("image {command} none"))
            .failed(1, &["none:latest", "no such image"]);
        cli.run(&format!("image {command}")).refused(&["REF"]);
        cli.run(&format!("image {command} blake3:1234567890"))
            .failed(1, &["blake3:1234567890"]);
    }
}

#[test]
fn tree_and_cat_show_the_merged_tree() {
    let cli = Cli::with_images();
    let paths = |words: &str| {
        let entries = cli.json(words)["entries"].clone();
        let paths = entries.as_array().unwrap().iter();
        paths
            .map(|entry| entry["path"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        paths("image tree app:1"),
        ["/", "/etc", "/etc/motd", "/link"]
    );
    assert_eq!(paths("image tree app:1 /etc"), ["/etc", "/etc/motd"]);
    assert_eq!(paths("image tree app:1 etc/motd"), ["/etc/motd"]);
    let entry = cli.json("image tree app:1 /etc/motd")["entries"][0].clone();
    assert_eq!(
        (&entry["kind"], &entry["size_bytes"], &entry["layer"]),
        (&json!("file"), &json!(7), &json!(1))
    );
    let text = cli.run("image tree app:1").fine().text();
    assert!(
        text.contains("lrwxrwxrwx") || text.contains(" /link -> etc/motd"),
        "{text}"
    );
    cli.run("image tree app:1 /nowhere")
        .failed(1, &["/nowhere"]);
    cli.run("image tree app:1 ../x").refused(&["../x"]);

    assert_eq!(cli.run("image cat app:1 /link").fine().stdout, b"changed");
    assert_eq!(cli.json("image cat app:1 /etc/motd")["content"], "changed");
    cli.run("image cat app:1 /etc").failed(1, &["/etc"]);
    cli.run("image cat app:1 /etc/gone")
        .failed(1, &["/etc/gone"]);
    cli.run("image cat app:1").refused(&["PATH"]);
}

#[test]
fn diff_has_a_line_for_each_path() {
    let cli = Cli::with_images();
    cli.file(
        "base.tar",
        Archive::new()
            .dir("etc")
            .file("etc/motd", "hello")
            .file("etc/gone", "x")
            .end(),
    );
    cli.run("image import base.tar --tag base").fine();
    let text = cli.run("image diff base app:2").fine().text();
    assert_eq!(text, "D /etc/gone\nC /etc/motd\nA /link\nA /new\n");
    assert_eq!(cli.run("image diff app:1 app:1").fine().text(), "");
    let changes = cli.json("image diff app:1 app:2")["changes"].clone();
    assert_eq!(changes, json!([{"change": "A", "path": "/new"}]));
    cli.run("image diff app:1").refused(&["REF_B"]);
    cli.run("image diff app:1 none").failed(1, &["none:latest"]);
}

#[test]
fn explain_tells_where_a_byte_comes_from() {
    let cli = Cli::with_images();
    cli.file("twin/copy", "changed");
    cli.run("image import twin --tag twin").fine();
    let told = cli.json("image explain app:2 /etc/motd");
    assert_eq!(told["layer"]["number"], 1);
    assert_eq!(told["hides"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&told["hides"][0]["kind"], &told["hides"][0]["size_bytes"]),
        (&json!("file"), &json!(5))
    );
    assert_eq!(told["chunks"][0]["size_bytes"], 7);
    let sharers: Vec<_> = told["shared_with"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["path"].clone())
        .collect();
    assert_eq!(sharers, [json!("/copy")]);
    assert_eq!(told["shared_with"][0]["images"], json!(["twin:latest"]));
    let dir = cli.json("image explain app:2 /etc");
    assert_eq!((&dir["kind"], &dir["chunks"]), (&json!("dir"), &json!([])));
    let text = cli.run("image explain app:2 /etc/motd").fine().text();
    for part in [
        "from layer 1 (blake3:",
        "hides a file",
        "chunk at",
        "/copy of twin:latest",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    cli.run("image explain app:2 /etc/gone")
        .failed(1, &["etc/gone", "layer 1", "removes"]);
    cli.run("image explain app:2 /nowhere")
        .failed(1, &["nowhere"]);
    cli.run("image explain app:2").refused(&["PATH"]);
}

#[test]
fn export_and_import_are_inverse() {
    let cli = Cli::with_images();
    let same = |source: &str| {
        let tag = format!("from-{}", source.replace('.', "-"));
        cli.run(&format!("image import {source} --tag {tag}"))
            .fine();
        assert_eq!(
            cli.run(&format!("image diff app:2 {tag}")).fine().text(),
            "",
            "{source}"
        );
        let layers = cli.json(&format!("image inspect {tag}"))["layers"].clone();
        layers.as_array().unwrap().len()
    };
    cli.run("image export app:2 layout").fine();
    cli.run("image export app:2 zstd --compress zstd").fine();
    cli.run("image export app:2 out.tar").fine();
    cli.run("image export app:2 gz --format oci-archive --compress gzip")
        .fine();
    cli.run("image export app:2 tree.tar --format tar").fine();
    let told = cli.json("image export app:2 again.tar --format tar");
    assert_eq!(
        (&told["format"], &told["image"]),
        (&json!("tar"), &json!("app:2"))
    );
    for (source, layers) in [
        ("layout", 3),
        ("zstd", 3),
        ("out.tar", 3),
        ("gz", 3),
        ("tree.tar", 1),
    ] {
        assert_eq!(same(source), layers, "{source}");
    }
    cli.run("image export app:2 dir --format dir").fine();
    assert_eq!(fs::read(cli.path("dir/etc/motd")).unwrap(), b"changed");
    assert!(!cli.path("dir/etc/gone").exists());
    // An empty directory is filled, a file replaced.
    fs::create_dir(cli.path("empty")).unwrap();
    cli.run("image export app:2 empty").fine();
    assert!(cli.path("empty/index.json").is_file());
    cli.run("image export app:1 out.tar").fine();
    assert_eq!(cli.json("image import out.tar --tag replaced")["layers"], 2);
}

#[test]
fn export_refuses_and_leaves_no_trace() {
    let cli = Cli::with_images();
    let before = cli.names();
    cli.run("image export app:1 more")
        .failed(1, &["more", "is there already"]);
    cli.run("image export app:1 more --format dir")
        .failed(1, &["more", "is there already"]);
    cli.run("image export app:1 lower.tar --format oci")
        .failed(1, &["lower.tar", "is there already"]);
    cli.run("image export app:1 more --format tar")
        .failed(1, &["more"]);
    cli.run("image export app:1 no/where/x.tar")
        .failed(1, &["no/where"]);
    cli.run("image export none x.tar")
        .failed(1, &["none:latest"]);
    cli.run("image export app:1 x --format zip")
        .refused(&["zip"]);
    cli.run("image export app:1").refused(&["OUT"]);
    assert_eq!(cli.names(), before);
    assert_eq!(fs::read(cli.path("more/new")).unwrap(), b"new");
}

#[test]
fn a_foreign_image_goes_out_as_it_came() {
    let cli = Cli::new();
    let layout = Layout::new();
    let tar = Archive::new().file("f", "x").end();
    let blob = gzip(&tar);
    let layers = [(
        layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &blob),
        sha256(&tar),
    )];
    let mut config = crate::support::layout::config(&layers);
    config["config"] = json!({"Entrypoint": ["/f"], "Healthcheck": {"Test": ["NONE"]}});
    let manifest = layout.manifest(&config, &layers);
    layout.index(std::slice::from_ref(&manifest));
    cli.file("in.tar", layout.archive());
    cli.run("image import in.tar --tag app").fine();
    let shown = cli.json("image inspect app");
    assert_eq!(shown["manifest"], manifest["digest"]);
    assert_eq!(shown["layers"][0]["blob"], sha256(&blob));
    assert_eq!(shown["config"]["entrypoint"], json!(["/f"]));
    cli.run("image export app out").fine();
    let index: Value =
        serde_json::from_slice(&fs::read(cli.path("out/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], manifest["digest"]);
    let kept = cli.path("out/blobs").join(sha256(&blob).replace(':', "/"));
    assert_eq!(fs::read(kept).unwrap(), blob);
}

#[test]
fn squash_tag_and_rm() {
    let cli = Cli::with_images();
    cli.run("image squash app:2 --tag flat").fine();
    assert_eq!(cli.run("image diff app:2 flat").fine().text(), "");
    assert_eq!(
        cli.json("image inspect flat")["layers"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let tagged = cli.json("image tag flat name.example:5000/team/app:x");
    assert_eq!(tagged["tag"], "name.example:5000/team/app:x");
    assert_eq!(
        tagged["tags"],
        json!(["flat:latest", "name.example:5000/team/app:x"])
    );
    assert_eq!(cli.run("image rm flat").fine().text(), "flat:latest\n");
    cli.run("image cat name.example:5000/team/app:x /new")
        .fine();
    // All or none.
    cli.run("image rm app:1 none").failed(1, &["none:latest"]);
    cli.run("image cat app:1 /etc/motd").fine();
    assert_eq!(
        cli.json("image rm app:1 app:2")["removed"],
        json!(["app:1", "app:2"])
    );
    cli.run("image cat app:1 /etc/motd").failed(1, &["app:1"]);
    cli.run("image squash none --tag x")
        .failed(1, &["none:latest"]);
    cli.run("image squash flat").refused(&["--tag"]);
    cli.run("image tag none x").failed(1, &["none:latest"]);
    cli.run("image tag flat UPPER").refused(&["UPPER"]);
    cli.run("image rm").refused(&["REF"]);
}

#[test]
fn the_store_is_counted_verified_and_collected() {
    let cli = Cli::with_images();
    let stat = cli.json("store stat");
    assert_eq!(
        (&stat["images"], &stat["tags"], &stat["layers"]),
        (&json!(2), &json!(2), &json!(3))
    );
    assert!(stat["total_bytes"].as_u64().unwrap() > 0);
    assert!(cli.run("store stat").fine().text().contains("total"));
    assert_eq!(cli.json("store verify")["sound"], true);
    assert!(cli.run("store verify").fine().text().contains("2 images"));
    cli.run("image rm app:1 app:2").fine();
    let freed = cli.json("store gc");
    assert_eq!(freed["images"], 2);
    assert!(freed["freed_bytes"].as_u64().unwrap() > 0);
    assert_eq!(cli.json("store stat")["images"], 0);
    assert!(cli.run("store gc").fine().text().contains("0 images"));
    for command in ["stat", "verify", "gc"] {
        cli.run(&format!("store {command} extra"))
            .refused(&["extra"]);
        cli.run(&format!("store {command} --store lower.tar"))
            .failed(1, &["lower.tar"]);
    }
}

#[test]
fn a_collection_tells_of_the_damage_that_it_met() {
    let cli = Cli::with_images();
    let text = cli.run("store gc").fine().text();
    assert!(!text.contains("damaged"), "{text}");
    assert_eq!(cli.json("store gc")["damaged"], 0);
    let mut layers = fs::read_dir(cli.path("store/layers")).unwrap();
    for (expected, says) in [(1, "1 damaged part is"), (2, "2 damaged parts are")] {
        let layer = layers.next().unwrap().unwrap().path();
        let mut bytes = fs::read(&layer).unwrap();
        bytes[20] ^= 1;
        fs::write(&layer, bytes).unwrap();
        let text = cli.run("store gc").fine().text();
        assert!(text.contains(says), "{text}");
        assert!(text.contains("`stratafs store verify`"), "{text}");
        assert_eq!(cli.json("store gc")["damaged"], expected);
    }
    cli.run("store verify").failed(1, &["damaged", "layers/"]);
}

#[test]
fn verify_names_what_is_damaged() {
    let cli = Cli::with_images();
    let packs = cli.path("store/packs");
    let pack = fs::read_dir(packs).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[4100] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap();
    let done = cli.run("store verify");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stderr.starts_with("error: ") && done.stderr.contains(name),
        "{done:?}"
    );
}

#[test]
fn the_store_is_where_one_says() {
    let cli = Cli::new();
    cli.file("d/f", "x");
    cli.run("image import d --tag a --store other").fine();
    cli.run("--store other image cat a /f").fine();
    cli.run("image cat a /f")
        .failed(1, &["store: no store there", "store init"]);
    let mut by_variable = cli.command("image cat a /f");
    Done::of(by_variable.env("STRATAFS_STORE", cli.path("other"))).fine();
    let data = cli.path("home");
    let mut by_default = cli.command("image import d --tag b");
    by_default
        .env_remove("STRATAFS_STORE")
        .env("HOME", &data)
        .env("XDG_DATA_HOME", data.join("data"));
    by_default.env("APPDATA", &data).env("LOCALAPPDATA", &data);
    Done::of(&mut by_default).fine();
    assert!(Path::new(&data).exists());
}

#[test]
fn what_looks_makes_no_store_and_nothing_becomes_one() {
    let cli = Cli::new();
    cli.file("mine/packs/x", "x").file("mine/tmp/1-2-3", "x");
    for command in [
        "image ls",
        "image inspect a",
        "image history a",
        "image tree a",
        "image cat a /f",
        "image diff a b",
        "image explain a /f",
        "image export a out",
        "image rm a",
        "image tag a b",
        "image squash a --tag b",
        "store stat",
        "store verify",
        "store gc",
        "store repair",
        "run --image a",
    ] {
        cli.run(&format!("{command} --store typo"))
            .failed(1, &["typo", "store init"]);
        cli.run(&format!("{command} --store mine"))
            .failed(1, &["mine", "not a store"]);
    }
    cli.run("store init --store mine")
        .failed(1, &["mine", "not a store", "packs"]);
    assert_eq!(cli.names(), ["mine"]);
    assert!(cli.path("mine/packs/x").is_file() && cli.path("mine/tmp/1-2-3").is_file());
}

#[test]
fn a_store_is_made_looked_at_and_repaired() {
    let cli = Cli::new();
    let made = cli.json("store init");
    assert_eq!(made["new"], true);
    let again = cli.json("store init");
    assert_eq!((&again["new"], &again["id"]), (&json!(false), &made["id"]));
    assert_eq!(cli.json("store stat")["id"], made["id"]);
    cli.file("d/f", "x");
    cli.run("image import d --tag a").fine();
    assert!(
        cli.run("store repair")
            .fine()
            .text()
            .contains("nothing to repair")
    );
    for name in ["catalog.log", "catalog.redb"] {
        fs::remove_file(cli.path(&format!("store/{name}"))).unwrap();
        cli.run("image ls").failed(1, &[name, "store repair"]);
        cli.run("image import d --tag b")
            .failed(1, &[name, "store repair"]);
        let report = cli.json("store repair");
        assert_eq!((&report["tags"], &report["images"]), (&json!(1), &json!(1)));
        assert_eq!(report["missing"], json!([]));
        assert_eq!(cli.run("image cat a /f").fine().text(), "x");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let cli = Cli::new();
    for command in [
        "image",
        "image import",
        "image ls",
        "image inspect",
        "image history",
        "image tree",
        "image cat",
        "image diff",
        "image explain",
        "image export",
        "image squash",
        "image tag",
        "image rm",
        "store",
        "store stat",
        "store verify",
        "store gc",
        "store init",
        "store repair",
        "run",
    ] {
        let text = cli.run(&format!("{command} --help")).fine().text();
        assert!(text.contains("Example"), "{command}: {text}");
        assert!(text.contains("stratafs "), "{command}");
    }
    cli.run("image nothing").refused(&["nothing"]);
}

/// An image whose entry point is a guest that says what it was given.
fn with_program(cli: &Cli, config: &Value) {
    let wasm = wat::parse_str(Script::new().print_args().print_env().cat("data").wat()).unwrap();
    let tar = Archive::new()
        .with(Head::new(b'0', "bin/prog"), &wasm)
        .symlink("prog", "/bin/prog")
        .file("data", "kept")
        .end();
    let layout = Layout::new();
    let layers = [layout.layer(&tar)];
    let mut whole = crate::support::layout::config(&layers);
    whole["config"] = config.clone();
    layout.index(&[layout.manifest(&whole, &layers)]);
    cli.file("prog.tar", layout.archive());
    cli.run("image import prog.tar --tag prog").fine();
}

#[test]
fn run_image_takes_what_the_configuration_says() {
    let cli = Cli::new();
    let config = json!({"Entrypoint": ["/prog", "-e"], "Cmd": ["usual"], "Env": ["A=1", "B=2"], "WorkingDir": "/bin"});
    with_program(&cli, &config);
    let text = cli.run("run --image prog").fine().text();
    assert_eq!(text, "/prog\0-e\0usual\0PWD=/bin\0A=1\0B=2\0kept");
    let text = cli
        .run("run --image prog --env B=3 -- --mine x")
        .fine()
        .text();
    assert_eq!(text, "/prog\0-e\0--mine\0x\0PWD=/bin\0A=1\0B=3\0kept");
    // Layers go on top.
    cli.file("over/data", "over");
    assert!(
        cli.run("run --image prog --layer over")
            .fine()
            .text()
            .ends_with("over")
    );
    for entry in [json!(["prog"]), json!(["./prog"]), json!(["bin/prog"])] {
        let in_bin = entry != json!(["bin/prog"]);
        let dir = if in_bin { "/bin" } else { "/" };
        with_program(&cli, &json!({"Entrypoint": entry, "WorkingDir": dir}));
        assert!(
            cli.run("run --image prog").fine().text().ends_with("kept"),
            "{entry}"
        );
    }
}

#[test]
fn run_image_says_what_it_cannot_run() {
    let cli = Cli::new();
    with_program(&cli, &json!({"Entrypoint": ["/nowhere"]}));
    cli.run("run --image prog")
        .failed(1, &["prog:latest", "/nowhere"]);
    with_program(&cli, &json!({"Entrypoint": ["/data"]}));
    cli.run("run --image prog")
        .failed(1, &["prog:latest:/data"]);
    with_program(&cli, &json!({}));
    cli.run("run --image prog")
        .failed(1, &["prog:latest", "no entry point"]);
    cli.run("run --image prog /bin/prog").fine();
    cli.run("run --image none").failed(1, &["none:latest"]);
    cli.run("run --image Bad").refused(&["--image"]);
    cli.run("run").refused(&["GUEST.wasm"]);
}

#[test]
fn commit_keeps_what_a_run_changed() {
    let cli = Cli::new();
    cli.file("base/old", "old").file("base/gone", "x");
    let change = Script::new()
        .write("new", b"made")
        .unlink("gone", crate::support::script::OK);
    cli.script("--layer base --commit made:1", &change).fine();
    assert_eq!(cli.run("image cat made:1 /new").fine().stdout, b"made");
    cli.run("image cat made:1 /gone").failed(1, &["/gone"]);
    assert_eq!(
        cli.json("image inspect made:1")["layers"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    // On top of an image of the store, whose parts are taken over.
    with_program(&cli, &json!({"Entrypoint": ["/bin/prog"], "Env": ["A=1"]}));
    let blob = cli.json("image inspect prog")["layers"][0]["blob"].clone();
    cli.run("run --image prog --commit prog:2").fine();
    let shown = cli.json("image inspect prog:2");
    assert_eq!(shown["layers"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&shown["layers"][0]["blob"], &shown["config"]["env"]),
        (&blob, &json!(["A=1"]))
    );
    assert!(
        cli.run("run --image prog:2")
            .fine()
            .text()
            .ends_with("kept")
    );
    cli.run("image export prog:2 out").fine();
    cli.run("image import out --tag back").fine();
    assert_eq!(cli.run("image diff prog:2 back").fine().text(), "");
}

#[test]
fn commit_is_for_a_run_that_went_well() {
    let cli = Cli::new();
    let script = Script::new().write("new", b"made").exit(3);
    let done = cli.script("--commit made", &script);
    assert_eq!(done.code, Some(3));
    assert!(
        done.stderr.contains("made:latest: not made"),
        "{}",
        done.stderr
    );
    assert!(cli.ids().is_empty());
    cli.script("--commit made --instances 2", &Script::new())
        .failed(2, &["--commit"]);
    cli.script("--commit Bad", &Script::new())
        .refused(&["--commit"]);
    // A directory cannot be made where a file is.
    cli.file("file", "");
    cli.script("--commit made --store file", &Script::new())
        .failed(1, &["file"]);
}

#[cfg(unix)]
#[test]
fn an_export_that_is_killed_leaves_nothing_under_its_name() {
    let cli = Cli::new();
    let bytes: Vec<u8> = (0..24_u32 << 20)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    cli.file("big/file", bytes);
    cli.run("image import big --tag big").fine();
    let mut killed = 0;
    for (round, format) in ["oci", "oci-archive", "tar", "dir"]
        .iter()
        .cycle()
        .take(24)
        .enumerate()
    {
        let out = cli.path("out");
        let mut export = cli
            .command(&format!("image export big out --format {format}"))
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(4 * round as u64));
        export.kill().unwrap();
        killed += usize::from(!export.wait().unwrap().success());
        if !out.exists() {
            continue;
        }
        // What has the name is whole.
        cli.run("image import out --tag back").fine();
        assert_eq!(cli.run("image diff big back").fine().text(), "", "{format}");
        match out.is_dir() {
            true => fs::remove_dir_all(&out).unwrap(),
            false => fs::remove_file(&out).unwrap(),
        }
    }
    assert!(killed > 0, "none was killed");
}

#[test]
fn what_a_program_reads_to_start_comes_first() {
    let cli = Cli::new();
    for (name, fill) in [("a", "aaaa\n"), ("m", "mmmm\n"), ("z", "zzzz\n")] {
        cli.file(&format!("tree/{name}"), fill.repeat(50_000));
    }
    cli.run("image import tree --tag app").fine();
    let trace = "{\"instance\":0,\"path\":\"/z\",\"size_bytes\":250000,\"opens\":1,\"read_bytes\":250000,\"ranges\":[[0,250000]]}\n";
    cli.file("trace", trace);
    let names = |words: &str| {
        cli.run(words).fine();
        let mut all: Vec<_> = std::fs::read_dir(cli.path("out/blobs/sha256"))
            .unwrap()
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect();
        all.retain(|blob| blob.starts_with(&[0x1f, 0x8b]));
        std::fs::remove_dir_all(cli.path("out")).unwrap();
        let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(all[0].as_slice()));
        let entries = tar.entries().unwrap();
        let paths = entries.map(|entry| entry.unwrap().path().unwrap().display().to_string());
        paths.filter(|path| path != "./").collect::<Vec<_>>()
    };
    assert_eq!(
        names("image export app out --compress gzip"),
        ["a", "m", "z"]
    );
    assert_eq!(
        names("image export app out --compress gzip --start-set trace"),
        ["z", "a", "m"]
    );
    cli.file("other", "no trace\n");
    cli.run("image export app out --compress gzip --start-set other")
        .failed(1, &["--start-set", "line 1 is not a line of `run --trace`"]);
    cli.file("long", "x".repeat(1 << 21));
    cli.run("image export app out --compress gzip --start-set long")
        .failed(1, &["line 1 is not a line"]);
    cli.run("image export app out --compress gzip --start-set none")
        .failed(1, &["--start-set", "none"]);
}
