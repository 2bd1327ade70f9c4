//! States of an overlay: copies that share all they have in common.
//!
//! Two overlays that came of one number their new objects alike. So each
//! object made keeps the *branch* of the overlay that made it: a number and a
//! branch stand for one object in all states of a process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::quota::{Quota, Usage};
use super::{Object, Overlay};
use crate::budget::Account;
use crate::chunk::Pages;
use crate::errno::Errno;
use crate::meta::FileId;

/// The next branch: 64 bits last for ever.
static BRANCHES: AtomicU64 = AtomicU64::new(1);

pub(super) fn new_branch() -> u64 {
    BRANCHES.fetch_add(1, Ordering::Relaxed)
}

impl Overlay {
    /// Returns a copy that goes its own way, with no descriptor open. Objects
    /// that have no name are still in it, and the host's places. O(1).
    pub(crate) fn snapshot(&self) -> Self {
        self.copy_for(self.account().clone())
    }

    /// As [`Self::snapshot`], for another instance: it pays for itself.
    pub(crate) fn fork(&self) -> Self {
        self.copy_for(self.account().another())
    }

    // In place where it is called: what it makes is large.
    #[inline]
    fn copy_for(&self, account: Account) -> Self {
        Self {
            image: self.image.clone(),
            inodes: self.inodes.clone(),
            orphans: self.orphans.clone(),
            next: self.next,
            branch: 0,
            quota: self.quota,
            pages: Pages::new(account),
            dirty: self.dirty.clone(),
            usage: Usage {
                open: 0,
                ..self.usage
            },
            tally: self.tally,
            gone: self.gone.clone(),
            open: HashMap::default(),
            pinned: self.pinned.of_copy(),
            rules: self.rules.clone(),
            host_objects: self.host_objects.clone(),
            turns: 0,
        }
    }

    /// Frees what neither a name nor a descriptor of this overlay holds: what
    /// a snapshot kept for the descriptors of another. O(such objects).
    pub(crate) fn reap_orphans(&mut self) {
        if self.orphans.is_empty() {
            return;
        }
        for id in self.orphans.clone() {
            if !self.is_open(id) {
                self.free(id);
            }
        }
    }

    /// Replaces this state by a later one, computed under the same lock guard.
    pub(crate) fn replace_with(&mut self, next: Self) {
        let pages = std::mem::take(&mut self.pages);
        let turns = self.turns + 1;
        *self = Self {
            pages,
            turns,
            ..next
        };
    }

    /// Goes back to an earlier state, taken under the same lock guard: every
    /// descriptor is as it was then.
    pub(crate) fn roll_back(&mut self, earlier: Self) {
        self.turns += 1;
        self.inodes = earlier.inodes;
        self.orphans = earlier.orphans;
        self.tally = earlier.tally;
        self.gone = earlier.gone;
        self.usage = Usage {
            open: self.usage.open,
            ..earlier.usage
        };
        self.dirty = earlier.dirty;
    }

    /// Takes over another state of the same image; numbers given since stay
    /// taken. O(descriptors and objects without a name).
    ///
    /// # Errors
    ///
    /// [`Errno::CrossDevice`] for another image, [`Errno::NoSpace`] if it
    /// exceeds the quota, [`Errno::Busy`] if a descriptor would change to
    /// another object.
    pub(crate) fn restore(&mut self, state: &Self) -> Result<(), Errno> {
        if !self.image.is_same(&state.image) {
            return Err(Errno::CrossDevice);
        }
        if !state.fits(self.quota) {
            return Err(Errno::NoSpace);
        }
        let turns = |id: &FileId| match (self.birth(*id), state.birth(*id)) {
            (Some(one), Some(other)) => one != other,
            _ => false,
        };
        if self.open.keys().any(turns) {
            return Err(Errno::Busy);
        }
        self.turns += 1;
        self.inodes = state.inodes.clone();
        self.orphans = state.orphans.clone();
        self.tally = state.tally;
        self.gone = state.gone.clone();
        self.usage = Usage {
            open: self.usage.open,
            ..state.usage
        };
        self.next = self.next.max(state.next);
        if let Some(dirty) = &mut self.dirty {
            *dirty = state.dirty.clone().unwrap_or_default();
        }
        self.reap_orphans();
        Ok(())
    }

    /// Returns whether all this holds is within `quota`, descriptors apart.
    pub(super) fn fits(&self, quota: Quota) -> bool {
        self.usage.logical_bytes <= quota.max_bytes
            && self.usage.inodes <= quota.max_inodes
            && u64::try_from(self.usage.links).unwrap_or(0) <= quota.max_inodes
            && self.usage.changed <= quota.max_changed
            && self.tally.blocks <= quota.max_blocks()
    }

    /// The branch that made an object, 0 for the base; `None` if it is gone.
    pub(super) fn birth(&self, id: FileId) -> Option<u64> {
        match self.object(id) {
            Object::Own(inode) => Some(inode.birth),
            Object::Base(_) => Some(0),
            Object::Gone => None,
        }
    }

    /// Returns whether an object is gone for good.
    pub(crate) fn is_gone(&self, id: FileId) -> bool {
        matches!(self.object(id), Object::Gone)
    }
}
