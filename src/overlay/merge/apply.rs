//! Carrying out a plan.

use super::super::added_names::AddedNames;
use super::super::dir::DirBody;
use super::super::inode::{Body, Inode};
use super::super::maps::ByPtr;
use super::super::quota::Quota;
use super::super::{Counts, Overlay};
use super::plan::{Attach, MergePlan, NewBytes, NewMeta, PlannedObject};
use crate::budget::{Asking, Charge};
use crate::errno::Errno;
use crate::limits::OBJECT_BYTES;
use crate::meta::{FileId, Kind, Time};

impl MergePlan {
    /// Returns whether carrying it out may read bytes from a store: only blocks
    /// of files that both sides changed are copied.
    pub(super) fn reads_at_rest(&self, ours: &Overlay, theirs: &Overlay) -> bool {
        let is_at_rest = |state: &Overlay, id| {
            let inode = state.living(id);
            inode.is_some_and(|inode| match &inode.body {
                Body::File(file) => state.is_at_rest(file),
                Body::Dir(_) | Body::Symlink(_) => false,
            })
        };
        self.bytes.iter().any(|(id, bytes)| match bytes {
            NewBytes::Theirs => false,
            NewBytes::Both(_) => is_at_rest(ours, *id) || is_at_rest(theirs, *id),
        })
    }

    /// Makes of `ours` what the plan says. The outcome may exceed quotas, and
    /// has what has lost its last name among its orphans. O(n log n) in the
    /// operations, and the bytes that both sides changed of one file.
    ///
    /// Preconditions: the plan was made from these states and has no conflict.
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] when a budget or the numbers for new objects end,
    /// [`Errno::Io`] for bytes at rest that cannot be read.
    pub(super) fn apply(
        self,
        ours: &Overlay,
        theirs: &Overlay,
        now: Time,
    ) -> Result<Overlay, Errno> {
        let mut to = ours.copy_to_plan();
        // What comes first may need room that what goes last makes.
        to.quota = Quota {
            max_bytes: u64::MAX,
            max_inodes: u64::MAX,
            max_changed: u64::MAX,
            max_open: u32::MAX,
        };
        for (id, bytes) in &self.bytes {
            to.set_bytes(*id, bytes, theirs, now)?;
        }
        for (id, meta) in &self.metas {
            to.set_meta(*id, meta, now)?;
        }
        let mut made = Vec::with_capacity(self.made.len());
        for (id, _) in &self.made {
            made.push(to.make_like(theirs, *id, now)?);
        }
        let mut links = Links::new(&to, &self, &made)?;
        for ((dir, name), id) in &self.detach {
            let found = to.find(*dir, name.as_bytes()).ok_or(Errno::Io)?;
            to.prepare(&[*dir, *id])?;
            to.take_entry(*dir, found, now)?;
            let inode = to.prepared(*id)?;
            inode.ctime = now;
            if found.kind != Kind::Dir {
                inode.nlink -= 1;
            }
            let further = inode.lose_name(*dir, name.as_bytes());
            to.tally.names -= u64::from(further);
        }
        for attach in &self.attach {
            to.attach(attach, &made, now)?;
        }
        for id in &self.gone {
            to.own(*id)?.nlink = 0;
            to.orphans.insert(*id);
        }
        links.count_further_names(&mut to)?;
        to.quota = ours.quota;
        Ok(to)
    }
}

/// The files and links whose names a plan changes, with how many they had.
struct Links(std::collections::BTreeMap<FileId, u32>);

impl Links {
    fn new(to: &Overlay, plan: &MergePlan, made: &[FileId]) -> Result<Self, Errno> {
        let detached = plan.detach.iter().map(|(_, id)| Some(*id));
        let attached = plan.attach.iter().map(|one| id_of(one.what, made));
        let mut had = std::collections::BTreeMap::new();
        for id in detached.chain(attached).flatten() {
            if to.kind(id) != Kind::Dir {
                had.insert(id, to.stat(id)?.nlink);
            }
        }
        Ok(Self(had))
    }

    /// Counts further names: the first one of a file counts as the file.
    fn count_further_names(&mut self, to: &mut Overlay) -> Result<(), Errno> {
        for (id, had) in &self.0 {
            let has = to.stat(*id)?.nlink;
            to.usage.links += i64::from(has.max(1)) - i64::from((*had).max(1));
        }
        Ok(())
    }
}

fn id_of(target: PlannedObject, made: &[FileId]) -> Option<FileId> {
    match target {
        PlannedObject::Here(id) => Some(id),
        PlannedObject::Made(at) => made.get(at).copied(),
    }
}

impl Overlay {
    fn set_bytes(
        &mut self,
        id: FileId,
        bytes: &NewBytes,
        theirs: &Self,
        now: Time,
    ) -> Result<(), Errno> {
        match bytes {
            NewBytes::Both(sides) => self.merge_bytes(id, sides, theirs, now),
            NewBytes::Theirs => {
                let there = theirs.living(id).ok_or(Errno::Io)?;
                match &there.body {
                    Body::File(file) => self.take_bytes(id, theirs, file),
                    Body::Dir(_) | Body::Symlink(_) => Err(Errno::Io),
                }
            }
        }
    }

    fn set_meta(&mut self, id: FileId, meta: &NewMeta, now: Time) -> Result<(), Errno> {
        let inode = self.own(id)?;
        if let Some(owners) = meta.owners {
            (inode.mode, inode.uid, inode.gid) = owners;
        }
        inode.atime = meta.atime.unwrap_or(inode.atime);
        inode.mtime = meta.mtime.unwrap_or(inode.mtime);
        inode.ctime = now;
        Ok(())
    }

    /// Makes an object of theirs here, without a name: a directory empty, a
    /// file with all its bytes, which are shared.
    fn make_like(&mut self, theirs: &Self, their_id: FileId, now: Time) -> Result<FileId, Errno> {
        let there = theirs.living(their_id).ok_or(Errno::Io)?;
        let id = self.next_id()?;
        let body = match &there.body {
            Body::Dir(_) => Body::Dir(DirBody::new(FileId::ROOT)),
            Body::File(_) | Body::Symlink(_) => there.body.clone(),
        };
        let nlink = if body.kind() == Kind::Dir { 2 } else { 0 };
        let target = body.target_bytes();
        let cost = OBJECT_BYTES.saturating_add(u32::try_from(target).unwrap_or(u32::MAX));
        let hold = Charge::take(self.account(), cost)?;
        if let Body::File(file) = &body {
            self.recount(Counts::none(), Counts::of(file));
            self.take_unsealed(id, theirs, their_id);
        }
        let inode = Inode {
            nlink,
            birth: self.branch,
            ctime: now,
            given: AddedNames::default(),
            hold,
            body,
            ..there.into_owned()
        };
        self.inodes.insert(id, Some(ByPtr::new(inode)));
        self.usage.inodes += 1;
        self.usage.logical_bytes += target;
        self.usage.private_bytes += target;
        self.tally.targets += target;
        Ok(id)
    }

    fn attach(&mut self, attach: &Attach, made: &[FileId], now: Time) -> Result<(), Errno> {
        let ends = id_of(attach.what, made).zip(id_of(attach.dir, made));
        let (id, dir) = ends.ok_or(Errno::Io)?;
        let name = &attach.name;
        self.prepare(&[dir, id])?;
        self.add_entry(dir, name.clone(), id, attach.kind, now)?;
        let inode = self.prepared(id)?;
        let further = inode.gain_name((dir, name.clone()), Asking::Yes)?;
        inode.ctime = now;
        match &mut inode.body {
            Body::Dir(body) => body.parent = dir,
            Body::File(_) | Body::Symlink(_) => inode.nlink += 1,
        }
        self.tally.names += u64::from(further);
        Ok(())
    }
}
