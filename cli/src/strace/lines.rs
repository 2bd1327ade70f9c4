//! Lines on their way to a file that may be slow, full, or a pipe that nobody reads.
//!
//! A thread of its own writes them as they come, so that what a guest did last is there
//! when it hangs or is killed. Guests wait while too much is on its way, but not for
//! ever: where nothing has been taken for [`PATIENCE`], lines are left out and counted,
//! until some are taken again. What is missing is told when the run has ended.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::failure::Failure;
use crate::limits::MAX_WAITING_BYTES;

/// How long a file may take nothing before lines are left out.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that are written at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// The way to one file.
#[derive(Debug)]
pub(super) struct LineWriter {
    path: PathBuf,
    is_stdout: bool,
    patience: Duration,
    queue: Arc<LineQueue>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct LineQueue {
    state: Mutex<WriterState>,
    /// Something was taken, or the writer has ended.
    moved: Condvar,
    /// Something is to be written, or the run has ended.
    work: Condvar,
}

#[derive(Debug)]
struct WriterState {
    waiting: Vec<u8>,
    /// Whether the writer holds lines that are not all written.
    is_writing: bool,
    /// When something was last taken, or began to wait.
    taken: Instant,
    /// Lines that were left out.
    lost: u64,
    /// Why the writer has given up.
    error: Option<io::Error>,
    has_ended: bool,
}

impl LineWriter {
    /// Opens the file, whose content goes, and starts the writer.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Self::start(path, true, io::stdout(), PATIENCE);
        }
        let file = File::create(path).map_err(|error| Failure::at(path, error))?;
        Self::start(path, false, file, PATIENCE)
    }

    fn start(
        path: &Path,
        is_stdout: bool,
        mut out: impl Write + Send + 'static,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let queue = Arc::new(LineQueue {
            state: Mutex::new(WriterState {
                waiting: Vec::new(),
                is_writing: false,
                taken: Instant::now(),
                lost: 0,
                error: None,
                has_ended: false,
            }),
            moved: Condvar::new(),
            work: Condvar::new(),
        });
        let writers = Arc::clone(&queue);
        let writer = thread::Builder::new()
            .name("strace".to_owned())
            .spawn(move || writers.write_all(&mut out))
            .map_err(|error| Failure::new(format_args!("no thread for --strace: {error}")))?;
        Ok(Self {
            path: path.to_owned(),
            is_stdout,
            patience,
            queue,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Sends a line on its way. Waits for room, within bounds.
    pub(super) fn push(&self, line: &str) {
        let mut state = self.queue.state.lock();
        while state.error.is_none() && state.waiting.len() + line.len() > MAX_WAITING_BYTES {
            if self.is_stuck(&mut state) {
                break;
            }
        }
        if state.error.is_some() || state.waiting.len() + line.len() > MAX_WAITING_BYTES {
            state.lost += 1;
            return;
        }
        if state.waiting.is_empty() && !state.is_writing {
            state.taken = Instant::now();
        }
        state.waiting.extend_from_slice(line.as_bytes());
        self.queue.work.notify_one();
    }

    /// Waits for the writer to move; whether it has not for too long.
    fn is_stuck(&self, state: &mut MutexGuard<'_, WriterState>) -> bool {
        let until = state.taken + self.patience;
        self.queue.moved.wait_until(state, until).timed_out() && Instant::now() >= until && {
            // It may have moved as the time ran out.
            state.taken + self.patience <= Instant::now()
        }
    }

    /// Waits until all is written or nothing moves, and says what is missing.
    pub(super) fn end(&self) -> Result<(), Failure> {
        let mut state = self.queue.state.lock();
        state.has_ended = true;
        self.queue.work.notify_one();
        while state.error.is_none() && (state.is_writing || !state.waiting.is_empty()) {
            if self.is_stuck(&mut state) {
                break;
            }
        }
        let left = memchr::memchr_iter(b'\n', &state.waiting).count() as u64;
        let lost = state.lost + left;
        if let Some(error) = &state.error {
            // A reader of stdout that has gone has what it wanted.
            if self.is_stdout && error.kind() == io::ErrorKind::BrokenPipe {
                return Ok(());
            }
            return Err(Failure::at(
                &self.path,
                format_args!("{error}: of the calls of the guests {lost} or more are missing"),
            ));
        }
        if lost > 0 || state.is_writing {
            return Err(Failure::at(
                &self.path,
                format_args!(
                    "{lost} or more calls of the guests are missing: nothing was taken for {} s",
                    self.patience.as_secs()
                ),
            ));
        }
        drop(state);
        if let Some(writer) = self.writer.lock().take() {
            drop(writer.join());
        }
        Ok(())
    }
}

impl LineQueue {
    /// Writes what comes until the run has ended.
    fn write_all(&self, out: &mut impl Write) {
        let mut lines = Vec::new();
        loop {
            let mut state = self.state.lock();
            state.is_writing = false;
            self.moved.notify_all();
            while state.waiting.is_empty() {
                if state.has_ended {
                    return;
                }
                self.work.wait(&mut state);
            }
            lines.clear();
            mem::swap(&mut lines, &mut state.waiting);
            state.is_writing = true;
            drop(state);
            for piece in lines.chunks(PIECE_BYTES) {
                let written = out.write_all(piece).and_then(|()| out.flush());
                let mut state = self.state.lock();
                state.taken = Instant::now();
                if let Err(error) = written {
                    state.lost += memchr::memchr_iter(b'\n', piece).count() as u64;
                    state.is_writing = false;
                    state.error = Some(error);
                    self.moved.notify_all();
                    return;
                }
                self.moved.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes a piece for each word that is sent, and fails once that is `false`.
    struct Slow(mpsc::Receiver<bool>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0.recv() {
                Ok(true) => {
                    self.1.lock().extend_from_slice(bytes);
                    Ok(bytes.len())
                }
                Ok(false) | Err(_) => Err(io::ErrorKind::StorageFull.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow(patience: Duration) -> (LineWriter, mpsc::Sender<bool>, Arc<Mutex<Vec<u8>>>) {
        let (send, receive) = mpsc::channel();
        let taken = Arc::new(Mutex::default());
        let out = Slow(receive, Arc::clone(&taken));
        let lines = LineWriter::start(Path::new("f"), false, out, patience).unwrap();
        (lines, send, taken)
    }

    #[test]
    fn what_is_taken_is_whole() {
        let (lines, send, taken) = slow(Duration::from_secs(600));
        (0..1000).for_each(|_| send.send(true).unwrap());
        (0..100).for_each(|number| lines.push(&format!("{number}\n")));
        lines.end().unwrap();
        let want: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(*taken.lock(), want.as_bytes());
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_guests_up_once_and_what_is_lost_is_told() {
        let (lines, _send, _) = slow(Duration::from_millis(1));
        let line = format!("{}\n", "x".repeat(1 << 20));
        (0..50).for_each(|_| lines.push(&line));
        assert!(lines.queue.state.lock().waiting.len() <= MAX_WAITING_BYTES);
        let failure = format!("{:?}", lines.end().unwrap_err());
        // At most four lines wait, and the writer holds some.
        assert!(
            failure.contains("calls of the guests are missing"),
            "{failure}"
        );
        assert!(lines.queue.state.lock().lost >= 40);
    }

    #[test]
    fn a_full_disk_is_told_with_what_is_missing() {
        let (lines, send, _) = slow(Duration::from_secs(600));
        send.send(false).unwrap();
        lines.push("a\n");
        let failure = format!("{:?}", lines.end().unwrap_err());
        assert!(failure.contains("1 or more are missing"), "{failure}");
        lines.push("b\n");
        let failure = format!("{:?}", lines.end().unwrap_err());
        assert!(failure.contains("2 or more are missing"), "{failure}");
    }
}
