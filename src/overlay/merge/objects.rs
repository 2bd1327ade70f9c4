//! Planning what is in an object: bytes, mode, owner, times.

use std::ops::Range;
use std::sync::Arc;

use super::super::blocks::FileBody;
use super::super::delta::DirEntryKey;
use super::super::inode::{Body, Inode};
use super::super::steps;
use super::bytes::SideChanges;
use super::plan::{NewBytes, NewMeta, Planner, owners};
use super::{Conflict, MergeReads};
use crate::errno::Errno;
use crate::meta::FileId;

/// The ranges in which a file differs.
type DifferingRanges = Arc<[Range<u64>]>;

impl Planner<'_, '_> {
    /// Looks at each object that theirs changed or removed.
    pub(super) fn plan_objects(&mut self) -> Result<(), Errno> {
        for at in 0..self.merger.there.ids.len() {
            if let Some(id) = self.merger.there.ids.get(at) {
                self.plan_object(*id)?;
            }
        }
        Ok(())
    }

    fn plan_object(&mut self, id: FileId) -> Result<(), Errno> {
        let (base, theirs) = (self.merger.base, self.merger.theirs);
        let (was, there) = match (base.living(id), theirs.living(id)) {
            (Some(was), Some(there)) => (was, there),
            (Some(was), None) => return self.check_removal(id, &was),
            (None, Some(there)) => return self.check_made(id, &there),
            (None, None) => return Ok(()),
        };
        let changed_there = self.ranges_there(id, &was, &there)?;
        if changed_there.is_empty() && !differs(&was, &there) {
            return Ok(());
        }
        let ours = self.ours;
        let here = ours.living(id).filter(|_| ours.is_alive((id, was.birth)));
        let Some(here) = here else {
            self.conflicts.of(id, |path| Conflict::Removed { path });
            return Ok(());
        };
        self.plan_meta(id, &was, &here, &there);
        if !changed_there.is_empty() {
            let changed_here = self.ranges_here(id, &was, &here)?;
            self.plan_bytes(id, (&was, &here, &there), &changed_here, changed_there);
        }
        Ok(())
    }

    /// What theirs made comes with its first name, unless this state came of one
    /// of theirs and has it already. Then nothing tells which of two states of
    /// it is the later one.
    fn check_made(&mut self, id: FileId, there: &Inode) -> Result<(), Errno> {
        let ours = self.ours;
        let here = ours.living(id).filter(|here| here.birth == there.birth);
        let Some(here) = here else {
            return Ok(());
        };
        if let (Body::File(one), Body::File(two)) = (&here.body, &there.body) {
            self.expect_in_memory(&[one, two])?;
            let ranges = ours.ranges(self.merger.theirs, id, one, two);
            if !ranges.is_empty() {
                self.conflicts
                    .of(id, |path| Conflict::Content { path, ranges });
            }
        }
        if owners(&here) != owners(there) {
            self.conflicts.of(id, |path| Conflict::Meta { path });
        }
        Ok(())
    }

    /// [`Errno::Busy`] if comparing the files may read bytes at rest and must
    /// not.
    fn expect_in_memory(&self, files: &[&FileBody]) -> Result<(), Errno> {
        let at_rest = files.iter().any(|file| self.ours.is_at_rest(file));
        if self.reading == MergeReads::Refused && at_rest {
            Err(Errno::Busy)
        } else {
            Ok(())
        }
    }

    fn ranges_there(
        &mut self,
        id: FileId,
        was: &Inode,
        is: &Inode,
    ) -> Result<DifferingRanges, Errno> {
        let (base, theirs, reading) = (self.merger.base, self.merger.theirs, self.reading);
        let compared = &mut self.merger.compared_there;
        compared.ranges(id, (base, was), (theirs, is), reading)
    }

    fn ranges_here(
        &mut self,
        id: FileId,
        was: &Inode,
        is: &Inode,
    ) -> Result<DifferingRanges, Errno> {
        let (base, ours, reading) = (self.merger.base, self.ours, self.reading);
        let compared = &mut self.merger.compared_here;
        compared.ranges(id, (base, was), (ours, is), reading)
    }

    /// An object that theirs removed must not have changed here, nor have been
    /// given another name.
    fn check_removal(&mut self, id: FileId, was: &Inode) -> Result<(), Errno> {
        let Some(here) = self.ours.living(id) else {
            return Ok(());
        };
        let base = self.merger.base;
        let is_new = |(dir, name): &DirEntryKey| {
            let found = base.find(*dir, name.as_bytes());
            found.is_none_or(|found| found.id != id)
        };
        let is_renamed = here.given.iter().any(is_new);
        let changed = match was.body {
            // A directory may have lost entries here too: what it holds in the
            // end is looked at when all names have been planned.
            Body::Dir(_) => owners(was) != owners(&here),
            Body::File(_) | Body::Symlink(_) => {
                differs(was, &here) || !self.ranges_here(id, was, &here)?.is_empty()
            }
        };
        if changed || is_renamed {
            self.conflicts.of(id, |path| Conflict::Removed { path });
        }
        Ok(())
    }

    fn plan_meta(&mut self, id: FileId, was: &Inode, here: &Inode, there: &Inode) {
        let changed_there = owners(there) != owners(was);
        if changed_there && owners(here) != owners(was) && owners(here) != owners(there) {
            self.conflicts.of(id, |path| Conflict::Meta { path });
            return;
        }
        // The later of two changes of a time stands; a time that was set back
        // on one side only stands too.
        let mtime = if there.mtime == was.mtime {
            here.mtime
        } else if here.mtime == was.mtime {
            there.mtime
        } else {
            here.mtime.max(there.mtime)
        };
        let meta = NewMeta {
            owners: changed_there.then(|| owners(there)),
            atime: (there.atime != was.atime).then(|| here.atime.max(there.atime)),
            mtime: Some(mtime),
        };
        self.plan.metas.push((id, meta));
    }

    /// Both sides may change a file's bytes where they are apart, and may do
    /// the same. Of its sizes one may change, or both to the same.
    fn plan_bytes(
        &mut self,
        id: FileId,
        (was, here, there): (&Inode, &Inode, &Inode),
        changed_here: &[Range<u64>],
        changed_there: DifferingRanges,
    ) {
        if changed_here.is_empty() {
            self.plan.bytes.push((id, NewBytes::Theirs));
            return;
        }
        let (Body::File(was), Body::File(here), Body::File(there)) =
            (&was.body, &here.body, &there.body)
        else {
            return;
        };
        let theirs = self.merger.theirs;
        let mut ranges = overlap(changed_here, &changed_there);
        ranges.retain(|range| !self.ours.reads_alike(here, (theirs, there), range.clone()));
        let sizes = (was.size(), here.size(), there.size());
        let grown_apart = sizes.1 != sizes.2 && sizes.1 != sizes.0 && sizes.2 != sizes.0;
        if grown_apart || !ranges.is_empty() {
            self.conflicts
                .of(id, |path| Conflict::Content { path, ranges });
            return;
        }
        let size = if sizes.2 == sizes.0 { sizes.1 } else { sizes.2 };
        let sides = SideChanges {
            size,
            here: changed_here.into(),
            there: changed_there,
        };
        self.plan.bytes.push((id, NewBytes::Both(sides)));
    }

    /// Returns whether a file that theirs made reads as one of ours and has the
    /// same mode. O(stored bytes), and nothing for holes.
    pub(super) fn is_equal_file(&self, theirs: &Inode, ours: &Inode) -> Result<bool, Errno> {
        let (Body::File(there), Body::File(here)) = (&theirs.body, &ours.body) else {
            return Ok(false);
        };
        if (there.size(), theirs.mode) != (here.size(), ours.mode) {
            return Ok(false);
        }
        self.expect_in_memory(&[there, here])?;
        let whole = 0..here.size();
        let theirs = (self.merger.theirs, there);
        Ok(self.ours.reads_alike(here, theirs, whole))
    }
}

/// Returns whether anything but bytes, names and the time of the change
/// differs.
fn differs(one: &Inode, two: &Inode) -> bool {
    let of_dir = matches!(one.body, Body::Dir(_));
    owners(one) != owners(two) || (!of_dir && one.mtime != two.mtime)
}

/// Joins what lies in both of two sorted lists of ranges that are apart.
/// O(ranges): each step passes the range that ends first.
fn overlap(one: &[Range<u64>], two: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut one, mut two) = (one.iter().peekable(), two.iter().peekable());
    let mut both = Vec::new();
    while let (Some(a), Some(b)) = (one.peek(), two.peek()) {
        steps::add(1);
        let (start, end) = (a.start.max(b.start), a.end.min(b.end));
        if start < end {
            both.push(start..end);
        }
        if a.end <= b.end {
            one.next();
        } else {
            two.next();
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_both_lists_is_found_in_one_sweep() {
        let bits = |ranges: &[Range<u64>], at: u64| ranges.iter().any(|one| one.contains(&at));
        for pattern in 0u32..1 << 12 {
            let list = |bits: u32| -> Vec<Range<u64>> {
                let set = (0..6u64).filter(|at| bits >> at & 1 == 1);
                set.map(|at| at * 2..at * 2 + 1 + (at % 2)).collect()
            };
            let (one, two) = (list(pattern & 63), list(pattern >> 6));
            let both = overlap(&one, &two);
            for at in 0..14 {
                assert_eq!(bits(&both, at), bits(&one, at) && bits(&two, at));
            }
        }
    }
}
