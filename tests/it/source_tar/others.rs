//! The same archives under GNU tar and Python's tarfile, where they are
//! installed: what we accept, they list alike.

use std::fs;
use std::path::Path;
use std::process::Command;

use stratafs::layer::EntryBody;
use stratafs::source::write_layer;

use super::a;
use crate::support::archive::{Archive, Head, import};

fn output(command: &mut Command) -> Option<String> {
    match command.output() {
        Ok(output) if output.status.success() => Some(String::from_utf8(output.stdout).unwrap()),
        Ok(output) => panic!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            eprintln!("{command:?} is not here: {error}");
            None
        }
    }
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text
        .lines()
        .map(|line| line.trim_end_matches('/').to_owned())
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

fn ours(bytes: &[u8]) -> Vec<String> {
    let layer = import(bytes).unwrap();
    let explicit = layer
        .entries()
        .filter(|entry| !matches!(entry.body, EntryBody::Dir { meta: None, .. }));
    explicit.map(|entry| entry.path.to_string()).collect()
}

const LIST: &str = "import sys, tarfile\nfor m in tarfile.open(sys.argv[1]): print(m.name)";

fn same_list(name: &str, archive: Archive) {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("x.tar");
    let bytes = archive.end();
    fs::write(&path, &bytes).unwrap();
    let ours = ours(&bytes);
    if let Some(gnu) = output(Command::new("tar").arg("-tf").arg(&path)) {
        assert_eq!(sorted(&gnu), ours, "{name}: GNU tar");
    }
    if let Some(python) = output(Command::new("python3").args(["-c", LIST]).arg(&path)) {
        assert_eq!(sorted(&python), ours, "{name}: Python");
    }
}

#[test]
fn case_c1_29_others_list_what_we_accept_alike() {
    let (long, next) = ("n".repeat(150), |archive: Archive| {
        archive.file("next", "!")
    });
    let pax_size = a()
        .pax(&[("size", b"5")])
        .head(Head::new(b'0', "f").size(5))
        .data(b"hello");
    for (name, archive) in [
        (
            "plain",
            a().dir("d")
                .file("d/f", "x")
                .symlink("l", "d")
                .hard_link("h", "d/f"),
        ),
        (
            "prefix",
            a().head(Head::new(b'0', "f").field(345, b"some/where")),
        ),
        ("long name", a().long(b'L', long.as_bytes()).file("x", "y")),
        (
            "long link",
            a().long(b'K', long.as_bytes()).symlink("x", "y"),
        ),
        (
            "pax path",
            a().pax(&[("path", long.as_bytes())]).file("x", "y"),
        ),
        ("pax size", pax_size),
        (
            "pax over long, agreeing",
            a().pax(&[("path", b"p")]).long(b'L', b"p").file("x", "y"),
        ),
        ("global", a().global(&[("mtime", b"7")]).file("f", "x")),
        (
            "global and own",
            a().global(&[("uid", b"7")])
                .pax(&[("path", b"p")])
                .file("f", "x"),
        ),
        (
            "hard link with a size",
            a().file("f", "x")
                .head(Head::new(b'1', "l").link("f").size(600)),
        ),
        (
            "base 256",
            a().head(
                Head::new(b'0', "f")
                    .gnu()
                    .field(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x01"),
            )
            .data(b"x"),
        ),
    ] {
        same_list(name, next(archive));
    }
}

/// What Python says of each entry, in the words of [`told`].
const FACTS: &str = r#"
import sys, tarfile
last = {}
for m in tarfile.open(sys.argv[1]):
    if m.islnk():
        # One file by a further name: it has that file's facts.
        last[m.name] = last[m.linkname]
        continue
    last[m.name] = m
for name, m in last.items():
    kind = "d" if m.isdir() else "l" if m.issym() else "f"
    size = m.size if kind == "f" else 0
    print(f"{name} {kind} {m.mode & 0o7777:o} {m.uid} {m.gid} {int(m.mtime // 1)} {size} {m.linkname if kind == 'l' else ''}")
"#;

/// What we say of each entry.
fn told(bytes: &[u8]) -> Vec<String> {
    let layer = import(bytes).unwrap();
    let entries = layer.entries().filter_map(|entry| {
        let (kind, meta, size, target) = match entry.body {
            EntryBody::Dir { meta, .. } => ("d", meta?, 0, &b""[..]),
            EntryBody::File { meta, content, .. } => ("f", meta, content.size(), &b""[..]),
            EntryBody::Symlink { meta, target, .. } => ("l", meta, 0, target),
            _ => return None,
        };
        let target = String::from_utf8_lossy(target);
        let secs = meta.mtime.secs();
        let path = entry.path.to_string();
        let path = if path == "/" { "." } else { path.as_str() };
        Some(format!(
            "{path} {kind} {:o} {} {} {secs} {size} {target}",
            meta.mode, meta.uid, meta.gid
        ))
    });
    let mut told: Vec<_> = entries.map(|line| line.trim_end().to_owned()).collect();
    told.sort();
    told
}

/// What Python says of them, sorted.
fn facts(path: &Path) -> Option<Vec<String>> {
    let python = output(Command::new("python3").args(["-c", FACTS]).arg(path))?;
    let lines = python.lines().map(|line| {
        let line = line.strip_prefix("./").unwrap_or(line);
        line.trim_end().to_owned()
    });
    let mut facts: Vec<_> = lines.collect();
    facts.sort();
    Some(facts)
}

/// Makes archives in each of Python's formats, of entries with odd facts.
const MAKE: &str = r#"
import io, sys, tarfile
form = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}[sys.argv[2]]
rich = sys.argv[2] != "ustar"
with tarfile.open(sys.argv[1], "w", format=form) as tar:
    def add(name, type=tarfile.REGTYPE, data=b"", **facts):
        info = tarfile.TarInfo(name)
        info.type, info.size = type, len(data)
        for key, value in facts.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(data))
    add("d", tarfile.DIRTYPE, mode=0o1777, uid=12, gid=34, mtime=0)
    add("d/f", data=b"hello", mode=0o4755, uid=2097151, gid=2097151, mtime=8589934591)
    add("d/f", data=b"again, longer", mode=0o600, mtime=5)
    add("x y", data=b"space", mode=0)
    add("n" * 100, data=b"as long as the field", mtime=1)
    add("p" * 120 + "/" + "q" * 90, data=b"prefix", mtime=1)
    add("l", tarfile.SYMTYPE, linkname="../d/./f//", mode=0o777)
    add("t", tarfile.SYMTYPE, linkname="t" * 100)
    add("h", tarfile.LNKTYPE, linkname="d/f", mode=0o111)
    add("old", tarfile.AREGTYPE, data=b"old kind")
    add("cont", tarfile.CONTTYPE, data=b"contiguous")
    if rich:
        add("m" * 255, data=b"long", mtime=1)
        add("big", data=b"b", uid=2**31 + 5, gid=2**32 - 2, mtime=2**34)
        add("u", tarfile.SYMTYPE, linkname="u" * 300)
        add("before", data=b"", mtime=-5)
    if sys.argv[2] == "pax":
        add("\u00e9\u4e2d", data=b"not ASCII", mtime=1.5)
        add("e\u0301", data=b"told apart")
"#;

#[test]
fn facts_of_archives_that_python_makes_are_as_python_tells_them() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("x.tar");
    for form in ["ustar", "gnu", "pax"] {
        let mut make = Command::new("python3");
        if output(make.args(["-c", MAKE]).arg(&path).arg(form)).is_none() {
            return;
        }
        let bytes = fs::read(&path).unwrap();
        let python = facts(&path).unwrap();
        assert!(python.len() > 8, "{form}: {python:?}");
        assert_eq!(told(&bytes), python, "{form}");
    }
}

/// A tree with something of everything.
fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("d/e")).unwrap();
    fs::write(dir.join("d/f"), "content").unwrap();
    fs::hard_link(dir.join("d/f"), dir.join("d/e/g")).unwrap();
    fs::write(dir.join("d").join("n".repeat(200)), "long").unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    let sparse = fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 1 << 20).unwrap();
    std::os::unix::fs::symlink("d/f", dir.join("l")).unwrap();
    std::os::unix::fs::symlink("t".repeat(180), dir.join("ll")).unwrap();
}

#[test]
fn archives_of_gnu_tar_equal_the_directory_they_were_made_of() {
    use stratafs::chunk::ChunkPool;
    use stratafs::source::{SourceOptions, dir_ambient};
    let dir = tempfile::TempDir::new().unwrap();
    let base = dir.path().join("base");
    tree(&base);
    let direct = dir_ambient(&ChunkPool::new(), &base, &SourceOptions::default()).unwrap();
    let path = dir.path().join("x.tar");
    let mut compared = 0;
    for options in [
        &["--format=posix"][..],
        &["--format=posix", "-S"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=gnu", "-S"],
        &["--format=gnu"],
    ] {
        let made = Command::new("tar")
            .args(options)
            .arg("--numeric-owner")
            .arg("-C")
            .arg(&base)
            .arg("-cf")
            .arg(&path)
            .arg(".")
            .output();
        let Ok(made) = made else {
            return eprintln!("no tar here");
        };
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let layer = import(&fs::read(&path).unwrap()).unwrap();
        if let Some(python) = facts(&path) {
            assert_eq!(told(&fs::read(&path).unwrap()), python, "{options:?}");
            compared += 1;
        }
        assert_eq!(
            crate::support::archive::list(&layer),
            crate::support::archive::list(&direct),
            "{options:?}"
        );
        // GNU's own format has no nanoseconds.
        if options[0].contains("posix") {
            assert_eq!(layer.digest(), direct.digest(), "{options:?}");
        }
    }
    assert!(compared == 0 || compared == 6, "{compared}");
}

#[test]
fn gnu_tar_unpacks_what_we_write() {
    use stratafs::chunk::ChunkPool;
    use stratafs::source::{SourceOptions, dir_ambient};
    let dir = tempfile::TempDir::new().unwrap();
    let (base, copy, path) = (
        dir.path().join("base"),
        dir.path().join("copy"),
        dir.path().join("x.tar"),
    );
    tree(&base);
    fs::create_dir(&copy).unwrap();
    let import =
        |dir: &Path| dir_ambient(&ChunkPool::new(), dir, &SourceOptions::default()).unwrap();
    let direct = import(&base);
    write_layer(&direct, fs::File::create(&path).unwrap()).unwrap();
    let done = Command::new("tar")
        .args(["-p", "-C"])
        .arg(&copy)
        .arg("-xf")
        .arg(&path)
        .output();
    let Ok(done) = done else {
        return eprintln!("no tar here");
    };
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(import(&copy).digest(), direct.digest());
}
