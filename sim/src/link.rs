//! Links, and the cores of a host: what does one thing after another.

use crate::queue::{Nanos, SECOND};

/// A line that carries bytes at a rate, one segment after the other.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    bits_per_second: u64,
    /// When it has carried all that it was given.
    free_at: Nanos,
    /// All bytes that it was given.
    pub(crate) carried: u64,
}

impl Link {
    /// Returns a line that nothing waits for.
    pub(crate) fn new(bits_per_second: u64) -> Self {
        Self {
            bits_per_second: bits_per_second.max(1),
            free_at: 0,
            carried: 0,
        }
    }

    /// Gives the line `bytes` at `now`. Returns when the last of them has left it.
    pub(crate) fn carry(&mut self, now: Nanos, bytes: u64) -> Nanos {
        let nanos = u128::from(bytes) * 8 * u128::from(SECOND) / u128::from(self.bits_per_second);
        self.free_at = self.free_at.max(now) + u64::try_from(nanos).unwrap_or(Nanos::MAX / 4);
        self.carried += bytes;
        self.free_at
    }
}

/// The cores of a host. Each task runs on the core that is free first.
#[derive(Clone, Debug)]
pub(crate) struct Cores(Vec<Nanos>);

impl Cores {
    /// Returns `count` cores, at least one, that are free.
    pub(crate) fn new(count: usize) -> Self {
        Self(vec![0; count.max(1)])
    }

    /// Runs a task that can begin at `ready` and takes `nanos`. Returns when it begins and ends.
    pub(crate) fn run(&mut self, ready: Nanos, nanos: Nanos) -> (Nanos, Nanos) {
        let first = (0..self.0.len())
            .min_by_key(|core| self.0[*core])
            .unwrap_or(0);
        let begins = self.0[first].max(ready);
        self.0[first] = begins + nanos;
        (begins, begins + nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_carries_one_segment_after_the_other() {
        let mut link = Link::new(8_000_000);
        assert_eq!(link.carry(0, 1_000_000), SECOND);
        assert_eq!(link.carry(0, 500_000), SECOND * 3 / 2);
        // After a pause it is free at once.
        assert_eq!(link.carry(10 * SECOND, 1_000_000), 11 * SECOND);
        assert_eq!(link.carried, 2_500_000);
    }

    #[test]
    fn tasks_share_the_cores() {
        let mut cores = Cores::new(2);
        let ends: Vec<Nanos> = (0..4).map(|_| cores.run(0, 10).1).collect();
        assert_eq!(ends, [10, 10, 20, 20]);
    }
}
