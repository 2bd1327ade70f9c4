//! Files as `wasi:io` streams. Everything is in memory, so a stream is always
//! ready: nothing waits, nothing is buffered.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::ops;
use crate::errno::Errno;
use crate::limits::{MAX_HOST_READ_BYTES, MAX_STREAM_WRITE_BYTES};
use crate::meta::Kind;
use crate::vfs::{Access, Descriptor};

/// Zeros for `write-zeroes`, so that a guest's count allocates nothing.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The code travels inside of the stream's error to `filesystem-error-code`.
fn failed(errno: Errno) -> StreamError {
    StreamError::LastOperationFailed(errno.into())
}

/// Reads a file from an offset on. A read that lies in one chunk of the base is
/// a slice of it, any other a copy: guests that read without a buffer expect
/// all they asked for.
pub(super) struct ReadStream {
    file: Arc<Descriptor>,
    offset: u64,
}

impl ReadStream {
    /// Refuses a directory (`is-directory`) and a descriptor that is not for
    /// reading (`bad-descriptor`).
    pub(super) fn new(file: &Arc<Descriptor>, offset: u64) -> Result<Self, Errno> {
        match file.kind() {
            Kind::Dir => return Err(Errno::IsDirectory),
            Kind::File | Kind::Symlink => {}
        }
        if !file.access().contains(Access::READ) {
            return Err(Errno::BadDescriptor);
        }
        Ok(Self {
            file: Arc::clone(file),
            offset,
        })
    }

    fn advance(&mut self, count: usize) {
        self.offset = self
            .offset
            .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
}

#[async_trait]
impl InputStream for ReadStream {
    /// The end of the file is `closed`; if the file grows, a later read goes
    /// on from there, as POSIX has it.
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let size = size.min(MAX_HOST_READ_BYTES);
        let bytes = self.file.read_full(self.offset, size).map_err(failed)?;
        if bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        self.advance(bytes.len());
        Ok(bytes)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.read(size)
    }

    /// Moves on without looking at the bytes.
    fn skip(&mut self, count: usize) -> StreamResult<usize> {
        if count == 0 {
            return Ok(0);
        }
        let rest = self
            .file
            .stat()
            .map_err(failed)?
            .size
            .saturating_sub(self.offset);
        let count = count.min(usize::try_from(rest).unwrap_or(usize::MAX));
        if count == 0 {
            return Err(StreamError::Closed);
        }
        self.advance(count);
        Ok(count)
    }

    async fn blocking_skip(&mut self, count: usize) -> StreamResult<usize> {
        self.skip(count)
    }
}

#[async_trait]
impl Pollable for ReadStream {
    async fn ready(&mut self) {}
}

/// Where a stream writes.
enum Place {
    At(u64),
    End,
}

/// Writes a file from an offset on, or at its end. What `write` returned is in
/// the file.
pub(super) struct WriteStream {
    file: Arc<Descriptor>,
    place: Place,
    closed: bool,
}

impl WriteStream {
    pub(super) fn at(file: &Arc<Descriptor>, offset: u64) -> Result<Self, Errno> {
        Self::new(file, Place::At(offset))
    }

    pub(super) fn append(file: &Arc<Descriptor>) -> Result<Self, Errno> {
        Self::new(file, Place::End)
    }

    /// Refuses a directory (`bad-descriptor`), a file under a read-only
    /// preopen (`not-permitted`) and a descriptor that is not for writing
    /// (`bad-descriptor`).
    fn new(file: &Arc<Descriptor>, place: Place) -> Result<Self, Errno> {
        if !ops::writable(file)?.access().contains(Access::WRITE) {
            return Err(Errno::BadDescriptor);
        }
        Ok(Self {
            file: Arc::clone(file),
            place,
            closed: false,
        })
    }

    fn put_all(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            let count = match self.place {
                Place::At(offset) => self.file.write_at(offset, bytes)?,
                Place::End => self.file.append(bytes)?,
            };
            if let Place::At(offset) = &mut self.place {
                *offset = offset.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            }
            bytes = match bytes.get(count..) {
                Some(rest) if count > 0 => rest,
                Some(_) | None => return Err(Errno::Io),
            };
        }
        Ok(())
    }

    /// Writes all or fails; a failure closes the stream.
    fn put(&mut self, bytes: &[u8]) -> StreamResult<()> {
        self.check_open()?;
        self.put_all(bytes).map_err(|errno| {
            self.closed = true;
            failed(errno)
        })
    }

    fn check_open(&self) -> StreamResult<()> {
        if self.closed {
            Err(StreamError::Closed)
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl OutputStream for WriteStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > MAX_STREAM_WRITE_BYTES {
            return Err(StreamError::trap(
                "write of more than `check-write` allowed",
            ));
        }
        self.put(&bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check_open()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.check_open()?;
        Ok(MAX_STREAM_WRITE_BYTES)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.put(&bytes)
    }

    fn write_zeroes(&mut self, count: usize) -> StreamResult<()> {
        if count > MAX_STREAM_WRITE_BYTES {
            return Err(StreamError::trap("more zeros than `check-write` allowed"));
        }
        let mut left = count;
        while left > 0 {
            let piece = ZEROS.get(..left).unwrap_or(&ZEROS);
            self.put(piece)?;
            left = left.saturating_sub(piece.len());
        }
        self.check_open()
    }
}

#[async_trait]
impl Pollable for WriteStream {
    async fn ready(&mut self) {}
}
