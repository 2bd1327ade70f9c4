//! Open files, with tokio's traits.

use std::future::Future;
use std::io::{self, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

use super::File;
use crate::chunk::Ticket;
use crate::errno::Errno;
use crate::limits::MAX_ASYNC_FILE_BYTES;
use crate::vfs::NotDone;

/// An open file with an offset, for tasks: tokio's [`AsyncRead`], [`AsyncWrite`] and
/// [`AsyncSeek`]. Made of a [`File`], with its path, offset and mode.
///
/// ```
/// use stratafs::host::AsyncFile;
/// use stratafs::{image::Image, vfs::Fs};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # fn main() -> std::io::Result<()> {
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let fs = Fs::new(&Image::empty());
/// let mut file = AsyncFile::from(fs.create("/report")?);
/// file.write_all(b"from a task").await?;
///
/// let mut text = String::new();
/// AsyncFile::from(fs.open("/report")?).read_to_string(&mut text).await?;
/// assert_eq!(text, "from a task");
/// # Ok(())
/// # })
/// # }
/// ```
///
/// # What waits, and what blocks
///
/// * Content that has to be fetched first is awaited. A call that waits has done
///   nothing, so it may be dropped and made again: nothing is lost or done twice.
/// * A read or write of what an instance holds in memory is done when it returns. No
///   worker thread is involved. It takes the lock of the instance as any call of a host
///   does, and copies at most [`MAX_ASYNC_FILE_BYTES`].
/// * A first read of content that lies in a store on this machine blocks the thread
///   while the disk is read and the content is verified, at most that many bytes. A
///   runtime that cannot bear this reads with [`File`] on a blocking thread.
/// * Flushing and shutting down do nothing, since nothing is buffered.
/// * Dropping the file closes it: what [`Sealing`](crate::vfs::Sealing) says of closing
///   a large file that was written goes for this one too.
///
/// Reads and writes never make the runtime switch to another task while all content is
/// here. A task that moves much calls `tokio::task::yield_now` from time to time.
#[derive(Debug)]
pub struct AsyncFile {
    file: File,
    /// What the last read, and the last write, had to wait for.
    read_waits: Option<Ticket>,
    write_waits: Option<Ticket>,
}

impl AsyncFile {
    /// Returns the file with std's traits, at the same offset. A call that waited is given up.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }

    /// Returns the file below: for its metadata, and for reads and writes at an offset,
    /// which block the thread until content has been fetched.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl From<File> for AsyncFile {
    fn from(file: File) -> Self {
        Self {
            file,
            read_waits: None,
            write_waits: None,
        }
    }
}

/// Makes a call until it has been done. Where it needs content that is not here, the
/// task is woken once that has come, and the call is made again.
fn poll_done<R>(
    waits: &mut Option<Ticket>,
    cx: &mut Context<'_>,
    mut call: impl FnMut() -> Result<R, NotDone>,
) -> Poll<Result<R, Errno>> {
    loop {
        if let Some(ticket) = waits {
            ready!(Pin::new(ticket).poll(cx));
            *waits = None;
        }
        match call() {
            Ok(done) => return Poll::Ready(Ok(done)),
            Err(NotDone::Errno(errno)) => return Poll::Ready(Err(errno)),
            Err(NotDone::Absent(ticket)) => *waits = Some(*ticket),
        }
    }
}

impl AsyncRead for AsyncFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            file, read_waits, ..
        } = &mut *self;
        let room = buf.remaining().min(MAX_ASYNC_FILE_BYTES);
        let into = buf.initialize_unfilled_to(room);
        let read = ready!(poll_done(read_waits, cx, || file.try_read(into)));
        let len = read.map_err(file.failed("read"))?;
        buf.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AsyncFile {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self {
            file, write_waits, ..
        } = &mut *self;
        let now = buf.get(..MAX_ASYNC_FILE_BYTES).unwrap_or(buf);
        let wrote = ready!(poll_done(write_waits, cx, || file.try_write(now)));
        Poll::Ready(wrote.map_err(file.failed(file.writing())))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for AsyncFile {
    /// Moves the offset at once: [`poll_complete`](Self::poll_complete) tells it.
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        self.file.seek(to).map(drop)
    }

    fn poll_complete(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(self.file.stream_position())
    }
}
