//! Revalidation of everything an overlay counts or ties together.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::Overlay;
use super::dirty::Dirty;
use super::inode::Body;
use super::quota::Tally;
use crate::meta::{FileId, Kind};

impl Overlay {
    /// Recounts everything. Gives the first count or tie that is wrong, in
    /// words. O(tree): for tests and fuzzing.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_inodes()?;
        self.check_given()?;
        self.check_tree()
    }

    fn check_inodes(&self) -> Result<(), String> {
        let (mut logical, mut private, mut made, mut changed) = (0, 0, 0, 0);
        let mut tally = Tally {
            removed: self.gone_names(),
            ..Tally::default()
        };
        for (id, held) in self.inodes.iter() {
            let Some(inode) = held else {
                if self.node(*id).is_none() {
                    return Err(format!("{id:?} is kept though gone"));
                }
                continue;
            };
            if self.node(*id).is_none() {
                made += 1;
                logical += inode.body.target_bytes();
                private += inode.body.target_bytes();
            } else {
                changed += 1;
            }
            tally.targets += inode.body.target_bytes();
            tally.names += inode.given.further();
            match &inode.body {
                Body::File(file) => {
                    logical += file.logical_bytes();
                    private += file.private_bytes();
                    tally.blocks += file.further_blocks();
                    tally.in_blocks += file.held_bytes();
                    let counted = (
                        file.logical_bytes(),
                        file.private_bytes(),
                        file.held_bytes(),
                    );
                    if file.recount() != counted || !file.is_sound() {
                        return Err(format!("blocks of {id:?}"));
                    }
                }
                Body::Dir(dir) if !dir.is_sound(&self.image) => {
                    return Err(format!("entries of {id:?}"));
                }
                Body::Dir(dir) => tally.removed += dir.removed(),
                Body::Symlink(_) => {}
            }
            if inode.nlink == 0 && !self.is_open(*id) {
                return Err(format!("{id:?} has neither name nor descriptor"));
            }
            if (inode.nlink == 0) != self.orphans.contains(id) {
                return Err(format!("{id:?} and the set of objects without a name"));
            }
        }
        if let Some(id) = self.orphans.iter().find(|id| self.changed(**id).is_none()) {
            return Err(format!("{id:?} has no name and is not here"));
        }
        let usage = self.usage;
        if (logical, private, made) != (usage.logical_bytes, usage.private_bytes, usage.inodes) {
            return Err(format!(
                "{logical} bytes, {private} of them private, and {made} inodes, counted {usage:?}"
            ));
        }
        if (changed, tally) != (usage.changed, self.tally) {
            let counted = &self.tally;
            return Err(format!(
                "{changed} changed objects and {tally:?}, counted {} and {counted:?}",
                usage.changed
            ));
        }
        let reachable = self.reachable_bytes();
        if reachable > tally.in_blocks {
            return Err(format!("{reachable} bytes are held, counted {tally:?}"));
        }
        self.check_dirty()?;
        let open: u64 = self.open.values().map(|count| u64::from(*count)).sum();
        if open != u64::from(usage.open) {
            return Err(format!("{open} descriptors, counted {usage:?}"));
        }
        Ok(())
    }

    /// Holds the names that objects were given against the entries of
    /// directories.
    fn check_given(&self) -> Result<(), String> {
        let (mut entries, mut given) = (BTreeSet::new(), BTreeSet::new());
        for (id, held) in self.inodes.iter() {
            let Some(inode) = held else { continue };
            given.extend(inode.given.iter().map(|(dir, name)| (*dir, name, *id)));
            if let Body::Dir(dir) = &inode.body {
                entries.extend(dir.own_entries().map(|own| (*id, &own.name, own.id)));
            }
        }
        match entries.symmetric_difference(&given).next() {
            Some(odd) => Err(format!("{odd:?} is an entry or a name given, not both")),
            None => Ok(()),
        }
    }

    /// Holds the blocks to be sealed against the files.
    fn check_dirty(&self) -> Result<(), String> {
        for (id, blocks) in self.dirty.iter().flat_map(Dirty::iter) {
            let Some(Body::File(file)) = self.changed(id).map(|inode| &inode.body) else {
                return Err(format!("blocks of {id:?}, which is gone, are to be sealed"));
            };
            if !blocks.is_bounded(file) {
                return Err(format!("too many blocks of {id:?} are to be sealed"));
            }
        }
        Ok(())
    }

    /// Walks the whole tree: parents, link counts, reachability.
    fn check_tree(&self) -> Result<(), String> {
        let mut names: BTreeMap<FileId, u32> = BTreeMap::new();
        let mut dirs = BTreeSet::from([FileId::ROOT]);
        let mut todo = vec![FileId::ROOT];
        while let Some(dir) = todo.pop() {
            let mut below = Vec::new();
            self.list(dir, 0, u64::MAX, &mut |_, id, kind, _| {
                below.push((id, kind));
                ControlFlow::Continue(())
            });
            let subdirs = below.iter().filter(|(_, kind)| *kind == Kind::Dir).count();
            let nlink = self.stat(dir).map(|stat| stat.nlink as usize);
            if nlink != Ok(subdirs + 2) {
                return Err(format!(
                    "{dir:?} has {subdirs} directories but nlink {nlink:?}"
                ));
            }
            for (id, kind) in below {
                if kind != self.kind(id) {
                    return Err(format!("entry and object differ in kind: {id:?}"));
                }
                if kind != Kind::Dir {
                    *names.entry(id).or_insert(0) += 1;
                } else if !dirs.insert(id) || self.parent(id) != dir {
                    return Err(format!("{id:?} has two names or a wrong parent"));
                } else {
                    todo.push(id);
                }
            }
        }
        for (id, count) in &names {
            if self.stat(*id).map(|stat| stat.nlink) != Ok(*count) {
                return Err(format!("{id:?} has {count} names, another nlink"));
            }
        }
        let lost = self
            .inodes
            .iter()
            .filter_map(|(id, held)| held.as_ref().map(|inode| (id, inode)))
            .find(|(id, inode)| inode.nlink > 0 && !names.contains_key(id) && !dirs.contains(id));
        lost.map_or(Ok(()), |(id, _)| {
            Err(format!("{id:?} is reached by no name"))
        })
    }
}
