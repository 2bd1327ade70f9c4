//! How far an import or an export has come.

use std::sync::Arc;

use parking_lot::Mutex;

/// Bytes between two calls of a watcher.
const STEP: u64 = 1 << 20;

/// What an import, or an export, has done so far. Of an export only `bytes`
/// counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of files and blobs that were taken in or read, holes left out.
    pub bytes: u64,
    /// Of these, the bytes that the store did not have.
    pub new_bytes: u64,
    /// Chunks that were taken in.
    pub chunks: u64,
    /// Of these, the chunks that the store did not have.
    pub new_chunks: u64,
    /// Chunks that the store had, but damaged: they are right again.
    pub healed_chunks: u64,
}

impl Progress {
    pub(super) fn found(bytes: u64) -> Self {
        Self {
            bytes,
            chunks: 1,
            ..Self::default()
        }
    }

    /// Of what is taken out, only the bytes are counted.
    pub(super) fn read(bytes: u64) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }

    pub(super) fn healed(bytes: u64) -> Self {
        Self {
            healed_chunks: 1,
            ..Self::found(bytes)
        }
    }

    pub(super) fn new(bytes: u64) -> Self {
        Self {
            bytes,
            new_bytes: bytes,
            chunks: 1,
            new_chunks: 1,
            healed_chunks: 0,
        }
    }
}

/// A function that is called with the progress about once a MiB, and once more when an
/// import has taken everything in.
pub type Watcher = Arc<dyn Fn(Progress) + Send + Sync>;

/// Counts the progress, and calls the watcher.
#[derive(Default)]
pub(super) struct ProgressMeter {
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    sum: Progress,
    reported: u64,
    watcher: Option<Watcher>,
}

impl ProgressMeter {
    pub(super) fn set(&self, watcher: Watcher) {
        self.counted.lock().watcher = Some(watcher);
    }

    pub(super) fn sum(&self) -> Progress {
        self.counted.lock().sum
    }

    pub(super) fn add(&self, more: Progress) {
        let mut counted = self.counted.lock();
        let sum = &mut counted.sum;
        sum.bytes += more.bytes;
        sum.new_bytes += more.new_bytes;
        sum.chunks += more.chunks;
        sum.new_chunks += more.new_chunks;
        sum.healed_chunks += more.healed_chunks;
        if counted.sum.bytes - counted.reported >= STEP {
            counted.reported = counted.sum.bytes;
            drop(counted);
            self.report();
        }
    }

    /// Reports the sum at the end.
    pub(super) fn end(&self) {
        self.report();
    }

    /// Calls the watcher, without the lock: it may ask for the progress itself.
    fn report(&self) {
        let counted = self.counted.lock();
        let (sum, watcher) = (counted.sum, counted.watcher.clone());
        drop(counted);
        if let Some(watcher) = watcher {
            watcher(sum);
        }
    }
}
