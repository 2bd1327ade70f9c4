//! An index in the making: records are only appended.

use std::sync::Arc;

use super::attributes::{ContentTable, XattrTable};
use super::checked::CheckedEntries;
use super::error::ImageError;
use super::index::Index;
use super::record::{NONE, NodeRecord, SlotRecord, encode};
use super::records::{GuardedBytes, Records};
use super::table::{TableBuilder, hash};
use crate::bounded::bounded_u32;
use crate::chunk::Content;
use crate::meta::{Kind, Meta, Xattrs};
use crate::name::Name;

/// Nodes or slots of an index: what the hash table can number, with room for
/// at least one bit of the hash beside the number.
const MAX_RECORDS: u32 = (1 << 31) - 2;

/// The tables of an index.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) nodes: Vec<NodeRecord>,
    pub(super) slots: Vec<SlotRecord>,
    /// All names, in the order of the slots.
    pub(super) names: Vec<u8>,
    /// The targets of all symbolic links.
    pub(super) targets: Vec<u8>,
    /// The contents of all files.
    pub(super) contents: Vec<Content>,
    pub(super) xattrs: Vec<Arc<Xattrs>>,
}

impl Parts {
    /// Makes room for this many objects.
    pub(super) fn with_capacity(nodes: usize) -> Self {
        Self {
            nodes: Vec::with_capacity(nodes),
            slots: Vec::with_capacity(nodes),
            contents: Vec::with_capacity(nodes),
            ..Self::default()
        }
    }

    /// Makes a tree of nothing but a root.
    pub(super) fn empty_tree() -> Self {
        let root = NodeRecord {
            mode: 0o755.into(),
            ..NodeRecord::NOWHERE
        };
        Self {
            nodes: vec![root],
            ..Self::default()
        }
    }

    /// Counts the slots.
    pub(super) fn slot_count(&self) -> u32 {
        // `push_slot` refuses more than `MAX_RECORDS`.
        bounded_u32(self.slots.len(), "`push_slot`")
    }

    /// Adds a directory, still without children. Returns its number.
    pub(super) fn push_dir(&mut self, parent: u32, meta: &Meta) -> Result<u32, ImageError> {
        let mut record = self.record(Kind::Dir, meta)?;
        record.parent = parent.into();
        self.push_node(record)
    }

    /// Adds a file that has one name so far. Returns its number.
    pub(super) fn push_file(&mut self, meta: &Meta, content: &Content) -> Result<u32, ImageError> {
        let mut record = self.record(Kind::File, meta)?;
        record.size = content.size().into();
        record.first = bounded(self.contents.len(), MAX_RECORDS, "files")?.into();
        self.contents.push(content.clone());
        self.push_node(record)
    }

    /// Adds a symbolic link that has one name so far. Returns its number.
    pub(super) fn push_symlink(&mut self, meta: &Meta, target: &[u8]) -> Result<u32, ImageError> {
        let mut record = self.record(Kind::Symlink, meta)?;
        record.size = (target.len() as u64).into();
        record.first = append(&mut self.targets, target, "bytes of link targets")?.into();
        self.push_node(record)
    }

    /// Counts one more name of a file or symbolic link.
    pub(super) fn add_name(&mut self, node: u32) {
        if let Some(record) = self.nodes.get_mut(node as usize) {
            record.nlink = record.nlink.get().saturating_add(1).into();
        }
    }

    /// Adds a name to the directory at hand.
    pub(super) fn push_slot(
        &mut self,
        parent: u32,
        name: &Name,
        (node, kind): (u32, Kind),
        layer: u16,
    ) -> Result<(), ImageError> {
        bounded(self.slots.len(), MAX_RECORDS, "names")?;
        let name = name.as_bytes();
        // A `Name` has at most 255 bytes.
        let name_len = u8::try_from(name.len()).map_err(|_| ImageError::TooLarge {
            what: "bytes in a name",
            bound: u8::MAX.into(),
        })?;
        self.slots.push(SlotRecord {
            parent: parent.into(),
            node: node.into(),
            name: append(&mut self.names, name, "bytes of names")?.into(),
            layer: layer.into(),
            name_len,
            kind: encode(kind),
        });
        Ok(())
    }

    /// Sets the slots of a directory: those from `first` on, `subdirs` of them
    /// directories.
    pub(super) fn set_children(&mut self, dir: u32, first: u32, subdirs: u32) {
        let count = self.slot_count() - first;
        if let Some(record) = self.nodes.get_mut(dir as usize) {
            record.first = first.into();
            record.count = count.into();
            record.nlink = subdirs.saturating_add(2).into();
        }
    }

    /// Enters all names into the hash table.
    pub(super) fn finish(mut self) -> Index {
        self.nodes.shrink_to_fit();
        self.slots.shrink_to_fit();
        self.names.shrink_to_fit();
        self.contents.shrink_to_fit();
        let mut table = TableBuilder::new(self.slot_count());
        let mut rest = self.names.as_slice();
        for (at, slot) in (0..).zip(&self.slots) {
            // The names lie in the order of the slots.
            let Some((name, after)) = rest.split_at_checked(slot.name_len.into()) else {
                break;
            };
            rest = after;
            // One that finds no place is found by binary search.
            let _placed = table.insert(hash(slot.parent.get(), name), at);
        }
        Index {
            nodes: Records::owned(self.nodes),
            slots: Records::owned(self.slots),
            names: GuardedBytes::owned(self.names),
            targets: GuardedBytes::owned(self.targets),
            contents: ContentTable::InMemory(self.contents),
            xattrs: XattrTable::InMemory(self.xattrs),
            table: table.finish(),
            guard: None,
            checked: CheckedEntries::new(0),
        }
    }

    fn push_node(&mut self, record: NodeRecord) -> Result<u32, ImageError> {
        let node = bounded(self.nodes.len(), MAX_RECORDS, "objects")?;
        self.nodes.push(record);
        Ok(node)
    }

    fn record(&mut self, kind: Kind, meta: &Meta) -> Result<NodeRecord, ImageError> {
        let xattrs = match &meta.xattrs {
            None => NONE,
            Some(xattrs) => {
                self.xattrs.push(Arc::clone(xattrs));
                bounded(self.xattrs.len() - 1, MAX_RECORDS, "objects")?
            }
        };
        Ok(NodeRecord {
            mtime_secs: meta.mtime.secs().into(),
            mtime_nanos: meta.mtime.nanos().into(),
            uid: meta.uid.into(),
            gid: meta.gid.into(),
            // Names are counted as they come, children when all are there.
            nlink: 1.into(),
            xattrs: xattrs.into(),
            // Nothing above the 12 permission bits.
            mode: u16::try_from(meta.mode & 0o7777).unwrap_or(0).into(),
            kind: encode(kind),
            ..NodeRecord::NOWHERE
        })
    }
}

/// Appends to an arena. Returns where the bytes start.
fn append(arena: &mut Vec<u8>, bytes: &[u8], what: &'static str) -> Result<u32, ImageError> {
    let start = arena.len();
    // Where the bytes end fits, so where they start does.
    bounded(start.saturating_add(bytes.len()), u32::MAX, what)?;
    arena.extend_from_slice(bytes);
    bounded(start, u32::MAX, what)
}

/// Returns a count as the number of what comes next, if that is in bounds.
fn bounded(count: usize, bound: u32, what: &'static str) -> Result<u32, ImageError> {
    match u32::try_from(count) {
        Ok(count) if count < bound => Ok(count),
        _ => Err(ImageError::TooLarge {
            what,
            bound: bound.into(),
        }),
    }
}
