//! The packs that are open, and lists of packs by number.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use super::StoreError;
use super::disk::Disk;
use super::pack::Pack;
use crate::digest::Digest;

/// The packs of a store that somebody has open, so that each is open once and
/// its chunks are checked once.
pub(super) struct Packs {
    pub(super) disk: Disk,
    open: Mutex<HashMap<Digest, Weak<Pack>>>,
}

impl Packs {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk,
            open: Mutex::default(),
        }
    }

    /// Gives a pack by its name.
    pub(super) fn get(&self, name: Digest) -> Result<Arc<Pack>, StoreError> {
        if let Some(pack) = self.open.lock().get(&name).and_then(Weak::upgrade) {
            return Ok(pack);
        }
        // Opened without the lock; of two that race one is kept.
        let pack = Arc::new(Pack::open(&self.disk, name)?);
        let mut open = self.open.lock();
        open.retain(|_, pack| pack.strong_count() > 0);
        let known = open.entry(name).or_insert_with(|| Arc::downgrade(&pack));
        if let Some(known) = known.upgrade() {
            return Ok(known);
        }
        *known = Arc::downgrade(&pack);
        Ok(pack)
    }
}

/// Packs by number, as runs name them.
pub(super) enum PackList {
    /// Of an index or a layer: open from the start, so that a collection does
    /// not take them from under a reader.
    Fixed(Box<[Arc<Pack>]>),
    /// Of an import: packs join as they are written or found to be of use.
    Growing(RwLock<Vec<Arc<Pack>>>),
}

impl PackList {
    pub(super) fn fixed(names: Vec<Digest>, packs: &Packs) -> Result<Self, StoreError> {
        let open: Result<_, _> = names.into_iter().map(|name| packs.get(name)).collect();
        open.map(Self::Fixed)
    }

    pub(super) fn growing() -> Self {
        Self::Growing(RwLock::default())
    }

    /// Gives a pack by its number, if there is one.
    pub(super) fn get(&self, number: u32) -> Option<Arc<Pack>> {
        match self {
            Self::Fixed(list) => list.get(number as usize).cloned(),
            Self::Growing(list) => list.read().get(number as usize).cloned(),
        }
    }

    /// Gives the name of a pack, if it has one.
    pub(super) fn name(&self, number: u32) -> Option<Digest> {
        self.get(number)?.name()
    }

    /// Adds a pack to a growing list. Gives its number.
    pub(super) fn push(&self, pack: Arc<Pack>) -> u32 {
        let Self::Growing(list) = self else {
            return u32::MAX;
        };
        let mut list = list.write();
        list.push(pack);
        u32::try_from(list.len() - 1).unwrap_or(u32::MAX)
    }
}
