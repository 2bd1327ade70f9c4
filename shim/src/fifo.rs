//! The output of a guest: FIFOs of containerd, with what waits while one is full.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use stratafs::runner::{RunControl, StandardStreams};
use tokio::io::AsyncWrite;
use tokio::io::unix::AsyncFd;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::input::{Input, InputEnd};
use crate::limits::{MAX_LAST_WORDS, MAX_WAITING_OUTPUT_BYTES};
use crate::status::Status;

/// The streams of one container.
pub struct Streams {
    stdin: Input,
    stdout: Fifo,
    stderr: Fifo,
}

/// One stream; clones share it.
#[derive(Clone, Default)]
struct Fifo(Option<Arc<FifoShared>>);

struct FifoShared {
    file: File,
    /// The file as the runtime of the guest's thread knows it.
    watched: OnceLock<AsyncFd<File>>,
    /// What the guest wrote and the FIFO had no room for.
    waiting: Mutex<Vec<u8>>,
}

fn open(name: &str, path: &str, read: bool) -> Result<Option<File>, Status> {
    if path.is_empty() {
        return Ok(None);
    }
    let said =
        |what: &dyn std::fmt::Display| Status::invalid(format_args!("{name} {path}: {what}"));
    let path = match path.split_once("://") {
        Some(("fifo", path)) => path,
        Some(_) => {
            return Err(said(
                &"expected the path of a FIFO, and no other kind of log",
            ));
        }
        None => path,
    };
    let file = std::fs::symlink_metadata(path).map_err(|error| said(&error))?;
    if !file.file_type().is_fifo() {
        return Err(said(&"it is not a FIFO"));
    }
    let mut options = OpenOptions::new();
    options.read(true);
    // Output is opened for both, so that a reader may go and another one come.
    options.write(!read);
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits());
    options.custom_flags(flags.map_err(|error| said(&error))?);
    options.open(path).map(Some).map_err(|error| said(&error))
}

impl Streams {
    /// Opens the FIFOs; an empty path is a stream that leads nowhere.
    ///
    /// # Errors
    /// One is none.
    pub fn open(stdin: &str, stdout: &str, stderr: &str, end: InputEnd) -> Result<Self, Status> {
        let said = |error| Status::invalid(format_args!("stdin {stdin}: {error}"));
        Ok(Self {
            stdin: Input::new(open("stdin", stdin, true)?, end).map_err(said)?,
            stdout: Fifo::of(open("stdout", stdout, false)?),
            stderr: Fifo::of(open("stderr", stderr, false)?),
        })
    }

    /// Lets the input end where its writers have left, also if there was none.
    pub fn close_input(&self) {
        self.stdin.close();
    }

    /// Says something about the guest among its errors.
    pub fn say(&self, text: &str) {
        let mut end = text.len().min(MAX_LAST_WORDS);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if let (Some(fifo), Some(text)) = (&self.stderr.0, text.get(..end)) {
            let mut waiting = fifo.waiting.lock();
            waiting.extend_from_slice(b"stratafs: ");
            waiting.extend_from_slice(text.as_bytes());
            waiting.push(b'\n');
        }
    }

    /// Writes what waits still, until there is nothing or the container is stopped.
    pub fn finish(&self, control: &RunControl) {
        let look = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        for fifo in [&self.stdout, &self.stderr]
            .into_iter()
            .filter_map(|fifo| fifo.0.as_ref())
        {
            while fifo.write_waiting().is_ok_and(|done| !done) && !control.is_stopped() {
                let mut wanted = [PollFd::new(&fifo.file, PollFlags::OUT)];
                let _looked = poll(&mut wanted, Some(&look));
            }
        }
    }
}

impl Fifo {
    fn of(file: Option<File>) -> Self {
        Self(file.map(|file| {
            Arc::new(FifoShared {
                file,
                watched: OnceLock::new(),
                waiting: Mutex::default(),
            })
        }))
    }
}

impl FifoShared {
    /// Returns the file as the runtime of this thread knows it.
    fn watched(&self) -> io::Result<&AsyncFd<File>> {
        if let Some(watched) = self.watched.get() {
            return Ok(watched);
        }
        #[expect(deprecated, reason = "safe for a file, which keeps its descriptor")]
        let watched = AsyncFd::new(self.file.try_clone()?)?;
        Ok(self.watched.get_or_init(|| watched))
    }

    /// Writes what waits as far as there is room; tells whether all is written.
    fn write_waiting(&self) -> io::Result<bool> {
        let mut waiting = self.waiting.lock();
        while !waiting.is_empty() {
            match (&self.file).write(&waiting) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(waiting.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn poll_written(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.write_waiting()? {
                return Poll::Ready(Ok(()));
            }
            ready!(self.watched()?.poll_write_ready(cx))?.clear_ready();
            if self.write_waiting()? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl StandardStreams for Streams {
    fn stdin(&self, _: u32) -> Box<dyn StdinStream + Sync> {
        Box::new(self.stdin.clone())
    }

    fn stdout(&self, _: u32) -> Box<dyn StdoutStream + Sync> {
        Box::new(self.stdout.clone())
    }

    fn stderr(&self, _: u32) -> Box<dyn StdoutStream + Sync> {
        Box::new(self.stderr.clone())
    }
}

impl IsTerminal for Fifo {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Fifo {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(FifoWriter(self.clone()))
    }
}

fn stream_error(error: io::Error) -> StreamError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => StreamError::Closed,
        _ => StreamError::LastOperationFailed(error.into()),
    }
}

/// A stream that the guest writes to by 0.2 and preview1.
struct FifoWriter(Fifo);

#[wasmtime_wasi::async_trait]
impl Pollable for FifoWriter {
    /// Waits until what was written has gone.
    async fn ready(&mut self) {
        if let Some(fifo) = &self.0.0 {
            let _written = std::future::poll_fn(|cx| fifo.poll_written(cx)).await;
        }
    }
}

impl OutputStream for FifoWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let Some(fifo) = &self.0.0 else { return Ok(()) };
        fifo.waiting.lock().extend_from_slice(&bytes);
        fifo.write_waiting().map(drop).map_err(stream_error)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let Some(fifo) = &self.0.0 else {
            return Ok(MAX_WAITING_OUTPUT_BYTES);
        };
        match fifo.write_waiting().map_err(stream_error)? {
            true => Ok(MAX_WAITING_OUTPUT_BYTES),
            false => Ok(0),
        }
    }
}

impl AsyncWrite for Fifo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(fifo) = &self.0 else {
            return Poll::Ready(Ok(bytes.len()));
        };
        ready!(fifo.poll_written(cx))?;
        let taken = bytes.get(..MAX_WAITING_OUTPUT_BYTES).unwrap_or(bytes);
        fifo.waiting.lock().extend_from_slice(taken);
        fifo.write_waiting()?;
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Some(fifo) => fifo.poll_written(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;

    use super::*;

    fn streams(dir: &Path) -> (Streams, File) {
        let path = dir.join("err");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let streams = Streams::open("", "", path.to_str().unwrap(), InputEnd::WithWriters).unwrap();
        let reader = OpenOptions::new().read(true).open(&path).unwrap();
        (streams, reader)
    }

    #[test]
    fn what_is_said_about_a_guest_has_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let (streams, mut reader) = streams(dir.path());
        streams.say(&format!("x{}", "\u{e9}".repeat(MAX_LAST_WORDS)));
        streams.finish(&RunControl::default());
        drop(streams);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("stratafs: x") && text.ends_with('\n'));
        // Cut where a character ends.
        assert_eq!(text.len(), "stratafs: ".len() + MAX_LAST_WORDS - 1 + 1);
    }

    #[test]
    fn a_full_fifo_takes_no_more_than_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let (streams, reader) = streams(dir.path());
        let mut writer = streams.stderr(0).p2_stream();
        let mut written = 0;
        loop {
            let room = writer.check_write().unwrap();
            assert!(room <= MAX_WAITING_OUTPUT_BYTES);
            if room == 0 {
                break;
            }
            writer.write(vec![7; room].into()).unwrap();
            written += room;
            assert!(written < 100 << 20, "a FIFO without end");
        }
        let waiting = streams.stderr.0.as_ref().unwrap().waiting.lock().len();
        assert!((1..=MAX_WAITING_OUTPUT_BYTES).contains(&waiting));
        // A container that is stopped waits for no reader.
        let control = RunControl::default();
        control.stop();
        streams.finish(&control);
        drop(reader);
    }
}
