//! For tests: bytes that lie elsewhere, and how many of them were read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ContentError, Stored, Unread};

pub(crate) struct CountedBytes {
    bytes: Vec<u8>,
    read: Arc<AtomicUsize>,
}

impl CountedBytes {
    /// Adds each byte that is read to `read`.
    pub(crate) fn new(bytes: Vec<u8>, read: &Arc<AtomicUsize>) -> Self {
        let read = Arc::clone(read);
        Self { bytes, read }
    }
}

impl Stored for CountedBytes {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Unread> {
        self.read.fetch_add(buf.len(), Ordering::Relaxed);
        let start = usize::try_from(offset).ok();
        let piece = start
            .and_then(|start| self.bytes.get(start..))
            .and_then(|rest| rest.get(..buf.len()));
        let past = || ContentError::new(std::io::Error::other("past the end"));
        buf.copy_from_slice(piece.ok_or_else(past)?);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        (offset < self.bytes.len() as u64).then_some(offset)
    }

    fn data_end(&self, _: u64, limit: u64) -> u64 {
        limit.min(self.bytes.len() as u64)
    }

    fn stored_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}
