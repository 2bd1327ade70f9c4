//! Where times come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::meta::Time;

/// A source of the present time, for hosts that want another than the
/// system's: a test, or a run that has to repeat byte for byte.
pub trait Clock: Send + Sync {
    /// Returns the present time. Called once for each operation that changes
    /// something, never under a lock.
    fn now(&self) -> Time;

    /// Returns the clock of a fork that is made now, or `None` if it shares
    /// this one, which is the default. Called under the lock of the instance
    /// that is forked.
    fn of_fork(&self) -> Option<Arc<dyn Clock>> {
        None
    }

    /// Goes back to the first reading, if it is one that counts them: what a host did to
    /// set an instance up moves no time of its guest. The default does nothing.
    fn start_over(&self) {}
}

/// A clock that knows nothing of the world: it starts at a fixed time and
/// moves on by [`Self::STEP_NANOS`] each time it is read, so that later
/// changes have later times and two runs have the same ones. A fork gets one of
/// its own, which goes on from the moment of the fork: so what instances do at
/// the same time changes no other's times.
#[derive(Debug)]
pub struct VirtualClock {
    start: u64,
    /// How often it has been read. Atomic.
    reads: AtomicU64,
}

impl VirtualClock {
    /// What the first reading gives, in nanoseconds since 1970: the first
    /// second of 2000.
    pub const START_NANOS: u64 = 946_684_800_000_000_000;

    /// How far each reading moves it, in nanoseconds: a millisecond, so that a
    /// guest which spins until a second has passed gets there.
    pub const STEP_NANOS: u64 = 1_000_000;

    /// Starts a clock.
    #[must_use]
    pub fn new() -> Self {
        Self::starting_at(Self::START_NANOS)
    }

    /// Starts a clock whose first reading gives so many nanoseconds since 1970.
    #[must_use]
    pub fn starting_at(nanos: u64) -> Self {
        Self {
            start: nanos,
            reads: AtomicU64::new(0),
        }
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Time {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        let passed = reads.saturating_mul(Self::STEP_NANOS);
        Time::from_nanos(self.start.saturating_add(passed))
    }

    fn of_fork(&self) -> Option<Arc<dyn Clock>> {
        let reads = self.reads.load(Ordering::Relaxed);
        Some(Arc::new(Self {
            start: self.start,
            reads: AtomicU64::new(reads),
        }))
    }

    fn start_over(&self) {
        self.reads.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_starts_where_it_is_told() {
        let clock = VirtualClock::starting_at(7);
        assert_eq!(clock.now(), Time::from_nanos(7));
        clock.start_over();
        assert_eq!(clock.now(), Time::from_nanos(7));
        let next = Time::from_nanos(7 + VirtualClock::STEP_NANOS);
        assert_eq!(clock.of_fork().expect("one of its own").now(), next);
        let last = VirtualClock::starting_at(u64::MAX);
        assert_eq!(last.now(), last.now(), "it has an end");
    }

    #[test]
    fn a_virtual_clock_counts_its_readings() {
        let clock = VirtualClock::new();
        let first = clock.now();
        assert_eq!((first.secs(), first.nanos()), (946_684_800, 0));
        assert_eq!(clock.now().nanos(), 1_000_000);
        assert_eq!(VirtualClock::new().now(), first);
        let fork = clock.of_fork().expect("one of its own");
        assert_eq!(fork.now(), clock.now(), "both go on from the same moment");
    }
}
