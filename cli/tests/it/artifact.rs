//! OCI artifacts of WebAssembly, and what an image says that it is for.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::Cli;
use crate::support::archive::Archive;
use crate::support::layout::{Layout, MANIFEST, config, config_for, sha256};
use crate::support::script::Script;

const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const PROGRAM: &str = "application/wasm";

fn wasm(script: &Script) -> Vec<u8> {
    wat::parse_str(script.wat()).unwrap()
}

/// A layout of one artifact: these programs, and what its configuration says.
fn artifact(programs: &[&[u8]], says: &Value) -> Layout {
    let layout = Layout::new();
    let layers: Vec<_> = programs
        .iter()
        .map(|bytes| layout.blob(PROGRAM, bytes))
        .collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": CONFIG,
        "config": layout.json(CONFIG, says), "layers": layers,
    });
    layout.index(&[layout.json(MANIFEST, &manifest)]);
    layout
}

fn says() -> Value {
    json!({"created": "2024-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1"})
}

/// The manifest of the only image of a layout.
fn manifest(dir: &Path) -> (String, Value) {
    let read = |path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let index = read(dir.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let manifest = read(dir.join("blobs").join(digest.replace(':', "/")));
    (digest, manifest)
}

fn said(dir: &Path) -> Value {
    let (_, manifest) = manifest(dir);
    let digest = manifest["config"]["digest"]
        .as_str()
        .unwrap()
        .replace(':', "/");
    serde_json::from_slice(&fs::read(dir.join("blobs").join(digest)).unwrap()).unwrap()
}

#[test]
fn an_artifact_runs_over_an_empty_base_and_goes_out_as_it_came() {
    let cli = Cli::new();
    let program = wasm(&Script::new().print("ran\n"));
    let layout = artifact(&[&program], &says());
    let source = layout.path().display().to_string();
    cli.run(&format!("image import {source} --tag a:1")).fine();
    assert_eq!(cli.run("run --image a:1").fine().text(), "ran\n");
    let inspected = cli.run("image inspect a:1 --json").fine().text();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    // The root alone.
    assert_eq!(inspected["entries"], 1, "{inspected}");
    let (digest, _) = manifest(layout.path());
    for format in ["artifact", "oci"] {
        cli.run(&format!("image export a:1 {format} --format {format}"))
            .fine();
        assert_eq!(manifest(&cli.path(format)).0, digest, "{format}");
    }
    cli.run("image export a:1 a.tar --format artifact").fine();
    cli.run("image import a.tar --tag a:2").fine();
    assert_eq!(cli.run("run --image a:2").fine().text(), "ran\n");
    cli.run("store verify").fine();
    cli.run("image rm a:1 a:2").fine();
    cli.run("store gc").fine();
}

#[test]
fn what_a_run_of_an_artifact_leaves_goes_on_with_its_program() {
    let cli = Cli::new();
    let program = wasm(&Script::new().write("made", b"text"));
    let layout = artifact(&[&program], &says());
    let source = layout.path().display().to_string();
    cli.run(&format!("image import {source} --tag a:1")).fine();
    cli.run("run --image a:1 --commit a:2").fine();
    assert_eq!(cli.run("image cat a:2 /made").fine().text(), "text");
    cli.run("run --image a:2").fine();
    cli.run("image squash a:2 --tag a:3").fine();
    cli.run("run --image a:3").fine();
    assert_eq!(cli.run("image cat a:3 /made").fine().text(), "text");
    cli.run("image export a:3 out").fine();
    cli.run("image import out --tag a:4").fine();
    cli.run("run --image a:4").fine();
    // With files beside it, it is no artifact any more.
    let refused = cli.run("image export a:1 one --format artifact");
    refused.fine();
}

#[test]
fn a_program_among_layers_runs_over_them() {
    // As runwasi has it: an image's configuration, and a program for a layer.
    let cli = Cli::new();
    let program = wasm(&Script::new().cat("f"));
    let layout = Layout::new();
    let tar = Archive::new().file("f", "of the layer\n").end();
    let layers = [
        layout.layer(&tar),
        (layout.blob(PROGRAM, &program), sha256(&program)),
    ];
    layout.index(&[layout.manifest(&config(&layers), &layers)]);
    let source = layout.path().display().to_string();
    cli.run(&format!("image import {source} --tag a:1")).fine();
    assert_eq!(cli.run("run --image a:1").fine().text(), "of the layer\n");
    let (digest, _) = manifest(layout.path());
    cli.run("image export a:1 out").fine();
    assert_eq!(manifest(&cli.path("out")).0, digest);
    // Which of two is meant nobody says.
    let other = wasm(&Script::new());
    let two = [
        layers[1].clone(),
        (layout.blob(PROGRAM, &other), sha256(&other)),
    ];
    layout.index(&[layout.manifest(&config(&two), &two)]);
    cli.run(&format!("image import {source} --tag a:2")).fine();
    cli.run("run --image a:2")
        .failed(1, &["2 programs of WebAssembly"]);
}

#[test]
fn artifacts_that_are_not_what_they_say_are_refused() {
    let cli = Cli::new();
    let program = wasm(&Script::new());
    let import = |layout: &Layout, parts: &[&str]| {
        let source = layout.path().display().to_string();
        cli.run(&format!("image import {source} --tag a:1"))
            .failed(1, parts);
    };
    import(
        &artifact(&[&program, b"\0asm"], &says()),
        &["with 2 layers"],
    );
    import(&artifact(&[], &says()), &["with 0 layers"]);
    import(
        &artifact(&[b"\x7fELF"], &says()),
        &["expected WebAssembly (application/wasm)"],
    );
    let mut other = says();
    other["layerDigests"] = json!([sha256(b"another")]);
    import(&artifact(&[&program], &other), &["name other layers"]);
    let damaged = artifact(&[&program], &says());
    let (_, manifest) = manifest(damaged.path());
    let blob = damaged.blob_path(&manifest["layers"][0]);
    let mut bytes = program.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&blob, bytes).unwrap();
    import(&damaged, &["expected the digest"]);
    fs::remove_file(blob).unwrap();
    import(&damaged, &["not there"]);
    let layer = artifact(&[&program], &says());
    cli.guest(&Script::new());
    let source = layer.path().display().to_string();
    cli.run(&format!("run --layer {source} guest.wat"))
        .failed(1, &["not a layer", "run it as an image"]);
}

#[test]
fn an_image_of_one_program_goes_out_as_an_artifact() {
    let cli = Cli::new();
    let program = wasm(&Script::new().print("ran\n"));
    cli.file("tree/bin/x.wasm", &program);
    cli.run("image import tree --tag x:1").fine();
    cli.run("image export x:1 out --format artifact").fine();
    let (_, written) = manifest(&cli.path("out"));
    assert_eq!(written["artifactType"], CONFIG);
    assert_eq!(written["config"]["mediaType"], CONFIG);
    assert_eq!(written["layers"][0]["mediaType"], PROGRAM);
    assert_eq!(written["layers"][0]["digest"], sha256(&program));
    let config = said(&cli.path("out"));
    assert_eq!(
        (&config["os"], &config["architecture"]),
        (&json!("wasip1"), &json!("wasm"))
    );
    assert_eq!(config["layerDigests"], json!([sha256(&program)]));
    cli.run("image import out --tag x:2").fine();
    assert_eq!(cli.run("run --image x:2").fine().text(), "ran\n");
    cli.file("tree/f", "beside it");
    cli.run("image import tree --tag y:1").fine();
    cli.run("image export y:1 no --format artifact")
        .failed(1, &["one program and no other files", "f is one more"]);
    cli.file("text/f", "no program");
    cli.run("image import text --tag z:1").fine();
    cli.run("image export z:1 no --format artifact")
        .failed(1, &["not WebAssembly"]);
    assert!(!cli.path("no").exists());
}

#[test]
fn an_image_says_what_it_is_told_that_it_is_for() {
    let cli = Cli::new();
    cli.file("tree/f", "x")
        .guest(&Script::new().write("g", b"y"));
    let told = |out: &str| {
        let said = said(&cli.path(out));
        let text = |key: &str| said[key].as_str().unwrap_or("-").to_owned();
        [text("os"), text("architecture"), text("variant")].join("/")
    };
    let export = |tag: &str, out: &str| {
        cli.run(&format!("image export {tag} {out}")).fine();
        told(out)
    };
    cli.run("image import tree --tag x:1").fine();
    assert_eq!(export("x:1", "plain"), "wasip1/wasm/-");
    cli.run("image import tree --tag x:2 --set-platform linux/arm/v7")
        .fine();
    assert_eq!(export("x:2", "imported"), "linux/arm/v7");
    cli.run("image export x:1 exported --set-platform linux/amd64")
        .fine();
    assert_eq!(told("exported"), "linux/amd64/-");
    cli.run("image squash x:2 --tag x:3 --set-platform linux/amd64")
        .fine();
    assert_eq!(export("x:3", "squashed"), "linux/amd64/-");
    cli.run("run --layer tree --commit x:4 --set-platform linux/riscv64 guest.wat")
        .fine();
    assert_eq!(export("x:4", "committed"), "linux/riscv64/-");
    // An image that came with documents of its own gets new ones.
    let layout = Layout::new();
    let layers = [layout.layer(&Archive::new().file("f", "").end())];
    layout.index(&[layout.manifest(&config_for("wasi", "wasm", &layers), &layers)]);
    let source = layout.path().display().to_string();
    cli.run(&format!(
        "image import {source} --tag y:1 --set-platform linux/amd64"
    ))
    .fine();
    assert_eq!(export("y:1", "stamped"), "linux/amd64/-");
    cli.run(&format!("image import {source} --tag y:2")).fine();
    assert_eq!(export("y:2", "kept"), "wasi/wasm/-");
    cli.run("image import tree --tag x:5 --set-platform linux")
        .refused(&["OS/ARCH"]);
    cli.run("run --set-platform linux/amd64 guest.wat")
        .refused(&["--commit"]);
}
