//! Files as `wasi:io` streams. What is in memory is always ready, and nothing
//! of it is buffered. Where content has to be fetched first a stream is not
//! ready until it has come: a read gives no bytes, and a write keeps its own.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::ops;
use crate::chunk::Ticket;
use crate::errno::Errno;
use crate::limits::{MAX_HOST_READ_BYTES, MAX_STREAM_WRITE_BYTES};
use crate::meta::Kind;
use crate::vfs::{Access, Descriptor, NotDone};
use crate::wasi::write_at::WriteAt;

/// Zeros for `write-zeroes`, so that a guest's count allocates nothing.
static ZEROS: [u8; MAX_STREAM_WRITE_BYTES] = [0; MAX_STREAM_WRITE_BYTES];

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
    /// What the last read has to wait for.
    absent: Option<Ticket>,
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
            absent: None,
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
    /// on from there, as POSIX has it. No bytes: they have to be fetched first.
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let size = size.min(MAX_HOST_READ_BYTES);
        self.absent = None;
        let bytes = match self.file.try_read_full(self.offset, size) {
            Ok(bytes) => bytes,
            Err(NotDone::Errno(errno)) => return Err(failed(errno)),
            Err(NotDone::Absent(ticket)) => {
                self.absent = Some(*ticket);
                return Ok(Bytes::new());
            }
        };
        if bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        self.advance(bytes.len());
        Ok(bytes)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        loop {
            let bytes = self.read(size)?;
            if self.absent.is_none() {
                return Ok(bytes);
            }
            self.ready().await;
        }
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
    async fn ready(&mut self) {
        if let Some(ticket) = &mut self.absent {
            ticket.await;
        }
    }
}

/// Writes a file from an offset on, or at its end. What `write` took is in the
/// file, unless content has to be fetched before it can be: then it is kept
/// here, and nothing more is taken, until the stream is ready or flushed. What
/// is still kept when the stream is dropped is lost.
pub(super) struct WriteStream {
    file: Arc<Descriptor>,
    place: WriteAt,
    closed: bool,
    /// At most [`MAX_STREAM_WRITE_BYTES`] that wait for `absent`.
    kept: Bytes,
    absent: Option<Ticket>,
    /// What came of writing them while nobody asked.
    failure: Option<Errno>,
}

impl WriteStream {
    pub(super) fn at(file: &Arc<Descriptor>, offset: u64) -> Result<Self, Errno> {
        Self::new(file, WriteAt::Offset(offset))
    }

    pub(super) fn append(file: &Arc<Descriptor>) -> Result<Self, Errno> {
        Self::new(file, WriteAt::End)
    }

    /// Refuses a directory (`bad-descriptor`), a file under a read-only
    /// preopen (`not-permitted`) and a descriptor that is not for writing
    /// (`bad-descriptor`).
    fn new(file: &Arc<Descriptor>, place: WriteAt) -> Result<Self, Errno> {
        if !ops::writable(file)?.access().contains(Access::WRITE) {
            return Err(Errno::BadDescriptor);
        }
        Ok(Self {
            file: Arc::clone(file),
            place,
            closed: false,
            kept: Bytes::new(),
            absent: None,
            failure: None,
        })
    }

    /// Writes what is kept, as far as content is here. A failure closes the
    /// stream.
    fn go_on(&mut self) -> Result<(), Errno> {
        self.absent = None;
        while !self.kept.is_empty() {
            let wrote = match self.place {
                WriteAt::Offset(offset) => self.file.try_write_at(&self.kept, offset),
                WriteAt::End => self.file.try_append(&self.kept).map(|(count, _)| count),
            };
            let errno = match wrote {
                Ok(count) if count > 0 => {
                    if let WriteAt::Offset(offset) = &mut self.place {
                        *offset = offset.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                    }
                    self.kept.advance(count.min(self.kept.len()));
                    continue;
                }
                Ok(_) => Errno::Io,
                Err(NotDone::Errno(errno)) => errno,
                Err(NotDone::Absent(ticket)) => {
                    self.absent = Some(*ticket);
                    return Ok(());
                }
            };
            self.closed = true;
            self.kept = Bytes::new();
            return Err(errno);
        }
        Ok(())
    }

    /// Takes all or fails.
    fn put(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.check_open()?;
        if !self.kept.is_empty() {
            return Err(StreamError::trap("write before `check-write` allowed it"));
        }
        self.kept = bytes;
        self.go_on().map_err(failed)
    }

    fn check_open(&mut self) -> StreamResult<()> {
        if let Some(errno) = self.failure.take() {
            Err(failed(errno))
        } else if self.closed {
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
        self.put(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check_open()?;
        self.go_on().map_err(failed)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.check_open()?;
        self.go_on().map_err(failed)?;
        if self.kept.is_empty() {
            Ok(MAX_STREAM_WRITE_BYTES)
        } else {
            Ok(0)
        }
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.put(bytes)?;
        self.ready().await;
        match self.failure.take() {
            Some(errno) => Err(failed(errno)),
            None => Ok(()),
        }
    }

    fn write_zeroes(&mut self, count: usize) -> StreamResult<()> {
        if count > MAX_STREAM_WRITE_BYTES {
            return Err(StreamError::trap("more zeros than `check-write` allowed"));
        }
        self.put(Bytes::from_static(ZEROS.get(..count).unwrap_or(&ZEROS)))
    }
}

#[async_trait]
impl Pollable for WriteStream {
    /// Goes on with what is kept until it is written, or cannot be.
    async fn ready(&mut self) {
        while let Some(ticket) = &mut self.absent {
            ticket.await;
            self.failure = self.go_on().err();
        }
    }
}
