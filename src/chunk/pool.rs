//! The pool that holds equal chunks once.

use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::copy_or_zero;
use super::pages::Arena;
use super::sparse::Sparse;
use super::stored::ChunkSink;
use crate::digest::Digest;
use crate::weak_table::WeakTable;

/// Up to [`CHUNK_BYTES`](crate::limits::CHUNK_BYTES) bytes of content, named
/// by their BLAKE3. Immutable. Cloning is a reference count.
#[derive(Clone)]
pub struct Chunk(Arc<ChunkInner>);

struct ChunkInner {
    digest: Digest,
    bytes: ChunkBody,
    /// The pool to leave when the last holder goes.
    home: Weak<ChunkTable>,
}

enum ChunkBody {
    Whole(Bytes),
    /// Most of it is zeros.
    Sparse(Sparse),
}

impl ChunkBody {
    /// Holds bytes that are whole as `whole` makes them.
    fn of(bytes: &[u8], whole: impl FnOnce() -> Bytes) -> Self {
        Sparse::of(bytes).map_or_else(|| Self::Whole(whole()), Self::Sparse)
    }

    fn held_bytes(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Sparse(sparse) => sparse.held_bytes() as u64,
        }
    }
}

/// The chunks of a pool that somebody holds.
type ChunkTable = WeakTable<Digest, ChunkInner>;

impl Chunk {
    /// Returns the digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Returns the bytes: without a copy, unless at least half of their blocks of
    /// 4 KiB are zeros, which are not held.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        match &self.0.bytes {
            ChunkBody::Whole(bytes) => bytes.clone(),
            ChunkBody::Sparse(sparse) => sparse.whole(),
        }
    }

    /// Counts the bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.0.bytes {
            ChunkBody::Whole(bytes) => bytes.len(),
            ChunkBody::Sparse(sparse) => sparse.len(),
        }
    }

    /// Returns bytes from `from` on, at most `max`, if there are some that can be
    /// lent.
    pub(super) fn slice(&self, from: usize, max: usize) -> Option<Bytes> {
        let ChunkBody::Whole(bytes) = &self.0.bytes else {
            return None;
        };
        let end = from.saturating_add(max).min(bytes.len());
        (from < end).then(|| bytes.slice(from..end))
    }

    /// Copies bytes from `from` on into `out`, zeros past their end.
    #[inline]
    pub(super) fn read(&self, from: usize, out: &mut [u8]) {
        match &self.0.bytes {
            ChunkBody::Whole(bytes) => copy_or_zero(bytes.get(from..).unwrap_or_default(), out),
            ChunkBody::Sparse(sparse) => sparse.read(from, out),
        }
    }

    /// Stands for the chunk as long as it is held.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({}, {} bytes)", self.0.digest, self.len())
    }
}

impl Drop for ChunkInner {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.forget_dead(&self.digest);
        }
    }
}

/// Holds equal chunks once, for as long as somebody holds them.
///
/// Cloning gives another handle on the same pool. Layers that are to share
/// chunks are built from one pool. Locks: one shard of the map for the time
/// of a look-up; hashing happens before (invariant 7).
///
/// ```
/// use stratafs::chunk::{ChunkPool, ContentBuilder};
///
/// let pool = ChunkPool::new();
/// let one = ContentBuilder::of(&pool, &[1; 100_000]);
/// let two = ContentBuilder::of(&pool, &[1; 100_000]);
/// assert_eq!((one.digest(), pool.count_held_bytes()), (two.digest(), 100_000));
/// drop((one, two));
/// assert!(pool.is_empty());
/// ```
#[derive(Clone, Default)]
pub struct ChunkPool {
    chunks: Arc<ChunkTable>,
    /// Where bytes lie that were copied.
    arena: Arc<Arena>,
    sink: Option<Arc<dyn ChunkSink>>,
}

impl ChunkPool {
    /// Makes an empty pool.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a pool that sends files to a sink as they are built, and holds no chunk
    /// itself.
    #[cfg(feature = "store")]
    pub(crate) fn with_sink(sink: Arc<dyn ChunkSink>) -> Self {
        Self {
            chunks: Arc::default(),
            arena: Arc::default(),
            sink: Some(sink),
        }
    }

    pub(super) fn sink(&self) -> Option<&dyn ChunkSink> {
        self.sink.as_deref()
    }

    /// Returns the pool's chunk with these bytes, taking them in if they are
    /// new. O(len) for the hash; the bytes are kept without a copy, but for those
    /// of which at least half of the blocks of 4 KiB are zeros, which are left out.
    #[must_use]
    pub fn put(&self, bytes: Bytes) -> Chunk {
        let digest = Digest::of(&bytes);
        self.find_or_hold(digest, || ChunkBody::of(&bytes, || bytes.clone()))
    }

    /// As [`put`](Self::put), with a copy if the bytes are new.
    pub(super) fn put_copy(&self, bytes: &[u8]) -> Chunk {
        let digest = Digest::of(bytes);
        self.find_or_hold(digest, || ChunkBody::of(bytes, || self.arena.copy(bytes)))
    }

    fn find_or_hold(&self, digest: Digest, body: impl FnOnce() -> ChunkBody) -> Chunk {
        let hold = || self.hold(digest, body());
        Chunk(self.chunks.get_or_insert_with(digest, hold).0)
    }

    /// Makes a chunk under a digest which is not that of its bytes, and
    /// that the pool gives to whoever puts bytes of that digest.
    #[cfg(test)]
    pub(crate) fn forge(&self, digest: Digest, bytes: Bytes) -> Chunk {
        let held = self.hold(digest, ChunkBody::Whole(bytes));
        self.chunks.insert(digest, &held);
        Chunk(held)
    }

    fn hold(&self, digest: Digest, bytes: ChunkBody) -> Arc<ChunkInner> {
        Arc::new(ChunkInner {
            digest,
            bytes,
            home: Arc::downgrade(&self.chunks),
        })
    }

    /// Counts the chunks that are held now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Returns whether no chunk is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Adds up the bytes that are held for chunks now. O(chunks): for reports and
    /// tests.
    #[must_use]
    pub fn count_held_bytes(&self) -> u64 {
        let held = self.chunks.live();
        held.iter().map(|held| held.bytes.held_bytes()).sum()
    }
}

impl fmt::Debug for ChunkPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkPool({} chunks)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_chunks_are_held_once_and_leave_with_the_last() {
        let pool = ChunkPool::new();
        let first = pool.put(Bytes::from_static(b"same"));
        let second = pool.put(Bytes::copy_from_slice(b"same"));
        assert!(Arc::ptr_eq(&first.0, &second.0));
        assert_eq!((pool.len(), pool.count_held_bytes()), (1, 4));
        drop(first);
        assert_eq!(pool.len(), 1);
        drop(second);
        assert!(pool.is_empty());
    }

    #[test]
    fn case_c5_101_chunks_whose_hashes_collide_are_told_apart() {
        // The map's hash is a digest's first 8 bytes: here they are equal.
        let pool = ChunkPool::new();
        let digest = |last: u8| {
            let mut bytes = [7; 32];
            bytes[31] = last;
            Digest::from_bytes(bytes)
        };
        let chunks: Vec<Chunk> = (0..100)
            .map(|n| pool.forge(digest(n), Bytes::copy_from_slice(&[n])))
            .collect();
        assert_eq!(pool.len(), 100);
        for (n, chunk) in (0..).zip(&chunks) {
            assert_eq!((chunk.digest(), &chunk.bytes()[..]), (digest(n), &[n][..]));
        }
        let kept = chunks.into_iter().nth(50);
        assert_eq!((pool.len(), pool.count_held_bytes()), (1, 1));
        drop(kept);
        assert!(pool.is_empty());
    }

    #[test]
    fn case_103_put_and_drop_race_leaves_nothing_dangling() {
        let pool = ChunkPool::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..20_000u32 {
                        let bytes = (round % 7).to_le_bytes();
                        let chunk = pool.put(Bytes::copy_from_slice(&bytes));
                        assert_eq!(&chunk.bytes()[..], bytes);
                    }
                });
            }
        });
        assert!(pool.is_empty());
    }
}
