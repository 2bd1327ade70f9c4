//! Merging what is in an object: bytes, mode, owner, times.

use super::super::inode::{Body, Inode};
use super::super::{Counts, Overlay};
use super::{Conflict, Merge, overlap};
use crate::errno::Errno;
use crate::limits::BLOCK_BYTES;
use crate::meta::FileId;

impl Merge<'_> {
    /// Merges an object of the common state that `theirs` has changed.
    pub(super) fn merge_object(&mut self, id: FileId) -> Result<(), Errno> {
        let (Some(base), Some(theirs)) = (self.base.living(id), self.theirs.living(id)) else {
            return self.check_removal(id);
        };
        if !differs(id, (self.base, &base), (self.theirs, &theirs)) {
            return Ok(());
        }
        let Some(ours) = self
            .ours
            .living(id)
            .filter(|_| self.to.is_alive((id, base.birth)))
        else {
            let path = self.path(id);
            self.conflicts.insert(Conflict::Removed { path });
            return Ok(());
        };
        self.merge_meta(id, &base, &ours, &theirs)?;
        if let (Body::File(was), Body::File(there)) = (&base.body, &theirs.body) {
            let changed = self.base.ranges(self.theirs, id, was, there);
            if !changed.is_empty() {
                self.merge_bytes(id, &base, &ours, &theirs)?;
            }
        }
        Ok(())
    }

    /// An object that theirs removed must not have changed here.
    fn check_removal(&mut self, id: FileId) -> Result<(), Errno> {
        let (Some(base), Some(ours)) = (self.base.living(id), self.ours.living(id)) else {
            return Ok(());
        };
        if self.theirs.living(id).is_none() && differs(id, (self.base, &base), (self.ours, &ours)) {
            let is_dir = matches!(base.body, Body::Dir(_));
            // A directory may have lost entries here too: what it holds in the
            // end is looked at when it goes.
            if !is_dir || owners(&base) != owners(&ours) {
                let path = self.path(id);
                self.conflicts.insert(Conflict::Removed { path });
            }
        }
        Ok(())
    }

    fn merge_meta(
        &mut self,
        id: FileId,
        base: &Inode,
        ours: &Inode,
        theirs: &Inode,
    ) -> Result<(), Errno> {
        let theirs_changed = owners(theirs) != owners(base);
        if theirs_changed && owners(ours) != owners(base) && owners(ours) != owners(theirs) {
            let path = self.path(id);
            self.conflicts.insert(Conflict::Meta { path });
            return Ok(());
        }
        let now = self.now;
        let inode = self.to.own(id)?;
        if theirs_changed {
            (inode.mode, inode.uid, inode.gid) = owners(theirs);
        }
        // The later of two changes of a time stands; a time that was set back
        // on one side only stands too.
        if theirs.mtime != base.mtime {
            let kept = (ours.mtime != base.mtime).then_some(ours.mtime);
            inode.mtime = kept.map_or(theirs.mtime, |kept| kept.max(theirs.mtime));
        }
        if theirs.atime != base.atime {
            inode.atime = inode.atime.max(theirs.atime);
        }
        inode.ctime = now;
        Ok(())
    }

    fn merge_bytes(
        &mut self,
        id: FileId,
        base: &Inode,
        ours: &Inode,
        theirs: &Inode,
    ) -> Result<(), Errno> {
        let (Body::File(was), Body::File(here), Body::File(there)) =
            (&base.body, &ours.body, &theirs.body)
        else {
            return Ok(());
        };
        let changed_here = self.base.ranges(self.ours, id, was, here);
        if changed_here.is_empty() {
            return self.to.take_bytes(id, theirs);
        }
        let changed_there = self.base.ranges(self.theirs, id, was, there);
        let mut ranges = overlap(&changed_here, &changed_there);
        ranges.retain(|(start, end)| {
            !self
                .ours
                .reads_alike(here, (self.theirs, there), *start..*end)
        });
        let grown_apart =
            here.size() != there.size() && here.size() != was.size() && there.size() != was.size();
        if grown_apart || !ranges.is_empty() {
            let path = self.path(id);
            self.conflicts.insert(Conflict::Content { path, ranges });
            return Ok(());
        }
        let now = self.now;
        if there.size() != was.size() {
            self.to.set_size(id, there.size(), now)?;
        }
        let mut buf = [0; BLOCK_BYTES];
        for range in changed_there {
            let mut at = range.start;
            while at < range.end.min(there.size()) {
                let want = usize::try_from(range.end - at).unwrap_or(BLOCK_BYTES);
                let piece = buf.get_mut(..want.min(BLOCK_BYTES)).unwrap_or_default();
                let read = self.theirs.read_at(id, at, piece)?;
                let piece = piece.get(..read).unwrap_or_default();
                if read == 0 {
                    break;
                }
                let mut done = 0;
                while let Some(rest) = piece.get(done..).filter(|rest| !rest.is_empty()) {
                    done += self.to.write_at(id, at + done as u64, rest, now)?;
                }
                at += read as u64;
            }
        }
        // Writing set it to now.
        self.to.own(id)?.mtime = ours.mtime.max(theirs.mtime);
        Ok(())
    }
}

impl Overlay {
    /// Takes over the bytes of a file of another state: shared, not copied.
    pub(super) fn take_bytes(&mut self, id: FileId, from: &Inode) -> Result<(), Errno> {
        let Body::File(there) = &from.body else {
            return Ok(());
        };
        let inode = self.own(id)?;
        let Body::File(here) = &mut inode.body else {
            return Err(Errno::Io);
        };
        let had = Counts::of(here);
        *here = there.clone();
        let has = Counts::of(here);
        self.recount(had, has);
        self.cut_dirty(id);
        Ok(())
    }
}

fn owners(inode: &Inode) -> (u32, u32, u32) {
    (inode.mode, inode.uid, inode.gid)
}

/// Tells whether anything but names and the time of the change differs.
fn differs(id: FileId, (tree, one): (&Overlay, &Inode), (later, two): (&Overlay, &Inode)) -> bool {
    let files = match (&one.body, &two.body) {
        (Body::File(one), Body::File(two)) => !tree.ranges(later, id, one, two).is_empty(),
        _ => false,
    };
    let of_dir = matches!(one.body, Body::Dir(_));
    files || owners(one) != owners(two) || (!of_dir && one.mtime != two.mtime)
}
