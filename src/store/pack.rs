//! Packs: files of chunks, one after the other, only ever appended to.
//!
//! A pack that is being written has no table yet and lies in `tmp`; sealed, it
//! is with_path by the digest of its table, so a chunk that holds against its entry
//! is the one that was written. The only thing that is ever written into a
//! sealed pack is a chunk that was found damaged: over its own place, the bytes
//! that its digest names.
//!
//! Reading is a positioned read, not a mapping: the page cache is shared by all
//! processes either way, nothing is resident that is not asked for, and a file
//! that somebody cuts short gives an error. Only once a store has many packs
//! open are further ones mapped, so that they need no descriptor.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::StoreError;
use super::codec::count;
use super::disk::{Disk, PACKS, TmpName};
use super::fetcher::Fetcher;
use super::lazy_pack::LazyPack;
use super::map::{self, Mapped};
use super::pack_absent::{HostFileId, file_id};
use super::pack_table::{ChunkRecord, HEADER, PackTable, check_frame, header, read_table, tail};
use super::packs::PackDescriptor;
use crate::digest::Digest;

/// Bytes that are gathered before they are written.
const GATHERED: usize = 1 << 20;

/// A pack, open for reading; while it has no name yet, for appending too.
pub(super) struct Pack {
    pub(super) disk: Disk,
    source: PackBytes,
    pub(super) path: Mutex<PathBuf>,
    /// What is not sealed yet.
    unsealed: Mutex<Unsealed>,
    name: OnceLock<Digest>,
    /// Of one with a name: read when it is first needed.
    table: OnceLock<PackTable>,
    /// Who brings what is not here; nobody for one that is open for a short while.
    pub(super) fetcher: Option<Arc<Fetcher>>,
    /// Where chunks come from that are not here: looked for when one does not hold.
    pub(super) lazy: OnceLock<Option<Arc<LazyPack>>>,
    /// The file that was opened, as the system numbers it.
    pub(super) file_id: Option<HostFileId>,
}

/// Where the bytes come from.
enum PackBytes {
    /// A file, and the descriptor counted if the pack has a name.
    File(
        File,
        #[expect(dead_code, reason = "held until it is dropped")] Option<PackDescriptor>,
    ),
    Mapped(Mapped),
}

#[derive(Default)]
struct Unsealed {
    /// The file's name until the pack has one: let go with it, the file is removed.
    tmp: Option<TmpName>,
    /// Bytes of chunks in the file.
    written: u64,
    /// What follows them.
    pending: Vec<u8>,
    table: Vec<ChunkRecord>,
}

/// What [`Pack::heal`] found in the pack, and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealOutcome {
    /// The pack has these bytes.
    WasRight,
    /// The pack had others, and has these now.
    Healed,
    /// The pack has others, and cannot be written.
    StaysWrong,
}

/// What reading a whole pack found.
#[derive(Default)]
pub(super) struct PackReport {
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    pub(super) wrong: Vec<StoreError>,
    /// Chunks that are not here, of a pack that may lack some.
    pub(super) absent_chunks: u64,
    pub(super) absent_bytes: u64,
}

impl Pack {
    /// Starts a pack.
    pub(super) fn create(disk: &Disk) -> Result<Self, StoreError> {
        let (file, tmp) = disk.create_tmp()?;
        disk.write_at(&file, &tmp.path, 0, &header())?;
        Ok(Self {
            disk: disk.clone(),
            source: PackBytes::File(file, None),
            path: Mutex::new(tmp.path.clone()),
            unsealed: Mutex::new(Unsealed {
                tmp: Some(tmp),
                ..Unsealed::default()
            }),
            name: OnceLock::new(),
            table: OnceLock::new(),
            fetcher: None,
            lazy: OnceLock::new(),
            file_id: None,
        })
    }

    /// Opens a sealed pack by its name. Nothing is read yet. Without a
    /// descriptor to keep, the file is mapped.
    pub(super) fn open(
        disk: &Disk,
        name: Digest,
        descriptor: Option<PackDescriptor>,
    ) -> Result<Self, StoreError> {
        let path = disk.file_in(PACKS, &file_name(name));
        let file = disk.open(&path)?;
        let file_id = file.metadata().ok().and_then(|meta| file_id(&meta));
        let source = match descriptor {
            Some(_) => PackBytes::File(file, descriptor),
            None => match map::map(&file) {
                Ok(mapped) => PackBytes::Mapped(mapped),
                // No room among the addresses, or a file system that does not
                // map: the descriptor is kept after all.
                Err(_) => PackBytes::File(file, None),
            },
        };
        Ok(Self {
            file_id,
            ..Self::of(disk, source, path, name)
        })
    }

    /// Opens a sealed pack for a short while.
    pub(super) fn open_once(disk: &Disk, name: Digest) -> Result<Self, StoreError> {
        let path = disk.file_in(PACKS, &file_name(name));
        let source = PackBytes::File(disk.open(&path)?, None);
        Ok(Self::of(disk, source, path, name))
    }

    fn of(disk: &Disk, source: PackBytes, path: PathBuf, name: Digest) -> Self {
        Self {
            disk: disk.clone(),
            source,
            path: Mutex::new(path),
            unsealed: Mutex::default(),
            name: OnceLock::from(name),
            table: OnceLock::new(),
            fetcher: None,
            lazy: OnceLock::new(),
            file_id: None,
        }
    }

    /// Lets what is not here be brought.
    pub(super) fn fetched_by(self, fetcher: &Arc<Fetcher>) -> Self {
        Self {
            fetcher: Some(Arc::clone(fetcher)),
            ..self
        }
    }

    /// Returns the name, once it has one.
    pub(super) fn name(&self) -> Option<Digest> {
        self.name.get().copied()
    }

    /// Returns the table of a pack with a name, held against that; `None` while
    /// it has none.
    pub(super) fn table(&self) -> Result<Option<&PackTable>, StoreError> {
        if let Some(table) = self.table.get() {
            return Ok(Some(table));
        }
        let Some(name) = self.name() else {
            return Ok(None);
        };
        let path = self.path.lock().clone();
        let read = |offset, buf: &mut [u8]| self.raw(offset, buf);
        let records = read_table(&path, self.len(&path)?, name, &read)?;
        Ok(Some(self.table.get_or_init(|| PackTable::new(records))))
    }

    fn len(&self, path: &Path) -> Result<u64, StoreError> {
        match &self.source {
            PackBytes::File(file, _) => self.disk.len(file, path),
            PackBytes::Mapped(mapped) => Ok(mapped.bytes.len() as u64),
        }
    }

    /// Appends a chunk. Returns its number and where it lies.
    pub(super) fn append(&self, digest: Digest, bytes: &[u8]) -> Result<(u32, u64), StoreError> {
        let mut unsealed = self.unsealed.lock();
        let offset = HEADER + unsealed.written + unsealed.pending.len() as u64;
        let number = count(unsealed.table.len(), "chunks of a pack")?;
        let len = count(bytes.len(), "bytes of a chunk")?;
        unsealed.pending.extend_from_slice(bytes);
        unsealed.table.push(ChunkRecord {
            len: len.into(),
            digest: *digest.as_bytes(),
        });
        if unsealed.pending.len() >= GATHERED {
            self.flush(&mut unsealed)?;
        }
        Ok((number, offset))
    }

    fn flush(&self, unsealed: &mut Unsealed) -> Result<(), StoreError> {
        let PackBytes::File(file, _) = &self.source else {
            return Ok(());
        };
        let at = HEADER + unsealed.written;
        let path = self.path.lock();
        self.disk.write_at(file, &path, at, &unsealed.pending)?;
        unsealed.written += unsealed.pending.len() as u64;
        unsealed.pending.clear();
        Ok(())
    }

    /// Counts the bytes of the chunks so far.
    pub(super) fn data_bytes(&self) -> Result<u64, StoreError> {
        Ok(match self.table()? {
            Some(table) => table.end() - HEADER,
            None => {
                let unsealed = self.unsealed.lock();
                unsealed.written + unsealed.pending.len() as u64
            }
        })
    }

    /// Ends the pack: writes its table, makes it durable, renames it to its name.
    /// The caller syncs the directory.
    pub(super) fn seal(&self) -> Result<Digest, StoreError> {
        let PackBytes::File(file, _) = &self.source else {
            return Err(StoreError::malformed(
                &self.path.lock(),
                "a mapped pack cannot be written",
            ));
        };
        let mut unsealed = self.unsealed.lock();
        self.flush(&mut unsealed)?;
        let data = unsealed.written;
        let (tail, name) = tail(data, &unsealed.table)?;
        let mut path = self.path.lock();
        self.disk.write_at(file, &path, HEADER + data, &tail)?;
        self.disk.sync(file, &path)?;
        let to = self.disk.file_in(PACKS, &file_name(name));
        if let Some(tmp) = unsealed.tmp.take() {
            tmp.rename(&to)?;
        }
        *path = to;
        let records = std::mem::take(&mut unsealed.table);
        self.table.get_or_init(|| PackTable::new(records));
        Ok(*self.name.get_or_init(|| name))
    }

    /// Returns the digest and the place of a chunk by its number.
    pub(super) fn chunk(&self, number: u32) -> Result<Option<(Digest, u64, u32)>, StoreError> {
        Ok(self.table()?.and_then(|table| table.chunk(number)))
    }

    /// Returns the chunks of a sealed pack that a range touches: digest, start in
    /// the pack, bytes.
    pub(super) fn chunks_in(
        &self,
        offset: u64,
        len: u64,
    ) -> Result<Vec<(Digest, u64, u32)>, StoreError> {
        let Some(table) = self.table()? else {
            return Ok(Vec::new());
        };
        let Some(first) = table.chunk_at(offset) else {
            return Ok(Vec::new());
        };
        let chunks = (first..).map_while(|number| table.chunk(number));
        let within = chunks.take_while(|(_, start, _)| *start < offset.saturating_add(len));
        Ok(within.collect())
    }

    /// Fills `buf` from `offset` of the file on. Chunks of a sealed pack that
    /// have not been read before are held against their digests.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.disk.report_read(buf.len());
        let Some(table) = self.table()? else {
            let mut unsealed = self.unsealed.lock();
            if !unsealed.pending.is_empty() {
                self.flush(&mut unsealed)?;
            }
            drop(unsealed);
            return self.raw(offset, buf);
        };
        let end = offset.checked_add(buf.len() as u64);
        if offset < HEADER || end.is_none_or(|end| end > table.end()) {
            let what = format!(
                "bytes {offset} to {} were asked for, chunks are at {HEADER} to {}",
                end.unwrap_or(u64::MAX),
                table.end()
            );
            return Err(StoreError::malformed(&self.path.lock(), what));
        }
        let end = end.unwrap_or(u64::MAX);
        loop {
            // Found out before the bytes are read: a chunk that comes in between, and that
            // another thread finds right then, is not what was read here.
            let unverified = table.unverified(offset, end);
            self.raw(offset, buf)?;
            match self.check(table, offset, buf, &unverified) {
                Err(StoreError::Damaged { offset, .. }) if self.has_come(table, offset)? => {}
                Err(error) => return Err(self.missing(table, end, error)),
                Ok(()) => return Ok(()),
            }
        }
    }

    pub(super) fn raw(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let read = match &self.source {
            PackBytes::File(file, _) => self.disk.read_at(file, Path::new(""), offset, buf),
            PackBytes::Mapped(mapped) => self.copy(mapped, offset, buf),
        };
        read.map_err(|error| self.with_path(error))
    }

    /// Copies out of a mapping. What was cut off reads as zeros, and is an error.
    fn copy(&self, mapped: &Mapped, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let step = self.disk.step("read", Path::new(""));
        step.map_err(StoreError::io("read", Path::new("")))?;
        let end = offset.saturating_add(buf.len() as u64);
        let bytes = mapped.bytes.get(to_range(offset, end));
        if let Some(bytes) = bytes {
            buf.copy_from_slice(bytes);
            if !mapped.cut.load(Ordering::Acquire) {
                return Ok(());
            }
        }
        let path = self.path.lock();
        Err(StoreError::Length {
            file: path.clone(),
            found: std::fs::metadata(&*path).map_or(0, |meta| meta.len()),
            expected: end,
        })
    }

    /// Puts the path into an error. Reads leave it out, so that they need not lock it.
    fn with_path(&self, error: StoreError) -> StoreError {
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

    /// Verifies the chunks of a range that were not verified before it was read. `buf` holds
    /// the bytes from `offset` on, and gets them again where a chunk had to be read as a whole.
    fn check(
        &self,
        table: &PackTable,
        offset: u64,
        buf: &mut [u8],
        unverified: &[u32],
    ) -> Result<(), StoreError> {
        let end = offset + buf.len() as u64;
        let mut whole = Vec::new();
        for number in unverified {
            let Some((start, stop)) = table.span(*number) else {
                break;
            };
            let (from, to) = (start.max(offset), stop.min(end));
            let shown = to_range(from - offset, to - offset);
            let part = buf.get_mut(shown).unwrap_or_default();
            if (from, to) == (start, stop) {
                self.verify_chunk(table, *number, part)?;
            } else {
                whole.resize(usize::try_from(stop - start).unwrap_or(0), 0);
                self.raw(start, &mut whole)?;
                self.verify_chunk(table, *number, &whole)?;
                let same = whole.get(to_range(from - start, to - start));
                part.copy_from_slice(same.unwrap_or_default());
            }
        }
        Ok(())
    }

    pub(super) fn verify_chunk(
        &self,
        table: &PackTable,
        number: u32,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let found = Digest::of(bytes);
        let Some((expected, offset, _)) = table.chunk(number) else {
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
        table.set_verified(number);
        Ok(())
    }

    /// Makes sure that a chunk has `bytes`, which are those of its digest: the
    /// first time in a process it is read and compared. Where it has others,
    /// they are written over it; the caller makes that durable.
    pub(super) fn heal(&self, number: u32, bytes: &[u8]) -> Result<HealOutcome, StoreError> {
        let Some(table) = self.table()? else {
            return Ok(HealOutcome::WasRight);
        };
        if table.is_verified(number) {
            return Ok(HealOutcome::WasRight);
        }
        let Some((_, offset, _)) = table.chunk(number) else {
            return Ok(HealOutcome::StaysWrong);
        };
        if self.has(offset, bytes)? {
            table.set_verified(number);
            return Ok(HealOutcome::WasRight);
        }
        match self.overwrite(offset, bytes) {
            Err(StoreError::Io { .. } | StoreError::NotAFile { .. }) => {
                return Ok(HealOutcome::StaysWrong);
            }
            written => written?,
        }
        if !self.has(offset, bytes)? {
            return Ok(HealOutcome::StaysWrong);
        }
        table.set_verified(number);
        Ok(HealOutcome::Healed)
    }

    /// Returns whether the file has these bytes there. A place that cannot be
    /// read for damage of the medium has not.
    fn has(&self, offset: u64, bytes: &[u8]) -> Result<bool, StoreError> {
        let mut found = vec![0; bytes.len()];
        match self.raw(offset, &mut found) {
            Ok(()) => Ok(found == bytes),
            Err(error) if error.is_damage() || error.is_medium() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn overwrite(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path.lock();
        let mut options = OpenOptions::new();
        let file = self.disk.open_with(&path, options.read(true).write(true))?;
        self.disk.write_at(&file, &path, offset, bytes)
    }

    /// Reads the whole file again: every chunk is held against its digest, and
    /// header, table and foot against what belongs there.
    pub(super) fn verify(&self) -> PackReport {
        let mut report = PackReport::default();
        let table = match self.table() {
            Ok(Some(table)) => table,
            Ok(None) => return report,
            Err(error) => {
                report.wrong.push(error);
                return report;
            }
        };
        let path = self.path.lock().clone();
        let read = |offset, buf: &mut [u8]| self.raw(offset, buf);
        report.wrong.extend(check_frame(&path, table, &read).err());
        let mut buf = Vec::new();
        for (number, record) in (0..).zip(&table.records) {
            buf.resize(record.len.get() as usize, 0);
            let Some((start, _)) = table.span(number) else {
                break;
            };
            let held = self.raw(start, &mut buf);
            let held = held.and_then(|()| self.verify_chunk(table, number, &buf));
            match held {
                Err(StoreError::Damaged { .. }) if self.lazy().is_some() => {
                    report.absent_chunks += 1;
                    report.absent_bytes += u64::from(record.len.get());
                    continue;
                }
                held => report.wrong.extend(held.err()),
            }
            report.chunks += 1;
            report.bytes += u64::from(record.len.get());
        }
        report
    }
}

/// Reads the table of a pack that is not kept open.
pub(super) fn table_of(disk: &Disk, name: Digest) -> Result<Vec<ChunkRecord>, StoreError> {
    let path = disk.file_in(PACKS, &file_name(name));
    let file = disk.open(&path)?;
    let len = disk.len(&file, &path)?;
    read_table(&path, len, name, &|offset, buf| {
        disk.read_at(&file, &path, offset, buf)
    })
}

/// Makes durable what was written over damaged chunks of a pack.
pub(super) fn sync_pack(disk: &Disk, name: Digest) -> Result<(), StoreError> {
    let path = disk.file_in(PACKS, &file_name(name));
    let mut options = OpenOptions::new();
    let file = disk.open_with(&path, options.read(true).write(true))?;
    disk.sync(&file, &path)
}

/// The name of a file that is with_path by a digest: its 64 hex digits.
pub(super) fn file_name(digest: Digest) -> String {
    let text = digest.to_string();
    text.split_once(':')
        .map_or(text.clone(), |(_, hex)| hex.to_owned())
}

fn to_range(start: u64, end: u64) -> std::ops::Range<usize> {
    let at = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
    at(start)..at(end)
}
