//! Indexes whose digests hold, and whose tables say what cannot be.

use std::sync::atomic::AtomicBool;

use super::index_file::{ContentSource, RunRecord, RunSource, name_of};
use super::tests::image;
use super::walk::{ImageStep, ImageWalk};
use super::*;
use crate::chunk::{ChunkPool, ContentBuilder};
use crate::name::check_name;

const PAGE: usize = 4096;
const NODE: usize = size_of::<record::NodeRecord>();
const SLOT: usize = size_of::<record::SlotRecord>();

/// Files are not read here.
struct Nothing;

impl RunSource for Nothing {
    type Error = std::convert::Infallible;

    fn runs(&mut self, _: &Content) -> Result<Vec<RunRecord>, Self::Error> {
        Ok(Vec::new())
    }

    fn packs(&self) -> Result<Vec<Digest>, Self::Error> {
        Ok(Vec::new())
    }

    fn too_many(what: &'static str, found: usize) -> Self::Error {
        unreachable!("{found} {what}")
    }
}

impl ContentSource for Nothing {
    fn content(&self, size: u64, _: Digest, _: Option<&[RunRecord]>) -> Content {
        let pool = ChunkPool::new();
        let mut content = ContentBuilder::new(&pool);
        content.hole(size);
        content.finish()
    }
}

fn number(file: &[u8], at: usize) -> usize {
    usize::try_from(u64::from_le_bytes(file[at..at + 8].try_into().unwrap())).unwrap()
}

/// Where table `which` lies in the file, and its bytes.
fn table(file: &[u8], which: usize) -> std::ops::Range<usize> {
    let at = 40 + 16 * which;
    let start = number(file, 16) + number(file, at);
    start..start + number(file, at + 8)
}

/// Puts the digests right again, and opens it.
fn open(file: Vec<u8>) -> Result<Image, index_file::IndexError> {
    open_with(file, Arc::new(Nothing))
}

fn open_with(
    mut file: Vec<u8>,
    origin: Arc<dyn ContentSource>,
) -> Result<Image, index_file::IndexError> {
    // Whoever forges the header may say anything in it.
    let body = number(&file, 16).min(file.len())..file.len();
    let blocks: Vec<_> = file[body].chunks(16 * 1024).map(Digest::of).collect();
    for (number, digest) in blocks.iter().enumerate() {
        let at = PAGE + 32 * number;
        file[at..at + 32].copy_from_slice(digest.as_bytes());
    }
    let name = name_of(&file[..PAGE + 32 * blocks.len()]);
    let cut = Arc::new(AtomicBool::new(false));
    let id = Digest::from_bytes([0; 32]);
    let origin = |_| Ok::<_, std::convert::Infallible>(origin);
    let opened = Image::from_index_file(file.into(), "x".into(), cut, name, id, origin)?;
    Ok(opened.unwrap_or_else(|never| match never {}))
}

fn good() -> Vec<u8> {
    let text = "d a,d a/b,d a/b/c,f a/b/c/f x,d a/d,f a/e y,d g,f g/h z,h g/i a/e,s l a";
    let Ok((file, _)) = image(text).to_index(&mut Nothing);
    file
}

fn put(file: &mut [u8], at: usize, number: u32) {
    file[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

#[test]
fn a_directory_within_itself_is_damage() {
    let file = good();
    let whole = open(file.clone()).unwrap();
    let steps = ImageWalk::new(&whole).count();
    assert!(whole.damage().is_none() && steps > 10);
    let (nodes, slots) = (table(&file, 1), table(&file, 2));
    for slot in 0..slots.len() / SLOT {
        let at = slots.start + slot * SLOT;
        if file[at + SLOT - 1] != 0 {
            continue;
        }
        for node in 0..u32::try_from(nodes.len() / NODE).unwrap() {
            let mut bad = file.clone();
            put(&mut bad, at + 4, node);
            let image = open(bad).unwrap();
            assert!(ImageWalk::new(&image).count() <= steps, "{slot} {node}");
            let same = file[at + 4..at + 8] == node.to_le_bytes();
            assert_eq!(image.damage().is_none(), same, "{slot} {node}");
        }
    }
}

#[test]
fn no_forged_table_makes_a_walk_without_end() {
    let file = good();
    let (nodes, slots) = (table(&file, 1), table(&file, 2));
    let most = 10 * (nodes.len() / NODE + slots.len() / SLOT);
    let (mut seed, mut damaged) = (1_u64, 0);
    let mut below = |end: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % end
    };
    for round in 0..20_000 {
        let mut bad = file.clone();
        for _ in 0..=below(4) {
            let range = if below(2) == 0 { &nodes } else { &slots };
            let at = range.start + below(range.len() / 4) * 4;
            put(&mut bad, at, u32::try_from(below(14)).unwrap());
        }
        let Ok(image) = open(bad) else { continue };
        assert!(
            ImageWalk::new(&image).take(most + 1).count() <= most,
            "{round}"
        );
        for node in 0..image.nodes() {
            for slot in image.slots(node).take(most) {
                if let Some(entry) = image.slot(slot) {
                    image.lookup(node, entry.name);
                }
            }
        }
        damaged += u32::from(image.damage().is_some());
    }
    assert!(damaged > 5000, "{damaged}");
}

/// Everything that an image gives out: names, kinds, facts, targets.
fn asked(image: &Image) {
    let mut walk = ImageWalk::new(image);
    let mut steps = 0;
    while let Some(step) = walk.next() {
        steps += 1;
        assert!(steps < 1000, "a walk without end");
        let (ImageStep::Enter(entry) | ImageStep::Leaf(entry)) = step else {
            continue;
        };
        check_name(entry.name).unwrap();
        assert_eq!(image.kind(entry.node), entry.kind);
        let path = walk.path();
        assert!(
            path.names()
                .iter()
                .all(|name| check_name(name.as_bytes()).is_ok())
        );
        if let Some(target) = image.target(entry.node) {
            assert!(!target.is_empty() && !target.contains(&0));
        }
        if let Some(content) = image.content(entry.node) {
            assert_eq!(content.size(), image.stat(entry.node).size);
        }
        drop(image.meta(entry.node));
    }
    for dir in 0..image.nodes() {
        for name in [&b"a"[..], b"b", b"c", b"e", b"g", b"l", b"..", b"", b"a/b"] {
            if let Some(found) = image.lookup(dir, name) {
                assert_eq!(image.kind(found.node), found.kind);
                check_name(name).unwrap();
            }
        }
    }
    let _stats = image.stats();
}

/// Bytes that go into a file, and where.
type Changes = Vec<(usize, Vec<u8>)>;

/// The rules, each broken once.
fn broken(file: &[u8]) -> Vec<(&'static str, Changes)> {
    let (nodes, slots, names) = (table(file, 1), table(file, 2), table(file, 3));
    let node = |number: usize| nodes.start + number * NODE;
    let slot = |number: usize| slots.start + number * SLOT;
    // The first entries are those of the root: a, g, l.
    let kind = |at: usize| file[slot(at) + SLOT - 1];
    assert_eq!([kind(0), kind(1), kind(2)], [0, 0, 2]);
    let of = |at: usize| number_of(file, slot(at) + 4) as usize;
    let link = node(of(2));
    let leaf = (0..slots.len() / SLOT).find(|at| kind(*at) == 1).unwrap();
    let plain = node(of(leaf));
    let text = |at: usize, bytes: &[u8]| (names.start + at, bytes.to_vec());
    let small = |at: usize, number: u32| (at, number.to_le_bytes().to_vec());
    vec![
        ("a slash", vec![text(0, b"/")]),
        ("a dot", vec![text(0, b".")]),
        ("a NUL", vec![text(0, b"\0")]),
        ("no name", vec![(slot(0) + SLOT - 2, vec![0])]),
        ("a name elsewhere", vec![small(slot(0) + 8, 1 << 20)]),
        (
            "two dots",
            vec![text(0, b".."), (slot(0) + SLOT - 2, vec![2])],
        ),
        ("two of a name", vec![text(1, b"a")]),
        ("not sorted", vec![text(0, b"z")]),
        ("another directory's", vec![small(slot(1), 1)]),
        ("no such directory", vec![small(slot(2), 77)]),
        ("no such object", vec![small(slot(1) + 4, 77)]),
        (
            "a directory called a file",
            vec![(slot(0) + SLOT - 1, vec![1])],
        ),
        (
            "a file called a directory",
            vec![(slot(leaf) + SLOT - 1, vec![0])],
        ),
        (
            "a kind that there is not",
            vec![(slot(0) + SLOT - 1, vec![9])],
        ),
        ("objects of no kind", vec![(node(of(0)) + 50, vec![9])]),
        ("a root that is a file", vec![(node(0) + 50, vec![1])]),
        (
            "a parent that it is not in",
            vec![small(node(of(0)) + 40, 2)],
        ),
        ("a link to nowhere", vec![small(link + 32, 1 << 20)]),
        ("a link of no bytes", vec![small(link, 0)]),
        ("a link that is long", vec![small(link, 1 << 16)]),
        ("a file of no content", vec![small(plain + 32, 99)]),
        ("a file past all bounds", vec![(plain, vec![0xff; 8])]),
        ("a mode of 16 bits", vec![(plain + 48, vec![0xff; 2])]),
        ("a second of 2^32 ns", vec![(plain + 16, vec![0xff; 4])]),
        ("no name at all", vec![small(plain + 28, 0)]),
        ("attributes elsewhere", vec![small(plain + 44, 5)]),
        ("entries without end", vec![(node(0) + 36, vec![0xff; 4])]),
        (
            "entries from elsewhere",
            vec![(node(0) + 32, vec![0xff; 4])],
        ),
    ]
}

#[test]
fn no_rule_of_a_tree_can_be_broken() {
    let file = good();
    asked(&open(file.clone()).unwrap());
    for (what, changes) in broken(&file) {
        let mut bad = file.clone();
        for (at, bytes) in changes {
            assert_ne!(bad[at..at + bytes.len()], bytes, "{what}: it is no change");
            bad[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        let Ok(image) = open(bad) else { continue };
        asked(&image);
        assert!(image.damage().is_some(), "{what}: nobody noticed");
    }
}

fn number_of(file: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap())
}

#[test]
fn bytes_at_random_break_no_rule() {
    let file = good();
    let start = number(&file, 16);
    let (mut seed, mut damaged) = (7_u64, 0);
    let mut below = |end: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % end
    };
    for _ in 0..20_000 {
        let mut bad = file.clone();
        for _ in 0..=below(3) {
            let at = start + below(file.len() - start);
            bad[at] ^= 1 << below(8);
        }
        let Ok(image) = open(bad) else { continue };
        asked(&image);
        damaged += u32::from(image.damage().is_some());
    }
    assert!(damaged > 2000, "{damaged}");
}

/// Runs of a file: one each, in packs that come in order.
#[derive(Default)]
struct InPacks(u32);

impl RunSource for InPacks {
    type Error = std::convert::Infallible;

    fn runs(&mut self, content: &Content) -> Result<Vec<RunRecord>, Self::Error> {
        self.0 += 1;
        Ok(vec![RunRecord {
            at: 0.into(),
            pack: (self.0 - 1).into(),
            offset: 4096.into(),
            len: u32::try_from(content.size()).unwrap().into(),
        }])
    }

    fn packs(&self) -> Result<Vec<Digest>, Self::Error> {
        Ok((0..self.0)
            .map(|pack| Digest::of(&pack.to_le_bytes()))
            .collect())
    }

    fn too_many(what: &'static str, found: usize) -> Self::Error {
        unreachable!("{found} {what}")
    }
}

/// Each bit of each byte, header and gaps included, under digests that hold.
#[test]
fn verification_finds_every_bit_that_its_layers_do_not_make() {
    let made = image("d a,d a/b,f a/b/f x,f a/e yy,d g,f g/h zzz,h g/i a/e,s l a");
    let Ok((file, _)) = made.to_index(&mut InPacks::default());
    let whole = open(file.clone()).unwrap();
    whole.check_against(&made).unwrap();
    // Where packs are and where bytes lie in them is the store's to know.
    let (packs, runs) = (table(&file, 0), table(&file, 7));
    let digests = PAGE..PAGE + 32 * (file.len() - number(&file, 16)).div_ceil(16 * 1024);
    let mut found = 0;
    for at in 0..file.len() {
        if packs.contains(&at) || runs.contains(&at) || digests.contains(&at) {
            continue;
        }
        let mut bad = file.clone();
        bad[at] ^= 1 << (at % 8);
        let Ok(image) = open(bad) else { continue };
        let Err(ImageError::Index(error)) = image.check_against(&made) else {
            panic!("byte {at} was taken for what the layers make");
        };
        assert!(error.to_string().starts_with("x: "), "{error}");
        found += 1;
    }
    assert!(found > 3000, "{found}");
    // Another image's index is none for these layers.
    let other = image("d a,f a/b x");
    assert!(whole.check_against(&other).is_err());
}
