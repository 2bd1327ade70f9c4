//! Reading a blob, and seeing that it is the one that was promised.

use std::io::{self, Read, Write};

use super::hash::Hasher;
use crate::limits::MAX_OCI_DOCUMENT_BYTES;
use crate::source::BlobDigest;
use crate::source::{SourceError, SourceErrorKind};

/// Bytes read at a time of what nobody else reads.
const BUFFER_BYTES: usize = 64 * 1024;

/// A blob that is being read, and hashed.
pub(crate) struct Checked<'a, R> {
    inner: R,
    digest: &'a BlobDigest,
    hasher: Hasher,
    seen: u64,
}

impl<'a, R: Read> Checked<'a, R> {
    pub(crate) fn new(inner: R, digest: &'a BlobDigest) -> Self {
        Self {
            inner,
            digest,
            hasher: Hasher::like(digest),
            seen: 0,
        }
    }

    /// Reads what is left, and compares the digest.
    pub(crate) fn finish(mut self, size: u64) -> Result<(), SourceErrorKind> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.read(&mut buffer).map_err(SourceErrorKind::Io)? > 0 {}
        same_size(size, self.seen)?;
        same_digest(self.digest, self.hasher.finish())
    }
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        let bytes = buf.get(..len).unwrap_or_default();
        self.hasher.update(bytes);
        self.seen += len as u64;
        Ok(len)
    }
}

/// Bytes that are written to `copy` as they are read.
pub(super) struct TeeReader<'c, R> {
    pub(super) inner: R,
    pub(super) copy: &'c mut dyn Write,
}

impl<R: Read> Read for TeeReader<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        self.copy.write_all(buf.get(..len).unwrap_or_default())?;
        Ok(len)
    }
}

/// Compares a size with the one that was promised.
pub(super) fn same_size(promised: u64, found: u64) -> Result<(), SourceErrorKind> {
    if promised == found {
        return Ok(());
    }
    Err(SourceErrorKind::Mismatch {
        what: "the size",
        promised: promised.to_string(),
        found: found.to_string(),
    })
}

/// Compares a digest with the one that was promised.
pub(super) fn same_digest(promised: &BlobDigest, found: String) -> Result<(), SourceErrorKind> {
    if promised.as_str() == found {
        return Ok(());
    }
    Err(SourceErrorKind::Mismatch {
        what: "the digest",
        promised: promised.to_string(),
        found,
    })
}

/// Reads a document, which has a bound.
pub(super) fn read_small(reader: impl Read, size: u64) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    if size <= MAX_OCI_DOCUMENT_BYTES {
        let mut bounded = reader.take(MAX_OCI_DOCUMENT_BYTES + 1);
        bounded
            .read_to_end(&mut bytes)
            .map_err(SourceErrorKind::Io)?;
    }
    if size.max(bytes.len() as u64) > MAX_OCI_DOCUMENT_BYTES {
        return Err(SourceErrorKind::Limit {
            what: "bytes in a document of an image",
            limit: MAX_OCI_DOCUMENT_BYTES,
        }
        .into());
    }
    Ok(bytes)
}

/// Reads a document that has a digest.
pub(super) fn read_document(
    reader: impl Read,
    size: u64,
    digest: &BlobDigest,
) -> Result<Vec<u8>, SourceError> {
    let bytes = read_small(reader, size)?;
    same_size(size, bytes.len() as u64)?;
    let mut hasher = Hasher::like(digest);
    hasher.update(&bytes);
    same_digest(digest, hasher.finish())?;
    Ok(bytes)
}
