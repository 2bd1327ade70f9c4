//! Where times come from.

use crate::meta::Time;

/// A source of the present time, for hosts that want another than the
/// system's: a test, or a run that has to repeat byte for byte.
pub trait Clock: Send + Sync {
    /// Gives the present time. Called once for each operation that changes
    /// something, never under a lock.
    fn now(&self) -> Time;
}
