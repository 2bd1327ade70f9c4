//! Directories that can be neither removed, replaced nor moved.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use imbl::OrdSet;

use super::Overlay;
use super::maps::IdHasher;
use crate::errno::Errno;
use crate::limits::MAX_PLACES;
use crate::meta::FileId;

/// The directories of an instance that stay where they are. Asking is
/// O(log directories).
#[derive(Clone, Default, PartialEq)]
pub(super) struct Pins {
    /// How many descriptors of preopens and mounts elsewhere hold a directory.
    held: HashMap<FileId, u32, BuildHasherDefault<IdHasher>>,
    /// Places that the host keeps for good, those of mounts too. Clones share
    /// structure: a fork has the same.
    kept: OrdSet<FileId>,
}

impl Pins {
    /// What a snapshot or fork has: the places, and nothing that is held.
    pub(super) fn of_copy(&self) -> Self {
        Self {
            held: HashMap::default(),
            kept: self.kept.clone(),
        }
    }

    fn holds(&self, dir: FileId) -> bool {
        self.kept.contains(&dir) || self.held.contains_key(&dir)
    }
}

impl Overlay {
    /// Keeps a directory from being removed, replaced or moved, until
    /// [`Self::unpin`] is called as often. The root cannot be in any case.
    pub(crate) fn pin(&mut self, dir: FileId) {
        if dir != FileId::ROOT {
            *self.pinned.held.entry(dir).or_insert(0) += 1;
        }
    }

    /// Takes back one [`Self::pin`].
    pub(crate) fn unpin(&mut self, dir: FileId) {
        if let Some(count) = self.pinned.held.get_mut(&dir) {
            *count -= 1;
            if *count == 0 {
                self.pinned.held.remove(&dir);
            }
        }
    }

    /// As [`Self::pin`], for as long as the instance lives, and in its forks.
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] past [`MAX_PLACES`].
    pub(crate) fn keep(&mut self, dir: FileId) -> Result<(), Errno> {
        if dir == FileId::ROOT || self.pinned.kept.contains(&dir) {
            return Ok(());
        }
        if self.pinned.kept.len() >= MAX_PLACES {
            return Err(Errno::NoSpace);
        }
        self.pinned.kept.insert(dir);
        Ok(())
    }

    /// [`Errno::Busy`] if `later` lacks a directory that is kept here.
    /// O(places).
    pub(crate) fn check_places(&self, later: &Self) -> Result<(), Errno> {
        let mut all = self.pinned.kept.iter();
        if all.all(|id| self.birth(*id) == later.birth(*id)) {
            Ok(())
        } else {
            Err(Errno::Busy)
        }
    }

    /// [`Errno::Busy`] for a directory that is pinned or kept.
    pub(super) fn check_pin(&self, dir: FileId) -> Result<(), Errno> {
        if self.pinned.holds(dir) {
            Err(Errno::Busy)
        } else {
            Ok(())
        }
    }
}
