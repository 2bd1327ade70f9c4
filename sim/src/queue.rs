//! The one queue of events, ordered by time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A moment, in nanoseconds since the beginning of the simulation.
pub(crate) type Nanos = u64;

/// Nanoseconds in a second.
pub(crate) const SECOND: Nanos = 1_000_000_000;

/// Events that are still to come. Those of one moment come in the order in which they were
/// put in, so a simulation has one outcome.
pub(crate) struct EventQueue<E> {
    heap: BinaryHeap<Reverse<(Nanos, u64, E)>>,
    next: u64,
}

impl<E: Ord> EventQueue<E> {
    /// Returns a queue without events.
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            next: 0,
        }
    }

    /// Puts an event in that comes at `when`.
    pub(crate) fn put(&mut self, when: Nanos, event: E) {
        self.heap.push(Reverse((when, self.next, event)));
        self.next += 1;
    }

    /// Takes the next event out, with its moment.
    pub(crate) fn take(&mut self) -> Option<(Nanos, E)> {
        let Reverse((when, _, event)) = self.heap.pop()?;
        Some((when, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_their_order() {
        let mut queue = EventQueue::new();
        for (when, event) in [(5, 'd'), (1, 'a'), (5, 'c'), (2, 'b')] {
            queue.put(when, event);
        }
        let seen: Vec<_> = std::iter::from_fn(|| queue.take()).collect();
        assert_eq!(seen, [(1, 'a'), (2, 'b'), (5, 'd'), (5, 'c')]);
    }
}
