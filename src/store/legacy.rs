//! The catalog of version 1: a redb database, read as a copy in memory. The
//! file is never written, so one whose last writer died is read as it is, and
//! the database brings the copy back to its last commit.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::StoreError;
use super::disk::Disk;
use super::log::RecordMap;
use crate::digest::Digest;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("stratafs");

/// The only version that such a catalog can have.
const CATALOG_VERSION: u32 = 1;

/// The record with the version.
const VERSION: &[u8] = b"v";

/// The record with the sum of all others.
const SUM: &[u8] = b"s";

/// How such a file begins.
pub(super) const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether a panic of this thread is caught and becomes an error: the
/// database panics on some damaged files. A program that has a panic hook may
/// ask this, and say nothing of such a panic.
#[must_use]
pub fn is_panic_caught() -> bool {
    CATCHING.get()
}

/// Reads all records, each held against its digest, and their sum.
pub(super) fn read(disk: &Disk, path: &Path) -> Result<RecordMap, StoreError> {
    let bytes = disk.read(path)?;
    if !bytes.starts_with(&MAGIC) {
        return Err(StoreError::no_catalog(path, "it is damaged"));
    }
    CATCHING.set(true);
    let read = catch_unwind(AssertUnwindSafe(|| raw(&bytes)));
    CATCHING.set(false);
    let all = match read {
        Ok(Ok(all)) => all,
        Ok(Err(error)) => return Err(StoreError::no_catalog(path, error.to_string())),
        Err(_) => return Err(StoreError::no_catalog(path, "the database is damaged")),
    };
    let (mut sum, mut expected, mut version) = ([0; 32], None, None);
    let mut records = RecordMap::new();
    for (key, value) in all {
        match key.as_slice() {
            SUM => expected = value.first_chunk().copied(),
            VERSION => version = value.first_chunk().copied().map(u32::from_le_bytes),
            _ => {
                let (digest, body) = value.split_at_checked(32).unwrap_or_default();
                let check = check(&key, body);
                if digest != check {
                    let what = format!("the record {} is damaged", crate::name::show(&key));
                    return Err(StoreError::no_catalog(path, what));
                }
                for (sum, check) in sum.iter_mut().zip(check) {
                    *sum = u8::wrapping_add(*sum, check);
                }
                records.insert(key, body.into());
            }
        }
    }
    match version {
        Some(CATALOG_VERSION) if expected == Some(sum) => Ok(records),
        Some(CATALOG_VERSION) => {
            let what = "records are damaged or missing: their sum has changed";
            Err(StoreError::no_catalog(path, what))
        }
        found => Err(StoreError::Version {
            file: path.to_owned(),
            found: found.unwrap_or(0),
            supported: CATALOG_VERSION,
        }),
    }
}

type Raw = Vec<(Vec<u8>, Vec<u8>)>;

fn raw(bytes: &[u8]) -> Result<Raw, redb::Error> {
    let memory = InMemoryBackend::new();
    let io = |error: io::Error| redb::Error::Io(error);
    memory.set_len(bytes.len() as u64).map_err(io)?;
    memory.write(0, bytes).map_err(io)?;
    let database = Database::builder().create_with_backend(memory)?;
    let table = database.begin_read()?.open_table(TABLE)?;
    let mut all = Raw::new();
    for record in table.iter()? {
        let (key, value) = record?;
        all.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(all)
}

fn check(key: &[u8], body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"stratafs record 1\0");
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(body);
    *Digest::from(hasher.finalize()).as_bytes()
}
