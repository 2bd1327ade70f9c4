//! docs/INPUTS.md: each command in it, on the input that it names.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{Cli, Done};
use crate::support::archive::{Archive, Head};
use crate::support::layout::{Layout, MANIFEST, config, described, gzip, sha256, zstd};

const DOC: &str = include_str!("../../../docs/INPUTS.md");

/// The text of the one file that all inputs hold, and its name.
const TEXT: &str = "in every input\n";

fn tree() -> Archive {
    Archive::new().dir("./").file("./f", TEXT)
}

/// The cells of the table's rows under a heading that begins like this.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let lines = DOC.lines().skip_while(|line| !line.starts_with(heading));
    let lines = lines.skip(1).take_while(|line| !line.starts_with('#'));
    let rows = lines.filter(|line| line.starts_with("| "));
    rows.skip(1)
        .map(|line| {
            let line = line.replace("\\|", "\u{1}");
            let cells = line.trim_matches('|').split('|');
            cells
                .map(|cell| cell.trim().trim_matches('`').trim().replace('\u{1}', "|"))
                .collect()
        })
        .collect()
}

/// Has a tool write an input; one that is not installed has it written by hand.
fn written(cli: &Cli, line: &str, name: &str, by_hand: impl FnOnce() -> Vec<u8>) {
    let done = Command::new("sh")
        .args(["-c", line])
        .current_dir(cli.dir.path())
        .output();
    if !done.is_ok_and(|done| done.status.success() && cli.path(name).is_file()) {
        eprintln!("skipped: `{line}` does not work here: {name} is made by hand");
        cli.file(name, by_hand());
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// A zip of one file, stored, with these flags.
fn zip(flags: u8) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(TEXT.as_bytes());
    let size = (TEXT.len() as u32).to_le_bytes();
    let sums = [crc.sum().to_le_bytes(), size, size].concat();
    let common = [
        &[10, 0, flags, 0, 0, 0, 0, 0, 0x21, 0][..],
        &sums,
        &[1, 0, 0, 0],
    ]
    .concat();
    let local = [b"PK\x03\x04", &common[..], b"f", TEXT.as_bytes()].concat();
    let central = [b"PK\x01\x02\x14\0", &common[..], &[0; 14], b"f"].concat();
    let places = [central.len() as u32, local.len() as u32].map(u32::to_le_bytes);
    let end = [
        &b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..],
        &places.concat(),
        &[0; 2],
    ]
    .concat();
    [local, central, end].concat()
}

fn deb() -> Vec<u8> {
    let member = |name: &str, data: &[u8]| {
        let head = format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            0,
            100_644,
            data.len()
        );
        let pad = vec![b'\n'; data.len() % 2];
        [head.as_bytes(), data, &pad].concat()
    };
    [
        b"!<arch>\n".to_vec(),
        member("debian-binary", b"2.0\n"),
        member(
            "control.tar.gz",
            &gzip(&Archive::new().file("./control", "").end()),
        ),
        member("data.tar.gz", &gzip(&tree().end())),
    ]
    .concat()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn archives(cli: &Cli) {
    cli.file("tree/f", TEXT);
    written(cli, "tar -C tree -cf tree.tar .", "tree.tar", || {
        tree().end()
    });
    let tar = fs::read(cli.path("tree.tar")).unwrap();
    cli.file("tree.crate", gzip(&tar))
        .file("tree.tar.zst", zstd(&tar));
    written(cli, "xz -9k tree.tar", "tree.tar.xz", || xz(&tar));
    written(cli, "bzip2 -k tree.tar", "tree.tar.bz2", || bzip2(&tar));
    let line = "tar -C tree --listed-incremental=$PWD/list -cf incremental.tar .";
    written(cli, line, "incremental.tar", || {
        let dumped = Archive::new().with(Head::new(b'D', "./").gnu(), b"Yf\0\0");
        dumped.file("./f", TEXT).end()
    });
    written(cli, "cd tree && zip -qr ../tree.zip .", "tree.zip", || {
        zip(0)
    });
    fs::copy(cli.path("tree.zip"), cli.path("tree.whl")).unwrap();
    let control =
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n";
    cli.file("deb/DEBIAN/control", control).file("deb/f", TEXT);
    let line = "dpkg-deb --root-owner-group -b deb tree.deb";
    written(cli, line, "tree.deb", deb);
    let device = Head::new(b'3', "./dev/null")
        .octal(329, 8, 1)
        .octal(337, 8, 3);
    let rootfs = tree()
        .dir("./dev/")
        .head(device)
        .head(Head::new(b'6', "./run/pipe"));
    cli.file("rootfs.tar", rootfs.end());
}

fn images(cli: &Cli) {
    let layout = Layout::of(&[tree().end()]);
    copy(layout.path(), &cli.path("layout"));
    copy(layout.path(), &cli.path("above/image"));
    copy(layout.path(), &cli.path("half"));
    fs::remove_file(cli.path("half/index.json")).unwrap();
    cli.file("layout.tar.gz", gzip(&layout.archive()));
    let tar = tree().end();
    let configuration = config(&[(json!(null), sha256(&tar))]).to_string();
    let saved = json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["l/layer.tar"]}]);
    let saved = saved.to_string();
    let archive = Archive::new()
        .with(Head::new(b'0', "l/layer.tar"), &tar)
        .file("c.json", &configuration)
        .file("manifest.json", &saved);
    cli.file("saved.tar", archive.end());
    cli.file("saved/l/layer.tar", &tar)
        .file("saved/c.json", configuration)
        .file("saved/manifest.json", saved);
    let flat = Layout::new();
    let top = flat.image(std::slice::from_ref(&tar));
    copy(&flat.path().join("blobs/sha256"), &cli.path("flat"));
    fs::copy(flat.blob_path(&top), cli.path("flat/manifest.json")).unwrap();
    cli.file("flat/version", "Directory Transport Version: 1.1\n");
    let two = Layout::new();
    let one = two.image_for("linux", "s390x", std::slice::from_ref(&tar));
    let other = two.image_for("linux", "riscv64", &[Archive::new().file("g", "").end()]);
    two.index(&[
        described(
            &one,
            Some(("linux", "s390x")),
            Some("docker.io/library/x:1"),
        ),
        described(
            &other,
            Some(("linux", "riscv64")),
            Some("docker.io/library/x:2"),
        ),
    ]);
    copy(two.path(), &cli.path("two"));
    let artifact = Layout::new();
    let program = artifact.blob("application/wasm", b"\0asm\x01\0\0\0");
    let wasm_config = "application/vnd.wasm.config.v0+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [program],
        "config": artifact.json(wasm_config, &json!({"os": "wasip1", "architecture": "wasm"})),
    });
    artifact.index(&[artifact.json(MANIFEST, &manifest)]);
    copy(artifact.path(), &cli.path("artifact"));
    cli.file("before/ab/layer.tar", &tar)
        .file("before/repositories", r#"{"x": {"1": "ab"}}"#);
}

fn refused(cli: &Cli) {
    let tar = fs::read(cli.path("tree.tar")).unwrap();
    let wide = tar.iter().flat_map(|byte| [*byte, 0]);
    cli.file(
        "utf16.tar",
        [0xff, 0xfe].into_iter().chain(wide).collect::<Vec<_>>(),
    )
    .file("page.html", "<!DOCTYPE html>\n<title>404</title>\n")
    .file("tree.lz4", b"\x04\x22\x4d\x18\x64\x40\xa7")
    .file("program", b"\x7fELF\x02\x01\x01\0".repeat(100))
    .file("guest.wasm", b"\0asm\x01\0\0\0")
    .file(
        "volume.tar",
        Archive::new().with(Head::new(b'M', "f").gnu(), b"x").end(),
    )
    .file("locked.zip", zip(1))
    .file("tail.tar.gz", [gzip(&tar), b"tail".to_vec()].concat());
}

/// Runs a line as it stands in the table.
fn shell(cli: &Cli, line: &str) -> Option<Done> {
    let needs_bash = line.contains("<(");
    let mut shell = Command::new(if needs_bash { "bash" } else { "sh" });
    let program = Path::new(env!("CARGO_BIN_EXE_stratafs"));
    let path = std::env::var("PATH").unwrap();
    shell
        .args(["-c", line])
        .current_dir(cli.dir.path())
        .env(
            "PATH",
            format!("{}:{path}", program.parent().unwrap().display()),
        )
        .env("STRATAFS_STORE", cli.path("store"));
    if needs_bash && Command::new("bash").arg("--version").output().is_err() {
        eprintln!("skipped: no bash for `{line}`");
        return None;
    }
    Some(Done::of(&mut shell))
}

#[test]
fn every_input_in_the_documentation_is_taken_as_it_says() {
    let cli = Cli::new();
    archives(&cli);
    images(&cli);
    let rows = rows("# What can be");
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        let Some(done) = shell(&cli, &row[1]) else {
            continue;
        };
        assert_eq!(done.code, Some(0), "{}: {done:?}", row[1]);
        let left_out = row[1].contains("--skip-special");
        let said = match left_out {
            true => "left out: 2 special files (dev/null, run/pipe)\n",
            false => "",
        };
        assert_eq!(done.stderr, said, "{}", row[1]);
        if row[1].contains("import artifact") {
            // It has no `_start`, as it is the shortest program there is.
            cli.run("run --image in:1").failed(1, &["_start"]);
        } else {
            let held = cli.run("image cat in:1 /f");
            assert_eq!(held.text(), TEXT, "{}: {held:?}", row[1]);
        }
        cli.run("image rm in:1").fine();
    }
}

#[test]
fn every_input_that_the_documentation_refuses_is_refused_in_its_words() {
    let cli = Cli::new();
    archives(&cli);
    images(&cli);
    refused(&cli);
    let rows = rows("## What is refused");
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        let done = shell(&cli, &row[1]).unwrap();
        done.failed(1, &[&row[2]]);
    }
    let left = cli.run("image ls --json").fine().text();
    assert!(left.contains("\"images\": []"), "{left}");
}
