//! Which chunks an image has, and which of them lie in packs that are named again.

use std::collections::HashMap;

use super::earlier::EarlierPack;
use crate::chunk::{Content, next_chunk};
use crate::digest::Digest;
use crate::layer::{EntryBody, Layer};
use crate::limits::{KEPT_PACKS, MAX_PACK_BYTES, MAX_PUSHED_PACKS, MIN_PUSHED_USE_PERCENT};
use crate::source::StartSet;
use crate::store::StoreError;
use crate::store::packed::FileChunks;

/// The chunks of an image, each once.
#[derive(Default)]
pub(super) struct ImageChunks {
    /// Files, each content once, in the order in which they are written.
    pub(super) contents: Vec<Content>,
    /// So many of them are needed to start.
    pub(super) start: usize,
    pub(super) files: FileChunks,
    /// Digest and bytes.
    pub(super) list: Vec<(Digest, u32)>,
}

impl ImageChunks {
    /// Reads all files of some layers and cuts them as a store does, so that the chunks have the
    /// digests that they have there.
    pub(super) fn read(layers: &[Layer], start: &StartSet) -> Result<Self, StoreError> {
        let mut ordered: Vec<((u8, usize), Content)> = Vec::new();
        for entry in layers.iter().flat_map(Layer::entries) {
            if let EntryBody::File { content, .. } = entry.body {
                let order = match start.place(&entry.path) {
                    Some((place, true)) => (0, place),
                    Some((place, false)) => (1, place),
                    None => (2, 0),
                };
                ordered.push((order, content.clone()));
            }
        }
        // Those of one place stay in the order of the layers.
        ordered.sort_by_key(|(order, _)| *order);
        let mut all = Self::default();
        let mut numbers: HashMap<Digest, u32> = HashMap::new();
        for ((group, _), content) in ordered {
            if all.files.contains_key(&content.digest()) {
                continue;
            }
            let mut own = Vec::new();
            each_chunk(&content, &mut |at, bytes| {
                let digest = Digest::of(bytes);
                let next = narrow(all.list.len())?;
                let number = *numbers.entry(digest).or_insert(next);
                if number == next {
                    all.list.push((digest, narrow(bytes.len())?));
                }
                own.push((at, number));
                Ok(())
            })?;
            all.files.insert(content.digest(), own);
            all.contents.push(content);
            // What is read in part is fetched as far as it is read.
            if group == 0 {
                all.start = all.contents.len();
            }
        }
        Ok(all)
    }
}

fn narrow(number: usize) -> Result<u32, StoreError> {
    let narrow = u32::try_from(number);
    narrow.map_err(|_| StoreError::TooMany {
        what: "chunks of an image",
        found: number as u64,
        bound: u32::MAX.into(),
    })
}

/// Is told where in a file a chunk belongs, and its bytes.
type VisitChunk<'v> = dyn FnMut(u64, &[u8]) -> Result<(), StoreError> + 'v;

/// Visits the chunks of a file.
pub(super) fn each_chunk(content: &Content, visit: &mut VisitChunk<'_>) -> Result<(), StoreError> {
    let mut waiting: Vec<u8> = Vec::new();
    let mut start = 0;
    let mut cut = |waiting: &mut Vec<u8>, start: &mut u64, all: bool| {
        let mut used = 0;
        while let Some(bytes) = waiting.get(used..)
            && let Some(chunk) = next_chunk(bytes, all).and_then(|len| bytes.get(..len))
        {
            visit(*start, chunk)?;
            used += chunk.len();
            *start += chunk.len() as u64;
        }
        waiting.drain(..used);
        Ok::<_, StoreError>(())
    };
    for piece in content.pieces() {
        let (offset, bytes) = piece?;
        // Behind a hole cutting begins anew.
        if start + waiting.len() as u64 != offset {
            cut(&mut waiting, &mut start, true)?;
            start = offset;
        }
        waiting.extend_from_slice(&bytes);
        cut(&mut waiting, &mut start, false)?;
    }
    cut(&mut waiting, &mut start, true)
}

/// What is named again of the packs that are there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChosenPacks {
    /// Their numbers, in order.
    pub(super) kept: Vec<usize>,
    /// For each chunk of the image the pack it is in, by its place in `kept`, and how many bytes
    /// of chunks come before it there; `None` for what is sent.
    pub(super) places: Vec<Option<(u32, u64)>>,
}

/// Chooses packs. One of which less than half is in use is not named again, so that what nobody
/// uses is never more than what is used. If the image would have too many small ones, the smallest
/// are sent anew, as one.
pub(super) fn choose(chunks: &[(Digest, u32)], earlier: &[EarlierPack]) -> ChosenPacks {
    let found = places_in(chunks, earlier);
    let mut kept = vec![true; earlier.len()];
    let sizes: Vec<u64> = earlier.iter().map(EarlierPack::bytes).collect();
    let mut used = used_of(chunks, &found, &kept);
    loop {
        let before = kept.iter().filter(|kept| **kept).count();
        for ((kept, used), size) in kept.iter_mut().zip(&used).zip(&sizes) {
            // Neither is more than 256 MiB and a chunk.
            *kept &= *used > 0 && used * 100 >= size * MIN_PUSHED_USE_PERCENT;
        }
        used = used_of(chunks, &found, &kept);
        if kept.iter().filter(|kept| **kept).count() == before {
            break;
        }
    }
    let mut small: Vec<(u64, usize)> = used.iter().copied().zip(0..).collect();
    small.retain(|(_, number)| {
        let is_full = sizes
            .get(*number)
            .is_some_and(|size| *size >= MAX_PACK_BYTES);
        kept.get(*number) == Some(&true) && !is_full
    });
    let is_all_there = found.iter().all(|places| place_in(places, &kept).is_some());
    if small.len() + usize::from(!is_all_there) > MAX_PUSHED_PACKS {
        small.sort_unstable();
        let merged = small.len().saturating_sub(KEPT_PACKS);
        for (_, number) in small.iter().take(merged) {
            if let Some(kept) = kept.get_mut(*number) {
                *kept = false;
            }
        }
    }
    let numbers = (0..earlier.len()).filter(|number| kept.get(*number) == Some(&true));
    let numbers: Vec<usize> = numbers.collect();
    let own: HashMap<usize, u32> = numbers.iter().copied().zip(0..).collect();
    let place = |places: &Vec<(usize, u64)>| {
        let (pack, before) = place_in(places, &kept)?;
        Some((*own.get(&pack)?, before))
    };
    ChosenPacks {
        places: found.iter().map(place).collect(),
        kept: numbers,
    }
}

/// Returns for each chunk the packs that have it, and where.
fn places_in(chunks: &[(Digest, u32)], earlier: &[EarlierPack]) -> Vec<Vec<(usize, u64)>> {
    let listed = chunks.iter().zip(0_usize..);
    let numbers: HashMap<&(Digest, u32), usize> = listed.collect();
    let mut found = vec![Vec::new(); chunks.len()];
    for (pack, number) in earlier.iter().zip(0..) {
        let mut before = 0;
        for chunk in &pack.chunks {
            if let Some(places) = numbers.get(chunk).and_then(|own| found.get_mut(*own)) {
                places.push((number, before));
            }
            before += u64::from(chunk.1);
        }
    }
    found
}

/// Returns the first of some places that is in a pack that is kept.
fn place_in(places: &[(usize, u64)], kept: &[bool]) -> Option<(usize, u64)> {
    let mut places = places.iter();
    let is_kept = |place: &&(usize, u64)| kept.get(place.0) == Some(&true);
    places.find(is_kept).copied()
}

/// Counts how many bytes of each pack are used.
fn used_of(chunks: &[(Digest, u32)], found: &[Vec<(usize, u64)>], kept: &[bool]) -> Vec<u64> {
    let mut used = vec![0; kept.len()];
    for ((_, len), places) in chunks.iter().zip(found) {
        let pack = place_in(places, kept).and_then(|(pack, _)| used.get_mut(pack));
        if let Some(used) = pack {
            *used += u64::from(*len);
        }
    }
    used
}
