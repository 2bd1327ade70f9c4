//! The bound on memories and tables of one guest.

use std::fmt;

use wasmtime::ResourceLimiter;

use crate::limits::MAX_TABLE_ELEMENTS;

/// Counts the bytes of all memories of a store, and stops a guest that grows
/// past the bound: growing traps instead of telling the guest "no", which
/// few programs survive in a way that says why.
pub(super) struct Limiter {
    max_memory: Option<u64>,
    used: u64,
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
    pub(super) fn new(max_memory: Option<u64>) -> Self {
        Self {
            max_memory,
            used: 0,
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
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current) as u64;
        let used = self.used.saturating_add(more);
        match self.max_memory {
            Some(limit) if used > limit => Err(OutOfMemory { limit }.into()),
            _ => {
                self.used = used;
                Ok(true)
            }
        }
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= maximum.unwrap_or(usize::MAX).min(MAX_TABLE_ELEMENTS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_grow_to_the_bound() {
        let mut limiter = Limiter::new(None);
        let mut grow = |to, maximum| limiter.table_growing(0, to, maximum).unwrap();
        assert!(grow(MAX_TABLE_ELEMENTS, None));
        assert!(!grow(MAX_TABLE_ELEMENTS + 1, None));
        assert!(!grow(8, Some(7)));
    }
}
