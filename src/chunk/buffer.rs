//! Bytes that may still change.

use crate::budget::Account;
use crate::errno::Errno;

/// A block of private bytes, paid for by the account of who made it.
#[derive(Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    account: Account,
}

impl Buffer {
    /// Makes `len` zeros with room for `capacity` bytes.
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] if the account has not so many bytes.
    pub(crate) fn zeros(len: usize, capacity: usize, account: &Account) -> Result<Self, Errno> {
        account.take(len as u64)?;
        let mut bytes = Vec::with_capacity(capacity.max(len));
        bytes.resize(len, 0);
        let account = account.clone();
        Ok(Self { bytes, account })
    }

    /// Copies `old`, with room for `capacity` bytes.
    ///
    /// # Errors
    ///
    /// As [`zeros`](Self::zeros).
    pub(crate) fn copy(old: &[u8], capacity: usize, account: &Account) -> Result<Self, Errno> {
        account.take(old.len() as u64)?;
        Ok(Self::paid(old, capacity, account))
    }

    /// As [`copy`](Self::copy), whatever the account has left.
    pub(crate) fn copy_unasked(old: &[u8], capacity: usize, account: &Account) -> Self {
        account.overdraw(old.len() as u64);
        Self::paid(old, capacity, account)
    }

    fn paid(old: &[u8], capacity: usize, account: &Account) -> Self {
        let mut bytes = Vec::with_capacity(capacity.max(old.len()));
        bytes.extend_from_slice(old);
        let account = account.clone();
        Self { bytes, account }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Puts `piece` at `at`, zeros between the old end and there; with room
    /// for `capacity` bytes if it has to grow.
    ///
    /// # Errors
    ///
    /// As [`zeros`](Self::zeros), and nothing is changed.
    pub(crate) fn put(&mut self, at: usize, piece: &[u8], capacity: usize) -> Result<(), Errno> {
        let grown = (at + piece.len()).saturating_sub(self.bytes.len());
        self.account.take(grown as u64)?;
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

    /// Counts the bytes that are held, used or not.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Cuts to `len` bytes and keeps room for `capacity`.
    pub(crate) fn truncate(&mut self, len: usize, capacity: usize) {
        let old = self.bytes.len();
        self.bytes.truncate(len);
        self.bytes.shrink_to(capacity);
        self.account.give((old - self.bytes.len()) as u64);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.account.give(self.bytes.len() as u64);
    }
}
