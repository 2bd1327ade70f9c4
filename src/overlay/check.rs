//! Revalidation of everything an overlay counts or ties together.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::Overlay;
use super::dirty::Dirty;
use super::inode::{Body, Inode};
use super::quota::{HostCosts, Usage};
use crate::meta::{FileId, Kind};

impl Overlay {
    /// Recounts everything. Returns the first count or tie that is wrong, in
    /// words. O(tree): for tests and fuzzing.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_inodes()?;
        self.check_given()?;
        self.check_tree()
    }

    fn check_inodes(&self) -> Result<(), String> {
        let (usage, tally) = self.recounted()?;
        if (usage, tally) != (self.usage, self.tally) {
            let counted = (&self.usage, &self.tally);
            return Err(format!("{usage:?} and {tally:?}, counted {counted:?}"));
        }
        let reachable = self.reachable_bytes();
        if reachable > tally.in_blocks {
            return Err(format!("{reachable} bytes are held, counted {tally:?}"));
        }
        if let Some(id) = self.orphans.iter().find(|id| self.changed(**id).is_none()) {
            return Err(format!("{id:?} has no name and is not here"));
        }
        self.check_dirty()
    }

    /// Counts what all objects and descriptors make up, and looks at each object
    /// on the way. What is counted nowhere else is taken as it is.
    fn recounted(&self) -> Result<(Usage, HostCosts), String> {
        let open: u64 = self.open.values().map(|count| u64::from(*count)).sum();
        let mut usage = Usage {
            open: u32::try_from(open).unwrap_or(u32::MAX),
            links: self.usage.links,
            held_bytes: self.usage.held_bytes,
            ..Usage::default()
        };
        let mut tally = HostCosts {
            removed: self.gone_names(),
            ..HostCosts::default()
        };
        for (id, held) in self.inodes.iter() {
            let is_base = self.node(*id).is_some();
            let Some(inode) = held else {
                if is_base {
                    continue;
                }
                return Err(format!("{id:?} is kept though gone"));
            };
            let target = inode.body.target_bytes();
            if is_base {
                usage.changed += 1;
            } else {
                usage.inodes += 1;
                usage.logical_bytes += target;
                usage.private_bytes += target;
            }
            tally.targets += target;
            tally.names += inode.given.further();
            match &inode.body {
                Body::File(file) => {
                    let counted = (
                        file.logical_bytes(),
                        file.private_bytes(),
                        file.held_bytes(),
                    );
                    if file.recount() != counted || !file.is_sound() {
                        return Err(format!("blocks of {id:?}"));
                    }
                    usage.logical_bytes += counted.0;
                    usage.private_bytes += counted.1;
                    tally.in_blocks += counted.2;
                    tally.blocks += file.further_blocks();
                }
                Body::Dir(dir) if !dir.is_sound(&self.image) => {
                    return Err(format!("entries of {id:?}"));
                }
                Body::Dir(dir) => tally.removed += dir.removed(),
                Body::Symlink(_) => {}
            }
            self.check_names_left(*id, inode)?;
        }
        Ok((usage, tally))
    }

    /// Looks whether an object without a name is held by a descriptor.
    fn check_names_left(&self, id: FileId, inode: &Inode) -> Result<(), String> {
        if inode.nlink == 0 && !self.is_open(id) {
            return Err(format!("{id:?} has neither name nor descriptor"));
        }
        if (inode.nlink == 0) != self.orphans.contains(&id) {
            return Err(format!("{id:?} and the set of objects without a name"));
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
