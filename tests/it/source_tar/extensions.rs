//! PAX headers and GNU long names, alone and together.

use super::{a, has, meta};
use crate::support::archive::{Archive, Head, import, pax_records};

#[test]
fn case_c1_27_the_size_of_the_pax_header_wins() {
    let pax = |size: &str| a().pax(&[("size", size.as_bytes())]);
    let next = |archive: Archive| archive.file("g", "next");
    assert_eq!(
        next(pax("5").head(Head::new(b'0', "f")).data(b"hello")).listed(),
        "f:fhello g:fnext"
    );
    assert_eq!(
        next(
            pax("5")
                .head(Head::new(b'0', "f").size(2000))
                .data(b"hello")
        )
        .listed(),
        "f:fhello g:fnext"
    );
    assert_eq!(
        next(pax("0").head(Head::new(b'0', "f").size(4))).listed(),
        "f:f g:fnext"
    );
    // What an archive hides behind a size of 0 is content here.
    let hidden = a().file("evil", "!").0;
    let smuggled = pax(&hidden.len().to_string())
        .head(Head::new(b'0', "f"))
        .bytes(&hidden);
    assert_eq!(next(smuggled).listed(), "f:f1024 g:fnext");
    assert_eq!(
        next(pax("").head(Head::new(b'0', "f").size(2)).data(b"ab")).listed(),
        "f:fab g:fnext"
    );
    has(
        &pax("9223372036854775807")
            .head(Head::new(b'0', "f"))
            .refused(),
        &["f: more than", "bytes"],
    );
}

#[test]
fn case_c1_28_a_bad_record_is_never_skipped() {
    let raw = |data: &[u8]| a().with(Head::new(b'x', "pax"), data).file("f", "");
    assert_eq!(raw(b"10 path=g\n").listed(), "g:f");
    for bad in [
        &b"11 path=g\n"[..],
        b"10 path=gX",
        b"x path=g\n",
        b"15 path=g\n10 path=h\n",
        b"8 path\n",
        b"10 path=g\n\0",
        b"0 \n",
    ] {
        has(&raw(bad).refused(), &["byte 0", "extended header"]);
    }
    for (key, value) in [
        ("size", "-1"),
        ("size", "0x10"),
        ("uid", "root"),
        ("mtime", "now"),
        ("hdrcharset", "KOI8-R"),
    ] {
        a().pax(&[(key, value.as_bytes())]).file("f", "").refused();
    }
    let unknown = a().pax(&[
        ("comment", b"x"),
        ("VENDOR.key", b"y"),
        ("atime", b"z"),
        ("uname", b"root"),
    ]);
    assert_eq!(unknown.file("f", "").listed(), "f:f");
}

#[test]
fn case_c1_29_long_names_and_pax_headers_agree_or_fail() {
    let pax = |archive: Archive, name: &str| archive.pax(&[("path", name.as_bytes())]);
    assert_eq!(a().long(b'L', b"long").file("short", "").listed(), "long:f");
    assert_eq!(
        a().long(b'K', b"long").symlink("l", "short").listed(),
        "l:slong"
    );
    assert_eq!(
        a().long(b'K', b"to")
            .long(b'L', b"l")
            .symlink("x", "y")
            .listed(),
        "l:sto"
    );
    assert_eq!(
        pax(a().long(b'L', b"same"), "same").file("f", "").listed(),
        "same:f"
    );
    assert_eq!(
        pax(a(), "same").long(b'L', b"same").file("f", "").listed(),
        "same:f"
    );
    for both in [
        pax(a().long(b'L', b"one"), "two"),
        pax(a(), "two").long(b'L', b"one"),
    ] {
        has(
            &both.file("f", "").refused(),
            &["f: ", "two different names"],
        );
    }
    let links = a()
        .long(b'K', b"one")
        .pax(&[("linkpath", b"two")])
        .symlink("l", "x");
    has(&links.refused(), &["l: ", "two different names"]);
    has(
        &pax(pax(a(), "one"), "two").file("f", "").refused(),
        &["two extended headers"],
    );
    has(
        &a().long(b'L', b"1")
            .long(b'L', b"2")
            .file("f", "")
            .refused(),
        &["two long names"],
    );
    // Across entries, each may have its own.
    let own = pax(pax(a(), "one").file("f", "1"), "two").file("f", "2");
    assert_eq!(own.listed(), "one:f1 two:f2");
}

#[test]
fn case_c1_29_global_headers_give_times_and_owners_only() {
    let global = |key: &str| a().global(&[(key, b"7")]).file("f", "").file("g", "");
    for key in ["path", "linkpath", "size", "GNU.sparse.size"] {
        has(&global(key).refused(), &["global header"]);
    }
    let layer = import(&global("mtime").end()).unwrap();
    assert_eq!(
        (
            meta(&layer, "f").mtime.secs(),
            meta(&layer, "g").mtime.secs()
        ),
        (7, 7)
    );
    let over = a().global(&[("uid", b"7"), ("SCHILY.xattr.user.a", b"1")]);
    let over = over
        .pax(&[("uid", b"8"), ("SCHILY.xattr.user.a", b"2")])
        .file("f", "");
    let over = over
        .pax(&[("uid", b"")])
        .head(Head::new(b'0', "g").octal(108, 8, 9))
        .file("h", "");
    let layer = import(&over.end()).unwrap();
    let uids = ["f", "g", "h"].map(|path| meta(&layer, path).uid);
    assert_eq!(uids, [8, 9, 7]);
    assert_eq!(&*meta(&layer, "f").xattrs.unwrap()[0].1, b"2");
    assert_eq!(&*meta(&layer, "h").xattrs.unwrap()[0].1, b"1");
    let between = a()
        .pax(&[("path", b"g")])
        .global(&[("uid", b"1")])
        .file("f", "");
    has(&between.refused(), &["global header between"]);
    has(&a().pax(&[("path", b"g")]).refused(), &["an entry is due"]);
    has(&a().long(b'L', b"g").refused(), &["an entry is due"]);
}

#[test]
fn case_c1_30_extensions_are_bounded_before_they_are_read() {
    for kind in [b'x', b'g', b'L', b'K'] {
        for size in [(1 << 20) + 1, 0o777_7777_7777] {
            // None of the data is there: the size alone is refused.
            let error = a().head(Head::new(kind, "x").size(size)).refused();
            has(&error, &["more than 1048576 bytes in an extended header"]);
        }
        let cut = a().head(Head::new(kind, "x").size(1 << 20)).refused();
        has(&cut, &["ends within"]);
    }
    let filler = vec![b'x'; (1 << 20) - 17];
    let largest = pax_records(&[("comment", &filler[..])]);
    assert_eq!(largest.len(), 1 << 20);
    assert_eq!(
        a().with(Head::new(b'x', "x"), &largest)
            .file("f", "")
            .listed(),
        "f:f"
    );
    let many: Vec<_> = (0..70)
        .map(|at| format!("SCHILY.xattr.user.{at}"))
        .collect();
    let value = [b'v'; 1000];
    let many: Vec<_> = many.iter().map(|key| (&key[..], &value[..])).collect();
    assert_eq!(a().pax(&many[..60]).file("f", "").listed(), "f:f");
    has(
        &a().pax(&many).file("f", "").refused(),
        &["extended attributes are too large"],
    );
    // Global ones add up.
    let twice = a().global(&many[..40]).global(&many[40..]).file("f", "");
    has(&twice.refused(), &["extended attributes are too large"]);
}

#[test]
fn names_come_from_the_prefix_of_posix_headers_only() {
    let prefixed = |head: Head| a().head(head.field(345, b"some/where"));
    assert_eq!(
        prefixed(Head::new(b'0', "f")).listed(),
        "some:i some/where:i some/where/f:f"
    );
    assert_eq!(prefixed(Head::new(b'0', "f").gnu()).listed(), "f:f");
    assert_eq!(
        prefixed(Head::new(b'0', "f").field(257, &[0; 8])).listed(),
        "f:f"
    );
    let star = Head::new(b'0', "f")
        .field(508, b"tar\0")
        .field(476, b"00000000000 ");
    assert_eq!(
        prefixed(star).listed(),
        "some:i some/where:i some/where/f:f"
    );
    let full = "n".repeat(100);
    assert_eq!(a().file(&full, "").listed(), format!("{full}:f"));
}
