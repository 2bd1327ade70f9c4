//! Images out of a store, as packs.

use std::io;
use std::path::Path;

use super::earlier::{self, PackHome};
use super::entries;
use super::plan::{ChosenPacks, ImageChunks, choose, each_chunk};
use crate::digest::Digest;
use crate::image::Reference;
use crate::limits::{MAX_PACKED_LAYERS_BYTES, MAX_PACKED_PACKS};
use crate::source::{FrameMap, OutImage, PackBlob, PackBlobWriter, is_program};
use crate::store::frame_table::TableChunk;
use crate::store::packed::{PackedChunk, PlacedChunks, encode_pack};
use crate::store::{Store, StoreError};
use crate::transfer::export::whole;
use crate::transfer::platform::stamp;
use crate::transfer::{PushOptions, Pushed, TransferError};

/// An image ready to be sent, and how it was made.
pub(in crate::transfer) struct PackedOut {
    pub(in crate::transfer) image: OutImage<'static>,
    known_packs: u64,
    new_packs: u64,
    /// Blobs with entries that were there.
    known_entries: u64,
}

impl PackedOut {
    /// Adds what is known of the packs to what was sent.
    pub(in crate::transfer) fn reported(&self, mut pushed: Pushed) -> Pushed {
        pushed.known_packs = self.known_packs;
        pushed.new_packs = self.new_packs;
        pushed.known_blobs += self.known_packs + self.known_entries;
        pushed
    }
}

/// Makes what is sent of an image, all of which has to be here: packs with the chunks that those
/// at `home` do not have, made for this image alone, in files in `scratch`; and the entries that no blob there has.
pub(in crate::transfer) fn pack(
    (store, reference): (&Store, &Reference),
    home: &dyn PackHome,
    scratch: &Path,
    options: &PushOptions,
) -> Result<PackedOut, TransferError> {
    if options.artifact {
        let what = "an artifact of WebAssembly is one program, and no packs: choose one of the two";
        return Err(TransferError::Artifact(what.to_owned()));
    }
    whole(store, reference)?;
    let info = store.info(reference.as_str())?;
    let mut origins = info.layers.iter().map(|layer| &layer.origin);
    if origins.any(|origin| origin.media_type.as_deref().is_some_and(is_program)) {
        let what = format!("{reference}: a program beside the files cannot be sent in packs");
        return Err(TransferError::Artifact(what));
    }
    let mut config = info.config;
    stamp(&mut config, options.set_platform.as_ref());
    let layers = store.layers(reference.as_str())?;
    let chunks = ImageChunks::read(&layers, &options.start_set)?;
    let (earlier, earlier_entries) = earlier::find(home, &options.since)?;
    let chosen = choose(&chunks.list, &earlier);
    let kept = chosen.kept.iter().filter_map(|number| earlier.get(*number));
    let known: Vec<PackBlob> = kept.map(|pack| pack.blob.clone()).collect();
    let has_start = chunks.start > 0;
    let mut writer = PackBlobWriter::new(scratch, &table, has_start);
    let places = write(&chunks, &chosen, &mut writer)?;
    let new = writer.finish()?;
    let names = known.iter().chain(new.iter().map(|(pack, _)| pack));
    let names: Vec<Digest> = names.map(|pack| pack.name).collect();
    let placed = PlacedChunks {
        files: &chunks.files,
        chunks: &places,
        packs: &names,
    };
    let most = MAX_PACKED_LAYERS_BYTES;
    let written = entries::write(&layers, &placed, &earlier_entries, most)?;
    check(reference, written.bytes, names.len())?;
    let (known_packs, new_packs) = (known.len() as u64, new.len() as u64);
    let named = written.layers.iter().chain(&written.sources);
    let known_entries = named.filter(|it| !it.is_new()).count() as u64;
    let entries = (written.layers, written.sources);
    let image = OutImage::packed(&config, entries, (&known, new));
    let image = image.map_err(|error| TransferError::Out {
        path: scratch.to_owned(),
        error,
    })?;
    Ok(PackedOut {
        image,
        known_packs,
        new_packs,
        known_entries,
    })
}

/// Refuses what no reader would take.
fn check(reference: &Reference, bytes: u64, packs: usize) -> Result<(), TransferError> {
    let what = match (bytes, packs) {
        (bytes, _) if bytes > MAX_PACKED_LAYERS_BYTES => {
            format!("its entries have {bytes} bytes, {MAX_PACKED_LAYERS_BYTES} can be sent")
        }
        (_, packs) if packs > MAX_PACKED_PACKS => {
            format!("it has {packs} packs, {MAX_PACKED_PACKS} can be sent")
        }
        _ => return Ok(()),
    };
    Err(TransferError::Place(format!(
        "{reference}: too large for packs: {what}; push it without --packs"
    )))
}

fn table(map: &FrameMap) -> io::Result<(Digest, Vec<u8>)> {
    let chunks = map.chunks.iter().map(|chunk| TableChunk {
        frame: chunk.frame,
        place: chunk.place,
        len: chunk.len,
        digest: chunk.digest,
    });
    let chunks: Vec<TableChunk> = chunks.collect();
    encode_pack(&map.frames, &chunks).map_err(io::Error::other)
}

/// Writes the chunks that no pack has which is named again. Returns where each chunk lies.
fn write(
    chunks: &ImageChunks,
    chosen: &ChosenPacks,
    writer: &mut PackBlobWriter<'_>,
) -> Result<Vec<PackedChunk>, TransferError> {
    let kept = chosen.kept.len();
    let mut places: Vec<Option<PackedChunk>> = Vec::with_capacity(chunks.list.len());
    for (place, (_, len)) in chosen.places.iter().zip(&chunks.list) {
        places.push(place.map(|(pack, before)| PackedChunk {
            pack,
            before,
            len: *len,
        }));
    }
    for (number, content) in chunks.contents.iter().enumerate() {
        if number == chunks.start {
            writer.end_start()?;
        }
        let own = chunks.files.get(&content.digest());
        let own = own.map(Vec::as_slice).unwrap_or_default();
        let is_there =
            |(_, number): &(u64, u32)| matches!(places.get(*number as usize), Some(Some(_)));
        if own.iter().all(is_there) {
            continue;
        }
        let mut next = own.iter();
        let mut failed = None;
        each_chunk(content, &mut |_, bytes| {
            let changed = || StoreError::Broken("a file has other bytes than a moment ago");
            let (_, number) = next.next().ok_or_else(changed)?;
            let number = *number as usize;
            let slot = places.get_mut(number).ok_or_else(changed)?;
            if slot.is_some() || failed.is_some() {
                return Ok(());
            }
            let digest = Digest::of(bytes);
            if chunks.list.get(number).is_none_or(|it| it.0 != digest) {
                return Err(changed());
            }
            match writer.chunk(digest, bytes) {
                Ok((pack, before)) => {
                    let (_, len) = chunks.list.get(number).ok_or_else(changed)?;
                    let pack = u32::try_from(kept + pack).map_err(|_| changed())?;
                    *slot = Some(PackedChunk {
                        pack,
                        before,
                        len: *len,
                    });
                }
                Err(error) => failed = Some(error),
            }
            Ok(())
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    let places: Option<Vec<PackedChunk>> = places.into_iter().collect();
    places.ok_or(TransferError::Store(StoreError::Broken(
        "a chunk of the image was put nowhere",
    )))
}
