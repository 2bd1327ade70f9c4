//! A monotonic clock that goes on from a reading.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use wasmtime_wasi::HostMonotonicClock;

use crate::vfs::VirtualClock;

/// Starts at a reading and goes on from there. Clones are one clock.
#[derive(Clone)]
pub(in crate::runner) struct MonotonicFrom(Arc<FirstReading>);

struct FirstReading {
    /// When it was; `None` for a clock that counts its readings.
    at: Option<Instant>,
    reading: u64,
    /// Readings of one that counts them. Atomic.
    reads: AtomicU64,
}

impl MonotonicFrom {
    pub(in crate::runner) fn new(reading: u64) -> Self {
        Self::of(Some(Instant::now()), reading)
    }

    /// Starts at 0 and goes on by a step for each reading: for runs that repeat.
    pub(super) fn counted() -> Self {
        Self::of(None, 0)
    }

    fn of(at: Option<Instant>, reading: u64) -> Self {
        Self(Arc::new(FirstReading {
            at,
            reading,
            reads: AtomicU64::new(0),
        }))
    }
}

impl HostMonotonicClock for MonotonicFrom {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        let passed = match self.0.at {
            Some(at) => u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX),
            None => {
                let reads = self.0.reads.fetch_add(1, Ordering::Relaxed);
                reads.saturating_mul(VirtualClock::STEP_NANOS)
            }
        };
        self.0.reading.saturating_add(passed)
    }
}
