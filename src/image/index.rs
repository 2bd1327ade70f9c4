//! The merged tree, as a flat table.

use std::ops::Range;
use std::sync::Arc;

use super::attributes::{ContentTable, XattrTable};
use super::checked::CheckedEntries;
use super::guard::Guard;
use super::record::{NONE, NodeRecord, SlotRecord};
use super::records::{GuardedBytes, Records};
use super::table::{NameTable, TableLookup, hash};
use crate::bounded::bounded_u32;
use crate::chunk::{Content, ContentError};
use crate::meta::{Kind, Meta, Stat, Xattrs};
use crate::steps;

/// What a name of a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dentry {
    /// Number of the entry.
    pub(crate) slot: u32,
    /// Number of the object.
    pub(crate) node: u32,
    pub(crate) kind: Kind,
}

/// An entry of a directory, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotRef<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) node: u32,
    pub(crate) kind: Kind,
}

/// The tables and the way in by name. Read only, shared by all instances.
///
/// Numbers of nodes and slots come from here; one that does not reads as an
/// empty directory or as nothing, never as a panic. So does what lies in a
/// damaged block of a mapped index, and [`damage`](Self::damage) tells.
pub(super) struct Index {
    pub(super) nodes: Records<NodeRecord>,
    pub(super) slots: Records<SlotRecord>,
    /// All names, in the order of the slots.
    pub(super) names: GuardedBytes,
    /// The targets of all symbolic links.
    pub(super) targets: GuardedBytes,
    pub(super) contents: ContentTable,
    pub(super) xattrs: XattrTable,
    pub(super) table: NameTable,
    /// Of an index that is mapped.
    pub(super) guard: Option<Arc<Guard>>,
    /// The entries of it that have been held against the rules.
    pub(super) checked: CheckedEntries,
}

impl Index {
    pub(super) fn nodes(&self) -> u32 {
        // `Parts` refuses more than `MAX_RECORDS`, and a file has the number in 32 bits.
        bounded_u32(self.nodes.len(), "`Parts`")
    }

    /// Returns what has been found wrong with a mapped index so far. What it
    /// gave before it was found is right; what it gives from then on may be
    /// anything that an index can give.
    #[inline]
    pub(super) fn damage(&self) -> Option<ContentError> {
        self.guard.as_ref()?.damage()
    }

    /// Looks at every block of a mapped index again.
    pub(super) fn check_all(&self) -> Result<(), ContentError> {
        self.guard
            .as_ref()
            .map_or(Ok(()), |guard| guard.check_all())
    }

    #[inline]
    pub(super) fn node(&self, node: u32) -> &NodeRecord {
        self.nodes
            .get(node as usize)
            .unwrap_or(&NodeRecord::NOWHERE)
    }

    /// Finds a name in a directory: one hash, one place in the table, one
    /// name compared, whatever the size of the directory or the tree.
    pub(super) fn lookup(&self, dir: u32, name: &[u8]) -> Option<Dentry> {
        let is = |slot| {
            self.record(slot)
                .is_some_and(|record| record.parent.get() == dir && self.name(record) == name)
        };
        let slot = match self.table.find(hash(dir, name), is) {
            TableLookup::Slot(slot) => slot,
            TableLookup::Nothing => return None,
            TableLookup::Full => self.search(dir, name)?,
        };
        let record = self.record(slot)?;
        if !self.is_right(slot, record) {
            return None;
        }
        Some(Dentry {
            slot,
            node: record.node.get(),
            kind: record.kind(),
        })
    }

    /// Finds a slot by binary search: for what the table had no place for.
    #[cold]
    fn search(&self, dir: u32, name: &[u8]) -> Option<u32> {
        let Range { start, end } = self.slots(dir);
        let records = self.slots.slice(start as usize..end as usize)?;
        let at = records
            .binary_search_by(|record| {
                steps::add(1);
                self.name(record).cmp(name)
            })
            .ok()?;
        Some(start + u32::try_from(at).ok()?)
    }

    pub(super) fn slots(&self, dir: u32) -> Range<u32> {
        // `count` is 0 for what is no directory.
        let record = self.node(dir);
        let first = record.first.get();
        let slots = first..first.saturating_add(record.count.get());
        let (Some(guard), Some(last)) = (&self.guard, record.count.get().checked_sub(1)) else {
            return slots;
        };
        let ends = [first, first.saturating_add(last)];
        let own = |slot| Some(self.record(slot)?.parent.get() == dir);
        if ends.into_iter().all(|slot| own(slot) == Some(true)) {
            return slots;
        }
        guard.mark_malformed("entries of a directory that are another's");
        0..0
    }

    pub(super) fn slot(&self, slot: u32) -> Option<SlotRef<'_>> {
        let record = self.record(slot)?;
        if !self.is_right(slot, record) {
            return None;
        }
        let name = self.name(record);
        if self.guard.is_some() && (name.is_empty() || name.contains(&0)) {
            // It was a name when it was checked: the file was changed since.
            self.mark_malformed("a name that is no longer valid");
            return None;
        }
        Some(SlotRef {
            name,
            node: record.node.get(),
            kind: record.kind(),
        })
    }

    /// Returns whether an entry is one that a tree can have. Of a mapped index
    /// each is held against the rules when it is first looked at.
    #[inline]
    fn is_right(&self, slot: u32, record: &SlotRecord) -> bool {
        self.guard.is_none() || self.checked.has(slot) || self.check(slot, record)
    }

    #[cold]
    fn check(&self, slot: u32, record: &SlotRecord) -> bool {
        match self.broken_rule(slot, record) {
            // What lies in a damaged block keeps no rule either, and the
            // damage was told first.
            Some(what) => {
                self.mark_malformed(what);
                false
            }
            None => {
                self.checked.set(slot);
                true
            }
        }
    }

    /// Records that a mapped index is malformed although its digest is right.
    pub(super) fn mark_malformed(&self, what: &'static str) {
        if let Some(guard) = &self.guard {
            guard.mark_malformed(what);
        }
    }

    pub(super) fn record(&self, slot: u32) -> Option<&SlotRecord> {
        self.slots.get(slot as usize)
    }

    pub(super) fn name(&self, record: &SlotRecord) -> &[u8] {
        let start = record.name.get() as usize;
        self.names
            .get(start..start + usize::from(record.name_len))
            .unwrap_or_default()
    }

    #[inline]
    pub(super) fn stat(&self, node: u32) -> Stat {
        self.node(node).stat(node)
    }

    pub(super) fn content(&self, node: u32) -> Option<&Content> {
        let record = self.node(node);
        match record.kind() {
            Kind::File => {
                let size = record.size.get();
                let content = self.contents.get(record.first.get() as usize, size)?;
                if content.size() == size {
                    return Some(content);
                }
                self.mark_malformed("a file of another size than its content");
                None
            }
            Kind::Dir | Kind::Symlink => None,
        }
    }

    pub(super) fn target(&self, node: u32) -> Option<&[u8]> {
        let record = self.node(node);
        match record.kind() {
            Kind::Symlink => {
                let start = record.first.get() as usize;
                let len = usize::try_from(record.size.get()).ok()?;
                self.targets.get(start..start.checked_add(len)?)
            }
            Kind::Dir | Kind::File => None,
        }
    }

    pub(super) fn xattrs(&self, node: u32) -> Option<&Arc<Xattrs>> {
        match self.node(node).xattrs.get() {
            NONE => None,
            number => {
                let found = self.xattrs.get(number as usize);
                if found.is_none() {
                    self.mark_malformed("attributes that cannot be read");
                }
                found
            }
        }
    }

    /// Returns the metadata as the layers had it.
    pub(super) fn meta(&self, node: u32) -> Meta {
        let Stat {
            mode,
            uid,
            gid,
            mtime,
            ..
        } = self.stat(node);
        Meta {
            mode,
            uid,
            gid,
            mtime,
            xattrs: self.xattrs(node).cloned(),
        }
    }
}
