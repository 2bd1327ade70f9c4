//! Layers from zip archives and Debian packages: what is taken, and what is not.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use stratafs::chunk::ChunkPool;
use stratafs::layer::{EntryBody, Layer};
use stratafs::limits::RATIO_FLOOR_BYTES;
use stratafs::source::{LeftOut, SourceOptions, open};
use tempfile::TempDir;

use crate::support::archive::{Archive, list};

const UNIX: u16 = 3 << 8 | 30;
const FAT: u16 = 20;

/// A member of a zip, which says the same in both its headers unless told not to.
#[derive(Clone)]
struct Member {
    name: Vec<u8>,
    data: Vec<u8>,
    packed: Vec<u8>,
    method: u16,
    flags: u16,
    made_by: u16,
    attributes: u32,
    time: (u16, u16),
    crc: u32,
    /// What the local header has instead, at these offsets.
    lies: Vec<(usize, Vec<u8>)>,
    /// Behind the data.
    tail: Vec<u8>,
}

impl Member {
    fn new(name: &str, data: &[u8]) -> Self {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        Self {
            name: name.into(),
            data: data.to_vec(),
            packed: data.to_vec(),
            method: 0,
            flags: 0,
            made_by: FAT,
            attributes: 0,
            // 2024-02-29 12:34:56
            time: (12 << 11 | 34 << 5 | 28, 44 << 9 | 2 << 5 | 29),
            crc: crc.sum(),
            lies: Vec::new(),
            tail: Vec::new(),
        }
    }

    fn mode(mut self, mode: u32) -> Self {
        (self.made_by, self.attributes) = (UNIX, mode << 16);
        self
    }

    fn deflated(mut self) -> Self {
        let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(&self.data).unwrap();
        (self.method, self.packed) = (8, out.finish().unwrap());
        self
    }

    /// With sizes and checksum behind the data, and none before.
    fn streamed(mut self) -> Self {
        self.flags |= 8;
        self.tail = [&b"PK\x07\x08"[..], &self.sums()].concat();
        self.lying(14, &[0; 12])
    }

    fn lying(mut self, at: usize, bytes: &[u8]) -> Self {
        self.lies.push((at, bytes.to_vec()));
        self
    }

    fn sums(&self) -> Vec<u8> {
        [self.crc, self.packed.len() as u32, self.data.len() as u32]
            .map(u32::to_le_bytes)
            .concat()
    }

    /// What both headers have in common.
    fn common(&self) -> Vec<u8> {
        let numbers = [20, self.flags, self.method, self.time.0, self.time.1];
        let lens = [self.name.len() as u16, 0].map(u16::to_le_bytes).concat();
        [numbers.map(u16::to_le_bytes).concat(), self.sums(), lens].concat()
    }

    fn local(&self) -> Vec<u8> {
        let mut bytes = [&b"PK\x03\x04"[..], &self.common(), &self.name].concat();
        for (at, lie) in &self.lies {
            bytes[*at..at + lie.len()].copy_from_slice(lie);
        }
        [bytes, self.packed.clone(), self.tail.clone()].concat()
    }

    fn central(&self, offset: u32) -> Vec<u8> {
        [
            &b"PK\x01\x02"[..],
            &self.made_by.to_le_bytes(),
            &self.common(),
            &[0; 6],
            &self.attributes.to_le_bytes(),
            &offset.to_le_bytes(),
            &self.name,
        ]
        .concat()
    }
}

/// Members at these offsets, and the directory.
fn zip_of(body: &[u8], members: &[(u32, Member)]) -> Vec<u8> {
    let directory: Vec<u8> = members
        .iter()
        .flat_map(|(at, member)| member.central(*at))
        .collect();
    let count = (members.len() as u16).to_le_bytes();
    let places = [directory.len() as u32, body.len() as u32].map(u32::to_le_bytes);
    let end = [&[0; 4][..], &count, &count, &places.concat(), &[0; 2]].concat();
    [body, &directory, b"PK\x05\x06", &end].concat()
}

fn zip(members: &[Member]) -> Vec<u8> {
    let (mut body, mut placed) = (Vec::new(), Vec::new());
    for member in members {
        placed.push((body.len() as u32, member.clone()));
        body.extend(member.local());
    }
    zip_of(&body, &placed)
}

fn import_with(bytes: &[u8], options: &SourceOptions) -> Result<Layer, String> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, bytes).unwrap();
    let layers = open(&ChunkPool::new(), &path, options);
    let mut layers = layers.map_err(|error| error.to_string())?;
    assert_eq!(layers.len(), 1);
    Ok(layers.remove(0))
}

fn import(bytes: &[u8]) -> Result<Layer, String> {
    import_with(bytes, &SourceOptions::default())
}

#[track_caller]
fn taken(members: &[Member]) -> String {
    list(&import(&zip(members)).unwrap())
}

#[track_caller]
fn refused(bytes: &[u8], parts: &[&str]) {
    let error = match import(bytes) {
        Ok(layer) => panic!("accepted: {}", list(&layer)),
        Err(error) => error,
    };
    for part in parts {
        assert!(error.contains(part), "{part}: {error}");
    }
}

fn file(name: &str, data: &str) -> Member {
    Member::new(name, data.as_bytes())
}

/// Mode and seconds of each entry that has some.
fn facts(layer: &Layer) -> Vec<(String, u32, i64)> {
    let entries = layer.entries().filter_map(|entry| {
        let meta = match entry.body {
            EntryBody::Dir { meta, .. } => meta?,
            EntryBody::File { meta, .. } | EntryBody::Symlink { meta, .. } => meta,
            _ => return None,
        };
        Some((entry.path.to_string(), meta.mode, meta.mtime.secs()))
    });
    entries.collect()
}

#[test]
fn members_become_files_directories_and_links() {
    let text = "text ".repeat(100);
    let members = [
        file("d/", ""),
        file("d/f", &text).deflated(),
        file("g", "stored"),
        file("s", "streamed").deflated().streamed(),
        file("l", "d/f").mode(0o120_777),
        file("made/on/the/way", ""),
    ];
    assert_eq!(
        taken(&members),
        "d:d d/f:f500 g:fstored l:sd/f made:i made/on:i made/on/the:i made/on/the/way:f s:fstreamed"
    );
    // Without members it is a layer without entries.
    assert_eq!(taken(&[]), "");
}

#[test]
fn modes_are_unix_s_if_stored_and_dos_times_are_utc() {
    let mut windows = file("w", "");
    // Unix's mode in the upper half though the system is another, as Python does.
    windows.attributes = 0o100_711 << 16;
    let layer = import(&zip(&[
        file("d/", ""),
        file("e/", "").mode(0o040_700),
        file("f", ""),
        file("g", "").mode(0o104_755),
        windows,
        file("z", "").mode(0),
    ]))
    .unwrap();
    let at = 1_709_210_096;
    let expected = [
        ("d", 0o755),
        ("e", 0o700),
        ("f", 0o644),
        ("g", 0o4755),
        ("w", 0o711),
        ("z", 0o644),
    ];
    let expected = expected.map(|(name, mode)| (name.to_owned(), mode, at));
    assert_eq!(facts(&layer), expected);
}

#[test]
fn whiteouts_and_special_members_are_as_in_a_tar() {
    assert_eq!(
        taken(&[
            file("d/.wh.x", ""),
            file("e/.wh..wh..opq", ""),
            file("f", "")
        ]),
        list(
            &crate::support::archive::import(
                &Archive::new()
                    .file("d/.wh.x", "")
                    .file("e/.wh..wh..opq", "")
                    .file("f", "")
                    .end()
            )
            .unwrap()
        )
    );
    refused(&zip(&[file(".wh.x", "data")]), &["invalid whiteout"]);
    let special = zip(&[file("pipe", "").mode(0o010_644), file("f", "x")]);
    refused(&special, &["pipe: a FIFO", "--skip-special"]);
    let left_out = LeftOut::new();
    let options = SourceOptions {
        skip_special: Some(left_out.clone()),
        ..SourceOptions::default()
    };
    assert_eq!(list(&import_with(&special, &options).unwrap()), "f:fx");
    assert_eq!(left_out.count(), 1);
    assert_eq!(left_out.first()[0].to_string(), "pipe");
}

#[test]
fn what_a_zip_says_twice_it_says_the_same() {
    let whole = file("f", "content").deflated();
    assert_eq!(taken(std::slice::from_ref(&whole)), "f:fcontent");
    for (at, lie, what) in [
        (30, &b"g"[..], "names"),
        (8, b"\0\0", "methods"),
        (6, b"\0\x08", "flags"),
        (10, b"\x01\0", "times"),
        (14, b"\x01\x02\x03\x04", "sizes or checksums"),
        (18, b"\x01\0\0\0", "sizes or checksums"),
        (22, b"\x01\0\0\0", "sizes or checksums"),
    ] {
        let lying = whole.clone().lying(at, lie);
        refused(&zip(&[lying]), &["f: ", "the zip's directory", what]);
    }
    let mut descriptor = whole.streamed();
    descriptor.tail[5] ^= 1;
    refused(&zip(&[descriptor]), &["sizes or checksums"]);
    let mut wrong = file("f", "content").deflated();
    wrong.crc ^= 1;
    refused(&zip(&[wrong]), &["f: ", "the checksum does not hold"]);
    for (size, said) in [(6, "more bytes"), (8, "fewer bytes")] {
        let mut wrong = file("f", "content").deflated();
        wrong.data.resize(size, 0);
        refused(&zip(&[wrong]), &["f: ", said]);
    }
}

#[test]
fn encrypted_hidden_doubled_and_overlapping_members_are_refused() {
    let (f, g) = (file("f", "1"), file("g", "2"));
    let mut locked = f.clone();
    locked.flags = 1;
    refused(&zip(&[locked]), &["f: ", "encrypted"]);
    for twin in ["f", "./f", "f/"] {
        let twice = zip(&[f.clone(), file(twin, "")]);
        refused(&twice, &["two members of this name"]);
    }
    // A member that only readers from the front see.
    let body = [f.local(), g.local()].concat();
    let second = f.local().len() as u32;
    assert!(import(&zip_of(&body, &[(0, f.clone()), (second, g.clone())])).is_ok());
    let named = "a member that the zip's directory does not name";
    refused(&zip_of(&body, &[(0, f.clone())]), &[named]);
    refused(&zip_of(&body, &[(second, g.clone())]), &[named]);
    let streamed = file("f", "1").deflated().streamed();
    let body = [streamed.local(), g.local()].concat();
    refused(&zip_of(&body, &[(0, streamed)]), &[named]);
    // Two names for one member, as in a bomb of 42 kB.
    let body = f.local();
    let mut other = f.clone();
    other.name = b"f".to_vec();
    refused(&zip_of(&body, &[(0, f.clone()), (0, other)]), &["f: "]);
    let inner = file("g", "");
    let outer = Member::new("f", &inner.local());
    let inside = (outer.local().len() - inner.local().len()) as u32;
    let overlapping = zip_of(&outer.local(), &[(0, outer), (inside, inner)]);
    refused(&overlapping, &["share bytes"]);
    refused(
        &[zip(std::slice::from_ref(&f)), b"tail".to_vec()].concat(),
        &["bytes after the end"],
    );
    let mut counted = zip(std::slice::from_ref(&f));
    let at = counted.len() - 14;
    counted[at..at + 4].copy_from_slice(&[2, 0, 2, 0]);
    refused(&counted, &["announces 2 members, found 1"]);
    let whole = zip(&[f, g]);
    for cut in 4..whole.len() {
        assert!(import(&whole[..cut]).is_err(), "cut at {cut}");
    }
    let mut old = file("f", "1");
    old.method = 9;
    refused(&zip(&[old]), &["method 9", "DEFLATE64"]);
}

#[test]
fn names_that_leave_the_layer_and_links_as_parents_are_refused() {
    refused(&zip(&[file("../f", "")]), &["../f: the path"]);
    refused(&zip(&[file("a/../../f", "")]), &["the path"]);
    refused(&zip(&[file("f\0g", "")]), &["the path"]);
    refused(&zip(&[file("f", ""), file("f/g", "")]), &["f/g"]);
    let link = file("l", "/etc").mode(0o120_777);
    refused(&zip(&[link, file("l/passwd", "")]), &["l/passwd"]);
    refused(&zip(&[file("d/", "data")]), &["a directory with data"]);
    assert_eq!(
        taken(&[file("/a/./b/../c", "x")]),
        taken(&[file("a/c", "x")])
    );
}

#[test]
fn case_c1_34_a_zip_has_the_bounds_of_a_compressed_tar() {
    let zeros = vec![0; (RATIO_FLOOR_BYTES / 4) as usize];
    let all: Vec<_> = (0..5)
        .map(|number| Member::new(&format!("f{number}"), &zeros).deflated())
        .collect();
    assert!(import(&zip(&all[..3])).is_ok());
    refused(&zip(&all), &["f4: more than 200 bytes out of each byte"]);
    let with = |options: SourceOptions| import_with(&zip(&all[..2]), &options).unwrap_err();
    let usual = SourceOptions::default;
    let bytes = SourceOptions {
        max_bytes: 9,
        ..usual()
    };
    assert!(with(bytes).contains("f0: more than 9 bytes of content"));
    let entries = SourceOptions {
        max_entries: 1,
        ..usual()
    };
    assert!(with(entries).contains("more than 1 entries"));
}

/// What others make, here or not.
fn made(command: &mut Command, out: &Path) -> Option<Vec<u8>> {
    match command.output() {
        Ok(done) if done.status.success() => Some(fs::read(out).unwrap()),
        Ok(done) => panic!("{command:?}: {}", String::from_utf8_lossy(&done.stderr)),
        Err(error) => {
            eprintln!("skipped: {command:?} is not here: {error}");
            None
        }
    }
}

#[test]
fn zips_of_other_tools_are_their_files() {
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("d/e")).unwrap();
    fs::write(tree.join("d/f"), "text ".repeat(1000)).unwrap();
    fs::write(tree.join("d/e/g"), "x").unwrap();
    std::os::unix::fs::symlink("d/f", tree.join("l")).unwrap();
    let direct = open(&ChunkPool::new(), &tree, &SourceOptions::default()).unwrap();
    let direct = list(&direct[0]).replace("/:d ", "");
    let out = dir.path().join("x.zip");
    let mut zip = Command::new("zip");
    zip.current_dir(&tree).args(["-qry"]).arg(&out).arg(".");
    if let Some(bytes) = made(&mut zip, &out) {
        assert_eq!(list(&import(&bytes).unwrap()), direct);
    }
    let mut streamed = Command::new("sh");
    let line = "command -v zip >/dev/null || exec false-is-not-here; zip -qr - . | cat >\"$0\"";
    streamed
        .current_dir(&tree)
        .args(["-c", line])
        .arg(dir.path().join("y.zip"));
    if zip.output().is_ok() {
        // Without links, which it does not write into a pipe.
        let bytes = made(&mut streamed, &dir.path().join("y.zip")).unwrap();
        let listed = list(&import(&bytes).unwrap());
        let files = direct.find(" l:").map_or("", |end| &direct[..end]);
        assert!(listed.starts_with(files) && !files.is_empty(), "{listed}");
    }
    let mut bsd = Command::new("bsdtar");
    bsd.args(["--format=zip", "-cf"])
        .arg(dir.path().join("b.zip"));
    bsd.arg("-C").arg(&tree).args(["d", "l"]);
    if let Some(bytes) = made(&mut bsd, &dir.path().join("b.zip")) {
        assert_eq!(list(&import(&bytes).unwrap()), direct);
    }
    fs::remove_file(tree.join("l")).unwrap();
    let mut python = Command::new("python3");
    let make = "import shutil, sys; shutil.make_archive(sys.argv[1], 'zip', sys.argv[2])";
    python
        .args(["-c", make])
        .arg(dir.path().join("p"))
        .arg(&tree);
    if let Some(bytes) = made(&mut python, &dir.path().join("p.zip")) {
        assert_eq!(
            list(&import(&bytes).unwrap()),
            direct.replace(" l:sd/f", "")
        );
    }
}

/// A member of an `ar` archive.
fn ar(name: &str, data: &[u8]) -> Vec<u8> {
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
}

fn deb(members: &[(&str, &[u8])]) -> Vec<u8> {
    let members = members.iter().flat_map(|(name, data)| ar(name, data));
    b"!<arch>\n".iter().copied().chain(members).collect()
}

#[test]
fn a_debian_package_is_what_it_installs() {
    let control = crate::support::layout::gzip(&Archive::new().file("control", "x").end());
    let data = Archive::new().dir("./usr/").file("./usr/f", "odd").end();
    let version: (&str, &[u8]) = ("debian-binary", b"2.0\n");
    let control = ("control.tar.gz", &control[..]);
    let packed = [
        ("data.tar", data.clone()),
        ("data.tar.gz", crate::support::layout::gzip(&data)),
        ("data.tar.zst", crate::support::layout::zstd(&data)),
        // GNU's ar ends names with a slash.
        (
            "data.tar.gz/",
            [crate::support::layout::gzip(&data), vec![0; 3]].concat(),
        ),
    ];
    for (name, bytes) in &packed {
        let whole = deb(&[version, control, (name, bytes)]);
        assert_eq!(list(&import(&whole).unwrap()), "usr:d usr/f:fodd", "{name}");
        let signed = deb(&[
            version,
            ("_hint", b"x"),
            control,
            (name, bytes),
            ("_gpg", b"s"),
        ]);
        assert_eq!(
            list(&import(&signed).unwrap()),
            "usr:d usr/f:fodd",
            "{name}"
        );
        for cut in (9..whole.len() - 4).step_by(7) {
            assert!(import(&whole[..cut]).is_err(), "{name}: cut at {cut}");
        }
    }
    let data = ("data.tar", &data[..]);
    for (members, said) in [
        (
            &[version, control, data, data][..],
            "two members that are called data.tar",
        ),
        (&[version, control, control, data], "two control.tar"),
        (&[version, data], "before its control files"),
        (&[version, control], "ends before its data.tar"),
        (&[version, ("other", b"x"), control, data], "a member other"),
        (&[("debian-binary", b"3.0\n"), control, data], "version 3.0"),
        (&[("lib.o", b"x"), control, data], "not a Debian package"),
        (&[], "not a Debian package"),
    ] {
        refused(&deb(members), &[said]);
    }
    let hostile = Archive::new().file("../f", "x").end();
    refused(
        &deb(&[version, control, ("data.tar", &hostile)]),
        &["data.tar: ../f: the path"],
    );
    let lzma = b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0";
    refused(
        &deb(&[version, control, ("data.tar.lzma", lzma)]),
        &["data.tar.lzma", "lzma"],
    );
    let mut damaged = deb(&[version, control, data]);
    damaged[8 + 48] = b'x';
    refused(
        &damaged,
        &["the header of a member of the package is damaged"],
    );
}

#[test]
fn a_package_of_dpkg_is_what_it_installs() {
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    fs::create_dir_all(tree.join("usr/share")).unwrap();
    fs::write(tree.join("usr/share/f"), "content").unwrap();
    let control =
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n";
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    for compression in ["gzip", "xz", "zstd", "none"] {
        let out = dir.path().join("x.deb");
        let mut build = Command::new("dpkg-deb");
        build
            .arg("-Z")
            .arg(compression)
            .arg("--root-owner-group")
            .arg("-b");
        build.arg(&tree).arg(&out);
        let Some(bytes) = made(&mut build, &out) else {
            return;
        };
        let listed = list(&import(&bytes).unwrap());
        assert!(
            listed.ends_with("usr:d usr/share:d usr/share/f:fcontent"),
            "{listed}"
        );
    }
}
