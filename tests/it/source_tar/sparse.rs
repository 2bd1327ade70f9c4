//! GNU's sparse files, old and new.

use stratafs::chunk::ChunkPool;
use stratafs::layer::EntryBody;
use stratafs::limits::MAX_SPARSE_SEGMENTS;
use stratafs::source::{SourceOptions, tar};

use super::{a, has};
use crate::support::archive::{Archive, Head, import};

/// The bytes of the file `f`.
fn content(archive: Archive) -> Vec<u8> {
    let layer = import(&archive.end()).unwrap();
    let entry = layer
        .entries()
        .find(|entry| entry.path.to_string() == "f")
        .unwrap();
    let EntryBody::File { content, .. } = entry.body else {
        panic!("no file")
    };
    let mut bytes = vec![1; usize::try_from(content.size()).unwrap()];
    assert_eq!(content.read_at(&mut bytes, 0), Ok(bytes.len()));
    bytes
}

fn expected(size: usize, parts: &[(usize, &str)]) -> Vec<u8> {
    let mut bytes = vec![0; size];
    for (at, part) in parts {
        bytes[*at..at + part.len()].copy_from_slice(part.as_bytes());
    }
    bytes
}

/// An `S` header with at most four segments.
fn old(size: u64, stored: u64, segments: &[(u64, u64)]) -> Head {
    let head = Head::new(b'S', "f").gnu().size(stored).octal(483, 12, size);
    segments
        .iter()
        .enumerate()
        .fold(head, |head, (at, (offset, len))| {
            head.octal(386 + at * 24, 12, *offset)
                .octal(398 + at * 24, 12, *len)
        })
}

#[test]
fn old_gnu_maps_give_holes_and_data() {
    let two = a()
        .head(old(5000, 6, &[(100, 3), (4000, 3)]))
        .data(b"abcdef");
    assert_eq!(
        content(two.file("g", "")),
        expected(5000, &[(100, "abc"), (4000, "def")])
    );
    let hole = a().head(old(5000, 0, &[(5000, 0)]));
    assert_eq!(content(hole), expected(5000, &[]));
    let blank = a().head(old(0, 0, &[]));
    assert_eq!(content(blank), b"");
    let mut extension = [0; 512];
    for at in 0..21 {
        let from = at * 24;
        extension[from..from + 12].copy_from_slice(format!("{:011o}\0", 1000 + at * 10).as_bytes());
        extension[from + 12..from + 24].copy_from_slice(b"00000000001\0");
    }
    let four = [(0, 1), (10, 1), (20, 1), (30, 1)];
    let long = a()
        .head(old(2000, 25, &four).field(482, b"\x01"))
        .bytes(&extension);
    let bytes = content(long.data(&[b'x'; 25]).file("g", ""));
    assert_eq!(bytes.iter().filter(|byte| **byte == b'x').count(), 25);
    assert_eq!((bytes[1000], bytes[1200], bytes[1201]), (b'x', b'x', 0));
}

#[test]
fn case_c1_31_damaged_maps_are_refused() {
    for (size, stored, segments) in [
        (5000, 6, &[(100, 3), (102, 3)][..]),
        (5000, 6, &[(200, 3), (100, 3)]),
        (5000, 6, &[(4998, 6)]),
        (5000, 6, &[(0, 5)]),
        (5000, 6, &[(0, 7)]),
        (5, 6, &[]),
        (5000, 6, &[(0o777_7777_7777, 6)]),
    ] {
        has(
            &a().head(old(size, stored, segments))
                .data(&[b'x'; 6])
                .refused(),
            &["f: ", "sparse map"],
        );
    }
    let huge = old(0, 1, &[(0, 1)]).field(483, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
    has(&a().head(huge).data(b"x").refused(), &["f: ", "sparse map"]);
    let beyond = old(0, 1, &[(0, 1)]).field(483, b"\x80\0\0\0\x80\0\0\0\0\0\0\0");
    has(
        &a().head(beyond).data(b"x").refused(),
        &["f: ", "sparse map"],
    );
    // Touching segments are fine.
    let touching = a().head(old(8, 6, &[(1, 3), (4, 3)])).data(b"abcdef");
    assert_eq!(content(touching), b"\0abcdef\0");
    has(
        &a().head(Head::new(b'S', "f")).refused(),
        &["f: ", "without GNU's magic"],
    );
}

#[test]
fn case_c1_31_a_map_is_bounded() {
    let more = {
        let mut block = [0; 512];
        for at in 0..42 {
            block[at * 12..at * 12 + 12].copy_from_slice(b"00000000000\0");
        }
        block[504] = 1;
        block
    };
    let first = old(9, 0, &[(0, 0), (0, 0), (0, 0), (0, 0)]).field(482, b"\x01");
    let endless = (0..2100).fold(a().head(first), |archive, _| archive.bytes(&more));
    has(
        &endless.refused(),
        &["f: more than 1048576 bytes of a sparse map"],
    );
    let count = MAX_SPARSE_SEGMENTS + 1;
    let lines = |count: usize| {
        let text = format!("{count}\n{}", "0\n0\n".repeat(count));
        let mut map = text.into_bytes();
        map.resize(map.len().next_multiple_of(512), 0);
        pax10("9").with(Head::new(b'0', "x"), &map)
    };
    has(
        &lines(count).refused(),
        &["f: more than", "segments in a sparse map"],
    );
    assert_eq!(content(lines(count - 1)), [0; 9]);
}

fn pax10(size: &str) -> Archive {
    a().pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"f"),
        ("GNU.sparse.realsize", size.as_bytes()),
    ])
}

fn data10(map: &str, data: &str) -> Vec<u8> {
    let mut bytes = map.as_bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend_from_slice(data.as_bytes());
    bytes
}

#[test]
fn pax_maps_of_each_version_give_holes_and_data() {
    let want = expected(3000, &[(10, "abc"), (2997, "def")]);
    let one = pax10("3000").with(
        Head::new(b'0', "x"),
        &data10("2\n10\n3\n2997\n3\n", "abcdef"),
    );
    assert_eq!(content(one.file("g", "")), want);
    let head = || Head::new(b'0', "GNUSparseFile.1/f");
    let map01 = a().pax(&[
        ("GNU.sparse.size", b"3000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.name", b"f"),
        ("GNU.sparse.map", b"10,3,2997,3"),
    ]);
    assert_eq!(content(map01.with(head(), b"abcdef").file("g", "")), want);
    let map00 = a().pax(&[
        ("GNU.sparse.size", b"3000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"10"),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", b"2997"),
        ("GNU.sparse.numbytes", b"3"),
        ("path", b"f"),
    ]);
    assert_eq!(content(map00.with(head(), b"abcdef").file("g", "")), want);
}

#[test]
fn case_c1_31_damaged_pax_maps_are_refused() {
    let ten = |size: &str, map: &str, data: &str| {
        pax10(size)
            .with(Head::new(b'0', "x"), &data10(map, data))
            .refused()
    };
    for (size, map, data) in [
        ("3000", "2\n10\n3\n", "abc"),
        ("3000", "1\n10\n4\n", "abc"),
        ("3000", "1\n2999\n3\n", "abc"),
        ("3000", "2\n10\n2\n11\n1\n", "abc"),
        ("3000", "1\n-1\n3\n", "abc"),
        ("3000", "x\n", "abc"),
        ("3000", "", ""),
        ("9223372036854775808", "1\n0\n3\n", "abc"),
        ("17592186044416", "1\n0\n3\n", "abc"),
        ("3000", "111111111111111111111\n", ""),
    ] {
        has(&ten(size, map, data), &["f: ", "sparse map"]);
    }
    let with = |records: &[(&str, &[u8])]| {
        a().pax(records)
            .with(Head::new(b'0', "f"), b"abc")
            .refused()
    };
    has(&with(&[("GNU.sparse.map", b"0,3")]), &["f: ", "no size"]);
    has(
        &with(&[("GNU.sparse.size", b"9")]),
        &["f: ", "not as many parts"],
    );
    has(&with(&[("GNU.sparse.name", b"g")]), &["g: ", "no size"]);
    let bad_version: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"2"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.size", b"9"),
    ];
    has(&with(bad_version), &["f: ", "unknown sparse format"]);
    let counted: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"9"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.map", b"0,3"),
    ];
    has(&with(counted), &["f: ", "not as many parts"]);
    let link = a().pax(&[("GNU.sparse.size", b"9")]).symlink("l", "t");
    has(
        &link.refused(),
        &["l: ", "a sparse map for an entry that is not a file"],
    );
}

#[test]
fn case_c1_31_holes_cost_no_memory() {
    let pool = ChunkPool::new();
    let huge = old(0, 1, &[]).field(483, b"\x80\0\0\0\0\0\x0f\xff\xff\xff\xf0\0");
    let huge = huge
        .field(386, b"\x80\0\0\0\0\0\x08\0\0\0\0\0")
        .field(398, b"00000000001\0");
    let archive = a().head(huge).data(b"x").end();
    // One byte of data, 16 TiB of holes: within the bound on content.
    let options = SourceOptions {
        max_bytes: 1,
        ..SourceOptions::default()
    };
    let layer = tar(&pool, &archive[..], &options).unwrap();
    assert_eq!(layer.node_count(), 2);
    assert!(pool.count_held_bytes() <= 64 * 1024);
}
