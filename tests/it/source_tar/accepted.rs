//! Oddities that all readers take, and what hides behind each, which none should.

use stratafs::chunk::ChunkPool;
use stratafs::source::{LeftOut, SourceOptions, tar};

use super::{a, has};
use crate::support::archive::{Head, import, list};

#[test]
fn sizes_of_what_has_no_data_mean_nothing() {
    for kind in [b'1', b'2', b'5'] {
        let odd = a()
            .file("f", "x")
            .head(Head::new(kind, "o").link("f").size(4096))
            .file("g", "y");
        let listed = odd.listed();
        assert!(listed.contains("g:fy") && listed.contains("o:"), "{listed}");
        let pax = a()
            .file("f", "x")
            .pax(&[("size", b"4096")])
            .head(Head::new(kind, "o").link("f"))
            .file("g", "y");
        assert_eq!(pax.listed(), listed);
        // Where there are bytes after all, they are no header.
        let real = a()
            .file("f", "x")
            .with(Head::new(kind, "o").link("f"), b"data")
            .file("g", "y");
        has(&real.refused(), &["the header's checksum does not hold"]);
    }
    let whiteout = a().head(Head::new(b'3', "w").size(9)).file("g", "y");
    assert_eq!(whiteout.listed(), "g:fy w:w");
}

#[test]
fn incremental_archives_of_gnu_are_their_entries() {
    let dumped = a()
        .with(Head::new(b'D', "d/").gnu(), b"Yf\0Ngone\0\0")
        .file("d/f", "x");
    assert_eq!(dumped.listed(), "d:d d/f:fx");
    // What they would rename or remove on unpacking is left alone.
    let renames = a()
        .file("f", "x")
        .with(Head::new(b'D', "./").gnu(), b"Rf\0T../g\0\0");
    assert_eq!(renames.listed(), "/:d f:fx");
    let cut = a().head(Head::new(b'D', "d/").gnu().size(4096)).0;
    has(
        &import(&cut).unwrap_err().to_string(),
        &["d/: ", "the archive ends within this entry's data"],
    );
    has(
        &a().with(Head::new(b'D', "../d/").gnu(), b"\0").refused(),
        &["../d/: the path"],
    );
}

#[test]
fn archives_in_several_volumes_are_refused_by_name() {
    let second = a().with(Head::new(b'M', "f").gnu(), b"rest");
    has(
        &second.refused(),
        &["f: ", "archive in several volumes", "tar -xMf"],
    );
    let pax = a().pax(&[("GNU.volume.offset", b"5")]).file("f", "x");
    has(&pax.refused(), &["archive in several volumes"]);
    let first = a()
        .head(Head::new(b'V', "label"))
        .head(Head::new(b'0', "f").size(99))
        .0;
    has(
        &import(&first).unwrap_err().to_string(),
        &["f: ", "ends within"],
    );
}

#[test]
fn case_c1_22_files_that_aufs_kept_aside_have_the_names_that_links_give_them() {
    let aufs = a()
        .file(".wh..wh.aufs", "")
        .dir(".wh..wh.orph")
        .file(".wh..wh.orph/1", "never seen")
        .dir(".wh..wh.plnk")
        .file(".wh..wh.plnk/7.9", "shared")
        .hard_link("one", ".wh..wh.plnk/7.9")
        .hard_link("d/two", "./.wh..wh.plnk/7.9")
        .hard_link(".wh..wh.plnk/8.9", "one");
    assert_eq!(aufs.clone().listed(), "d:i d/two:fshared#2 one:fshared#2");
    // Another file in the first name's place changes nothing of the second.
    let replaced = aufs
        .file("one", "other")
        .hard_link("three", ".wh..wh.plnk/7.9");
    assert_eq!(
        replaced.listed(),
        "d:i d/two:fshared#2 one:fother three:fshared#2"
    );
    for target in [".wh..wh.plnk/none", ".wh.f", ".wh..wh..opq"] {
        let to_marker = a().file(".wh.f", "").hard_link("l", target);
        has(
            &to_marker.refused(),
            &["invalid whiteout: a hard link leads to one"],
        );
    }
    has(
        &a().file(".wh..wh.plnk/../../../f", "").refused(),
        &["the path"],
    );
}

#[test]
fn case_c1_32_fields_at_their_edges() {
    let with = |at, field: &[u8]| {
        a().head(Head::new(b'0', "f").field(at, field))
            .file("g", "y")
    };
    let (size, mtime, uid) = (124, 136, 108);
    for (at, field) in [
        // As .NET writes none; digits that fill the field; blanks before and behind.
        (size, &[0; 12][..]),
        (size, b"000000000000"),
        (size, b"          0\0"),
        (size, b"0          \0"),
        (size, b"0\0garbage!!!"),
        (size, b"            "),
        (size, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (mtime, &[0xff; 12]),
        (
            mtime,
            &[
                0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ],
        ),
        (mtime, b"777777777777"),
        (uid, &[0xff; 8]),
        (uid, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        (uid, b"77777777"),
        (uid, &[0; 8]),
    ] {
        assert_eq!(with(at, field).listed(), "f:f g:fy", "{field:?}");
    }
    for (at, field, what) in [
        (size, &b"\x0000000000001"[..], "size"),
        (size, b"\x0000000000000", "size"),
        (size, b"-1\0\0\0\0\0\0\0\0\0\0", "size"),
        (size, &[0xff; 12], "size"),
        (size, &[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], "size"),
        (size, b"0 0\0\0\0\0\0\0\0\0\0", "size"),
        (size, b"0x0\0\0\0\0\0\0\0\0\0", "size"),
        (mtime, b"1e3\0\0\0\0\0\0\0\0\0", "mtime"),
        (uid, b"8\0\0\0\0\0\0\0", "uid"),
    ] {
        has(
            &with(at, field).refused(),
            &["f: ", &format!("the {what} is not a number")],
        );
    }
}

#[test]
fn floats_of_python_are_times() {
    let with = |mtime: &str| a().pax(&[("mtime", mtime.as_bytes())]).file("f", "x");
    for mtime in ["5e-05", "1.7e9", "-2E+3", "1e400", "1700000000.25"] {
        assert_eq!(with(mtime).listed(), "f:fx", "{mtime}");
    }
    for mtime in ["nan", "inf", "1e", "0x1p3", "1e5 ", "e5", "1_000"] {
        has(
            &with(mtime).refused(),
            &["a value of its extended header is not a number"],
        );
    }
    // A size is no float: readers would disagree on where the next entry is.
    has(
        &a().pax(&[("size", b"1e0")]).file("f", "x").refused(),
        &["is not a number"],
    );
}

#[test]
fn case_c1_41_special_files_are_left_out_where_that_is_wished() {
    let device = |kind, name: &str| Head::new(kind, name).octal(329, 8, 1).octal(337, 8, 3);
    let archive = a()
        .dir("dev")
        .head(device(b'3', "dev/null"))
        .head(device(b'4', "dev/sda").size(512))
        .head(Head::new(b'6', "run/initctl"))
        .hard_link("dev/zero", "dev/null")
        .head(Head::new(b'3', "gone"))
        .file("f", "x");
    has(
        &archive.clone().refused(),
        &["dev/null: a character device", "--skip-special"],
    );
    let left_out = LeftOut::new();
    let options = SourceOptions {
        skip_special: Some(left_out.clone()),
        ..SourceOptions::default()
    };
    let read = |archive: crate::support::archive::Archive| {
        tar(&ChunkPool::new(), &archive.end()[..], &options)
    };
    assert_eq!(list(&read(archive).unwrap()), "dev:d f:fx gone:w");
    let first: Vec<_> = left_out.first().iter().map(ToString::to_string).collect();
    assert_eq!(first, ["dev/null", "dev/sda", "run/initctl"]);
    assert_eq!(left_out.count(), 4);
    // Nothing else is left out with them: a name that leads on is looked for below.
    let on = a().head(device(b'3', "n")).hard_link("l", "m");
    assert_eq!(list(&read(on).unwrap()), "l:hm");
    let again = a()
        .head(Head::new(b'6', "p"))
        .file("p", "x")
        .hard_link("l", "p");
    assert_eq!(list(&read(again).unwrap()), "l:fx#2 p:fx#2");
    for (hostile, said) in [
        (a().head(device(b'3', "../null")), "../null: the path"),
        (
            a().head(Head::new(b'6', "p"))
                .file("p/f", "x")
                .hard_link("l", "p"),
            "l: hard link to the directory p",
        ),
        (a().with(Head::new(b'M', "f"), b"x"), "several volumes"),
        (a().head(Head::new(b'Z', "f")), "unknown type `Z`"),
    ] {
        has(&read(hostile).unwrap_err().to_string(), &[said]);
    }
}

#[test]
fn a_file_that_is_not_an_archive_is_named_as_what_it_looks_like() {
    let plain = a().file("f", "content").end();
    let utf16 = |bytes: &[u8]| -> Vec<u8> {
        let units = bytes.iter().flat_map(|byte| [*byte, 0]);
        [0xff, 0xfe].into_iter().chain(units).collect()
    };
    for (bytes, said) in [
        (utf16(&plain), "made UTF-16 text of it"),
        (utf16(b"\x1f\x8b\x08\0"), "UTF-16"),
        (b"\x04\x22\x4d\x18\x64\x40\xa7 and more".to_vec(), "lz4"),
        (b"\x7fELF\x02\x01\x01\0".repeat(100), "an ELF program"),
        (b"<!DOCTYPE html>\n<html></html>".to_vec(), "an HTML page"),
        (b"070701000000".repeat(60), "a cpio archive"),
        (
            b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0".repeat(60),
            "lzma",
        ),
        (b"\0asm\x01\0\0\0".to_vec(), "WebAssembly"),
        (vec![0x93; 600], "the first header's checksum does not hold"),
        (vec![0x93; 60], "it ends within the first header"),
    ] {
        has(
            &import(&bytes).unwrap_err().to_string(),
            &["not a tar archive", said],
        );
    }
}
