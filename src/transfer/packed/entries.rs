//! Entries that a repository has already, of images that were published before, and the layers that
//! are made of them.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::cover::{choose_sources, cover};
use super::earlier::is_missing;
use super::gather::unpack;
use crate::digest::{Digest, Sha256};
use crate::layer::Layer;
use crate::limits::{MAX_INLINE_BLOB_BYTES, MAX_PACKED_LAYERS_BYTES};
use crate::source::packed::{
    NAME_ANNOTATION, PACKED_ENTRIES, PACKED_LAYER, PACKED_PIECES, inline_data,
};
use crate::source::{BlobDigest, EntriesOut};
use crate::store::StoreError;
use crate::store::packed::{PlacedChunks, layer_file_of};
use crate::store::pieces::{EntriesBlob, PackNumbers, encode_pieces};
use crate::transfer::TransferError;
use crate::transfer::import::sha256;
use crate::transfer::remote::Origin;

/// A blob with entries that is there.
struct EarlierBlob {
    digest: BlobDigest,
    size: u64,
    /// As it lies there, if that is small.
    packed: Option<Vec<u8>>,
    blob: EntriesBlob,
}

impl EarlierBlob {
    fn media_type(&self) -> &'static str {
        match self.blob.is_file() {
            true => PACKED_LAYER,
            false => PACKED_PIECES,
        }
    }

    /// Names it in another manifest.
    fn named(&self, media_type: &'static str, name: Option<Digest>) -> EntriesOut {
        EntriesOut::known(
            media_type,
            (self.digest.clone(), self.size),
            name,
            self.packed.clone(),
        )
    }
}

/// Blobs with entries that are there, each once.
#[derive(Default)]
pub(super) struct EarlierEntries {
    blobs: Vec<EarlierBlob>,
    numbers: HashMap<Sha256, usize>,
    /// Layers, and the blob that each is made of.
    layers: Vec<(Digest, usize)>,
    seen: HashSet<BlobDigest>,
    /// Bytes of all, decompressed.
    bytes: u64,
}

impl EarlierEntries {
    /// Takes in the entries of an image. What is not as it should be is passed over: what has it is sent
    /// anew.
    pub(super) fn take(
        &mut self,
        origin: &dyn Origin,
        manifest: &Value,
    ) -> Result<(), TransferError> {
        let layers = manifest.get("layers").and_then(Value::as_array);
        for layer in layers.into_iter().flatten() {
            let text = |key: &str| layer.get(key).and_then(Value::as_str);
            let is_one = [PACKED_LAYER, PACKED_PIECES, PACKED_ENTRIES].map(Some);
            let digest: Option<BlobDigest> = text("digest").and_then(|text| text.parse().ok());
            let (Some(digest), Some(size)) = (digest, layer.get("size").and_then(Value::as_u64))
            else {
                continue;
            };
            if !is_one.contains(&text("mediaType")) {
                continue;
            }
            if self.seen.insert(digest.clone()) {
                self.fetch(origin, (&digest, size), text("data"))?;
            }
            let name = layer
                .get("annotations")
                .and_then(|it| it.get(NAME_ANNOTATION));
            let name = name
                .and_then(Value::as_str)
                .and_then(|name| name.parse().ok());
            let number = sha256(&digest).and_then(|digest| self.numbers.get(&digest));
            if let (Some(name), Some(number)) = (name, number) {
                self.layers.push((name, *number));
            }
        }
        Ok(())
    }

    fn fetch(
        &mut self,
        origin: &dyn Origin,
        (digest, size): (&BlobDigest, u64),
        data: Option<&str>,
    ) -> Result<(), TransferError> {
        let left = MAX_PACKED_LAYERS_BYTES.saturating_sub(self.bytes);
        let Some(own) = sha256(digest).filter(|_| size <= left) else {
            tracing::warn!(blob = %digest, size, "entries that are not looked at");
            return Ok(());
        };
        let packed = match data.and_then(|data| inline_data((digest, size), data).ok()) {
            Some(bytes) => bytes,
            None => {
                let mut bytes = Vec::new();
                match origin.fetch((digest, size), &mut bytes, &mut |_| true) {
                    Err(error) if is_missing(&error) => {
                        tracing::warn!(blob = %digest, "entries that are not there");
                        return Ok(());
                    }
                    fetched => fetched?,
                }
                bytes
            }
        };
        let blob = unpack(&packed, left).map(EntriesBlob::read);
        let Ok(Some(blob)) = blob else {
            tracing::warn!(blob = %digest, "entries that cannot be read");
            return Ok(());
        };
        self.bytes += blob.len();
        self.numbers.insert(own, self.blobs.len());
        self.blobs.push(EarlierBlob {
            digest: digest.clone(),
            size,
            packed: (packed.len() <= MAX_INLINE_BLOB_BYTES).then_some(packed),
            blob,
        });
        Ok(())
    }

    fn find(&self, digest: &Sha256) -> Option<&EntriesBlob> {
        Some(&self.blobs.get(*self.numbers.get(digest)?)?.blob)
    }

    /// Finds a layer that is there as it is: the same entries over the same packs.
    /// Returns its number, and the bytes of its entries.
    fn same(
        &self,
        layer: &Layer,
        chunks: &PlacedChunks<'_>,
    ) -> Result<Option<(usize, usize)>, StoreError> {
        let name = layer.digest();
        for (_, number) in self.layers.iter().filter(|(own, _)| *own == name) {
            let Some(EarlierBlob { blob, .. }) = self.blobs.get(*number) else {
                continue;
            };
            let (entries, packs) = chunks.entries(layer, blob.packs())?;
            let find = |digest: &Sha256| self.find(digest);
            let there = blob.entries(&find, MAX_PACKED_LAYERS_BYTES);
            if packs == *blob.packs() && there.is_ok_and(|there| there == entries) {
                return Ok(Some((*number, entries.len())));
            }
        }
        Ok(None)
    }

    /// Writes a layer, of pieces if that is less. Notes the blobs that it copies from in `named`.
    fn write(
        &self,
        layer: &Layer,
        chunks: &PlacedChunks<'_>,
        named: &mut Sources,
    ) -> Result<LayerBytes, StoreError> {
        let (entries, packs) = chunks.entries(layer, &PackNumbers::new())?;
        let own: Vec<&[u8]> = self.blobs.iter().map(|it| it.blob.own()).collect();
        let mut chosen = choose_sources(&entries, &own);
        let mut known = PackNumbers::new();
        let mut room = named.limit.saturating_sub(named.numbers.len());
        chosen.retain(|number| {
            let packs = self.blobs.get(*number).map(|it| it.blob.packs());
            let is_new = !named.numbers.contains(number);
            let fits = packs.is_some_and(|packs| join(&mut known, packs, room > 0 || !is_new));
            room -= usize::from(fits && is_new);
            fits
        });
        let chosen_blobs = chosen.iter().filter_map(|number| self.blobs.get(*number));
        let (sources, digests): (Vec<&[u8]>, Vec<Option<Sha256>>) = chosen_blobs
            .map(|it| (it.blob.own(), sha256(&it.digest)))
            .unzip();
        let digests: Vec<Sha256> = digests.into_iter().flatten().collect();
        if !sources.is_empty() {
            let (numbered, packs) = chunks.entries(layer, &known)?;
            if let Some(cover) = cover(&numbered, &sources) {
                named.add(&chosen);
                let bytes = encode_pieces(&packs, &digests, &cover.pieces, &cover.own)?;
                return Ok((PACKED_PIECES, bytes, entries.len()));
            }
        }
        let len = entries.len();
        Ok((PACKED_LAYER, layer_file_of(&packs, entries)?, len))
    }
}

/// A layer as it is written: its media type, its bytes, and how many all of its entries have.
type LayerBytes = (&'static str, Vec<u8>, usize);

/// Blobs that layers copy from, by their numbers, in the order in which they are named.
struct Sources {
    numbers: Vec<usize>,
    limit: usize,
}

impl Sources {
    fn add(&mut self, more: &[usize]) {
        for number in more {
            if !self.numbers.contains(number) {
                self.numbers.push(*number);
            }
        }
    }
}

/// Adds packs to others, if they may be and no number is that of two.
fn join(known: &mut PackNumbers, packs: &PackNumbers, may: bool) -> bool {
    let fits = |(number, name): (&u32, &Digest)| known.get(number).is_none_or(|it| it == name);
    let fits = may && packs.iter().all(fits);
    if fits {
        known.extend(packs.iter().map(|(number, name)| (*number, *name)));
    }
    fits
}

/// The layers of an image as they are named, and the blobs that they copy from.
pub(super) struct PackedLayers {
    pub(super) layers: Vec<EntriesOut>,
    pub(super) sources: Vec<EntriesOut>,
    /// Bytes of all entries, of which a reader takes so many.
    pub(super) bytes: u64,
    /// Bytes of all blobs that they are put together of, decompressed.
    blob_bytes: u64,
}

/// Writes the layers of an image, as pieces of what is there where that is less. What a reader has to
/// take in for it has `limit` bytes at most, unless it has so many without pieces.
pub(super) fn write(
    layers: &[Layer],
    chunks: &PlacedChunks<'_>,
    earlier: &EarlierEntries,
    limit: u64,
) -> Result<PackedLayers, StoreError> {
    let written = write_upon(layers, chunks, earlier)?;
    match written.blob_bytes <= limit {
        true => Ok(written),
        false => write_upon(layers, chunks, &EarlierEntries::default()),
    }
}

/// Writes the layers of an image. One with `n` layers names at most `n + 1` blobs beside them, so that a first
/// start asks for few.
fn write_upon(
    layers: &[Layer],
    chunks: &PlacedChunks<'_>,
    earlier: &EarlierEntries,
) -> Result<PackedLayers, StoreError> {
    let mut named = Sources {
        numbers: Vec::new(),
        limit: layers.len() + 1,
    };
    let mut same = Vec::with_capacity(layers.len());
    for layer in layers {
        let found = earlier.same(layer, chunks)?;
        let found = found.and_then(|(number, len)| Some((earlier.blobs.get(number)?, len)));
        let sources = found.map(|(it, _)| it.blob.sources()).unwrap_or_default();
        let sources = sources.iter().filter_map(|it| earlier.numbers.get(it));
        named.add(&sources.copied().collect::<Vec<_>>());
        same.push(found);
    }
    let (mut out, mut bytes, mut blob_bytes) = (Vec::new(), 0, 0);
    for (layer, same) in layers.iter().zip(same) {
        let name = Some(layer.digest());
        out.push(match same {
            Some((blob, len)) => {
                bytes += len as u64;
                blob_bytes += blob.blob.len();
                blob.named(blob.media_type(), name)
            }
            None => {
                let (media_type, file, len) = earlier.write(layer, chunks, &mut named)?;
                bytes += len as u64;
                blob_bytes += file.len() as u64;
                EntriesOut::new(media_type, file, name)
            }
        });
    }
    let sources = named.numbers.iter();
    let sources = sources.filter_map(|number| earlier.blobs.get(*number));
    let mut copied = Vec::new();
    for source in sources {
        blob_bytes += source.blob.len();
        copied.push(source.named(PACKED_ENTRIES, None));
    }
    Ok(PackedLayers {
        layers: out,
        sources: copied,
        bytes,
        blob_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::LayerBuilder;
    use crate::name::LayerPath;

    fn layer(names: std::ops::Range<u32>) -> Layer {
        let mut builder = LayerBuilder::new();
        for name in names {
            let path = LayerPath::parse(format!("{name:08}").as_bytes()).unwrap();
            builder.whiteout(&path).unwrap();
        }
        builder.finish().unwrap()
    }

    /// A repository that has one layer.
    fn earlier(layer: &Layer, chunks: &PlacedChunks<'_>) -> EarlierEntries {
        let (entries, packs) = chunks.entries(layer, &PackNumbers::new()).unwrap();
        let file = layer_file_of(&packs, entries).unwrap();
        let digest = BlobDigest::of(&file);
        let mut earlier = EarlierEntries::default();
        earlier.numbers.insert(sha256(&digest).unwrap(), 0);
        earlier.layers.push((layer.digest(), 0));
        earlier.blobs.push(EarlierBlob {
            digest,
            size: 100,
            packed: None,
            blob: EntriesBlob::read(file).unwrap(),
        });
        earlier
    }

    #[test]
    fn what_a_reader_would_not_take_is_not_copied_from() {
        let files = HashMap::new();
        let chunks = PlacedChunks {
            files: &files,
            chunks: &[],
            packs: &[],
        };
        let earlier = earlier(&layer(0..500), &chunks);
        let of = |names, limit| write(&[layer(names)], &chunks, &earlier, limit).unwrap();
        let named = |written: &PackedLayers| {
            let new = written.layers.iter().filter(|it| it.is_new()).count();
            (new, written.sources.len())
        };
        let copied = of(0..501, MAX_PACKED_LAYERS_BYTES);
        assert_eq!(named(&copied), (1, 1));
        assert_eq!(named(&of(0..501, copied.blob_bytes)), (1, 1));
        let whole = of(0..501, copied.blob_bytes - 1);
        assert_eq!(named(&whole), (1, 0));
        assert_eq!(whole.bytes, copied.bytes);
        // What is there as it is costs nothing.
        assert_eq!(named(&of(0..500, MAX_PACKED_LAYERS_BYTES)), (0, 0));
    }
}
