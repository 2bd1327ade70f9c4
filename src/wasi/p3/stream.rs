//! Files as streams of bytes. A step copies between the file and the guest's
//! buffer and is done. It waits only for content that has to be fetched first,
//! and has moved nothing then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Destination, Source, StreamConsumer, StreamProducer, StreamResult, VecBuffer,
};
use wasmtime_wasi::p3::bindings::filesystem::types::ErrorCode;

use crate::chunk::Ticket;
use crate::errno::Errno;
use crate::limits::MAX_STREAM_STEP_BYTES;
use crate::meta::Kind;
use crate::vfs::{Access, Descriptor, NotDone};
use crate::wasi::component::ops;
use crate::wasi::component::watch::{Step, StreamWatcher};
use crate::wasi::write_at::WriteAt;

/// Bytes made at a time for a stream that the host itself reads.
const HOST_BUFFER: usize = 64 * 1024;

/// How a stream ended, for the future beside it.
pub(super) type StreamEnd = Result<(), ErrorCode>;

/// Reports to the future beside a stream how the stream ended: what came first
/// counts, and a stream that is dropped before its end did well so far.
pub(super) struct Ending(Option<oneshot::Sender<StreamEnd>>);

impl Ending {
    pub(super) fn new() -> (Self, oneshot::Receiver<StreamEnd>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    /// Ends the stream. The guest may have dropped the future: then nobody
    /// wants to know.
    pub(super) fn end(&mut self, end: Result<(), Errno>) -> StreamResult {
        if let Some(sender) = self.0.take() {
            drop(sender.send(end.map_err(ErrorCode::from)));
        }
        StreamResult::Dropped
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

/// Offsets past `i64::MAX` are negative to Linux, which refuses them.
fn check_offset(offset: u64) -> Result<(), Errno> {
    match i64::try_from(offset) {
        Ok(_) => Ok(()),
        Err(_) => Err(Errno::Invalid),
    }
}

/// So it does the last one for any byte that would go there.
fn check_room(offset: u64) -> Result<(), Errno> {
    check_offset(further(offset, 1))
}

fn further(offset: u64, count: usize) -> u64 {
    offset.saturating_add(u64::try_from(count).unwrap_or(u64::MAX))
}

/// What a stream has to wait for before its next step.
#[derive(Default)]
struct Absent(Option<Box<Ticket>>);

impl Absent {
    /// Takes a step until it is done; pending while content is fetched.
    fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut step: impl FnMut() -> Result<R, NotDone>,
    ) -> Poll<Result<R, Errno>> {
        loop {
            if let Some(ticket) = &mut self.0 {
                ready!(Pin::new(ticket).poll(cx));
                self.0 = None;
            }
            match step() {
                Ok(done) => return Poll::Ready(Ok(done)),
                Err(NotDone::Errno(errno)) => return Poll::Ready(Err(errno)),
                Err(NotDone::Absent(ticket)) => self.0 = Some(ticket),
            }
        }
    }
}

/// What a step that has to wait comes to: it is given up if the guest wants to
/// be done, and nothing has been moved.
fn pending(finish: bool) -> Poll<wasmtime::Result<StreamResult>> {
    if finish {
        Poll::Ready(Ok(StreamResult::Cancelled))
    } else {
        Poll::Pending
    }
}

/// Reads a file from an offset on, straight into the guest's buffer.
pub(super) struct ReadStream {
    file: Arc<Descriptor>,
    offset: u64,
    ending: Ending,
    absent: Absent,
    watch: StreamWatcher,
}

impl ReadStream {
    /// Refuses a directory (`is-directory`), an offset that no file has
    /// (`invalid`) and a descriptor that is not for reading
    /// (`bad-descriptor`).
    pub(super) fn new(
        file: &Arc<Descriptor>,
        offset: u64,
        ending: Ending,
        watch: StreamWatcher,
    ) -> Result<Self, Errno> {
        match file.kind() {
            Kind::Dir => return Err(Errno::IsDirectory),
            Kind::File | Kind::Symlink => check_offset(offset)?,
        }
        if !file.access().contains(Access::READ) {
            return Err(Errno::BadDescriptor);
        }
        check_room(offset)?;
        Ok(Self {
            file: Arc::clone(file),
            offset,
            ending,
            absent: Absent::default(),
            watch,
        })
    }
}

impl<D> StreamProducer<D> for ReadStream {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    /// The end of the file ends the stream.
    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        dst: Destination<'a, u8, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = self.get_mut();
        let mut dst = dst.as_direct(store, HOST_BUFFER);
        let room = dst.remaining();
        let room = match room.len() {
            // The guest asks whether there is something to read: always.
            0 => return Poll::Ready(Ok(StreamResult::Completed)),
            len => room.get_mut(..len.min(MAX_STREAM_STEP_BYTES)),
        };
        let room = room.unwrap_or_default();
        let (file, offset) = (&this.file, this.offset);
        this.watch.begin();
        let read = this.absent.poll(cx, || file.try_read_at(room, offset));
        Poll::Ready(Ok(match read {
            Poll::Pending => return pending(finish),
            Poll::Ready(Ok(0)) => {
                this.watch.end(Step::Bytes(&[]));
                this.ending.end(Ok(()))
            }
            Poll::Ready(Ok(count)) => {
                this.watch
                    .end(Step::Bytes(room.get(..count).unwrap_or_default()));
                dst.mark_written(count);
                this.offset = further(offset, count);
                StreamResult::Completed
            }
            Poll::Ready(Err(errno)) => {
                this.watch.end(Step::Failed(errno));
                this.ending.end(Err(errno))
            }
        }))
    }
}

/// Writes a file from an offset on, or at its end, straight from the guest's
/// buffer. What the guest was told is written is in the file.
pub(super) struct WriteStream {
    file: Arc<Descriptor>,
    place: WriteAt,
    ending: Ending,
    absent: Absent,
    watch: StreamWatcher,
}

impl WriteStream {
    /// Refuses a directory (`bad-descriptor`), a file under a read-only
    /// preopen (`not-permitted`), an offset that no file has (`invalid`) and a
    /// descriptor that is not for writing (`bad-descriptor`).
    pub(super) fn check(file: &Descriptor, place: WriteAt) -> Result<(), Errno> {
        let access = ops::writable(file)?.access();
        if let WriteAt::Offset(offset) = place {
            check_offset(offset)?;
        }
        if access.contains(Access::WRITE) {
            Ok(())
        } else {
            Err(Errno::BadDescriptor)
        }
    }

    /// Takes a file and a place that [`Self::check`] let pass.
    pub(super) fn new(
        file: Arc<Descriptor>,
        place: WriteAt,
        ending: Ending,
        watch: StreamWatcher,
    ) -> Self {
        Self {
            file,
            place,
            ending,
            absent: Absent::default(),
            watch,
        }
    }

    /// Writes as much as the quota lets in, at least one byte.
    fn put(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Errno>> {
        let (file, place) = (&self.file, self.place);
        let put = ready!(self.absent.poll(cx, || match place {
            WriteAt::Offset(offset) => {
                check_room(offset)?;
                file.try_write_at(bytes, offset)
            }
            WriteAt::End => file.try_append(bytes).map(|(count, _)| count),
        }));
        if let (WriteAt::Offset(offset), Ok(count)) = (&mut self.place, &put) {
            *offset = further(*offset, *count);
        }
        Poll::Ready(put)
    }
}

impl<D> StreamConsumer<D> for WriteStream {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        src: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut src = src.as_direct(store);
        let bytes = src.remaining();
        let bytes = match bytes.len() {
            0 => return Poll::Ready(Ok(StreamResult::Completed)),
            len => bytes.get(..len.min(MAX_STREAM_STEP_BYTES)),
        };
        let bytes = bytes.unwrap_or_default();
        self.watch.begin();
        Poll::Ready(Ok(match self.put(cx, bytes) {
            Poll::Pending => return pending(finish),
            Poll::Ready(Ok(count)) => {
                let written = bytes.get(..count).unwrap_or_default();
                self.watch.end(Step::Bytes(written));
                src.mark_read(count);
                StreamResult::Completed
            }
            Poll::Ready(Err(errno)) => {
                self.watch.end(Step::Failed(errno));
                self.ending.end(Err(errno))
            }
        }))
    }
}
