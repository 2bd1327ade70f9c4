//! The input of a guest: a FIFO whose writers come and go, and when it is at its end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use crate::limits::MAX_INPUT_BYTES;

/// When the input of a container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEnd {
    /// When the last of its writers has left, or containerd says so.
    WithWriters,
    /// When containerd says so and no writer is left. The writer is containerd itself, which may be
    /// started anew meanwhile.
    WhenTold,
}

/// The input of a container; clones share it. Without a FIFO it is at its end.
#[derive(Clone)]
pub struct Input(Option<Arc<InputShared>>);

struct InputShared {
    fifo: File,
    /// The FIFO as the runtime of the guest's thread knows it.
    watched: OnceLock<AsyncFd<File>>,
    /// Whether the end was seen. It stays the end if another writer comes.
    ended: AtomicBool,
    /// Keeps the FIFO open until containerd says that it is at its end.
    held: Mutex<Option<File>>,
}

/// What there is to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InputState {
    Bytes,
    End,
    /// No bytes so far, from a writer that is there or from one that may come.
    Nothing,
}

impl Input {
    /// Takes a FIFO that is open for reading, without waiting.
    ///
    /// # Errors
    /// Its other end cannot be opened.
    pub fn new(fifo: Option<File>, end: InputEnd) -> io::Result<Self> {
        let Some(fifo) = fifo else {
            return Ok(Self(None));
        };
        let shared = InputShared {
            fifo,
            watched: OnceLock::new(),
            ended: AtomicBool::new(false),
            held: Mutex::default(),
        };
        if end == InputEnd::WhenTold {
            *shared.held.lock() = Some(shared.writer()?);
        }
        Ok(Self(Some(Arc::new(shared))))
    }

    /// Says that it is at its end once no writer is left, also if there was none.
    pub fn close(&self) {
        if let Some(shared) = &self.0
            && shared.held.lock().take().is_none()
        {
            // A writer that comes and leaves is what tells a reader of the end.
            drop(shared.writer());
        }
    }
}

impl InputShared {
    /// Opens the other end, whatever has become of the name of the FIFO.
    fn writer(&self) -> io::Result<File> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(flags);
        options.open(format!("/proc/self/fd/{}", self.fifo.as_raw_fd()))
    }

    /// Returns the FIFO as the runtime of this thread knows it.
    fn watched(&self) -> io::Result<&AsyncFd<File>> {
        if let Some(watched) = self.watched.get() {
            return Ok(watched);
        }
        #[expect(deprecated, reason = "safe for a file, which keeps its descriptor")]
        let watched = AsyncFd::new(self.fifo.try_clone()?)?;
        Ok(self.watched.get_or_init(|| watched))
    }

    /// Returns what there is to read. A FIFO that no writer has opened yet reads as one at its end;
    /// only one that a writer has left is hung up.
    fn state(&self) -> io::Result<InputState> {
        if self.ended.load(Ordering::Relaxed) {
            return Ok(InputState::End);
        }
        let mut wanted = [PollFd::new(&self.fifo, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut wanted, Some(&now))?;
        let [is] = wanted.map(|fd| fd.revents());
        if is.contains(PollFlags::IN) {
            return Ok(InputState::Bytes);
        }
        if is.intersects(PollFlags::HUP | PollFlags::ERR) {
            self.ended.store(true, Ordering::Relaxed);
            return Ok(InputState::End);
        }
        Ok(InputState::Nothing)
    }

    /// Reads what there is; `None` is the end.
    fn read(&self, most: usize) -> io::Result<Option<Vec<u8>>> {
        match self.state()? {
            InputState::End => return Ok(None),
            InputState::Nothing => return Ok(Some(Vec::new())),
            InputState::Bytes => {}
        }
        let mut buf = vec![0; most.min(MAX_INPUT_BYTES)];
        match (&self.fifo).read(&mut buf) {
            Ok(read) => {
                buf.truncate(read);
                Ok(Some(buf))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(Some(Vec::new()))
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for bytes or the end.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.state()? != InputState::Nothing {
                return Poll::Ready(Ok(()));
            }
            let mut guard = ready!(self.watched()?.poll_read_ready(cx))?;
            if guard.ready().is_read_closed() && self.state()? == InputState::Nothing {
                // The last writer left, and another one came before anybody looked. This is the
                // end all the same: the runtime would say from now on, without a pause, that
                // there is something to see.
                self.ended.store(true, Ordering::Relaxed);
                return Poll::Ready(Ok(()));
            }
            guard.clear_ready();
        }
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        if let Some(shared) = &self.0 {
            // What is wrong the next read finds.
            let _readable = std::future::poll_fn(|cx| shared.poll_readable(cx)).await;
        }
    }
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let Some(shared) = &self.0 else {
            return Err(StreamError::Closed);
        };
        match shared.read(size) {
            Ok(Some(bytes)) => Ok(bytes.into()),
            Ok(None) => Err(StreamError::Closed),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(shared) = &self.0 else {
            return Poll::Ready(Ok(()));
        };
        while buf.remaining() > 0 {
            ready!(shared.poll_readable(cx))?;
            let Some(bytes) = shared.read(buf.remaining())? else {
                break;
            };
            if !bytes.is_empty() {
                buf.put_slice(&bytes);
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use tempfile::TempDir;
    use tokio::runtime::Runtime;

    use super::*;

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(60);

    /// An input with its FIFO.
    struct Fixture {
        input: Input,
        path: PathBuf,
        runtime: Runtime,
        _dir: TempDir,
    }

    impl Fixture {
        fn new(end: InputEnd) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("in");
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
            let flags = OFlags::NONBLOCK.bits() as i32;
            let mut options = OpenOptions::new();
            let fifo = options.read(true).custom_flags(flags).open(&path).unwrap();
            let mut builder = tokio::runtime::Builder::new_current_thread();
            Self {
                input: Input::new(Some(fifo), end).unwrap(),
                path,
                runtime: builder.enable_all().build().unwrap(),
                _dir: dir,
            }
        }

        /// Reads once, after it waited for `most` at the longest. No bytes mean that none came.
        fn read(&mut self, most: Duration) -> Option<Vec<u8>> {
            self.read_up_to(100, most)
        }

        fn read_up_to(&mut self, bytes: usize, most: Duration) -> Option<Vec<u8>> {
            let input = &mut self.input;
            self.runtime.block_on(async {
                let _waited = tokio::time::timeout(most, input.ready()).await;
                match InputStream::read(input, bytes) {
                    Ok(bytes) => Some(bytes.to_vec()),
                    Err(StreamError::Closed) => None,
                    Err(error) => panic!("{error:?}"),
                }
            })
        }
    }

    fn writer(path: &Path) -> File {
        OpenOptions::new().write(true).open(path).unwrap()
    }

    #[test]
    fn a_read_takes_no_more_than_a_bound() {
        let mut of = Fixture::new(InputEnd::WithWriters);
        let mut writer = writer(&of.path);
        rustix::pipe::fcntl_setpipe_size(&writer, 4 * MAX_INPUT_BYTES).unwrap();
        writer.write_all(&vec![b'x'; 2 * MAX_INPUT_BYTES]).unwrap();
        let read = of.read_up_to(usize::MAX, LONG).unwrap();
        assert_eq!(read.len(), MAX_INPUT_BYTES);
    }

    #[test]
    fn an_input_waits_for_its_first_writer_and_ends_with_its_last() {
        let mut of = Fixture::new(InputEnd::WithWriters);
        // Who spins instead of waiting never comes to the end of this time.
        assert_eq!(of.read(SHORT), Some(Vec::new()));
        let (mut one, two) = (writer(&of.path), writer(&of.path));
        one.write_all(b"some").unwrap();
        drop(one);
        assert_eq!(of.read(LONG), Some(b"some".to_vec()));
        assert_eq!(of.read(SHORT), Some(Vec::new()));
        drop(two);
        assert_eq!(of.read(LONG), None);
        // The end stays the end.
        let _late = writer(&of.path);
        assert_eq!(of.read(LONG), None);
    }

    #[test]
    fn an_end_that_nobody_saw_before_the_next_writer_is_an_end() {
        let mut of = Fixture::new(InputEnd::WithWriters);
        let first = writer(&of.path);
        assert_eq!(of.read(SHORT), Some(Vec::new()));
        drop(first);
        // The guest does something else meanwhile, and the runtime sees the writer leave.
        let elsewhere = async { tokio::time::sleep(SHORT).await };
        of.runtime.block_on(elsewhere);
        let mut second = writer(&of.path);
        second.write_all(b"rest").unwrap();
        assert_eq!(of.read(LONG), Some(b"rest".to_vec()));
        assert_eq!(of.read(LONG), None);
    }

    #[test]
    fn an_input_ends_when_it_is_said_without_any_writer_or_name() {
        for end in [InputEnd::WithWriters, InputEnd::WhenTold] {
            let mut of = Fixture::new(end);
            std::fs::remove_file(&of.path).unwrap();
            assert_eq!(of.read(SHORT), Some(Vec::new()));
            of.input.close();
            assert_eq!(of.read(LONG), None);
        }
    }

    #[test]
    fn an_input_that_is_held_outlives_its_writers() {
        let mut of = Fixture::new(InputEnd::WhenTold);
        for text in ["one", "two"] {
            std::fs::write(&of.path, text).unwrap();
            assert_eq!(of.read(LONG), Some(text.as_bytes().to_vec()));
            assert_eq!(of.read(SHORT), Some(Vec::new()));
        }
        std::fs::write(&of.path, "last").unwrap();
        of.input.close();
        assert_eq!(of.read(LONG), Some(b"last".to_vec()));
        assert_eq!(of.read(LONG), None);
    }

    #[test]
    fn streams_of_bytes_end_as_well() {
        use tokio::io::AsyncReadExt;
        let of = Fixture::new(InputEnd::WithWriters);
        let mut one = writer(&of.path);
        one.write_all(b"some").unwrap();
        drop(one);
        let mut bytes = Vec::new();
        let mut stream = Box::into_pin(of.input.async_stream());
        let read = of.runtime.block_on(stream.read_to_end(&mut bytes));
        assert_eq!((read.unwrap(), bytes.as_slice()), (4, &b"some"[..]));
        let none = Input::new(None, InputEnd::WhenTold).unwrap();
        none.close();
        assert!(InputStream::read(&mut none.clone(), 1).is_err());
    }
}
