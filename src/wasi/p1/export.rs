//! Finding the memory of the guest that calls.
//!
//! Looking an export up by its name hashes strings, which costs more than many
//! a call itself. A [`ModuleExport`] is found at once, but only a module gives
//! one, and a host function is not told which module calls it: that is read
//! off the stack, once for each module that a linker serves.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use wasmtime::{Caller, Extern, ModuleExport, WasmBacktrace};

/// The name that preview1 gives the memory.
const NAME: &str = "memory";

/// Look-ups by name before the stack is read: it takes as long as some dozens
/// of them, and a guest may make few calls.
const PATIENCE: u32 = 64;

/// Readings of the stack, of a linker: it need not tell anything.
const ATTEMPTS: u32 = 16;

/// What the functions of one linker know of the modules they serve.
#[derive(Clone, Default)]
pub(super) struct Exports(Arc<MemoryExports>);

#[derive(Default)]
struct MemoryExports {
    /// The memories of the first modules seen, without gaps. Set once each.
    modules: [OnceLock<ModuleExport>; 4],
    /// Look-ups by name while there is room. Atomic.
    misses: AtomicU32,
}

impl Exports {
    /// Returns what the calling instance exports as its memory.
    #[inline]
    pub(super) fn memory<T: 'static>(&self, caller: &mut Caller<'_, T>) -> Option<Extern> {
        for known in &self.0.modules {
            let Some(export) = known.get() else {
                return self.learn(caller);
            };
            // Of another module's export this gives `None`.
            if let Some(memory) = caller.get_module_export(export) {
                return Some(memory);
            }
        }
        caller.get_export(NAME)
    }

    #[cold]
    fn learn<T: 'static>(&self, caller: &mut Caller<'_, T>) -> Option<Extern> {
        let misses = self
            .0
            .misses
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        if misses.is_multiple_of(PATIENCE) && misses <= PATIENCE.saturating_mul(ATTEMPTS) {
            let stack = WasmBacktrace::capture(&*caller);
            let export = stack
                .frames()
                .first()
                .and_then(|frame| frame.module().get_export_index(NAME))
                .filter(|export| caller.get_module_export(export).is_some());
            let free = self.0.modules.iter().find(|known| known.get().is_none());
            if let (Some(export), Some(free)) = (export, free) {
                // Another thread may have been faster, with this module or
                // one that is found by name until its turn comes.
                let _ = free.set(export);
            }
        }
        caller.get_export(NAME)
    }
}
