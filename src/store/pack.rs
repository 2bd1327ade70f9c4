//! Packs: files of chunks, one after the other, only ever appended to.
//!
//! docs/FORMAT.md has the byte tables: a page of header, the chunks, their
//! table, a foot. A pack that is being written has no table yet and lies in
//! `tmp`; sealed, it is named by the digest of its table, so a chunk that holds
//! against its entry is the one that was written.
//!
//! Reading is a positioned read, not a mapping: the page cache is shared by all
//! processes either way, nothing is resident that is not asked for, and a file
//! that somebody cuts short gives an error.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::StoreError;
use super::disk::{Disk, PACKS};
use crate::digest::Digest;
use crate::limits::CHUNK_BYTES;

const MAGIC: [u8; 8] = *b"stratpak";
const FOOT_MAGIC: [u8; 8] = *b"stratend";

/// The version that is written, and the only one that is read.
pub(super) const PACK_VERSION: u32 = 1;

/// Bytes of the header; the first chunk follows.
pub(super) const HEADER: u64 = PAGE as u64;

const PAGE: usize = 4096;

/// Bytes that are gathered before they are written.
const GATHERED: usize = 1 << 20;

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

/// A chunk in a pack's table; they lie in this order without gaps.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ChunkRecord {
    pub(super) len: U32,
    pub(super) digest: [u8; 32],
}

/// A pack, open for reading; while it has no name yet, for appending too.
pub(super) struct Pack {
    disk: Disk,
    file: File,
    path: Mutex<PathBuf>,
    /// What is not sealed yet.
    growing: Mutex<Growing>,
    name: OnceLock<Digest>,
    /// Of one with a name: read when it is first needed.
    sealed: OnceLock<Sealed>,
}

#[derive(Default)]
struct Growing {
    /// Bytes of chunks in the file.
    written: u64,
    /// What follows them.
    pending: Vec<u8>,
    table: Vec<ChunkRecord>,
}

struct Sealed {
    table: Box<[ChunkRecord]>,
    /// Where each chunk begins in the file, and where the last one ends.
    starts: Box<[u64]>,
    /// A bit for each chunk that has held against its digest. Atomic; a race
    /// hashes a chunk twice.
    held: Box<[AtomicU64]>,
}

impl Pack {
    /// Starts a pack.
    pub(super) fn create(disk: &Disk) -> Result<Self, StoreError> {
        let (file, path) = disk.create_tmp()?;
        let mut header = vec![0; PAGE];
        if let Some(start) = header.first_chunk_mut::<12>() {
            start[..8].copy_from_slice(&MAGIC);
            start[8..].copy_from_slice(&PACK_VERSION.to_le_bytes());
        }
        disk.write_at(&file, &path, 0, &header)?;
        Ok(Self {
            disk: disk.clone(),
            file,
            path: Mutex::new(path),
            growing: Mutex::default(),
            name: OnceLock::new(),
            sealed: OnceLock::new(),
        })
    }

    /// Opens a sealed pack by its name. Nothing is read yet.
    pub(super) fn open(disk: &Disk, name: Digest) -> Result<Self, StoreError> {
        let path = disk.file_in(PACKS, &file_name(name));
        let file = disk.open(&path)?;
        Ok(Self {
            disk: disk.clone(),
            file,
            path: Mutex::new(path),
            growing: Mutex::default(),
            name: OnceLock::from(name),
            sealed: OnceLock::new(),
        })
    }

    /// Gives the name, once it has one.
    pub(super) fn name(&self) -> Option<Digest> {
        self.name.get().copied()
    }

    /// Gives the table of a pack with a name, held against that; `None` while
    /// it has none.
    fn sealed(&self) -> Result<Option<&Sealed>, StoreError> {
        if let Some(sealed) = self.sealed.get() {
            return Ok(Some(sealed));
        }
        let Some(name) = self.name() else {
            return Ok(None);
        };
        let path = self.path.lock().clone();
        let table = read_table(&self.disk, &self.file, &path, name)?;
        Ok(Some(self.sealed.get_or_init(|| Sealed::new(table))))
    }

    /// Appends a chunk. Gives its number and where it lies.
    pub(super) fn append(&self, digest: Digest, bytes: &[u8]) -> Result<(u32, u64), StoreError> {
        let mut growing = self.growing.lock();
        let offset = HEADER + growing.written + growing.pending.len() as u64;
        let number = u32::try_from(growing.table.len()).unwrap_or(u32::MAX);
        growing.pending.extend_from_slice(bytes);
        growing.table.push(ChunkRecord {
            // A chunk has at most `CHUNK_MAX` bytes.
            len: u32::try_from(bytes.len()).unwrap_or(u32::MAX).into(),
            digest: *digest.as_bytes(),
        });
        if growing.pending.len() >= GATHERED {
            self.flush(&mut growing)?;
        }
        Ok((number, offset))
    }

    fn flush(&self, growing: &mut Growing) -> Result<(), StoreError> {
        let at = HEADER + growing.written;
        let path = self.path.lock();
        self.disk
            .write_at(&self.file, &path, at, &growing.pending)?;
        growing.written += growing.pending.len() as u64;
        growing.pending.clear();
        Ok(())
    }

    /// Counts the bytes of the chunks so far.
    pub(super) fn data_bytes(&self) -> Result<u64, StoreError> {
        Ok(match self.sealed()? {
            Some(sealed) => sealed.end() - HEADER,
            None => {
                let growing = self.growing.lock();
                growing.written + growing.pending.len() as u64
            }
        })
    }

    /// Ends the pack: writes its table, makes it durable, gives it its name.
    /// The caller syncs the directory.
    pub(super) fn seal(&self) -> Result<Digest, StoreError> {
        let mut growing = self.growing.lock();
        self.flush(&mut growing)?;
        let data = growing.written;
        let name = name_of(data, &growing.table);
        let foot = Foot {
            magic: FOOT_MAGIC,
            version: PACK_VERSION.into(),
            chunks: u32::try_from(growing.table.len())
                .unwrap_or(u32::MAX)
                .into(),
            data: data.into(),
            reserved: [0; 8],
            name: *name.as_bytes(),
        };
        let tail = [growing.table.as_slice().as_bytes(), foot.as_bytes()].concat();
        let mut path = self.path.lock();
        self.disk
            .write_at(&self.file, &path, HEADER + data, &tail)?;
        self.disk.sync(&self.file, &path)?;
        let to = self.disk.file_in(PACKS, &file_name(name));
        self.disk.rename(&path, &to)?;
        *path = to;
        let table = std::mem::take(&mut growing.table);
        self.sealed.get_or_init(|| Sealed::new(table));
        Ok(*self.name.get_or_init(|| name))
    }

    /// Gives the digest and the place of a chunk by its number.
    pub(super) fn chunk(&self, number: u32) -> Result<Option<(Digest, u64, u32)>, StoreError> {
        Ok(self.sealed()?.and_then(|sealed| sealed.chunk(number)))
    }

    /// Gives the chunks of a sealed pack that a range touches: digest, start in
    /// the pack, bytes.
    pub(super) fn chunks_in(
        &self,
        offset: u64,
        len: u64,
    ) -> Result<Vec<(Digest, u64, u32)>, StoreError> {
        let Some(sealed) = self.sealed()? else {
            return Ok(Vec::new());
        };
        let first = sealed.chunk_at(offset).unwrap_or(u32::MAX);
        let chunks = (first..).map_while(|number| sealed.chunk(number));
        let within = chunks.take_while(|(_, start, _)| *start < offset.saturating_add(len));
        Ok(within.collect())
    }

    /// Fills `buf` from `offset` of the file on. Chunks of a sealed pack that
    /// have not been read before are held against their digests.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.disk.tell(buf.len());
        let Some(sealed) = self.sealed()? else {
            let mut growing = self.growing.lock();
            if !growing.pending.is_empty() {
                self.flush(&mut growing)?;
            }
            drop(growing);
            return self.raw(offset, buf);
        };
        let end = offset.checked_add(buf.len() as u64);
        if offset < HEADER || end.is_none_or(|end| end > sealed.end()) {
            let what = format!("no chunks at bytes {offset} to {}", end.unwrap_or(u64::MAX));
            return Err(StoreError::malformed(&self.path.lock(), what));
        }
        self.raw(offset, buf)?;
        self.check(sealed, offset, buf)
    }

    fn raw(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let read = self.disk.read_at(&self.file, Path::new(""), offset, buf);
        read.map_err(|error| self.named(error))
    }

    /// Puts the path into an error: it is not locked for every read.
    fn named(&self, error: StoreError) -> StoreError {
        let file = self.path.lock().clone();
        match error {
            StoreError::Io { action, error, .. } => StoreError::Io {
                action,
                path: file,
                error,
            },
            StoreError::Length {
                found, expected, ..
            } => StoreError::Length {
                file,
                found,
                expected,
            },
            other => other,
        }
    }

    /// Holds what was read against the digests of the chunks it is from, where
    /// that has not been done.
    fn check(&self, sealed: &Sealed, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let end = offset + buf.len() as u64;
        let mut number = sealed.chunk_at(offset);
        let mut whole = Vec::new();
        while let Some(at) = number {
            let Some((start, stop)) = sealed.span(at) else {
                break;
            };
            if start >= end {
                break;
            }
            if !sealed.held(at) {
                let (from, to) = (start.max(offset), stop.min(end));
                let shown = to_range(from - offset, to - offset);
                let part = buf.get_mut(shown).unwrap_or_default();
                if (from, to) == (start, stop) {
                    self.hold(sealed, at, part)?;
                } else {
                    whole.resize(usize::try_from(stop - start).unwrap_or(0), 0);
                    self.raw(start, &mut whole)?;
                    self.hold(sealed, at, &whole)?;
                    let same = whole.get(to_range(from - start, to - start));
                    part.copy_from_slice(same.unwrap_or_default());
                }
            }
            number = at.checked_add(1);
        }
        Ok(())
    }

    fn hold(&self, sealed: &Sealed, number: u32, bytes: &[u8]) -> Result<(), StoreError> {
        let found = Digest::of(bytes);
        let Some((expected, offset, _)) = sealed.chunk(number) else {
            return Ok(());
        };
        if found != expected {
            return Err(StoreError::Damaged {
                file: self.path.lock().clone(),
                offset,
                expected,
                found,
            });
        }
        sealed.set_held(number);
        Ok(())
    }

    /// Reads every chunk again and holds it against its digest. Gives their
    /// number and bytes, and what does not hold.
    pub(super) fn verify(&self) -> (u64, u64, Vec<StoreError>) {
        let (mut bytes, mut wrong) = (0, Vec::new());
        let sealed = match self.sealed() {
            Ok(Some(sealed)) => sealed,
            Ok(None) => return (0, 0, wrong),
            Err(error) => return (0, 0, vec![error]),
        };
        let mut buf = Vec::new();
        for (number, record) in (0..).zip(&sealed.table) {
            buf.resize(record.len.get() as usize, 0);
            let Some((start, _)) = sealed.span(number) else {
                break;
            };
            let held = self.raw(start, &mut buf);
            if let Err(error) = held.and_then(|()| self.hold(sealed, number, &buf)) {
                wrong.push(error);
            }
            bytes += u64::from(record.len.get());
        }
        (sealed.table.len() as u64, bytes, wrong)
    }
}

impl Sealed {
    fn new(table: Vec<ChunkRecord>) -> Self {
        let mut end = HEADER;
        let mut starts = Vec::with_capacity(table.len() + 1);
        starts.push(end);
        for record in &table {
            end += u64::from(record.len.get());
            starts.push(end);
        }
        Self {
            held: (0..table.len().div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
            table: table.into(),
            starts: starts.into(),
        }
    }

    fn chunk(&self, number: u32) -> Option<(Digest, u64, u32)> {
        let record = self.table.get(number as usize)?;
        let (start, _) = self.span(number)?;
        Some((Digest::from_bytes(record.digest), start, record.len.get()))
    }

    fn end(&self) -> u64 {
        self.starts.last().copied().unwrap_or(HEADER)
    }

    fn chunk_at(&self, offset: u64) -> Option<u32> {
        let after = self.starts.partition_point(|start| *start <= offset);
        u32::try_from(after.checked_sub(1)?).ok()
    }

    fn span(&self, number: u32) -> Option<(u64, u64)> {
        let number = number as usize;
        Some((*self.starts.get(number)?, *self.starts.get(number + 1)?))
    }

    fn held(&self, number: u32) -> bool {
        let word = self.held.get(number as usize / 64);
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (number % 64) & 1 == 1)
    }

    fn set_held(&self, number: u32) {
        if let Some(word) = self.held.get(number as usize / 64) {
            word.fetch_or(1 << (number % 64), Ordering::Release);
        }
    }
}

/// Reads the table of a pack and holds it against the pack's name.
pub(super) fn read_table(
    disk: &Disk,
    file: &File,
    path: &Path,
    name: Digest,
) -> Result<Vec<ChunkRecord>, StoreError> {
    let foot = read_foot(disk, file, path)?;
    // No more than the file has.
    let bytes = u64::from(foot.chunks.get()) * size_of::<ChunkRecord>() as u64;
    let mut table = vec![0; usize::try_from(bytes).unwrap_or(0)];
    disk.read_at(file, path, HEADER + foot.data.get(), &mut table)?;
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
fn read_foot(disk: &Disk, file: &File, path: &Path) -> Result<Foot, StoreError> {
    let len = disk.len(file, path)?;
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
    disk.read_at(file, path, 0, &mut start)?;
    let mut foot = [0; size_of::<Foot>()];
    disk.read_at(file, path, foot_at, &mut foot)?;
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

fn name_of(data: u64, table: &[ChunkRecord]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"stratafs pack 1\0");
    hasher.update(&data.to_le_bytes());
    hasher.update(table.as_bytes());
    hasher.finalize().into()
}

/// The name of a file that is named by a digest: its 64 hex digits.
pub(super) fn file_name(digest: Digest) -> String {
    let text = digest.to_string();
    text.split_once(':')
        .map_or(text.clone(), |(_, hex)| hex.to_owned())
}

fn to_range(start: u64, end: u64) -> std::ops::Range<usize> {
    let at = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
    at(start)..at(end)
}
