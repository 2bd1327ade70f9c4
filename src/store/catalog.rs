//! The catalog: tags, images, layers, packs and blobs, in one database file.
//!
//! It is opened for each operation, under a lock on a file beside it: shared to
//! read, exclusive to write. So several processes use one store, and none holds
//! it for longer than a look-up or a commit.
//!
//! A value begins with the digest of its key and itself, and one record holds
//! the sum of all those digests: damage to a record shows when it is read, and
//! damage that makes a record go missing shows before "there is none" is said.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, ReadOnlyDatabase, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use super::backend::Hooked;
use super::disk::Disk;
use crate::digest::Digest;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("stratafs");

/// The version that is written, and the only one that is read.
pub(super) const CATALOG_VERSION: u32 = 1;

/// The record with the version.
const VERSION: &[u8] = b"v";

/// The record with the sum of all others.
const SUM: &[u8] = b"s";

/// Bytes of the database that are kept in memory while it is open.
const CACHE: usize = 4 << 20;

/// What a record is of: the first byte of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Tag,
    Image,
    Layer,
    Pack,
    Blob,
}

impl Sort {
    fn byte(self) -> u8 {
        match self {
            Self::Tag => b't',
            Self::Image => b'i',
            Self::Layer => b'l',
            Self::Pack => b'p',
            Self::Blob => b'b',
        }
    }
}

/// Where the catalog is.
pub(super) struct Catalog {
    disk: Disk,
    path: PathBuf,
    lock: PathBuf,
}

/// A change of the catalog.
pub(super) enum Change {
    Put(Sort, Vec<u8>, Vec<u8>),
    Remove(Sort, Vec<u8>),
}

impl Change {
    /// Puts a record.
    pub(super) fn put(sort: Sort, key: &[u8], record: &impl Serialize) -> Result<Self, StoreError> {
        let value = serde_json::to_vec(record).map_err(StoreError::Record)?;
        Ok(Self::Put(sort, key.to_vec(), value))
    }
}

impl Catalog {
    pub(super) fn new(disk: &Disk) -> Self {
        Self {
            path: disk.path("catalog.redb"),
            lock: disk.path("catalog.lock"),
            disk: disk.clone(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn exists(&self) -> bool {
        self.path.is_file()
    }

    /// Makes the catalog, unless there is one.
    pub(super) fn create(&self) -> Result<(), StoreError> {
        let _lock = self.locked(true)?;
        if self.exists() {
            return Ok(());
        }
        let (file, tmp) = self.disk.create_tmp()?;
        self.guarded(|| {
            let database = Database::builder()
                .set_cache_size(CACHE)
                .create_with_backend(Hooked::new(FileBackend::new(file)?, &self.disk, &tmp))?;
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(TABLE)?;
                table.insert(VERSION, CATALOG_VERSION.to_le_bytes().as_slice())?;
                table.insert(SUM, [0; 32].as_slice())?;
            }
            write.commit()?;
            Ok(())
        })?;
        self.disk.rename(&tmp, &self.path)?;
        self.disk.sync_dir("")
    }

    /// Brings the catalog back to its last commit after a writer died.
    fn repair(&self) -> Result<(), StoreError> {
        let _lock = self.locked(true)?;
        self.guarded(|| self.writable().map(drop))
    }

    /// Reads records within one state of the catalog.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&View) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let lock = self.locked(false)?;
        let table = match self.guarded(|| self.readable()) {
            Ok(table) => table,
            // A writer died: the last commit is brought back.
            Err(StoreError::Catalog { .. }) => {
                drop(lock);
                self.repair()?;
                let _lock = self.locked(false)?;
                return work(&View {
                    catalog: self,
                    table: self.guarded(|| self.readable())?,
                });
            }
            Err(other) => return Err(other),
        };
        let read = work(&View {
            catalog: self,
            table,
        });
        drop(lock);
        read
    }

    /// Changes the catalog in one step that is durable once this returns.
    /// `decide` sees the state that is changed.
    pub(super) fn change<T>(
        &self,
        decide: impl FnOnce(&View) -> Result<(Vec<Change>, T), StoreError>,
    ) -> Result<T, StoreError> {
        let _lock = self.locked(true)?;
        if self.guarded(|| self.readable().map(drop)).is_err() {
            self.guarded(|| self.writable().map(drop))?;
        }
        let table = self.guarded(|| self.readable())?;
        let (changes, told) = decide(&View {
            catalog: self,
            table,
        })?;
        if changes.is_empty() {
            return Ok(told);
        }
        self.guarded(|| {
            let database = self.writable()?;
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(TABLE)?;
                let mut sum = table.get(SUM)?.map_or([0; 32], |sum| to_sum(sum.value()));
                for change in &changes {
                    let (sort, key) = match change {
                        Change::Put(sort, key, _) | Change::Remove(sort, key) => (sort, key),
                    };
                    let key = full_key(*sort, key);
                    if let Some(old) = table.remove(key.as_slice())? {
                        add(&mut sum, &check(&key, body(old.value())), u8::wrapping_sub);
                    }
                    if let Change::Put(_, _, value) = change {
                        let check = check(&key, value);
                        add(&mut sum, &check, u8::wrapping_add);
                        let value = [check.as_slice(), value].concat();
                        table.insert(key.as_slice(), value.as_slice())?;
                    }
                }
                table.insert(SUM, sum.as_slice())?;
            }
            write.commit()?;
            Ok(())
        })?;
        Ok(told)
    }

    fn locked(&self, exclusive: bool) -> Result<File, StoreError> {
        let file = self.disk.open_lock(&self.lock)?;
        let locked = if exclusive {
            file.lock()
        } else {
            file.lock_shared()
        };
        locked.map_err(StoreError::io("lock", &self.lock))?;
        Ok(file)
    }

    fn backend(&self, write: bool) -> Result<Hooked, redb::Error> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(write);
        let opened = self.disk.open_with(&self.path, &mut options);
        let file = opened.map_err(|error| match error {
            StoreError::Io { error, .. } => error,
            other => io::Error::other(other),
        })?;
        Ok(Hooked::new(FileBackend::new(file)?, &self.disk, &self.path))
    }

    fn writable(&self) -> Result<Database, redb::Error> {
        let mut builder = Database::builder();
        Ok(builder
            .set_cache_size(CACHE)
            .create_with_backend(self.backend(true)?)?)
    }

    fn readable(&self) -> Result<Table, redb::Error> {
        let database: ReadOnlyDatabase = Database::builder()
            .set_cache_size(CACHE)
            .open_read_only_with_backend(self.backend(false)?)?;
        let table = database.begin_read()?.open_table(TABLE)?;
        Ok(Table {
            table,
            _database: database,
        })
    }

    /// Runs work on the database. A damaged file makes it panic in places.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(done) => done.map_err(|error| StoreError::Catalog {
                file: self.path.clone(),
                error: Box::new(error),
            }),
            Err(_) => Err(StoreError::malformed(&self.path, "the database is damaged")),
        }
    }
}

struct Table {
    table: redb::ReadOnlyTable<&'static [u8], &'static [u8]>,
    _database: ReadOnlyDatabase,
}

/// A key and its value.
type Raw = (Vec<u8>, Vec<u8>);

/// One state of the catalog.
pub(super) struct View<'a> {
    catalog: &'a Catalog,
    table: Table,
}

impl View<'_> {
    /// Holds the version against the one that is known here.
    pub(super) fn check_version(&self) -> Result<(), StoreError> {
        let found = self.catalog.guarded(|| {
            let found = self.table.table.get(VERSION)?;
            Ok(found.and_then(|found| found.value().first_chunk().copied()))
        })?;
        match found.map(u32::from_le_bytes) {
            Some(CATALOG_VERSION) => Ok(()),
            found => Err(StoreError::Version {
                file: self.catalog.path.clone(),
                found: found.unwrap_or(0),
                supported: CATALOG_VERSION,
            }),
        }
    }

    /// Finds a record.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        sort: Sort,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let key = full_key(sort, key);
        let found = self.catalog.guarded(|| {
            let found = self.table.table.get(key.as_slice())?;
            Ok(found.map(|value| value.value().to_vec()))
        })?;
        match found {
            Some(value) => self.parse(&key, &value).map(Some),
            None => self.check_sum().map(|()| None),
        }
    }

    /// Lists the records of a sort by key.
    pub(super) fn all<T: DeserializeOwned>(
        &self,
        sort: Sort,
    ) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let all = self.raw()?;
        all.into_iter()
            .filter(|(key, _)| key.first() == Some(&sort.byte()))
            .map(|(key, value)| {
                let record = self.parse(&key, &value)?;
                Ok((key.get(1..).unwrap_or_default().to_vec(), record))
            })
            .collect()
    }

    /// Holds the sum of all records against what it should be.
    pub(super) fn check_sum(&self) -> Result<(), StoreError> {
        self.raw().map(drop)
    }

    /// Reads everything. A record that is damaged or gone is an error.
    fn raw(&self) -> Result<Vec<Raw>, StoreError> {
        let all: Vec<Raw> = self.catalog.guarded(|| {
            let mut all = Vec::new();
            for record in self.table.table.iter()? {
                let (key, value) = record?;
                all.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(all)
        })?;
        let (mut sum, mut expected) = ([0; 32], None);
        let mut records = Vec::with_capacity(all.len());
        for (key, value) in all {
            match key.as_slice() {
                SUM => expected = Some(to_sum(&value)),
                VERSION => {}
                _ => {
                    add(&mut sum, &check(&key, body(&value)), u8::wrapping_add);
                    records.push((key, value));
                }
            }
        }
        if expected != Some(sum) {
            let what = "records are damaged or missing: their sum is another";
            return Err(StoreError::malformed(&self.catalog.path, what));
        }
        Ok(records)
    }

    fn parse<T: DeserializeOwned>(&self, key: &[u8], value: &[u8]) -> Result<T, StoreError> {
        let name = || crate::name::show(key);
        let file = &self.catalog.path;
        if value.get(..32) != Some(check(key, body(value)).as_slice()) {
            let what = format!("the record {} is damaged", name());
            return Err(StoreError::malformed(file, what));
        }
        serde_json::from_slice(body(value))
            .map_err(|error| StoreError::malformed(file, format!("the record {}: {error}", name())))
    }
}

fn full_key(sort: Sort, key: &[u8]) -> Vec<u8> {
    [&[sort.byte()], key].concat()
}

fn check(key: &[u8], body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"stratafs record 1\0");
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(body);
    *Digest::from(hasher.finalize()).as_bytes()
}

fn body(value: &[u8]) -> &[u8] {
    value.get(32..).unwrap_or_default()
}

fn to_sum(value: &[u8]) -> [u8; 32] {
    value.first_chunk().copied().unwrap_or([0xff; 32])
}

fn add(sum: &mut [u8; 32], check: &[u8; 32], how: fn(u8, u8) -> u8) {
    for (sum, check) in sum.iter_mut().zip(check) {
        *sum = how(*sum, *check);
    }
}
