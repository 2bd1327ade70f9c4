//! What shows of a file where none of its private blocks lies.

use crate::chunk::SealedFile;
use crate::limits::BLOCK_BYTES;

/// [`BLOCK_BYTES`] as a file offset counts.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// The bytes below the private blocks of a file, and how much of them shows.
///
/// An owner is kept only as long as some of its bytes show: once private
/// blocks hide all of it, or the file has been cut to nothing, nobody owns what
/// is below and all of it is zeros.
#[derive(Clone)]
pub(super) struct Backing {
    owner: Owner,
    /// Bytes at and past this offset do not show: a file cut short and grown
    /// again reads zeros there. At most the size of the file.
    end: u64,
    /// Blocks before `end` over which no private block lies.
    shown: u64,
}

/// Whose bytes show.
#[derive(Clone)]
pub(super) enum Owner {
    /// Nobody's: zeros.
    None,
    /// Those of the base file that this one was, by its index number.
    Base(u32),
    /// Those of a base file that this one was found to equal. They were
    /// written, so they count against the quota.
    Dedup(u32),
    /// All blocks of a whole file, sealed, which count as well.
    Sealed(SealedFile, First),
}

/// Whether this instance was the first of its scope to hold a sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    Yes,
    No,
}

impl Owner {
    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Returns whether both show the same bytes, known without a look at them.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Base(one) | Self::Dedup(one), Self::Base(two) | Self::Dedup(two)) => one == two,
            (Self::Sealed(one, _), Self::Sealed(two, _)) => one.is_same(two),
            _ => false,
        }
    }
}

impl Backing {
    /// Zeros.
    pub(super) fn none() -> Self {
        Self {
            owner: Owner::None,
            end: 0,
            shown: 0,
        }
    }

    /// All `size` bytes of what `owner` has.
    pub(super) fn whole(owner: Owner, size: u64) -> Self {
        let mut backing = Self {
            owner,
            end: size,
            shown: size.div_ceil(BLOCK),
        };
        backing.release_if_hidden();
        backing
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The end of what shows.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The base file that shows somewhere, by its index number.
    pub(super) fn base_node(&self) -> Option<u32> {
        match self.owner {
            Owner::Base(node) | Owner::Dedup(node) => Some(node),
            Owner::None | Owner::Sealed(..) => None,
        }
    }

    pub(super) fn sealed(&self) -> Option<&SealedFile> {
        match &self.owner {
            Owner::Sealed(file, _) => Some(file),
            Owner::None | Owner::Base(_) | Owner::Dedup(_) => None,
        }
    }

    /// Returns whether what shows counts against the quota.
    pub(super) fn counts(&self) -> bool {
        matches!(self.owner, Owner::Dedup(_) | Owner::Sealed(..))
    }

    /// Blocks that show and count against the quota.
    pub(super) fn counted_blocks(&self) -> u64 {
        if self.counts() { self.shown } else { 0 }
    }

    /// The bytes of block `number` that show if no private block hides them.
    pub(super) fn bytes_of(&self, number: u64) -> u64 {
        self.end.saturating_sub(number * BLOCK).min(BLOCK)
    }

    /// Those of [`bytes_of`](Self::bytes_of) that count against the quota.
    pub(super) fn counted_of(&self, number: u64) -> u64 {
        if self.counts() {
            self.bytes_of(number)
        } else {
            0
        }
    }

    /// Those of [`bytes_of`](Self::bytes_of) that are there because of this
    /// instance.
    pub(super) fn private_of(&self, number: u64) -> u64 {
        match &self.owner {
            Owner::Sealed(file, First::Yes) => file.new_bytes(number).min(self.bytes_of(number)),
            Owner::None | Owner::Base(_) | Owner::Dedup(_) | Owner::Sealed(..) => 0,
        }
    }

    /// The bytes that are held for it, shown or not, whoever holds them too. The
    /// base's are not held because of an instance.
    pub(super) fn held_bytes(&self) -> u64 {
        self.sealed().map_or(0, SealedFile::held_bytes)
    }

    /// Takes note that a private block lies over block `number` from now on.
    pub(super) fn hide(&mut self, number: u64) {
        if number * BLOCK < self.end {
            self.shown -= 1;
        }
    }

    /// Lets nothing at or past `size` show. `hidden` of the blocks that are cut
    /// off wholly lay below private blocks.
    pub(super) fn cut(&mut self, size: u64, hidden: u64) {
        if size < self.end {
            self.shown -= self.end.div_ceil(BLOCK) - size.div_ceil(BLOCK) - hidden;
            self.end = size;
        }
    }

    /// Lets the owner go if nothing of it shows any more.
    pub(super) fn release_if_hidden(&mut self) {
        if self.shown == 0 && !self.owner.is_none() {
            *self = Self::none();
        }
    }

    /// The sealed file, if less than half of its blocks show: they are to
    /// become blocks of their own then, so that the others can go.
    pub(super) fn mostly_hidden(&self) -> Option<(&SealedFile, First)> {
        match &self.owner {
            Owner::Sealed(file, first) if self.shown * 2 < file.parts().len() as u64 => {
                Some((file, *first))
            }
            Owner::None | Owner::Base(_) | Owner::Dedup(_) | Owner::Sealed(..) => None,
        }
    }

    /// Returns whether the count of blocks that show is right, given how many
    /// private blocks lie before the end.
    pub(super) fn is_sound(&self, hidden: u64) -> bool {
        let blocks = self.end.div_ceil(BLOCK);
        let kept = match &self.owner {
            Owner::None => self.end == 0,
            Owner::Base(_) | Owner::Dedup(_) => self.shown > 0,
            Owner::Sealed(file, _) => self.shown * 2 >= file.parts().len() as u64,
        };
        kept && self.shown + hidden == blocks
    }
}
