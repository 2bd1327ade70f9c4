//! Changes of names: create, link, remove, rename; and looking them up.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::blocks::FileBody;
use super::dir::{self, DirBody, EntrySlot, FoundEntry, OwnListed};
use super::inode::{Body, Inode};
use super::maps::ByPtr;
use super::{Object, Overlay};
use crate::budget::{Asking, Charge};
use crate::errno::Errno;
use crate::limits::{MAX_LINKS, OBJECT_BYTES, REMOVED_BYTES};
use crate::meta::{FileId, Kind, Time};
use crate::name::Name;

/// What to create.
pub(crate) enum New<'a> {
    /// An empty regular file.
    File,
    /// An empty directory.
    Dir,
    /// A symbolic link to this target.
    Symlink(&'a [u8]),
}

impl Overlay {
    /// Finds `name` in directory `dir`; `None` also if `dir` is no directory.
    pub(crate) fn find(&self, dir: FileId, name: &[u8]) -> Option<FoundEntry> {
        match self.object(dir) {
            Object::Base(node) => dir::find_in_base(&self.image, node, name),
            Object::Own(inode) => match &inode.body {
                Body::Dir(entries) => entries.find(&self.image, name),
                Body::File(_) | Body::Symlink(_) => None,
            },
            Object::Gone => None,
        }
    }

    /// The directory that `dir` is in; the root's is the root.
    pub(crate) fn parent(&self, dir: FileId) -> FileId {
        match self.object(dir) {
            Object::Base(node) => FileId::of_node(self.image.parent(node)),
            Object::Own(inode) => match &inode.body {
                Body::Dir(entries) => entries.parent,
                Body::File(_) | Body::Symlink(_) => FileId::ROOT,
            },
            Object::Gone => FileId::ROOT,
        }
    }

    /// The position past all present entries of `dir`.
    pub(crate) fn list_end(&self, dir: FileId) -> u64 {
        match self.object(dir) {
            Object::Base(node) => self.image.slots(node).len() as u64,
            Object::Own(inode) => match &inode.body {
                Body::Dir(entries) => entries.end(),
                Body::File(_) | Body::Symlink(_) => 0,
            },
            Object::Gone => 0,
        }
    }

    /// Lists the entries of `dir` whose positions lie in `from..end`.
    pub(crate) fn list<'a>(
        &'a self,
        dir: FileId,
        from: u64,
        end: u64,
        sink: &mut dyn FnMut(&'a [u8], FileId, Kind, u64) -> ControlFlow<()>,
    ) {
        let sink =
            &mut |listed: OwnListed<'a>| sink(listed.name, listed.id, listed.kind, listed.position);
        // Stopping early is the sink's own choice: nothing to pass on.
        let _: ControlFlow<()> = match self.object(dir) {
            Object::Base(node) => dir::list_base(&self.image, node, from, sink),
            Object::Own(inode) => match &inode.body {
                Body::Dir(entries) => entries.list(&self.image, from, end, sink),
                Body::File(_) | Body::Symlink(_) => ControlFlow::Continue(()),
            },
            Object::Gone => ControlFlow::Continue(()),
        };
    }

    /// Counts the entries of `dir`. O(1).
    pub(super) fn entry_count(&self, dir: FileId) -> u64 {
        match self.object(dir) {
            Object::Base(node) => self.image.slots(node).len() as u64,
            Object::Own(inode) => match &inode.body {
                Body::Dir(entries) => entries.entry_count(),
                Body::File(_) | Body::Symlink(_) => 0,
            },
            Object::Gone => 0,
        }
    }

    pub(super) fn is_empty_dir(&self, dir: FileId) -> bool {
        match self.object(dir) {
            // Of a damaged base nothing is known to be empty.
            Object::Base(node) => {
                self.image.slots(node).is_empty() && self.image.check_undamaged().is_ok()
            }
            Object::Own(inode) => match &inode.body {
                Body::Dir(entries) => entries.is_empty(),
                Body::File(_) | Body::Symlink(_) => false,
            },
            Object::Gone => true,
        }
    }

    /// Returns whether `dir` has been removed while a descriptor held it.
    pub(crate) fn is_removed(&self, dir: FileId) -> bool {
        match self.object(dir) {
            Object::Own(inode) => inode.nlink == 0,
            Object::Base(_) => false,
            Object::Gone => true,
        }
    }

    /// Creates an object under a name that the caller has found free.
    ///
    /// # Errors
    ///
    /// [`Errno::NoEntry`] if `dir` is removed, then [`Errno::NoSpace`] if the
    /// quota of inodes is used up, that of bytes has no room for a target, that
    /// of changed objects none for `dir`, or the budget none for an object.
    pub(crate) fn create(
        &mut self,
        dir: FileId,
        name: &[u8],
        new: New<'_>,
        now: Time,
    ) -> Result<FileId, Errno> {
        if self.is_removed(dir) {
            return Err(Errno::NoEntry);
        }
        if self.usage.inodes >= self.quota.max_inodes {
            return Err(Errno::NoSpace);
        }
        let body = match new {
            New::File => Body::File(FileBody::new()),
            New::Dir => Body::Dir(DirBody::new(dir)),
            New::Symlink(target) => {
                self.check_room(target.len() as u64)?;
                Body::Symlink(Arc::from(target))
            }
        };
        let bytes = body.target_bytes();
        let kind = body.kind();
        // A target has a bound below.
        let cost = OBJECT_BYTES.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        let hold = Charge::take(self.pages.account(), cost)?;
        self.prepare(&[dir])?;
        let id = self.next_id()?;
        let name = Name::from_checked(name);
        self.add_entry(dir, name.clone(), id, kind, now)?;
        let inode = Inode::new(body, now, self.branch, (dir, name), hold);
        self.inodes.insert(id, Some(ByPtr::new(inode)));
        self.usage.inodes += 1;
        self.usage.logical_bytes += bytes;
        self.usage.private_bytes += bytes;
        self.tally.targets += bytes;
        Ok(id)
    }

    /// Refuses what the quota of bytes has no room for.
    fn check_room(&self, bytes: u64) -> Result<(), Errno> {
        let left = self
            .quota
            .max_bytes
            .saturating_sub(self.usage.logical_bytes);
        if bytes > left {
            Err(Errno::NoSpace)
        } else {
            Ok(())
        }
    }

    /// Adds one more name of a file or symbolic link, which the caller has
    /// found free.
    ///
    /// # Errors
    ///
    /// [`Errno::NoEntry`] if `dir` is removed, [`Errno::NotPermitted`] for a
    /// directory, [`Errno::TooManyLinks`], [`Errno::NoSpace`] when further
    /// names have reached the quota of inodes, or changed objects theirs.
    pub(crate) fn link(
        &mut self,
        id: FileId,
        dir: FileId,
        name: &[u8],
        now: Time,
    ) -> Result<(), Errno> {
        if self.is_removed(dir) {
            return Err(Errno::NoEntry);
        }
        let stat = self.stat(id)?;
        if stat.kind == Kind::Dir {
            return Err(Errno::NotPermitted);
        }
        if stat.nlink >= MAX_LINKS {
            return Err(Errno::TooManyLinks);
        }
        if u64::try_from(self.usage.links).is_ok_and(|links| links >= self.quota.max_inodes) {
            return Err(Errno::NoSpace);
        }
        let copied = self.prepare(&[id, dir])?;
        let inode = self.prepared(id)?;
        let name = Name::from_checked(name);
        let further = match inode.gain_name((dir, name.clone()), Asking::Yes) {
            Ok(further) => further,
            Err(errno) => {
                self.put_back(copied);
                return Err(errno);
            }
        };
        inode.nlink += 1;
        inode.ctime = now;
        self.tally.names += u64::from(further);
        self.usage.links += 1;
        if stat.kind == Kind::Symlink {
            // One of a layer may lead elsewhere from now on.
            self.turns += 1;
        }
        self.add_entry(dir, name, id, stat.kind, now)?;
        self.moved_rules(id);
        Ok(())
    }

    /// Removes the name of a file or symbolic link, which the caller has found.
    ///
    /// # Errors
    ///
    /// [`Errno::IsDirectory`].
    pub(crate) fn unlink(
        &mut self,
        (dir, name, found): (FileId, &[u8], FoundEntry),
        now: Time,
    ) -> Result<(), Errno> {
        if found.kind == Kind::Dir {
            return Err(Errno::IsDirectory);
        }
        self.prepare_unasked(dir)?;
        let left = self.prepare_drop(found)?;
        self.take_entry(dir, found, now)?;
        self.drop_name(found, (dir, name), left, now)
    }

    /// Removes an empty directory, which the caller has found.
    ///
    /// # Errors
    ///
    /// [`Errno::NotDirectory`], [`Errno::Busy`] for a preopen,
    /// [`Errno::NotEmpty`].
    pub(crate) fn rmdir(
        &mut self,
        (dir, name, found): (FileId, &[u8], FoundEntry),
        now: Time,
    ) -> Result<(), Errno> {
        if found.kind != Kind::Dir {
            return Err(Errno::NotDirectory);
        }
        self.check_pin(found.id)?;
        if !self.is_empty_dir(found.id) {
            return Err(Errno::NotEmpty);
        }
        self.prepare_unasked(dir)?;
        let left = self.prepare_drop(found)?;
        self.take_entry(dir, found, now)?;
        self.drop_name(found, (dir, name), left, now)
    }

    /// Moves an entry, replacing what stands at the new place: the caller has
    /// found both. O(log entries) whatever is moved.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::NoEntry`] for a removed target directory; [`Errno::Invalid`] for a directory into itself;
    /// [`Errno::NotEmpty`] for a target that the source lies in;
    /// [`Errno::IsDirectory`] or [`Errno::NotDirectory`] for a target of
    /// another kind; [`Errno::Busy`] for a preopen on either side;
    /// [`Errno::NotEmpty`]; [`Errno::NoSpace`] when changed objects have reached
    /// their quota, or for want of budget.
    pub(crate) fn rename(
        &mut self,
        (from, source): ((FileId, &[u8]), FoundEntry),
        (to, target): ((FileId, &[u8]), Option<FoundEntry>),
        now: Time,
    ) -> Result<(), Errno> {
        if self.is_removed(to.0) {
            return Err(Errno::NoEntry);
        }
        if source.kind == Kind::Dir && self.is_within(to.0, source.id) {
            return Err(Errno::Invalid);
        }
        if let Some(target) = target {
            if target.id == source.id {
                return Ok(());
            }
            // Before the kinds are compared, as Linux's do_renameat2 has it.
            if target.kind == Kind::Dir && self.is_within(from.0, target.id) {
                return Err(Errno::NotEmpty);
            }
            self.check_replace(source, target)?;
        } else {
            self.check_pin(source.id)?;
        }
        let copied = match from.0 == to.0 {
            true => self.prepare(&[source.id, to.0])?,
            false => self.prepare(&[source.id, from.0, to.0])?,
        };
        if let Some(target) = target {
            let left = match self.prepare_drop(target) {
                Ok(left) => left,
                Err(errno) => {
                    self.put_back(copied);
                    return Err(errno);
                }
            };
            self.take_entry(to.0, target, now)?;
            self.drop_name(target, to, left, now)?;
        }
        let name = Name::from_checked(to.1);
        match source.place {
            EntrySlot::Own(position) if from.0 == to.0 => {
                self.rename_entry(to.0, (position, source.kind), name.clone(), now)?;
            }
            EntrySlot::Own(_) | EntrySlot::Base(_) => {
                self.take_entry(from.0, source, now)?;
                self.add_entry(to.0, name.clone(), source.id, source.kind, now)?;
            }
        }
        let moved = self.prepared(source.id)?;
        moved.ctime = now;
        let lost = moved.lose_name(from.0, from.1);
        let gained = moved.gain_name((to.0, name), Asking::No)?;
        if let Body::Dir(entries) = &mut moved.body {
            entries.parent = to.0;
        }
        self.tally.names = self.tally.names + u64::from(gained) - u64::from(lost);
        self.moved_rules(source.id);
        Ok(())
    }

    /// Prepares for [`Self::drop_name`], which makes room and so is never
    /// refused for want of it. Returns how many names are left.
    fn prepare_drop(&mut self, found: FoundEntry) -> Result<u32, Errno> {
        let left = match found.kind {
            Kind::Dir => 0,
            Kind::File | Kind::Symlink => self.stat(found.id)?.nlink.saturating_sub(1),
        };
        if left > 0 || self.is_open(found.id) {
            self.prepare_unasked(found.id)?;
        }
        Ok(left)
    }

    fn check_replace(&self, source: FoundEntry, target: FoundEntry) -> Result<(), Errno> {
        match (source.kind, target.kind) {
            (Kind::Dir, Kind::File | Kind::Symlink) => Err(Errno::NotDirectory),
            (Kind::File | Kind::Symlink, Kind::Dir) => Err(Errno::IsDirectory),
            (Kind::File | Kind::Symlink, Kind::File | Kind::Symlink) => Ok(()),
            (Kind::Dir, Kind::Dir) => {
                self.check_pin(source.id)?;
                self.check_pin(target.id)?;
                if self.is_empty_dir(target.id) {
                    Ok(())
                } else {
                    Err(Errno::NotEmpty)
                }
            }
        }
    }

    /// Returns whether `dir` is `top` or lies below it. O(depth).
    pub(super) fn is_within(&self, dir: FileId, top: FileId) -> bool {
        let mut at = dir;
        loop {
            if at == top {
                return true;
            }
            let up = self.parent(at);
            if up == at {
                return false;
            }
            at = up;
        }
    }

    /// Adds an entry to a directory that has been prepared.
    pub(super) fn add_entry(
        &mut self,
        dir: FileId,
        name: Name,
        id: FileId,
        kind: Kind,
        now: Time,
    ) -> Result<(), Errno> {
        let inode = self.prepared(dir)?;
        let Body::Dir(entries) = &mut inode.body else {
            return Err(Errno::NotDirectory);
        };
        entries.insert(name, id, kind);
        if kind == Kind::Dir {
            inode.nlink += 1;
        }
        inode.touch(now);
        Ok(())
    }

    /// Takes an entry out of a directory that has been prepared.
    pub(super) fn take_entry(
        &mut self,
        dir: FileId,
        found: FoundEntry,
        now: Time,
    ) -> Result<(), Errno> {
        let inode = self.prepared(dir)?;
        let Body::Dir(entries) = &mut inode.body else {
            return Err(Errno::NotDirectory);
        };
        let is_base = entries.remove(found.place);
        if is_base {
            inode.hold.overdraw_more(REMOVED_BYTES.into());
        }
        if found.kind == Kind::Dir {
            inode.nlink -= 1;
        }
        inode.touch(now);
        if found.kind != Kind::File {
            self.turns += 1;
        }
        self.tally.removed += u64::from(is_base);
        Ok(())
    }

    /// Renames an own entry of a directory that has been prepared.
    fn rename_entry(
        &mut self,
        dir: FileId,
        (position, kind): (u64, Kind),
        name: Name,
        now: Time,
    ) -> Result<(), Errno> {
        let inode = self.prepared(dir)?;
        let Body::Dir(entries) = &mut inode.body else {
            return Err(Errno::NotDirectory);
        };
        entries.rename(position, name);
        inode.touch(now);
        if kind != Kind::File {
            self.turns += 1;
        }
        Ok(())
    }

    /// Counts one name less of an object whose entry, `name` in `dir`, has been
    /// taken out; `left` are left.
    fn drop_name(
        &mut self,
        found: FoundEntry,
        (dir, name): (FileId, &[u8]),
        left: u32,
        now: Time,
    ) -> Result<(), Errno> {
        if left == 0 && !self.is_open(found.id) {
            self.free(found.id);
            self.moved_rules(found.id);
            return Ok(());
        }
        let inode = self.prepared(found.id)?;
        inode.nlink = left;
        inode.ctime = now;
        let further = inode.lose_name(dir, name);
        self.tally.names -= u64::from(further);
        if left > 0 {
            self.usage.links -= 1;
        } else {
            self.orphans.insert(found.id);
        }
        self.moved_rules(found.id);
        Ok(())
    }
}
