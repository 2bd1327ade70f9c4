//! When what guests wrote is looked at for equals: see [`Sealing`].

use super::Fs;
use crate::chunk::Scope;
use crate::overlay::Batch;

/// Blocks put in place under one hold of the instance's lock.
const STEP: usize = 1024;

/// When blocks that a guest wrote are sealed: looked up among those of its
/// base and its scope, so that equal ones are held once.
///
/// A sealed block reads and counts as before; writing into it again copies
/// it. What it costs, and what it saves, is in docs/DECISIONS.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sealing {
    /// When the last descriptor of a file that was written is closed. O(bytes
    /// written since), in the call that closes it, without the instance's lock.
    #[default]
    AtClose,
    /// When the host calls [`Fs::seal`]: puts the work off.
    OnDemand,
    /// Never. Nothing is noted for it either.
    Off,
}

impl Fs {
    /// Seals all blocks written since they were sealed last, of files that are
    /// open too. Gives the bytes that need not be held by this instance any
    /// more. O(such bytes); the instance may be used meanwhile. Without effect
    /// under [`Sealing::Off`].
    pub fn seal(&self) -> u64 {
        let private = || self.lock().usage().private_bytes;
        let before = private();
        // As many files as there are now: what a guest goes on to write while
        // this runs is for the next call.
        let mut files = self.lock().unsealed_files();
        while files > 0 {
            let Some(batch) = self.lock().take_any() else {
                break;
            };
            self.seal_batch(batch);
            files -= 1;
        }
        before.saturating_sub(private())
    }

    /// Gives the scope in which this instance holds equal blocks once: the one
    /// that [`FsBuilder::scope`](super::FsBuilder::scope) set, or its own and
    /// its forks'.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        self.setup().scope()
    }

    /// Adds up the bytes that this instance alone holds at this moment, its
    /// forks and snapshots taken as one with it: neither its base nor another
    /// instance of its scope has them. [`Usage::private_bytes`](super::Usage::private_bytes) is the
    /// figure that costs nothing. O(changed objects and blocks).
    #[must_use]
    pub fn exclusive_bytes(&self) -> u64 {
        self.lock().snapshot().exclusive_bytes()
    }

    pub(super) fn seal_batch(&self, batch: Batch) {
        let mut sealed = batch.seal(self.scope());
        while self.lock().put_sealed(&mut sealed, STEP) {}
    }
}
