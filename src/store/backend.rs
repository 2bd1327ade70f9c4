//! The catalog's file, with the hook of the store's other files. The database's
//! own locks are left out: the store has one around it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::disk::Disk;
use super::recorder::FileStep;

/// A file that asks before each step.
pub(super) struct Hooked {
    file: FileBackend,
    disk: Disk,
    path: PathBuf,
}

impl Hooked {
    pub(super) fn new(file: FileBackend, disk: &Disk, path: &Path) -> Self {
        Self {
            file,
            disk: disk.clone(),
            path: path.to_owned(),
        }
    }

    fn step(&self, action: &'static str) -> Result<(), io::Error> {
        self.disk.step(action, &self.path)
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hooked({})", self.path.display())
    }
}

impl StorageBackend for Hooked {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.step("read")?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.step("resize")?;
        self.file.set_len(len)?;
        let path = &self.path;
        self.disk.record(FileStep::Resize { path, len });
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.step("sync")?;
        self.file.sync_data()?;
        self.disk.record(FileStep::Sync(&self.path));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.step("write")?;
        self.file.write(offset, data)?;
        self.disk.record(FileStep::Write {
            path: &self.path,
            offset,
            bytes: data,
        });
        Ok(())
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }
}
