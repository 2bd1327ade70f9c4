//! Who may import, and who may collect.
//!
//! An import holds `imports.lock` shared; a collection holds it alone. While
//! one waits for that it holds `imports.gate`, which an import has to pass
//! before it begins: imports that overlap do not keep a collection out for
//! ever. A process that has an import passes anyway, since one of its imports
//! may wait for another, and the collection for both.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::{self, ThreadId};

use parking_lot::Mutex;

use super::disk::{GATE, IMPORTS};
use super::{Store, StoreError, sweep};

/// The imports of this process: the store, and the thread that began it.
static OPEN: Mutex<Vec<(PathBuf, ThreadId)>> = Mutex::new(Vec::new());

/// The lock of an import, or of a reader of what a collection may remove.
pub(super) struct ImportLock {
    _lock: Option<File>,
    /// What the list of open imports has of it.
    open: Option<(PathBuf, ThreadId)>,
}

impl Drop for ImportLock {
    fn drop(&mut self) {
        let mut all = OPEN.lock();
        let own = self.open.take();
        if let Some(at) = own.and_then(|own| all.iter().position(|open| *open == own)) {
            all.swap_remove(at);
        }
    }
}

impl Store {
    /// Waits until no collection runs, and keeps collections out from then on.
    pub(super) fn lock_for_import(&self) -> Result<ImportLock, StoreError> {
        let disk = &self.0.packs.disk;
        let root = self.canonical();
        let gate = match OPEN.lock().iter().any(|(open, _)| *open == root) {
            true => None,
            false => Some(disk.open_lock(&disk.path(GATE))?),
        };
        if let Some(gate) = &gate {
            let locked = gate.lock_shared();
            locked.map_err(StoreError::io("lock", &disk.path(GATE)))?;
        }
        let path = disk.path(IMPORTS);
        let lock = disk.open_lock(&path)?;
        lock.lock_shared().map_err(StoreError::io("lock", &path))?;
        sweep::expect_remains(disk)?;
        let open = (root, thread::current().id());
        OPEN.lock().push(open.clone());
        Ok(ImportLock {
            _lock: Some(lock),
            open: Some(open),
        })
    }

    /// Keeps collections out while something is looked at. Writes nothing.
    pub(super) fn lock_for_reading(&self) -> Result<ImportLock, StoreError> {
        let disk = &self.0.packs.disk;
        Ok(ImportLock {
            _lock: disk.lock_shared(&disk.path(IMPORTS))?,
            open: None,
        })
    }

    /// Waits until no import runs, and keeps them out from then on.
    pub(super) fn lock_for_collection(&self) -> Result<ImportLock, StoreError> {
        let disk = &self.0.packs.disk;
        let own = (self.canonical(), thread::current().id());
        if OPEN.lock().contains(&own) {
            return Err(StoreError::OwnImport(disk.path("")));
        }
        let gate = disk.open_lock(&disk.path(GATE))?;
        gate.lock()
            .map_err(StoreError::io("lock", &disk.path(GATE)))?;
        let path = disk.path(IMPORTS);
        let lock = disk.open_lock(&path)?;
        lock.lock().map_err(StoreError::io("lock", &path))?;
        sweep::expect_remains(disk)?;
        Ok(ImportLock {
            _lock: Some(lock),
            open: None,
        })
    }

    fn canonical(&self) -> PathBuf {
        let root = self.0.packs.disk.path("");
        let found: &Path = &root;
        fs::canonicalize(found).unwrap_or(root)
    }
}
