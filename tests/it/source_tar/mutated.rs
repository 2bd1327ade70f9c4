//! Valid archives with a few bytes changed: an error or a layer, never a
//! panic, and a layer comes back from its export.

use stratafs::chunk::ChunkPool;
use stratafs::source::{SourceOptions, tar, write_layer};

use super::a;
use crate::support::archive::{Archive, Head, import};

/// Sebastiano Vigna's splitmix64: small, seeded, good enough to pick bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let sparse = Head::new(b'S', "s")
        .gnu()
        .size(3)
        .octal(386, 12, 100)
        .octal(398, 12, 3)
        .octal(483, 12, 5000);
    let map: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"3000"),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.map", b"10,3"),
    ];
    [
        a().dir("d")
            .file("d/f", "content")
            .symlink("d/l", "f")
            .hard_link("h", "d/f"),
        a().file(".wh.x", "")
            .file("d/.wh..wh..opq", "")
            .file("d/y", ""),
        a().pax(&[
            ("path", b"long/name"),
            ("size", b"7"),
            ("mtime", b"1.5"),
            ("SCHILY.xattr.user.a", b"b"),
        ])
        .file("x", "content"),
        a().global(&[("uid", b"7")])
            .long(b'L', b"long/name")
            .long(b'K', b"target")
            .symlink("x", "y"),
        a().head(sparse)
            .data(b"abc")
            .pax(map)
            .with(Head::new(b'0', "f"), b"abc"),
    ]
    .map(Archive::end)
    .into()
}

/// Repairs checksums, so that the change is looked at.
fn reseal(bytes: &mut [u8]) {
    for block in bytes.as_chunks_mut::<512>().0 {
        if block[257..262] != *b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

#[test]
fn case_c1_32_no_change_of_bytes_makes_a_panic() {
    const ROUNDS: u64 = 30_000;
    let seeds = seeds();
    let options = SourceOptions {
        max_bytes: 1 << 20,
        max_entries: 1000,
        ..SourceOptions::default()
    };
    let (mut whole, mut refused) = (0, 0);
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            let odd = [
                0, 1, b'/', b'.', b'0', b'7', b'9', b'=', b'\n', 0x7f, 0x80, 0xff,
            ];
            bytes[at] = match random.below(3) {
                0 => odd[random.below(odd.len())],
                1 => bytes[at] ^ (1 << random.below(8)),
                _ => u8::try_from(random.below(256)).unwrap(),
            };
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        reseal(&mut bytes);
        match tar(&ChunkPool::new(), &bytes[..], &options) {
            Ok(layer) => {
                whole += 1;
                let again = import(&write_layer(&layer, Vec::new()).unwrap()).unwrap();
                assert_eq!(again.digest(), layer.digest(), "seed {seed}");
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(
        whole > ROUNDS / 20 && refused > ROUNDS / 20,
        "{whole} whole, {refused} refused"
    );
}
