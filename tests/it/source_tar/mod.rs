//! Tar archives as layers: each rule with a legal near miss beside it.

mod accepted; // what all readers take, each with a hostile twin
#[cfg(all(feature = "gzip", feature = "zstd", feature = "xz", feature = "bzip2"))]
mod compressed; // gzip, zstd, xz and bzip2, told by their magic and kept in bounds
mod extensions; // PAX headers and GNU long names
mod mutated; // valid archives with a few bytes changed
#[cfg(all(unix, feature = "dir"))]
mod others; // the same archives under GNU tar and Python
#[cfg(all(unix, feature = "dir"))]
mod random; // random archives under GNU tar, bsdtar, Python and busybox
mod sparse; // GNU's sparse files

use std::io::Read;

use stratafs::chunk::ChunkPool;
use stratafs::layer::{EntryBody, Layer};
use stratafs::limits::{MAX_LAYER_DEPTH, MAX_LAYER_PATH_BYTES};
use stratafs::meta::{Meta, Time};
use stratafs::source::{ExportError, SourceOptions, TarWriter, tar, write_layer};

use crate::support::alloc::{assert_linear, counted};
use crate::support::archive::{Archive, Head, import, list};

fn a() -> Archive {
    Archive::new()
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

/// Metadata of the entry at `path`.
fn meta(layer: &Layer, path: &str) -> Meta {
    let entry = layer.entries().find(|entry| entry.path.to_string() == path);
    match entry.expect("no such entry").body {
        EntryBody::Dir {
            meta: Some(meta), ..
        }
        | EntryBody::File { meta, .. }
        | EntryBody::Symlink { meta, .. } => meta.clone(),
        other => panic!("{path} has no metadata: {other:?}"),
    }
}

#[test]
fn case_c1_01_02_03_paths_stay_below_the_root() {
    has(
        &a().file("../../etc/passwd", "x").refused(),
        &["../../etc/passwd: ", "leaves"],
    );
    has(
        &a().file("a/../../b", "x").refused(),
        &["a/../../b: ", "leaves"],
    );
    assert_eq!(a().file("a/../b", "x").listed(), "b:fx");
    assert_eq!(a().file("/etc/passwd", "x").listed(), "etc:i etc/passwd:fx");
    assert_eq!(a().file("//a//./b", "x").listed(), "a:i a/b:fx");
    assert_eq!(a().file("..a/b..", "x").listed(), "..a:i ..a/b..:fx");
    assert_eq!(a().file("...", "x").listed(), "...:fx");
}

#[test]
fn case_c1_04_05_the_root_is_a_directory() {
    for name in ["", ".", "./", "/"] {
        has(&a().file(name, "x").refused(), &["the"]);
        has(&a().file(name, "").refused(), &["root", "a file"]);
        assert_eq!(a().dir(name).listed(), "/:d");
        has(
            &a().symlink(name, "t").refused(),
            &["root", "symbolic link"],
        );
        has(
            &a().file("f", "").hard_link(name, "f").refused(),
            &["root", "hard link"],
        );
    }
    has(&a().symlink("/.", "/etc").refused(), &["root"]);
    let layer = import(&a().head(Head::new(b'5', "./").octal(100, 8, 0o1777)).end()).unwrap();
    assert_eq!(meta(&layer, "/").mode, 0o1777);
}

#[test]
fn case_c1_06_07_16_links_are_not_followed() {
    has(
        &a().symlink("x", "..").file("x/evil", "!").refused(),
        &["x/evil: x is a symbolic link"],
    );
    has(
        &a().symlink("x", "/abs").file("x/f", "!").refused(),
        &["x/f: x is a symbolic link"],
    );
    let chain = a()
        .dir("inner")
        .symlink("inner/go_up", "..")
        .symlink("inner/go_up/escape", "../victim")
        .file("inner/go_up/escape/newfile", "!");
    has(
        &chain.refused(),
        &["inner/go_up/escape: inner/go_up is a symbolic link"],
    );
    assert_eq!(
        a().symlink("x", "..").file("xy/f", "1").listed(),
        "x:s.. xy:i xy/f:f1"
    );
}

#[test]
fn case_c1_08_a_directory_replaces_a_link_and_leaves_its_target() {
    let layer = import(
        &a().head(Head::new(b'5', "t").octal(100, 8, 0o700))
            .symlink("x", "t")
            .head(Head::new(b'5', "x").octal(100, 8, 0o777))
            .end(),
    );
    let layer = layer.unwrap();
    assert_eq!(list(&layer), "t:d x:d");
    assert_eq!(
        (meta(&layer, "t").mode, meta(&layer, "x").mode),
        (0o700, 0o777)
    );
}

#[test]
fn case_c1_09_10_11_hard_links_stay_in_the_layer() {
    has(
        &a().hard_link("l", "../../etc/shadow").refused(),
        &["l: ", "../../etc/shadow", "leaves"],
    );
    assert_eq!(
        a().file("a/b", "x").hard_link("l", "/a/b").listed(),
        "a:i a/b:fx#2 l:fx#2"
    );
    assert_eq!(
        a().file("b", "x").hard_link("l", "a/../b").listed(),
        "b:fx#2 l:fx#2"
    );
    has(
        &a().hard_link("l", "later").file("later", "").refused(),
        &["l: ", "later, which comes later"],
    );
    assert_eq!(a().hard_link("l", "lower").listed(), "l:hlower");
    has(
        &a().hard_link("l", "").refused(),
        &["l: ", "without a target"],
    );
    has(
        &a().file("f", "").hard_link("l", "f/g").refused(),
        &["l: ", "f/g, which is missing"],
    );
    // A link has no data, whatever its size says.
    let sized = a()
        .file("f", "x")
        .head(Head::new(b'1', "l").link("f").size(77))
        .file("g", "y");
    assert_eq!(sized.listed(), "f:fx#2 g:fy l:fx#2");
}

#[test]
fn case_c1_12_13_14_hard_links_to_directories_links_and_themselves() {
    has(
        &a().dir("d").hard_link("l", "d").refused(),
        &["l: hard link to the directory d"],
    );
    has(
        &a().file("d/f", "").hard_link("l", "d").refused(),
        &["l: hard link to the directory d"],
    );
    has(
        &a().hard_link("l", "l").refused(),
        &["l: hard link to itself"],
    );
    // GNU tar writes one for a file that it is given twice.
    let itself = a()
        .file("l", "x")
        .hard_link("l", "l")
        .hard_link("./l", "/l");
    assert_eq!(itself.listed(), "l:fx");
    has(
        &a().dir("l").hard_link("l", "l").refused(),
        &["l: hard link to the directory l"],
    );
    has(
        &a().hard_link("a", "b").hard_link("b", "a").refused(),
        &["to itself"],
    );
    let through = a()
        .symlink("s", "/etc/passwd")
        .hard_link("l", "s")
        .file("l", "mine");
    assert_eq!(through.listed(), "l:fmine s:s/etc/passwd");
    assert_eq!(
        a().symlink("s", "t").hard_link("l", "s").listed(),
        "l:st#2 s:st#2"
    );
}

#[test]
fn case_c1_15_loops_and_long_chains_of_links_are_stored() {
    assert_eq!(
        a().symlink("a", "b").symlink("b", "a").listed(),
        "a:sb b:sa"
    );
    let chain = (0..60).fold(a(), |chain, at| {
        chain.symlink(format!("{at}"), format!("{}", at + 1))
    });
    assert_eq!(import(&chain.end()).unwrap().node_count(), 61);
}

#[test]
fn case_c1_17_known_break_outs() {
    // What containerd's tests try, told by what is left of it here.
    let accepted = [
        (
            a().symlink("localetc", "/etc").file("localetc", "x"),
            "localetc:fx",
        ),
        (
            a().dir("d")
                .symlink("d/l", "../../..")
                .hard_link("h", "d/l"),
            "d:d d/l:s../../..#2 h:s../../..#2",
        ),
        (
            a().symlink("l", "/etc").dir("l").file("l/passwd", "x"),
            "l:d l/passwd:fx",
        ),
        (
            a().symlink("l", "..").hard_link("m", "/l").file("m", "x"),
            "l:s.. m:fx",
        ),
        (
            a().file("a", "1").symlink("a", "b").file("b", "2"),
            "a:sb b:f2",
        ),
    ];
    for (archive, listed) in accepted {
        assert_eq!(archive.listed(), listed);
    }
    for archive in [
        a().symlink("l", "/etc").file("l/unbroken", "x"),
        a().symlink("l", "../../../../etc").file("l/unbroken", "x"),
        a().symlink("l", "/etc").dir("l/d"),
        a().symlink("l", "/etc").symlink("l/x", "y"),
        a().symlink("l", "/etc").hard_link("l/x", "y"),
        a().symlink("l", "/etc").hard_link("x", "l/passwd"),
        a().symlink("l", "/etc").file("l/.wh.passwd", ""),
        a().symlink("l", "/etc").file("l/.wh..wh..opq", ""),
        a().symlink("a", ".")
            .symlink("a/b", "..")
            .file("a/b/c", "x"),
        a().dir("d")
            .symlink("d/l", "/etc")
            .hard_link("h", "d/l")
            .file("h/passwd", "x"),
        a().file("../x", "x"),
        a().dir(".."),
        a().symlink("../l", "x"),
        a().hard_link("x", "../y"),
        a().file("d/../../x", "x"),
        a().file("/../x", "x"),
    ] {
        archive.refused();
    }
}

#[test]
fn case_c1_18_19_duplicates_and_entries_below_files() {
    assert_eq!(a().file("f", "1").file("./f", "2").listed(), "f:f2");
    assert_eq!(
        a().file("d/x", "1")
            .file("d/y/z", "2")
            .file("d", "3")
            .listed(),
        "d:f3"
    );
    assert_eq!(
        a().file("d", "1").dir("d/").file("d/x", "2").listed(),
        "d:d d/x:f2"
    );
    assert_eq!(
        a().dir("d").file("d/x", "1").dir("d").listed(),
        "d:d d/x:f1"
    );
    has(
        &a().file("f", "").file("f/g", "").refused(),
        &["f/g: f is a file"],
    );
    has(
        &a().file("f", "").dir("f/g").refused(),
        &["f/g: f is a file"],
    );
    let layer = import(
        &a().file("d/x", "")
            .head(Head::new(b'5', "d").octal(100, 8, 0o710))
            .end(),
    );
    assert_eq!(meta(&layer.unwrap(), "d").mode, 0o710);
}

#[test]
fn case_c1_20_to_25_whiteouts_by_name() {
    assert_eq!(a().file(".wh.foo", "").listed(), "foo:w");
    assert_eq!(a().file("d/.wh..foo", "").listed(), "d:i d/.foo:w");
    assert_eq!(a().file("d/.wh..wh..opq", "").listed(), "d:i!");
    assert_eq!(a().file(".wh..wh..opq", "").listed(), "/:i!");
    let (first, last) = (
        a().file("d/.wh..wh..opq", "").file("d/x", ""),
        a().file("d/x", "").file("d/.wh..wh..opq", ""),
    );
    assert_eq!(first.listed(), last.listed());
    for invalid in [
        ".wh.",
        ".wh..",
        ".wh...",
        "d/.wh.",
        "d/.wh...",
        ".wh.a/b",
        "d/.wh.x/y",
    ] {
        has(
            &a().file(invalid, "").refused(),
            &[invalid, "invalid whiteout"],
        );
    }
    // AUFS's own names are left out, with their data and all below them.
    let aufs = a()
        .dir(".wh..wh.plnk")
        .file(".wh..wh.plnk/1.2", "data")
        .file(".wh..wh.aufs", "x")
        .file("f", "1");
    assert_eq!(aufs.listed(), "f:f1");
    assert_eq!(a().file(".wh.a", "").file("a", "1").listed(), "a:f1");
    assert_eq!(a().dir("a").file(".wh.a", "").listed(), "a:d!");
    assert_eq!(a().file(".wh.missing", "").listed(), "missing:w");
    has(
        &a().dir(".wh.etc").file(".wh.etc/x", "").refused(),
        &[".wh.etc: invalid whiteout"],
    );
    has(
        &a().symlink("localetc", "/etc")
            .file("localetc/.wh.x", "")
            .refused(),
        &["localetc is a symbolic link"],
    );
    assert_eq!(
        a().file("x.wh.y", "1").file(".whx", "2").listed(),
        ".whx:f2 x.wh.y:f1"
    );
}

#[test]
fn case_p04_a_whiteout_is_an_empty_file_or_device_0_0() {
    let device = |major, minor| {
        Head::new(b'3', "d/x")
            .octal(329, 8, major)
            .octal(337, 8, minor)
    };
    assert_eq!(a().head(device(0, 0)).listed(), "d:i d/x:w");
    has(
        &a().head(device(0, 1)).refused(),
        &["d/x: a character device"],
    );
    has(
        &a().head(device(1, 0)).refused(),
        &["d/x: a character device"],
    );
    has(
        &a().head(device(0, 0).field(157, b"").field(257, b"\0\0\0\0\0\0"))
            .refused(),
        &["character device"],
    );
    has(
        &a().file(".wh.x", "full").refused(),
        &[".wh.x: invalid whiteout"],
    );
    has(
        &a().file("f", "").hard_link(".wh.x", "f").refused(),
        &[".wh.x: invalid whiteout"],
    );
    has(
        &a().file(".wh.x", "").hard_link("f", ".wh.x").refused(),
        &["f: invalid whiteout"],
    );
    has(
        &a().symlink(".wh.x", "f").refused(),
        &[".wh.x: invalid whiteout"],
    );
    has(
        &a().file(".wh..wh..opq", "full").refused(),
        &["invalid whiteout"],
    );
    has(
        &a().head(device(0, 0).field(0, b".wh.y")).refused(),
        &["invalid whiteout"],
    );
}

#[test]
fn case_c1_32_headers_are_checked() {
    let file = |head: Head| a().head(head).bytes(&[0; 512]);
    let mut wrong = file(Head::new(b'0', "f")).file("g", "");
    wrong.0[0] = b'g';
    has(&wrong.refused(), &["not a tar archive"]);
    let mut second = a().file("g", "").file("f", "");
    second.0[512] = b'x';
    has(&second.refused(), &["byte 512", "checksum"]);
    // Old archives sum signed bytes.
    let mut signed = Head::new(b'0', "\u{ff}").bytes();
    let sum: i32 = signed
        .iter()
        .enumerate()
        .map(|(at, byte)| match at {
            148..156 => 32,
            _ => i32::from(byte.cast_signed()),
        })
        .sum();
    signed[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(a().bytes(&signed).listed(), "\u{ff}:f");
    for size in [
        &b"0000000001x\0"[..],
        b"00000000009\0",
        b"-0000000001\0",
        &[0xff; 12],
        b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
    ] {
        has(
            &file(Head::new(b'0', "f").field(124, size)).refused(),
            &["f: ", "the size is not a number"],
        );
    }
    let largest = b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    has(
        &file(Head::new(b'0', "f").field(124, largest)).refused(),
        &["f: more than", "bytes"],
    );
    for (at, field) in [(100, "mode"), (108, "uid"), (116, "gid"), (136, "mtime")] {
        let bad = Head::new(b'0', "f").field(at, b"12z4\0");
        has(&a().head(bad).refused(), &["f: ", field, "not a number"]);
        let blank = Head::new(b'0', "f").field(at, &[b' '; 8]);
        assert_eq!(a().head(blank).listed(), "f:f");
    }
    let spaces = Head::new(b'0', "f").field(124, b"          1 ");
    assert_eq!(a().head(spaces).data(b"x").listed(), "f:fx");
    let base256 = Head::new(b'0', "f").field(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x01");
    assert_eq!(a().head(base256).data(b"x").listed(), "f:fx");
}

#[test]
fn case_c1_33_a_cut_off_archive_is_refused() {
    let entries = a()
        .file("f", "data")
        .dir("d")
        .file("d/g", &"x".repeat(700))
        .0;
    let whole = [&entries[..], &[0; 1024]].concat();
    // Between entries the end blocks alone are missing.
    let fine = [1024, 1536, entries.len(), entries.len() + 512, whole.len()];
    for len in 0..=whole.len() {
        assert_eq!(
            import(&whole[..len]).is_ok(),
            fine.contains(&len),
            "cut at {len}"
        );
    }
    let error = import(&whole[..700]).unwrap_err().to_string();
    has(&error, &["f: ", "ends within this entry's data"]);
}

#[test]
fn what_follows_the_end_is_not_looked_at() {
    let garbage = a().file("f", "1").bytes(&[0; 1024]).bytes(&[0xaa; 700]);
    assert_eq!(list(&import(&garbage.0).unwrap()), "f:f1");
    let lone = a().file("f", "1").bytes(&[0; 512]).file("hidden", "2");
    has(&lone.refused(), &["more headers after a block of zeros"]);
    assert_eq!(
        list(&import(&a().file("f", "1").bytes(&[0; 512]).0).unwrap()),
        "f:f1"
    );
    assert_eq!(a().listed(), "");
    assert_eq!(
        list(
            &tar(
                &ChunkPool::new(),
                std::io::repeat(0),
                &SourceOptions::default()
            )
            .unwrap()
        ),
        ""
    );
    has(&import(b"").unwrap_err().to_string(), &["0 bytes"]);
    has(
        &import(&[b'x'; 5000]).unwrap_err().to_string(),
        &["not a tar archive"],
    );
    let endless = tar(
        &ChunkPool::new(),
        std::io::repeat(b'x'),
        &SourceOptions::default(),
    );
    has(&endless.unwrap_err().to_string(), &["not a tar archive"]);
}

/// Headers of empty files without end, at a few bytes of memory each.
struct Endless {
    names: std::ops::Range<u64>,
    left: Vec<u8>,
}

impl Read for Endless {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.left.is_empty() {
            let Some(name) = self.names.next() else {
                return Ok(0);
            };
            self.left = Head::new(b'0', format!("d/{name}")).bytes().to_vec();
        }
        let len = buf.len().min(self.left.len());
        buf[..len].copy_from_slice(&self.left[..len]);
        self.left.drain(..len);
        Ok(len)
    }
}

#[test]
fn case_c1_36_many_entries_are_linear_and_bounded() {
    assert_linear(50_000, |entries| {
        let archive = Endless {
            names: 0..entries as u64,
            left: Vec::new(),
        };
        counted(|| {
            let layer = tar(&ChunkPool::new(), archive, &SourceOptions::default()).unwrap();
            assert_eq!(layer.node_count(), entries + 2);
        })
    });
    let options = SourceOptions {
        max_entries: 1000,
        ..SourceOptions::default()
    };
    let endless = Endless {
        names: 0..u64::MAX,
        left: Vec::new(),
    };
    let error = tar(&ChunkPool::new(), endless, &options)
        .unwrap_err()
        .to_string();
    has(&error, &["more than 1000 entries"]);
    // Headers that bring no entry count, and so do implied parents.
    let labels = (0..1001).fold(a(), |archive, _| archive.head(Head::new(b'V', "label")));
    let error = tar(&ChunkPool::new(), &labels.end()[..], &options)
        .unwrap_err()
        .to_string();
    has(&error, &["more than 1000 entries"]);
    let deep = a()
        .pax(&[("path", "d/".repeat(1001).as_bytes())])
        .file("x", "");
    let error = tar(&ChunkPool::new(), &deep.end()[..], &options)
        .unwrap_err()
        .to_string();
    has(&error, &["more than 1000 entries"]);
    let fits = a()
        .pax(&[("path", "d/".repeat(1000).as_bytes())])
        .file("x", "");
    assert!(tar(&ChunkPool::new(), &fits.end()[..], &options).is_ok());
}

#[test]
fn case_c1_37_names_paths_and_depth_are_bounded() {
    let path = |path: &str| a().pax(&[("path", path.as_bytes())]).file("x", "");
    let name = "n".repeat(255);
    assert_eq!(path(&name).listed(), format!("{name}:f"));
    has(
        &path(&"n".repeat(256)).refused(),
        &["longer than 255 bytes"],
    );
    has(&path(&"d/".repeat(10_000)).refused(), &["deeper than"]);
    has(
        &path(&format!("{name}/").repeat(256)).refused(),
        &["longer than"],
    );
    assert!(import(&path(&"d/".repeat(MAX_LAYER_DEPTH)).end()).is_ok());
    assert!(
        import(&path(&format!("{}/", "n".repeat(127)).repeat(MAX_LAYER_PATH_BYTES / 128)).end())
            .is_ok()
    );
    // As many bytes as a path of Linux has, and the longest link target.
    assert!(import(&path(&format!("{name}/").repeat(16)).end()).is_ok());
    let link = |len: usize| {
        a().pax(&[("linkpath", "t".repeat(len).as_bytes())])
            .symlink("l", "")
    };
    assert!(import(&link(4095).end()).is_ok());
    has(&link(4096).refused(), &["l: the target of a symbolic link"]);
    has(
        &a().symlink("l", "").refused(),
        &["l: the target of a symbolic link"],
    );
}

#[test]
fn case_c1_38_39_40_names_are_bytes() {
    has(
        &a().pax(&[("path", b"a\0b")]).file("x", "").refused(),
        &["NUL"],
    );
    has(
        &a().pax(&[("linkpath", b"a\0b")]).symlink("x", "").refused(),
        &["NUL"],
    );
    let names: [&[u8]; 12] = [
        b"back\\slash",
        b"C:",
        b"COM1",
        "COM\u{b9}".as_bytes(),
        b"dot.",
        b"space ",
        b"\xff",
        b"\xfe",
        b"Name",
        b"name",
        "\u{e9}".as_bytes(),
        "e\u{301}".as_bytes(),
    ];
    let all = names
        .iter()
        .fold(a(), |archive, name| archive.file(name, "x"));
    let layer = import(&all.end()).unwrap();
    assert_eq!(layer.node_count(), 1 + names.len());
    for entry in layer.entries().skip(1) {
        assert!(names.contains(&entry.path.names()[0].as_bytes()));
    }
}

#[test]
fn case_c1_41_special_files_and_unknown_types_are_refused() {
    for (kind, name) in [
        (b'3', "character device"),
        (b'4', "block device"),
        (b'6', "FIFO"),
    ] {
        let device = Head::new(kind, "dev/x").octal(329, 8, 1).octal(337, 8, 3);
        has(&a().head(device).refused(), &["dev/x: a ", name]);
    }
    let large = Head::new(b'4', "x").field(329, b"\x80\0\0\x01\0\0\0\0");
    has(&a().head(large).refused(), &["x: a block device"]);
    for kind in [b'M', b'N', b'A', b'Z', b'8', 0xff] {
        has(&a().head(Head::new(kind, "odd")).refused(), &["odd: "]);
    }
    assert_eq!(
        a().head(Head::new(b'V', "label")).file("f", "").listed(),
        "f:f"
    );
    assert_eq!(
        a().head(Head::new(b'7', "contiguous")).listed(),
        "contiguous:f"
    );
    assert_eq!(
        a().head(Head::new(0, "old").field(257, &[0; 8])).listed(),
        "old:f"
    );
    for (kind, name) in [(b'2', "x"), (b'5', "x"), (b'3', "x"), (b'0', "x/")] {
        let sized = Head::new(kind, name).link("t").size(5);
        assert!(import(&a().head(sized).data(b"12345").end()).is_err());
    }
}

#[test]
fn case_p06_a_slash_at_the_end_says_directory() {
    assert_eq!(a().file("d/", "").listed(), "d:d");
    assert_eq!(
        a().head(Head::new(0, "d//").field(257, &[0; 8])).listed(),
        "d:d"
    );
    has(&a().file("d/", "data").refused(), &["d/: "]);
    assert_eq!(a().dir("d").file("d/f", "").listed(), "d:d d/f:f");
    assert_eq!(a().symlink("l/", "t/").listed(), "l:st/");
}

#[test]
fn case_c1_42_odd_metadata_is_stored_or_clamped() {
    let one = |head: Head| meta(&import(&a().head(head).end()).unwrap(), "f");
    let head = || Head::new(b'0', "f");
    assert_eq!(one(head().octal(100, 8, 0o7777)).mode, 0o7777);
    assert_eq!(one(head().octal(100, 8, 0o10_0644)).mode, 0o644);
    assert_eq!(
        one(head().field(108, b"\x80\0\0\x01\0\0\0\0")).uid,
        u32::MAX
    );
    assert_eq!(one(head().field(116, &[0xff; 8])).gid, u32::MAX);
    assert_eq!(one(head().field(136, &[0xff; 12])).mtime, Time::new(-1, 0));
    assert_eq!(
        one(head().field(136, b"\x80\0\0\0\x80\0\0\0\0\0\0\0")).mtime,
        Time::new(i64::MAX, 0)
    );
    let pax = |key, value: &str| {
        meta(
            &import(&a().pax(&[(key, value.as_bytes())]).file("f", "").end()).unwrap(),
            "f",
        )
    };
    assert_eq!(pax("uid", "4294967296").uid, u32::MAX);
    assert_eq!(pax("gid", "4294967294").gid, u32::MAX - 1);
    assert_eq!(pax("mtime", "-1.5").mtime, Time::new(-2, 500_000_000));
    assert_eq!(
        pax("mtime", "9223372036854775808").mtime,
        Time::new(i64::MAX, 999_999_999)
    );
    assert_eq!(
        pax("mtime", "7.1000000000").mtime,
        Time::new(7, 100_000_000)
    );
}

#[test]
fn case_c1_43_attributes_of_others_mean_nothing_here() {
    let keys = [
        "trusted.overlay.opaque",
        "user.overlay.opaque",
        "user.overlay.whiteout",
        "security.capability",
    ];
    let records: Vec<_> = keys
        .iter()
        .map(|key| format!("SCHILY.xattr.{key}"))
        .collect();
    let records: Vec<_> = records.iter().map(|key| (&key[..], &b"y"[..])).collect();
    let layer = import(
        &a().pax(&records)
            .dir("d")
            .pax(&records)
            .file("d/f", "")
            .end(),
    )
    .unwrap();
    assert_eq!(list(&layer), "d:d d/f:f");
    let mut names: Vec<_> = keys.iter().map(|key| key.as_bytes()).collect();
    names.sort_unstable();
    for path in ["d", "d/f"] {
        let xattrs = meta(&layer, path).xattrs.unwrap();
        assert_eq!(
            xattrs.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(),
            names
        );
    }
}

/// Export and import again, and compare digests.
fn comes_back(archive: Archive) {
    let layer = import(&archive.end()).unwrap();
    let bytes = write_layer(&layer, Vec::new()).unwrap();
    assert_eq!(
        bytes,
        write_layer(&layer, Vec::new()).unwrap(),
        "not deterministic"
    );
    let again = import(&bytes).unwrap();
    assert_eq!(list(&again), list(&layer));
    assert_eq!(again.digest(), layer.digest());
}

#[test]
fn case_p05_export_and_import_give_the_same_layer() {
    comes_back(a());
    let long = "n".repeat(200);
    comes_back(
        a().dir("./")
            .dir("d/")
            .file("d/f", "content")
            .hard_link("d/g", "d/f")
            .symlink("l", "/abs/target")
            .hard_link("m", "l")
            .hard_link("lower", "some/where")
            .file("d/.wh.gone", "")
            .file("o/.wh..wh..opq", "")
            .file("implied/x", "")
            .pax(&[
                ("path", format!("{long}/{long}").as_bytes()),
                ("mtime", b"-1.25"),
                ("uid", b"3000000"),
                ("SCHILY.xattr.user.a%3Db", b"\0\xff\n"),
            ])
            .file("x", "y")
            .pax(&[("linkpath", long.as_bytes())])
            .symlink("ll", "x")
            .file(b"not-utf8-\xff", "z")
            .pax(&[("path", &[b'\xff'; 120])])
            .file("y", "w"),
    );
    for len in 90..=300 {
        comes_back(
            a().pax(&[("path", "n".repeat(len.min(255)).as_bytes())])
                .dir("x"),
        );
        let path = format!("{}/{}", "p".repeat(len / 2), "n".repeat(len - len / 2));
        comes_back(a().pax(&[("path", path.as_bytes())]).file("x", "1"));
    }
}

#[test]
fn case_c1_26_names_that_would_come_back_as_whiteouts_are_refused() {
    let path = |text: &str| stratafs::name::LayerPath::parse(text.as_bytes()).unwrap();
    let meta = Meta::with_mode(0o644);
    for name in [".wh.x", "d/.wh.x", ".wh.d/x", ".wh..wh..opq"] {
        let mut builder = Layer::builder();
        builder.dir(&path(name), meta.clone()).unwrap();
        let error = write_layer(&builder.finish().unwrap(), Vec::new()).unwrap_err();
        assert!(matches!(error, ExportError::ReservedName(_)), "{error}");
        has(
            &error.to_string(),
            &[name.split_inclusive(".wh.").next().unwrap(), "whiteout"],
        );
    }
    let mut builder = Layer::builder();
    builder.whiteout(&path(&"n".repeat(252))).unwrap();
    assert!(matches!(
        write_layer(&builder.finish().unwrap(), Vec::new()),
        Err(ExportError::WhiteoutTooLong(_))
    ));
    let mut builder = Layer::builder();
    builder.whiteout(&path(&"n".repeat(251))).unwrap();
    assert!(write_layer(&builder.finish().unwrap(), Vec::new()).is_ok());
}

#[test]
fn a_writer_takes_readers_and_says_when_they_are_short() {
    let path = stratafs::name::LayerPath::parse(b"f").unwrap();
    let meta = Meta::with_mode(0o600);
    let mut writer = TarWriter::new(Vec::new());
    writer
        .file_from(&path, &meta, 5, &mut &b"hello, world"[..])
        .unwrap();
    assert_eq!(
        list(&import(&writer.finish().unwrap()).unwrap()),
        "f:fhello"
    );
    let mut writer = TarWriter::new(Vec::new());
    let error = writer
        .file_from(&path, &meta, 5, &mut &b"hell"[..])
        .unwrap_err();
    has(
        &error.to_string(),
        &["f: 5 bytes were announced, the reader gave 4"],
    );
}
