//! The rules that an entry of a mapped index has to keep.
//!
//! A digest says that a block is what was written, not that who wrote it kept
//! to the rules. So each entry is held against the rules of a tree when it is
//! first looked at: by name, in a listing, or on a walk. What comes after can
//! take its name as a name and its object as an object of its kind.

use super::attributes::ContentTable;
use super::index::Index;
use super::record::{DIR, FILE, NONE, NodeRecord, SYMLINK, SlotRecord};
use crate::limits::{MAX_FILE_BYTES, MAX_SYMLINK_BYTES};
use crate::meta::Kind;
use crate::name::check_name;

/// Returns whether an entry keeps a rule.
type EntryRule = fn(&Index, u32, &SlotRecord) -> bool;

impl Index {
    /// Finds the rule that an entry breaks, if it breaks one.
    pub(super) fn broken_rule(&self, slot: u32, record: &SlotRecord) -> Option<&'static str> {
        let rules: [(EntryRule, &'static str); 7] = [
            (Self::has_name, "a name that no entry can have"),
            (Self::in_order, "entries that are not in order"),
            (Self::in_its_directory, "an entry outside of its directory"),
            (
                Self::of_its_kind,
                "an entry of another kind than its object",
            ),
            (Self::below, "a directory that is within itself or in two"),
            (Self::leads, "an object that leads to nothing"),
            (Self::has_facts, "an object with facts that none can have"),
        ];
        let mut rules = rules.into_iter();
        let broken = rules.find(|(rule, _)| !rule(self, slot, record));
        broken.map(|(_, what)| what)
    }

    fn has_name(&self, _: u32, record: &SlotRecord) -> bool {
        check_name(self.name(record)).is_ok()
    }

    /// Entries are sorted by directory and then by name, so no name is there
    /// twice.
    fn in_order(&self, slot: u32, record: &SlotRecord) -> bool {
        let Some(before) = slot.checked_sub(1).and_then(|before| self.record(before)) else {
            return slot == 0;
        };
        let (parent, last) = (record.parent.get(), before.parent.get());
        last < parent || (last == parent && self.name(before) < self.name(record))
    }

    fn in_its_directory(&self, slot: u32, record: &SlotRecord) -> bool {
        let dir = self.node(record.parent.get());
        let first = dir.first.get();
        let slots = first..first.saturating_add(dir.count.get());
        dir.kind == DIR && slots.contains(&slot)
    }

    fn of_its_kind(&self, _: u32, record: &SlotRecord) -> bool {
        let exists = record.node.get() < self.nodes();
        let known = [DIR, FILE, SYMLINK].contains(&record.kind);
        exists && known && self.node(record.node.get()).kind == record.kind
    }

    /// A directory has a higher number than the one it is in, and is in no
    /// other. So none is within itself, whoever wrote the file.
    fn below(&self, _: u32, record: &SlotRecord) -> bool {
        let (node, parent) = (record.node.get(), record.parent.get());
        let is_dir = record.kind() == Kind::Dir;
        !is_dir || (node > parent && self.node(node).parent.get() == parent)
    }

    /// A file has a content, a link a target that can be one.
    fn leads(&self, _: u32, record: &SlotRecord) -> bool {
        let node = self.node(record.node.get());
        match node.kind() {
            Kind::Dir => true,
            Kind::File => {
                let contents = match &self.contents {
                    ContentTable::InMemory(held) => held.len(),
                    ContentTable::Mapped { records, .. } => records.len(),
                };
                (node.first.get() as usize) < contents && node.size.get() <= MAX_FILE_BYTES
            }
            Kind::Symlink => self.target(record.node.get()).is_some_and(|target| {
                (1..=MAX_SYMLINK_BYTES).contains(&target.len()) && !target.contains(&0)
            }),
        }
    }

    fn has_facts(&self, _: u32, record: &SlotRecord) -> bool {
        let node = self.node(record.node.get());
        let named = node.xattrs.get();
        is_valid_node(node) && (named == NONE || (named as usize) < self.xattrs.len())
    }
}

/// Returns whether the metadata of an object can be that of one.
pub(super) fn is_valid_node(node: &NodeRecord) -> bool {
    let least = if node.kind == DIR { 2 } else { 1 };
    node.mode.get() <= 0o7777 && node.mtime_nanos.get() < 1_000_000_000 && node.nlink.get() >= least
}
