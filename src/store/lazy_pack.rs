//! Packs whose chunks are not all here: a pack as any other, with holes in the place of what
//! has to be fetched, and `lazy/HEX` beside it, which says from where. docs/FORMAT.md has the
//! byte table.
//!
//! Which chunks are here is written nowhere: a chunk that does not hold against its digest is
//! not here, as long as `lazy/HEX` is. So a crash or a torn write costs a fetch, and no more.

use std::io;
use std::ops::Range;

use super::StoreError;
use super::codec::{ByteReader, count, narrow};
use super::disk::{Disk, PACKS};
use super::frame_places::FramePlaces;
use super::pack::file_name;
use super::pack_table::{ChunkRecord, HEADER, header, tail};
use crate::digest::{Digest, Sha256};

/// The directory.
pub(super) const LAZY: &str = "lazy";

/// How a file in it begins.
pub(super) const MAGIC: [u8; 8] = *b"stratlzy";

/// The version with one home, which is written where there is one.
const VERSION: u32 = 1;

/// The version with several.
const SEVERAL: u32 = 2;

/// Where the chunks of a pack come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LazyPack {
    /// The images that the blob is part of, by which it can be had: `HOST/NAME@sha256:HEX`. The one
    /// that is asked first is the first.
    pub(super) homes: Vec<String>,
    pub(super) blob: Sha256,
    pub(super) blob_bytes: u64,
    /// Whether frames are of zstd, else of gzip.
    pub(super) is_zstd: bool,
    pub(super) frames: FramePlaces,
    /// For each chunk of the pack its frame, and its place in that.
    pub(super) chunks: Vec<(u32, u32)>,
}

impl LazyPack {
    fn encode(&self) -> Result<Vec<u8>, StoreError> {
        let mut out = Vec::with_capacity(128 + self.frames.len() * 8 + self.chunks.len() * 8);
        out.extend(MAGIC);
        let version = if self.homes.len() == 1 {
            VERSION
        } else {
            SEVERAL
        };
        out.extend(version.to_le_bytes());
        out.extend(u32::from(self.is_zstd).to_le_bytes());
        out.extend(self.blob.as_bytes());
        out.extend(self.blob_bytes.to_le_bytes());
        if version == SEVERAL {
            let homes: u16 = narrow(self.homes.len(), "homes of a pack", u16::MAX.into())?;
            out.extend(homes.to_le_bytes());
        }
        for home in &self.homes {
            let len: u16 = narrow(home.len(), "bytes of a name", u16::MAX.into())?;
            out.extend(len.to_le_bytes());
            out.extend(home.as_bytes());
        }
        out.extend(count(self.frames.len(), "frames of a layer")?.to_le_bytes());
        out.extend(count(self.chunks.len(), "chunks of a pack")?.to_le_bytes());
        for (one, other) in self.frames.sizes().chain(self.chunks.iter().copied()) {
            out.extend(one.to_le_bytes());
            out.extend(other.to_le_bytes());
        }
        let digest = Digest::of(&out);
        out.extend(digest.as_bytes());
        Ok(out)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, digest) = bytes.split_last_chunk::<32>()?;
        if Digest::of(body) != Digest::from_bytes(*digest) {
            return None;
        }
        let mut reader = ByteReader::new(body);
        if reader.array() != Some(MAGIC) {
            return None;
        }
        let version = reader.u32().filter(|it| [VERSION, SEVERAL].contains(it))?;
        let is_zstd = reader.u32()? == 1;
        let blob = Sha256::from_bytes(reader.array()?);
        let blob_bytes = reader.u64()?;
        let count = if version == SEVERAL { reader.u16()? } else { 1 };
        let mut homes = Vec::new();
        for _ in 0..count {
            let len = reader.u16()?.into();
            homes.push(String::from_utf8(reader.bytes(len)?.to_vec()).ok()?);
        }
        let (frames, chunks) = (reader.u32()? as usize, reader.u32()? as usize);
        // Taken off before anything is allocated.
        let mut frames = ByteReader::new(reader.bytes(frames.checked_mul(8)?)?);
        let mut chunks = ByteReader::new(reader.bytes(chunks.checked_mul(8)?)?);
        let pairs = |reader: &mut ByteReader<'_>| {
            let mut all = Vec::new();
            while !reader.is_at_end() {
                all.push((reader.u32()?, reader.u32()?));
            }
            Some(all)
        };
        Some(Self {
            homes,
            blob,
            blob_bytes,
            is_zstd,
            frames: FramePlaces::new(pairs(&mut frames)?),
            chunks: pairs(&mut chunks)?,
        })
    }

    /// Reads where the chunks of a pack come from; `None` if all are here. A file that is
    /// damaged says nothing: what is missing is told as damage then.
    pub(super) fn of(disk: &Disk, pack: Digest) -> Option<Self> {
        let path = disk.file_in(LAZY, &file_name(pack));
        if !disk.is_file(&path) {
            return None;
        }
        Self::decode(&disk.read(&path).ok()?)
    }

    /// Says of a pack, durably, where its chunks come from.
    pub(super) fn put(&self, disk: &Disk, pack: Digest) -> Result<(), StoreError> {
        let dir = disk.path(LAZY);
        if !dir.is_dir() {
            disk.make_dir(&dir)?;
        }
        super::identity::check_dirs(disk)?;
        disk.put(LAZY, &file_name(pack), &self.encode()?)?;
        disk.sync_dir(LAZY)
    }

    /// Returns whether a pack may lack chunks.
    pub(super) fn is_one(disk: &Disk, pack: Digest) -> bool {
        disk.is_file(&disk.file_in(LAZY, &file_name(pack)))
    }

    /// Makes a pack without chunks, but for those that `fill` has: it is told the number of
    /// each, and where it lies in which frame. The caller syncs the directories.
    #[cfg_attr(
        not(feature = "registry"),
        expect(dead_code, reason = "registries are read in parts")
    )]
    pub(super) fn make(
        &self,
        disk: &Disk,
        records: &[ChunkRecord],
        fill: &mut dyn FnMut(usize) -> Option<Vec<u8>>,
    ) -> Result<Digest, StoreError> {
        let data = records.iter().map(|chunk| u64::from(chunk.len.get())).sum();
        let (tail, name) = tail(data, records)?;
        self.put(disk, name)?;
        let (file, tmp) = disk.create_tmp()?;
        disk.write_at(&file, &tmp.path, 0, &header())?;
        disk.write_at(&file, &tmp.path, HEADER + data, &tail)?;
        let mut offset = HEADER;
        for (number, record) in records.iter().enumerate() {
            let bytes = fill(number);
            let digest = Digest::from_bytes(record.digest);
            if let Some(bytes) = bytes.filter(|bytes| Digest::of(bytes) == digest) {
                disk.write_at(&file, &tmp.path, offset, &bytes)?;
            }
            offset += u64::from(record.len.get());
        }
        disk.sync(&file, &tmp.path)?;
        tmp.rename(&disk.file_in(PACKS, &file_name(name)))?;
        Ok(name)
    }
}

/// Whence frames come: from a registry, as a rule.
pub(crate) trait FrameSource: Send + Sync {
    /// Fetches bytes of a blob of an image, as many as the range has. `is_again` says that other bytes came
    /// before than should be there: who may have sent them is not asked.
    fn fetch(
        &self,
        from: &str,
        blob: (Sha256, u64),
        range: Range<u64>,
        is_again: bool,
    ) -> Result<Vec<u8>, String>;

    /// Decompresses a frame that has `raw` bytes then.
    fn unpack(&self, frame: &[u8], is_zstd: bool, raw: usize) -> io::Result<Vec<u8>>;
}

#[cfg(all(test, feature = "registry"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_what_is_damaged_is_not() {
        let mut pack = LazyPack {
            homes: vec!["registry.test/app@sha256:00".into()],
            blob: Sha256::from_bytes([7; 32]),
            blob_bytes: 1000,
            is_zstd: true,
            frames: FramePlaces::new(vec![(10, 20), (30, 40)]),
            chunks: vec![(0, 0), (1, 5)],
        };
        // One home is written as before there could be several.
        let one = pack.encode().unwrap();
        assert_eq!(one[8..12], 1_u32.to_le_bytes());
        assert_eq!(LazyPack::decode(&one).as_ref(), Some(&pack));
        pack.homes.push("mirror.test/app@sha256:00".into());
        let bytes = pack.encode().unwrap();
        assert_eq!(bytes[8..12], 2_u32.to_le_bytes());
        assert_eq!(LazyPack::decode(&bytes), Some(pack));
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(LazyPack::decode(&other), None, "{at}");
            assert_eq!(LazyPack::decode(&bytes[..at]), None, "{at}");
        }
    }
}
