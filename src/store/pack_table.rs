//! The header, the table of chunks and the foot of a pack.
//!
//! docs/FORMAT.md has the byte tables.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::StoreError;
use super::codec::count;
use crate::digest::Digest;
use crate::limits::CHUNK_BYTES;

const MAGIC: [u8; 8] = *b"stratpak";
const FOOT_MAGIC: [u8; 8] = *b"stratend";

/// The version that is written, and the only one that is read.
pub(super) const PACK_VERSION: u32 = 1;

/// Bytes of the header; the first chunk follows.
pub(super) const HEADER: u64 = PAGE as u64;

const PAGE: usize = 4096;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Foot {
    magic: [u8; 8],
    version: U32,
    chunks: U32,
    /// Bytes of all chunks.
    data: U64,
    reserved: [u8; 8],
    /// The pack's name, once more.
    name: [u8; 32],
}

/// Fills a buffer from an offset of a pack on.
type ReadAt<'a> = dyn Fn(u64, &mut [u8]) -> Result<(), StoreError> + 'a;

/// A chunk in a pack's table; they lie in this order without gaps.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ChunkRecord {
    pub(super) len: U32,
    pub(super) digest: [u8; 32],
}

/// The table of a sealed pack, and which of its chunks have been checked.
pub(super) struct PackTable {
    pub(super) records: Box<[ChunkRecord]>,
    /// Where each chunk begins in the file, and where the last one ends.
    starts: Box<[u64]>,
    /// A bit for each chunk whose bytes were found to have its digest. Atomic; of two
    /// threads that race, both hash the chunk.
    verified: Box<[AtomicU64]>,
}

impl PackTable {
    pub(super) fn new(records: Vec<ChunkRecord>) -> Self {
        let mut end = HEADER;
        let mut starts = Vec::with_capacity(records.len() + 1);
        starts.push(end);
        for record in &records {
            end += u64::from(record.len.get());
            starts.push(end);
        }
        Self {
            verified: (0..records.len().div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
            records: records.into(),
            starts: starts.into(),
        }
    }

    /// Returns the digest, the place and the length of a chunk by its number.
    pub(super) fn chunk(&self, number: u32) -> Option<(Digest, u64, u32)> {
        let record = self.records.get(number as usize)?;
        let (start, _) = self.span(number)?;
        Some((Digest::from_bytes(record.digest), start, record.len.get()))
    }

    /// Returns where the last chunk ends.
    pub(super) fn end(&self) -> u64 {
        self.starts.last().copied().unwrap_or(HEADER)
    }

    /// Returns the number of the chunk that the byte at `offset` belongs to.
    pub(super) fn chunk_at(&self, offset: u64) -> Option<u32> {
        let after = self.starts.partition_point(|start| *start <= offset);
        u32::try_from(after.checked_sub(1)?).ok()
    }

    /// Returns where a chunk begins and ends.
    pub(super) fn span(&self, number: u32) -> Option<(u64, u64)> {
        let number = number as usize;
        Some((*self.starts.get(number)?, *self.starts.get(number + 1)?))
    }

    /// Returns whether the bytes of a chunk have been found to have its digest.
    pub(super) fn is_verified(&self, number: u32) -> bool {
        let word = self.verified.get(number as usize / 64);
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (number % 64) & 1 == 1)
    }

    /// Returns the chunks that a range touches and that have not been found to be right yet.
    pub(super) fn unverified(&self, offset: u64, end: u64) -> SmallVec<[u32; 8]> {
        let mut found = SmallVec::new();
        let first = self.chunk_at(offset).unwrap_or(u32::MAX);
        let touched = |number: &u32| self.span(*number).is_some_and(|(start, _)| start < end);
        for number in (first..).take_while(touched) {
            if !self.is_verified(number) {
                found.push(number);
            }
        }
        found
    }

    pub(super) fn set_verified(&self, number: u32) {
        if let Some(word) = self.verified.get(number as usize / 64) {
            word.fetch_or(1 << (number % 64), Ordering::Release);
        }
    }
}

/// Makes the header of a pack.
pub(super) fn header() -> Vec<u8> {
    let mut header = vec![0; PAGE];
    if let Some(start) = header.first_chunk_mut::<12>() {
        start[..8].copy_from_slice(&MAGIC);
        start[8..].copy_from_slice(&PACK_VERSION.to_le_bytes());
    }
    header
}

/// Makes what follows the chunks of a pack, `data` bytes of them: its table
/// and its foot. Returns the pack's name as well.
pub(super) fn tail(data: u64, records: &[ChunkRecord]) -> Result<(Vec<u8>, Digest), StoreError> {
    let name = name_of(data, records);
    let foot = Foot {
        magic: FOOT_MAGIC,
        version: PACK_VERSION.into(),
        chunks: count(records.len(), "chunks of a pack")?.into(),
        data: data.into(),
        reserved: [0; 8],
        name: *name.as_bytes(),
    };
    Ok(([records.as_bytes(), foot.as_bytes()].concat(), name))
}

/// Reads the table of a pack and holds it against the pack's name. `read`
/// fills a buffer from an offset on; `len` is the length of the file.
pub(super) fn read_table(
    path: &Path,
    len: u64,
    name: Digest,
    read: &ReadAt<'_>,
) -> Result<Vec<ChunkRecord>, StoreError> {
    let foot = read_foot(path, len, read)?;
    // No more than the file has.
    let bytes = u64::from(foot.chunks.get()) * size_of::<ChunkRecord>() as u64;
    let mut table = vec![0; usize::try_from(bytes).unwrap_or(0)];
    read(HEADER + foot.data.get(), &mut table)?;
    let records = <[ChunkRecord]>::ref_from_bytes(&table).unwrap_or_default();
    let found = name_of(foot.data.get(), records);
    if found != name {
        return Err(StoreError::Damaged {
            file: path.to_owned(),
            offset: HEADER + foot.data.get(),
            expected: name,
            found,
        });
    }
    let whole: u64 = records.iter().map(|chunk| u64::from(chunk.len.get())).sum();
    let longest = records.iter().map(|chunk| chunk.len.get()).max();
    if whole != foot.data.get() || longest.is_some_and(|len| len as usize > CHUNK_BYTES) {
        return Err(StoreError::malformed(
            path,
            "the chunks' lengths do not add up",
        ));
    }
    Ok(records.to_vec())
}

/// Reads the foot of a pack and holds it against header and length.
fn read_foot(path: &Path, len: u64, read: &ReadAt<'_>) -> Result<Foot, StoreError> {
    let foot_at = len.checked_sub(size_of::<Foot>() as u64);
    let foot_at = foot_at.filter(|at| *at >= HEADER);
    let Some(foot_at) = foot_at else {
        return Err(StoreError::Length {
            file: path.to_owned(),
            found: len,
            expected: HEADER + size_of::<Foot>() as u64,
        });
    };
    let mut start = [0; 12];
    read(0, &mut start)?;
    let mut foot = [0; size_of::<Foot>()];
    read(foot_at, &mut foot)?;
    let foot: Foot = zerocopy::transmute!(foot);
    let (magic, version) = start.split_at(8);
    if magic != MAGIC {
        return Err(StoreError::Magic {
            file: path.to_owned(),
            what: "pack",
        });
    }
    let version = version
        .first_chunk()
        .map_or(0, |version| u32::from_le_bytes(*version));
    if version != PACK_VERSION {
        return Err(StoreError::Version {
            file: path.to_owned(),
            found: version,
            supported: PACK_VERSION,
        });
    }
    let bytes = u64::from(foot.chunks.get()) * size_of::<ChunkRecord>() as u64;
    let expected = foot.data.get().checked_add(bytes);
    let expected = expected.and_then(|sum| sum.checked_add(HEADER + size_of::<Foot>() as u64));
    if expected != Some(len) || foot.magic != FOOT_MAGIC {
        return Err(StoreError::Length {
            file: path.to_owned(),
            found: len,
            expected: expected.unwrap_or(u64::MAX),
        });
    }
    Ok(foot)
}

/// Finds the first byte of a pack's header and foot that is not what was
/// written there, the ones included that reading does not need.
pub(super) fn check_frame(
    path: &Path,
    table: &PackTable,
    read: &ReadAt<'_>,
) -> Result<(), StoreError> {
    let (tail, _) = tail(table.end() - HEADER, &table.records)?;
    for (at, expected) in [(0, header()), (table.end(), tail)] {
        let mut found = vec![0; expected.len()];
        read(at, &mut found)?;
        let differs = expected.iter().zip(&found).position(|(a, b)| a != b);
        let pair = differs.and_then(|at| Some((at, expected.get(at)?, found.get(at)?)));
        if let Some((within, expected, found)) = pair {
            let at = at + within as u64;
            let what = format!("byte {at} is {found:#04x}, expected {expected:#04x}");
            return Err(StoreError::malformed(path, what));
        }
    }
    Ok(())
}

pub(super) fn name_of(data: u64, table: &[ChunkRecord]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"stratafs pack 1\0");
    hasher.update(&data.to_le_bytes());
    hasher.update(table.as_bytes());
    hasher.finalize().into()
}
