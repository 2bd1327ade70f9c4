//! The table of a layer that was cut into frames: what is in the layer, and in which frame each
//! chunk lies. docs/FORMAT.md has the byte tables.
//!
//! Its entries are a layer's file as the store keeps it, over packs that the chunks make in
//! their order: whoever reads the table knows the packs, and thereby their names, before it
//! has a byte of them.

use std::collections::HashMap;
use std::io;

use super::StoreError;
#[cfg(any(feature = "registry", test))]
use super::codec::ByteReader;
use super::codec::count;
use super::layer_file;
use super::pack_table::{ChunkRecord, HEADER, name_of};
use super::pack_writer::{ChunkPos, push};
use crate::chunk::Content;
use crate::digest::Digest;
use crate::image::index_file::RunRecord;
use crate::layer::Layer;
#[cfg(any(feature = "registry", test))]
use crate::limits::{CHUNK_BYTES, MAX_FRAME_BYTES, MAX_FRAME_CHUNKS};
use crate::limits::{MAX_FRAME_TABLE_BYTES, MAX_PACK_BYTES};

const MAGIC: [u8; 8] = *b"stratfrm";

/// The version that is written, and the only one that is read.
const TABLE_VERSION: u32 = 1;

/// A chunk in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableChunk {
    pub(crate) frame: u32,
    /// Where in the frame it begins.
    pub(crate) place: u32,
    pub(crate) len: u32,
    pub(crate) digest: Digest,
}

/// Chunks that make a pack: those from `first` on, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TablePack {
    pub(crate) name: Digest,
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// Cuts chunks into packs, in their order: a pack ends once it has so many bytes that no
/// import would add to it.
fn packs_of(chunks: impl Iterator<Item = (u32, Digest)>) -> Vec<TablePack> {
    let mut packs = Vec::new();
    let mut records: Vec<ChunkRecord> = Vec::new();
    let (mut bytes, mut first) = (0_u64, 0);
    let mut end = |records: &mut Vec<ChunkRecord>, bytes: &mut u64| {
        packs.push(TablePack {
            name: name_of(*bytes, records),
            first,
            count: records.len(),
        });
        first += records.len();
        *bytes = 0;
        records.clear();
    };
    for (len, digest) in chunks {
        bytes += u64::from(len);
        records.push(ChunkRecord {
            len: len.into(),
            digest: *digest.as_bytes(),
        });
        if bytes >= MAX_PACK_BYTES {
            end(&mut records, &mut bytes);
        }
    }
    if !records.is_empty() {
        end(&mut records, &mut bytes);
    }
    packs
}

/// Returns where each chunk lies in the packs: number of the pack, place in it.
fn places_of(packs: &[TablePack], lens: &[u32]) -> Result<Vec<ChunkPos>, StoreError> {
    let mut places = Vec::with_capacity(lens.len());
    for (number, pack) in packs.iter().enumerate() {
        let mut offset = HEADER;
        let own = lens.get(pack.first..pack.first + pack.count);
        for len in own.unwrap_or_default() {
            places.push(ChunkPos {
                pack: count(number, "packs of a layer")?,
                offset: count(offset, "bytes of a pack")?,
            });
            offset += u64::from(*len);
        }
    }
    Ok(places)
}

/// Makes the table of a layer: `frames` are the bytes of each, compressed and not, `files` the
/// chunks of each content by their place in it. `None` if it would be too large, or lacks a file.
pub(crate) fn encode(
    layer: &Layer,
    frames: &[(u32, u32)],
    chunks: &[TableChunk],
    files: &HashMap<Digest, Vec<(u64, u32)>>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let packs = packs_of(chunks.iter().map(|chunk| (chunk.len, chunk.digest)));
    let lens: Vec<u32> = chunks.iter().map(|chunk| chunk.len).collect();
    let places = places_of(&packs, &lens)?;
    let mut is_whole = true;
    let runs = |content: &Content| {
        let mut runs: Vec<RunRecord> = Vec::new();
        let mut end = 0;
        for (at, number) in files.get(&content.digest()).into_iter().flatten() {
            let number = *number as usize;
            if let Some((place, len)) = places.get(number).zip(lens.get(number)) {
                push(&mut runs, *at, *place, *len as usize)?;
                end += u64::from(*len);
            }
        }
        is_whole &= end >= content.stored_bytes().min(1) && files.contains_key(&content.digest());
        Ok(runs)
    };
    let names = || Ok(packs.iter().map(|pack| pack.name).collect());
    let entries = layer_file::encode(layer, runs, names)?;
    let mut out = Vec::with_capacity(64 + frames.len() * 8 + chunks.len() * 44 + entries.len());
    out.extend(MAGIC);
    out.extend(TABLE_VERSION.to_le_bytes());
    out.extend(count(frames.len(), "frames of a layer")?.to_le_bytes());
    out.extend(count(chunks.len(), "chunks of a layer")?.to_le_bytes());
    out.extend([0; 4]);
    out.extend(layer.digest().as_bytes());
    for (compressed, raw) in frames {
        out.extend(compressed.to_le_bytes());
        out.extend(raw.to_le_bytes());
    }
    for chunk in chunks {
        out.extend(chunk.frame.to_le_bytes());
        out.extend(chunk.place.to_le_bytes());
        out.extend(chunk.len.to_le_bytes());
        out.extend(chunk.digest.as_bytes());
    }
    out.extend(entries);
    Ok((is_whole && out.len() <= MAX_FRAME_TABLE_BYTES).then_some(out))
}

/// Writes what is wrong with a table.
pub(crate) fn failed(error: StoreError) -> io::Error {
    io::Error::other(error)
}

/// A table that was read. What it says holds together; whether the layer's bytes are what it
/// says shows when they come.
#[cfg(any(feature = "registry", test))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameTable {
    /// The digest of the tree.
    pub(crate) layer: Digest,
    /// Bytes of each frame, compressed and not.
    pub(crate) frames: Vec<(u32, u32)>,
    /// In the order in which they lie in the frames.
    pub(crate) chunks: Vec<TableChunk>,
    /// What the chunks make.
    pub(crate) packs: Vec<TablePack>,
    /// The layer's file.
    pub(crate) entries: Vec<u8>,
}

#[cfg(any(feature = "registry", test))]
impl FrameTable {
    /// Reads a table, of whose blob the first `place` bytes are frames. Nobody vouches for
    /// `bytes` but whoever made the image: numbers that do not fit together are an error, and
    /// nothing is allocated for what is not there.
    pub(crate) fn read(bytes: &[u8], place: u64) -> Result<Self, String> {
        let mut reader = ByteReader::new(bytes);
        if reader.array() != Some(MAGIC) {
            return Err("it does not begin as a table does".into());
        }
        let version = reader.u32().unwrap_or(0);
        if version != TABLE_VERSION {
            return Err(format!(
                "it is of version {version}: this program reads version {TABLE_VERSION}"
            ));
        }
        let short = || "it is cut short".to_owned();
        let frames = reader.u32().ok_or_else(short)? as usize;
        let chunks = reader.u32().ok_or_else(short)? as usize;
        reader.u32().ok_or_else(short)?;
        let layer = reader.digest().ok_or_else(short)?;
        if chunks > MAX_FRAME_CHUNKS {
            return Err(format!(
                "{chunks} chunks, a table has {MAX_FRAME_CHUNKS} at most"
            ));
        }
        let raw_frames = frames.checked_mul(8).and_then(|len| reader.bytes(len));
        let raw_chunks = chunks.checked_mul(44).and_then(|len| reader.bytes(len));
        let frames = read_frames(raw_frames.ok_or_else(short)?, place)?;
        let chunks = read_chunks(raw_chunks.ok_or_else(short)?, &frames)?;
        let packs = packs_of(chunks.iter().map(|chunk| (chunk.len, chunk.digest)));
        let entries = bytes.get(reader.offset()..).unwrap_or_default().to_vec();
        let named = layer_file::packs_of(&entries).ok_or("it has no entries")?;
        if !named.iter().eq(packs.iter().map(|pack| &pack.name)) {
            return Err("its files lie in packs that its chunks do not make".into());
        }
        Ok(Self {
            layer,
            frames,
            chunks,
            packs,
            entries,
        })
    }
}

/// Frames lie one after the other, from the beginning of the blob to the table: so none
/// overlaps another or lies outside.
#[cfg(any(feature = "registry", test))]
fn read_frames(bytes: &[u8], place: u64) -> Result<Vec<(u32, u32)>, String> {
    let mut frames = Vec::with_capacity(bytes.len() / 8);
    let mut end = 0;
    for (number, pair) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let [a, b, c, d, e, f, g, h] = *pair;
        let (compressed, raw) = (
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        );
        let bounds = 1..=MAX_FRAME_BYTES;
        if !bounds.contains(&compressed) || !bounds.contains(&raw) {
            return Err(format!(
                "frame {number} has {compressed} bytes, decompressed {raw}: from 1 to \
                 {MAX_FRAME_BYTES} were expected"
            ));
        }
        end += u64::from(compressed);
        frames.push((compressed, raw));
    }
    match end == place {
        true => Ok(frames),
        false => Err(format!(
            "its frames have {end} bytes together, and it lies at byte {place}"
        )),
    }
}

#[cfg(any(feature = "registry", test))]
fn read_chunks(bytes: &[u8], frames: &[(u32, u32)]) -> Result<Vec<TableChunk>, String> {
    let mut chunks: Vec<TableChunk> = Vec::with_capacity(bytes.len() / 44);
    let mut reader = ByteReader::new(bytes);
    while !reader.is_at_end() {
        let number = chunks.len();
        let read = || {
            let (frame, place, len) = (reader.u32()?, reader.u32()?, reader.u32()?);
            let digest = reader.digest()?;
            Some(TableChunk {
                frame,
                place,
                len,
                digest,
            })
        };
        let chunk = { read }().ok_or("its chunks are cut short")?;
        let raw = frames.get(chunk.frame as usize).map_or(0, |frame| frame.1);
        let end = chunk.place.checked_add(chunk.len);
        if chunk.len == 0 || chunk.len as usize > CHUNK_BYTES || end.is_none_or(|end| end > raw) {
            return Err(format!(
                "chunk {number} has {} bytes at {} of frame {}, which has {raw}",
                chunk.len, chunk.place, chunk.frame
            ));
        }
        let after = chunks.last().is_none_or(|last| {
            (last.frame, last.place + last.len) <= (chunk.frame, chunk.place)
                || last.frame < chunk.frame
        });
        if !after {
            return Err(format!(
                "chunk {number} lies before or in the one before it"
            ));
        }
        chunks.push(chunk);
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{ChunkPool, ContentBuilder};
    use crate::layer::LayerBuilder;
    use crate::meta::Meta;
    use crate::name::LayerPath;

    /// A layer of one file of two chunks, in two frames of 50 and 60 bytes.
    fn table() -> Vec<u8> {
        let content = ContentBuilder::of(&ChunkPool::new(), &[7; 3000]);
        let mut builder = LayerBuilder::new();
        let path = LayerPath::parse(b"a/f").unwrap();
        let digest = content.digest();
        builder
            .file(&path, Meta::with_mode(0o644), content)
            .unwrap();
        let layer = builder.finish().unwrap();
        let chunk = |frame, place, len| TableChunk {
            frame,
            place,
            len,
            digest: Digest::of(&[7; 3000][..len as usize]),
        };
        let chunks = [chunk(0, 512, 2000), chunk(1, 0, 1000)];
        let files = HashMap::from([(digest, vec![(0, 0), (2000, 1)])]);
        let frames = [(50, 2512), (60, 2560)];
        encode(&layer, &frames, &chunks, &files).unwrap().unwrap()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let table = FrameTable::read(&table(), 110).unwrap();
        assert_eq!(table.frames, [(50, 2512), (60, 2560)]);
        assert_eq!((table.chunks[1].frame, table.chunks[1].len), (1, 1000));
        assert_eq!((table.packs[0].first, table.packs[0].count), (0, 2));
        assert_eq!(table.packs.len(), 1);
    }

    #[test]
    fn a_table_that_lies_is_refused() {
        let good = table();
        let read = |bytes: &[u8], place| FrameTable::read(bytes, place).unwrap_err();
        let with = |at: usize, number: u32| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            read(&bytes, 110)
        };
        assert!(read(&good, 111).contains("together"));
        assert!(read(b"else", 110).contains("does not begin"));
        assert!(with(8, 9).contains("version 9"));
        for count in [3, u32::MAX] {
            assert!(!with(12, count).is_empty(), "frames");
        }
        assert!(with(16, u32::MAX).contains("chunks"));
        assert!(with(16, (MAX_FRAME_CHUNKS - 1).try_into().unwrap()).contains("cut short"));
        for size in [0, MAX_FRAME_BYTES + 1, u32::MAX] {
            assert!(with(56, size).contains("frame 0"), "{size}");
            assert!(with(60, size).contains("frame 0"), "{size}");
        }
        // The first chunk: its frame, its place, its length.
        assert!(with(72, 2).contains("chunk 0"));
        assert!(with(72, 1).contains("chunk 1 lies"));
        assert!(with(76, 513).contains("chunk 0"));
        assert!(with(76, u32::MAX).contains("chunk 0"));
        assert!(with(80, 0).contains("chunk 0"));
        assert!(with(80, 2001).contains("chunk 0"));
        // Another length that fits, or another digest: the packs are others then.
        assert!(with(80, 1999).contains("packs"));
        assert!(with(84, 1).contains("packs"));
        for len in 0..good.len() - 1 {
            let cut = FrameTable::read(&good[..len], 110);
            // What is cut off its entries shows when these are read.
            assert!(cut.is_err() || len >= 72 + 88 + 48, "{len}");
        }
    }
}
