//! The entries of a changed or new directory: a base directory with some of
//! its entries gone, and entries of its own.
//!
//! Every entry has a position that it keeps for life, under whatever name, which
//! is what listing cookies are made of: a base entry its place in the index, an own
//! entry a number above those, counting up. So a listing that goes on from a position
//! loses no entry that stayed and repeats none, whatever changed in between.

use std::ops::{ControlFlow, Range};

use imbl::{OrdMap, ordmap as map};

use super::hidden::Hidden;
use super::maps::NameMap;
use super::steps;
use crate::image::Image;
use crate::meta::{FileId, Kind};
use crate::name::Name;

/// The entries of one directory.
#[derive(Clone)]
pub(super) struct DirBody {
    /// The directory this one is in; its own for the root.
    pub(super) parent: FileId,
    /// The base directory whose entries show through.
    base: Option<u32>,
    /// Slots of `base` that are gone.
    hidden: Hidden,
    /// Positions of own entries.
    by_name: NameMap<u64>,
    by_position: OrdMap<u64, Own>,
    /// The position of the next own entry; never reused.
    next: u64,
    /// Entries that show, base and own.
    live: u64,
}

/// An entry of the overlay's own.
#[derive(Clone, PartialEq)]
pub(super) struct Own {
    pub(super) name: Name,
    pub(super) id: FileId,
    pub(super) kind: Kind,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundEntry {
    pub(crate) id: FileId,
    pub(crate) kind: Kind,
    pub(super) place: EntrySlot,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum EntrySlot {
    /// A slot of the base directory.
    Base(u32),
    /// The position of an own entry.
    Own(u64),
}

/// One entry of a listing.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnListed<'a> {
    pub(super) name: &'a [u8],
    pub(super) id: FileId,
    pub(super) kind: Kind,
    pub(super) position: u64,
}

/// Finds `name` among the entries of a base directory.
pub(super) fn find_in_base(image: &Image, node: u32, name: &[u8]) -> Option<FoundEntry> {
    let dentry = image.lookup(node, name)?;
    Some(FoundEntry {
        id: FileId::of_node(dentry.node),
        kind: dentry.kind,
        place: EntrySlot::Base(dentry.slot),
    })
}

/// Lists a base directory from `position` on.
pub(super) fn list_base<'a>(
    image: &'a Image,
    node: u32,
    position: u64,
    sink: &mut dyn FnMut(OwnListed<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let slots = image.slots(node);
    let from = slot_at(&slots, position);
    list_slots(image, slots.start, from..slots.end, &mut 0, sink)
}

/// The slot at a position of a listing, or one past all.
fn slot_at(slots: &Range<u32>, position: u64) -> u32 {
    let skip = u32::try_from(position).unwrap_or(u32::MAX);
    slots.start.saturating_add(skip)
}

/// Lists some slots of a base directory, whose first one is `first`. `last` is
/// the last directory that was seen in it.
fn list_slots<'a>(
    image: &'a Image,
    first: u32,
    slots: Range<u32>,
    last: &mut u32,
    sink: &mut dyn FnMut(OwnListed<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for slot in slots {
        steps::add(1);
        let Some(entry) = image.slot(slot) else {
            continue;
        };
        if entry.kind == Kind::Dir && !image.check_order(last, entry.node) {
            continue;
        }
        sink(OwnListed {
            name: entry.name,
            id: FileId::of_node(entry.node),
            kind: entry.kind,
            position: u64::from(slot - first),
        })?;
    }
    ControlFlow::Continue(())
}

impl DirBody {
    /// A base directory of `entries` entries, nothing changed yet.
    pub(super) fn over(parent: FileId, node: u32, entries: usize) -> Self {
        Self {
            base: Some(node),
            next: entries as u64,
            live: entries as u64,
            ..Self::new(parent)
        }
    }

    /// An empty new directory.
    pub(super) fn new(parent: FileId) -> Self {
        Self {
            parent,
            base: None,
            hidden: Hidden::default(),
            by_name: NameMap::default(),
            by_position: OrdMap::new(),
            next: 0,
            live: 0,
        }
    }

    /// Counts the entries that show.
    pub(super) fn entry_count(&self) -> u64 {
        self.live
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The base directory whose entries show through.
    pub(super) fn base(&self) -> Option<u32> {
        self.base
    }

    /// The position that the next new entry gets: all present ones are below.
    pub(super) fn end(&self) -> u64 {
        self.next
    }

    pub(super) fn is_hidden(&self, slot: u32) -> bool {
        self.hidden.contains(slot)
    }

    /// Counts the names of the base that are gone.
    pub(super) fn removed(&self) -> u64 {
        self.hidden.len() as u64
    }

    pub(super) fn hidden(&self) -> impl Iterator<Item = u32> {
        self.hidden.iter()
    }

    /// Passes an entry that only `self` has to `lost`, one that only `later`
    /// has to `gained`, both over one base. O(entries that differ).
    pub(super) fn compare<'a>(
        &'a self,
        later: &'a Self,
        image: &'a Image,
        lost: &mut dyn FnMut(FileId, &'a [u8]),
        gained: &mut dyn FnMut(FileId, &'a [u8]),
    ) {
        let (shown_again, gone) = self.hidden.compare(&later.hidden);
        for slot in gone.into_iter().flatten() {
            if let Some(at) = image.slot(slot) {
                lost(FileId::of_node(at.node), at.name);
            }
        }
        for slot in shown_again.into_iter().flatten() {
            if let Some(at) = image.slot(slot) {
                gained(FileId::of_node(at.node), at.name);
            }
        }
        for item in self.by_position.diff(&later.by_position) {
            let (old, new) = match item {
                map::DiffItem::Add(_, new) => (None, Some(new)),
                map::DiffItem::Remove(_, old) => (Some(old), None),
                map::DiffItem::Update { old, new } => (Some(old.1), Some(new.1)),
            };
            if let Some(old) = old {
                lost(old.id, old.name.as_bytes());
            }
            if let Some(new) = new {
                gained(new.id, new.name.as_bytes());
            }
        }
    }

    pub(super) fn own_entries(&self) -> impl Iterator<Item = &Own> {
        self.by_position.values()
    }

    pub(super) fn find(&self, image: &Image, name: &[u8]) -> Option<FoundEntry> {
        if !self.by_name.is_empty()
            && let Some(position) = self.by_name.get(name)
            && let Some(own) = self.by_position.get(position)
        {
            return Some(FoundEntry {
                id: own.id,
                kind: own.kind,
                place: EntrySlot::Own(*position),
            });
        }
        let dentry = image.lookup(self.base?, name)?;
        (!self.hidden.contains(dentry.slot)).then_some(FoundEntry {
            id: FileId::of_node(dentry.node),
            kind: dentry.kind,
            place: EntrySlot::Base(dentry.slot),
        })
    }

    /// Adds an entry under a name that is free.
    pub(super) fn insert(&mut self, name: Name, id: FileId, kind: Kind) {
        self.by_name.insert(name.clone(), self.next);
        self.by_position.insert(self.next, Own { name, id, kind });
        self.next += 1;
        self.live += 1;
    }

    /// Renames an own entry to a name that is free. It keeps its position, so that a
    /// listing under way shows it once.
    pub(super) fn rename(&mut self, position: u64, name: Name) {
        if let Some(own) = self.by_position.get_mut(&position) {
            let old = std::mem::replace(&mut own.name, name.clone());
            self.by_name.remove(&old);
            self.by_name.insert(name, position);
        }
    }

    /// Takes an entry out. Returns whether it was one of the base.
    pub(super) fn remove(&mut self, place: EntrySlot) -> bool {
        self.live -= 1;
        match place {
            EntrySlot::Base(slot) => {
                self.hidden.insert(slot);
                true
            }
            EntrySlot::Own(position) => {
                if let Some(own) = self.by_position.remove(&position) {
                    self.by_name.remove(&own.name);
                }
                false
            }
        }
    }

    /// Lists from `position` on, up to but not including `end`. O(log entries),
    /// and O(1) for each entry and for each range of slots that are gone.
    pub(super) fn list<'a>(
        &'a self,
        image: &'a Image,
        position: u64,
        end: u64,
        sink: &mut dyn FnMut(OwnListed<'a>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if let Some(node) = self.base {
            let slots = image.slots(node);
            let from = slot_at(&slots, position);
            let mut last = 0;
            for shown in self.hidden.gaps(from..slots.end) {
                steps::add(1);
                list_slots(image, slots.start, shown, &mut last, sink)?;
            }
        }
        if position >= end {
            return ControlFlow::Continue(());
        }
        for (position, own) in self.by_position.range(position..end) {
            steps::add(1);
            let listed = OwnListed {
                name: own.name.as_bytes(),
                id: own.id,
                kind: own.kind,
                position: *position,
            };
            sink(listed)?;
        }
        ControlFlow::Continue(())
    }

    /// Returns whether the two maps of own entries agree and the count is right.
    pub(super) fn is_sound(&self, image: &Image) -> bool {
        let below = self.base.map_or(0, |node| image.slots(node).len());
        self.hidden.is_sound()
            && self.by_name.len() == self.by_position.len()
            && self.live == (below - self.hidden.len() + self.by_position.len()) as u64
            && self.by_position.iter().all(|(position, own)| {
                *position < self.next && self.by_name.get(&own.name) == Some(position)
            })
    }
}
