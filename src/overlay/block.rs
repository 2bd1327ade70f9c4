//! One block of a changed or new file.

use crate::chunk::{Buffer, GonePages, Pages, Piece, SealedBlock};
use crate::errno::Errno;
use crate::limits::BLOCK_BYTES;

static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// At most [`BLOCK_BYTES`] bytes, and who pays for them.
#[derive(Clone)]
pub(super) enum Block {
    /// This instance's own, not looked at yet.
    Own(Buffer),
    /// Sealed, and this instance brought it into its scope.
    First(Piece),
    /// Sealed, and equal to one that was in the scope.
    Shared(Piece),
    /// Nothing but so many zeros.
    Zeros(u16),
}

impl Block {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(buffer) => buffer.bytes(),
            Self::First(piece) | Self::Shared(piece) => piece.bytes(),
            Self::Zeros(len) => ZEROS.get(..usize::from(*len)).unwrap_or_default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// The bytes that are there because of this instance.
    pub(super) fn private_len(&self) -> u64 {
        match self {
            Self::Own(_) | Self::First(_) => self.len() as u64,
            Self::Shared(_) | Self::Zeros(_) => 0,
        }
    }

    /// The bytes that are held for it, whoever holds them too.
    pub(super) fn held_bytes(&self) -> u64 {
        match self {
            Self::Own(buffer) => buffer.capacity() as u64,
            Self::First(piece) | Self::Shared(piece) => piece.held_bytes(),
            Self::Zeros(_) => 0,
        }
    }

    /// Zeros as many as `bytes`, if those are all zeros.
    pub(super) fn zeros_like(bytes: &[u8]) -> Option<Self> {
        let zeros = ZEROS.get(..bytes.len()).filter(|zeros| *zeros == bytes)?;
        u16::try_from(zeros.len()).ok().map(Self::Zeros)
    }

    /// The first `len` bytes of a block of a sealed file, which this instance
    /// was the `first` to hold or not; more than those where it is not zeros.
    pub(super) fn of_part(part: &SealedBlock, first: bool, len: u64) -> Self {
        match part {
            SealedBlock::Zeros => {
                Self::Zeros(u16::try_from(len.min(BLOCK_BYTES as u64)).unwrap_or(0))
            }
            SealedBlock::New(piece) if first => Self::First(piece.clone()),
            SealedBlock::New(piece) | SealedBlock::Old(piece) => Self::Shared(piece.clone()),
        }
    }

    /// The buffer, if this is not sealed.
    pub(super) fn own(&self) -> Option<&Buffer> {
        match self {
            Self::Own(buffer) => Some(buffer),
            Self::First(_) | Self::Shared(_) | Self::Zeros(_) => None,
        }
    }

    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Drops it, with others.
    pub(super) fn go(self, gone: &mut GonePages) {
        match self {
            Self::Own(buffer) => buffer.go(gone),
            Self::First(piece) | Self::Shared(piece) => piece.go(gone),
            Self::Zeros(_) => {}
        }
    }

    pub(super) fn is_zeros(&self) -> bool {
        matches!(self, Self::Zeros(_))
    }

    /// The buffer to change: copied first where others hold it.
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] if the budget has no room for a copy.
    pub(super) fn buffer(&mut self, pages: &mut Pages) -> Result<&mut Buffer, Errno> {
        let alone = match self {
            Self::Own(buffer) => buffer.is_alone(),
            Self::First(_) | Self::Shared(_) | Self::Zeros(_) => false,
        };
        if !alone {
            *self = Self::Own(Buffer::copy(self.bytes(), room_for(self.len()), pages)?);
        }
        match self {
            Self::Own(buffer) => Ok(buffer),
            Self::First(_) | Self::Shared(_) | Self::Zeros(_) => Err(Errno::Io),
        }
    }

    /// Cuts to `len` bytes: never refused, since it makes room.
    pub(super) fn truncate(&mut self, len: usize, pages: &mut Pages) {
        match self {
            Self::Zeros(old) => *old = u16::try_from(len).map_or(*old, |len| len.min(*old)),
            Self::Own(buffer) => buffer.truncate(len, room_for(len), pages),
            Self::First(_) | Self::Shared(_) => {
                let kept = self.bytes().get(..len).unwrap_or_else(|| self.bytes());
                *self = Self::Own(Buffer::copy_unasked(kept, room_for(len), pages));
            }
        }
    }

    /// Returns whether both are one, known without a look at the bytes.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Own(one), Self::Own(two)) => one.is_same(two) && one.len() == two.len(),
            (Self::First(one) | Self::Shared(one), Self::First(two) | Self::Shared(two)) => {
                one.is_same(two)
            }
            (Self::Zeros(one), Self::Zeros(two)) => one == two,
            _ => false,
        }
    }
}

/// How many bytes to make room for in a block of `len`.
pub(super) fn room_for(len: usize) -> usize {
    if len > BLOCK_BYTES / 2 {
        BLOCK_BYTES
    } else {
        len
    }
}
