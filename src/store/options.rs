//! How a store is opened.

use std::path::Path;
use std::sync::Arc;

use super::catalog::Catalog;
use super::disk::Disk;
use super::identity::{self, DirState};
use super::packs::Packs;
use super::{Hook, Inner, Recorder, Store, StoreError, making};
use crate::limits::MAX_PACK_BYTES;

/// How a store is opened. By default it is made if there is none, and may be changed.
///
/// ```
/// use stratafs::store::{Store, StoreError, StoreOptions};
///
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("images");
/// let missing = StoreOptions::new().existing().open(&path);
/// assert!(matches!(missing, Err(StoreError::NoStore(_))));
///
/// Store::open(&path)?; // makes one
/// let store = StoreOptions::new().read_only().open(&path)?;
/// let refused = store.untag("app:1");
/// assert!(matches!(refused, Err(StoreError::ReadOnly(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct StoreOptions {
    existing: bool,
    read_only: bool,
    hook: Option<Hook>,
    recorder: Option<Recorder>,
    max_pack_bytes: Option<u64>,
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions")
            .field("existing", &self.existing)
            .field("read_only", &self.read_only)
            .field("max_pack_bytes", &self.max_pack_bytes)
            .finish_non_exhaustive()
    }
}

impl StoreOptions {
    /// Starts with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses to make a store where there is none.
    #[must_use]
    pub fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// Opens the store to look only: it is neither made, nor marked, nor swept,
    /// no file of it is written but by [`Store::mark_used`], and what would change it fails with
    /// [`StoreError::ReadOnly`]. So a store on a read-only mount, or of another
    /// user, can be read, also while others write to it.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Calls `hook` before each step on a file, which fails if the hook does: for
    /// tests of what happens then.
    #[must_use]
    pub fn hook(mut self, hook: Hook) -> Self {
        self.hook = Some(hook);
        self
    }

    /// Calls `recorder` with each step on a file that has succeeded: for tests of
    /// what a power loss leaves.
    #[must_use]
    pub fn recorder(mut self, recorder: Recorder) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// Lets imports begin a new pack once one has this many bytes of chunks, at
    /// most [`MAX_PACK_BYTES`], which is what they do otherwise.
    #[must_use]
    pub fn max_pack_bytes(mut self, bytes: u64) -> Self {
        self.max_pack_bytes = Some(bytes.min(MAX_PACK_BYTES));
        self
    }

    /// Opens the store in `dir`. Where nothing is, or an empty directory, it is
    /// made, unless [`existing`](Self::existing) or
    /// [`read_only`](Self::read_only) was asked for; one of version 1 is marked
    /// unless it is opened to look only; what a process left behind that was
    /// killed is removed then, too, unless an import is running.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`] for a directory of something else;
    /// [`StoreError::NoStore`]; [`StoreError::Version`] for a newer store;
    /// [`StoreError::NoCatalog`] for one whose catalog is lost or damaged, of
    /// which nothing is removed; those of reading and writing.
    pub fn open(self, dir: &Path) -> Result<Store, StoreError> {
        let disk = Disk::new(dir, self.hook, self.recorder);
        let found = identity::inspect(&disk)?;
        let catalog = Arc::new(Catalog::new(&disk, found == DirState::Old));
        match found {
            DirState::Nothing | DirState::Begun(_) if self.existing || self.read_only => {
                return Err(StoreError::NoStore(dir.to_owned()));
            }
            _ if self.read_only => {}
            DirState::Nothing | DirState::Begun(_) => making::make(&disk, &catalog)?,
            DirState::Old => making::upgrade(&disk, &catalog)?,
            DirState::Marked(_) => making::tidy(&disk, &catalog)?,
        }
        catalog.read(|_| Ok(()))?;
        let store = Store(Arc::new(Inner {
            catalog,
            writable: !self.read_only,
            packs: Arc::new(Packs::new(
                disk,
                self.max_pack_bytes.unwrap_or(MAX_PACK_BYTES),
            )),
            known: Arc::default(),
        }));
        if store.0.writable {
            store.sweep_remains()?;
        }
        Ok(store)
    }
}
