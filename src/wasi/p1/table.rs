//! The table of descriptors that a guest sees.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime_wasi::p1::types;

use super::abi::Result;
use crate::bounded::bounded_u32;
use crate::limits::MAX_TABLE_SLOTS;
use crate::vfs::Descriptor;

/// What a number of the guest stands for.
pub(super) enum Slot {
    /// Nothing.
    Closed,
    /// A descriptor of wasmtime-wasi's preview1, by its number there.
    Host(u32),
    /// A file of stratafs.
    File(FileDescriptor),
    /// A directory of stratafs.
    Dir(DirDescriptor),
}

/// An open file.
pub(super) struct FileDescriptor {
    pub(super) descriptor: Descriptor,
    /// Where the next `fd_read` or `fd_write` starts.
    pub(super) offset: u64,
    /// APPEND and NONBLOCK; the latter is only remembered.
    pub(super) flags: types::Fdflags,
}

/// An open directory.
pub(super) struct DirDescriptor {
    pub(super) descriptor: Descriptor,
    /// The name a preopened directory is shown under.
    pub(super) preopen: Option<Box<str>>,
    /// What a guest that goes on from a checkpoint was told of it.
    pub(super) restored: Option<Box<RestoredDir>>,
}

/// What a guest was told of an open directory, by numbers that its file system does not have any more.
#[derive(Debug)]
pub(super) struct RestoredDir {
    /// The cookie past which the list that it is in the middle of ends; the greatest number
    /// once it begins another one. Atomic.
    pub(super) until: AtomicU64,
    /// The number of the directory above, if it was removed.
    pub(super) parent: Option<u64>,
}

impl Clone for RestoredDir {
    fn clone(&self) -> Self {
        Self {
            until: AtomicU64::new(self.until.load(Ordering::Relaxed)),
            parent: self.parent,
        }
    }
}

/// Slots by number. A new descriptor gets the lowest free one.
#[derive(Default)]
pub(super) struct DescriptorTable {
    slots: Vec<Slot>,
    /// The closed numbers below `slots.len()`, each once.
    free: BinaryHeap<Reverse<u32>>,
}

impl DescriptorTable {
    /// Returns the slot of a number; [`Slot::Closed`] past the end.
    #[inline]
    pub(super) fn slot(&self, fd: u32) -> &Slot {
        self.slots.get(fd as usize).unwrap_or(&Slot::Closed)
    }

    /// Returns what a number stands for, if it was ever given out.
    #[cfg(feature = "freeze")]
    pub(super) fn slot_mut(&mut self, fd: u32) -> Option<&mut Slot> {
        self.slots.get_mut(fd as usize)
    }

    /// Returns the slots by number.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// Makes a table of the same numbers, each with what `make` makes of its slot.
    pub(super) fn map<E>(
        &self,
        make: impl FnMut(&Slot) -> std::result::Result<Slot, E>,
    ) -> std::result::Result<Self, E> {
        Ok(Self {
            slots: self
                .slots
                .iter()
                .map(make)
                .collect::<std::result::Result<_, E>>()?,
            free: self.free.clone(),
        })
    }

    /// Makes a table of slots by number.
    pub(super) fn of(slots: Vec<Slot>) -> Self {
        let closed = (0..)
            .zip(&slots)
            .filter(|(_, slot)| matches!(slot, Slot::Closed));
        let free = closed.map(|(fd, _)| Reverse(fd)).collect();
        Self { slots, free }
    }

    /// The first number never given out.
    pub(super) fn end(&self) -> u32 {
        // The quota of open descriptors, which has 32 bits, has refused more.
        bounded_u32(self.slots.len(), "the quota on descriptors")
    }

    /// Returns the file behind a number: BADF for anything else.
    #[inline]
    pub(super) fn file(&self, fd: i32) -> Result<&FileDescriptor> {
        match self.slot(fd.cast_unsigned()) {
            Slot::File(file) => Ok(file),
            Slot::Closed | Slot::Host(_) | Slot::Dir(_) => Err(types::Errno::Badf.into()),
        }
    }

    /// As [`Self::file`], to change it.
    #[inline]
    pub(super) fn file_mut(&mut self, fd: i32) -> Result<&mut FileDescriptor> {
        match self.slots.get_mut(fd.cast_unsigned() as usize) {
            Some(Slot::File(file)) => Ok(file),
            Some(Slot::Closed | Slot::Host(_) | Slot::Dir(_)) | None => {
                Err(types::Errno::Badf.into())
            }
        }
    }

    /// Returns the directory behind a number: BADF for anything else.
    #[inline]
    pub(super) fn dir(&self, fd: i32) -> Result<&DirDescriptor> {
        match self.slot(fd.cast_unsigned()) {
            Slot::Dir(dir) => Ok(dir),
            Slot::Closed | Slot::Host(_) | Slot::File(_) => Err(types::Errno::Badf.into()),
        }
    }

    /// Refuses with MFILE when no number is left.
    #[inline]
    pub(super) fn check_room(&self) -> Result<()> {
        if self.free.is_empty() && self.slots.len() >= MAX_TABLE_SLOTS {
            return Err(types::Errno::Mfile.into());
        }
        Ok(())
    }

    /// Puts a slot under the lowest free number.
    ///
    /// The bound is [`Self::check_room`]'s to hold.
    #[inline]
    pub(super) fn insert(&mut self, slot: Slot) -> u32 {
        if let Some(Reverse(fd)) = self.free.pop() {
            if let Some(place) = self.slots.get_mut(fd as usize) {
                *place = slot;
            }
            return fd;
        }
        let fd = self.end();
        self.slots.push(slot);
        fd
    }

    /// Closes a number and frees it: BADF if it is not open. What stands there
    /// goes where it is, without a move.
    #[inline]
    pub(super) fn close(&mut self, fd: u32) -> Result<()> {
        match self.slots.get_mut(fd as usize) {
            None | Some(Slot::Closed) => Err(types::Errno::Badf.into()),
            Some(place) => {
                *place = Slot::Closed;
                self.free.push(Reverse(fd));
                Ok(())
            }
        }
    }

    /// Takes a number's slot and frees the number: BADF if it is not open.
    #[inline]
    pub(super) fn remove(&mut self, fd: u32) -> Result<Slot> {
        match self.slots.get_mut(fd as usize) {
            None | Some(Slot::Closed) => Err(types::Errno::Badf.into()),
            Some(place) => {
                let slot = std::mem::replace(place, Slot::Closed);
                self.free.push(Reverse(fd));
                Ok(slot)
            }
        }
    }

    /// Moves a slot over another and frees its number. Returns what stood at
    /// `to`, for the caller to close. BADF unless both are open; `None` when
    /// they are one number.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Slot>> {
        if matches!(self.slot(to), Slot::Closed) || matches!(self.slot(from), Slot::Closed) {
            return Err(types::Errno::Badf.into());
        }
        if from == to {
            return Ok(None);
        }
        let moved = self.remove(from)?;
        Ok(self
            .slots
            .get_mut(to as usize)
            .map(|place| std::mem::replace(place, moved)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(table: &mut DescriptorTable, count: u32) -> Vec<u32> {
        (0..count).map(|n| table.insert(Slot::Host(n))).collect()
    }

    #[test]
    fn the_lowest_free_number_is_given() {
        let mut table = DescriptorTable::default();
        assert_eq!(numbers(&mut table, 5), [0, 1, 2, 3, 4]);
        for fd in [3, 1] {
            assert!(table.remove(fd).is_ok());
        }
        assert_eq!(numbers(&mut table, 3), [1, 3, 5]);
        assert!(table.remove(9).is_err());
    }

    #[test]
    fn renumbering_moves_and_frees() {
        let mut table = DescriptorTable::default();
        numbers(&mut table, 4);
        assert!(matches!(table.renumber(2, 0), Ok(Some(Slot::Host(0)))));
        assert!(matches!(table.slot(0), Slot::Host(2)));
        assert!(matches!(table.slot(2), Slot::Closed));
        assert!(matches!(table.renumber(1, 1), Ok(None)));
        for (from, to) in [(2, 1), (1, 2), (1, 4), (u32::MAX, 1)] {
            assert!(table.renumber(from, to).is_err());
        }
        assert_eq!(numbers(&mut table, 2), [2, 4]);
    }

    #[test]
    fn the_table_has_an_end() {
        let mut table = DescriptorTable::default();
        for n in 0..MAX_TABLE_SLOTS {
            assert!(table.check_room().is_ok());
            table.insert(Slot::Host(u32::try_from(n).unwrap()));
        }
        assert!(table.check_room().is_err());
        assert!(table.remove(7).is_ok());
        assert!(table.check_room().is_ok());
        assert_eq!(table.insert(Slot::Host(0)), 7);
    }

    #[test]
    fn a_million_renumberings_leave_no_residue() {
        let mut table = DescriptorTable::default();
        numbers(&mut table, 4);
        for _ in 0..1_000_000 {
            let fd = table.insert(Slot::Host(9));
            assert!(table.renumber(fd, 3).is_ok());
        }
        assert_eq!((table.slots.len(), table.free.len()), (5, 1));
    }
}
