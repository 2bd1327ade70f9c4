//! What a host puts into an instance for its guest to find, as `/tmp`: in no diff
//! and no quota unless the guest makes something of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::blocks::FileBody;
use super::delta::DirEntryKey;
use super::dir::DirBody;
use super::inode::{Body, Inode};
use super::maps::ByPtr;
use super::{Object, Overlay};
use crate::budget::Charge;
use crate::errno::Errno;
use crate::limits::OBJECT_BYTES;
use crate::meta::{FileId, Kind, Time};
use crate::name::Name;

/// The objects that a host put there, and the directories that they were put into.
#[derive(Clone, Default)]
pub(super) struct HostObjects(Option<Arc<HostObjectSets>>);

#[derive(Clone, Default)]
struct HostObjectSets {
    /// Each with the name that it was given.
    made: BTreeMap<FileId, DirEntryKey>,
    within: BTreeSet<FileId>,
    /// Those that guests find by name and in no listing.
    unlisted: BTreeSet<FileId>,
    /// Links of the base that are as good as made here; shared by all instances of a checkpoint.
    claimed: Option<Arc<BTreeSet<FileId>>>,
}

/// The permission bits that nobody else asks for, with those of a directory for
/// everybody.
const TEMPORARY: u32 = 0o1777;

impl Overlay {
    /// Makes an empty file or directory in `dir` that the guest is to find there: as
    /// [`Self::create`], but the directory keeps its times, the quotas grow by what it takes,
    /// and no budget refuses it.
    pub(crate) fn furnish(
        &mut self,
        dir: FileId,
        name: &[u8],
        (kind, mode): (Kind, u32),
        now: Time,
    ) -> Result<FileId, Errno> {
        let was = self.stat(dir)?;
        let changed = self.usage.changed;
        let body = match kind {
            Kind::Dir => Body::Dir(DirBody::new(dir)),
            Kind::File => Body::File(FileBody::new()),
            Kind::Symlink => return Err(Errno::Invalid),
        };
        self.prepare_unasked(dir)?;
        let id = self.next_id()?;
        let name = Name::from_checked(name);
        self.add_entry(dir, name.clone(), id, kind, now)?;
        let hold = Charge::overdraw(self.pages.account(), OBJECT_BYTES);
        let made = (dir, name.clone());
        let mut inode = Inode::new(body, now, self.branch, (dir, name), hold);
        inode.mode = mode;
        self.inodes.insert(id, Some(ByPtr::new(inode)));
        self.usage.inodes += 1;
        self.quota.max_inodes = self.quota.max_inodes.saturating_add(1);
        self.forgive(changed);
        let above = self.own(dir)?;
        (above.mtime, above.ctime) = (was.mtime, was.ctime);
        let objects = Arc::make_mut(self.host_objects.0.get_or_insert_default());
        objects.made.insert(id, made);
        objects.within.insert(dir);
        Ok(id)
    }

    /// Lets what its host changed count against no quota: all since there were `changed`
    /// changed objects.
    pub(crate) fn forgive(&mut self, changed: u64) {
        let more = self.usage.changed.saturating_sub(changed);
        self.quota.max_changed = self.quota.max_changed.saturating_add(more);
    }

    /// Has links of the base be as those that were made here: see [`Self::is_of_base`]. O(1).
    #[cfg(feature = "freeze")]
    pub(crate) fn claim_links(&mut self, links: Arc<BTreeSet<FileId>>) {
        if links.is_empty() {
            return;
        }
        let objects = Arc::make_mut(self.host_objects.0.get_or_insert_default());
        objects.claimed = Some(links);
        // Paths through them may lead elsewhere.
        self.turns += 1;
    }

    /// Returns whether links were claimed.
    #[cfg(feature = "freeze")]
    pub(crate) fn has_claimed_links(&self) -> bool {
        let objects = self.host_objects.0.as_ref();
        objects.is_some_and(|objects| objects.claimed.is_some())
    }

    /// Returns whether a link of the base is as good as made here.
    pub(super) fn is_claimed(&self, link: FileId) -> bool {
        let objects = self.host_objects.0.as_ref();
        let claimed = objects.and_then(|objects| objects.claimed.as_ref());
        claimed.is_some_and(|claimed| claimed.contains(&link))
    }

    /// Leaves an object out of what guests list.
    #[cfg(feature = "freeze")]
    pub(crate) fn unlist(&mut self, id: FileId) {
        let objects = Arc::make_mut(self.host_objects.0.get_or_insert_default());
        objects.unlisted.insert(id);
    }

    /// Returns whether an object is in no listing of a guest.
    #[inline]
    pub(crate) fn is_unlisted(&self, id: FileId) -> bool {
        let objects = self.host_objects.0.as_ref();
        objects.is_some_and(|objects| objects.unlisted.contains(&id))
    }

    /// Counts the directories below the root that no guest lists.
    pub(super) fn unlisted(&self) -> u32 {
        let objects = self.host_objects.0.iter();
        let unlisted = objects.flat_map(|objects| &objects.unlisted);
        let there = unlisted.filter(|id| !matches!(self.object(**id), Object::Gone));
        u32::try_from(there.count()).unwrap_or(u32::MAX)
    }

    /// Returns whether an object is one that the host put there.
    pub(crate) fn is_furnished(&self, id: FileId) -> bool {
        let objects = self.host_objects.0.as_ref();
        objects.is_some_and(|objects| objects.made.contains_key(&id))
    }

    /// Returns whether an object is one that the host put there, and is as it was.
    pub(super) fn is_as_furnished(&self, id: FileId) -> bool {
        let Some(objects) = &self.host_objects.0 else {
            return false;
        };
        let Some(made) = objects.made.get(&id) else {
            return false;
        };
        match self.object(id) {
            Object::Own(inode) if inode.given.any() != Some(made) => false,
            Object::Own(inode) => match &inode.body {
                Body::File(file) => file.size() == 0 && inode.given.further() == 0,
                Body::Dir(dir) => dir.own_entries().next().is_none() && inode.mode == TEMPORARY,
                Body::Symlink(_) => false,
            },
            Object::Base(_) | Object::Gone => false,
        }
    }

    /// Returns whether a directory of the base has nothing of its own but what the host
    /// put there.
    pub(super) fn is_only_furnished(&self, id: FileId) -> bool {
        let Some(objects) = &self.host_objects.0 else {
            return false;
        };
        let (true, Object::Own(inode), Some(node)) =
            (objects.within.contains(&id), self.object(id), self.node(id))
        else {
            return false;
        };
        let Body::Dir(dir) = &inode.body else {
            return false;
        };
        let was = self.image.stat(node);
        let is_same = (inode.mode, inode.uid, inode.gid, inode.mtime)
            == (was.mode, was.uid, was.gid, was.mtime);
        is_same
            && dir.hidden().next().is_none()
            && dir.own_entries().all(|own| self.is_as_furnished(own.id))
    }
}
