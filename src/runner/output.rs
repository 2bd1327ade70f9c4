//! What guests write to stdout and stderr when many run at once.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{OutputStream, StreamResult};

use crate::limits::{MAX_HELD_OUTPUT_BYTES, MAX_LINE_BYTES};

/// Where the standard streams of the guests lead.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// No input; output goes nowhere.
    #[default]
    Null,
    /// The process's own, for one guest: two would share its input.
    Inherit,
    /// No input; the process's own output, for one guest.
    Output,
    /// No input; the output of each instance is held until it ends and then
    /// passed on in one piece. What exceeds
    /// [`MAX_HELD_OUTPUT_BYTES`] is passed on before, in pieces of that size.
    Collect(Arc<dyn OutputSink>),
    /// No input; the output of each instance is passed on as it is written.
    Forward(Arc<dyn OutputSink>),
    /// No input; the output of each instance is passed on by whole lines, however it was
    /// written. What has no newline is passed on once it has [`MAX_LINE_BYTES`], or when the
    /// instance is gone.
    Lines(Arc<dyn OutputSink>),
    /// Streams provided by the host, which may let guests wait.
    Streams(Arc<dyn StandardStreams>),
}

impl fmt::Debug for Stdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Inherit => "Inherit",
            Self::Output => "Output",
            Self::Collect(_) => "Collect",
            Self::Forward(_) => "Forward",
            Self::Lines(_) => "Lines",
            Self::Streams(_) => "Streams",
        })
    }
}

/// Provides each instance's standard streams. A stream may be asked for several times: what
/// is given for one instance has one state. None is used before the instance starts, and a
/// guest that waits for one waits in the runtime of its own thread.
pub trait StandardStreams: Send + Sync {
    /// Returns what an instance reads.
    fn stdin(&self, instance: u32) -> Box<dyn StdinStream + Sync>;

    /// Returns what an instance writes its output to.
    fn stdout(&self, instance: u32) -> Box<dyn StdoutStream + Sync>;

    /// Returns what an instance writes its errors to.
    fn stderr(&self, instance: u32) -> Box<dyn StdoutStream + Sync>;
}

/// Takes what the guests write. Called from the threads that run guests.
pub trait OutputSink: Send + Sync {
    /// Takes one piece of the output of one instance.
    fn write(&self, instance: u32, stream: Stream, bytes: &[u8]);
}

/// One of the two streams that guests write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One stream of one instance on its way to a sink. Clones share it.
#[derive(Clone)]
pub(super) struct OutputBuffer(Arc<Inner>);

struct Inner {
    instance: u32,
    stream: Stream,
    sink: Arc<dyn OutputSink>,
    until: Until,
    /// Never longer than [`Until::most`].
    bytes: Mutex<Vec<u8>>,
}

/// What output waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Nothing.
    Written,
    /// The end of its line.
    Line,
    /// The end of the instance.
    End,
}

impl Until {
    /// How many bytes wait at the most.
    fn most(self) -> usize {
        match self {
            Self::Written => 0,
            Self::Line => MAX_LINE_BYTES,
            Self::End => MAX_HELD_OUTPUT_BYTES,
        }
    }
}

impl OutputBuffer {
    pub(super) fn new(
        (instance, stream): (u32, Stream),
        sink: Arc<dyn OutputSink>,
        until: Until,
    ) -> Self {
        Self(Arc::new(Inner {
            instance,
            stream,
            sink,
            until,
            bytes: Mutex::default(),
        }))
    }

    /// Passes on what is held.
    pub(super) fn release(&self) {
        self.0.release();
    }

    fn push(&self, bytes: &[u8]) {
        let inner = &*self.0;
        match inner.until {
            Until::Written => inner.pass(bytes),
            Until::End => inner.hold(bytes),
            Until::Line => {
                // Up to the end of the last line, and what is behind it.
                let end = bytes.iter().rposition(|byte| *byte == b'\n');
                let (lines, rest) = bytes.split_at(end.map_or(0, |end| end + 1));
                if !lines.is_empty() {
                    let mut whole = mem::take(&mut *inner.bytes.lock());
                    whole.extend_from_slice(lines);
                    inner.pass(&whole);
                }
                inner.hold(rest);
            }
        }
    }
}

impl Inner {
    fn pass(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.sink.write(self.instance, self.stream, bytes);
        }
    }

    fn release(&self) {
        let held = mem::take(&mut *self.bytes.lock());
        self.pass(&held);
    }

    /// Keeps bytes, and passes on what is too much.
    fn hold(&self, mut bytes: &[u8]) {
        let most = self.until.most();
        while !bytes.is_empty() {
            let mut held = self.bytes.lock();
            let room = most.saturating_sub(held.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            held.extend_from_slice(now);
            bytes = later;
            let full = held.len() >= most;
            drop(held);
            if full {
                self.release();
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.release();
    }
}

impl IsTerminal for OutputBuffer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for OutputBuffer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for OutputBuffer {
    async fn ready(&mut self) {}
}

impl OutputStream for OutputBuffer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        // What wasmtime-wasi permits on its own streams.
        Ok(64 * 1024)
    }
}

impl AsyncWrite for OutputBuffer {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Lengths(Mutex<Vec<(u32, usize)>>);

    impl OutputSink for Lengths {
        fn write(&self, instance: u32, _: Stream, bytes: &[u8]) {
            self.0.lock().push((instance, bytes.len()));
        }
    }

    #[test]
    fn output_is_held_up_to_the_bound_and_no_further() {
        let sink = Arc::new(Lengths::default());
        let held = OutputBuffer::new((7, Stream::Stdout), sink.clone(), Until::End);
        held.push(b"abc");
        held.push(&vec![0; MAX_HELD_OUTPUT_BYTES - 4]);
        assert!(sink.0.lock().is_empty());
        held.push(&vec![0; MAX_HELD_OUTPUT_BYTES + 2]);
        assert_eq!(*sink.0.lock(), [(7, MAX_HELD_OUTPUT_BYTES); 2]);
        held.release();
        assert_eq!(sink.0.lock().last(), Some(&(7, 1)));
        held.release();
        assert_eq!(sink.0.lock().len(), 3);
    }

    #[test]
    fn forwarded_output_does_not_wait() {
        let sink = Arc::new(Lengths::default());
        let forwarded = OutputBuffer::new((7, Stream::Stderr), sink.clone(), Until::Written);
        forwarded.push(b"abc");
        assert_eq!(*sink.0.lock(), [(7, 3)]);
    }

    #[test]
    fn lines_are_passed_on_whole_and_long_ones_in_pieces() {
        let sink = Arc::new(Lengths::default());
        let lines = OutputBuffer::new((7, Stream::Stderr), sink.clone(), Until::Line);
        for piece in ["args ", "[", "]", "\n"] {
            lines.push(piece.as_bytes());
        }
        assert_eq!(mem::take(&mut *sink.0.lock()), [(7, 8)]);
        lines.push(b"a\nb\nc");
        assert_eq!(mem::take(&mut *sink.0.lock()), [(7, 4)]);
        lines.push(&[b'c'; 2 * MAX_LINE_BYTES]);
        assert_eq!(mem::take(&mut *sink.0.lock()), [(7, MAX_LINE_BYTES); 2]);
        // The rest, one byte, has no newline.
        drop(lines);
        assert_eq!(*sink.0.lock(), [(7, 1)]);
    }
}
