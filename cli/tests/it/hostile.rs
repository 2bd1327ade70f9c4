//! What images and archives that mean harm do to the terminal, the memory and
//! the pipes of whoever looks at them.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Cli, Done};
use crate::support::archive::{Archive, Head};
use crate::support::layout::{Layout, config};

/// Text that would clear a screen, retitle a window, reorder a line, begin one.
const ODD: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\u{2066}\r\nroot";

/// An image whose every string has escapes in it, as `odd`.
fn odd_image(cli: &Cli) {
    let layout = Layout::new();
    let below = format!("{ODD}/f");
    let tar = Archive::new()
        .dir(ODD)
        .file(&below, "x")
        .symlink(format!("{ODD}l"), ODD)
        .with(Head::new(b'0', b"bytes\xff\x1b"), b"y")
        .end();
    let layers = [layout.layer(&tar)];
    let mut document = config(&layers);
    document["created"] = json!(ODD);
    document["author"] = json!(ODD);
    document["variant"] = json!(ODD);
    document["config"] = json!({
        "Entrypoint": [ODD], "Cmd": [ODD], "Env": [format!("A={ODD}")], "WorkingDir": ODD,
        "User": ODD, "Labels": {ODD: ODD}, "StopSignal": ODD,
    });
    document["history"] = json!([
        {"created_by": ODD, "comment": ODD, "author": ODD},
        {"created_by": "x".repeat(100_000), "empty_layer": true},
    ]);
    let manifest = layout.manifest(&document, &layers);
    layout.index(&[manifest]);
    let path = layout.path().to_str().unwrap().to_owned();
    cli.run(&format!("image import {path} --tag odd")).fine();
}

/// Nothing of what was printed acts on a terminal, and no line is endless.
#[track_caller]
fn harmless(done: &Done, json: bool) {
    for (name, text) in [("stdout", done.text()), ("stderr", done.stderr.clone())] {
        let odd = |c: char| {
            (c.is_control() && c != '\n' && c != '\t')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!text.chars().any(odd), "{name}: {text:?}");
        if !json {
            let longest = text.lines().map(str::len).max().unwrap_or(0);
            assert!(longest < 8192, "{name}: a line of {longest} bytes");
            assert!(!text.lines().any(|line| line.starts_with("root")), "{text}");
        }
    }
}

#[test]
fn no_text_of_an_image_drives_a_terminal() {
    let cli = Cli::new();
    odd_image(&cli);
    cli.file(
        "other.tar",
        Archive::new().file(format!("{ODD}2"), "x").end(),
    );
    cli.run("image import other.tar --tag other").fine();
    let path = format!("/{ODD}");
    let odd_args: [&[&str]; 12] = [
        &["image", "ls"],
        &["image", "inspect", "odd"],
        &["image", "history", "odd"],
        &["image", "tree", "odd"],
        &["image", "tree", "odd", &path],
        &["image", "diff", "odd", "other"],
        &["image", "explain", "odd", &path],
        &["image", "explain", "odd", "/no\u{1b}[2J"],
        &["image", "cat", "odd", &path],
        &["image", "cat", "odd", "/no\u{1b}[2J"],
        &["run", "--image", "odd"],
        &["image", "inspect", "no\u{1b}[2J"],
    ];
    for args in odd_args {
        for json in [false, true] {
            let mut command = cli.command("");
            command.args(args);
            if json && args[0] == "image" {
                command.arg("--json");
            }
            let done = Done::of(&mut command);
            harmless(&done, json);
            if json && done.code == Some(0) {
                serde_json::from_slice::<Value>(&done.stdout).unwrap();
            }
        }
    }
    let inspected = cli.json("image inspect odd");
    assert_eq!(inspected["config"]["labels"][ODD], json!(ODD));
    let tree = cli.json("image tree odd");
    let entries = tree["entries"].as_array().unwrap();
    let with = |key: &str| {
        entries
            .iter()
            .filter(|entry| entry.get(key).is_some())
            .count()
    };
    assert_eq!((with("path"), with("path_bytes")), (5, 1));
    let odd = entries
        .iter()
        .find(|entry| entry.get("path_bytes").is_some())
        .unwrap();
    assert_eq!(odd["path_bytes"], json!("L2J5dGVz/xs="));
    assert!(entries.iter().any(|entry| entry["target"] == json!(ODD)));
}

#[test]
fn errors_of_archives_are_shown_escaped() {
    let cli = Cli::new();
    let special = Archive::new().head(Head::new(b'6', ODD)).end();
    cli.file("fifo.tar", special)
        .file("bad\u{1b}[2J.tar", "no archive");
    for source in ["fifo.tar", "bad\u{1b}[2J.tar", "missing\u{9b}.tar"] {
        let mut command = cli.command("image import --tag a");
        let done = Done::of(command.arg(source));
        assert_eq!(done.code, Some(1), "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        harmless(&done, false);
    }
}

/// An image `huge` of a file of 16 TiB less a block that holds nothing, and one
/// that ends in a byte.
fn huge_image(cli: &Cli) {
    let size = (1_u64 << 44) - 4096;
    let head = |name: &str| {
        let head = Head::new(b'S', name).gnu().octal(483, 12, 0);
        // Base 256: eleven octal digits are too few.
        let bytes = [&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat();
        head.field(483, &bytes).field(386, &bytes).octal(398, 12, 0)
    };
    cli.file(
        "huge.tar",
        Archive::new()
            .head(head("huge"))
            .head(head("bin/app"))
            .end(),
    );
    cli.run("image import huge.tar --tag huge").fine();
}

#[test]
fn a_hole_of_16_tib_costs_nobody_anything() {
    let cli = Cli::new();
    huge_image(&cli);
    let mut command = cli.command("image cat huge /huge");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [1; 1 << 20];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    assert!(first.iter().all(|byte| *byte == 0));
    drop(stdout);
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), Vec::new()));
    cli.run("image tree huge").fine();
    cli.run("image explain huge /huge").fine();
    cli.run("image squash huge --tag flat").fine();
    let large = ["file too large"];
    cli.run("image cat huge /huge --json").failed(1, &large);
    cli.run("run --image huge /bin/app")
        .failed(1, &["at most", "/bin/app"]);
    for (format, out) in [("oci", "o1"), ("oci-archive", "o2"), ("tar", "o3")] {
        cli.run(&format!("image export flat {out} --format {format}"))
            .fine();
        let bytes = bytes_below(&cli.path(out));
        assert!(bytes < 1 << 20, "{format}: {bytes} bytes");
        let again = cli.json(&format!("image import {out} --tag again:{out}"));
        assert_eq!(
            again["logical_bytes"],
            cli.json("image inspect flat")["logical_bytes"]
        );
    }
}

/// The sizes of the files there.
fn bytes_below(path: &std::path::Path) -> u64 {
    if path.is_file() {
        return path.metadata().unwrap().len();
    }
    let entries = std::fs::read_dir(path).unwrap();
    entries
        .map(|entry| bytes_below(&entry.unwrap().path()))
        .sum()
}

#[test]
fn a_listing_ends_with_its_reader_and_fails_on_a_full_device() {
    let cli = Cli::new();
    let names = (0..5000).map(|number| format!("d/f{number:06}"));
    let archive = names.fold(Archive::new(), |archive, name| archive.file(name, ""));
    cli.file("m.tar", archive.end());
    cli.run("image import m.tar --tag m").fine();
    for words in ["image tree m", "image tree m --json"] {
        let mut command = cli.command(words);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 1];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut first).unwrap();
        drop(stdout);
        let ended = child.wait_with_output().unwrap();
        assert_eq!(
            (ended.status.code(), ended.stderr),
            (Some(0), Vec::new()),
            "{words}"
        );
    }
    let Ok(_) = File::options().write(true).open("/dev/full") else {
        return;
    };
    for words in [
        "--help",
        "--version",
        "image --help",
        "image ls",
        "image tree m",
        "image ls --json",
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command: Command = cli.command(words);
        let ended = command
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{words}: {stderr}");
        assert!(stderr.starts_with("error: stdout: "), "{words}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
