//! Images that are published as packs: layers come and go as their files, over packs whose
//! chunks lie in frames of blobs.

use std::collections::HashMap;

use super::absent::packs_of;
use super::catalog::RecordKind;
use super::disk::{LAYERS, PACKS};
use super::frame_table::{self, TableChunk};
use super::lazy_layer::LazyLayer;
use super::lazy_pack::LazyPack;
use super::pack::{Pack, file_name};
use super::pack_table::{ChunkRecord, HEADER, name_of};
use super::pack_writer::{ChunkPos, push};
use super::pieces::PackNumbers;
use super::record::{LayerRecord, PackRecord};
use super::{Import, Store, StoreError, codec, layer_file};
use crate::digest::{Digest, Sha256};
use crate::image::index_file::RunRecord;
use crate::layer::{Layer, LayerBuilder};
use crate::limits::MAX_FETCHED_BYTES;

/// Where a chunk of a published image lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackedChunk {
    /// The number of the pack.
    pub(crate) pack: u32,
    /// Bytes of chunks that come before it there.
    pub(crate) before: u64,
    pub(crate) len: u32,
}

/// The chunks of files: where in the file each belongs, and its number.
pub(crate) type FileChunks = HashMap<Digest, Vec<(u64, u32)>>;

/// Where the chunks of an image lie.
pub(crate) struct PlacedChunks<'c> {
    pub(crate) files: &'c FileChunks,
    pub(crate) chunks: &'c [PackedChunk],
    /// How the packs are called.
    pub(crate) packs: &'c [Digest],
}

impl PlacedChunks<'_> {
    /// Writes the entries of a layer. Packs that are `known` have the numbers that they have there, others
    /// the next ones in the order in which they are named. Returns the entries, and the packs that they name.
    pub(crate) fn entries(
        &self,
        layer: &Layer,
        known: &PackNumbers,
    ) -> Result<(Vec<u8>, PackNumbers), StoreError> {
        let mut numbers: HashMap<Digest, u32> = HashMap::new();
        for (number, name) in known {
            numbers.entry(*name).or_insert(*number);
        }
        let mut next = known.last_key_value().map_or(0, |(last, _)| last + 1);
        let mut named = PackNumbers::new();
        let entries = layer_file::encode_entries(layer, |content| {
            let mut runs: Vec<RunRecord> = Vec::new();
            for (at, number) in self.files.get(&content.digest()).into_iter().flatten() {
                let chunk = self.chunks.get(*number as usize).copied();
                let chunk = chunk.unwrap_or_default();
                let missing = StoreError::Broken("a layer names a pack that is not there");
                let name = *self.packs.get(chunk.pack as usize).ok_or(missing)?;
                let pack = *numbers.entry(name).or_insert(next);
                if named.insert(pack, name).is_none() && pack == next {
                    next += 1;
                }
                let place = ChunkPos {
                    pack,
                    offset: codec::narrow(
                        HEADER + chunk.before,
                        "bytes of a pack",
                        u32::MAX.into(),
                    )?,
                };
                push(&mut runs, *at, place, chunk.len as usize)?;
            }
            Ok(runs)
        })?;
        Ok((entries, named))
    }
}

/// Makes the file of a layer from entries whose packs are numbered from 0 on.
pub(crate) fn layer_file_of(packs: &PackNumbers, entries: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    let names: Vec<Digest> = packs.values().copied().collect();
    layer_file::with_head(&names, entries)
}

/// Makes the name and the table of a pack: that of a layer without files, whose chunks it has.
pub(crate) fn encode_pack(
    frames: &[(u32, u32)],
    chunks: &[TableChunk],
) -> Result<(Digest, Vec<u8>), StoreError> {
    let records = chunks.iter().map(|chunk| ChunkRecord {
        len: chunk.len.into(),
        digest: *chunk.digest.as_bytes(),
    });
    let records: Vec<ChunkRecord> = records.collect();
    let bytes = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
    let none = LayerBuilder::new().finish()?;
    let table = frame_table::encode(&none, frames, chunks, &HashMap::new())?;
    let table = table.ok_or(StoreError::Broken("the table of a pack is too large"))?;
    Ok((name_of(bytes, &records), table))
}

/// Returns the packs that the file of a layer names, if it is one.
pub(crate) fn named_packs(file: &[u8]) -> Option<Vec<Digest>> {
    layer_file::packs_of(file)
}

/// How much of a pack is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PackPresence {
    Absent,
    /// It is known by its table, and some of its chunks may be here.
    Lazy,
    Whole,
}

impl Store {
    /// Returns how much of a pack is here. Reads those of which chunks may not be.
    pub(crate) fn pack_presence(&self, name: Digest) -> Result<PackPresence, StoreError> {
        let disk = &self.0.packs.disk;
        let is_named = self.0.catalog.read(|view| {
            let found = view.get::<PackRecord>(RecordKind::Pack, name.as_bytes())?;
            Ok(found.is_some())
        })?;
        if !is_named || !disk.is_file(&disk.file_in(PACKS, &file_name(name))) {
            return Ok(PackPresence::Absent);
        }
        if !LazyPack::is_one(disk, name) {
            return Ok(PackPresence::Whole);
        }
        match Pack::open_once(disk, name)?.verify().absent_chunks {
            0 => Ok(PackPresence::Whole),
            _ => Ok(PackPresence::Lazy),
        }
    }

    /// Returns a layer whose files were held against their digests.
    pub(crate) fn proved_layer(&self, digest: Digest) -> Result<Option<Layer>, StoreError> {
        self.0.catalog.read(|view| {
            let known = view.get::<LayerRecord>(RecordKind::Layer, digest.as_bytes())?;
            let known = known.filter(|known| !known.by_table);
            known.map(|_| self.read_layer(view, digest)).transpose()
        })
    }
}

impl Store {
    /// Reads all of those packs of an image that may lack chunks, in large pieces, so that what is
    /// not here comes in few requests. The thread waits. What cannot be had is passed over: whoever
    /// needs it is told.
    pub(crate) fn bring_packs(&self, reference: &str) -> Result<(), StoreError> {
        let packs = &self.0.packs;
        let mut lazy = self.0.catalog.read(|view| {
            let (_, record) = super::reference::resolve(view, reference)?;
            packs_of(view, &record)
        })?;
        lazy.retain(|name| LazyPack::is_one(&packs.disk, *name));
        let mut buf = Vec::new();
        for name in lazy {
            let pack = packs.get(name)?;
            let end = HEADER + pack.data_bytes()?;
            let mut at = HEADER;
            while at < end {
                let len = (end - at).min(MAX_FETCHED_BYTES);
                buf.resize(usize::try_from(len).unwrap_or(0), 0);
                match pack.read(at, &mut buf) {
                    Ok(()) => at += len,
                    Err(StoreError::OnTheWay(ticket)) => ticket.wait(),
                    Err(error) => {
                        tracing::debug!(%error, pack = %name, "a pack is not completed");
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Import {
    /// Makes a layer of its file, whose packs were taken in or are in the store. What it says of its files is a
    /// claim until they have been read.
    pub(crate) fn packed_layer(
        &mut self,
        file: &[u8],
        digest: Digest,
    ) -> Result<Layer, StoreError> {
        let path = self.packs().disk.path(LAYERS);
        layer_file::decode(file, &path, (digest, true), self.packs())
    }

    /// Takes in a pack by its table. `start` gives frames, decompressed, as far as they have come.
    pub(crate) fn lazy_pack(
        &mut self,
        lazy: &LazyLayer<'_>,
        start: &mut dyn FnMut(u32) -> Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        self.lazy_packs(lazy, start)
    }

    /// Takes in a pack that the store has, and notes that what may lack of it can be had as a blob of
    /// `home` as well.
    pub(crate) fn known_pack(
        &mut self,
        name: Digest,
        (blob, home): (Sha256, &str),
    ) -> Result<(), StoreError> {
        LazyPack::add_home(&self.packs().disk, name, blob, home)?;
        self.take_pack(name)
    }

    /// Takes in a pack of which all frames are here, decompressed by `frames`; what the store has
    /// of it already stays. Returns whether all chunks were right.
    pub(crate) fn whole_pack(
        &mut self,
        lazy: &LazyLayer<'_>,
        frames: &mut dyn FnMut(u32) -> Option<Vec<u8>>,
    ) -> Result<bool, StoreError> {
        let disk = self.packs().disk.clone();
        let Some(name) = lazy.table.packs.first().map(|pack| pack.name) else {
            return Ok(false);
        };
        let path = disk.file_in(PACKS, &file_name(name));
        let was_there = disk.is_file(&path);
        self.lazy_packs(lazy, frames)?;
        if was_there {
            let file = disk.open_to_write(&path)?;
            let pack = Pack::open_once(&disk, name)?;
            let (mut offset, mut last) = (HEADER, (u32::MAX, None));
            for chunk in &lazy.table.chunks {
                let len = u64::from(chunk.len);
                if !pack.lacking(offset, len)?.is_empty() {
                    if last.0 != chunk.frame {
                        last = (chunk.frame, frames(chunk.frame));
                    }
                    let place = chunk.place as usize;
                    let frame: Option<&Vec<u8>> = last.1.as_ref();
                    let bytes = frame.and_then(|it| it.get(place..place + chunk.len as usize));
                    if let Some(bytes) = bytes.filter(|it| Digest::of(it) == chunk.digest) {
                        disk.write_at(&file, &path, offset, bytes)?;
                    }
                }
                offset += len;
            }
            disk.sync(&file, &path)?;
        }
        let report = Pack::open_once(&disk, name)?.verify();
        Ok(report.absent_chunks == 0 && report.wrong.is_empty())
    }
}
