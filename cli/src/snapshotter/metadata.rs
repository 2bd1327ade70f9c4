//! What is known of all snapshots: in memory, and in a file that is written before a call is answered.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tonic::Status;

use super::record::SnapshotRecord;
use crate::failure::Failure;

/// Records by name, as JSON.
const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");

/// Numbers by name: who this is.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// What is known of all snapshots.
pub(super) struct Metadata {
    path: PathBuf,
    /// None after a write that failed, until the next.
    file: Option<Database>,
    records: BTreeMap<String, SnapshotRecord>,
    next: u64,
    identity: u64,
}

/// A change of one record: what it is afterwards, or that it goes.
pub(super) type RecordChange = (String, Option<SnapshotRecord>);

impl Metadata {
    /// Opens the file, made if it is missing. One process has it at a time.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let mut fresh = [0; 8];
        getrandom::fill(&mut fresh).map_err(|error| Failure::at(path, error))?;
        let mut metadata = Self {
            path: path.to_owned(),
            file: None,
            records: BTreeMap::new(),
            next: 1,
            identity: u64::from_le_bytes(fresh),
        };
        let loaded = metadata.load().map(|_| ());
        loaded.map_err(|error| Failure::at(path, error))?;
        Ok(metadata)
    }

    /// Returns the file. After a write that failed, as on a full disk, it is read anew: what came of
    /// that write is as it says.
    fn load(&mut self) -> Result<&Database, redb::Error> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = Database::create(&self.path)?;
                self.identity = identity(&file, self.identity)?;
                self.records = records(&file)?;
                let numbers = self.records.values().map(|record| record.number);
                let next = numbers.max().unwrap_or(0).saturating_add(1);
                self.next = self.next.max(next);
                file
            }
        };
        Ok(self.file.insert(file))
    }

    /// Returns a number that no other snapshotter is likely to have.
    pub(super) fn identity(&self) -> u64 {
        self.identity
    }

    pub(super) fn records(&self) -> &BTreeMap<String, SnapshotRecord> {
        &self.records
    }

    /// Finds a snapshot.
    pub(super) fn get(&self, name: &str) -> Result<&SnapshotRecord, Status> {
        self.records
            .get(name)
            .ok_or_else(|| Status::not_found(format!("snapshot {name:?}: there is none")))
    }

    /// Returns a number for a directory that no snapshot has. What a killed process left of one is
    /// removed before the next one begins.
    pub(super) fn take_number(&mut self) -> u64 {
        let taken = self.next;
        self.next = taken.saturating_add(1);
        taken
    }

    /// Makes changes, all of them or none. They are on the disk once this returns.
    pub(super) fn change(&mut self, changes: Vec<RecordChange>) -> Result<(), Status> {
        let written = self.load().and_then(|file| write(file, &changes));
        if let Err(error) = written {
            // It takes no more writes after one that failed.
            self.file = None;
            let path = self.path.display();
            return Err(Status::internal(format!("{path}: {error}")));
        }
        for (name, record) in changes {
            match record {
                Some(record) => drop(self.records.insert(name, record)),
                None => drop(self.records.remove(&name)),
            }
        }
        Ok(())
    }

    /// Returns the images that snapshots need.
    pub(super) fn images(&self) -> HashSet<&str> {
        let images = self.records.values().map(|record| record.body.image());
        images.flatten().collect()
    }

    /// Returns a snapshot and those below it, itself first.
    pub(super) fn chain<'s>(&'s self, name: &'s str) -> Result<Vec<&'s SnapshotRecord>, Status> {
        let (mut chain, mut at) = (Vec::new(), name);
        while !at.is_empty() {
            let record = self.get(at)?;
            chain.push(record);
            at = &record.parent;
        }
        Ok(chain)
    }
}

/// Reads who this is, which is noted if it is not yet.
fn identity(file: &Database, fresh: u64) -> Result<u64, redb::Error> {
    let change = file.begin_write()?;
    let identity = {
        change.open_table(SNAPSHOTS)?;
        let mut table = change.open_table(NUMBERS)?;
        let known = table.get("identity")?.map(|value| value.value());
        let identity = known.unwrap_or(fresh);
        table.insert("identity", identity)?;
        identity
    };
    change.commit()?;
    Ok(identity)
}

/// Reads all records.
fn records(file: &Database) -> Result<BTreeMap<String, SnapshotRecord>, redb::Error> {
    let mut records = BTreeMap::new();
    let read = file.begin_read()?;
    for entry in read.open_table(SNAPSHOTS)?.iter()? {
        let (name, bytes) = entry?;
        let record = serde_json::from_slice(bytes.value());
        let record = record.map_err(std::io::Error::from)?;
        records.insert(name.value().to_owned(), record);
    }
    Ok(records)
}

fn write(file: &Database, changes: &[RecordChange]) -> Result<(), redb::Error> {
    let change = file.begin_write()?;
    {
        let mut table = change.open_table(SNAPSHOTS)?;
        for (name, record) in changes {
            match record {
                Some(record) => {
                    let bytes = serde_json::to_vec(record).map_err(std::io::Error::from)?;
                    table.insert(name.as_str(), bytes.as_slice())?;
                }
                None => drop(table.remove(name.as_str())?),
            }
        }
    }
    Ok(change.commit()?)
}
