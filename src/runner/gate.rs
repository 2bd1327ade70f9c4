//! Room for instances that several runs of one runner share.

use parking_lot::{Condvar, Mutex};

/// Lets in as many instances as there is room for. Runs wait in line: one that wants much
/// is not passed by those that want little.
pub(super) struct Gate {
    free: Mutex<u32>,
    freed: Condvar,
    /// Held by the run that is first in line.
    line: Mutex<()>,
}

/// Room that a run has until this is dropped.
pub(super) struct GatePass<'g> {
    gate: &'g Gate,
    taken: u32,
}

impl Gate {
    pub(super) fn new(room: u32) -> Self {
        Self {
            free: Mutex::new(room),
            freed: Condvar::new(),
            line: Mutex::new(()),
        }
    }

    /// Waits until there is room for `wanted` instances, no more than the gate has.
    pub(super) fn enter(&self, wanted: u32) -> GatePass<'_> {
        let _first = self.line.lock();
        let mut free = self.free.lock();
        self.freed.wait_while(&mut free, |free| *free < wanted);
        *free -= wanted;
        GatePass {
            gate: self,
            taken: wanted,
        }
    }

    /// Takes room for one instance if there is some now and nobody waits in line; it is given
    /// back by [`leave`](Self::leave).
    pub(super) fn try_enter(&self) -> bool {
        let Some(_first) = self.line.try_lock() else {
            return false;
        };
        let mut free = self.free.lock();
        let is_free = *free > 0;
        *free = free.saturating_sub(1);
        is_free
    }

    /// Frees the room of one instance.
    pub(super) fn leave(&self) {
        *self.free.lock() += 1;
        self.freed.notify_one();
    }
}

impl Drop for GatePass<'_> {
    fn drop(&mut self) {
        *self.gate.free.lock() += self.taken;
        self.gate.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_share_the_room_there_is() {
        let gate = Gate::new(3);
        let (one, two) = (gate.enter(1), gate.enter(2));
        std::thread::scope(|scope| {
            let third = scope.spawn(|| drop(gate.enter(3)));
            drop(one);
            assert!(!third.is_finished());
            drop(two);
        });
        assert_eq!(*gate.free.lock(), 3);
    }

    #[test]
    fn one_that_does_not_wait_is_told_whether_there_is_room() {
        let gate = Gate::new(2);
        assert!(gate.try_enter() && gate.try_enter() && !gate.try_enter());
        gate.leave();
        assert!(gate.try_enter());
        gate.leave();
        gate.leave();
        drop(gate.enter(2));
    }
}
