//! gzip and zstd, told by their magic and kept in bounds.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use stratafs::chunk::ChunkPool;
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

#[track_caller]
fn refused(bytes: &[u8]) -> String {
    import(bytes).unwrap_err().to_string()
}

#[test]
fn compression_is_told_by_its_magic() {
    let plain = a().file("f", "content").end();
    for bytes in [plain.clone(), gzip(&plain), zstd(&plain)] {
        assert_eq!(list(&import(&bytes).unwrap()), "f:fcontent");
    }
    for (magic, name) in [
        (&b"\xfd7zXZ\0xxxx"[..], "xz"),
        (b"BZh91AY", "bzip2"),
        (b"PK\x03\x04..", "zip"),
    ] {
        has(&refused(magic), &[name, "not supported"]);
    }
    has(&refused(&gzip(b"")), &["0 bytes"]);
    has(&refused(&gzip(b"no tar")), &["ends within a header"]);
    has(&refused(&gzip(&gzip(&plain))), &["of the archive"]);
}

#[test]
fn case_c1_35_members_and_frames_follow_each_other() {
    let plain = a().file("f", "1").file("g", "2").end();
    let (front, back) = plain.split_at(700);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    for bytes in [
        [gzip(front), gzip(back)].concat(),
        [zstd(front), zstd(back)].concat(),
        [
            skippable.clone(),
            zstd(front),
            skippable.clone(),
            zstd(back),
            skippable,
        ]
        .concat(),
    ] {
        assert_eq!(list(&import(&bytes).unwrap()), "f:f1 g:f2");
    }
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
        has(&refused(&frame(exponent)), &["cannot be read"]);
    }
}

#[test]
fn case_c1_33_a_damaged_stream_is_refused_to_its_end() {
    let plain = a().file("f", "content").end();
    for whole in [
        gzip(&plain),
        ::zstd::stream::encode_all(&plain[..], 1).unwrap(),
    ] {
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
    has(&refused(&sum), &["cannot be read"]);
    has(
        &refused(&[gzip(&plain), b"garbage".to_vec()].concat()),
        &["cannot be read"],
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
    for bytes in [&gzip, &zstd] {
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
