//! The catalog: tags, images, layers, packs and blobs, as a log of changes
//! that is held twice.
//!
//! `catalog.log` is what counts, `catalog.copy` has the same bytes. A change
//! is appended to the copy, made durable, then appended to the log, and made
//! durable: so the copy is at most one change ahead. A change that the copy has
//! as a whole and the log has not is taken for done, by readers and by the next
//! writer alike. What fails, for want of room say, is cut off again, which
//! needs no room. Nothing that is written ever has to be repaired to be read.
//!
//! The log is read once for each process, under a lock on a file beside it:
//! shared to read, exclusive to write. After that only what was appended is.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::disk::Disk;
use super::identity::MARKER;
use super::log::{HEAD, Head, HeadError, LogState, StoreId};
use super::{StoreError, legacy};

pub(super) const LOG: &str = "catalog.log";
pub(super) const COPY: &str = "catalog.copy";
pub(super) const LOCK: &str = "catalog.lock";

/// The catalog of version 1; in a later store, what keeps programs out that
/// know only that.
pub(super) const OLD: &str = "catalog.redb";

/// Room that is kept for removals on a full disk.
pub(super) const RESERVE: &str = "reserve";
const RESERVE_BYTES: u64 = 256 << 10;

/// The kind of a record, and the first byte of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Tag,
    Image,
    Layer,
    Pack,
    Blob,
}

impl RecordKind {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Tag => b't',
            Self::Image => b'i',
            Self::Layer => b'l',
            Self::Pack => b'p',
            Self::Blob => b'b',
        }
    }
}

/// The catalog of one store.
///
/// `cached` is the log as this process read it last, protected by its mutex, and is
/// only ever replaced by a later state of the same log. The files are protected by a
/// lock on `lock`, which every reader takes shared and every writer exclusively.
pub(super) struct Catalog {
    disk: Disk,
    log: PathBuf,
    copy: PathBuf,
    lock: PathBuf,
    /// Whether the store was of version 1 when it was looked at last.
    old: AtomicBool,
    cached: Mutex<Option<Arc<LogState>>>,
}

/// A change of the catalog.
pub(super) enum CatalogChange {
    Put(RecordKind, Vec<u8>, Vec<u8>),
    Remove(RecordKind, Vec<u8>),
}

impl CatalogChange {
    /// Puts a record.
    pub(super) fn put(
        kind: RecordKind,
        key: &[u8],
        record: &impl Serialize,
    ) -> Result<Self, StoreError> {
        let value = serde_json::to_vec(record).map_err(StoreError::Record)?;
        Ok(Self::Put(kind, key.to_vec(), value))
    }

    /// Returns the key, its kind first, and the value if the record is put.
    pub(super) fn record(&self) -> (Vec<u8>, Option<&[u8]>) {
        match self {
            Self::Put(kind, key, value) => (full_key(*kind, key), Some(value)),
            Self::Remove(kind, key) => (full_key(*kind, key), None),
        }
    }
}

/// The log as it is on disk.
struct Loaded {
    state: Arc<LogState>,
    /// Where the whole batches of the log itself end, and the file.
    clean: u64,
    len: u64,
    /// The batch that only the copy has.
    pending: Vec<u8>,
}

impl Catalog {
    pub(super) fn new(disk: &Disk, old: bool) -> Self {
        Self {
            log: disk.path(LOG),
            copy: disk.path(COPY),
            lock: disk.path(LOCK),
            disk: disk.clone(),
            old: AtomicBool::new(old),
            cached: Mutex::default(),
        }
    }

    /// Returns the file that messages name.
    pub(super) fn path(&self) -> &Path {
        &self.log
    }

    /// Reads records within one state of the catalog. Writes nothing.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&CatalogView) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _lock = self.disk.lock_shared(&self.lock)?;
        self.read_locked(work)
    }

    /// Reads records under a lock that the caller has.
    pub(super) fn read_locked<T>(
        &self,
        work: impl FnOnce(&CatalogView) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let state = self.load()?.state;
        work(&CatalogView {
            catalog: self,
            state: &state,
        })
    }

    /// Returns the identity of the store, if it has one.
    pub(super) fn id(&self) -> Result<Option<StoreId>, StoreError> {
        self.read(|view| Ok(view.state.head.id))
            .map(|id| (!self.is_old()).then_some(id))
    }

    /// Changes the catalog in one step that is durable once this returns.
    /// `decide` sees the state that is changed. A change that only removes
    /// takes the room that is kept for it if the disk is full.
    pub(super) fn change<T>(
        &self,
        decide: impl FnOnce(&CatalogView) -> Result<(Vec<CatalogChange>, T), StoreError>,
    ) -> Result<T, StoreError> {
        let _lock = self.lock_exclusive()?;
        let loaded = self.load()?;
        let (changes, answer) = decide(&CatalogView {
            catalog: self,
            state: &loaded.state,
        })?;
        if changes.is_empty() {
            return Ok(answer);
        }
        let removes = changes
            .iter()
            .all(|change| matches!(change, CatalogChange::Remove(..)));
        match self.append(&loaded, &changes) {
            Err(error) if removes && error.is_full() => {
                self.disk.remove(&self.disk.path(RESERVE))?;
                self.append(&self.load()?, &changes)?;
            }
            done => done?,
        }
        self.keep_reserve();
        Ok(answer)
    }

    /// Keeps room for removals, as far as there is some: nothing that was
    /// asked for depends on it.
    pub(super) fn keep_reserve(&self) {
        let path = self.disk.path(RESERVE);
        let have = path.symlink_metadata();
        if have.is_ok_and(|meta| meta.len() >= RESERVE_BYTES) {
            return;
        }
        // Not zeros: those may take no room.
        let bytes = vec![b'r'; usize::try_from(RESERVE_BYTES).unwrap_or_default()];
        let made = self.disk.open_or_make(&path);
        drop(made.and_then(|file| self.disk.write_at(&file, &path, 0, &bytes)));
    }

    /// Locks the catalog exclusively: others neither read nor change it.
    pub(super) fn lock_exclusive(&self) -> Result<File, StoreError> {
        let file = self.disk.open_lock(&self.lock)?;
        file.lock().map_err(StoreError::io("lock", &self.lock))?;
        Ok(file)
    }

    pub(super) fn is_old(&self) -> bool {
        // Another process may have marked it meanwhile.
        if self.old.load(Ordering::Relaxed) && self.disk.is_file(&self.disk.path(MARKER)) {
            self.old.store(false, Ordering::Relaxed);
        }
        self.old.load(Ordering::Relaxed)
    }

    /// Reads what the log says, under a lock.
    fn load(&self) -> Result<Loaded, StoreError> {
        if self.is_old() {
            return self.load_old();
        }
        let file = self.disk.open(&self.log).map_err(|error| match error {
            StoreError::Io { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                StoreError::no_catalog(&self.log, "it is missing")
            }
            other => other,
        })?;
        let len = self.disk.len(&file, &self.log)?;
        let read = |from: u64, to: u64| {
            let len = usize::try_from(to.saturating_sub(from));
            let mut bytes = vec![0; len.map_err(|_| StoreError::too_long(usize::MAX))?];
            self.disk.read_at(&file, &self.log, from, &mut bytes)?;
            Ok::<_, StoreError>(bytes)
        };
        let head = self.head(&read(0, len.min(HEAD as u64))?)?;
        let mut state = match self.cached.lock().clone() {
            Some(known)
                if known.head == head && known.end <= len && {
                    let last = read(known.end - 32, known.end)?;
                    // Of a log without a batch there is nothing but the head.
                    known.end == HEAD as u64 || last == known.last.as_bytes()
                } =>
            {
                known
            }
            _ => Arc::new(LogState::new(head)),
        };
        if state.end < len {
            let rest = read(state.end, len)?;
            Arc::make_mut(&mut state).take_all(&rest);
        }
        let clean = state.end;
        let mut loaded = Loaded {
            state,
            clean,
            len,
            pending: Vec::new(),
        };
        let copy = self.copy.symlink_metadata().map_or(0, |meta| meta.len());
        if clean < len || copy > len {
            self.take_pending(&mut loaded)?;
        } else {
            *self.cached.lock() = Some(Arc::clone(&loaded.state));
        }
        Ok(loaded)
    }

    fn head(&self, bytes: &[u8]) -> Result<Head, StoreError> {
        Head::decode(bytes).map_err(|why| match why {
            HeadError::Damaged => StoreError::no_catalog(&self.log, "its head is damaged"),
            HeadError::Version(found) => StoreError::Version {
                file: self.log.clone(),
                found,
                supported: 1,
            },
        })
    }

    fn load_old(&self) -> Result<Loaded, StoreError> {
        let mut state = LogState::new(Head {
            generation: 0,
            id: StoreId([0; 16]),
        });
        state.records = legacy::read(&self.disk, &self.disk.path(OLD))?;
        let end = state.end;
        Ok(Loaded {
            state: Arc::new(state),
            clean: end,
            len: end,
            pending: Vec::new(),
        })
    }

    /// Takes in the one batch that the copy may have and the log does not.
    ///
    /// A writer appends to the copy first, so a writer that was interrupted leaves
    /// the copy at most one batch ahead. Whatever else the copy has is damage.
    fn take_pending(&self, loaded: &mut Loaded) -> Result<(), StoreError> {
        let torn = loaded.clean < loaded.len;
        let damaged = |what: &str| {
            let what = format!("{what} from byte {} on", loaded.clean);
            Err(StoreError::no_catalog(&self.log, what))
        };
        let bytes = match self.disk.read(&self.copy) {
            Ok(bytes) => bytes,
            Err(_) if torn => return damaged("it is damaged"),
            // The log is whole by itself.
            Err(_) => return Ok(()),
        };
        let (ends, rest) = self.batches_after(&loaded.state, &bytes);
        match (ends, torn) {
            (None | Some(0), true) => damaged("it is damaged"),
            (None | Some(0), false) => Ok(()),
            (Some(1), _) => {
                let state = Arc::make_mut(&mut loaded.state);
                let len = state.take(rest).unwrap_or(0);
                // Whoever was interrupted had written no more than this.
                if len < rest.len() || loaded.len > state.end {
                    return damaged("it is damaged");
                }
                loaded.pending = rest.to_vec();
                Ok(())
            }
            (Some(_), _) => damaged("changes are missing"),
        }
    }

    /// Returns how many batches of a copy of the log follow the end of `state`, and
    /// their bytes; `None` if the copy does not begin with the batches of `state`.
    fn batches_after<'a>(&self, state: &LogState, copy: &'a [u8]) -> (Option<usize>, &'a [u8]) {
        let mut other = LogState::new(state.head);
        if Head::decode(copy) != Ok(state.head) {
            return (None, &[]);
        }
        let mut rest = copy.get(HEAD..).unwrap_or_default();
        while other.end < state.end {
            let Some(len) = other.take(rest) else {
                return (None, &[]);
            };
            rest = rest.get(len..).unwrap_or_default();
        }
        match (other.end, other.last) == (state.end, state.last) {
            true => (Some(other.take_all(rest)), rest),
            false => (None, &[]),
        }
    }

    /// Brings both files to what was loaded, then appends a change to each.
    ///
    /// The caller holds the exclusive lock, and `loaded` was read under it.
    fn append(&self, loaded: &Loaded, changes: &[CatalogChange]) -> Result<(), StoreError> {
        if self.is_old() {
            return Err(StoreError::Broken("a store of version 1 was to be changed"));
        }
        self.make_equal(loaded)?;
        let mut state = Arc::clone(&loaded.state);
        if state.is_mostly_stale() {
            state = self.compact(&state)?;
        }
        let bytes = state.next(changes)?;
        let done = self
            .append_to(&self.copy, state.end, &bytes)
            .and_then(|()| self.append_to(&self.log, state.end, &bytes));
        if let Err(error) = done {
            // Cut off again, the log first. If that fails too, the next one
            // who changes the catalog finds what is there.
            let cut = self.cut(&self.log, state.end);
            drop(cut.and_then(|()| self.cut(&self.copy, state.end)));
            return Err(error);
        }
        Arc::make_mut(&mut state).take_all(&bytes);
        *self.cached.lock() = Some(state);
        Ok(())
    }

    /// Makes log and copy whole and the same, and their names durable.
    fn make_equal(&self, loaded: &Loaded) -> Result<(), StoreError> {
        let state = &loaded.state;
        if loaded.clean < loaded.len {
            self.cut(&self.log, loaded.clean)?;
        }
        if !loaded.pending.is_empty() {
            self.append_to(&self.log, loaded.clean, &loaded.pending)?;
        }
        if !self.copy_matches(state)? {
            let bytes = self.disk.read(&self.log)?;
            self.disk.put("", COPY, &bytes)?;
        }
        self.disk.sync_dir("")
    }

    /// Returns whether the copy has the same bytes as the log, as far as its length,
    /// head and last batch show. What follows is cut off.
    fn copy_matches(&self, state: &LogState) -> Result<bool, StoreError> {
        if !self.disk.is_file(&self.copy) {
            return Ok(false);
        }
        let file = self.disk.open(&self.copy)?;
        let len = self.disk.len(&file, &self.copy)?;
        if len < state.end {
            return Ok(false);
        }
        let mut head = [0; HEAD];
        self.disk.read_at(&file, &self.copy, 0, &mut head)?;
        let mut last = [0; 32];
        let at = state.end - last.len() as u64;
        self.disk.read_at(&file, &self.copy, at, &mut last)?;
        let same = state.end == HEAD as u64 || &last == state.last.as_bytes();
        if head.as_slice() != state.head.encode() || !same {
            return Ok(false);
        }
        if len > state.end {
            self.cut(&self.copy, state.end)?;
        }
        Ok(true)
    }

    /// Writes both files anew. Where there is no room the log stays as it is.
    fn compact(&self, state: &Arc<LogState>) -> Result<Arc<LogState>, StoreError> {
        let (anew, bytes) = state.rewritten()?;
        match self.put_both(&bytes) {
            Ok(()) => Ok(Arc::new(anew)),
            Err(error) if error.is_full() => {
                // One of the two may be new.
                let loaded = self.load()?;
                self.make_equal(&loaded)?;
                Ok(loaded.state)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes both files: the copy, then the log.
    pub(super) fn put_both(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.disk.put("", COPY, bytes)?;
        self.disk.sync_dir("")?;
        self.disk.put("", LOG, bytes)?;
        self.disk.sync_dir("")
    }

    fn append_to(&self, path: &Path, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let file = self.disk.open_to_write(path)?;
        self.disk.write_at(&file, path, at, bytes)?;
        self.disk.sync(&file, path)
    }

    fn cut(&self, path: &Path, len: u64) -> Result<(), StoreError> {
        let file = self.disk.open_to_write(path)?;
        if self.disk.len(&file, path)? > len {
            self.disk.set_len(&file, path, len)?;
            self.disk.sync(&file, path)?;
        }
        Ok(())
    }

    /// Reads log and copy again and holds one against the other.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.is_old() {
            return self.load_old().map(drop);
        }
        let _lock = self.disk.lock_shared(&self.lock)?;
        *self.cached.lock() = None;
        let loaded = self.load()?;
        let bytes = self.disk.read(&self.copy);
        let found = bytes.map(|bytes| self.batches_after(&loaded.state, &bytes).0.is_some());
        match found {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::no_catalog(&self.copy, "it is damaged")),
            Err(error) if error.is_damage() => {
                Err(StoreError::no_catalog(&self.copy, "it is missing"))
            }
            Err(error) => Err(error),
        }
    }
}

/// One state of the catalog.
pub(super) struct CatalogView<'a> {
    catalog: &'a Catalog,
    state: &'a LogState,
}

impl CatalogView<'_> {
    /// Finds a record.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        kind: RecordKind,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let key = full_key(kind, key);
        let found = self.state.records.get(&key);
        found.map(|value| self.parse(&key, value)).transpose()
    }

    /// Returns the records of a kind in the order of their keys.
    pub(super) fn all<T: DeserializeOwned>(
        &self,
        kind: RecordKind,
    ) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let (from, to) = (vec![kind.byte()], vec![kind.byte() + 1]);
        let all = self.state.records.range(from..to);
        all.map(|(key, value)| {
            let record = self.parse(key, value)?;
            Ok((key.get(1..).unwrap_or_default().to_vec(), record))
        })
        .collect()
    }

    /// Returns the keys of a kind in order. O(keys); no record is parsed.
    pub(super) fn keys(&self, kind: RecordKind) -> impl Iterator<Item = &[u8]> {
        let (from, to) = (vec![kind.byte()], vec![kind.byte() + 1]);
        let all = self.state.records.range(from..to);
        all.map(|(key, _)| key.get(1..).unwrap_or_default())
    }

    fn parse<T: DeserializeOwned>(&self, key: &[u8], value: &[u8]) -> Result<T, StoreError> {
        let name = || crate::name::show(key);
        let file = &self.catalog.log;
        serde_json::from_slice(value)
            .map_err(|error| StoreError::malformed(file, format!("the record {}: {error}", name())))
    }
}

fn full_key(kind: RecordKind, key: &[u8]) -> Vec<u8> {
    [&[kind.byte()], key].concat()
}
