//! The streams of files of 0.2: each step that moves bytes or fails is told.

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, InputStream, OutputStream, Pollable, StreamError,
    StreamResult,
};

use super::tracer::{Pending, Tracer};
use super::{CallResult, CallValue, Excerpt, WasiVersion, errnos};
use crate::errno::Errno;

/// A stream that reads a file.
pub(super) struct TracedInput(WatchedStream<DynInputStream>);

/// A stream that writes a file.
pub(super) struct TracedOutput(WatchedStream<DynOutputStream>);

struct WatchedStream<S> {
    behind: S,
    tracer: Tracer,
    /// The descriptor that it was made of, and what that was then.
    of: (&'static str, CallValue),
}

impl<S> WatchedStream<S> {
    fn new(behind: S, tracer: Tracer, of: u32) -> Self {
        let value = tracer.descriptor(of);
        Self {
            behind,
            tracer,
            of: ("descriptor", value),
        }
    }

    fn call(&self, name: &'static str) -> Pending {
        let (of, value) = &self.of;
        self.tracer
            .begin(WasiVersion::Two, name)
            .arg(of, value.clone())
    }
}

/// What a failed step came to. Our own errors travel inside of the stream's, and a
/// host's as those of its system.
fn failed(error: &StreamError) -> CallResult {
    match error {
        StreamError::Closed => CallResult::Done(CallValue::Word("closed".to_owned())),
        StreamError::LastOperationFailed(error) => match error.downcast_ref::<Errno>() {
            Some(errno) => errnos::of_errno(*errno),
            None => match error
                .downcast_ref::<FsError>()
                .and_then(FsError::downcast_ref)
            {
                Some(code) => super::p2::of_code(code),
                None => errnos::named("EIO"),
            },
        },
        StreamError::Trap(error) => CallResult::Trapped(error.to_string()),
    }
}

fn end<T>(
    call: Pending,
    done: StreamResult<T>,
    value_of: impl FnOnce(&T) -> CallValue,
) -> StreamResult<T> {
    let result = match &done {
        Ok(value) => CallResult::Done(value_of(value)),
        Err(error) => failed(error),
    };
    call.end(result);
    done
}

fn end_of_read(mut call: Pending, done: StreamResult<Bytes>) -> StreamResult<Bytes> {
    if let Ok(bytes) = &done {
        call.fill("buf", CallValue::Bytes(Excerpt::content(bytes)));
        call.moved(bytes.len() as u64);
    }
    end(call, done, |bytes| CallValue::Number(bytes.len() as u64))
}

fn end_of_write(mut call: Pending, done: StreamResult<()>, len: usize) -> StreamResult<()> {
    if done.is_ok() {
        call.moved(len as u64);
    }
    end(call, done, |()| CallValue::Number(len as u64))
}

impl TracedInput {
    pub(super) fn put_before(behind: DynInputStream, tracer: Tracer, of: u32) -> DynInputStream {
        Box::new(Self(WatchedStream::new(behind, tracer, of)))
    }

    fn reading(&self, name: &'static str, size: usize) -> Pending {
        let call = self.0.call(name).arg("buf", CallValue::Nothing);
        call.number("len", size as u64)
    }
}

#[async_trait]
impl InputStream for TracedInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let call = self.reading("input-stream.read", size);
        end_of_read(call, self.0.behind.read(size))
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        let call = self.reading("input-stream.blocking-read", size);
        end_of_read(call, self.0.behind.blocking_read(size).await)
    }

    fn skip(&mut self, count: usize) -> StreamResult<usize> {
        let call = self.0.call("input-stream.skip").number("len", count as u64);
        let done = self.0.behind.skip(count);
        end(call, done, |count| CallValue::Number(*count as u64))
    }

    async fn blocking_skip(&mut self, count: usize) -> StreamResult<usize> {
        let call = self.0.call("input-stream.blocking-skip");
        let call = call.number("len", count as u64);
        let done = self.0.behind.blocking_skip(count).await;
        end(call, done, |count| CallValue::Number(*count as u64))
    }

    async fn cancel(&mut self) {
        self.0.behind.cancel().await;
    }
}

#[async_trait]
impl Pollable for TracedInput {
    async fn ready(&mut self) {
        self.0.behind.ready().await;
    }
}

impl TracedOutput {
    pub(super) fn put_before(behind: DynOutputStream, tracer: Tracer, of: u32) -> DynOutputStream {
        Box::new(Self(WatchedStream::new(behind, tracer, of)))
    }

    fn writing(&self, name: &'static str, bytes: &Bytes) -> Pending {
        let call = self.0.call(name);
        let call = call.arg("buf", CallValue::Bytes(Excerpt::content(bytes)));
        call.number("len", bytes.len() as u64)
    }
}

#[async_trait]
impl OutputStream for TracedOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let (call, len) = (self.writing("output-stream.write", &bytes), bytes.len());
        end_of_write(call, self.0.behind.write(bytes), len)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        let call = self.writing("output-stream.blocking-write-and-flush", &bytes);
        let len = bytes.len();
        end_of_write(
            call,
            self.0.behind.blocking_write_and_flush(bytes).await,
            len,
        )
    }

    fn write_zeroes(&mut self, count: usize) -> StreamResult<()> {
        let call = self.0.call("output-stream.write-zeroes");
        let call = call.number("len", count as u64);
        end_of_write(call, self.0.behind.write_zeroes(count), count)
    }

    fn flush(&mut self) -> StreamResult<()> {
        let call = self.0.call("output-stream.flush");
        end(call, self.0.behind.flush(), |()| CallValue::Nothing)
    }

    /// CallValue only if it fails: it asks how much may be written, and moves nothing.
    fn check_write(&mut self) -> StreamResult<usize> {
        let call = self.0.call("output-stream.check-write");
        let done = self.0.behind.check_write();
        match &done {
            Ok(_) => call.forget(),
            Err(error) => call.end(failed(error)),
        }
        done
    }

    async fn write_ready(&mut self) -> StreamResult<usize> {
        self.0.behind.write_ready().await
    }

    async fn cancel(&mut self) {
        self.0.behind.cancel().await;
    }
}

#[async_trait]
impl Pollable for TracedOutput {
    async fn ready(&mut self) {
        self.0.behind.ready().await;
    }
}
