//! What one instance changed: the copy-on-write state over an image.
//!
//! Everything is addressed by [`FileId`]. A base object keeps the number that
//! follows from its place in the index; it gets an [`Inode`] here when its
//! metadata, entries or bytes first change, and new objects are numbered above
//! the base. All maps share structure when cloned, so a clone of an
//! [`Overlay`] costs the same whatever it holds.
//!
//! Nothing here locks, walks paths or knows descriptors beyond a count of
//! them: `vfs` does. Each method that changes something checks all that can
//! fail before it changes anything (invariant 7).

mod added_names;
mod backing;
mod block;
mod block_map;
mod blocks;
mod changes;
mod check;
mod compare;
mod data;
mod delta;
mod diff;
mod dir;
mod dirty;
mod fork;
mod hidden;
mod host_objects;
mod inode;
mod maps;
mod merge;
mod names;
mod paths;
mod pins;
mod quota;
mod read;
mod rules;
mod runs;
mod seal;
mod shared_count;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;
use std::num::NonZeroU64;
use std::sync::Arc;

use imbl::OrdSet;
use smallvec::SmallVec;

use crate::budget::{Account, Charge};
use crate::chunk::Pages;
use crate::errno::Errno;
use crate::image::Image;
use crate::limits::{OBJECT_BYTES, REMOVED_BYTES};
use crate::meta::{FileId, Kind, Stat, Time};
use crate::steps;

pub use changes::Change;
use data::Counts;
pub(crate) use data::WriteOutcome;
pub(crate) use dir::FoundEntry;
use dirty::Dirty;
use inode::{Body, Inode};
use maps::{ByPtr, IdHasher, Inodes};
pub use merge::{Conflict, MergeError};
pub(crate) use merge::{MergeReads, Merged, Merger};
pub(crate) use names::New;
pub use paths::TreePath;
use pins::Pins;
use quota::HostCosts;
pub use quota::{Quota, Usage};
pub(crate) use read::{FetchedBlocks, NotDone, Rest};
pub use rules::Rule;
pub(crate) use rules::Rules;
pub(crate) use seal::Batch;

/// The changes of one instance.
///
/// One that belongs to an `Fs` is protected by its lock, every field of it: methods that
/// take `&mut self` are called under the lock, and each leaves a sound state or changes
/// nothing. Other copies (snapshots, a merge in the making) have one owner each, and share
/// with it only what is immutable or counted.
pub(crate) struct Overlay {
    /// Immutable.
    image: Image,
    /// Changed base objects, gone ones, and new ones.
    inodes: Inodes,
    /// Objects without a name that a descriptor holds, or held when this
    /// state was taken.
    orphans: OrdSet<FileId>,
    /// The number of the next new object; never reused.
    next: u64,
    /// Process-unique branch id; 0 until an object is created. See `fork`.
    branch: u64,
    quota: Quota,
    /// Where blocks lie, and who pays for them and for objects. Those of a state
    /// that was taken over are others' to pay for. After `inodes`, so that its
    /// pages go first.
    pages: Pages,
    usage: Usage,
    /// Blocks to be sealed; absent if none ever are.
    dirty: Option<Dirty>,
    tally: HostCosts,
    /// Pays for removed names of base directories that are gone themselves.
    /// Copies share it until one of them has more to pay for.
    gone: Option<Arc<Charge>>,
    /// How many descriptors are open on an object; absent for none.
    open: HashMap<FileId, u32, BuildHasherDefault<IdHasher>>,
    /// Directories that stay where they are.
    pinned: Pins,
    /// Absent if a host made none.
    rules: Option<Arc<Rules>>,
    /// What a host put there for guests.
    host_objects: host_objects::HostObjects,
    /// See [`Self::turns`].
    turns: u64,
}

impl Overlay {
    /// Starts with no change. O(1): nothing of the image is looked at. Blocks that are
    /// written are noted, to be sealed, if it `seals`.
    // In place where it is called: what it makes is large.
    #[inline]
    pub(crate) fn new(image: Image, quota: Quota, account: Account, seals: bool) -> Self {
        let next = u64::from(image.nodes()) + 1;
        Self {
            image,
            inodes: Inodes::new(),
            orphans: OrdSet::new(),
            next,
            branch: 0,
            quota,
            pages: Pages::new(account),
            usage: Usage::default(),
            dirty: seals.then(Dirty::default),
            tally: HostCosts::default(),
            gone: None,
            open: HashMap::default(),
            pinned: Pins::default(),
            rules: None,
            host_objects: host_objects::HostObjects::default(),
            turns: 0,
        }
    }

    /// Grows with each change after which a path that led through directories
    /// and links may lead elsewhere or nowhere: one was taken from its place, or
    /// another state was taken over. New names turn no path that led somewhere,
    /// nor do files that go: their names end paths.
    #[inline]
    pub(crate) fn turns(&self) -> u64 {
        self.turns
    }

    pub(crate) fn account(&self) -> &Account {
        self.pages.account()
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            held_bytes: self.tally.held_bytes(&self.usage) + self.pages.idle_bytes(),
            ..self.usage
        }
    }

    /// Releases to the system the memory that is kept for the next writes.
    pub(crate) fn shrink_to_fit(&self) {
        self.pages.give_back();
    }

    pub(crate) fn quota(&self) -> Quota {
        self.quota
    }

    /// What is at `id`: the changed object, or else the base's.
    fn object(&self, id: FileId) -> Object<'_> {
        steps::add(1);
        // Most instances change little: an empty map costs no descent.
        if !self.inodes.is_empty()
            && let Some(held) = self.inodes.get(&id)
        {
            return held
                .as_ref()
                .map_or(Object::Gone, |inode| Object::Own(inode));
        }
        match id.node_below(self.image.nodes()) {
            Some(node) => Object::Base(node),
            None => Object::Gone,
        }
    }

    /// The index number of `id` in the base, if it came from there.
    fn node(&self, id: FileId) -> Option<u32> {
        id.node_below(self.image.nodes())
    }

    /// The object at `id` for a change that is not refused for want of room.
    fn own(&mut self, id: FileId) -> Result<&mut Inode, Errno> {
        self.prepare_unasked(id)?;
        self.prepared(id)
    }

    /// The object at `id` for a change. It has been prepared or is no base
    /// object.
    fn prepared(&mut self, id: FileId) -> Result<&mut Inode, Errno> {
        let held = self.inodes.get_mut(&id).and_then(Option::as_mut);
        held.map(|held| held.change_by(self.pages.account()))
            .ok_or(Errno::BadDescriptor)
    }

    /// Copies the metadata of a base object up. No byte of content and no entry
    /// is copied.
    fn copy_up(&mut self, id: FileId, node: u32, hold: Charge) -> Result<(), Errno> {
        let inode = Inode::of_base(&self.image, node, hold);
        self.image.check_undamaged()?;
        self.tally.targets += inode.body.target_bytes();
        self.usage.changed += 1;
        self.inodes.insert(id, Some(ByPtr::new(inode)));
        Ok(())
    }

    /// Copies up those of `ids` that are the base's, so that a change of them
    /// cannot fail any more: a step that changes several objects prepares them
    /// all first. Returns those that it copied, for [`Self::put_back`].
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] if the quota of changed objects or the budget has no
    /// room, [`Errno::Io`] over a damaged base. Nothing is copied up then.
    fn prepare(&mut self, ids: &[FileId]) -> Result<Copied, Errno> {
        let mut copied = Copied::new();
        for id in ids {
            let Some(node) = self.node(*id).filter(|_| !self.inodes.contains_key(id)) else {
                continue;
            };
            let room = if self.usage.changed < self.quota.max_changed {
                Charge::take(self.pages.account(), OBJECT_BYTES)
            } else {
                Err(Errno::NoSpace)
            };
            let done = room.and_then(|hold| self.copy_up(*id, node, hold));
            if let Err(errno) = done {
                self.put_back(copied);
                return Err(errno);
            }
            copied.push(*id);
        }
        Ok(copied)
    }

    /// As [`Self::prepare`], for a change that makes room: quota and budget are
    /// exceeded if need be.
    fn prepare_unasked(&mut self, id: FileId) -> Result<(), Errno> {
        if self.inodes.contains_key(&id) {
            return Ok(());
        }
        let node = self.node(id).ok_or(Errno::BadDescriptor)?;
        let hold = Charge::overdraw(self.pages.account(), OBJECT_BYTES);
        self.copy_up(id, node, hold)
    }

    /// The changed or new object at `id`.
    fn changed(&self, id: FileId) -> Option<&Inode> {
        match self.object(id) {
            Object::Own(inode) => Some(inode),
            Object::Base(_) | Object::Gone => None,
        }
    }

    pub(crate) fn kind(&self, id: FileId) -> Kind {
        match self.object(id) {
            Object::Own(inode) => inode.body.kind(),
            Object::Base(node) => self.image.kind(node),
            Object::Gone => Kind::File,
        }
    }

    /// What `stat` tells. [`Errno::BadDescriptor`] for what is no more,
    /// [`Errno::Io`] over a damaged base.
    pub(crate) fn stat(&self, id: FileId) -> Result<Stat, Errno> {
        let mut stat = match self.object(id) {
            Object::Own(inode) => inode.stat(id),
            Object::Base(node) => {
                let stat = self.image.stat(node);
                self.image.check_undamaged()?;
                stat
            }
            Object::Gone => return Err(Errno::BadDescriptor),
        };
        if id == FileId::ROOT {
            stat.nlink = stat.nlink.saturating_sub(self.unlisted());
        }
        Ok(stat)
    }

    /// Fails if this operation met damage of the base: what was not found in it
    /// may have been there. Asked after looking.
    #[inline]
    pub(crate) fn check_undamaged(&self) -> Result<(), Errno> {
        self.image.check_undamaged()
    }

    /// Returns whether a link came with the base and stands where it stood: one that was
    /// renamed, or given a further name, is as good as made here.
    pub(crate) fn is_of_base(&self, link: FileId) -> bool {
        let is_of_base = match self.object(link) {
            Object::Base(_) => true,
            Object::Own(inode) => self.node(link).is_some() && !inode.was_named,
            Object::Gone => false,
        };
        is_of_base && !self.is_claimed(link)
    }

    /// Returns the objects of the base that were copied up, whether anything of them differs or not.
    #[cfg(feature = "freeze")]
    pub(crate) fn copied_up(&self) -> impl Iterator<Item = FileId> {
        let held = self.inodes.iter().filter(|(_, inode)| inode.is_some());
        let ids = held.map(|(id, _)| *id);
        ids.filter(|id| self.node(*id).is_some())
    }

    /// The target of a symbolic link.
    pub(crate) fn target(&self, id: FileId) -> Result<&[u8], Errno> {
        let target = match self.object(id) {
            Object::Own(inode) => match &inode.body {
                Body::Symlink(target) => Some(&target[..]),
                Body::File(_) | Body::Dir(_) => None,
            },
            Object::Base(node) => self.image.target(node),
            Object::Gone => None,
        };
        target.ok_or(Errno::Invalid)
    }

    /// Sets times; `None` keeps one. The change time becomes `now`.
    pub(crate) fn set_times(
        &mut self,
        id: FileId,
        atime: Option<Time>,
        mtime: Option<Time>,
        now: Time,
    ) -> Result<(), Errno> {
        self.prepare(&[id])?;
        let inode = self.prepared(id)?;
        inode.atime = atime.unwrap_or(inode.atime);
        inode.mtime = mtime.unwrap_or(inode.mtime);
        inode.ctime = now;
        Ok(())
    }

    /// Puts a time of change back.
    #[cfg(feature = "freeze")]
    pub(crate) fn put_back_ctime(&mut self, id: FileId, ctime: Time) -> Result<(), Errno> {
        self.prepare(&[id])?;
        self.prepared(id)?.ctime = ctime;
        Ok(())
    }

    /// Sets permission bits and owners; content and its time stay.
    pub(crate) fn set_owner(
        &mut self,
        id: FileId,
        mode: u32,
        uid: u32,
        gid: u32,
        now: Time,
    ) -> Result<(), Errno> {
        self.prepare(&[id])?;
        let inode = self.prepared(id)?;
        inode.mode = mode & 0o7777;
        inode.uid = uid;
        inode.gid = gid;
        inode.ctime = now;
        Ok(())
    }

    /// Notes one more descriptor on `id`.
    pub(crate) fn opened(&mut self, id: FileId) -> Result<(), Errno> {
        if self.usage.open >= self.quota.max_open {
            return Err(Errno::TooManyOpen);
        }
        self.usage.open += 1;
        *self.open.entry(id).or_insert(0) += 1;
        Ok(())
    }

    /// Notes one descriptor less on `id`; the last one of an object without a
    /// name gives its space back.
    pub(crate) fn closed(&mut self, id: FileId) {
        self.usage.open = self.usage.open.saturating_sub(1);
        let Entry::Occupied(mut count) = self.open.entry(id) else {
            return;
        };
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
            if self.changed(id).is_some_and(|inode| inode.nlink == 0) {
                self.free(id);
            }
        }
    }

    fn is_open(&self, id: FileId) -> bool {
        self.open.contains_key(&id)
    }

    /// Forgets an object that neither a name nor a descriptor leads to.
    fn free(&mut self, id: FileId) {
        let in_base = self.node(id).is_some();
        let old = if in_base {
            self.inodes.insert(id, None).flatten()
        } else {
            self.usage.inodes -= 1;
            self.inodes.remove(&id).flatten()
        };
        let Some(inode) = old else {
            return;
        };
        if in_base {
            self.usage.changed -= 1;
        }
        if inode.nlink == 0 {
            self.orphans.remove(&id);
        }
        match &inode.body {
            Body::File(file) => self.recount(Counts::of(file), Counts::none()),
            Body::Dir(dir) => self.add_gone_names(dir.removed()),
            Body::Symlink(_) => {}
        }
        let target = inode.body.target_bytes();
        self.tally.targets -= target;
        if !in_base {
            self.usage.logical_bytes -= target;
            self.usage.private_bytes -= target;
        }
        self.forget_dirty(id);
    }

    /// Counts the removed names of base directories that are gone.
    fn gone_names(&self) -> u64 {
        let paid = self.gone.as_ref().map_or(0, |gone| gone.bytes());
        paid / u64::from(REMOVED_BYTES)
    }

    /// Goes on paying for removed names whose directory is freed: the objects
    /// that had them are still noted as gone.
    fn add_gone_names(&mut self, names: u64) {
        if names == 0 {
            return;
        }
        let bytes = names * u64::from(REMOVED_BYTES);
        if let Some(gone) = self.gone.as_mut().and_then(Arc::get_mut) {
            gone.overdraw_more(bytes);
            return;
        }
        let mut hold = match &self.gone {
            Some(shared) => shared.copy_for(self.pages.account()),
            None => Charge::overdraw(self.pages.account(), 0),
        };
        hold.overdraw_more(bytes);
        self.gone = Some(Arc::new(hold));
    }

    /// Undoes [`Self::prepare`] for objects that were not changed after all.
    fn put_back(&mut self, copied: Copied) {
        for id in copied {
            if let Some(Some(inode)) = self.inodes.remove(&id) {
                self.tally.targets -= inode.body.target_bytes();
                self.usage.changed -= 1;
            }
            self.forget_dirty(id);
        }
    }

    /// Returns the number that the next new object gets.
    #[cfg_attr(
        not(feature = "freeze"),
        allow(dead_code, reason = "guests that are frozen are told it")
    )]
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// Takes a number for a new object.
    fn next_id(&mut self) -> Result<FileId, Errno> {
        let number = NonZeroU64::new(self.next).ok_or(Errno::NoSpace)?;
        self.next = self.next.checked_add(1).ok_or(Errno::NoSpace)?;
        if self.branch == 0 {
            self.branch = fork::new_branch();
        }
        Ok(FileId::new(number))
    }
}

/// Objects of the base that were copied up to be changed.
type Copied = SmallVec<[FileId; 4]>;

/// Where an object's present state is.
enum Object<'a> {
    Own(&'a Inode),
    Base(u32),
    Gone,
}
