//! The immutable bytes of one file.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Chunk;
use super::stored::{ContentError, Stored, Unread};
use crate::digest::Digest;
use crate::limits::CHUNK_BYTES;

/// The bytes of a file: chunks of a pool at aligned offsets, or data at rest
/// in a store. What neither covers is a hole and reads as zeros. Immutable.
/// Cloning is a reference count.
///
/// ```
/// use stratafs::chunk::{ChunkPool, ContentBuilder};
///
/// let pool = ChunkPool::new();
/// let mut file = ContentBuilder::new(&pool);
/// file.hole(1 << 30);
/// file.write(b"end");
/// let content = file.finish();
/// assert_eq!((content.size(), content.stored_bytes()), ((1 << 30) + 3, 3));
///
/// let mut buf = [0; 4];
/// assert_eq!(content.read_at(&mut buf, (1 << 30) - 1)?, 4);
/// assert_eq!(&buf, b"\0end");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Content(Arc<Inner>);

struct Inner {
    size: u64,
    digest: Digest,
    body: ContentBody,
}

enum ContentBody {
    /// Sorted by `index`, none all zeros.
    Pool(Box<[Extent]>),
    Stored(Box<dyn Stored>),
}

/// A chunk and where it lies: at byte `index * CHUNK_BYTES`.
pub(super) struct Extent {
    pub(super) index: u64,
    pub(super) chunk: Chunk,
}

impl Content {
    /// Wraps what the builder made.
    pub(super) fn from_parts(size: u64, extents: Vec<Extent>) -> Self {
        let digest = digest_of(size, pieces_of(&extents));
        let body = ContentBody::Pool(extents.into());
        Self(Arc::new(Inner { size, digest, body }))
    }

    /// Wraps data that is somewhere else, of which size and digest are known.
    #[doc(hidden)]
    #[must_use]
    pub fn at_rest(size: u64, digest: Digest, stored: Box<dyn Stored>) -> Self {
        let body = ContentBody::Stored(stored);
        Self(Arc::new(Inner { size, digest, body }))
    }

    /// Returns the data at rest, if this is that.
    pub(crate) fn stored(&self) -> Option<&dyn Stored> {
        match &self.0.body {
            ContentBody::Pool(_) => None,
            ContentBody::Stored(stored) => Some(&**stored),
        }
    }

    /// Returns the content of an empty file.
    #[must_use]
    pub fn empty() -> Self {
        Self::from_parts(0, Vec::new())
    }

    /// Returns the size in bytes, holes included.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Returns the digest of the bytes: two contents have one digest exactly if
    /// they read the same (invariant 8). Computed once, O(1) here.
    ///
    /// BLAKE3 over the size and, for each 64 KiB that is not all zeros, its
    /// number and its own BLAKE3: so holes of any size cost nothing.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Computes the digest again: from the size and the digests of the chunks,
    /// and of data at rest from its bytes.
    pub(crate) fn recomputed_digest(&self) -> Result<Digest, ContentError> {
        let pieces = match &self.0.body {
            ContentBody::Pool(extents) => return Ok(digest_of(self.0.size, pieces_of(extents))),
            ContentBody::Stored(_) => self.pieces().filter_map(|piece| {
                let number = |(offset, bytes): (u64, Bytes)| {
                    let zeros = bytes.iter().all(|byte| *byte == 0);
                    (!zeros).then(|| (offset / CHUNK_BYTES as u64, Digest::of(&bytes)))
                };
                piece.map(number).transpose()
            }),
        };
        let pieces: Vec<_> = pieces.collect::<Result<_, _>>()?;
        Ok(digest_of(self.0.size, pieces.into_iter()))
    }

    /// Returns the chunks of the pool in order, each with its offset in bytes.
    /// Data at rest in a store has none: [`pieces`](Self::pieces) gives the
    /// bytes of both.
    pub fn chunks(&self) -> impl Iterator<Item = (u64, &Chunk)> {
        self.extents()
            .iter()
            .map(|extent| (extent.index * CHUNK_BYTES as u64, &extent.chunk))
    }

    /// Returns the bytes in order, holes left out, each piece with its offset: of
    /// one 64 KiB of the file each, whole unless the file ends. Without a copy
    /// from a pool; read piece by piece from a store.
    pub fn pieces(&self) -> impl Iterator<Item = Result<(u64, Bytes), ContentError>> {
        let grid = CHUNK_BYTES as u64;
        let mut next = Some(0);
        let at_rest = self.stored().map(|stored| {
            std::iter::from_fn(move || {
                let start = stored.next_data(next?)? / grid * grid;
                let left = self.0.size.checked_sub(start)?;
                next = start.checked_add(grid).filter(|next| *next < self.0.size);
                let len = usize::try_from(left.min(grid)).unwrap_or(0);
                let mut bytes = vec![0; len];
                let read = waiting(|| stored.read_at(start, &mut bytes));
                if read.is_err() {
                    next = None;
                }
                Some(read.map(|()| (start, Bytes::from(bytes))))
            })
        });
        let pooled = self.chunks();
        let pooled = pooled.map(|(offset, chunk)| Ok((offset, chunk.bytes())));
        pooled.chain(at_rest.into_iter().flatten())
    }

    /// Adds up the bytes of the chunks: the size without holes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        let chunks = self.chunks();
        let pooled: u64 = chunks.map(|(_, chunk)| chunk.len() as u64).sum();
        pooled + self.stored().map_or(0, Stored::stored_bytes)
    }

    /// Copies bytes from `offset` on into `buf`: as many as there are. The thread
    /// waits for what has to be fetched first.
    ///
    /// Returns their count, 0 at or past the end. One copy; O(bytes), and a
    /// binary search where the file has holes.
    ///
    /// # Errors
    ///
    /// [`ContentError`] for data at rest that cannot be read or is damaged;
    /// `buf` may have been written to.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, ContentError> {
        waiting(|| self.try_read_at(buf, offset))
    }

    /// As [`read_at`](Self::read_at), but never waits: returns a ticket for bytes
    /// that have to be fetched first.
    pub(crate) fn try_read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Unread> {
        let Some(rest) = self.0.size.checked_sub(offset) else {
            return Ok(0);
        };
        let total = usize::try_from(rest).unwrap_or(usize::MAX).min(buf.len());
        let out = buf.get_mut(..total).unwrap_or_default();
        match &self.0.body {
            ContentBody::Stored(stored) if total > 0 => stored.read_at(offset, out)?,
            ContentBody::Stored(_) => {}
            ContentBody::Pool(extents) => read_extents(extents, offset, out),
        }
        Ok(total)
    }

    /// Returns whether every byte is here and what it should be: reads those at
    /// rest, whose chunks are checked, and waits for none. Asks `go_on` before
    /// each piece, and does not know if that says no. O(bytes at rest).
    pub(crate) fn is_readable(&self, go_on: &dyn Fn() -> bool) -> bool {
        let ContentBody::Stored(stored) = &self.0.body else {
            return true;
        };
        let mut buf = vec![0; CHUNK_BYTES];
        let mut next = stored.next_data(0);
        while let Some(at) = next.filter(|at| *at < self.0.size) {
            if !go_on() {
                return false;
            }
            match self.try_read_at(&mut buf, at) {
                Ok(read) => next = stored.next_data(at.saturating_add(read as u64)),
                Err(_) => return false,
            }
        }
        true
    }

    /// Returns up to `max` bytes from `offset` on without a copy, where one
    /// chunk has them: fewer than `max` at the chunk's end. `None` in a hole, in
    /// 64 KiB of which at least half is zeros, at or past the end, and of data at rest, which is never lent: a file
    /// that somebody cuts short must not take its reader with it.
    #[must_use]
    pub fn slice_at(&self, offset: u64, max: usize) -> Option<Bytes> {
        self.chunk_at(offset)?.slice(within_chunk(offset), max)
    }

    /// Returns whether `len` bytes from `offset` on lie in a hole entirely.
    #[must_use]
    pub fn is_hole(&self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len).min(self.0.size);
        if let ContentBody::Stored(stored) = &self.0.body {
            return stored.next_data(offset).is_none_or(|start| start >= end);
        }
        let first = offset / CHUNK_BYTES as u64;
        let extents = self.extents();
        let from = extents.partition_point(|extent| extent.index < first);
        extents
            .get(from)
            .is_none_or(|extent| extent.index * CHUNK_BYTES as u64 >= end)
    }

    /// Returns the first offset from `offset` on that is not in a hole; `None` if
    /// the rest is one. O(log chunks).
    #[must_use]
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        if let ContentBody::Stored(stored) = &self.0.body {
            let data = stored.next_data(offset);
            return data.filter(|data| *data < self.0.size);
        }
        let extents = self.extents();
        let extent = extents.get(self.extent_from(offset))?;
        Some(offset.max(extent.index * CHUNK_BYTES as u64)).filter(|data| *data < self.0.size)
    }

    /// Returns the first offset past `offset` that is in a hole, at most `limit`;
    /// `offset` itself is not in one. O(log chunks, and chunks in between).
    #[must_use]
    pub fn data_end(&self, offset: u64, limit: u64) -> u64 {
        if let ContentBody::Stored(stored) = &self.0.body {
            return stored.data_end(offset, limit);
        }
        let grid = CHUNK_BYTES as u64;
        let first = self.extent_from(offset);
        let mut end = offset / grid;
        for extent in self.extents().get(first..).unwrap_or_default() {
            if extent.index != end || end * grid >= limit {
                break;
            }
            end += 1;
        }
        limit.min(end * grid).max(offset)
    }

    /// The first chunk that ends past `offset`, by its place among all.
    fn extent_from(&self, offset: u64) -> usize {
        let index = offset / CHUNK_BYTES as u64;
        let extents = self.extents();
        // Without holes before it, chunk n is extent n.
        let guess = usize::try_from(index).unwrap_or(usize::MAX);
        if extents
            .get(guess)
            .is_some_and(|extent| extent.index == index)
        {
            return guess;
        }
        extents.partition_point(|extent| extent.index < index)
    }

    fn extents(&self) -> &[Extent] {
        match &self.0.body {
            ContentBody::Pool(extents) => extents,
            ContentBody::Stored(_) => &[],
        }
    }

    fn chunk_at(&self, offset: u64) -> Option<&Chunk> {
        chunk_of(self.extents(), offset / CHUNK_BYTES as u64)
    }
}

/// Returns chunk number `index` of a file; `None` where a hole is.
#[inline]
fn chunk_of(extents: &[Extent], index: u64) -> Option<&Chunk> {
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

/// Fills `out` with the bytes from `offset` on, zeros where there is no chunk.
fn read_extents(extents: &[Extent], mut offset: u64, mut out: &mut [u8]) {
    while !out.is_empty() {
        let within = within_chunk(offset);
        let (part, rest) = out.split_at_mut((CHUNK_BYTES - within).min(out.len()));
        let next = offset + part.len() as u64;
        match chunk_of(extents, offset / CHUNK_BYTES as u64) {
            Some(chunk) => chunk.read(within, part),
            None => part.fill(0),
        }
        (offset, out) = (next, rest);
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({}, {} bytes)", self.0.digest, self.0.size)
    }
}

/// Tries until the bytes are here, waiting for each ticket that comes.
fn waiting<R>(mut read: impl FnMut() -> Result<R, Unread>) -> Result<R, ContentError> {
    loop {
        match read() {
            Ok(done) => return Ok(done),
            Err(Unread::Failed(error)) => return Err(error),
            Err(Unread::Absent(ticket)) => ticket.wait(),
        }
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
    // Most reads leave nothing, which is not worth a call.
    if !tail.is_empty() {
        tail.fill(0);
    }
}

fn pieces_of(extents: &[Extent]) -> impl Iterator<Item = (u64, Digest)> {
    extents
        .iter()
        .map(|extent| (extent.index, extent.chunk.digest()))
}

/// Computes the digest of the content that has these bytes. O(bytes).
#[cfg(feature = "runner")]
pub(crate) fn digest_of_bytes(bytes: &[u8]) -> Digest {
    let pieces = (0..).zip(bytes.chunks(CHUNK_BYTES));
    let pieces = pieces.filter(|(_, piece)| piece.iter().any(|byte| *byte != 0));
    let digests = pieces.map(|(number, piece)| (number, Digest::of(piece)));
    digest_of(bytes.len() as u64, digests)
}

/// Computes a file's digest from its size and the digests of the numbered
/// 64 KiB that are not all zeros.
pub(crate) fn digest_of(size: u64, pieces: impl Iterator<Item = (u64, Digest)>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"stratafs content 1\0");
    hasher.update(&size.to_le_bytes());
    for (index, digest) in pieces {
        hasher.update(&index.to_le_bytes());
        hasher.update(digest.as_bytes());
    }
    hasher.finalize().into()
}
