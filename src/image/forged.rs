//! Indexes whose digests hold, and whose tables say what cannot be.

use std::sync::atomic::AtomicBool;

use super::rest::{Origin, RunRecord, Shelved, name_of};
use super::tests::image;
use super::walk::Walk;
use super::*;

const PAGE: usize = 4096;
const NODE: usize = size_of::<record::NodeRecord>();
const SLOT: usize = size_of::<record::SlotRecord>();

/// Files are not read here.
struct Nothing;

impl Shelved for Nothing {
    type Error = std::convert::Infallible;

    fn runs(&mut self, _: &Content) -> Result<Vec<RunRecord>, Self::Error> {
        Ok(Vec::new())
    }

    fn packs(&self) -> Vec<Digest> {
        Vec::new()
    }
}

impl Origin for Nothing {
    fn content(&self, _: u64, _: Digest, _: Option<&[RunRecord]>) -> Content {
        Content::empty()
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
fn open(mut file: Vec<u8>) -> Result<Image, rest::NoIndex> {
    let body = number(&file, 16)..file.len();
    let blocks: Vec<_> = file[body].chunks(16 * 1024).map(Digest::of).collect();
    for (number, digest) in blocks.iter().enumerate() {
        let at = PAGE + 32 * number;
        file[at..at + 32].copy_from_slice(digest.as_bytes());
    }
    let name = name_of(&file[..PAGE + 32 * blocks.len()]);
    let cut = Arc::new(AtomicBool::new(false));
    let id = Digest::from_bytes([0; 32]);
    let origin = |_| Ok::<_, std::convert::Infallible>(Arc::new(Nothing) as Arc<_>);
    let opened = Image::at_rest(file.into(), "x".into(), cut, name, id, origin)?;
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
    let steps = Walk::new(&whole).count();
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
            assert!(Walk::new(&image).count() <= steps, "{slot} {node}");
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
        assert!(Walk::new(&image).take(most + 1).count() <= most, "{round}");
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
