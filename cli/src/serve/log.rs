//! Lines on their way to a log that may be slow, full, or a pipe that nobody reads: whoever
//! tells something never waits.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use stratafs::runner::{OutputSink, Stream};

use crate::failure::{Failure, printable};
use crate::limits::MAX_LOG_BYTES;

/// How long the end waits for what is on its way.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to one log. Clones share it.
#[derive(Clone)]
pub(super) struct Log(Arc<LogWay>);

struct LogWay {
    state: Mutex<LogState>,
    /// Something is to be written, or nothing will come any more.
    work: Condvar,
    /// The writer has written all, or has given up.
    done: Condvar,
    /// Lines that were left out.
    lost: AtomicU64,
}

#[derive(Default)]
struct LogState {
    waiting: Vec<u8>,
    is_ending: bool,
    is_done: bool,
}

impl Log {
    /// Starts a thread that writes to `out`.
    pub(super) fn start(mut out: impl Write + Send + 'static) -> Result<Self, Failure> {
        let log = Self(Arc::new(LogWay {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            lost: AtomicU64::new(0),
        }));
        let writer = log.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.write_all(&mut out))
            .map_err(|error| Failure::new(format_args!("no thread for a log: {error}")))?;
        Ok(log)
    }

    /// Sends a line on its way, or counts it as lost.
    pub(super) fn push(&self, line: &str) {
        let mut state = self.0.state.lock();
        if state.is_done || state.waiting.len() + line.len() >= MAX_LOG_BYTES {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line.as_bytes());
        state.waiting.push(b'\n');
        drop(state);
        self.0.work.notify_one();
    }

    /// Returns how many lines were left out.
    pub(super) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Waits until all is written, but not for ever.
    pub(super) fn end(&self) {
        let mut state = self.0.state.lock();
        state.is_ending = true;
        self.0.work.notify_one();
        while !state.is_done {
            if self.0.done.wait_for(&mut state, PATIENCE).timed_out() {
                return;
            }
        }
    }

    fn write_all(&self, out: &mut impl Write) {
        loop {
            let mut state = self.0.state.lock();
            while state.waiting.is_empty() && !state.is_ending {
                self.0.work.wait(&mut state);
            }
            let piece = std::mem::take(&mut state.waiting);
            drop(state);
            let written = out.write_all(&piece).and_then(|()| out.flush());
            if piece.is_empty() || written.is_err() {
                self.0.state.lock().is_done = true;
                self.0.done.notify_all();
                return;
            }
        }
    }
}

/// What guests write to their standard streams: a line for each of theirs, with the number
/// of the request.
impl OutputSink for Log {
    fn write(&self, instance: u32, _: Stream, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines() {
            self.push(&format!("[{instance}] {}", printable(line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;

    use super::*;

    /// Takes nothing until it is let.
    struct Stuck(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            while self.0.recv().is_ok() {}
            self.1.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_takes_nothing_holds_nobody_up() {
        let (go, gate) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let log = Log::start(Stuck(gate, Arc::clone(&written))).unwrap();
        let line = "x".repeat(1023);
        for _ in 0..MAX_LOG_BYTES / 1024 * 3 {
            log.push(&line);
        }
        // What the writer has taken already does not count against the bound.
        assert!(log.lost() >= (MAX_LOG_BYTES / 1024) as u64);
        drop(go);
        log.end();
        assert!(written.lock().len() <= MAX_LOG_BYTES * 2);
        log.write(7, Stream::Stderr, b"late");
        assert!(log.lost() > (MAX_LOG_BYTES / 1024) as u64);
    }
}
