//! The directories that a guest is shown, those among them that it has closed.

use super::ctx::Ctx;
use super::table::{DescriptorTable, DirDescriptor, Slot};
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
        let Slot::Dir(DirDescriptor {
            descriptor,
            preopen: Some(name),
            ..
        }) = slot
        else {
            return None;
        };
        Some(Self {
            name: name.clone(),
            fs: descriptor.fs().clone(),
            id: descriptor.id(),
            rights: descriptor.rights(),
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

    /// Remembers the directories that are shown and have no number in another table.
    pub(super) fn note_replaced(&mut self, next: &DescriptorTable) {
        let replaced = self.table.slots().filter_map(ShownPreopen::of);
        let replaced = replaced.filter(|shown| {
            let mut next = next.slots().filter_map(ShownPreopen::of);
            !next.any(|other| other.name == shown.name)
        });
        let replaced: Vec<ShownPreopen> = replaced.collect();
        self.closed_preopens.extend(replaced);
    }

    /// Returns the directories that the guest was shown at its start: those that it has open by
    /// their numbers, then the others.
    pub(crate) fn shown_preopens(&self) -> Vec<ShownPreopen> {
        let open = self.table.slots().filter_map(ShownPreopen::of);
        open.chain(self.closed_preopens.iter().cloned()).collect()
    }
}
