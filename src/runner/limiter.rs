//! The bound on memories and tables of one guest.

use std::fmt;

use wasmtime::ResourceLimiter;

use super::RunControl;
use crate::limits::MAX_TABLE_ELEMENTS;

/// Bytes that one element of a table takes in the host.
const ELEMENT_BYTES: u64 = 8;

/// Counts the bytes of all memories and tables of a store, and stops a guest
/// that grows past the bound: growing traps instead of telling the guest "no",
/// which few programs survive in a way that says why.
///
/// wasmtime asks before it grows something and reports a growth that then
/// failed, so a failed growth is taken out of the count again.
pub(super) struct Limiter {
    max_memory: Option<u64>,
    /// Who is told what is used.
    control: Option<RunControl>,
    used: u64,
    /// The bytes that the growth asked for last adds to `used`.
    asked: u64,
}

/// The guest grew past its memory bound.
#[derive(Debug)]
pub(super) struct OutOfMemory {
    pub(super) limit: u64,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guest's memory grows past {} bytes", self.limit)
    }
}

impl std::error::Error for OutOfMemory {}

impl Limiter {
    pub(super) fn new(max_memory: Option<u64>, control: Option<RunControl>) -> Self {
        Self {
            max_memory,
            control,
            used: 0,
            asked: 0,
        }
    }

    /// Counts a growth by `more` bytes, or stops the guest.
    fn grow(&mut self, more: u64) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(more);
        match self.max_memory {
            Some(limit) if used > limit => Err(OutOfMemory { limit }.into()),
            _ => {
                if let Some(control) = &self.control {
                    control.add_memory(used - self.used);
                }
                self.used = used;
                self.asked = more;
                Ok(true)
            }
        }
    }

    /// Takes the growth that was asked for last out of the count.
    fn take_back(&mut self) {
        let asked = std::mem::take(&mut self.asked).min(self.used);
        self.used -= asked;
        if let Some(control) = &self.control {
            control.sub_memory(asked);
        }
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        if let Some(control) = &self.control {
            control.sub_memory(self.used);
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.asked = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current) as u64)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.asked = 0;
        if desired > maximum.unwrap_or(usize::MAX).min(MAX_TABLE_ELEMENTS) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current) as u64;
        self.grow(more.saturating_mul(ELEMENT_BYTES))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_grow_to_the_bound() {
        let mut limiter = Limiter::new(None, None);
        let mut grow = |to, maximum| limiter.table_growing(0, to, maximum).unwrap();
        assert!(grow(MAX_TABLE_ELEMENTS, None));
        assert!(!grow(MAX_TABLE_ELEMENTS + 1, None));
        assert!(!grow(8, Some(7)));
    }

    #[test]
    fn a_growth_that_failed_does_not_count() {
        let mut limiter = Limiter::new(Some(1000), None);
        assert!(limiter.memory_growing(0, 600, None).unwrap());
        for _ in 0..10 {
            assert!(limiter.memory_growing(600, 900, None).unwrap());
            let failed = wasmtime::Error::msg("no memory to be had");
            limiter.memory_grow_failed(failed).unwrap();
        }
        // A growth past the memory's own maximum is refused before it counts.
        assert!(!limiter.memory_growing(600, 900, Some(700)).unwrap());
        let failed = wasmtime::Error::msg("past the maximum");
        limiter.memory_grow_failed(failed).unwrap();
        assert!(limiter.memory_growing(600, 1000, None).unwrap());
        assert!(limiter.memory_growing(1000, 1001, None).is_err());
    }

    #[test]
    fn tables_count_as_memory() {
        let mut limiter = Limiter::new(Some(100 * ELEMENT_BYTES), None);
        for table in 0..10 {
            assert!(limiter.table_growing(0, 10, None).unwrap(), "table {table}");
        }
        assert!(limiter.memory_growing(0, 1, None).is_err());
        assert!(limiter.table_growing(10, 11, None).is_err());
        // A failed growth of a table makes its room free again.
        let mut limiter = Limiter::new(Some(100 * ELEMENT_BYTES), None);
        assert!(limiter.table_growing(0, 100, None).unwrap());
        let failed = wasmtime::Error::msg("no memory to be had");
        limiter.table_grow_failed(failed).unwrap();
        assert!(limiter.table_growing(0, 100, None).unwrap());
    }

    #[test]
    fn a_control_knows_what_is_used() {
        let control = RunControl::default();
        let mut limiter = Limiter::new(Some(1000), Some(control.clone()));
        assert!(limiter.memory_growing(0, 600, None).unwrap());
        assert!(limiter.memory_growing(600, 900, None).unwrap());
        assert_eq!(control.memory_bytes(), 900);
        let failed = wasmtime::Error::msg("no memory to be had");
        limiter.memory_grow_failed(failed).unwrap();
        assert!(limiter.memory_growing(600, 1001, None).is_err());
        assert_eq!(control.memory_bytes(), 600);
        drop(limiter);
        assert_eq!(control.memory_bytes(), 0);
    }
}
