//! Private blocks that are equal, held once.
//!
//! A block that will not change is looked up by a hash of its bytes, with a
//! seed that no guest knows, and compared byte for byte: what the hash does is
//! to find, never to decide. Two blocks of one hash are rare, and then the
//! second stays by itself. So does a block whose equal is not found, because the
//! one that had the same samples is gone by now.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::buffer::Buffer;
use super::sealed::{Piece, SealedBlock, SealedFile, SealedTable};
use crate::limits::BLOCK_BYTES;
use crate::weak_table::WeakTable;

/// Samples that a long block is first looked for by, and the bytes of each.
const SAMPLES: usize = 8;
const SAMPLE_BYTES: usize = 16;

/// Bytes from which on a block is long enough to be sampled.
const MIN_SAMPLED_BYTES: usize = 1024;

/// Instances among which equal private blocks are held once.
///
/// A host names the instances that may share: whoever shares can find out, by
/// timing, whether bytes it wrote were there already. An instance without a
/// scope shares with its base, its forks and itself. Quotas count what an
/// instance wrote, whoever else holds it. Cloning gives another handle.
///
/// ```
/// use stratafs::{chunk::Scope, image::Image, vfs::Fs};
///
/// let (base, scope) = (Image::empty(), Scope::new());
/// let make = || Fs::builder(&base).share(&scope).build();
/// let (one, two) = (make(), make());
/// one.write("/model", [7; 4096])?;
/// two.write("/weights", [7; 4096])?;
/// assert_eq!((one.usage().private_bytes, two.usage().private_bytes), (4096, 0));
/// assert_eq!((two.usage().logical_bytes, scope.held_bytes()), (4096, 4096));
/// # Ok::<(), stratafs::Error>(())
/// ```
#[derive(Clone)]
pub struct Scope(Arc<SealedTable>);

impl Scope {
    /// Makes a scope in which nothing is held.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(SealedTable::new(
            WeakTable::default(),
            WeakTable::default(),
        )))
    }

    /// Makes a scope for one instance and its forks: small.
    pub(crate) fn single() -> Self {
        Self(Arc::new(SealedTable::new(
            WeakTable::small(),
            WeakTable::small(),
        )))
    }

    /// Counts the blocks that are held now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.blocks.len()
    }

    /// Returns whether no block is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.blocks.is_empty()
    }

    /// Returns the bytes of all blocks that are held now, each once. O(1).
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.0.held_bytes()
    }

    /// Returns the scope's block with these bytes, and whether it is `buffer`
    /// itself, new. `None` if other blocks have its hashes. O(len); one or two
    /// short locks of a shard, not held while hashing or comparing.
    ///
    /// A long block is first looked for by a hash of samples of its bytes, and by
    /// one of all of them only where another block has the same samples: bytes
    /// that nobody else holds are not read.
    pub(crate) fn put(&self, buffer: &Buffer) -> Option<(Piece, bool)> {
        self.put_sampled(buffer, self.sample(buffer))
    }

    /// As [`put`](Self::put), of a block that was sampled before.
    pub(crate) fn put_sampled(&self, buffer: &Buffer, sample: Sample) -> Option<(Piece, bool)> {
        let whole = || xxh3_64_with_seed(buffer.bytes(), self.0.seed);
        let found = sample.hash.and_then(|hash| self.0.put_block(hash, buffer));
        found.or_else(|| self.0.put_block(whole(), buffer))
    }

    /// Looks at some bytes of a block, from all over it. O(1), no lock.
    #[inline]
    pub(crate) fn sample(&self, buffer: &Buffer) -> Sample {
        match gather(buffer.bytes()) {
            Some(samples) => Sample {
                hash: Some(xxh3_64_with_seed(&samples, !self.0.seed)),
                may_be_zeros: samples == [0; SAMPLES * SAMPLE_BYTES],
            },
            None => Sample {
                hash: None,
                may_be_zeros: true,
            },
        }
    }

    /// Returns the scope's file that is made of these blocks, and whether it is
    /// new. `None` if another file has its hash. O(blocks).
    pub(crate) fn put_file(
        &self,
        size: u64,
        parts: Vec<SealedBlock>,
    ) -> Option<(SealedFile, bool)> {
        let mut key = Vec::with_capacity(8 * (parts.len() + 1));
        key.extend_from_slice(&size.to_le_bytes());
        for part in &parts {
            key.extend_from_slice(&part.address().to_le_bytes());
        }
        let hash = xxh3_64_with_seed(&key, self.0.seed);
        self.0.put_file(hash, size, parts)
    }
}

/// What some of a block's bytes say of it.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// A hash of the samples; absent for a short block, which is looked for as a whole.
    hash: Option<u64>,
    may_be_zeros: bool,
}

impl Sample {
    /// Returns whether the block may be all zeros.
    pub(crate) fn may_be_zeros(self) -> bool {
        self.may_be_zeros
    }

    /// Returns whether the block may have the bytes of another, of the same scope.
    pub(crate) fn may_equal(self, other: Self) -> bool {
        self.hash == other.hash
    }
}

/// Returns some bytes of a long block, from all over it; none of a short one.
#[inline]
fn gather(bytes: &[u8]) -> Option<[u8; SAMPLES * SAMPLE_BYTES]> {
    if bytes.len() < MIN_SAMPLED_BYTES {
        return None;
    }
    // Where a whole block is sampled is known when this is compiled.
    match <&[u8; BLOCK_BYTES]>::try_from(bytes) {
        Ok(block) => gather_from(block),
        Err(_) => gather_from(bytes),
    }
}

#[inline(always)]
fn gather_from(bytes: &[u8]) -> Option<[u8; SAMPLES * SAMPLE_BYTES]> {
    let mut samples = [0; SAMPLES * SAMPLE_BYTES];
    let step = (bytes.len() - SAMPLE_BYTES) / (SAMPLES - 1);
    for (at, out) in (0..).zip(samples.chunks_exact_mut(SAMPLE_BYTES)) {
        out.copy_from_slice(bytes.get(at * step..)?.get(..SAMPLE_BYTES)?);
    }
    Some(samples)
}

impl Default for Scope {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({} blocks)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::chunk::Pages;

    fn block(byte: u8) -> Buffer {
        Buffer::copy(&[byte; 100], 0, &mut Pages::default()).unwrap()
    }

    #[test]
    fn equal_blocks_are_held_once_and_leave_with_the_last() {
        let scope = Scope::new();
        let (first, is_new) = scope.put(&block(1)).unwrap();
        assert!(is_new);
        let (second, is_new) = scope.put(&block(1)).unwrap();
        assert!(!is_new && first.is_same(&second));
        assert_eq!((scope.len(), scope.held_bytes()), (1, 100));
        drop(first);
        assert_eq!(scope.len(), 1);
        drop(second);
        assert_eq!((scope.len(), scope.held_bytes()), (0, 0));
    }

    #[test]
    fn case_101_blocks_whose_hashes_collide_stay_apart() {
        let scope = Scope::new();
        let (held, _) = scope.put(&block(1)).unwrap();
        // The other block's hash leads to this one.
        let hash = xxh3_64_with_seed(block(2).bytes(), scope.0.seed);
        scope.0.blocks.insert(hash, held.inner());
        assert!(scope.put(&block(2)).is_none());
        assert_eq!(held.bytes(), [1; 100]);
    }

    #[test]
    fn long_blocks_that_differ_between_the_samples_find_their_equals() {
        let scope = Scope::new();
        let mut pages = Pages::default();
        let mut long = |byte: u8| {
            let mut bytes = [7; 4096];
            bytes[100] = byte;
            Buffer::copy(&bytes, 4096, &mut pages).unwrap()
        };
        assert_eq!(gather(long(1).bytes()), gather(long(2).bytes()));
        let first: Vec<_> = (0..4).map(|byte| scope.put(&long(byte))).collect();
        assert!(first.iter().flatten().all(|(_, is_new)| *is_new));
        for (byte, held) in (0..4).zip(first.iter().flatten()) {
            let (piece, is_new) = scope.put(&long(byte)).unwrap();
            assert!(!is_new && piece.is_same(&held.0));
        }
        assert_eq!((scope.len(), scope.held_bytes()), (4, 4 * 4096));
        drop(first);
        assert_eq!((scope.len(), scope.held_bytes()), (0, 0));
    }

    #[test]
    fn case_103_put_and_drop_race_leaves_nothing_dangling() {
        let scope = Scope::single();
        let budget = Budget::new(1 << 20);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    let mut pages = Pages::new(budget.account("t"));
                    for round in 0..20_000_u32 {
                        let bytes = (round % 7).to_le_bytes();
                        let buffer = Buffer::copy(&bytes, 4, &mut pages).unwrap();
                        let (piece, _) = scope.put(&buffer).unwrap();
                        assert_eq!(piece.bytes(), bytes);
                    }
                });
            }
        });
        assert_eq!((scope.len(), scope.held_bytes()), (0, 0));
        assert_eq!(budget.held_bytes(), 0);
    }
}
