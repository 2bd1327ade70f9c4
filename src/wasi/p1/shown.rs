//! The directories that a guest is shown, those among them that it has closed.

use std::collections::HashSet;

use super::ctx::Ctx;
use super::table::{DirDescriptor, Slot};
use crate::meta::FileId;
use crate::vfs::{Fs, Rights};

/// A directory that a guest is shown under a name.
#[derive(Clone, Debug)]
pub(crate) struct ShownPreopen {
    pub(crate) name: Box<str>,
    pub(crate) fs: Fs,
    pub(crate) id: FileId,
    pub(crate) rights: Rights,
}

impl ShownPreopen {
    fn of(slot: &Slot) -> Option<Self> {
        let (name, dir) = shown(slot)?;
        Some(Self {
            name: name.into(),
            fs: dir.descriptor.fs().clone(),
            id: dir.descriptor.id(),
            rights: dir.descriptor.rights(),
        })
    }

    /// Returns the same directory for a guest whose own files are a fork of `fs`.
    pub(super) fn over(&self, fs: &Fs, fork: &Fs) -> Self {
        let own = self.fs.is_same(fs).then_some(fork);
        Self {
            fs: own.unwrap_or(&self.fs).clone(),
            ..self.clone()
        }
    }
}

/// Returns a directory that is shown, and its name.
fn shown(slot: &Slot) -> Option<(&str, &DirDescriptor)> {
    match slot {
        Slot::Dir(dir) => Some((dir.preopen.as_deref()?, dir)),
        Slot::Closed | Slot::Host(_) | Slot::File(_) => None,
    }
}

impl Ctx {
    /// Remembers what a number stands for, if it is a directory that is shown: it is closed next.
    pub(super) fn note_closed(&mut self, fd: u32) {
        let shown = ShownPreopen::of(self.table.slot(fd));
        self.closed_preopens.extend(shown);
    }

    /// Remembers a directory that is shown and was closed.
    pub(super) fn note_removed(&mut self, slot: &Slot) {
        self.closed_preopens.extend(ShownPreopen::of(slot));
    }

    /// Remembers those of `known` that are shown and have no number among the next slots: the guest
    /// has closed them. What is shown besides it never had. O(slots and names).
    pub(super) fn note_replaced(&mut self, next: &[Slot], mut known: HashSet<&str>) {
        for (name, _) in next.iter().filter_map(shown) {
            known.remove(name);
        }
        let slots = self.table.slots();
        let closed = slots.filter(|slot| shown(slot).is_some_and(|(name, _)| known.contains(name)));
        let replaced: Vec<ShownPreopen> = closed.filter_map(ShownPreopen::of).collect();
        self.closed_preopens.extend(replaced);
    }

    /// Returns the directories that the guest was shown at its start: those that it has open by
    /// their numbers, then the others.
    pub(crate) fn shown_preopens(&self) -> Vec<ShownPreopen> {
        let open = self.table.slots().filter_map(ShownPreopen::of);
        open.chain(self.closed_preopens.iter().cloned()).collect()
    }
}
