//! What makes a mapped index safe to believe: each block of it is hashed when
//! it is first looked at.
//!
//! A block that does not hold is refused each time, and the thread that asked
//! for it notes that: an operation that was refused something fails, and no
//! other does. The note is the thread's, since the tables are read through
//! shared references by many at once and an operation does not leave its thread.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::chunk::ContentError;
use crate::digest::Digest;

/// Bytes in a block. A lookup in an index that was never used touches four:
/// hashing one takes about as long as the page faults it brings.
pub(crate) const GUARD_BLOCK: usize = 16 * 1024;

thread_local! {
    /// Whether this thread was refused something since it began to look.
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

/// Begins an operation of this thread: nothing has been refused to it.
#[inline]
pub(super) fn begin() {
    REFUSED.set(false);
}

/// Returns whether something has been refused to the operation.
#[inline]
pub(super) fn refused() -> bool {
    REFUSED.get()
}

/// Refuses the operation what was found to be missing before.
#[cold]
pub(super) fn refuse() {
    REFUSED.set(true);
}

/// Runs `look` as an operation of its own, within another. Returns its result, and
/// whether something was refused to it, which does not concern the other operation.
pub(super) fn isolated<R>(look: impl FnOnce() -> R) -> (R, bool) {
    let before = REFUSED.replace(false);
    let found = look();
    (found, REFUSED.replace(before))
}

/// Verifies each block of a mapped index once, when it is first touched, and keeps the
/// first damage that was found.
pub(crate) struct Guard {
    /// The guarded bytes: whole blocks but for the last.
    body: Bytes,
    /// The digest of each block, 32 bytes each.
    digests: Bytes,
    /// A bit for each block that held. Atomic; a race hashes a block twice.
    verified: Box<[AtomicU64]>,
    /// Set by whoever maps the file when it turned out to be cut short.
    cut: Arc<AtomicBool>,
    /// The first damage found.
    damage: OnceLock<ContentError>,
    /// What the file is called in messages.
    file: String,
    /// Where the body begins in the file.
    start: u64,
}

/// A block of an index is not what its digest says.
#[derive(Debug, thiserror::Error)]
#[error("{file}: damaged at byte {offset}: expected {expected}, found {found}")]
struct WrongBlock {
    file: String,
    offset: u64,
    expected: Digest,
    found: Digest,
}

/// A mapped file has become shorter.
#[derive(Debug, thiserror::Error)]
#[error("{0}: cut short while in use")]
struct CutShort(String);

/// A table of an index is malformed, although its digest is right.
#[derive(Debug, thiserror::Error)]
#[error("{0}: malformed: {1}")]
struct MalformedTable(String, &'static str);

impl Guard {
    pub(crate) fn new(
        body: Bytes,
        digests: Bytes,
        cut: Arc<AtomicBool>,
        file: String,
        start: u64,
    ) -> Self {
        let words = body.len().div_ceil(GUARD_BLOCK).div_ceil(64);
        Self {
            body,
            digests,
            verified: (0..words).map(|_| AtomicU64::new(0)).collect(),
            cut,
            damage: OnceLock::new(),
            file,
            start,
        }
    }

    /// Returns whether `len` bytes from `offset` of the body on may be read.
    #[inline]
    pub(super) fn allows(&self, offset: usize, len: usize) -> bool {
        if len == 0 {
            return true;
        }
        let first = offset / GUARD_BLOCK;
        let last = offset.saturating_add(len.saturating_sub(1)) / GUARD_BLOCK;
        (first..=last).all(|block| self.is_verified(block) || self.check(block))
    }

    #[inline]
    fn is_verified(&self, block: usize) -> bool {
        let word = self.verified.get(block / 64);
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (block % 64) & 1 == 1)
    }

    #[cold]
    fn check(&self, block: usize) -> bool {
        let start = block * GUARD_BLOCK;
        let end = (start + GUARD_BLOCK).min(self.body.len());
        let (Some(bytes), Some(expected)) = (self.body.get(start..end), self.digest(block)) else {
            refuse();
            return false;
        };
        let found = Digest::of(bytes);
        if found != expected {
            refuse();
            self.damage.get_or_init(|| {
                tracing::error!(file = %self.file, offset = self.start + start as u64, "a block of an image is damaged");
                ContentError::new(WrongBlock {
                    file: self.file.clone(),
                    offset: self.start + start as u64,
                    expected,
                    found,
                })
            });
            return false;
        }
        if let Some(word) = self.verified.get(block / 64) {
            word.fetch_or(1 << (block % 64), Ordering::Release);
        }
        true
    }

    fn digest(&self, block: usize) -> Option<Digest> {
        let bytes = self.digests.get(block * 32..)?.first_chunk()?;
        Some(Digest::from_bytes(*bytes))
    }

    /// Returns whether the file was cut short: then no block is what it was held
    /// to be.
    #[inline]
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Returns what is wrong with the file, as far as it has been looked at.
    #[inline]
    pub(super) fn damage(&self) -> Option<ContentError> {
        if self.is_cut() {
            let cut = || ContentError::new(CutShort(self.file.clone()));
            return Some(self.damage.get_or_init(cut).clone());
        }
        self.damage.get().cloned()
    }

    /// Records that a table is malformed although its digest is right.
    #[cold]
    pub(super) fn mark_malformed(&self, what: &'static str) {
        refuse();
        let mark_malformed = || ContentError::new(MalformedTable(self.file.clone(), what));
        self.damage.get_or_init(mark_malformed);
    }

    /// Hashes every block again, whether it has held before or not.
    pub(super) fn check_all(&self) -> Result<(), ContentError> {
        for block in 0..self.body.len().div_ceil(GUARD_BLOCK) {
            self.check(block);
        }
        self.damage().map_or(Ok(()), Err)
    }
}
