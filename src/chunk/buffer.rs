//! Bytes that may still change.

use std::sync::Arc;

use super::pages::{GonePages, Page, Pages};
use crate::budget::Account;
use crate::errno::Errno;
use crate::limits::BLOCK_BYTES;

/// Bytes up to which a block is a piece of the heap, as long as it is; a longer
/// one takes a page.
const MAX_SMALL: usize = BLOCK_BYTES / 2;

/// A block of private bytes, paid for by the account of who made it. Cloning
/// counts one holder more; only a single holder changes the bytes.
#[derive(Clone)]
pub(crate) enum Buffer {
    Small(Arc<Small>),
    Page(Page),
}

pub(crate) struct Small {
    bytes: Vec<u8>,
    account: Account,
}

impl Buffer {
    /// Makes `len` zeros with room for `capacity` bytes.
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] if the account has not so many bytes.
    pub(crate) fn zeros(len: usize, capacity: usize, pages: &mut Pages) -> Result<Self, Errno> {
        if capacity.max(len) > MAX_SMALL {
            let mut page = pages.take()?;
            if let Some(bytes) = page.alone().and_then(|bytes| bytes.get_mut(..len)) {
                bytes.fill(0);
            }
            page.set_len(len);
            return Ok(Self::Page(page));
        }
        if let Err(errno) = pages.account().take_block(len as u64) {
            return Self::spilled(&[0; MAX_SMALL], len, pages).ok_or(errno);
        }
        let mut bytes = Vec::with_capacity(capacity.max(len));
        bytes.resize(len, 0);
        Ok(Self::small(bytes, pages.account()))
    }

    /// Copies `old`, with room for `capacity` bytes.
    ///
    /// # Errors
    ///
    /// As [`zeros`](Self::zeros).
    pub(crate) fn copy(old: &[u8], capacity: usize, pages: &mut Pages) -> Result<Self, Errno> {
        if capacity.max(old.len()) > MAX_SMALL {
            return Ok(Self::page(old, pages.take()?));
        }
        if let Err(errno) = pages.account().take_block(old.len() as u64) {
            return Self::spilled(old, old.len(), pages).ok_or(errno);
        }
        Ok(Self::small(copy(old, capacity), pages.account()))
    }

    /// Copies the first `len` bytes of `old` into a page of the file that memory
    /// spills to. Returns none if there is no such file or it is full.
    fn spilled(old: &[u8], len: usize, pages: &mut Pages) -> Option<Self> {
        if !pages.account().has_spill() {
            return None;
        }
        Some(Self::page(old.get(..len)?, pages.take().ok()?))
    }

    /// As [`copy`](Self::copy), whatever the account has left.
    pub(crate) fn copy_unasked(old: &[u8], capacity: usize, pages: &mut Pages) -> Self {
        if capacity.max(old.len()) > MAX_SMALL
            && let Some(page) = pages.take_unasked()
        {
            return Self::page(old, page);
        }
        pages.account().overdraw(old.len() as u64);
        Self::small(copy(old, capacity), pages.account())
    }

    fn small(bytes: Vec<u8>, account: &Account) -> Self {
        let account = account.clone();
        Self::Small(Arc::new(Small { bytes, account }))
    }

    fn page(old: &[u8], mut page: Page) -> Self {
        let to = page.alone().and_then(|bytes| bytes.get_mut(..old.len()));
        if let Some(bytes) = to {
            bytes.copy_from_slice(old);
        }
        page.set_len(old.len());
        Self::Page(page)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(small) => &small.bytes,
            Self::Page(page) => page.bytes(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Small(small) => small.bytes.len(),
            Self::Page(page) => page.len(),
        }
    }

    /// Returns the bytes that are held for it, used or not.
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::Small(small) => small.bytes.capacity(),
            Self::Page(_) => BLOCK_BYTES,
        }
    }

    /// Stands for its bytes as long as they are held.
    pub(crate) fn address(&self) -> usize {
        match self {
            Self::Small(small) => Arc::as_ptr(small).addr(),
            Self::Page(page) => page.address(),
        }
    }

    /// Returns whether nothing else holds it, so that it may be changed.
    pub(crate) fn is_alone(&mut self) -> bool {
        match self {
            Self::Small(small) => Arc::get_mut(small).is_some(),
            Self::Page(page) => page.alone().is_some(),
        }
    }

    /// Drops it, with others.
    pub(crate) fn go(self, gone: &mut GonePages) {
        match self {
            Self::Page(page) => gone.take(page),
            Self::Small(small) => drop(small),
        }
    }

    /// Returns whether both are one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Small(one), Self::Small(two)) => Arc::ptr_eq(one, two),
            (Self::Page(one), Self::Page(two)) => one.is_same(two),
            (Self::Small(_), Self::Page(_)) | (Self::Page(_), Self::Small(_)) => false,
        }
    }

    /// Returns the bytes to change them; none if something else holds them.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Small(small) => match Arc::get_mut(small) {
                Some(small) => &mut small.bytes,
                None => &mut [],
            },
            Self::Page(page) => {
                let len = page.len();
                let bytes = page.alone().unwrap_or_default();
                bytes.get_mut(..len).unwrap_or_default()
            }
        }
    }

    /// Puts `piece` in the place of bytes that are there, if all of them are and
    /// nothing else holds them. Returns whether it did.
    pub(crate) fn overwrite(&mut self, at: usize, piece: &[u8]) -> bool {
        let old = self.bytes_mut().get_mut(at..at + piece.len());
        old.is_some_and(|old| {
            old.copy_from_slice(piece);
            true
        })
    }

    /// Puts `piece` at `at`, zeros between the old end and there; with room
    /// for `capacity` bytes if it has to grow.
    ///
    /// # Errors
    ///
    /// As [`zeros`](Self::zeros), or [`Errno::Io`] if something else holds it,
    /// and nothing is changed.
    pub(crate) fn put(
        &mut self,
        at: usize,
        piece: &[u8],
        capacity: usize,
        pages: &mut Pages,
    ) -> Result<(), Errno> {
        let end = at + piece.len();
        if let Self::Small(small) = self {
            if capacity.max(end) <= MAX_SMALL {
                let small = Arc::get_mut(small).ok_or(Errno::Io)?;
                let put = small.put(at, piece, capacity);
                if put.is_ok() || !pages.account().has_spill() {
                    return put;
                }
            }
            *self = Self::copy(&small.bytes, BLOCK_BYTES, pages)?;
        }
        let Self::Page(page) = self else {
            return Err(Errno::Io);
        };
        let had = page.len();
        let bytes = page.alone().ok_or(Errno::Io)?;
        if let Some(gap) = bytes.get_mut(had..at.max(had)) {
            gap.fill(0);
        }
        bytes
            .get_mut(at..end)
            .ok_or(Errno::Io)?
            .copy_from_slice(piece);
        page.set_len(had.max(end));
        Ok(())
    }

    /// Cuts to `len` bytes with room for `capacity`, whoever else holds it.
    pub(crate) fn truncate(&mut self, len: usize, capacity: usize, pages: &mut Pages) {
        if len >= self.len() {
            return;
        }
        match self {
            Self::Page(page) if capacity > MAX_SMALL => return page.set_len(len),
            Self::Small(small) => {
                if let Some(small) = Arc::get_mut(small) {
                    return small.truncate(len, capacity);
                }
            }
            Self::Page(_) => {}
        }
        let kept = self.bytes().get(..len).unwrap_or_default();
        *self = Self::copy_unasked(kept, capacity, pages);
    }
}

fn copy(old: &[u8], capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity.max(old.len()));
    bytes.extend_from_slice(old);
    bytes
}

impl Small {
    fn put(&mut self, at: usize, piece: &[u8], capacity: usize) -> Result<(), Errno> {
        let grown = (at + piece.len()).saturating_sub(self.bytes.len());
        self.account.take_block(grown as u64)?;
        if grown > 0 && self.bytes.capacity() < self.bytes.len() + grown {
            let room = capacity.saturating_sub(self.bytes.len()).max(grown);
            self.bytes.reserve_exact(room);
        }
        if self.bytes.len() < at {
            self.bytes.resize(at, 0);
        }
        let (inside, beyond) = piece.split_at((self.bytes.len() - at).min(piece.len()));
        if let Some(old) = self.bytes.get_mut(at..at + inside.len()) {
            old.copy_from_slice(inside);
        }
        self.bytes.extend_from_slice(beyond);
        Ok(())
    }

    fn truncate(&mut self, len: usize, capacity: usize) {
        let old = self.bytes.len();
        self.bytes.truncate(len);
        self.bytes.shrink_to(capacity);
        self.account.give((old - self.bytes.len()) as u64);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.account.give(self.bytes.len() as u64);
    }
}
