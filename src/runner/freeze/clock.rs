//! Clocks that go on from a reading: monotonic ones, with the time or by counting, and a
//! wall clock where the host's is behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use wasmtime_wasi::HostMonotonicClock;

use crate::meta::Time;
use crate::vfs::{Clock, VirtualClock};

/// Starts at a reading and goes on from there. Clones are one clock.
#[derive(Clone)]
pub(in crate::runner) struct MonotonicFrom(Arc<FirstReading>);

struct FirstReading {
    at: Instant,
    reading: u64,
    /// How often it was read, if that is what moves it.
    reads: Option<AtomicU64>,
}

impl MonotonicFrom {
    pub(in crate::runner) fn new(reading: u64) -> Self {
        Self(Arc::new(FirstReading {
            at: Instant::now(),
            reading,
            reads: None,
        }))
    }

    /// One that each reading moves, as in all runs that repeat.
    pub(in crate::runner) fn counting(reading: u64) -> Self {
        Self(Arc::new(FirstReading {
            at: Instant::now(),
            reading,
            reads: Some(AtomicU64::new(0)),
        }))
    }

    /// Returns what the next reading gives at least, without reading.
    pub(in crate::runner) fn next(&self) -> u64 {
        let passed = match &self.0.reads {
            Some(reads) => steps(reads.load(Ordering::Relaxed)),
            None => u64::try_from(self.0.at.elapsed().as_nanos()).unwrap_or(u64::MAX),
        };
        self.0.reading.saturating_add(passed)
    }
}

fn steps(reads: u64) -> u64 {
    reads.saturating_mul(VirtualClock::STEP_NANOS)
}

impl HostMonotonicClock for MonotonicFrom {
    fn resolution(&self) -> u64 {
        match self.0.reads {
            Some(_) => VirtualClock::STEP_NANOS,
            None => 1,
        }
    }

    fn now(&self) -> u64 {
        match &self.0.reads {
            Some(reads) => {
                let read = steps(reads.fetch_add(1, Ordering::Relaxed));
                self.0.reading.saturating_add(read)
            }
            None => self.next(),
        }
    }
}

/// The wall clock of a guest that was frozen at a later time than the host's clock shows: it
/// goes on from the reading at the point until the host's has caught up.
pub(in crate::runner) struct WallFrom {
    at: Instant,
    reading: u64,
}

impl WallFrom {
    pub(in crate::runner) fn new(reading: u64) -> Self {
        let at = Instant::now();
        Self { at, reading }
    }
}

impl Clock for WallFrom {
    fn now(&self) -> Time {
        let passed = u64::try_from(self.at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Time::from_nanos(self.reading.saturating_add(passed)).max(Time::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_counts_goes_on_where_it_stood() {
        let clock = MonotonicFrom::counting(5);
        assert_eq!(
            (clock.now(), clock.next()),
            (5, 5 + VirtualClock::STEP_NANOS)
        );
        let later = MonotonicFrom::counting(clock.next());
        assert_eq!(clock.now(), later.now());
        let late = MonotonicFrom::counting(u64::MAX);
        assert_eq!((late.now(), late.now()), (u64::MAX, u64::MAX));
    }
}
