//! The packs that are open, and lists of packs by number.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use super::StoreError;
use super::codec::count;
use super::disk::Disk;
use super::fetcher::Fetcher;
use super::pack::Pack;
use crate::digest::Digest;
use crate::limits::MAX_OPEN_PACKS;

/// The packs of a store that somebody has open, so that each is open once and
/// its chunks are checked once.
pub(super) struct Packs {
    pub(super) disk: Disk,
    /// Brings what is not here.
    pub(super) fetcher: Arc<Fetcher>,
    /// Bytes of chunks from which on an import begins the next pack.
    pub(super) pack_bytes: u64,
    open: Mutex<HashMap<Digest, Weak<Pack>>>,
    /// Whether there are packs of imports that failed.
    pub(super) has_unnamed: AtomicBool,
    /// Descriptors that packs of this store hold.
    descriptors: Arc<AtomicUsize>,
}

/// A descriptor that a pack may keep open, counted for as long as it does.
pub(super) struct PackDescriptor(Arc<AtomicUsize>);

impl Drop for PackDescriptor {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Packs {
    pub(super) fn new(disk: Disk, pack_bytes: u64) -> Self {
        Self {
            fetcher: Arc::new(Fetcher::new(&disk)),
            disk,
            pack_bytes,
            open: Mutex::default(),
            has_unnamed: AtomicBool::new(false),
            descriptors: Arc::default(),
        }
    }

    /// Returns a pack by its name.
    pub(super) fn get(&self, name: Digest) -> Result<Arc<Pack>, StoreError> {
        let known = self.open.lock().get(&name).and_then(Weak::upgrade);
        // One whose file was collected is of no use to who opens it now: the same may have come again.
        if let Some(pack) = known.filter(|pack| pack.has_its_name()) {
            return Ok(pack);
        }
        // Opened without the lock; of two that race one is kept.
        let pack = Arc::new(self.opened(name)?);
        let mut open = self.open.lock();
        open.retain(|_, pack| pack.strong_count() > 0);
        let known = open.entry(name).or_insert_with(|| Arc::downgrade(&pack));
        if let Some(known) = known.upgrade().filter(|known| known.has_its_name()) {
            return Ok(known);
        }
        *known = Arc::downgrade(&pack);
        Ok(pack)
    }

    /// Opens a pack whose file has just been written. One of the same name that
    /// somebody has open may be of a file that was damaged.
    pub(super) fn renew(&self, name: Digest) -> Result<Arc<Pack>, StoreError> {
        let pack = Arc::new(self.opened(name)?);
        self.open.lock().insert(name, Arc::downgrade(&pack));
        Ok(pack)
    }

    fn opened(&self, name: Digest) -> Result<Pack, StoreError> {
        let pack = Pack::open(&self.disk, name, self.descriptor())?;
        Ok(pack.fetched_by(&self.fetcher))
    }

    /// Lets a pack keep a descriptor, unless [`MAX_OPEN_PACKS`] have one.
    fn descriptor(&self) -> Option<PackDescriptor> {
        let descriptor = PackDescriptor(Arc::clone(&self.descriptors));
        let held = self.descriptors.fetch_add(1, Ordering::Relaxed);
        (held < MAX_OPEN_PACKS).then_some(descriptor)
    }
}

/// Packs by number, as runs name them.
pub(super) enum PackList {
    /// Of a file that names packs: open from the start, so that a collection
    /// does not take them from under a reader.
    Fixed {
        packs: Box<[Arc<Pack>]>,
        /// The file, for messages.
        file: PathBuf,
        /// Whether the file says of contents what nobody has held against their bytes yet.
        by_table: bool,
    },
    /// Of an import: packs join as they are written or found to be of use.
    Growing(RwLock<Vec<Arc<Pack>>>),
}

impl PackList {
    /// Opens the packs that `file` names. `by_table` is said of a file that came as a table,
    /// and of what was made of one.
    pub(super) fn fixed(
        names: Vec<Digest>,
        packs: &Packs,
        file: &Path,
        by_table: bool,
    ) -> Result<Self, StoreError> {
        let open: Result<_, _> = names.into_iter().map(|name| packs.get(name)).collect();
        let file = file.to_owned();
        open.map(|packs| Self::Fixed {
            packs,
            file,
            by_table,
        })
    }

    /// Returns whether contents that lie here may have other digests than they are said to have.
    pub(super) fn is_by_table(&self) -> bool {
        matches!(self, Self::Fixed { by_table: true, .. })
    }

    pub(super) fn growing() -> Self {
        Self::Growing(RwLock::default())
    }

    /// Returns a pack by its number.
    pub(super) fn get(&self, number: u32) -> Result<Arc<Pack>, StoreError> {
        let (found, packs, file) = match self {
            Self::Fixed { packs, file, .. } => {
                let found = packs.get(number as usize).cloned();
                (found, packs.len(), file.as_path())
            }
            Self::Growing(list) => {
                let list = list.read();
                let found = list.get(number as usize).cloned();
                (found, list.len(), Path::new(super::disk::TMP))
            }
        };
        found.ok_or_else(|| {
            let what = format!("a run names pack {number}, there are {packs}");
            StoreError::malformed(file, what)
        })
    }

    /// Returns the name of a pack, if it has one.
    pub(super) fn name(&self, number: u32) -> Option<Digest> {
        self.get(number).ok()?.name()
    }

    /// Adds a pack to the list of an import. Returns its number.
    pub(super) fn push(&self, pack: Arc<Pack>) -> Result<u32, StoreError> {
        let Self::Growing(list) = self else {
            return Err(StoreError::Broken("a pack joins a list that is complete"));
        };
        let mut list = list.write();
        let number = count(list.len(), "packs of an import")?;
        list.push(pack);
        Ok(number)
    }

    /// Puts a pack in the place of one in the list of an import: the same, but
    /// opened anew.
    pub(super) fn replace(&self, number: u32, pack: Arc<Pack>) {
        if let Self::Growing(list) = self
            && let Some(place) = list.write().get_mut(number as usize)
        {
            *place = pack;
        }
    }
}
