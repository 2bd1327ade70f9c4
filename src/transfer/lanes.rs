//! Several transfers at once, and how far they have come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::TransferError;

/// How far blobs have come on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moving {
    /// Bytes that have come or gone.
    pub bytes: u64,
    /// Bytes of all blobs that are to come or go, as far as is known.
    pub of: u64,
}

/// Is told how far transfers have come, from whichever thread.
pub type MovedWatcher = Arc<dyn Fn(Moving) + Send + Sync>;

/// Counts what has come or gone, reports it to whoever watches, and says whether to go on.
#[derive(Default)]
pub(super) struct Meter {
    bytes: AtomicU64,
    of: AtomicU64,
    stopped: AtomicBool,
    watcher: Option<MovedWatcher>,
}

impl Meter {
    pub(super) fn new(watcher: Option<MovedWatcher>) -> Self {
        Self {
            watcher,
            ..Self::default()
        }
    }

    /// More is to come.
    pub(super) fn expect(&self, bytes: u64) {
        self.of.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So much has come. Returns whether to go on.
    pub(super) fn moved(&self, more: u64) -> bool {
        let bytes = self.bytes.fetch_add(more, Ordering::Relaxed) + more;
        if let Some(watcher) = &self.watcher {
            let of = self.of.load(Ordering::Relaxed);
            watcher(Moving { bytes, of });
        }
        !self.is_stopped()
    }

    /// Lets all transfers end soon.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Does `work` for all of `jobs`, so many at a time. The first error ends it, and is told.
pub(super) fn all<T: Send>(
    lanes: usize,
    jobs: Vec<T>,
    meter: &Meter,
    work: impl Fn(T) -> Result<(), TransferError> + Sync,
) -> Result<(), TransferError> {
    let lanes = lanes.clamp(1, jobs.len().max(1));
    let waiting = Mutex::new(jobs.into_iter());
    let failed = Mutex::new(None);
    let lane = || {
        while !meter.is_stopped() {
            // Not held while the work is done.
            let next = waiting.lock().next();
            let Some(job) = next else { return };
            if let Err(error) = work(job) {
                meter.stop();
                failed.lock().get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..lanes {
            scope.spawn(lane);
        }
        lane();
    });
    match failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
