//! The immutable bytes of one file.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Chunk;
use crate::digest::Digest;
use crate::limits::CHUNK_BYTES;

/// The bytes of a file as chunks at aligned offsets; what no chunk covers is
/// a hole and reads as zeros. Immutable. Cloning is a reference count.
#[derive(Clone)]
pub struct Content(Arc<Inner>);

struct Inner {
    size: u64,
    digest: Digest,
    /// Sorted by `index`, none all zeros.
    extents: Box<[Extent]>,
}

/// A chunk and where it lies: at byte `index * CHUNK_BYTES`.
pub(super) struct Extent {
    pub(super) index: u64,
    pub(super) chunk: Chunk,
}

impl Content {
    /// Wraps what the builder made.
    pub(super) fn from_parts(size: u64, extents: Vec<Extent>) -> Self {
        let digest = digest_of(size, &extents);
        Self(Arc::new(Inner {
            size,
            digest,
            extents: extents.into(),
        }))
    }

    /// The content of an empty file.
    #[must_use]
    pub fn empty() -> Self {
        Self::from_parts(0, Vec::new())
    }

    /// Gives the size in bytes, holes included.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Gives the digest of the bytes: two contents have one digest exactly if
    /// they read the same (invariant 8). Computed once, O(1) here.
    ///
    /// BLAKE3 over the size and, for each 64 KiB that is not all zeros, its
    /// number and its own BLAKE3: so holes of any size cost nothing.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Computes the digest again from the size and the digests of the chunks.
    pub(crate) fn recomputed_digest(&self) -> Digest {
        digest_of(self.0.size, &self.0.extents)
    }

    /// Gives the chunks in order, each with its offset in bytes.
    pub fn chunks(&self) -> impl Iterator<Item = (u64, &Chunk)> {
        self.0
            .extents
            .iter()
            .map(|extent| (extent.index * CHUNK_BYTES as u64, &extent.chunk))
    }

    /// Adds up the bytes of the chunks: the size without holes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.0
            .extents
            .iter()
            .map(|extent| extent.chunk.bytes().len() as u64)
            .sum()
    }

    /// Copies bytes from `offset` on into `buf`: as many as there are.
    ///
    /// Gives their count, 0 at or past the end. One copy; O(bytes), and a
    /// binary search where the file has holes.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        let Some(rest) = self.0.size.checked_sub(offset) else {
            return 0;
        };
        let total = usize::try_from(rest).unwrap_or(usize::MAX).min(buf.len());
        let mut done = 0;
        while done < total {
            let at = offset + done as u64;
            let within = within_chunk(at);
            let len = (CHUNK_BYTES - within).min(total - done);
            let Some(out) = buf.get_mut(done..done + len) else {
                break;
            };
            match self.chunk_at(at) {
                Some(chunk) => copy_or_zero(chunk.bytes().get(within..).unwrap_or_default(), out),
                None => out.fill(0),
            }
            done += len;
        }
        done
    }

    /// Gives up to `max` bytes from `offset` on without a copy, where one
    /// chunk has them: fewer than `max` at the chunk's end. `None` in a hole
    /// and at or past the end.
    #[must_use]
    pub fn slice_at(&self, offset: u64, max: usize) -> Option<Bytes> {
        let bytes = self.chunk_at(offset)?.bytes();
        let start = within_chunk(offset);
        let end = start.saturating_add(max).min(bytes.len());
        (start < end).then(|| bytes.slice(start..end))
    }

    /// Tells whether `len` bytes from `offset` on lie in a hole entirely.
    #[must_use]
    pub fn is_hole(&self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len).min(self.0.size);
        let first = offset / CHUNK_BYTES as u64;
        let from = self
            .0
            .extents
            .partition_point(|extent| extent.index < first);
        self.0
            .extents
            .get(from)
            .is_none_or(|extent| extent.index * CHUNK_BYTES as u64 >= end)
    }

    fn chunk_at(&self, offset: u64) -> Option<&Chunk> {
        let index = offset / CHUNK_BYTES as u64;
        let extents = &self.0.extents;
        // Without holes before it, chunk n is extent n.
        let guess = usize::try_from(index).ok().and_then(|at| extents.get(at));
        match guess {
            Some(extent) if extent.index == index => Some(&extent.chunk),
            _ => {
                let at = extents
                    .binary_search_by_key(&index, |extent| extent.index)
                    .ok()?;
                extents.get(at).map(|extent| &extent.chunk)
            }
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({}, {} bytes)", self.0.digest, self.0.size)
    }
}

fn within_chunk(offset: u64) -> usize {
    // Below CHUNK_BYTES, so it fits.
    usize::try_from(offset % CHUNK_BYTES as u64).unwrap_or(0)
}

/// Copies as much of `bytes` as `out` holds and fills the rest with zeros.
pub(crate) fn copy_or_zero(bytes: &[u8], out: &mut [u8]) {
    let (head, tail) = out.split_at_mut(bytes.len().min(out.len()));
    let (have, _) = bytes.split_at(head.len());
    head.copy_from_slice(have);
    tail.fill(0);
}

fn digest_of(size: u64, extents: &[Extent]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"stratafs content 1\0");
    hasher.update(&size.to_le_bytes());
    for extent in extents {
        hasher.update(&extent.index.to_le_bytes());
        hasher.update(extent.chunk.digest().as_bytes());
    }
    hasher.finalize().into()
}
