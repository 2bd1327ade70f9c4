//! gzip, zstd, xz and bzip2, told by their magic and kept in bounds.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use stratafs::chunk::ChunkPool;
use stratafs::limits::MAX_XZ_MEMORY_BYTES;
use stratafs::source::{SourceOptions, tar};

use super::{a, has};
use crate::support::archive::{Head, import, list};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::stream::encode_all(bytes, 1).unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

type Pack = fn(&[u8]) -> Vec<u8>;

/// Each format with its name and somebody who writes it.
const PACKERS: [(&str, Pack); 4] = [("gzip", gzip), ("zstd", zstd), ("xz", xz), ("bzip2", bzip2)];

#[track_caller]
fn refused(bytes: &[u8]) -> String {
    import(bytes).unwrap_err().to_string()
}

#[test]
fn compression_is_told_by_its_magic() {
    let plain = a().file("f", "content").end();
    for (_, pack) in PACKERS {
        assert_eq!(list(&import(&pack(&plain)).unwrap()), "f:fcontent");
    }
    assert_eq!(list(&import(&plain).unwrap()), "f:fcontent");
    for (magic, name) in [(&b"PK\x03\x04......"[..], "zip"), (b"!<arch>\n..", "ar")] {
        has(&refused(magic), &[name, "where a tar archive was expected"]);
    }
    assert_eq!(list(&import(&gzip(b"")).unwrap()), "");
    has(
        &refused(&gzip(b"no tar")),
        &["not a tar archive in the gzip data", "text"],
    );
    has(
        &refused(&gzip(&gzip(&plain))),
        &["not a tar archive in the gzip data"],
    );
}

#[test]
fn case_c1_35_members_and_frames_follow_each_other() {
    let plain = a().file("f", "1").file("g", "2").end();
    let (front, back) = plain.split_at(700);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    for (name, pack) in PACKERS {
        let both = [pack(front), pack(b""), pack(back)].concat();
        assert_eq!(list(&import(&both).unwrap()), "f:f1 g:f2", "{name}");
    }
    let skipped = [
        skippable.clone(),
        zstd(front),
        skippable.clone(),
        zstd(back),
        skippable,
    ]
    .concat();
    assert_eq!(list(&import(&skipped).unwrap()), "f:f1 g:f2");
    // A thousand members of one byte each are only slow.
    let members: Vec<u8> = plain.iter().flat_map(|byte| gzip(&[*byte])).collect();
    assert_eq!(list(&import(&members).unwrap()), "f:f1 g:f2");
}

#[test]
fn case_c1_35_the_window_of_zstd_is_bounded() {
    // A frame by hand: no size, no checksum, one raw block, this window.
    let frame = |exponent: u8| {
        let block = u32::try_from(1024 << 3 | 1).unwrap().to_le_bytes();
        [
            &[0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3][..],
            &block[..3],
            &[0; 1024],
        ]
        .concat()
    };
    assert_eq!(list(&import(&frame(17)).unwrap()), "");
    for exponent in [18, 21, 31] {
        has(
            &refused(&frame(exponent)),
            &["cannot be unpacked", "zstd data"],
        );
    }
}

#[test]
fn case_c1_33_a_damaged_stream_is_refused_to_its_end() {
    let plain = a().file("f", "content").end();
    for (_, pack) in PACKERS {
        let whole = pack(&plain);
        for cut in 1..whole.len() {
            assert!(
                import(&whole[..cut]).is_err(),
                "cut at {cut} of {}",
                whole.len()
            );
        }
    }
    let mut sum = gzip(&plain);
    let at = sum.len() - 8;
    sum[at] ^= 1;
    has(&refused(&sum), &["cannot be unpacked", "gzip data"]);
}

#[test]
fn zeros_may_follow_what_is_compressed_and_nothing_else() {
    let plain = a().file("f", "content").end();
    for (name, pack) in PACKERS {
        let with = |tail: &[u8]| [pack(&plain), tail.to_vec()].concat();
        for zeros in [1, 3, 4, 511, 512, 1000, 200_000] {
            let bytes = with(&vec![0; zeros]);
            assert_eq!(
                list(&import(&bytes).unwrap()),
                "f:fcontent",
                "{name}: {zeros}"
            );
        }
        for tail in [
            b"garbage!".to_vec(),
            b"\0\0\0garbage!".to_vec(),
            plain.clone(),
            [vec![0; 3], pack(&plain)].concat(),
            // The first bytes of another member, and of one in another format.
            pack(&plain)[..5].to_vec(),
            match name {
                "gzip" => zstd(&plain),
                _ => gzip(&plain),
            },
        ] {
            let error = refused(&with(&tail));
            has(
                &error,
                &[
                    "cannot be unpacked: at byte ",
                    &format!("of the {name} data"),
                ],
            );
        }
        // xz alone has zeros between members, four at a time.
        let apart = with(&[&[0; 4][..], &pack(b"")].concat());
        assert_eq!(import(&apart).is_ok(), name == "xz", "{name}");
    }
}

#[test]
fn xz_takes_bounded_memory() {
    use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
    let with_dictionary = |bytes: u32| {
        let mut options = LzmaOptions::new_preset(0).unwrap();
        options.dict_size(bytes);
        let mut filters = Filters::new();
        filters.lzma2(&options);
        let stream = Stream::new_stream_encoder(&filters, Check::Crc32).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(&a().file("f", "x").end()).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(list(&import(&with_dictionary(128 << 20)).unwrap()), "f:fx");
    has(
        &refused(&with_dictionary(192 << 20)),
        &[
            "bytes of memory to unpack xz",
            &MAX_XZ_MEMORY_BYTES.to_string(),
        ],
    );
}

/// The largest resident size so far, in bytes.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

/// A tar with one file of so many equal bytes.
fn bomb(size: u64, byte: u8) -> impl Read {
    let head = Head::new(b'0', "bomb").size(size).bytes();
    std::io::Cursor::new(head)
        .chain(std::io::repeat(byte).take(size))
        .chain(std::io::repeat(0).take(1024))
}

#[test]
fn case_c1_34_bombs_stop_at_the_bound() {
    const SIZE: u64 = 256 << 20;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::copy(&mut bomb(SIZE, b'x'), &mut encoder).unwrap();
    let gzip = encoder.finish().unwrap();
    let zstd = ::zstd::stream::encode_all(bomb(SIZE, b'x'), 1).unwrap();
    assert!(zstd.len() < 34 * 1024, "{}", zstd.len());
    let before = peak();
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    std::io::copy(&mut bomb(SIZE, b'x'), &mut encoder).unwrap();
    let xz = encoder.finish().unwrap();
    let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::best());
    std::io::copy(&mut bomb(SIZE, b'x'), &mut encoder).unwrap();
    let bzip2 = encoder.finish().unwrap();
    for bytes in [&gzip, &zstd, &xz, &bzip2] {
        has(
            &refused(bytes),
            &["bomb: more than 200 bytes out of each byte"],
        );
        let with = |max_bytes| {
            let options = SourceOptions {
                max_bytes,
                max_ratio: u64::MAX,
                ..SourceOptions::default()
            };
            tar(&ChunkPool::new(), &bytes[..], &options)
        };
        let error = with(SIZE - 1).unwrap_err().to_string();
        has(&error, &["bomb: more than 268435455 bytes of content"]);
        assert_eq!(list(&with(SIZE).unwrap()), format!("bomb:f{SIZE}"));
    }
    if let (Some(before), Some(after)) = (before, peak()) {
        assert!(
            after - before < 64 << 20,
            "{} MiB more",
            (after - before) >> 20
        );
    }
    // Zeros after the archive's end are a bomb, too.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::copy(&mut std::io::repeat(0).take(SIZE), &mut encoder).unwrap();
    has(
        &refused(&encoder.finish().unwrap()),
        &["more than 200 bytes out of each byte"],
    );
}

#[test]
fn case_c1_34_what_honestly_compresses_well_is_taken() {
    // Below the floor, any ratio goes.
    let small = gzip(&{
        let mut bytes = Vec::new();
        bomb(32 << 20, b'x').read_to_end(&mut bytes).unwrap();
        bytes
    });
    assert!(import(&small).is_ok());
}
