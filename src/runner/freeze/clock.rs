//! A monotonic clock that goes on from a reading.

use std::sync::Arc;
use std::time::Instant;

use wasmtime_wasi::HostMonotonicClock;

/// Starts at a reading and goes on from there. Clones are one clock.
#[derive(Clone)]
pub(in crate::runner) struct MonotonicFrom(Arc<FirstReading>);

struct FirstReading {
    at: Instant,
    reading: u64,
}

impl MonotonicFrom {
    pub(in crate::runner) fn new(reading: u64) -> Self {
        Self(Arc::new(FirstReading {
            at: Instant::now(),
            reading,
        }))
    }
}

impl HostMonotonicClock for MonotonicFrom {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        let passed = u64::try_from(self.0.at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.reading.saturating_add(passed)
    }
}
