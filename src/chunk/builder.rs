//! Cutting a stream of bytes and holes into chunks.

use super::content::{Extent, digest_of};
use super::stored::FileSink;
use super::{ChunkPool, Content};
use crate::digest::Digest;
use crate::limits::CHUNK_BYTES;

/// Takes the bytes of a file from front to back and makes its [`Content`].
///
/// Holds one unfinished chunk at a time. Chunks that are all zeros become
/// holes, so a hole and written zeros give the same content.
///
/// ```
/// use stratafs::chunk::{ChunkPool, ContentBuilder};
///
/// let pool = ChunkPool::new();
/// let mut builder = ContentBuilder::new(&pool);
/// builder.write(b"in two ");
/// builder.write(b"pieces");
/// let content = builder.finish();
/// assert_eq!(content.digest(), ContentBuilder::of(&pool, b"in two pieces").digest());
/// ```
pub struct ContentBuilder<'pool> {
    pool: &'pool ChunkPool,
    size: u64,
    closed: Closed<'pool>,
    /// The chunk that `size` lies in, zeros at its end left out.
    open: Vec<u8>,
}

impl std::fmt::Debug for ContentBuilder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentBuilder")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// What is done with the chunks that are full.
enum Closed<'pool> {
    Pool(Vec<Extent>),
    Sink(Vec<(u64, Digest)>, Box<dyn FileSink + 'pool>),
}

impl<'pool> ContentBuilder<'pool> {
    /// Starts an empty file.
    #[must_use]
    pub fn new(pool: &'pool ChunkPool) -> Self {
        Self {
            pool,
            size: 0,
            closed: match pool.sink() {
                Some(sink) => Closed::Sink(Vec::new(), sink.open_file()),
                None => Closed::Pool(Vec::new()),
            },
            open: Vec::new(),
        }
    }

    /// Makes a whole content at once. O(len).
    #[must_use]
    pub fn of(pool: &'pool ChunkPool, bytes: &[u8]) -> Content {
        let mut builder = Self::new(pool);
        builder.write(bytes);
        builder.finish()
    }

    /// Returns the size so far, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends bytes. O(len).
    pub fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let within = self.within();
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - within));
            self.open.resize(within, 0);
            self.open.extend_from_slice(now);
            self.move_on(now.len() as u64);
            bytes = later;
        }
    }

    /// Appends `len` zeros without storing them. O(1).
    pub fn hole(&mut self, len: u64) {
        let to_end = (CHUNK_BYTES - self.within()) as u64;
        if self.open.is_empty() || len < to_end {
            self.size += len;
            return;
        }
        self.move_on(to_end);
        self.size += len - to_end;
    }

    /// Ends the file.
    #[must_use]
    pub fn finish(mut self) -> Content {
        let within = self.within();
        if !self.open.is_empty() {
            self.open.resize(within, 0);
            self.close(self.size / CHUNK_BYTES as u64);
        }
        match self.closed {
            Closed::Pool(extents) => Content::from_parts(self.size, extents),
            Closed::Sink(pieces, file) => {
                let digest = digest_of(self.size, pieces.into_iter());
                Content::at_rest(self.size, digest, file.finish())
            }
        }
    }

    fn within(&self) -> usize {
        // Below CHUNK_BYTES, so it fits.
        usize::try_from(self.size % CHUNK_BYTES as u64).unwrap_or(0)
    }

    /// Moves on by `len`, which ends at the chunk's end at the furthest.
    fn move_on(&mut self, len: u64) {
        let index = self.size / CHUNK_BYTES as u64;
        self.size += len;
        if self.within() == 0 {
            self.open.resize(CHUNK_BYTES, 0);
            self.close(index);
        }
    }

    /// Puts the open chunk, unless it is a hole, and starts the next.
    fn close(&mut self, index: u64) {
        if self.open.iter().any(|byte| *byte != 0) {
            match &mut self.closed {
                Closed::Pool(extents) => {
                    let chunk = self.pool.put_copy(&self.open);
                    extents.push(Extent { index, chunk });
                }
                Closed::Sink(pieces, file) => {
                    pieces.push((index, Digest::of(&self.open)));
                    file.put(index * CHUNK_BYTES as u64, &self.open);
                }
            }
        }
        self.open.clear();
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;

    fn read_all(content: &Content) -> Vec<u8> {
        let mut buf = vec![0xaa; usize::try_from(content.size()).unwrap() + 1];
        let len = content.read_at(&mut buf, 0).unwrap();
        buf.truncate(len);
        buf
    }

    #[test]
    fn what_goes_in_comes_out_whatever_the_pieces() {
        let pool = ChunkPool::new();
        let bytes: Vec<u8> = (0..3 * CHUNK_BYTES + 17)
            .map(|at| (at % 251) as u8)
            .collect();
        let whole = ContentBuilder::of(&pool, &bytes);
        assert_eq!(read_all(&whole), bytes);
        let mut pieces = ContentBuilder::new(&pool);
        bytes.chunks(1001).for_each(|piece| pieces.write(piece));
        assert_eq!(pieces.finish().digest(), whole.digest());
    }

    #[test]
    fn holes_equal_zeros_and_are_not_stored() {
        let pool = ChunkPool::new();
        let n = CHUNK_BYTES as u64;
        for (before, hole, after) in [
            (0, 10, 0),
            (5, n, 5),
            (0, 3 * n, 1),
            (n as usize, n, 7),
            (9, 2 * n - 9, 0),
            (9, 4, 9),
        ] {
            let mut sparse = ContentBuilder::new(&pool);
            sparse.write(&vec![1; before]);
            sparse.hole(hole);
            sparse.write(&vec![2; after]);
            let sparse = sparse.finish();
            let mut dense = vec![1; before];
            dense.resize(before + hole as usize, 0);
            dense.resize(before + hole as usize + after, 2);
            assert_eq!(read_all(&sparse), dense);
            assert_eq!(sparse.digest(), ContentBuilder::of(&pool, &dense).digest());
            assert!(sparse.stored_bytes() <= (before + after) as u64 + n);
        }
        let mut huge = ContentBuilder::new(&pool);
        huge.hole(1 << 40);
        let huge = huge.finish();
        assert_eq!((huge.size(), huge.stored_bytes()), (1 << 40, 0));
        assert!(huge.is_hole(0, u64::MAX));
    }

    #[test]
    fn slices_are_not_copied() {
        let pool = ChunkPool::new();
        let content = ContentBuilder::of(&pool, &[7; 100]);
        let slice = content.slice_at(10, 1000).unwrap();
        assert_eq!(slice.len(), 90);
        let (_, chunk) = content.chunks().next().unwrap();
        assert_eq!(slice.as_ptr(), chunk.bytes()[10..].as_ptr());
        assert_eq!(content.slice_at(100, 1), None);
    }
}
