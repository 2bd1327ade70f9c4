//! Bytes of files that lie somewhere else than in a pool.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::ticket::Ticket;

/// Data at rest: the bytes of one file, holes left out.
///
/// Hidden from the documentation: it is public so that tests can put a source
/// below a file system that is slow, fails, or has to fetch bytes first.
#[doc(hidden)]
pub trait Stored: Any + Send + Sync {
    /// Fills `buf` from `offset` on; the caller keeps within the file, and holds
    /// no lock of an instance. May be called by several threads at once.
    ///
    /// # Errors
    ///
    /// [`Unread::Absent`] at once for bytes that have to be fetched first,
    /// [`Unread::Failed`] for those that cannot be had. `buf` may have been
    /// written to.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Unread>;

    /// Returns the first offset from `offset` on that is not in a hole.
    fn next_data(&self, offset: u64) -> Option<u64>;

    /// Returns the first offset past `offset`, which is not in a hole, that is in
    /// one or is `limit`.
    fn data_end(&self, offset: u64, limit: u64) -> u64;

    /// Counts the bytes outside holes.
    fn stored_bytes(&self) -> u64;
}

/// Why bytes of data at rest were not read.
#[doc(hidden)]
#[derive(Debug)]
pub enum Unread {
    /// They are not here yet. Once the ticket's wait is over, the same call may
    /// find them.
    Absent(Ticket),
    /// They cannot be read, or are not what they were.
    Failed(ContentError),
}

impl From<ContentError> for Unread {
    fn from(error: ContentError) -> Self {
        Self::Failed(error)
    }
}

/// Where a pool sends the files that are built with it: into a store, in bounded
/// memory.
pub(crate) trait ChunkSink: Send + Sync {
    /// Starts a file.
    fn open_file(&self) -> Box<dyn FileSink + '_>;
}

/// A file that is being written to a sink.
pub(crate) trait FileSink: Send {
    /// Takes bytes, from front to back; what is left out is a hole. An error
    /// is kept: the owner of the sink returns it, and so does every read of the file.
    fn put(&mut self, offset: u64, bytes: &[u8]);

    /// Ends the file.
    fn finish(self: Box<Self>) -> Box<dyn Stored>;
}

/// Data at rest could not be read, or is not what it was: the message names
/// the file, the place and what was found. Cloning is a reference count.
#[derive(Clone)]
pub struct ContentError(Arc<dyn Error + Send + Sync>);

impl ContentError {
    /// Wraps the reason.
    #[must_use]
    pub fn new(reason: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(reason))
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentError({})", self.0)
    }
}

impl PartialEq for ContentError {
    /// Equal if they say the same.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.to_string() == other.0.to_string()
    }
}

impl Eq for ContentError {}

impl Error for ContentError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The reason's own text is all of ours.
        self.0.source()
    }
}
