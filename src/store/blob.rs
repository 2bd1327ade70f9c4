//! Blobs: bytes by their SHA-256, in and out as a stream.

use std::io::{self, Read, Write};

use sha2::Digest as _;

use super::record::BlobRecord;
use super::{Blob, StoreError};
use crate::chunk::{ChunkPool, Content, ContentBuilder};
use crate::digest::Sha256;
use crate::limits::CHUNK_BYTES;

/// Takes the bytes of a blob, as [`Import::blob`](super::Import::blob) gives
/// it out. Holds a few chunks at a time.
pub struct BlobWriter<'a> {
    content: ContentBuilder<'a>,
    hasher: sha2::Sha256,
}

impl<'a> BlobWriter<'a> {
    pub(super) fn new(pool: &'a ChunkPool) -> Self {
        Self {
            content: ContentBuilder::new(pool),
            hasher: sha2::Sha256::new(),
        }
    }

    /// Ends the blob. It is kept once [`Import::keep`](super::Import::keep)
    /// has it.
    #[must_use]
    pub fn finish(self) -> NewBlob {
        let digest = Sha256::from_bytes(self.hasher.finalize().into());
        let content = self.content.finish();
        NewBlob { digest, content }
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.hasher.update(buf);
        self.content.write(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob that has been written.
#[derive(Clone, Debug)]
pub struct NewBlob {
    pub(super) digest: Sha256,
    pub(super) content: Content,
}

impl NewBlob {
    /// Returns the blob's name and length.
    #[must_use]
    pub fn blob(&self) -> Blob {
        Blob {
            digest: self.digest,
            bytes: self.content.size(),
        }
    }
}

/// Reads a blob, as [`Store::blob`](super::Store::blob) gives it out. The last
/// read fails if the bytes were not those of the name.
pub struct BlobReader {
    content: Content,
    at: u64,
    expected: Sha256,
    hasher: sha2::Sha256,
}

impl BlobReader {
    pub(super) fn new(content: Content, expected: Sha256) -> Self {
        Self {
            content,
            at: 0,
            expected,
            hasher: sha2::Sha256::new(),
        }
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.content.size()
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    pub(super) fn check_all(mut self) -> Result<(), StoreError> {
        let mut buf = vec![0; CHUNK_BYTES];
        loop {
            if self.next(&mut buf)? == 0 {
                return Ok(());
            }
        }
    }

    fn next(&mut self, buf: &mut [u8]) -> Result<usize, StoreError> {
        let len = self.content.read_at(buf, self.at)?;
        self.hasher.update(buf.get(..len).unwrap_or_default());
        self.at += len as u64;
        if self.at == self.content.size() && (len > 0 || self.at == 0) {
            let found = Sha256::from_bytes(self.hasher.clone().finalize().into());
            if found != self.expected {
                return Err(StoreError::WrongBlob {
                    expected: self.expected,
                    found,
                });
            }
        }
        Ok(len)
    }
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.next(buf).map_err(io::Error::other)
    }
}

impl BlobRecord {
    pub(super) fn runs(&self) -> Box<[crate::image::index_file::RunRecord]> {
        let runs = self.runs.iter();
        runs.map(
            |(at, pack, offset, len)| crate::image::index_file::RunRecord {
                at: (*at).into(),
                pack: (*pack).into(),
                offset: (*offset).into(),
                len: (*len).into(),
            },
        )
        .collect()
    }
}
